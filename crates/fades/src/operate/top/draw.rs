//! What is on the screen.

use fades_orc::api::types::{TaskState, TaskSummary};
use fades_task::quantity::Duration;
use fades_task::result::Breakdown;
use fades_task::time::Time;
use ratatui::Frame;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::style::{Color, Modifier, Style};
use ratatui::text::{Line, Span};
use ratatui::widgets::{Block, Clear, Paragraph, Row, Table, TableState, Wrap};

use super::model::{Link, Model, word};
use super::screen::{Look, View};
use super::snapshot::{self, Cells};
use crate::ask::render::number::{micros, moment};
use crate::ask::render::table::visible;

/// The phases of a run: name, letter where there are no colours, colour.
const PHASES: [(&str, char, Color); 5] = [
    ("queue", 'q', Color::DarkGray),
    ("retrieve", 'r', Color::Blue),
    ("boot", 'b', Color::Yellow),
    ("transfer", 't', Color::Magenta),
    ("compute", 'c', Color::Green),
];

/// Columns of a bar.
const BAR: usize = 24;

const KEYS: [(&str, &str); 7] = [
    ("Tab, 1 2 3", "the next view, or one of them"),
    ("up down, j k", "the next row"),
    ("PgUp PgDn", "fifteen rows"),
    ("Home End", "the first and the last row"),
    ("?", "this list"),
    ("Esc", "ends this list, then the command"),
    ("q, Ctrl-C", "ends the command"),
];

/// Rows of a view.
pub(super) fn rows(model: &Model, view: View) -> usize {
    match view {
        View::Tasks => model.tasks().len(),
        View::Devices => model.devices.len(),
        View::Node => snapshot::findings(model).len(),
    }
}

pub(super) fn all(frame: &mut Frame<'_>, model: &Model, look: Look, now: Time) {
    // On a screen that has room for little, whose it is and its rows come first.
    let [head, tabs, foot] = match frame.area().height {
        0..10 => [1, 0, 0],
        _ => [2, 1, 2],
    };
    let parts = [
        Constraint::Length(head),
        Constraint::Length(tabs),
        Constraint::Min(0),
        Constraint::Length(foot),
    ];
    let [head, tabs, body, foot] = Layout::vertical(parts).areas(frame.area());
    frame.render_widget(Paragraph::new(header(model, look, now)), head);
    frame.render_widget(Paragraph::new(titles(look)), tabs);
    match look.view {
        View::Tasks => tasks(frame, body, model, look, now),
        View::Devices => devices(frame, body, model, look),
        View::Node => node(frame, body, model, look),
    }
    let words = Paragraph::new(footer(model, look, now)).wrap(Wrap { trim: true });
    frame.render_widget(words, foot);
    if look.help {
        help(frame);
    }
}

impl Look {
    /// A style in this colour, where there are colours.
    fn ink(self, colour: Color) -> Style {
        match self.colour {
            true => Style::new().fg(colour),
            false => Style::new(),
        }
    }
}

fn strong(text: impl Into<String>) -> Span<'static> {
    Span::styled(text.into(), Modifier::BOLD)
}

fn header(model: &Model, look: Look, now: Time) -> Vec<Line<'static>> {
    let node = &model.node;
    let link = match &model.link {
        Link::Waiting => Span::raw("connecting"),
        Link::Live => Span::styled("live", look.ink(Color::Green)),
        Link::Lost { since, reason } => Span::styled(
            format!("LOST {} ago: {}", age(*since, now), visible(reason)),
            look.ink(Color::Red).add_modifier(Modifier::BOLD),
        ),
    };
    let about = format!(" FADES {}, up {}  ", node.version, coarse(node.uptime));
    let first = Line::from(vec![strong(node.name.as_str()), Span::raw(about), link]);
    vec![first, Line::raw(snapshot::sums(model))]
}

fn titles(look: Look) -> Line<'static> {
    let mut spans = Vec::new();
    for (n, view) in View::ALL.into_iter().enumerate() {
        let text = format!(" {} {} ", n + 1, view.title());
        let style = match view == look.view {
            true => Style::new().add_modifier(Modifier::REVERSED),
            false => Style::new(),
        };
        spans.push(Span::styled(text, style));
        spans.push(Span::raw(" "));
    }
    spans.push(Span::styled("  ? keys  q end", Modifier::DIM));
    Line::from(spans)
}

/// A table with a marked row, scrolled so that it is seen.
fn table(frame: &mut Frame<'_>, area: Rect, look: Look, table: Table<'_>) {
    let marked = Style::new().add_modifier(Modifier::REVERSED);
    let mut state = TableState::new().with_selected(Some(look.row));
    let table = table.row_highlight_style(marked).column_spacing(2);
    frame.render_stateful_widget(table, area, &mut state);
}

fn headings(names: &[&'static str]) -> Row<'static> {
    Row::new(names.iter().map(|n| strong(*n)))
}

fn tasks(frame: &mut Frame<'_>, area: Rect, model: &Model, look: Look, now: Time) {
    let tasks = model.tasks();
    if tasks.is_empty() {
        frame.render_widget(Paragraph::new("no tasks yet"), area);
        return;
    }
    let rows = tasks.into_iter().map(|task| {
        let ended = task.breakdown.filter(|_| task.finished.is_some());
        Row::new([
            Line::styled(task.state.to_string(), look.ink(of_state(task.state))),
            Line::raw(task.name.to_string()),
            Line::raw(task.service.to_string()),
            Line::raw(task.function.name.to_string()),
            Line::raw(when(task)),
            Line::raw(snapshot::took(task, now)).right_aligned(),
            ended.map_or_else(Line::default, |b| bar(&b, look)),
        ])
    });
    let widths = [
        Constraint::Length(9),
        Constraint::Fill(3),
        Constraint::Fill(2),
        Constraint::Fill(2),
        Constraint::Length(8),
        Constraint::Length(12),
        Constraint::Length(BAR as u16),
    ];
    let names = [
        "STATE", "NAME", "SERVICE", "FUNCTION", "AT", "TOOK", "PHASES",
    ];
    table(
        frame,
        area,
        look,
        Table::new(rows, widths).header(headings(&names)),
    );
}

const fn of_state(state: TaskState) -> Color {
    match state {
        TaskState::Running => Color::Cyan,
        TaskState::Done => Color::Green,
        TaskState::Failed => Color::Red,
        TaskState::Standing | TaskState::Queued | TaskState::Cancelled => Color::Yellow,
    }
}

/// The time of day of the newest thing that happened to it.
fn when(task: &TaskSummary) -> String {
    let at = task.finished.or(task.started).unwrap_or(task.accepted);
    moment(at).chars().skip(11).take(8).collect()
}

/// Where its time went, as shares of a bar.
fn bar(breakdown: &Breakdown, look: Look) -> Line<'static> {
    let parts = snapshot::parts(breakdown);
    let all: u64 = parts.iter().sum::<u64>().max(1);
    let (mut spans, mut sum, mut drawn) = (Vec::new(), 0, 0);
    for (part, (_, letter, colour)) in parts.into_iter().zip(PHASES) {
        sum += part;
        // Each ends where its end is, so that the parts fill the bar.
        let end = (u128::from(sum) * BAR as u128 / u128::from(all)) as usize;
        let sign = if look.colour { '█' } else { letter };
        let text: String = std::iter::repeat_n(sign, end - drawn).collect();
        spans.push(Span::styled(text, look.ink(colour)));
        drawn = end;
    }
    Line::from(spans)
}

fn devices(frame: &mut Frame<'_>, area: Rect, model: &Model, look: Look) {
    if model.devices.is_empty() {
        let words = match model.devices_known {
            true => "the broker knows no device",
            false => "the broker has not said yet which devices there are",
        };
        frame.render_widget(Paragraph::new(words), area);
        return;
    }
    let rows = model.devices.iter().map(|device| {
        let word = word(device);
        let colour = match word {
            "alive" => Color::Green,
            "broken" | "failing" => Color::Red,
            "silent" => Color::Yellow,
            _ => Color::Reset,
        };
        let [_, cells @ ..] = snapshot::device(device);
        let cells = cells.into_iter().map(|c| Line::raw(visible(&c)));
        Row::new(std::iter::once(Line::styled(word, look.ink(colour))).chain(cells))
    });
    let widths = [
        Constraint::Length(11),
        Constraint::Fill(3),
        Constraint::Fill(2),
        Constraint::Fill(3),
        Constraint::Length(19),
        Constraint::Fill(4),
    ];
    let names = ["STATE", "DEVICE", "SOURCE", "LOCATION", "HEARD", "REMARKS"];
    table(
        frame,
        area,
        look,
        Table::new(rows, widths).header(headings(&names)),
    );
}

fn node(frame: &mut Frame<'_>, area: Rect, model: &Model, look: Look) {
    let rows = snapshot::findings(model).into_iter().map(|finding| {
        let (word, what, detail): Cells = finding;
        let colour = match word {
            "good" => Color::Green,
            "better" => Color::Yellow,
            _ => Color::Red,
        };
        Row::new([
            Line::styled(word, look.ink(colour)),
            Line::raw(what),
            Line::raw(visible(&detail)),
        ])
    });
    let widths = [
        Constraint::Length(8),
        Constraint::Length(12),
        Constraint::Fill(1),
    ];
    let names = ["STATE", "WHAT", "DETAIL"];
    table(
        frame,
        area,
        look,
        Table::new(rows, widths).header(headings(&names)),
    );
}

/// More of the row that is marked.
fn footer(model: &Model, look: Look, now: Time) -> Line<'static> {
    match look.view {
        View::Tasks => match model.tasks().get(look.row) {
            Some(task) => of_task(task, look, now),
            None => Line::default(),
        },
        View::Devices => {
            let device = model.devices.get(look.row);
            let kinds = device.map(|d| d.series.iter().map(|s| s.kind.as_str()));
            let kinds: Vec<&str> = kinds.into_iter().flatten().collect();
            Line::raw(visible(&kinds.join(", ")))
        }
        View::Node => {
            let finding = snapshot::findings(model).into_iter().nth(look.row);
            Line::raw(finding.map_or_else(String::new, |f| visible(&f.2)))
        }
    }
}

fn of_task(task: &TaskSummary, look: Look, now: Time) -> Line<'static> {
    let mut spans = vec![strong(task.id.as_str()), Span::raw(" ")];
    match (&task.failure, &task.breakdown) {
        (Some(failure), _) => {
            spans.push(Span::styled(visible(failure), look.ink(Color::Red)));
        }
        (None, Some(breakdown)) => {
            for (us, (name, letter, colour)) in snapshot::parts(breakdown).into_iter().zip(PHASES) {
                let sign = if look.colour { '█' } else { letter };
                spans.push(Span::styled(format!(" {sign}"), look.ink(colour)));
                spans.push(Span::raw(format!(" {name} {}", micros(us))));
            }
        }
        (None, None) => spans.push(Span::raw(format!(
            "attempt {}, signed by {}, accepted {} ago",
            task.attempts,
            task.signer,
            age(task.accepted, now)
        ))),
    }
    Line::from(spans)
}

fn help(frame: &mut Frame<'_>) {
    let whole = frame.area();
    let (wide, high) = (
        54.min(whole.width),
        (KEYS.len() as u16 + 2).min(whole.height),
    );
    let area = Rect {
        x: (whole.width - wide) / 2,
        y: (whole.height - high) / 2,
        width: wide,
        height: high,
    };
    let lines: Vec<Line<'_>> = KEYS
        .iter()
        .map(|(key, what)| Line::from(vec![strong(format!(" {key:<14}")), Span::raw(*what)]))
        .collect();
    frame.render_widget(Clear, area);
    frame.render_widget(
        Paragraph::new(lines).block(Block::bordered().title(" Keys ")),
        area,
    );
}

/// How long ago, in its largest unit or two.
pub(super) fn age(since: Time, now: Time) -> String {
    coarse(Duration(
        now.0.saturating_sub(since.0).max(0).unsigned_abs(),
    ))
}

fn coarse(time: Duration) -> String {
    let seconds = time.0 / 1_000_000_000;
    match seconds {
        0..60 => format!("{seconds} s"),
        60..3_600 => format!("{} min {} s", seconds / 60, seconds % 60),
        3_600..86_400 => format!("{} h {} min", seconds / 3_600, seconds % 3_600 / 60),
        _ => format!("{} d {} h", seconds / 86_400, seconds % 86_400 / 3_600),
    }
}
