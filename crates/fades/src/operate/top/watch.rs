//! What is told of the node, and by whoever sits before the screen.

use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::Duration;

use fades_orc::api::types::{NodeInfo, Resources, StreamNote, TaskList, TaskSummary};
use ratatui::crossterm::event::{self, Event, KeyEvent, KeyEventKind};
use serde::de::DeserializeOwned;
use tokio::signal::unix::{SignalKind, signal};

use super::model::News;
use crate::ask::client::Client;
use crate::ask::stream;
use crate::ask::target::Target;
use crate::problem::{Attempt, Problem};

/// The lists that are read: what is open, and what ended lately.
const LISTS: [(&str, u32); 5] = [
    ("running", 100),
    ("queued", 100),
    ("done", 60),
    ("failed", 30),
    ("cancelled", 10),
];

/// The node is asked about itself so often.
const NODE: Duration = Duration::from_secs(3);

/// Devices are asked for so often.
const DEVICES: Duration = Duration::from_secs(15);

/// Pauses between attempts to connect.
const PAUSES: [Duration; 4] = [
    Duration::from_millis(300),
    Duration::from_secs(1),
    Duration::from_secs(3),
    Duration::from_secs(10),
];

/// What happened.
#[derive(Debug)]
pub(super) enum Told {
    News(News),
    Key(KeyEvent),
    Resized,
    /// A signal asks for the end.
    End,
}

/// All that is known now, asked for once.
pub(super) fn once(client: &Client) -> Result<Vec<News>, Problem> {
    let lists = lists(client)?;
    let mut news = vec![News::Lists(lists)];
    // A broker that is being started has no devices to tell of.
    if let Ok(resources) = client.get::<Resources>("/v1/resources") {
        news.push(News::Devices(resources.devices));
    }
    Ok(news)
}

fn lists(client: &Client) -> Result<Vec<TaskSummary>, Problem> {
    let mut tasks = Vec::new();
    for (state, limit) in LISTS {
        let path = format!("/v1/tasks?state={state}&limit={limit}");
        tasks.extend(client.get::<TaskList>(&path)?.tasks);
    }
    Ok(tasks)
}

/// Threads that tell, until nobody listens.
pub(super) fn start(target: &Target) -> Result<Receiver<Told>, Problem> {
    let (sender, receiver) = channel();
    let follower = (Client::new(target.clone())?, sender.clone());
    let asker = (Client::new(target.clone())?, sender.clone());
    let lister = (Client::new(target.clone())?, sender.clone());
    let keys = sender.clone();
    std::thread::spawn(move || follow(&follower.0, &follower.1));
    std::thread::spawn(move || {
        let news = |node: NodeInfo| News::Node(Box::new(node));
        ask_again(&asker.0, &asker.1, ("/v1/node", NODE), news);
    });
    // On its own: the broker may take its time.
    std::thread::spawn(move || {
        let news = |resources: Resources| News::Devices(resources.devices);
        ask_again(&lister.0, &lister.1, ("/v1/resources", DEVICES), news);
    });
    std::thread::spawn(move || read_keys(&keys));
    wait_for_signals(sender)?;
    Ok(receiver)
}

/// Follows the events, and connects anew for as long as somebody listens.
fn follow(client: &Client, sender: &Sender<Told>) {
    let mut attempt = 0;
    loop {
        let ended = follow_once(client, sender, &mut attempt);
        let reason = match ended {
            Ok(()) => return,
            Err(problem) => problem.line(),
        };
        if sender.send(Told::News(News::Lost(reason))).is_err() {
            return;
        }
        std::thread::sleep(PAUSES[attempt.min(PAUSES.len() - 1)]);
        attempt += 1;
    }
}

/// Returns when nobody listens; a problem when the stream was lost.
fn follow_once(client: &Client, sender: &Sender<Told>, attempt: &mut usize) -> Result<(), Problem> {
    // Before the lists are asked for, so that nothing falls in between.
    let mut stream = client.watch("/v1/events")?;
    if tell(sender, News::Lists(lists(client)?)) {
        return Ok(());
    }
    *attempt = 0;
    while let Some(told) = stream.next()? {
        let Some(news) = understood(client, &told)? else {
            continue;
        };
        if tell(sender, news) {
            return Ok(());
        }
    }
    Err(client.lost())
}

fn understood(client: &Client, told: &stream::Told) -> Result<Option<News>, Problem> {
    Ok(match told.name.as_str() {
        "task" => Some(News::Task(Box::new(told.read()?))),
        "node" => Some(News::Health(told.read()?)),
        "missed" => Some(News::Lists(lists(client)?)),
        "end" => return Err(Problem::new(told.read::<StreamNote>()?.reason)),
        // A newer node tells more.
        _ => None,
    })
}

/// Whether nobody listens any more.
fn tell(sender: &Sender<Told>, news: News) -> bool {
    sender.send(Told::News(news)).is_err()
}

/// Asks for what has no events, again and again. What fails here fails for the
/// follower as well, who says so.
fn ask_again<T: DeserializeOwned>(
    client: &Client,
    sender: &Sender<Told>,
    (path, each): (&str, Duration),
    news: impl Fn(T) -> News,
) {
    loop {
        if let Ok(answer) = client.get::<T>(path)
            && tell(sender, news(answer))
        {
            return;
        }
        std::thread::sleep(each);
    }
}

fn read_keys(sender: &Sender<Told>) {
    while let Ok(event) = event::read() {
        let told = match event {
            Event::Key(key) if key.kind != KeyEventKind::Release => Told::Key(key),
            Event::Resize(..) => Told::Resized,
            _ => continue,
        };
        if sender.send(told).is_err() {
            return;
        }
    }
    // A terminal that cannot be read has gone.
    let _ = sender.send(Told::End);
}

/// Signals that would leave the terminal as it is drawn end it in order.
fn wait_for_signals(sender: Sender<Told>) -> Result<(), Problem> {
    let words = || "cannot wait for signals".to_owned();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .or_problem(words)?;
    let entered = runtime.enter();
    let kinds = [
        SignalKind::terminate(),
        SignalKind::hangup(),
        SignalKind::interrupt(),
    ];
    let [mut one, mut two, mut three] = kinds.map(signal);
    drop(entered);
    std::thread::spawn(move || {
        runtime.block_on(async {
            if let (Ok(one), Ok(two), Ok(three)) = (&mut one, &mut two, &mut three) {
                tokio::select! {
                    _ = one.recv() => {}
                    _ = two.recv() => {}
                    _ = three.recv() => {}
                }
            }
        });
        // Whoever listened may have ended.
        let _ = sender.send(Told::End);
    });
    Ok(())
}
