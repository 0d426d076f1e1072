//! Shells, driven as an orchestrator drives them, with this program in the
//! broker's place.

use std::os::fd::BorrowedFd;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use fades_orc::shell::{Shell, Template};
use fades_task::exit::Exit;
use fades_task::limits::{Isolation, Limits};
use fades_task::message::{Ended, Feed, Release, Resident, Start, TemplateRequest, TenderReport};
use fades_task::quantity::Size;
use fades_task::shell::Class;
use fades_wire::Channel;
use serde_json::Value;

use crate::bench::Bench;
use crate::fault::Fault;

/// No tender needs longer for anything that is asked of it here.
const ANSWER_WITHIN: Duration = Duration::from_secs(10);

/// All that a function without input is told.
pub(crate) const NO_INPUT: [Feed; 2] = [Feed::End { dto: 0 }, Feed::Finish];

/// A function that is ready to be started: its template, and what a start says.
#[derive(Debug)]
pub(crate) struct Function {
    tender: PathBuf,
    isolation: Isolation,
    template: Template,
    start: Start,
    params: Vec<u8>,
    class: Class,
    simd: u32,
}

/// What a function is started with.
#[derive(Debug, Clone)]
pub(crate) struct Terms {
    /// Its limits.
    pub(crate) limits: Limits,
    /// Its parameters, a JSON map.
    pub(crate) params: Value,
    /// Longest batch, bytes.
    pub(crate) window: Size,
    /// It stays between events.
    pub(crate) resident: bool,
}

impl Default for Terms {
    fn default() -> Self {
        Self {
            limits: Limits::default(),
            params: serde_json::json!({}),
            window: Class::WINDOW_STEP,
            resident: false,
        }
    }
}

impl Function {
    /// Has a tender make the template of an image.
    pub(crate) fn load(
        bench: &Bench,
        image: &str,
        isolation: Isolation,
        terms: &Terms,
    ) -> Result<Self, Fault> {
        static NEXT: AtomicU64 = AtomicU64::new(1);
        let path = bench.image(image)?;
        let image = std::fs::read(&path).map_err(Fault::file(&path, "read"))?;
        let dto = "data".parse();
        let start = Start {
            template: NEXT.fetch_add(1, Ordering::Relaxed),
            simd: bench.simd(),
            limits: terms.limits,
            resident: terms.resident.then(Resident::default),
            zone: "UTC".to_owned(),
            offsets: vec![(i64::MIN, 0)],
            dtos: dto.into_iter().collect(),
        };
        let request = TemplateRequest::of(isolation, &start);
        let tender = bench.programs.tender.clone();
        let template = Template::make(&tender, &image, None, &request, start.template)?;
        Ok(Self {
            class: template.class(terms.window)?,
            tender,
            isolation,
            template,
            start,
            params: fades_task::cbor::encode(&terms.params),
            simd: bench.simd(),
        })
    }

    /// A new shell that has room for it.
    pub(crate) fn shell(&self) -> Result<Shell, Fault> {
        let Self {
            isolation, class, ..
        } = *self;
        Ok(Shell::make(&self.tender, isolation, class, self.simd)?)
    }

    /// A run whose data channel holds `feeds` already.
    pub(crate) fn run(&self, feeds: &[Feed]) -> Result<Run<'_>, Fault> {
        let (ours, theirs) = Channel::pair().map_err(Fault::system("make a channel"))?;
        for feed in feeds {
            ours.send(feed, &[], &[])?;
        }
        Ok(Run {
            function: self,
            ours,
            theirs,
        })
    }
}

/// A run that a shell can be sent.
#[derive(Debug)]
pub(crate) struct Run<'a> {
    function: &'a Function,
    ours: Channel,
    theirs: Channel,
}

impl Run<'_> {
    /// Sends it to `shell`.
    pub(crate) fn start(self, shell: &Shell) -> Result<Running<'_>, Fault> {
        let Function {
            start,
            params,
            template,
            ..
        } = self.function;
        shell.start(start, params, &self.theirs, template)?;
        Ok(Running {
            shell,
            data: self.ours,
        })
    }
}

/// A function at work.
#[derive(Debug)]
pub(crate) struct Running<'a> {
    shell: &'a Shell,
    data: Channel,
}

impl Running<'_> {
    /// Waits until the function has asked for its first event.
    pub(crate) fn ready(&self) -> Result<(), Fault> {
        report(self.shell, "become ready", |report, _| {
            matches!(report, TenderReport::Ready { .. }).then_some(())
        })
    }

    /// Waits until the function has answered.
    pub(crate) fn done(self) -> Result<Answer, Fault> {
        let answer = self.ended()?;
        match answer.ended.exit {
            Exit::Done => Ok(answer),
            exit => Err(Fault::Exit {
                expected: "done",
                exit: Box::new(exit),
            }),
        }
    }

    /// Waits until the function has ended, however it did.
    pub(crate) fn ended(self) -> Result<Answer, Fault> {
        report(self.shell, "end a run", |report, blob| match report {
            TenderReport::Ended(ended) => {
                let length = (ended.answer_bytes as usize).min(blob.len());
                let cbor = blob[..length].to_owned();
                Some(Answer {
                    ended: *ended,
                    cbor,
                })
            }
            _ => None,
        })
    }
}

/// How a run ended.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) ended: Ended,
    pub(crate) cbor: Vec<u8>,
}

impl Answer {
    /// The answer as JSON.
    pub(crate) fn value(&self) -> Result<Value, Fault> {
        fades_task::cbor::decode(&self.cbor)
            .map_err(|e| Fault::Meaningless(format!("an answer is no CBOR: {e}")))
    }
}

/// A function at rest, with the shell that is its own.
#[derive(Debug)]
pub(crate) struct Resting {
    shell: Shell,
    data: Channel,
}

impl Function {
    /// Starts it in a new shell and waits until it rests.
    pub(crate) fn rest(&self) -> Result<Resting, Fault> {
        let shell = self.shell()?;
        let running = self.run(&[])?.start(&shell)?;
        running.ready()?;
        let data = running.data;
        Ok(Resting { shell, data })
    }
}

impl Fed for Resting {
    fn data(&self) -> &Channel {
        &self.data
    }

    fn shell(&self) -> &Shell {
        &self.shell
    }
}

impl Fed for Running<'_> {
    fn data(&self) -> &Channel {
        &self.data
    }

    fn shell(&self) -> &Shell {
        self.shell
    }
}

/// A function that takes events.
pub(crate) trait Fed {
    /// The broker's end of its data channel.
    fn data(&self) -> &Channel;

    /// The shell in which it is.
    fn shell(&self) -> &Shell;

    /// Waits until it has answered for a window.
    fn answered(&self) -> Result<(), Fault> {
        report(self.shell(), "answer for a window", |report, _| {
            matches!(report, TenderReport::Window { .. }).then_some(())
        })
    }

    /// Sends an event, with a descriptor where it has one.
    fn feed(&self, feed: &Feed, file: Option<BorrowedFd<'_>>) -> Result<(), Fault> {
        let files: Vec<BorrowedFd<'_>> = file.into_iter().collect();
        Ok(self.data().send(feed, &[], &files)?)
    }

    /// Waits for what the tender says on the data channel.
    fn released(&self) -> Result<Release, Fault> {
        let deadline = Instant::now() + ANSWER_WITHIN;
        match self.data().receive(Some(deadline))? {
            Some(frame) => Ok(frame.message),
            None => Err(Fault::TenderGone("give a batch back")),
        }
    }
}

/// Waits until a shell whose function has answered is clean again; what the
/// reset took, microseconds.
pub(crate) fn clean(shell: &Shell) -> Result<u64, Fault> {
    report(shell, "clean itself", |report, _| match report {
        TenderReport::Clean { reset_us } => Some(reset_us),
        _ => None,
    })
}

/// Reads reports until `wanted` finds what it waits for. What belongs to
/// earlier states of the shell is passed over.
fn report<T>(
    shell: &Shell,
    doing: &'static str,
    mut wanted: impl FnMut(TenderReport, &[u8]) -> Option<T>,
) -> Result<T, Fault> {
    let deadline = Instant::now() + ANSWER_WITHIN;
    loop {
        let frame = shell.control().receive::<TenderReport>(Some(deadline))?;
        let Some(frame) = frame else {
            return Err(Fault::TenderGone(doing));
        };
        if let TenderReport::Refused(refused) = frame.message {
            return Err(Fault::Refused(refused));
        }
        if let Some(found) = wanted(frame.message, &frame.blob) {
            return Ok(found);
        }
    }
}
