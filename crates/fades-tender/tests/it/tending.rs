//! Starting a tender and playing the orchestrator's and the broker's part.

use std::fs::File;
use std::io::Write;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::time::{Duration, Instant};

use fades_abi::batch::{Draft, SeriesSpec, encoded_length, order};
use fades_task::limits::{Isolation, Limits};
use fades_task::message::{Ended, Feed, Refused, Release, Start, TenderReport};
use fades_wire::Channel;
use fades_wire::spawn::{Child, Program};
use serde_json::Value;

/// No test waits longer than this for anything.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

pub(crate) fn soon() -> Option<Instant> {
    Some(Instant::now() + PATIENCE)
}

/// A tender that has been told what to run.
pub(crate) struct Tending {
    pub(crate) child: Child,
    pub(crate) control: Channel,
    pub(crate) data: Channel,
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

pub(crate) fn start(isolation: Isolation) -> Start {
    Start {
        isolation,
        simd: fades_abi::boot::simd::AVX512,
        limits: Limits::default(),
        zone: "UTC".to_owned(),
        offsets: vec![(i64::MIN, 0)],
        dtos: vec!["data".parse().unwrap()],
        symbols: None,
    }
}

impl Tending {
    pub(crate) fn begin(image: &Path, start: &Start, params: &Value) -> Self {
        Self::begin_with(
            File::open(image).unwrap(),
            start,
            &fades_task::cbor::encode(params),
        )
    }

    pub(crate) fn begin_with(image: File, start: &Start, params: &[u8]) -> Self {
        let (control, theirs) = Channel::pair().unwrap();
        let (data, their_data) = Channel::pair().unwrap();
        let child = Program::new(&tender())
            .descriptor(theirs.as_fd())
            .descriptor(their_data.as_fd())
            .descriptor(image.as_fd())
            .spawn()
            .unwrap();
        control.send(start, params, &[]).unwrap();
        Self {
            child,
            control,
            data,
        }
    }

    pub(crate) fn feed(&self, feed: &Feed) {
        self.data.send(feed, &[], &[]).unwrap();
    }

    pub(crate) fn feed_batch(&self, batch: &OwnedFd) {
        let length = rustix::fs::fstat(batch).unwrap().st_size as u64;
        self.data
            .send(&Feed::Batch { dto: 0, length }, &[], &[batch.as_fd()])
            .unwrap();
    }

    /// Reads reports until the last one, then what the broker was told; the
    /// tender must have survived and ended well.
    pub(crate) fn outcome(mut self) -> Outcome {
        let mut outcome = Outcome {
            ready: None,
            logs: Vec::new(),
            end: Err(Refused::Image {
                reason: "the tender said nothing".to_owned(),
            }),
            values: Vec::new(),
            readings: Vec::new(),
            releases: Vec::new(),
        };
        loop {
            let frame = self.control.receive::<TenderReport>(soon()).unwrap();
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
            }
        }
        let status = self.child.wait(soon()).unwrap().expect("the tender ends");
        assert!(status.success(), "the tender ended with {status}");
        while let Some(frame) = self.data.receive::<Release>(soon()).unwrap() {
            outcome.releases.push((frame.message, frame.blob));
        }
        outcome
    }
}

impl Outcome {
    /// The end of a function that was started.
    pub(crate) fn ended(&self) -> &Ended {
        self.end.as_ref().expect("the tender refused")
    }

    pub(crate) fn answer(&self) -> Value {
        assert_eq!(self.ended().exit, fades_task::exit::Exit::Done);
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
    let mut words = vec![0_u64; used.next_multiple_of(2 << 20) / 8];
    let bytes = zerocopy::IntoBytes::as_mut_bytes(words.as_mut_slice());
    let draft = Draft::new(bytes, dto, 0, order::SERIES, &series, false).unwrap();
    draft.value.copy_from_slice(values);
    for (time, at) in draft.time.iter_mut().zip(0_i64..) {
        *time = at * 1_000_000_000;
    }
    read_only(bytes)
}

/// A file with these bytes, opened for reading only.
pub(crate) fn read_only(bytes: &[u8]) -> OwnedFd {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(bytes).unwrap();
    File::open(file.path()).unwrap().into()
}
