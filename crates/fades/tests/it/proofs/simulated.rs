//! A node whose time is simulated: the real core, the real store, and a real courier
//! when answers are to leave. Broker and tenders do at once what they are told, or
//! hold each task until it is told to end.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::path::Path;
use std::sync::Arc;
use std::thread::JoinHandle;

use fades_courier::config::Places;
use fades_courier::process::ProcessError;
use fades_orc::api::types::Logs;
use fades_orc::core::outbox::Mail;
use fades_orc::core::standing::Spawn;
use fades_orc::core::{Core, Effect, Event, Now, Part, Place, Rules, RunId, Task, TenderEvent};
use fades_orc::core::{Tick, Timer};
use fades_orc::store::group::{Ending, Newcomer, Write};
use fades_orc::store::{Store, StoredTask};
use fades_task::courier::{CourierReport, CourierRequest};
use fades_task::coverage::Coverage;
use fades_task::exit::Exit;
use fades_task::identity::Name;
use fades_task::limits::Isolation;
use fades_task::message::Ended;
use fades_task::mtw::Mtw;
use fades_task::quantity::{Duration, Size};
use fades_task::result::Breakdown;
use fades_task::schedule::task_of;
use fades_task::time::Zone;
use fades_trust::key::SecretKey;
use fades_trust::task::{Audience, sign_task, verify_task};
use fades_trust::trust::{Role, TrustStore, TrustedKey};
use fades_wire::Channel;
use serde_json::{Value, json};

pub(crate) fn name(text: &str) -> Name {
    text.parse().unwrap()
}

/// A courier in a thread.
struct Carrier {
    control: Option<Channel>,
    thread: Option<JoinHandle<Result<(), ProcessError>>>,
    /// Parcels of which it has not said what became of them.
    under_way: usize,
}

impl Carrier {
    fn start(base: &Path, places: &Places) -> Self {
        let (control, theirs) = Channel::pair().unwrap();
        let thread = std::thread::spawn(move || fades_courier::process::run(theirs));
        let configure = CourierRequest::Configure {
            node: name("here"),
            version: "0".to_owned(),
            base: base.display().to_string(),
            credentials: None,
        };
        let blob = serde_json::to_vec(places).unwrap();
        control.send(&configure, &blob, &[]).unwrap();
        Self {
            control: Some(control),
            thread: Some(thread),
            under_way: 0,
        }
    }

    fn send(&self, request: &CourierRequest, body: &[u8]) {
        let control = self.control.as_ref().unwrap();
        control.send(request, body, &[]).unwrap();
    }

    fn hear(&mut self) -> Option<Event> {
        let control = self.control.as_ref().unwrap();
        let frame = control.receive::<CourierReport>(None).unwrap();
        let event = match frame.expect("the courier is there").message {
            CourierReport::Delivered { parcel } => Event::Delivered { parcel },
            CourierReport::NotDelivered { parcel, why } => Event::NotDelivered { parcel, why },
            _ => return None,
        };
        self.under_way -= 1;
        Some(event)
    }
}

impl Drop for Carrier {
    fn drop(&mut self) {
        drop(self.control.take());
        let ended = self.thread.take().unwrap().join();
        assert!(std::thread::panicking() || ended.is_ok_and(|ended| ended.is_ok()));
    }
}

/// How a simulated node is.
pub(crate) struct Settings {
    pub(crate) rules: Rules,
    /// Room for answers that wait, and where they go.
    pub(crate) mail: Option<(Size, Value)>,
    /// Each task runs until it is told to end.
    pub(crate) gated: bool,
}

pub(crate) struct Simulated {
    settings: Settings,
    folder: tempfile::TempDir,
    /// None only while another life begins.
    store: Option<Store>,
    core: Core,
    pub(crate) now: Now,
    timers: BTreeMap<(Tick, u64), Timer>,
    set: u64,
    events: VecDeque<Event>,
    open: HashMap<Name, Arc<Mtw>>,
    runs: BTreeMap<RunId, Name>,
    carrier: Option<Carrier>,
    /// What is stored is being taken up; parts that were started meanwhile.
    loading: bool,
    parts: Vec<Part>,
    /// Deliveries that were tried.
    pub(crate) tried: u64,
}

fn key() -> SecretKey {
    SecretKey::from_seed(&[1; 32])
}

fn trust() -> TrustStore {
    let mut trust = TrustStore::default();
    let key = TrustedKey {
        name: name("city"),
        public: key().public(),
        roles: vec![Role::Submit],
        services: vec![name("local")],
        development: false,
        not_after: None,
    };
    trust.add(key).unwrap();
    trust
}

impl Simulated {
    pub(crate) fn start(settings: Settings) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let mut this = Self {
            store: Some(Store::open(folder.path()).unwrap()),
            core: Self::core(&settings),
            settings,
            folder,
            now: Now {
                time: "2026-11-02T12:00:00Z".parse().unwrap(),
                tick: Tick(0),
            },
            timers: BTreeMap::new(),
            set: 0,
            events: VecDeque::new(),
            open: HashMap::new(),
            runs: BTreeMap::new(),
            carrier: None,
            loading: false,
            parts: Vec::new(),
            tried: 0,
        };
        this.step(Event::Start);
        this
    }

    pub(crate) fn store(&self) -> &Store {
        self.store.as_ref().expect("it is open")
    }

    fn core(settings: &Settings) -> Core {
        let mail = settings.mail.as_ref().map(|(at_most, _)| Mail {
            node: name("here"),
            at_most: *at_most,
        });
        Core::new(settings.rules.clone(), Zone::default(), mail)
    }

    /// Another life of the node, which knows what is stored.
    pub(crate) fn restart(&mut self) {
        self.carrier = None;
        self.timers.clear();
        self.runs.clear();
        self.open.clear();
        self.core = Self::core(&self.settings);
        drop(self.store.take());
        self.store = Some(Store::open(self.folder.path()).unwrap());
        let outbox = self.store().outbox().unwrap();
        self.step(Event::Outbox(outbox));
        self.loading = true;
        self.step(Event::Start);
        let unfinished = self.store().unfinished().unwrap();
        let unfinished = unfinished.into_iter().map(as_task);
        let (mut standing, others): (Vec<Task>, Vec<Task>) = unfinished.partition(Task::stands);
        standing.sort_by_key(|task| task.place.held_by.is_some());
        for task in others.into_iter().chain(standing) {
            self.accepted(task);
        }
        // A part takes its time until it is up.
        self.loading = false;
        for part in std::mem::take(&mut self.parts) {
            self.step(Event::Up(part));
        }
    }

    pub(crate) fn rules(&mut self, rules: Rules) {
        self.settings.rules = rules.clone();
        self.step(Event::Rules(rules));
    }

    /// Hands in a task; whether it is taken.
    pub(crate) fn submit(&mut self, mtw: Value) -> bool {
        let mtw: Mtw = serde_json::from_value(mtw).unwrap();
        let (node, envelope) = (name("here"), sign_task(&mtw, &key()));
        let audience = Audience {
            name: &node,
            labels: &[],
        };
        let task = verify_task(&envelope, &trust(), audience, self.now.time).unwrap();
        let newcomer = Newcomer {
            task,
            envelope: envelope.to_json(),
            accepted: self.now.time,
            inbox: None,
            started: None,
        };
        let mut stored = self.store().store(&[], &[newcomer]).unwrap();
        let Ok(acceptance) = stored.accepted.remove(0) else {
            return false;
        };
        if acceptance.fresh {
            let place = Place {
                replaces: acceptance.replaces,
                ..Place::default()
            };
            let accepted = self.now.time;
            self.accepted(task_of_parts(acceptance.seq, mtw, accepted, place));
        }
        true
    }

    fn accepted(&mut self, task: Task) {
        let id = task.mtw.task.id.clone();
        self.open.insert(id, Arc::clone(&task.mtw));
        self.step(Event::Accepted(task));
    }

    /// Something happens, and everything that follows from it at this moment.
    pub(crate) fn step(&mut self, event: Event) {
        self.events.push_back(event);
        loop {
            while let Some(event) = self.events.pop_front() {
                let effects = self.core.step(self.now, event);
                self.save(&effects);
                effects.into_iter().for_each(|e| self.perform(e));
            }
            match self.carrier.as_mut().filter(|c| c.under_way > 0) {
                Some(carrier) => self.events.extend(carrier.hear()),
                None => return,
            }
        }
    }

    /// What a driver stores before it does anything else.
    fn save(&self, effects: &[Effect]) {
        let writes: Vec<Write<'_>> = effects
            .iter()
            .filter_map(|effect: &Effect| match effect {
                Effect::Persist { id, change } => Some(Write::State(id, change)),
                Effect::Commit(commit) => {
                    let ending = Ending::new(commit, &Logs::default());
                    Some(Write::End(Box::new(ending)))
                }
                Effect::Spawn(spawn) => Some(Write::Spawn(spawn, self.now.time)),
                Effect::Return { task, due } => Some(Write::Return(task, *due)),
                Effect::Dispatched { parcel, outcome } => Some(Write::Dispatched(*parcel, outcome)),
                _ => None,
            })
            .collect();
        self.store().store(&writes, &[]).unwrap();
    }

    fn perform(&mut self, effect: Effect) {
        match effect {
            Effect::SetTimer { at, timer } => {
                self.set += 1;
                self.timers.insert((at, self.set), timer);
            }
            Effect::Start(part) => {
                if let (Part::Courier, Some((_, places))) = (part, &self.settings.mail) {
                    let places = Places::parse(None, Some(places)).unwrap();
                    self.carrier = Some(Carrier::start(self.folder.path(), &places));
                }
                match self.loading {
                    true => self.parts.push(part),
                    false => self.events.push_back(Event::Up(part)),
                }
            }
            Effect::Ping(part) => self.events.push_back(Event::Pong(part)),
            Effect::StartTender { run, id, isolation } => {
                self.runs.insert(run, id);
                self.tender(run, TenderEvent::Given);
                self.tender(run, TenderEvent::Ready { isolation });
            }
            Effect::Retrieve { run } if !self.settings.gated => self.end(run),
            Effect::KillTender { run } => self.gone(run),
            Effect::CancelRetrieve { run } => self.retrieved(run),
            Effect::Spawn(spawn) => self.spawned(&spawn),
            Effect::Deliver { parcel } => self.deliver(parcel),
            _ => {}
        }
    }

    fn tender(&mut self, run: RunId, event: TenderEvent) {
        self.events.push_back(Event::Tender { run, event });
    }

    fn gone(&mut self, run: RunId) {
        let reason = "signal: 9 (SIGKILL)".to_owned();
        self.runs.remove(&run);
        self.tender(run, TenderEvent::Gone { reason });
    }

    fn retrieved(&mut self, run: RunId) {
        self.events.push_back(Event::RetrieveEnded {
            run,
            coverage: vec![Coverage::new(name("readings"))],
            failure: None,
        });
    }

    /// A function has its data, and answers.
    fn end(&mut self, run: RunId) {
        self.retrieved(run);
        let ended = Box::new(Ended {
            exit: Exit::Done,
            isolation: Isolation::Process,
            answer_bytes: 2,
            readings_bytes: 0,
            breakdown: Breakdown::default(),
            high_water: Size(4096),
            cpu_us: 5,
            batches: 1,
            input_bytes: 2 << 20,
            log_cut: 0,
        });
        let blob = vec![0x18, 0x2a];
        self.tender(run, TenderEvent::Ended { ended, blob });
        self.gone(run);
    }

    fn run_of(&self, id: &str) -> Option<RunId> {
        let mut runs = self.runs.iter();
        runs.find(|(_, task)| task.as_str() == id)
            .map(|(run, _)| *run)
    }

    /// Lets a task that is held come to its end.
    pub(crate) fn finish(&mut self, id: &str) {
        let run = self.run_of(id).expect("it runs");
        self.end(run);
        self.settle();
    }

    /// The tender of a task is killed.
    pub(crate) fn kill_tender(&mut self, id: &str) {
        let run = self.run_of(id).expect("it runs");
        self.gone(run);
        self.settle();
    }

    fn settle(&mut self) {
        if let Some(event) = self.events.pop_front() {
            self.step(event);
        }
    }

    fn spawned(&mut self, spawn: &Spawn) {
        let (seq, accepted) = self
            .store()
            .place(&spawn.run)
            .unwrap()
            .expect("it is stored");
        let mut mtw = Mtw::clone(&self.open[&spawn.task]);
        mtw.task.id = spawn.run.clone();
        let mut task = task_of_parts(seq, mtw, accepted, Place::default());
        task.parent = Some(spawn.task.clone());
        task.due = Some(spawn.due);
        self.events.push_back(Event::Accepted(task));
    }

    fn deliver(&mut self, parcel: u64) {
        let (about, body) = self.store().parcel(parcel).unwrap().expect("it is stored");
        let carrier = self.carrier.as_mut().unwrap();
        carrier.send(&CourierRequest::Deliver(about), &body);
        carrier.under_way += 1;
        self.tried += 1;
    }

    /// Lets time pass, and everything happen that is due by then.
    pub(crate) fn pass(&mut self, span: Duration) {
        let (begin, until) = (self.now, self.now.tick.after(span));
        while let Some(entry) = self.timers.first_entry().filter(|e| e.key().0 <= until) {
            let at = entry.key().0.max(self.now.tick);
            let timer = entry.remove();
            let passed = Duration(at.0.abs_diff(begin.tick.0));
            self.now = Now {
                time: begin.time.after(passed),
                tick: at,
            };
            self.step(Event::Timer(timer));
        }
        self.now = Now {
            time: begin.time.after(span),
            tick: until,
        };
    }
}

fn task_of_parts(seq: i64, mtw: Mtw, accepted: fades_task::time::Time, place: Place) -> Task {
    Task {
        seq,
        mtw: Arc::new(mtw),
        accepted,
        attempts: 0,
        isolations: vec![Isolation::Process],
        inbox: None,
        parent: None,
        due: None,
        place,
    }
}

fn as_task(stored: StoredTask) -> Task {
    let parent = stored.is_run.then(|| task_of(&stored.mtw.task.id));
    Task {
        seq: stored.seq,
        accepted: stored.accepted,
        attempts: stored.attempts,
        isolations: vec![Isolation::Process],
        inbox: stored.inbox,
        parent,
        due: stored.due,
        place: stored.place,
        mtw: stored.mtw,
    }
}

/// A task of the service `local`, with more tables.
pub(crate) fn task(id: &str, more: &Value) -> Value {
    let mut task = json!({
        "task": {
            "id": id, "name": "air", "service": "local", "for": ["here"],
            "expires": "2100-01-01T00:00:00Z"
        },
        "retrieve": [{"name": "readings", "kind": ["pm10"], "last": "10m"}],
        "function": {
            "image": format!("hello@sha256:{}", "0".repeat(64)),
            "limits": {"memory": "1MiB", "time": "10h"}
        },
    });
    let more = more.as_object().unwrap().clone();
    task.as_object_mut().unwrap().extend(more);
    task
}
