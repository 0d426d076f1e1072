//! One device: asked once, or listened to as long as somebody wants what arrives.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use fades_task::coverage::BadRow;
use tokio::time::{Instant, sleep_until, timeout};

use super::links;
use super::message::{Answer, Token};
use super::peer::{Content, Fault, Peer};
use super::shape::{Address, Resource, Shape};
use crate::breaker::{Breaker, Rule, chance};
use crate::dial::Dial;
use crate::live::{self, Heard, Live};

/// When a device counts as broken, and how long it is left alone then.
const RULE: Rule = Rule {
    breaks_at: 3,
    first: Duration::from_secs(10),
    longest: Duration::from_secs(300),
};

/// Whoever asks within this time gets the same answer.
const FRESH: Duration = Duration::from_secs(1);

/// How long what a device has is believed.
const KNOWN: Duration = Duration::from_secs(300);

/// How long a device that is listened to may take to be asked for everything.
const WHOLE: Duration = Duration::from_secs(120);

/// Shortest and longest wait before a device that failed is listened to again.
const SHORTEST: Duration = Duration::from_secs(1);
const LONGEST: Duration = Duration::from_secs(60);

/// A device at work.
#[derive(Debug)]
pub(super) struct Device {
    pub(super) address: Address,
    shape: Arc<Shape>,
    live: Arc<Live>,
    dial: Dial,
    state: Mutex<State>,
    /// What it said when it was asked last; held while it is asked, so that nobody
    /// asks the same at the same time.
    said: tokio::sync::Mutex<Option<(Instant, Answered)>>,
}

#[derive(Debug)]
struct State {
    breaker: Breaker,
    /// What was wrong last.
    error: Option<String>,
    resources: Option<(Instant, Vec<Resource>)>,
}

/// What a device said.
#[derive(Debug, Default)]
pub(super) struct Said {
    pub(super) heard: Vec<Heard>,
    pub(super) bad: Vec<BadRow>,
    /// What of it could not be had.
    pub(super) faults: Vec<String>,
}

/// What came of asking it.
pub(super) type Answered = Result<Arc<Said>, String>;

/// A resource whose changes are told.
struct Observed {
    resource: Resource,
    token: Token,
    /// Number and time of arrival of the newest notification.
    newest: Option<(u32, Instant)>,
    /// When the device must have said something, or is asked again.
    until: Instant,
}

impl Device {
    pub(super) fn new(address: Address, shape: &Arc<Shape>, live: &Arc<Live>, dial: &Dial) -> Self {
        Self {
            address,
            shape: Arc::clone(shape),
            live: Arc::clone(live),
            dial: dial.clone(),
            state: Mutex::new(State {
                breaker: Breaker::new(RULE),
                error: None,
                resources: None,
            }),
            said: tokio::sync::Mutex::default(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Every change is complete when the lock is given back.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Why it is not asked now.
    pub(super) fn resting(&self) -> Option<String> {
        let state = self.lock();
        let rests = !state.breaker.may_ask(std::time::Instant::now());
        rests.then(|| state.error.clone().unwrap_or_default())
    }

    fn worked(&self) {
        let mut state = self.lock();
        state.breaker.worked();
        state.error = None;
    }

    /// Notes that it failed.
    pub(super) fn failed(&self, reason: &str) {
        let broken = {
            let mut state = self.lock();
            state.breaker.failed(std::time::Instant::now(), chance());
            state.error = Some(reason.to_owned());
            state.breaker.is_broken()
        };
        self.live.failed(&self.address.device, reason, broken);
    }

    async fn open(&self) -> Result<Peer, Fault> {
        Peer::open(&self.address.host, self.address.port, &self.dial).await
    }

    /// What it is asked for.
    async fn resources(&self, peer: &mut Peer) -> Result<Vec<Resource>, Fault> {
        let known = self.lock().resources.clone();
        if let Some((since, resources)) = known
            && since.elapsed() < KNOWN
        {
            return Ok(resources);
        }
        let found = if self.shape.discovers() {
            links::read(&peer.get(links::CORE, None).await?.body)?
        } else {
            Vec::new()
        };
        let resources = self.shape.resources(&self.address.device, &found);
        if resources.is_empty() {
            return Err(Fault::NoResource);
        }
        self.lock().resources = Some((Instant::now(), resources.clone()));
        Ok(resources)
    }

    /// Asks it for everything, unless somebody just did.
    pub(super) async fn ask(&self) -> Answered {
        let mut said = self.said.lock().await;
        if let Some((at, answered)) = &*said
            && at.elapsed() < FRESH
        {
            return answered.clone();
        }
        let answered = self.ask_anew().await.map(Arc::new);
        *said = Some((Instant::now(), answered.clone()));
        answered
    }

    async fn ask_anew(&self) -> Result<Said, String> {
        let asked = async {
            let mut peer = self.open().await?;
            let mut said = Said::default();
            for resource in self.resources(&mut peer).await? {
                match peer.get(&resource.path, None).await {
                    Ok(content) => self.understand(&resource, &content, &mut said),
                    Err(e) if e.is_of_resource() => said.faults.push(e.to_string()),
                    Err(e) => return Err(e),
                }
            }
            Ok(said)
        };
        let ended = asked.await.map_err(|e: Fault| e.to_string());
        let ended = ended.and_then(|said| match said.faults.first() {
            Some(first) if said.heard.is_empty() && said.bad.is_empty() => Err(first.clone()),
            _ => Ok(said),
        });
        match &ended {
            Ok(said) => {
                self.worked();
                self.live.arrive(said.heard.clone());
            }
            Err(e) => {
                // It may have other resources by now.
                self.lock().resources = None;
                self.failed(e);
            }
        }
        ended
    }

    fn understand(&self, resource: &Resource, content: &Content, said: &mut Said) {
        let now = live::now();
        let understood = self
            .shape
            .understand(&resource.named, content.format, &content.body, now);
        let bad = |reason, place: &str| BadRow {
            file: format!("coap://{}{}", self.address.device, resource.path),
            line: 1,
            column: Some(place.to_owned()).filter(|p| !p.is_empty()),
            reason,
        };
        match understood {
            Ok(understood) => {
                said.heard.extend(understood.heard);
                let lost = understood.lost.iter();
                said.bad.extend(lost.map(|l| bad(l.reason, &l.place)));
            }
            Err(e) => said.bad.push(bad(e.loss(), &e.to_string())),
        }
    }

    /// Listens to it as long as somebody wants what arrives, for ever.
    pub(super) async fn listen(self: Arc<Self>, observe: bool, every: Duration) {
        let mut wanted = self.live.wanted();
        let mut wait = SHORTEST;
        while wanted.wait_for(|w| *w).await.is_ok() {
            let start = Instant::now();
            let error = tokio::select! {
                ended = self.hear(observe, every) => ended,
                unwanted = wanted.wait_for(|w| !*w) => match unwanted {
                    Ok(_) => continue,
                    Err(_) => return,
                },
            };
            self.lock().resources = None;
            self.failed(&error.to_string());
            wait = if start.elapsed() > LONGEST {
                SHORTEST
            } else {
                (wait * 2).min(LONGEST)
            };
            let part = 750 + (chance() % 501) as u32;
            tokio::time::sleep(wait / 1000 * part).await;
        }
    }

    /// Hears it until it fails.
    async fn hear(&self, observe: bool, every: Duration) -> Fault {
        let mut peer = match self.open().await {
            Ok(peer) => peer,
            Err(e) => return e,
        };
        let mut observed: HashMap<Token, Observed> = HashMap::new();
        loop {
            let round = Instant::now() + every;
            let asked = self.round(&mut peer, &mut observed, observe);
            match timeout(WHOLE, asked).await {
                Ok(Ok(())) => {}
                Ok(Err(e)) => return e,
                Err(_) => return Fault::NoAnswer,
            }
            loop {
                let due = observed.values().map(|o| o.until).min();
                let due = due.map_or(round, |d| d.min(round));
                tokio::select! {
                    () = sleep_until(due) => break,
                    got = peer.notification() => {
                        let told = match got {
                            Ok(answer) => self.told(&mut peer, &mut observed, answer).await,
                            Err(e) => Err(e),
                        };
                        if let Err(e) = told {
                            return e;
                        }
                    }
                }
            }
        }
    }

    /// Asks for what is not observed, and for what was not told in time.
    async fn round(
        &self,
        peer: &mut Peer,
        observed: &mut HashMap<Token, Observed>,
        observe: bool,
    ) -> Result<(), Fault> {
        let resources = self.resources(peer).await?;
        observed.retain(|_, o| resources.contains(&o.resource));
        for resource in resources {
            let known = observed.values().find(|o| o.resource == resource);
            if known.is_some_and(|o| o.until > Instant::now()) {
                continue;
            }
            let token = known.map_or_else(|| peer.token(), |o| o.token);
            match peer.get(&resource.path, observe.then_some(token)).await {
                Ok(content) => {
                    self.take(&resource, &content);
                    if let Some(number) = content.observe {
                        let now = Instant::now();
                        observed.insert(
                            token,
                            Observed {
                                resource,
                                token,
                                newest: Some((number, now)),
                                until: now + patience(content.max_age),
                            },
                        );
                    } else {
                        observed.remove(&token);
                    }
                }
                Err(e) if e.is_of_resource() => {
                    observed.remove(&token);
                    self.live
                        .failed(&self.address.device, &e.to_string(), false);
                }
                Err(e) => return Err(e),
            }
        }
        self.worked();
        Ok(())
    }

    /// Takes a notification.
    async fn told(
        &self,
        peer: &mut Peer,
        observed: &mut HashMap<Token, Observed>,
        answer: Answer,
    ) -> Result<(), Fault> {
        let token = Token::try_from(answer.token.as_slice()).ok();
        let Some(known) = token.and_then(|t| observed.get_mut(&t)) else {
            return peer.take(&answer, false).await;
        };
        peer.take(&answer, true).await?;
        let now = Instant::now();
        let (Some(number), 0x45) = (answer.observe, answer.code) else {
            // It tells no more: the next round asks.
            known.until = now;
            return Ok(());
        };
        if known
            .newest
            .is_some_and(|old| !is_newer(old, (number, now)))
        {
            return Ok(());
        }
        known.newest = Some((number, now));
        let max_age = Duration::from_secs(answer.max_age.into());
        known.until = now + patience(max_age);
        let resource = known.resource.clone();
        if answer.block.is_some_and(|b| b.more) {
            let asked = peer.get(&resource.path, None);
            let content = timeout(WHOLE, asked).await.map_err(|_| Fault::NoAnswer)??;
            self.take(&resource, &content);
        } else {
            let content = Content {
                format: answer.format,
                body: answer.payload,
                observe: Some(number),
                max_age,
            };
            self.take(&resource, &content);
        }
        Ok(())
    }

    fn take(&self, resource: &Resource, content: &Content) {
        let mut said = Said::default();
        self.understand(resource, content, &mut said);
        for bad in &said.bad {
            self.live.unusable(Some(&self.address.device), bad, 1);
        }
        self.live.arrive(said.heard);
    }
}

/// How long after the end of its age a value is waited for (RFC 7641, 3.3.1).
fn patience(max_age: Duration) -> Duration {
    max_age.min(Duration::from_secs(86_400)) + Duration::from_millis(5_000 + chance() % 10_000)
}

/// Whether notification `new` is newer than `old` (RFC 7641, 3.4): by its number,
/// which wraps around at 2^24, unless much time is between them.
fn is_newer(old: (u32, Instant), new: (u32, Instant)) -> bool {
    const HALF: u32 = 1 << 23;
    let ((v1, t1), (v2, t2)) = (old, new);
    (v1 < v2 && v2 - v1 < HALF) || (v1 > v2 && v1 - v2 > HALF) || t2 > t1 + Duration::from_secs(128)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::time::Instant;

    use super::is_newer;

    #[test]
    fn notifications_are_newer_by_number_or_by_time() {
        let t = Instant::now();
        assert!(is_newer((1, t), (2, t)) && !is_newer((2, t), (1, t)));
        assert!(!is_newer((1, t), (1, t)));
        assert!(is_newer(((1 << 24) - 1, t), (0, t)));
        assert!(!is_newer((0, t), ((1 << 24) - 1, t)));
        assert!(is_newer((2, t), (1, t + Duration::from_secs(129))));
    }
}
