//! A confined broker, and a tender's end of the data channel.

use std::collections::{BTreeMap, HashSet};
use std::fs::File;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use fades_abi::batch::Batch;
use fades_drb::config::Sources;
use fades_drb::process::ProcessError;
use fades_task::coverage::Coverage;
use fades_task::message::{BrokerReport, BrokerRequest, Feed, Release};
use fades_task::mtw::Dto;
use fades_task::quantity::Size;
use fades_task::result::RetrievalFailure;
use fades_task::time::Time;
use fades_wire::Channel;
use fades_wire::spawn::Child;

use crate::confined;

pub(crate) const PATIENCE: Duration = Duration::from_secs(120);

pub(crate) fn soon() -> Option<Instant> {
    Some(Instant::now() + PATIENCE)
}

pub(crate) struct Broker {
    pub(crate) control: Channel,
    life: Life,
    _folder: tempfile::TempDir,
}

/// Where a broker lives: killed, or waited for, when it is dropped.
enum Life {
    Process(Child),
    Thread(Option<JoinHandle<Result<(), ProcessError>>>),
}

pub(crate) fn sources(toml: &str) -> Sources {
    let table: serde_json::Value = toml::from_str(toml).unwrap();
    Sources::parse(&table["source"]).unwrap()
}

impl Broker {
    pub(crate) fn start(sources: &Sources, base: &Path) -> Self {
        Self::with_memory(sources, base, 256 << 20, 64 << 20)
    }

    pub(crate) fn with_memory(sources: &Sources, base: &Path, budget: u64, chunk: u64) -> Self {
        Self::with(sources, base, budget, chunk, None)
    }

    /// A broker in a thread, for tests that measure their own process. It is not
    /// confined.
    pub(crate) fn in_a_thread(sources: &Sources, base: &Path, budget: u64, chunk: u64) -> Self {
        let (control, theirs) = Channel::pair().unwrap();
        let thread = std::thread::spawn(move || fades_drb::process::run(theirs));
        let life = Life::Thread(Some(thread));
        Self::configured(control, life, sources, base, (budget, chunk), None)
    }

    /// A broker that records in a folder.
    pub(crate) fn recording(sources: &Sources, base: &Path, readings: &Path) -> Self {
        Self::with(sources, base, 256 << 20, 64 << 20, Some(readings))
    }

    /// One that records, with batches of so many bytes.
    pub(crate) fn recording_in(sources: &Sources, readings: &Path, chunk: u64) -> Self {
        Self::with(sources, "/".as_ref(), 256 << 20, chunk, Some(readings))
    }

    /// As `kill -9` does.
    pub(crate) fn kill(mut self) {
        if let Life::Process(child) = &mut self.life {
            child.kill();
            child.wait(soon()).unwrap().unwrap();
        }
    }

    /// Bytes of memory that its process has, without what is mapped of files.
    pub(crate) fn memory(&self) -> u64 {
        let Life::Process(child) = &self.life else {
            panic!("it is in a thread")
        };
        let status = format!("/proc/{}/status", child.id());
        let status = std::fs::read_to_string(status).unwrap();
        let line = status.lines().find(|l| l.starts_with("RssAnon:")).unwrap();
        let kib: u64 = line.split_whitespace().nth(1).unwrap().parse().unwrap();
        kib << 10
    }

    fn with(
        sources: &Sources,
        base: &Path,
        budget: u64,
        chunk: u64,
        readings: Option<&Path>,
    ) -> Self {
        let (control, theirs) = Channel::pair().unwrap();
        let life = Life::Process(confined::start(&theirs));
        drop(theirs);
        Self::configured(control, life, sources, base, (budget, chunk), readings)
    }

    fn configured(
        control: Channel,
        life: Life,
        sources: &Sources,
        base: &Path,
        (budget, chunk): (u64, u64),
        readings: Option<&Path>,
    ) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let configure = BrokerRequest::Configure {
            folder: folder.path().join("batches").display().to_string(),
            budget: Size(budget),
            chunk: Size(chunk),
            base: base.display().to_string(),
            readings: readings.map(|r| r.display().to_string()),
            credentials: None,
        };
        let blob = serde_json::to_vec(sources).unwrap();
        let dial = confined::dialler(sources.addresses());
        let descriptors = [dial.as_fd()];
        let is_process = matches!(life, Life::Process(_));
        let given = if is_process { &descriptors[..] } else { &[] };
        control.send(&configure, &blob, given).unwrap();
        drop(dial);
        let ready = control.receive(soon()).unwrap().unwrap().message;
        let BrokerReport::Ready { confinement, .. } = ready else {
            panic!("{ready:?}")
        };
        assert_eq!(confinement.calls.enforced, is_process, "{confinement:?}");
        Self {
            control,
            life,
            _folder: folder,
        }
    }

    pub(crate) fn ask(&self, request: &BrokerRequest) -> BrokerReport {
        self.control.send(request, &[], &[]).unwrap();
        self.report()
    }

    pub(crate) fn report(&self) -> BrokerReport {
        self.control.receive(soon()).unwrap().unwrap().message
    }

    /// Starts a run; gives the tender's end.
    pub(crate) fn begin(&self, run: u64, dtos: &[Dto]) -> Channel {
        self.begin_within(run, dtos, 64 << 20)
    }

    /// Starts a run of a tender with an input window of so many bytes.
    pub(crate) fn begin_within(&self, run: u64, dtos: &[Dto], window: u64) -> Channel {
        self.retrieve(run, dtos, window, None)
    }

    /// Starts a run whose devices are late when they have not answered within this
    /// time.
    pub(crate) fn begin_in(&self, run: u64, dtos: &[Dto], time: &str) -> Channel {
        self.retrieve(run, dtos, 64 << 20, Some(time))
    }

    fn retrieve(&self, run: u64, dtos: &[Dto], window: u64, within: Option<&str>) -> Channel {
        let (ours, theirs) = Channel::pair().unwrap();
        let dtos = dtos.to_vec();
        let request = BrokerRequest::Retrieve {
            of: None,
            run,
            dtos,
            window: Size(window),
            within: within.map(|w| w.parse().unwrap()),
            answers: Vec::new(),
        };
        self.control.send(&request, &[], &[theirs.as_fd()]).unwrap();
        ours
    }

    /// Runs to the end as [`Broker::begin_in`]; gives what each DTO got.
    pub(crate) fn run_in(&self, dtos: &[Dto], time: &str) -> (Ended, Vec<Totals>) {
        let channel = self.begin_in(1, dtos, time);
        let (fed, totals) = each(&channel, dtos.len());
        drop(channel);
        let mut ended = Ended::of(self.report());
        ended.finished = fed.finished;
        (ended, totals)
    }

    /// Runs to the end, releasing each batch after `each` has seen it.
    pub(crate) fn run_with(&self, dtos: &[Dto], each: impl FnMut(&Batch<'_>)) -> Ended {
        let channel = self.begin(1, dtos);
        let fed = drain(&channel, each);
        drop(channel);
        let mut ended = Ended::of(self.report());
        ended.finished = fed.finished;
        ended.batches = fed.batches;
        ended
    }

    pub(crate) fn run(&self, dtos: &[Dto]) -> (Ended, Totals) {
        let mut totals = Totals::default();
        let ended = self.run_with(dtos, |batch| totals.add(batch));
        (ended, totals)
    }

    /// Ends it; whether it ended well.
    pub(crate) fn stop(mut self) -> bool {
        self.control.shut_down();
        match &mut self.life {
            Life::Process(child) => {
                let status = child.wait(soon()).unwrap();
                status.expect("it ends").success()
            }
            Life::Thread(thread) => thread.take().unwrap().join().unwrap().is_ok(),
        }
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        self.control.shut_down();
        if let Life::Thread(thread) = &mut self.life
            && let Some(thread) = thread.take()
        {
            let _ = thread.join();
        }
    }
}

/// How a run ended, seen from both sides.
#[derive(Debug)]
pub(crate) struct Ended {
    pub(crate) coverage: Vec<Coverage>,
    pub(crate) failure: Option<RetrievalFailure>,
    pub(crate) stopped: bool,
    pub(crate) finished: bool,
    pub(crate) batches: usize,
}

impl Ended {
    pub(crate) fn of(report: BrokerReport) -> Self {
        let BrokerReport::RetrieveEnded {
            coverage,
            failure,
            stopped,
            ..
        } = report
        else {
            panic!("{report:?}")
        };
        Self {
            coverage,
            failure,
            stopped,
            finished: false,
            batches: 0,
        }
    }

    pub(crate) fn good(self) -> Coverage {
        assert_eq!(self.failure, None);
        assert!(self.finished && !self.stopped);
        for c in &self.coverage {
            assert_eq!(c.read, c.used + c.lost_total(), "{c:?}");
            assert_eq!(c.matched, c.answered + c.empty + c.failed + c.late, "{c:?}");
        }
        self.coverage.into_iter().next().unwrap()
    }

    pub(crate) fn failure_text(&self) -> String {
        self.failure.as_ref().unwrap().to_string()
    }
}

#[derive(Default)]
pub(crate) struct Fed {
    pub(crate) finished: bool,
    pub(crate) batches: usize,
    pub(crate) ends: Vec<u32>,
}

/// Takes frames until the broker has no more; what each of so many DTOs got.
pub(crate) fn each(channel: &Channel, dtos: usize) -> (Fed, Vec<Totals>) {
    let mut totals: Vec<Totals> = (0..dtos).map(|_| Totals::default()).collect();
    let fed = drain(channel, |batch| totals[batch.dto() as usize].add(batch));
    (fed, totals)
}

/// Takes frames until the broker has no more.
pub(crate) fn drain(channel: &Channel, mut each: impl FnMut(&Batch<'_>)) -> Fed {
    drain_lengths(channel, |_, batch| each(batch))
}

/// As [`drain`], with the length of each file.
pub(crate) fn drain_lengths(channel: &Channel, mut each: impl FnMut(u64, &Batch<'_>)) -> Fed {
    let mut fed = Fed::default();
    while let Some(frame) = channel.receive::<Feed>(soon()).unwrap() {
        match frame.message {
            Feed::Batch { dto, length } => {
                let memory = content(&frame.descriptors[0], length);
                let batch = Batch::open(bytes(&memory)).unwrap();
                assert_eq!(batch.dto(), dto);
                each(length, &batch);
                fed.batches += 1;
                // A broker that failed has closed its end; the frames that it
                // sent before are still there.
                let _ = channel.send(&Release::Batch, &[], &[]);
            }
            Feed::End { dto } => fed.ends.push(dto),
            Feed::Finish => {
                fed.finished = true;
                break;
            }
            other => panic!("{other:?}"),
        }
    }
    fed
}

/// The bytes of a batch file, which must be a multiple of 2 MiB and zero after
/// what is used.
pub(crate) fn content(file: &OwnedFd, length: u64) -> Vec<u64> {
    let file = File::from(file.try_clone().unwrap());
    assert_eq!(file.metadata().unwrap().len(), length);
    assert!(length.is_multiple_of(2 << 20) && length > 0);
    let mut memory = vec![0_u64; length as usize / 8];
    let mut raw = vec![0_u8; length as usize];
    file.read_exact_at(&mut raw, 0).unwrap();
    for (word, bytes) in memory.iter_mut().zip(raw.chunks_exact(8)) {
        *word = u64::from_ne_bytes(bytes.try_into().unwrap());
    }
    let used = memory[2] as usize;
    assert!(raw[used..].iter().all(|&b| b == 0), "the padding is zero");
    memory
}

pub(crate) fn bytes(memory: &[u64]) -> &[u8] {
    zerocopy::IntoBytes::as_bytes(memory)
}

/// What all batches of a run come to, by (device, location, kind).
#[derive(Default, Debug)]
pub(crate) struct Totals {
    pub(crate) series: BTreeMap<(String, String, String), Total>,
    pub(crate) rows: u64,
    complete: HashSet<u32>,
    last: Option<u32>,
}

#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Total {
    pub(crate) id: u32,
    pub(crate) unit: String,
    pub(crate) count: u64,
    pub(crate) values: Vec<f64>,
    pub(crate) times: Vec<i64>,
    pub(crate) marked: u64,
}

impl Totals {
    pub(crate) fn add(&mut self, batch: &Batch<'_>) {
        assert_eq!(batch.order(), fades_abi::batch::order::SERIES);
        for s in batch.series() {
            assert!(!self.complete.contains(&s.id), "{} was complete", s.id);
            assert!(self.last.is_none_or(|l| l <= s.id), "series come together");
            self.last = Some(s.id);
            if s.complete {
                self.complete.insert(s.id);
            }
            assert!(s.time.is_sorted() && !s.time.is_empty());
            let key = (s.device.into(), s.location.into(), s.kind.into());
            let total = self.series.entry(key).or_insert_with(|| Total {
                id: s.id,
                unit: s.unit.into(),
                count: 0,
                values: vec![],
                times: vec![],
                marked: 0,
            });
            assert_eq!(total.id, s.id);
            assert!(
                total.times.last() <= s.time.first(),
                "batches go on in time"
            );
            total.count += s.time.len() as u64;
            total.values.extend(s.value);
            total.times.extend(s.time);
            let marks = s.mark.unwrap_or_default();
            total.marked += marks.iter().filter(|&&m| m != 0).count() as u64;
            self.rows += s.time.len() as u64;
        }
    }

    pub(crate) fn devices(&self) -> Vec<&str> {
        let mut devices: Vec<&str> = self.series.keys().map(|(d, ..)| d.as_str()).collect();
        devices.dedup();
        devices
    }

    pub(crate) fn of(&self, device: &str, kind: &str) -> &Total {
        let mut found = self.series.iter();
        let found = found.find(|((d, _, k), _)| d == device && k == kind);
        found.unwrap_or_else(|| panic!("no {kind} of {device}")).1
    }
}

pub(crate) fn dto(name: &str) -> Dto {
    Dto::all(name.parse().unwrap())
}

pub(crate) fn time(text: &str) -> Time {
    text.parse().unwrap()
}

/// Waits until a change of any file below `folder` gets another stamp.
pub(crate) fn settled(folder: &Path) {
    let deadline = soon().unwrap();
    let is_settled = |path: &Path| {
        let changed = rustix::fs::stat(path).unwrap();
        let changed = Duration::new(changed.st_ctime as u64, changed.st_ctime_nsec as u32);
        let now = std::time::SystemTime::UNIX_EPOCH.elapsed().unwrap();
        now.saturating_sub(changed) > Duration::from_millis(50)
    };
    let mut folders = vec![folder.to_path_buf()];
    while let Some(folder) = folders.pop() {
        let entries = std::fs::read_dir(&folder).unwrap();
        let mut paths: Vec<_> = entries.map(|e| e.unwrap().path()).collect();
        paths.push(folder);
        for path in &paths {
            while !is_settled(path) {
                assert!(Instant::now() < deadline, "{}", path.display());
                std::thread::sleep(Duration::from_millis(5));
            }
        }
        paths.pop();
        folders.extend(paths.into_iter().filter(|p| p.is_dir()));
    }
}
