//! One run of an image without a node: a broker in a thread, a tender in a
//! process, and this in between.

use std::os::fd::AsFd;
use std::path::Path;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use fades_drb::config::Sources;
use fades_drb::process::ProcessError;
use fades_orc::shell::{Shell, ShellError, Template};
use fades_task::coverage::Coverage;
use fades_task::exit::Exit;
use fades_task::limits::{Isolation, Limits};
use fades_task::message::{
    self, BrokerReport, BrokerRequest, Feed, Refused, Start, TemplateRequest, TenderReport,
};
use fades_task::mtw::Dto;
use fades_task::quantity::Size;
use fades_task::result::{Failure, RetrievalFailure};
use fades_task::time::{Time, Zone};
use fades_wire::Channel;
use serde_json::{Map, Value};

use crate::problem::{Attempt, Problem};
use crate::session::now;

/// How long the broker may take to say how it went, once the function ended.
const PATIENCE: Duration = Duration::from_secs(10);

/// Most bytes of batches at any time, and the bytes at which a batch ends.
const BUDGET: Size = Size(512 << 20);
const CHUNK: Size = Size(64 << 20);

/// Highest SIMD level that the function may be told: whatever works.
const SIMD: u32 = fades_abi::boot::simd::AVX512;

/// A run that has not begun.
pub(super) struct Trial<'a> {
    pub(super) tender: &'a Path,
    pub(super) image: &'a Path,
    pub(super) symbols: Option<String>,
    /// Without a file, the function gets no data.
    pub(super) csv: Option<&'a Path>,
    pub(super) kinds: &'a [String],
    pub(super) params: &'a Map<String, Value>,
    pub(super) zone: &'a Zone,
    pub(super) isolation: Isolation,
    pub(super) limits: Limits,
}

/// What became of it.
pub(super) struct Ended {
    pub(super) started: Time,
    pub(super) limits: Limits,
    pub(super) answer: Option<Value>,
    pub(super) readings: Vec<u8>,
    pub(super) failure: Option<Failure>,
    pub(super) coverage: Vec<Coverage>,
    /// Nothing when the tender refused to run the image.
    pub(super) report: Option<message::Ended>,
}

impl Trial<'_> {
    /// Runs the image to its end; `log` is called with each of its lines.
    pub(super) fn run(self, log: impl FnMut(u32, &str)) -> Result<Ended, Problem> {
        let started = now();
        let image = std::fs::read(self.image)
            .or_problem(|| format!("cannot read {}", self.image.display()))?;
        let start = self.start()?;
        let (shell, template) = match self.make(&image, &start) {
            Ok(both) => both,
            Err(ShellError::Refused(refusal)) => return Ok(self.refused(refusal, started)),
            Err(error) => return Err(Problem::new("cannot start the tender").because(&error)),
        };
        let broker = self.csv.map(Broker::start).transpose()?;
        let (data, tenders) = Channel::pair().or_problem(|| "cannot make a channel".to_owned())?;
        let lost = || "the tender went away".to_owned();
        let params = fades_task::cbor::encode(&Value::Object(self.params.clone()));
        shell
            .start(&start, &params, &tenders, &template)
            .or_problem(lost)?;
        drop((tenders, template));
        match &broker {
            Some(broker) => broker.retrieve(self.dto()?, &data)?,
            None => data.send(&Feed::Finish, &[], &[]).or_problem(lost)?,
        }
        // From here on only the broker's end keeps the connection open, so that
        // the tender notices when the broker has gone.
        let kept = broker.is_none().then_some(data);
        let last = listen(shell.control(), log)?;
        drop((shell, kept));
        let (coverage, retrieval) = match broker {
            Some(broker) => broker.ended()?,
            None => (Vec::new(), None),
        };
        Ok(match last {
            Ok((report, blob)) => {
                let failure = retrieval.map(Failure::Retrieval);
                self.ended(*report, blob, started, coverage, failure)
            }
            Err(refusal) => self.refused(refusal, started),
        })
    }

    fn make(&self, image: &[u8], start: &Start) -> Result<(Shell, Template), ShellError> {
        let request = TemplateRequest::of(self.isolation, start);
        let symbols = self.symbols.as_deref();
        let template = Template::make(self.tender, image, symbols, &request, start.template)?;
        let class = template.class(CHUNK)?;
        let shell = Shell::make(self.tender, self.isolation, class, SIMD)?;
        Ok((shell, template))
    }

    fn start(&self) -> Result<Start, Problem> {
        let from: Time = "1950-01-01".parse().or_problem(String::new)?;
        let to: Time = "2100-01-01".parse().or_problem(String::new)?;
        let dtos = self.csv.map(|_| "csv".parse()).transpose();
        Ok(Start {
            template: 1,
            simd: SIMD,
            limits: self.limits,
            resident: None,
            zone: self.zone.name().to_owned(),
            offsets: self.zone.offsets(from, to),
            dtos: dtos.or_problem(String::new)?.into_iter().collect(),
        })
    }

    fn dto(&self) -> Result<Dto, Problem> {
        Ok(Dto {
            kind: self.kinds.to_vec(),
            ..Dto::all("csv".parse().or_problem(String::new)?)
        })
    }

    fn ended(
        &self,
        report: message::Ended,
        mut values: Vec<u8>,
        started: Time,
        coverage: Vec<Coverage>,
        failure: Option<Failure>,
    ) -> Ended {
        let readings = values.split_off(values.len().min(report.answer_bytes as usize));
        let exit = (report.exit != Exit::Done).then(|| Failure::Function {
            exit: report.exit.clone(),
        });
        let failure = failure.or(exit);
        let answer = fades_task::cbor::decode(&values).ok();
        Ended {
            started,
            limits: self.limits,
            answer: answer.filter(|_| failure.is_none()),
            readings,
            failure,
            coverage,
            report: Some(report),
        }
    }

    fn refused(&self, refused: Refused, started: Time) -> Ended {
        Ended {
            started,
            limits: self.limits,
            answer: None,
            readings: Vec::new(),
            failure: Some(super::failure(refused, self.isolation)),
            coverage: Vec::new(),
            report: None,
        }
    }
}

/// The last report of a run, with its blob, or why there was no run.
type Last = Result<(Box<message::Ended>, Vec<u8>), Refused>;

/// Passes log lines on until the tender's last report.
fn listen(control: &Channel, mut log: impl FnMut(u32, &str)) -> Result<Last, Problem> {
    loop {
        let frame = control
            .receive::<TenderReport>(None)
            .or_problem(|| "cannot hear the tender".to_owned())?;
        let Some(frame) = frame else {
            return Err(Problem::new("the tender ended without a word"));
        };
        match frame.message {
            TenderReport::Ready { .. } => {}
            TenderReport::Log { level, text } => log(level, &text),
            TenderReport::Ended(ended) => return Ok(Ok((ended, frame.blob))),
            TenderReport::Refused(refused) => return Ok(Err(refused)),
            TenderReport::Template { .. }
            | TenderReport::Shell { .. }
            | TenderReport::Window { .. }
            | TenderReport::Clean { .. } => {
                return Err(Problem::new("the tender said what it was not asked"));
            }
        }
    }
}

/// A broker with one source: the file.
struct Broker {
    channel: Channel,
    thread: JoinHandle<Result<(), ProcessError>>,
    // Removed when the broker is gone.
    _folder: tempfile::TempDir,
}

impl Broker {
    fn start(csv: &Path) -> Result<Self, Problem> {
        let what = || format!("cannot read {}", csv.display());
        let sources = Sources::guess(csv).or_problem(what)?;
        let folder = tempfile::tempdir().or_problem(|| "cannot make a folder".to_owned())?;
        let (channel, control) = Channel::pair().or_problem(what)?;
        let thread = std::thread::spawn(move || fades_drb::process::run(control));
        let configure = BrokerRequest::Configure {
            folder: folder.path().join("batches").display().to_string(),
            budget: BUDGET,
            chunk: CHUNK,
            base: "/".to_owned(),
            readings: None,
            credentials: None,
        };
        let blob = serde_json::to_vec(&sources).or_problem(what)?;
        channel.send(&configure, &blob, &[]).or_problem(what)?;
        let broker = Self {
            channel,
            thread,
            _folder: folder,
        };
        match broker.hear()? {
            BrokerReport::Ready { .. } => Ok(broker),
            BrokerReport::Misconfigured { reason } => Err(Problem::new(what()).reason(reason)),
            _ => Err(Problem::new(what()).reason("the broker answered something else")),
        }
    }

    fn hear(&self) -> Result<BrokerReport, Problem> {
        let deadline = Some(Instant::now() + PATIENCE);
        let frame = self
            .channel
            .receive(deadline)
            .or_problem(|| "cannot hear the broker".to_owned())?;
        let frame = frame.ok_or_else(|| Problem::new("the broker ended without a word"))?;
        Ok(frame.message)
    }

    fn retrieve(&self, dto: Dto, data: &Channel) -> Result<(), Problem> {
        let request = BrokerRequest::Retrieve {
            of: None,
            run: 1,
            dtos: vec![dto],
            window: CHUNK,
            within: None,
            answers: Vec::new(),
        };
        self.channel
            .send(&request, &[], &[data.as_fd()])
            .or_problem(|| "cannot ask the broker".to_owned())
    }

    /// What stood behind the answer, and what went wrong on the way.
    fn ended(self) -> Result<(Vec<Coverage>, Option<RetrievalFailure>), Problem> {
        let ended = loop {
            if let BrokerReport::RetrieveEnded {
                coverage, failure, ..
            } = self.hear()?
            {
                break (coverage, failure);
            }
        };
        // The broker ends with its channel.
        drop(self.channel);
        match self.thread.join() {
            Ok(Ok(())) => Ok(ended),
            Ok(Err(e)) => Err(Problem::new("the broker failed").because(&e)),
            Err(_) => Err(Problem::new("the broker failed").reason("it panicked")),
        }
    }
}
