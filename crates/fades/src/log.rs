//! What a node and its parts write to standard error: lines of text or of
//! JSON, so many of each place in the program and no longer than so much, so
//! that what fails a thousand times in a second fills no disk.

pub(crate) mod recent;

use std::collections::HashMap;
use std::fmt;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use clap::ValueEnum;
use fades_outside::logging;
use fades_task::logging::LogLevel;
use tracing::callsite::Identifier;
use tracing::{Event, Subscriber};
use tracing_subscriber::Layer;
use tracing_subscriber::filter::{LevelFilter, filter_fn};
use tracing_subscriber::fmt::format::{Format, JsonFields, Writer};
use tracing_subscriber::fmt::time::{FormatTime, SystemTime};
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::util::SubscriberInitExt;

use self::recent::Tee;
use crate::problem::Problem;

/// Lines of one place in the program in each [`WINDOW`].
const LINES_MAX: u64 = 50;

const WINDOW: Duration = Duration::from_secs(10);

/// Longest line, bytes.
const LINE_MAX: usize = 8 << 10;

/// In which form lines are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub(crate) enum LogFormat {
    /// For people.
    #[default]
    Text,
    /// For programs: an object on each line.
    Json,
}

impl LogFormat {
    /// The word of the option.
    pub(crate) const fn word(self) -> &'static str {
        match self {
            Self::Text => "text",
            Self::Json => "json",
        }
    }
}

/// From now on, this process logs to standard error.
pub(crate) fn begin(level: LogLevel, format: LogFormat) -> Result<(), Problem> {
    logging::set(level);
    let layer = tracing_subscriber::fmt::layer()
        .with_writer(Tee::default)
        .with_ansi(false);
    let registry = tracing_subscriber::registry();
    let begun = match format {
        LogFormat::Text => {
            let text = layer.event_format(Bounded::new(Format::default().with_ansi(false), format));
            registry.with(text.with_filter(wanted())).try_init()
        }
        LogFormat::Json => {
            let json = layer
                .fmt_fields(JsonFields::new())
                .event_format(Bounded::new(Format::default().json(), format));
            registry.with(json.with_filter(wanted())).try_init()
        }
    };
    begun.map_err(|e| Problem::new("cannot log").reason(e.to_string()))
}

/// What the level lets pass, whatever it is at the moment.
fn wanted<S>() -> impl tracing_subscriber::layer::Filter<S> {
    filter_fn(|metadata| *metadata.level() <= filter(logging::level()))
}

const fn filter(level: LogLevel) -> LevelFilter {
    match level {
        LogLevel::Error => LevelFilter::ERROR,
        LogLevel::Warn => LevelFilter::WARN,
        LogLevel::Info => LevelFilter::INFO,
        LogLevel::Debug => LevelFilter::DEBUG,
    }
}

/// How many lines of each place were written lately.
#[derive(Debug)]
struct Windows<K> {
    windows: HashMap<K, Window>,
}

#[derive(Debug)]
struct Window {
    begun: Instant,
    written: u64,
    left_out: u64,
}

impl<K: std::hash::Hash + Eq + Clone> Windows<K> {
    fn new() -> Self {
        let windows = HashMap::new();
        Self { windows }
    }

    /// Whether a line of `place` may be written; if so, how many lines of which
    /// places were left out until now that nobody was told of.
    fn admit(&mut self, place: K, now: Instant) -> Option<Vec<(K, u64)>> {
        let is_over = |w: &Window| now.saturating_duration_since(w.begun) >= WINDOW;
        let window = self
            .windows
            .entry(place.clone())
            .or_insert(Window::new(now));
        if window.written >= LINES_MAX && !is_over(window) {
            window.left_out += 1;
            return None;
        }
        let mut over = Vec::new();
        self.windows.retain(|place, window| {
            if is_over(window) && window.left_out > 0 {
                over.push((place.clone(), window.left_out));
            }
            !is_over(window)
        });
        let window = self.windows.entry(place).or_insert(Window::new(now));
        window.written += 1;
        Some(over)
    }
}

impl Window {
    const fn new(begun: Instant) -> Self {
        Self {
            begun,
            written: 0,
            left_out: 0,
        }
    }
}

/// A place in the program that logs: its module and line are for people.
type Place = (Identifier, &'static str, u32);

/// A format that writes no more than it should.
struct Bounded<F> {
    inner: F,
    format: LogFormat,
    windows: Mutex<Windows<Place>>,
}

impl<F> Bounded<F> {
    fn new(inner: F, format: LogFormat) -> Self {
        let windows = Mutex::new(Windows::new());
        Self {
            inner,
            format,
            windows,
        }
    }

    /// A line of our own, in the form of the others.
    fn note(&self, writer: &mut Writer<'_>, target: &str, words: &str) -> fmt::Result {
        let mut time = String::new();
        SystemTime.format_time(&mut Writer::new(&mut time))?;
        match self.format {
            LogFormat::Text => writeln!(writer, "{time}  WARN {target}: {words}"),
            LogFormat::Json => {
                let line = serde_json::json!({
                    "timestamp": time, "level": "WARN",
                    "fields": { "message": words }, "target": target,
                });
                writeln!(writer, "{line}")
            }
        }
    }
}

impl<S, N, F> FormatEvent<S, N> for Bounded<F>
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
    F: FormatEvent<S, N>,
{
    fn format_event(
        &self,
        context: &FmtContext<'_, S, N>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        let metadata = event.metadata();
        let (target, line) = (metadata.target(), metadata.line().unwrap_or_default());
        let place = (metadata.callsite(), target, line);
        let mut windows = self.windows.lock().unwrap_or_else(PoisonError::into_inner);
        let admitted = windows.admit(place, Instant::now());
        drop(windows);
        let Some(over) = admitted else {
            return Ok(());
        };
        for ((_, target, line), left_out) in over {
            let words = format!("{left_out} lines were left out that {target}:{line} logged");
            self.note(&mut writer, target, &words)?;
        }
        let mut line = String::new();
        self.inner
            .format_event(context, Writer::new(&mut line), event)?;
        if line.len() <= LINE_MAX {
            return writer.write_str(&line);
        }
        let (length, end) = (line.len(), line.floor_char_boundary(LINE_MAX / 2));
        let words = format!("a line of {length} bytes, cut: {}", &line[..end]);
        self.note(&mut writer, target, words.trim_end())
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::sync::{Arc, Mutex};
    use std::time::Instant;

    use tracing_subscriber::fmt::format::{Format, JsonFields};
    use tracing_subscriber::layer::SubscriberExt;

    use super::{Bounded, LINE_MAX, LINES_MAX, LogFormat, WINDOW, Windows};

    #[derive(Clone, Default)]
    struct Written(Arc<Mutex<Vec<u8>>>);

    impl Write for Written {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    /// What `work` logs.
    fn logged(format: LogFormat, work: impl FnOnce()) -> String {
        let written = Written::default();
        let writer = written.clone();
        let layer = tracing_subscriber::fmt::layer()
            .with_writer(move || writer.clone())
            .with_ansi(false);
        match format {
            LogFormat::Text => {
                let inner = Format::default().with_ansi(false);
                let layer = layer.event_format(Bounded::new(inner, format));
                let registry = tracing_subscriber::registry().with(layer);
                tracing::subscriber::with_default(registry, work);
            }
            LogFormat::Json => {
                let layer = layer
                    .fmt_fields(JsonFields::new())
                    .event_format(Bounded::new(Format::default().json(), format));
                let registry = tracing_subscriber::registry().with(layer);
                tracing::subscriber::with_default(registry, work);
            }
        }
        String::from_utf8(written.0.lock().unwrap().clone()).unwrap()
    }

    #[test]
    fn a_flood_from_one_place_is_cut_and_others_are_heard() {
        for format in [LogFormat::Text, LogFormat::Json] {
            let text = logged(format, || {
                for n in 0..10_000 {
                    tracing::warn!(n, "the source fails");
                    if n % 1_000 == 0 {
                        tracing::warn!("something else");
                    }
                }
            });
            let count = |words| text.matches(words).count() as u64;
            assert_eq!(
                (count("the source fails"), count("something else")),
                (LINES_MAX, 10)
            );
        }
    }

    #[test]
    fn whoever_logs_next_says_how_many_were_left_out() {
        let (mut windows, begun) = (Windows::new(), Instant::now());
        let admitted = (0..1_000).filter(|_| windows.admit("a", begun).is_some());
        assert_eq!(admitted.count() as u64, LINES_MAX);
        assert_eq!(windows.admit("b", begun), Some(vec![]));
        let left_out = vec![("a", 1_000 - LINES_MAX)];
        assert_eq!(windows.admit("b", begun + WINDOW), Some(left_out));
        assert_eq!(windows.admit("a", begun + WINDOW), Some(vec![]));
        let again = (0..1_000).filter(|_| windows.admit("a", begun + WINDOW).is_some());
        assert_eq!(again.count() as u64, LINES_MAX - 1);
    }

    #[test]
    fn a_line_has_a_length() {
        let text = logged(LogFormat::Text, || {
            tracing::warn!("{}", "ö".repeat(100_000))
        });
        assert!(
            text.len() <= LINE_MAX && text.contains("bytes, cut"),
            "{}",
            text.len()
        );
        let json = logged(LogFormat::Json, || {
            tracing::warn!(x = "\"\n".repeat(100_000), "long");
            tracing::warn!(x = 1, "short");
        });
        for line in json.lines() {
            let line: serde_json::Value = serde_json::from_str(line).unwrap();
            assert_eq!(line["level"], "WARN", "{line}");
            assert!(line["timestamp"].is_string() && line["fields"]["message"].is_string());
        }
        assert_eq!(json.lines().count(), 2);
    }
}
