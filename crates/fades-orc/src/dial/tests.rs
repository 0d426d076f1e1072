use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::AsFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use fades_task::dial::{Address, DialAnswer, DialFailure, DialRequest, Transport};
use fades_task::quantity;
use fades_wire::{Channel, Frame};
use rustix::net::sockopt::{Timeout, set_socket_timeout};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Metadata, Subscriber};

use super::{AT_ONCE, Dialler, Patience, first, patient, start};

fn soon() -> Option<Instant> {
    Some(Instant::now() + Duration::from_secs(60))
}

fn at(source: &str, host: &str, port: u16, transport: Transport) -> Address {
    Address::new(&source.parse().unwrap(), host, port, transport)
}

fn ask(channel: &Channel, id: u64, to: &Address) {
    let request = DialRequest {
        id,
        to: to.clone(),
        within: quantity::Duration::from_secs(20),
    };
    channel.send(&request, &[], &[]).unwrap();
}

fn answer(channel: &Channel) -> Frame<DialAnswer> {
    channel.receive(soon()).unwrap().unwrap()
}

fn failure(channel: &Channel, to: &Address) -> Option<DialFailure> {
    ask(channel, 7, to);
    let frame = answer(channel);
    assert_eq!(frame.message.id, 7);
    let connected = frame.message.failure.is_none();
    assert_eq!(frame.descriptors.len(), usize::from(connected));
    frame.message.failure
}

fn listener(host: &str) -> (TcpListener, u16) {
    let listener = TcpListener::bind((host, 0)).unwrap();
    let port = listener.local_addr().unwrap().port();
    (listener, port)
}

#[test]
fn a_configured_address_is_connected_and_no_other() {
    let (here, port) = listener("127.0.0.1");
    let (_there, other) = listener("127.0.0.1");
    let tcp = Transport::Tcp;
    let allowed = [
        at("a", "127.0.0.1", port, tcp),
        at("b", "127.0.0.1", other, tcp),
    ];
    let channel = start(&allowed).unwrap();
    ask(&channel, 1, &allowed[0]);
    let [made] = <[_; 1]>::try_from(answer(&channel).descriptors).unwrap();
    TcpStream::from(made).write_all(b"hello").unwrap();
    let mut said = [0; 5];
    here.accept().unwrap().0.read_exact(&mut said).unwrap();
    assert_eq!(&said, b"hello");
    for wrong in [
        at("a", "127.0.0.1", other, tcp),
        at("b", "127.0.0.1", port, tcp),
        at("a", "localhost", port, tcp),
        at("a", "127.0.0.1", port, Transport::Udp),
        at("c", "127.0.0.1", port, tcp),
    ] {
        let failure = failure(&channel, &wrong);
        assert_eq!(failure, Some(DialFailure::NotConfigured), "{wrong:?}");
    }
}

#[test]
fn of_several_addresses_the_first_that_works_is_taken() {
    let (gone, dead) = listener("127.0.0.1");
    drop(gone);
    let (_silent, _waiting, slow) = silent();
    let (_four, four) = listener("127.0.0.1");
    let (_six, six) = listener("::1");
    let at = |host: &str, port: u16| SocketAddr::new(host.parse().unwrap(), port);
    let tried = |addresses: &[SocketAddr]| {
        let deadline = Instant::now() + Duration::from_secs(10);
        let made = first(addresses, Transport::Tcp, deadline);
        made.map(|m| TcpStream::from(m).peer_addr().unwrap())
    };
    let [dead, slow] = [dead, slow].map(|port| at("127.0.0.1", port));
    let [four, six] = [at("127.0.0.1", four), at("::1", six)];
    assert_eq!(tried(&[dead, six, four]), Ok(six));
    assert_eq!(tried(&[slow, dead, four]), Ok(four));
    assert_eq!(tried(&[slow, dead]), Err(DialFailure::Refused));
    assert!(matches!(tried(&[]), Err(DialFailure::NoName(_))));
}

#[test]
fn names_and_both_families_and_datagrams_are_connected() {
    let (_four, port) = listener("127.0.0.1");
    let (_six, six) = listener("::1");
    let asked = UdpSocket::bind("127.0.0.1:0").unwrap();
    asked
        .set_read_timeout(Some(Duration::from_secs(60)))
        .unwrap();
    let udp = asked.local_addr().unwrap().port();
    let allowed = [
        at("s", "LocalHost", port, Transport::Tcp),
        at("s", "[::1]", six, Transport::Tcp),
        at("s", "127.0.0.1", udp, Transport::Udp),
    ];
    let channel = start(&allowed).unwrap();
    for to in &allowed[..2] {
        assert_eq!(failure(&channel, to), None, "{to:?}");
    }
    ask(&channel, 2, &allowed[2]);
    let [made] = <[_; 1]>::try_from(answer(&channel).descriptors).unwrap();
    UdpSocket::from(made).send(b"ask").unwrap();
    let mut said = [0; 8];
    assert_eq!(asked.recv(&mut said).unwrap(), 3);
}

#[test]
fn a_failure_says_what_failed() {
    let (gone, port) = listener("127.0.0.1");
    drop(gone);
    let allowed = [
        at("s", "127.0.0.1", port, Transport::Tcp),
        at("s", "no-such-host.invalid", 1, Transport::Tcp),
    ];
    let channel = start(&allowed).unwrap();
    assert_eq!(failure(&channel, &allowed[0]), Some(DialFailure::Refused));
    let nameless = failure(&channel, &allowed[1]);
    assert!(
        matches!(nameless, Some(DialFailure::NoName(_))),
        "{nameless:?}"
    );
    // A server that comes later is connected.
    let _listener = TcpListener::bind(("127.0.0.1", port)).unwrap();
    assert_eq!(failure(&channel, &allowed[0]), None);
}

/// A listener whose queue is full, so that connecting to it takes for ever.
fn silent() -> (TcpListener, Vec<TcpStream>, u16) {
    let (listener, port) = listener("127.0.0.1");
    rustix::net::listen(&listener, 0).unwrap();
    let address = listener.local_addr().unwrap();
    let mut waiting = Vec::new();
    while let Ok(stream) = TcpStream::connect_timeout(&address, Duration::from_millis(300)) {
        waiting.push(stream);
        assert!(waiting.len() < 64, "its queue has an end");
    }
    (listener, waiting, port)
}

#[test]
fn an_address_that_does_not_answer_holds_nobody_up() {
    let (_silent, _waiting, port) = silent();
    let (_here, open) = listener("127.0.0.1");
    let allowed = [
        at("slow", "127.0.0.1", port, Transport::Tcp),
        at("fast", "127.0.0.1", open, Transport::Tcp),
    ];
    let channel = start(&allowed).unwrap();
    let request = DialRequest {
        id: 1,
        to: allowed[0].clone(),
        within: quantity::Duration::from_secs(2),
    };
    channel.send(&request, &[], &[]).unwrap();
    ask(&channel, 2, &allowed[1]);
    let first = answer(&channel).message;
    assert_eq!((first.id, first.failure), (2, None));
    let second = answer(&channel).message;
    assert_eq!(
        (second.id, second.failure),
        (1, Some(DialFailure::TimedOut))
    );
}

#[test]
fn there_is_an_end_to_connections_at_once() {
    let (_silent, _waiting, port) = silent();
    let to = at("slow", "127.0.0.1", port, Transport::Tcp);
    let channel = start(std::slice::from_ref(&to)).unwrap();
    for id in 0..=AT_ONCE as u64 {
        ask(&channel, id, &to);
    }
    // Only what is too much is answered at once.
    let answer = answer(&channel).message;
    assert_eq!(answer.id, AT_ONCE as u64);
    assert_eq!(answer.failure, Some(DialFailure::Busy));
}

#[test]
fn what_is_no_request_ends_the_channel() {
    let channel = start(&[]).unwrap();
    channel.send(&"nonsense", &[], &[]).unwrap();
    assert!(channel.receive::<DialAnswer>(soon()).unwrap().is_none());
}

#[test]
fn no_connection_takes_longer_than_the_longest() {
    let whole = Patience::default();
    assert_eq!(whole.connect, Duration::from_secs(60));
    let (_silent, _waiting, port) = silent();
    let to = at("slow", "127.0.0.1", port, Transport::Tcp);
    let connect = Duration::from_millis(50);
    let channel = patient(std::slice::from_ref(&to), Patience { connect, ..whole }).unwrap();
    let request = DialRequest {
        id: 1,
        to,
        within: quantity::Duration::from_secs(40),
    };
    let begun = Instant::now();
    channel.send(&request, &[], &[]).unwrap();
    let answer = answer(&channel).message;
    assert_eq!(answer.failure, Some(DialFailure::TimedOut));
    assert!(begun.elapsed() < Duration::from_secs(30));
}

#[test]
fn a_broker_that_takes_no_answers_is_given_up() {
    let whole = Patience::default();
    assert_eq!(whole.send, Duration::from_secs(5));
    let send = Duration::from_millis(100);
    let channel = patient(&[], Patience { send, ..whole }).unwrap();
    let soon = Duration::from_secs(60);
    set_socket_timeout(channel.as_fd(), Timeout::Send, Some(soon)).unwrap();
    let request = DialRequest {
        id: 1,
        to: at("a", "127.0.0.1", 1, Transport::Tcp),
        within: quantity::Duration::from_secs(1),
    };
    let begun = Instant::now();
    // Nobody reads the answers.
    while channel.send(&request, &[], &[]).is_ok() {}
    assert!(begun.elapsed() < soon / 2);
}

/// Counts lines of the log.
struct Lines(Arc<AtomicU32>);

impl Subscriber for Lines {
    fn enabled(&self, _: &Metadata<'_>) -> bool {
        true
    }

    fn new_span(&self, _: &Attributes<'_>) -> Id {
        Id::from_u64(1)
    }

    fn record(&self, _: &Id, _: &Record<'_>) {}

    fn record_follows_from(&self, _: &Id, _: &Id) {}

    fn event(&self, _: &Event<'_>) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }

    fn enter(&self, _: &Id) {}

    fn exit(&self, _: &Id) {}
}

#[test]
fn the_first_twenty_refusals_are_logged() {
    let (here, _there) = Channel::pair().unwrap();
    let dialler = Dialler::new(&[], here, Patience::default());
    let lines: Arc<AtomicU32> = Arc::default();
    let to = at("a", "127.0.0.1", 1, Transport::Tcp);
    tracing::subscriber::with_default(Lines(Arc::clone(&lines)), || {
        (0..50).for_each(|_| dialler.refuse(&to));
    });
    assert_eq!(lines.load(Ordering::Relaxed), 20);
}
