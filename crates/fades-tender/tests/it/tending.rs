//! Starting a tender and playing the orchestrator's and the broker's part.

use std::fs::File;
use std::io::Write;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::time::{Duration, Instant};

use fades_abi::batch::{Draft, SeriesSpec, encoded_length, order};
use fades_task::exit::Exit;
use fades_task::limits::{Isolation, Limits};
use fades_task::message::{
    Ended, Feed, Refused, Release, Start, TemplateRequest, TenderReport, TenderRequest,
};
use fades_task::quantity::Size;
use fades_task::shell::{Class, Needs};
use fades_wire::spawn::{Child, Program};
use fades_wire::{Channel, WireError};
use serde_json::Value;

/// No test waits longer than this for anything.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

pub(crate) fn soon() -> Option<Instant> {
    Some(Instant::now() + PATIENCE)
}

/// A run as tests describe it.
#[derive(Clone)]
pub(crate) struct Run {
    pub(crate) isolation: Isolation,
    pub(crate) start: Start,
    pub(crate) symbols: Option<String>,
    /// The longest batch, bytes.
    pub(crate) window: u64,
}

/// A shell that has been told what to run.
pub(crate) struct Tending {
    pub(crate) shell: Shell,
    pub(crate) data: Channel,
    /// It never came to a shell, because there is no template.
    refused: Option<Refused>,
}

/// A tender that runs one function after the other.
pub(crate) struct Shell {
    pub(crate) child: Child,
    pub(crate) control: Channel,
    /// SIMD level that works in it; nothing when it refused to be one.
    pub(crate) made: Result<u32, Refused>,
}

/// A template and what it needs.
#[derive(Debug)]
pub(crate) struct Template {
    pub(crate) file: OwnedFd,
    pub(crate) needs: Needs,
}

/// How a run ended, as the orchestrator and the broker saw it.
#[derive(Debug)]
pub(crate) struct Outcome {
    pub(crate) ready: Option<(Isolation, u32, u64)>,
    pub(crate) logs: Vec<(u32, String)>,
    pub(crate) end: Result<Ended, Refused>,
    pub(crate) values: Vec<u8>,
    pub(crate) readings: Vec<u8>,
    pub(crate) releases: Vec<(Release, Vec<u8>)>,
}

pub(crate) fn start(isolation: Isolation) -> Run {
    Run {
        isolation,
        start: Start {
            template: 1,
            simd: fades_abi::boot::simd::AVX512,
            limits: Limits::default(),
            resident: None,
            zone: "UTC".to_owned(),
            offsets: vec![(i64::MIN, 0)],
            dtos: vec!["data".parse().unwrap()],
        },
        symbols: None,
        window: 16 << 20,
    }
}

/// A tender that has not been told anything.
pub(crate) fn spawn() -> (Child, Channel) {
    let (control, theirs) = Channel::pair().unwrap();
    let child = Program::new(&tender())
        .descriptor(theirs.as_fd())
        .spawn()
        .unwrap();
    (child, control)
}

impl Template {
    pub(crate) fn make(image: &File, run: &Run) -> Result<Self, Refused> {
        let (mut child, control) = spawn();
        let request = TenderRequest::Template(TemplateRequest::of(run.isolation, &run.start));
        let symbols = run.symbols.clone().unwrap_or_default();
        control
            .send(&request, symbols.as_bytes(), &[image.as_fd()])
            .unwrap();
        let frame = control.receive::<TenderReport>(soon()).unwrap();
        let frame = frame.expect("the tender is gone");
        let status = child.wait(soon()).unwrap().expect("the tender ends");
        assert!(status.success(), "the tender ended with {status}");
        match frame.message {
            TenderReport::Template { needs } => {
                let [file] = <[OwnedFd; 1]>::try_from(frame.descriptors).unwrap();
                Ok(Self { file, needs })
            }
            TenderReport::Refused(refused) => Err(refused),
            other => panic!("{other:?}"),
        }
    }
}

impl Shell {
    pub(crate) fn make(isolation: Isolation, class: Class, simd: u32) -> Self {
        let (child, control) = spawn();
        let request = TenderRequest::Shell {
            isolation,
            class,
            simd,
        };
        control.send(&request, &[], &[]).unwrap();
        let frame = control.receive::<TenderReport>(soon()).unwrap();
        let made = match frame.expect("the tender is gone").message {
            TenderReport::Shell { simd, .. } => Ok(simd),
            TenderReport::Refused(refused) => Err(refused),
            other => panic!("{other:?}"),
        };
        Self {
            child,
            control,
            made,
        }
    }

    /// Starts a run; gives the broker's end of its data channel.
    pub(crate) fn start(&self, template: &Template, start: &Start, params: &[u8]) -> Channel {
        let (data, theirs) = Channel::pair().unwrap();
        let request = TenderRequest::Start(Box::new(start.clone()));
        let descriptors = [theirs.as_fd(), template.file.as_fd()];
        self.control.send(&request, params, &descriptors).unwrap();
        data
    }

    /// Waits until the shell has taken away what the last function left.
    pub(crate) fn wait_until_clean(&self) {
        let frame = self.control.receive::<TenderReport>(soon()).unwrap();
        let report = frame.expect("the tender is gone").message;
        assert!(matches!(report, TenderReport::Clean { .. }), "{report:?}");
    }

    pub(crate) fn ends_well(&mut self) {
        let status = self.child.wait(soon()).unwrap().expect("the tender ends");
        assert!(status.success(), "the tender ended with {status}");
    }
}

impl Tending {
    pub(crate) fn begin(image: &Path, run: &Run, params: &Value) -> Self {
        let params = fades_task::cbor::encode(params);
        Self::begin_with(File::open(image).unwrap(), run, &params)
    }

    pub(crate) fn begin_with(image: File, run: &Run, params: &[u8]) -> Self {
        let template = match Template::make(&image, run) {
            Ok(template) => template,
            Err(refused) => return Self::refused(refused),
        };
        let class = Class::fitting(template.needs, Size(run.window)).unwrap();
        let shell = Shell::make(run.isolation, class, run.start.simd);
        if let Err(refused) = &shell.made {
            return Self::refused(refused.clone());
        }
        let data = shell.start(&template, &run.start, params);
        Self {
            shell,
            data,
            refused: None,
        }
    }

    fn refused(refused: Refused) -> Self {
        let (child, control) = spawn();
        Self {
            shell: Shell {
                child,
                control,
                made: Err(refused.clone()),
            },
            data: Channel::pair().unwrap().0,
            refused: Some(refused),
        }
    }

    /// Sends an event. A function may have ended already, and the tender with
    /// it: what became of it is told by [`Self::outcome`].
    pub(crate) fn feed(&self, feed: &Feed) {
        self.feed_with(feed, &[], &[]);
    }

    pub(crate) fn feed_with(&self, feed: &Feed, blob: &[u8], descriptors: &[BorrowedFd<'_>]) {
        match self.data.send(feed, blob, descriptors) {
            Ok(()) | Err(WireError::Io(_)) => {}
            Err(e) => panic!("{e}"),
        }
    }

    pub(crate) fn feed_batch(&self, batch: &OwnedFd) {
        let length = rustix::fs::fstat(batch).unwrap().st_size as u64;
        self.feed_with(&Feed::Batch { dto: 0, length }, &[], &[batch.as_fd()]);
    }

    /// Waits for the first report of a function that asks for its first event;
    /// says on which isolation.
    pub(crate) fn wait_until_ready(&self) -> Isolation {
        let frame = self.shell.control.receive(soon()).unwrap();
        match frame.expect("the tender is gone").message {
            TenderReport::Ready { isolation, .. } => isolation,
            other => panic!("{other:?}"),
        }
    }

    /// What the orchestrator is told of a window: its number, answer and
    /// checkpoint, and what it took.
    pub(crate) fn window(&self) -> (u64, Value, Option<Vec<u8>>, Ended) {
        let frame = self.shell.control.receive::<TenderReport>(soon()).unwrap();
        let frame = frame.expect("the tender is gone");
        let TenderReport::Window {
            id,
            ended,
            checkpoint_bytes,
        } = frame.message
        else {
            panic!("{:?}", frame.message);
        };
        let (values, rest) = frame.blob.split_at(ended.answer_bytes as usize);
        let (_, checkpoint) = rest.split_at(ended.readings_bytes as usize);
        assert_eq!(checkpoint.len() as u64, checkpoint_bytes.unwrap_or(0));
        let checkpoint = checkpoint_bytes.map(|_| checkpoint.to_vec());
        let answer = fades_task::cbor::decode(values).unwrap_or_default();
        (id, answer, checkpoint, *ended)
    }

    /// What the broker is told next.
    pub(crate) fn released(&self) -> (Release, Vec<u8>) {
        let frame = self
            .data
            .receive(soon())
            .unwrap()
            .expect("the tender is gone");
        (frame.message, frame.blob)
    }

    /// Reads reports until the last one, then what the broker was told; the
    /// tender must have survived, and be clean or have ended well.
    pub(crate) fn outcome(self) -> Outcome {
        let (mut outcome, data, _shell) = self.settled();
        while let Some(frame) = data.receive::<Release>(soon()).unwrap() {
            outcome.releases.push((frame.message, frame.blob));
        }
        outcome
    }

    /// The same without a broker that could be told anything.
    pub(crate) fn outcome_without_broker(self) -> Outcome {
        self.settled().0
    }

    fn settled(mut self) -> (Outcome, Channel, Shell) {
        let outcome = match self.refused.take() {
            Some(refused) => Outcome::of(Err(refused)),
            None => self.reported(),
        };
        let microvm = matches!(&outcome.end, Ok(e) if e.isolation == Isolation::Microvm);
        if microvm && outcome.ended().exit == Exit::Done {
            self.shell.wait_until_clean();
        } else if self.shell.made.is_ok() {
            self.shell.ends_well();
        }
        (outcome, self.data, self.shell)
    }

    fn reported(&self) -> Outcome {
        let mut outcome = Outcome::of(Err(Refused::Image {
            reason: "the tender said nothing".to_owned(),
        }));
        loop {
            let frame = self.shell.control.receive::<TenderReport>(soon()).unwrap();
            let frame = frame.expect("the tender ended without a last report");
            match frame.message {
                TenderReport::Ready {
                    isolation,
                    simd,
                    boot_us,
                } => {
                    outcome.ready = Some((isolation, simd, boot_us));
                }
                TenderReport::Log { level, text } => outcome.logs.push((level, text)),
                TenderReport::Ended(ended) => {
                    let (values, readings) = frame.blob.split_at(ended.answer_bytes as usize);
                    outcome.values = values.to_vec();
                    outcome.readings = readings.to_vec();
                    assert_eq!(readings.len() as u64, ended.readings_bytes);
                    outcome.end = Ok(*ended);
                    break;
                }
                TenderReport::Refused(refused) => {
                    outcome.end = Err(refused);
                    break;
                }
                other => panic!("{other:?}"),
            }
        }
        outcome
    }
}

impl Outcome {
    const fn of(end: Result<Ended, Refused>) -> Self {
        Self {
            ready: None,
            logs: Vec::new(),
            end,
            values: Vec::new(),
            readings: Vec::new(),
            releases: Vec::new(),
        }
    }

    /// The end of a function that was started.
    pub(crate) fn ended(&self) -> &Ended {
        self.end.as_ref().expect("the tender refused")
    }

    pub(crate) fn answer(&self) -> Value {
        assert_eq!(self.ended().exit, Exit::Done);
        fades_task::cbor::decode(&self.values).unwrap()
    }
}

/// The tender's program: beside the tests, or where an emulated machine has it.
pub(crate) fn tender() -> std::path::PathBuf {
    let elsewhere = std::env::var_os("FADES_TENDER").map(Into::into);
    elsewhere.unwrap_or_else(|| env!("CARGO_BIN_EXE_fades-tender").into())
}

/// A read-only batch of one series with these values, a second apart.
pub(crate) fn batch(dto: u32, values: &[f64]) -> OwnedFd {
    let series = [SeriesSpec {
        id: 0,
        device: "d1",
        kind: "temperature",
        unit: "Cel",
        location: "hall",
        rows: values.len() as u64,
        complete: true,
    }];
    let used = encoded_length(&series, false);
    let mut words = vec![0_u64; used.div_ceil(8)];
    let bytes = zerocopy::IntoBytes::as_mut_bytes(words.as_mut_slice());
    let draft = Draft::new(bytes, dto, 0, order::SERIES, &series, false).unwrap();
    draft.value.copy_from_slice(values);
    for (time, at) in draft.time.iter_mut().zip(0_i64..) {
        *time = at * 1_000_000_000;
    }
    read_only(bytes, (used as u64).next_multiple_of(2 << 20))
}

/// A file with these bytes and zeros up to `length`, opened for reading only.
pub(crate) fn read_only(bytes: &[u8], length: u64) -> OwnedFd {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(bytes).unwrap();
    file.as_file().set_len(length).unwrap();
    File::open(file.path()).unwrap().into()
}
/// A run of the function that misbehaves: what it is asked to do, and within
/// which limits.
pub(crate) struct Deed {
    pub(crate) start: Run,
    pub(crate) params: Value,
    /// What follows the parameters: the checkpoint with which it goes on.
    pub(crate) tail: Vec<u8>,
    pub(crate) batches: Vec<OwnedFd>,
}

impl Deed {
    /// Asks for `deed`, with one batch of three rows.
    pub(crate) fn new(isolation: Isolation, deed: &str) -> Self {
        Self {
            start: Run {
                symbols: Some(crate::images::symbols("misbehave")),
                ..start(isolation)
            },
            params: serde_json::json!({ "do": deed }),
            tail: Vec::new(),
            batches: vec![batch(0, &[1.0, 2.0, 3.0])],
        }
    }

    pub(crate) fn with(mut self, name: &str, value: u64) -> Self {
        self.params[name] = value.into();
        self
    }

    pub(crate) fn within(mut self, change: impl FnOnce(&mut Limits)) -> Self {
        change(&mut self.start.start.limits);
        self
    }

    pub(crate) fn fed(mut self, batches: Vec<OwnedFd>) -> Self {
        self.batches = batches;
        self
    }

    /// Starts it, without any event.
    pub(crate) fn begin(&self) -> Tending {
        let mut blob = fades_task::cbor::encode(&self.params);
        blob.extend(&self.tail);
        let image = crate::images::image("misbehave");
        Tending::begin_with(File::open(image).unwrap(), &self.start, &blob)
    }

    /// Runs it with all its batches to its end.
    pub(crate) fn run(self) -> Outcome {
        let tending = self.begin();
        for batch in &self.batches {
            tending.feed_batch(batch);
        }
        tending.feed(&Feed::End { dto: 0 });
        tending.feed(&Feed::Finish);
        let outcome = tending.outcome();
        assert_eq!(
            outcome.ended().isolation,
            self.start.isolation,
            "recorded isolation"
        );
        outcome
    }

    /// Runs it, and says how it ended.
    pub(crate) fn exit(self) -> Exit {
        self.run().ended().exit.clone()
    }
}
