//! Asking one device: retransmission, separate answers, blocks.
//!
//! ```text
//! ask ─► wait 2–3 s ─► again, twice as long … four times ─► silent
//!           │ acknowledged: the answer comes by itself
//!           ▼
//!        answer ─► more blocks? ask for the next
//! ```

use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use fades_task::dial::DialFailure;
use tokio::net::UdpSocket;
use tokio::time::{Instant, timeout_at};

use super::message::{Answer, Block, Incoming, Question, Token, acknowledgement, read, reset};
use crate::breaker::chance;
use crate::dial::Dial;
use crate::payload::MOST_BYTES;

/// Before a question is asked again, at least (RFC 7252, 4.8).
const PATIENCE: Duration = Duration::from_secs(2);

/// How often a question is asked again.
const AGAIN: u32 = 4;

/// How long resolving a name may take.
const OPENING: Duration = Duration::from_secs(10);

/// How long an answer may take after the question was acknowledged.
const SEPARATE: Duration = Duration::from_secs(30);

/// How often a resource may change while its blocks are fetched.
const CHANGES: u32 = 3;

/// Notifications that wait while something else is asked.
const WAITING: usize = 64;

/// Why a device does not answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum Fault {
    #[error("its name cannot be resolved: {reason}")]
    Name { reason: String },
    #[error("nobody listens at its address")]
    Refused,
    #[error("it does not answer; it was asked {times} times")]
    Silent { times: u32 },
    #[error("it took the question and does not answer")]
    NoAnswer,
    #[error("it does not understand the question (reset)")]
    Reset,
    #[error("/{path}: {}.{:02}{}", .code >> 5, .code & 0x1f, words(*.code))]
    Code { path: String, code: u8 },
    #[error("/{path}: its blocks do not fit together")]
    Blocks { path: String },
    #[error("/{path}: its answer is longer than {MOST_BYTES} bytes")]
    TooLong { path: String },
    #[error("/{path}: it changes faster than it can be fetched")]
    Changing { path: String },
    #[error("/{path}: the path is too long for CoAP")]
    Path { path: String },
    #[error("/.well-known/core: no link format (RFC 6690)")]
    NoLinks,
    #[error("none of its resources is one that is wanted")]
    NoResource,
    #[error("it cannot be reached: {0}")]
    Network(String),
}

fn words(code: u8) -> &'static str {
    match code {
        0x81 => " unauthorised",
        0x83 => " forbidden",
        0x84 => " not found",
        0x85 => " method not allowed",
        0x86 => " not acceptable",
        0xa3 => " service unavailable",
        _ => "",
    }
}

impl From<DialFailure> for Fault {
    fn from(failure: DialFailure) -> Self {
        match failure {
            DialFailure::NoName(reason) => Self::Name { reason },
            DialFailure::Refused => Self::Refused,
            other => Self::Network(other.to_string()),
        }
    }
}

impl Fault {
    /// Whether the device answers, and only this resource does not.
    pub(super) const fn is_of_resource(&self) -> bool {
        matches!(
            self,
            Self::Code { .. } | Self::Blocks { .. } | Self::TooLong { .. } | Self::Changing { .. }
        )
    }

    fn of(e: &io::Error) -> Self {
        if e.kind() == io::ErrorKind::ConnectionRefused {
            Self::Refused
        } else {
            Self::Network(e.to_string())
        }
    }
}

/// A device.
pub(super) struct Peer {
    socket: UdpSocket,
    next_id: u16,
    next_token: u32,
    /// Token and message id of the answer that came last.
    last: Option<(Token, u16)>,
    /// What came for nobody who asks now.
    notifications: VecDeque<Answer>,
    buffer: Vec<u8>,
    /// Before a question is asked again, at least.
    patience: Duration,
}

/// A whole answer.
#[derive(Debug)]
pub(super) struct Content {
    pub(super) format: Option<u32>,
    pub(super) body: Vec<u8>,
    /// The device will tell changes.
    pub(super) observe: Option<u32>,
    pub(super) max_age: Duration,
}

impl Peer {
    pub(super) async fn open(host: &str, port: u16, dial: &Dial) -> Result<Self, Fault> {
        let socket = match dial.asked() {
            Some(asked) => asked.datagrams(host, port, OPENING).await?,
            None => open(host, port).await?,
        };
        let chance = chance();
        Ok(Self {
            socket,
            // Not to be foreseen by who would answer in the device's place.
            next_id: chance as u16,
            next_token: (chance >> 16) as u32,
            last: None,
            notifications: VecDeque::new(),
            // The longest datagram there is.
            buffer: vec![0; 64 << 10],
            patience: PATIENCE,
        })
    }

    /// A token that no other question of this peer has.
    pub(super) fn token(&mut self) -> Token {
        self.next_token = self.next_token.wrapping_add(1);
        self.next_token.to_be_bytes()
    }

    /// Asks for a resource, all blocks of it. With `observe` the device is asked to
    /// tell changes with that token.
    pub(super) async fn get(
        &mut self,
        path: &str,
        observe: Option<Token>,
    ) -> Result<Content, Fault> {
        for _ in 0..CHANGES {
            if let Some(content) = self.blocks(path, observe).await? {
                return Ok(content);
            }
        }
        Err(Fault::Changing { path: name(path) })
    }

    /// All blocks, or `None` when the resource changed in between.
    async fn blocks(
        &mut self,
        path: &str,
        observe: Option<Token>,
    ) -> Result<Option<Content>, Fault> {
        let first = self.ask(path, observe, None).await?;
        let content = |first: Answer, body| Content {
            format: first.format,
            body,
            observe: first.observe,
            max_age: Duration::from_secs(first.max_age.into()),
        };
        let mut body = first.payload.clone();
        let Some(mut block) = first.block.filter(|b| b.more) else {
            return if body.len() > MOST_BYTES {
                Err(Fault::TooLong { path: name(path) })
            } else {
                Ok(Some(content(first, body)))
            };
        };
        let wrong = || Fault::Blocks { path: name(path) };
        if block.number != 0 || body.len() != block.size() {
            return Err(wrong());
        }
        while block.more {
            if body.len() > MOST_BYTES {
                return Err(Fault::TooLong { path: name(path) });
            }
            let wanted = Block {
                number: block.number + 1,
                more: false,
                exponent: block.exponent,
            };
            let part = self.ask(path, None, Some(wanted)).await?;
            if part.etag != first.etag {
                return Ok(None);
            }
            block = part.block.ok_or_else(wrong)?;
            let fits = block.number == wanted.number && block.exponent == wanted.exponent;
            let whole = part.payload.len() == block.size();
            if !fits || part.payload.len() > block.size() || (block.more && !whole) {
                return Err(wrong());
            }
            body.extend(&part.payload);
        }
        Ok(Some(content(first, body)))
    }

    async fn ask(
        &mut self,
        path: &str,
        observe: Option<Token>,
        block: Option<Block>,
    ) -> Result<Answer, Fault> {
        self.next_id = self.next_id.wrapping_add(1);
        let (id, token) = (self.next_id, observe.unwrap_or_else(|| self.token()));
        let question = Question {
            path,
            id,
            token,
            observe: observe.is_some(),
            block,
        };
        let bytes = question.bytes();
        let bytes = bytes.ok_or_else(|| Fault::Path { path: name(path) })?;
        let answer = self.exchange(id, token, &bytes).await?;
        self.last = Some((token, answer.id));
        // 2.05 Content.
        if answer.code == 0x45 {
            Ok(answer)
        } else {
            Err(Fault::Code {
                path: name(path),
                code: answer.code,
            })
        }
    }

    async fn exchange(&mut self, id: u16, token: Token, bytes: &[u8]) -> Result<Answer, Fault> {
        // Devices that were asked together are not asked again together.
        let random = 1.0 + (chance() % 512) as f64 / 1024.0;
        let mut wait = self.patience.mul_f64(random);
        let (mut sent, mut acknowledged) = (1, false);
        self.send(bytes).await?;
        let mut end = Instant::now() + wait;
        loop {
            let incoming = timeout_at(end, self.receive()).await.ok();
            // Whoever sends all the time does not make it later.
            let in_time = incoming.filter(|_| Instant::now() < end);
            let Some(incoming) = in_time else {
                if acknowledged {
                    return Err(Fault::NoAnswer);
                }
                if sent > AGAIN {
                    return Err(Fault::Silent { times: sent });
                }
                sent += 1;
                self.send(bytes).await?;
                wait *= 2;
                end = Instant::now() + wait;
                continue;
            };
            match incoming? {
                Incoming::Acknowledged(of) if of == id && !acknowledged => {
                    acknowledged = true;
                    end = Instant::now() + SEPARATE;
                }
                Incoming::Reset(of) if of == id => return Err(Fault::Reset),
                Incoming::Answer(answer) if answer.token == token => {
                    if answer.acknowledges && answer.id != id {
                        continue;
                    }
                    if answer.confirmable {
                        self.send(&acknowledgement(answer.id)).await?;
                    }
                    return Ok(answer);
                }
                Incoming::Answer(answer) => self.set_aside(answer).await?,
                Incoming::Acknowledged(_) | Incoming::Reset(_) => {}
            }
        }
    }

    async fn send(&self, bytes: &[u8]) -> Result<(), Fault> {
        self.socket
            .send(bytes)
            .await
            .map(drop)
            .map_err(|e| Fault::of(&e))
    }

    async fn receive(&mut self) -> Result<Incoming, Fault> {
        loop {
            let got = self.socket.recv(&mut self.buffer).await;
            let length = got.map_err(|e| Fault::of(&e))?;
            if let Some(incoming) = read(&self.buffer[..length]) {
                return Ok(incoming);
            }
        }
    }

    /// Keeps what may be a notification, unless it is the last answer once more. The
    /// notification that ends others has the same token and says nothing of observing.
    async fn set_aside(&mut self, answer: Answer) -> Result<(), Fault> {
        let again = |(token, id): (Token, u16)| answer.token == token && answer.id == id;
        if self.last.is_some_and(again) {
            if answer.confirmable {
                self.send(&acknowledgement(answer.id)).await?;
            }
            return Ok(());
        }
        if self.notifications.len() >= WAITING {
            self.notifications.pop_front();
        }
        self.notifications.push_back(answer);
        Ok(())
    }

    /// The next answer that nobody asked for just now.
    pub(super) async fn notification(&mut self) -> Result<Answer, Fault> {
        loop {
            if let Some(answer) = self.notifications.pop_front() {
                return Ok(answer);
            }
            if let Incoming::Answer(answer) = self.receive().await? {
                self.set_aside(answer).await?;
            }
        }
    }

    /// Tells the device whether a notification was expected.
    pub(super) async fn take(&self, notification: &Answer, expected: bool) -> Result<(), Fault> {
        match (expected, notification.confirmable) {
            (true, true) => self.send(&acknowledgement(notification.id)).await,
            (true, false) => Ok(()),
            (false, _) => self.send(&reset(notification.id)).await,
        }
    }
}

/// A socket for datagrams to one address.
async fn open(host: &str, port: u16) -> Result<UdpSocket, Fault> {
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    let found = tokio::net::lookup_host((bare, port)).await;
    let address = found.map(|mut a| a.next()).map_err(|e| Fault::Name {
        reason: e.to_string(),
    })?;
    let address: SocketAddr = address.ok_or_else(|| Fault::Name {
        reason: "it has no address".to_owned(),
    })?;
    let any = if address.is_ipv4() {
        "0.0.0.0:0"
    } else {
        "[::]:0"
    };
    let socket = UdpSocket::bind(any).await.map_err(|e| Fault::of(&e))?;
    socket.connect(address).await.map_err(|e| Fault::of(&e))?;
    Ok(socket)
}

fn name(path: &str) -> String {
    let path = path.trim_start_matches('/').chars().take(100);
    path.collect::<String>().escape_debug().to_string()
}

#[cfg(test)]
mod tests {
    use std::net::UdpSocket;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicBool, Ordering};
    use std::time::Duration;

    use super::{AGAIN, Fault, PATIENCE, Peer};
    use crate::dial::Dial;

    #[test]
    fn who_sends_all_the_time_does_not_hold_up_a_question() {
        let device = UdpSocket::bind("127.0.0.1:0").unwrap();
        let port = device.local_addr().unwrap().port();
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build();
        let over = Arc::new(AtomicBool::new(false));
        let asked = runtime.unwrap().block_on(async {
            let mut peer = Peer::open("127.0.0.1", port, &Dial::Direct).await?;
            assert_eq!(peer.patience, PATIENCE);
            peer.patience = Duration::from_millis(10);
            let to = peer.socket.local_addr().unwrap();
            // An answer, 2.05, to what nobody asked.
            let other = [0x54, 0x45, 0, 1, 9, 9, 9, 9];
            for _ in 0..2 {
                let (device, over) = (device.try_clone().unwrap(), Arc::clone(&over));
                std::thread::spawn(move || {
                    while !over.load(Ordering::Relaxed) {
                        // There may be no room at times.
                        let _ = device.send_to(&other, to);
                    }
                });
            }
            let asked = peer.get("/t", None);
            let asked = tokio::time::timeout(Duration::from_secs(30), asked).await;
            asked.expect("it ends in time").map(drop)
        });
        over.store(true, Ordering::Relaxed);
        assert_eq!(asked, Err(Fault::Silent { times: AGAIN + 1 }));
    }
}
