//! `mqtt`: messages of an MQTT broker into recorded readings.
//!
//! One connection publishes as fast as mosquitto takes it: numbers, of 100 devices
//! in turn. Timed is from before the first byte of that until the readings store of
//! a broker process whose source has `record` gives all of them to whoever asks; they
//! are on the disk at most a second later. Compared with `mosquitto_sub` of as many
//! messages of the same length to `/dev/null`, from the same first byte until it has
//! ended because it has them all. Both are connected and subscribed before. Once all
//! is said at most once (QoS 0), and once at least once (QoS 1), as recorded sources
//! ask for when nothing else is written.

use std::fs::File;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use fades_task::message::{BrokerReport, BrokerRequest};
use serde_json::json;

use super::Taken;
use crate::bench::{Bench, wait_until};
use crate::broker::Broker;
use crate::fault::Fault;
use crate::figure::{Aim, Figure};
use crate::turns::{in_turns, timed};

/// Devices that publish in turn.
const DEVICES: usize = 100;

/// How long the messages of a round may take, at the most.
const PATIENCE: Duration = Duration::from_secs(60);

/// How often the store is asked whether it has all of them.
const LOOK: Duration = Duration::from_millis(10);

/// Of the time that `mosquitto_sub` takes: 0.8 of its speed at least.
const AIM: f64 = 1.25;

pub(super) fn run(bench: &Bench, taken: &mut Taken) -> Result<(), Fault> {
    for (program, package) in [
        ("mosquitto", "mosquitto"),
        ("mosquitto_sub", "mosquitto-clients"),
    ] {
        if Command::new(program).arg("--help").output().is_err() {
            taken.skip("mqtt", &format!("no {program}; apt-get install {package}"));
            return Ok(());
        }
    }
    let messages = bench.either(200_000, 40_000);
    let folder = bench.subfolder("mqtt")?;
    let mosquitto = Mosquitto::start(&folder)?;
    for qos in [0, 1] {
        let flood = |place| Flood::new(&mosquitto, place, qos, messages);
        let (mut to_us, mut to_them) = (flood("ours")?, flood("them")?);
        let mut recording = Recording::start(bench, &mosquitto, &folder, qos)?;
        let each = |spent: f64| spent / messages as f64;
        let (ours, theirs) = in_turns(
            bench.rounds((15, 40), (3, 5)),
            || {
                let had = recording.readings()?;
                let (spent, done) = timed(|| {
                    to_us.publish()?;
                    recording.wait(had + messages as u64)
                });
                done.map(|()| each(spent))
            },
            || {
                let subscriber = Subscriber::start(&mosquitto, qos, messages)?;
                let (spent, done) = timed(|| {
                    to_them.publish()?;
                    subscriber.wait()
                });
                done.map(|()| each(spent))
            },
        )?;
        recording.stop()?;
        let figure = Figure::new(format!("a message, QoS {qos}"), None, "us", &ours);
        taken.add(figure.map(|f| {
            f.against("mosquitto_sub to /dev/null", &theirs)
                .aiming(Aim::Ratio(AIM))
        }));
    }
    Ok(())
}

struct Mosquitto {
    port: u16,
    child: Child,
    /// Where it says who subscribes.
    log: PathBuf,
}

impl Mosquitto {
    /// With its own defaults, but that it keeps whatever waits for a subscriber:
    /// nothing may be dropped.
    fn start(folder: &Path) -> Result<Self, Fault> {
        let listener = TcpListener::bind("127.0.0.1:0").and_then(|l| l.local_addr());
        let port = listener.map_err(Fault::system("find a port"))?.port();
        let (file, log) = (folder.join("mosquitto.conf"), folder.join("mosquitto.log"));
        let words = format!(
            "listener {port} 127.0.0.1\nallow_anonymous true\nuser root\n\
             max_queued_messages 0\nlog_dest stderr\nlog_type subscribe\n"
        );
        std::fs::write(&file, words).map_err(Fault::file(&file, "write"))?;
        let said = File::create(&log).map_err(Fault::file(&log, "write"))?;
        let child = Command::new("mosquitto")
            .arg("-c")
            .arg(&file)
            .stdout(Stdio::null())
            .stderr(said)
            .spawn()
            .map_err(Fault::system("start mosquitto"))?;
        let mosquitto = Self { port, child, log };
        let answers = || TcpStream::connect(("127.0.0.1", port)).is_ok();
        if !wait_until(PATIENCE, answers) {
            return Err(lost("mosquitto", "it does not take connections"));
        }
        Ok(mosquitto)
    }

    /// How many subscriptions it was asked for so far.
    fn subscriptions(&self, topics: &str) -> usize {
        let log = std::fs::read_to_string(&self.log).unwrap_or_default();
        log.lines().filter(|line| line.ends_with(topics)).count()
    }

    /// Waits until it was asked for a subscription after the first `had`.
    fn wait(&self, topics: &str, had: usize) -> Result<(), Fault> {
        match wait_until(PATIENCE, || self.subscriptions(topics) > had) {
            true => Ok(()),
            false => Err(lost("mosquitto", &format!("nobody asked for {topics}"))),
        }
    }
}

impl Drop for Mosquitto {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Somebody who publishes the same messages again and again.
struct Flood {
    stream: TcpStream,
    packets: Vec<u8>,
    /// Bytes of the answers that say that all have come.
    answers: usize,
}

impl Flood {
    fn new(mosquitto: &Mosquitto, place: &str, qos: u8, messages: usize) -> Result<Self, Fault> {
        let connect = || {
            let mut stream = TcpStream::connect(("127.0.0.1", mosquitto.port))?;
            let client = format!("{place}-{qos}");
            let length = u8::try_from(12 + client.len()).unwrap_or(u8::MAX);
            // CONNECT of MQTT 3.1.1 with a clean session, never asked whether it is there.
            let mut connect = vec![0x10, length, 0, 4, b'M', b'Q', b'T', b'T', 4, 2, 0, 0, 0];
            connect.push(length - 12);
            connect.extend(client.as_bytes());
            stream.write_all(&connect)?;
            let mut answer = [0; 4];
            stream.read_exact(&mut answer)?;
            Ok::<_, std::io::Error>(stream)
        };
        let mut packets = Vec::new();
        for i in 0..messages {
            let topic = format!("{place}/room-{}/temperature", i % DEVICES);
            // The store keeps one of those of a device that say the same at the same time.
            let value = format!("{}.5", 10_000 + i / DEVICES);
            packet(&mut packets, &topic, &value, qos, i);
        }
        Ok(Self {
            stream: connect().map_err(Fault::system("publish"))?,
            packets,
            answers: messages * 4 * usize::from(qos),
        })
    }

    /// Publishes everything, as fast as it is taken.
    fn publish(&mut self) -> Result<(), Fault> {
        let (mut left, mut answer) = (self.answers, vec![0; 64 << 10]);
        let both = self.stream.try_clone().and_then(|mut reader| {
            std::thread::scope(|scope| {
                // Answers must be taken, or nobody could go on.
                let taking = scope.spawn(move || {
                    while left > 0 {
                        let most = answer.len().min(left);
                        match reader.read(&mut answer[..most])? {
                            0 => return Err(std::io::ErrorKind::UnexpectedEof.into()),
                            n => left -= n,
                        }
                    }
                    Ok(())
                });
                self.stream.write_all(&self.packets)?;
                taking.join().unwrap_or(Ok(()))
            })
        });
        both.map_err(Fault::system("publish"))
    }
}

/// A PUBLISH shorter than 128 bytes.
fn packet(out: &mut Vec<u8>, topic: &str, value: &str, qos: u8, number: usize) {
    let id = (number % 0xffff + 1) as u16;
    let length = 2 + topic.len() + 2 * usize::from(qos) + value.len();
    out.extend([0x30 | qos << 1, length as u8, 0, topic.len() as u8]);
    out.extend(topic.as_bytes());
    if qos > 0 {
        out.extend(id.to_be_bytes());
    }
    out.extend(value.as_bytes());
}

/// A broker that records what is published at `ours/…`.
struct Recording(Broker);

impl Recording {
    fn start(bench: &Bench, mosquitto: &Mosquitto, folder: &Path, qos: u8) -> Result<Self, Fault> {
        let topics = "ours/+/+";
        let source = json!({ "hall": {
            "type": "mqtt", "url": format!("mqtt://127.0.0.1:{}", mosquitto.port),
            "topic": "ours/{device}/{kind}", "qos": qos, "record": { "keep": "1d" },
        } });
        let folder = folder.join(format!("qos-{qos}"));
        let had = mosquitto.subscriptions(topics);
        let broker = Broker::start(bench, &source, &folder, true)?;
        mosquitto.wait(topics, had)?;
        Ok(Self(broker))
    }

    /// Readings that the store has.
    fn readings(&mut self) -> Result<u64, Fault> {
        match self.0.ask(&BrokerRequest::Resources { id: 1 })? {
            BrokerReport::Resources { devices, .. } => {
                let series = devices.iter().flat_map(|d| &d.series);
                Ok(series.filter_map(|s| s.readings).sum())
            }
            other => Err(lost("the broker", &format!("{other:?}"))),
        }
    }

    fn wait(&mut self, until: u64) -> Result<(), Fault> {
        let mut found = 0;
        let begun = std::time::Instant::now();
        while begun.elapsed() < PATIENCE {
            found = self.readings()?;
            if found >= until {
                break;
            }
            std::thread::sleep(LOOK);
        }
        if found == until {
            return Ok(());
        }
        Err(Fault::Differs {
            what: "recorded readings".to_owned(),
            ours: found.to_string(),
            theirs: until.to_string(),
        })
    }

    fn stop(self) -> Result<(), Fault> {
        self.0.stop()
    }
}

/// `mosquitto_sub`, which ends after so many messages.
struct Subscriber(Child);

impl Subscriber {
    fn start(mosquitto: &Mosquitto, qos: u8, messages: usize) -> Result<Self, Fault> {
        let topics = "them/#";
        let had = mosquitto.subscriptions(topics);
        let child = Command::new("mosquitto_sub")
            .args(["-h", "127.0.0.1", "-p", &mosquitto.port.to_string()])
            .args(["-t", topics, "-q", &qos.to_string()])
            .args(["-C", &messages.to_string()])
            .stdout(Stdio::null())
            .spawn()
            .map_err(Fault::system("start mosquitto_sub"))?;
        let subscriber = Self(child);
        mosquitto.wait(topics, had)?;
        Ok(subscriber)
    }

    fn wait(mut self) -> Result<(), Fault> {
        let ended = self.0.wait().map_err(Fault::system("wait"))?;
        match ended.success() {
            true => Ok(()),
            false => Err(lost("mosquitto_sub", &ended.to_string())),
        }
    }
}

impl Drop for Subscriber {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn lost(program: &str, why: &str) -> Fault {
    Fault::Program {
        program: program.to_owned(),
        said: why.to_owned(),
    }
}
