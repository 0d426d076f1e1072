//! Deliveries by MQTT.

use std::io::Read;
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::node::{Node, PATIENCE, folder};

struct Mosquitto {
    port: u16,
    child: Child,
    folder: tempfile::TempDir,
}

fn is_there(program: &str, test: &str) -> bool {
    let found = Command::new(program)
        .arg("-h")
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status();
    if found.is_err() {
        println!("SKIPPED: {test}: no {program}; apt-get install mosquitto mosquitto-clients");
    }
    found.is_ok()
}

impl Mosquitto {
    fn start(test: &str, lines: &str) -> Option<Self> {
        if !is_there("mosquitto", test) || !is_there("mosquitto_sub", test) {
            return None;
        }
        let folder = tempfile::tempdir().unwrap();
        certificates(folder.path(), "127.0.0.1");
        let lines = lines.replace("FOLDER", folder.path().to_str().unwrap());
        std::fs::write(
            folder.path().join("acl"),
            "topic write allowed/#\ntopic read #\n",
        )
        .unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        drop(listener);
        let file = folder.path().join("m.conf");
        std::fs::write(
            &file,
            format!("listener {port} 127.0.0.1\nuser root\n{lines}\n"),
        )
        .unwrap();
        let child = Command::new("mosquitto")
            .args(["-c", file.to_str().unwrap()])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let deadline = Instant::now() + PATIENCE;
        while TcpStream::connect(("127.0.0.1", port)).is_err() {
            assert!(Instant::now() < deadline, "mosquitto does not start");
            std::thread::sleep(Duration::from_millis(5));
        }
        Some(Self {
            port,
            child,
            folder,
        })
    }

    /// Who listens to everything, and says each topic and payload in a line.
    fn listener(&self) -> Child {
        let port = self.port.to_string();
        let child = Command::new("mosquitto_sub")
            .args([
                "-V",
                "5",
                "-h",
                "127.0.0.1",
                "-p",
                &port,
                "-t",
                "#",
                "-q",
                "1",
            ])
            .args(["-F", "%t %q %r %C %p", "-C", "2", "-W", "50"])
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        std::thread::sleep(Duration::from_secs(1));
        child
    }
}

impl Drop for Mosquitto {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Certificates: of an authority, of a server for `name`, of a client.
pub(crate) fn certificates(folder: &Path, name: &str) {
    use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
    let write = |file: &str, text: String| std::fs::write(folder.join(file), text).unwrap();
    let key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::new(vec![]).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    write("ca.pem", params.self_signed(&key).unwrap().pem());
    let authority = Issuer::new(params, key);
    for (file, name) in [("server", name), ("client", "node")] {
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new(vec![name.to_owned()]).unwrap();
        let certificate = params.signed_by(&key, &authority).unwrap();
        write(&format!("{file}.pem"), certificate.pem());
        write(&format!("{file}.key"), key.serialize_pem());
    }
}

fn to(name: &str, url: &str, more: &str) -> String {
    format!("[destination.{name}]\nurl = \"{url}\"\ntimeout = \"20s\"\n{more}\n")
}

#[test]
fn events_are_published_at_least_once_in_both_versions() {
    let test = "MQTT destinations";
    let Some(mosquitto) = Mosquitto::start(test, "allow_anonymous true") else {
        return;
    };
    let url = format!("mqtt://127.0.0.1:{}", mosquitto.port);
    let topic = "topic = \"f/{node}/{service}/{name}/{task}\"";
    let tables = to("five", &url, topic) + &to("three", &url, "topic = \"x\"\nversion = \"3.1.1\"");
    let mut listener = mosquitto.listener();
    let mut node = Node::start(&tables);
    for (parcel, name) in [(1, "five"), (2, "three")] {
        node.deliver(parcel, &format!("destination.{name}"), b"{\"n\": 1}");
        node.outcome(parcel).unwrap();
    }
    let mut heard = String::new();
    listener
        .stdout
        .take()
        .unwrap()
        .read_to_string(&mut heard)
        .unwrap();
    listener.wait().unwrap();
    assert_eq!(
        heard,
        "f/harbour-07/city-air/aberdeen-air/0a1b 1 0 application/cloudevents+json {\"n\": 1}\n\
         x 1 0  {\"n\": 1}\n"
    );
}

#[test]
fn what_the_broker_does_not_take_is_not_delivered() {
    let test = "MQTT refusals";
    let lines = "allow_anonymous true\nacl_file FOLDER/acl\nmax_packet_size 4096";
    let Some(mosquitto) = Mosquitto::start(test, lines) else {
        return;
    };
    let url = format!("mqtt://127.0.0.1:{}", mosquitto.port);
    let tables =
        to("no", &url, "topic = \"forbidden\"") + &to("yes", &url, "topic = \"allowed/x\"");
    let mut node = Node::start(&tables);
    node.deliver(1, "destination.no", b"{}");
    let why = node.outcome(1).unwrap_err();
    assert!(
        !why.refused && why.reason.contains("access list"),
        "{why:?}"
    );
    assert!(why.reason.starts_with(&url), "{why:?}");
    node.deliver(2, "destination.yes", b"{}");
    node.outcome(2).unwrap();
    node.deliver(3, "destination.yes", &[b'x'; 5000]);
    let why = node.outcome(3).unwrap_err();
    assert!(
        why.refused && why.reason.contains("takes 4096 bytes"),
        "{why:?}"
    );
}

#[test]
fn a_broker_that_must_be_trusted_and_wants_a_user_gets_both() {
    let test = "MQTT with TLS and a password";
    let lines = "allow_anonymous false\npassword_file FOLDER/users\ncafile FOLDER/ca.pem\n\
                 certfile FOLDER/server.pem\nkeyfile FOLDER/server.key";
    if !is_there("mosquitto_passwd", test) {
        return;
    }
    // It is read when the broker starts.
    let users = tempfile::tempdir().unwrap();
    let file = users.path().join("users");
    let made = Command::new("mosquitto_passwd")
        .args(["-b", "-c", file.to_str().unwrap(), "u", "hunter2"])
        .status();
    assert!(made.unwrap().success());
    let lines = lines.replace("FOLDER/users", file.to_str().unwrap());
    let Some(mosquitto) = Mosquitto::start(test, &lines) else {
        return;
    };
    let folder = folder();
    std::fs::copy(
        mosquitto.folder.path().join("ca.pem"),
        folder.path().join("ca.pem"),
    )
    .unwrap();
    std::fs::write(folder.path().join("wrong"), "hunter3").unwrap();
    let url = format!("mqtts://127.0.0.1:{}", mosquitto.port);
    let with = |file: &str, more: &str| {
        format!("topic = \"x\"\nauth = {{ user = \"u\", password-file = \"{file}\" }}\n{more}")
    };
    let ca = "ca-file = \"ca.pem\"";
    let tables = [
        to("good", &url, &with("token", ca)),
        to(
            "old",
            &url,
            &with("token", &format!("{ca}\nversion = \"3.1.1\"")),
        ),
        to("wrong", &url, &with("wrong", ca)),
        to("web", &url, &with("token", "")),
        to("none", &url, &with("nothing", ca)),
    ];
    let mut node = Node::start_in(folder, &tables.concat());
    for (parcel, name, words) in [
        (1, "good", ""),
        (2, "old", ""),
        (3, "wrong", "not authorised"),
        (4, "web", "ca-file"),
        (5, "none", "nothing cannot be read"),
    ] {
        node.deliver(parcel, &format!("destination.{name}"), b"{}");
        match (node.outcome(parcel), words) {
            (Ok(()), "") => {}
            (Ok(()), _) => panic!("{name}: delivered"),
            (Err(why), words) => {
                assert!(
                    !words.is_empty() && why.reason.contains(words),
                    "{name}: {why:?}"
                );
                assert!(
                    !why.refused && !why.reason.contains("hunter"),
                    "{name}: {why:?}"
                );
            }
        }
    }
}

#[test]
fn without_an_acknowledgement_nothing_is_delivered() {
    // Takes connections and says nothing.
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let silent = format!("mqtt://{}", listener.local_addr().unwrap());
    // Lets clients in and acknowledges nothing, in MQTT 3.1.1.
    let greeter = TcpListener::bind("127.0.0.1:0").unwrap();
    let greets = format!("mqtt://{}", greeter.local_addr().unwrap());
    std::thread::spawn(move || {
        for mut stream in greeter.incoming().flatten() {
            std::thread::spawn(move || {
                use std::io::Write;
                stream.write_all(&[0x20, 2, 0, 0]).unwrap();
                let _ = stream.read_to_end(&mut Vec::new());
            });
        }
    });
    let more = "topic = \"x\"\nversion = \"3.1.1\"";
    let short = |name: &str, url: &str| to(name, url, more).replace("20s", "2s");
    let tables =
        short("silent", &silent) + &short("greets", &greets) + &short("gone", "mqtt://127.0.0.1:1");
    let mut node = Node::start(&tables);
    for (parcel, name, words) in [
        (1, "silent", "within"),
        (2, "greets", "no acknowledgement within 2 s"),
        (3, "gone", "refused"),
    ] {
        node.deliver(parcel, &format!("destination.{name}"), b"{}");
        let why = node.outcome(parcel).unwrap_err();
        assert!(
            !why.refused && why.reason.contains(words),
            "{name}: {why:?}"
        );
    }
}

#[test]
fn deliveries_under_one_name_do_not_end_each_other() {
    let Some(mosquitto) = Mosquitto::start("MQTT client-id", "allow_anonymous true") else {
        return;
    };
    let url = format!("mqtt://127.0.0.1:{}", mosquitto.port);
    let mut node = Node::start(&to("a", &url, "topic = \"x\"\nclient-id = \"harbour\""));
    for parcel in 0..12 {
        node.deliver(parcel, "destination.a", b"{}");
    }
    for parcel in 0..12 {
        node.outcome(parcel).unwrap();
    }
}
