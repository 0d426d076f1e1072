//! Who may connect, how safely, and brokers that misbehave.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::Command;
use std::time::Instant;

use fades_drb::config::Sources;

use super::mosquitto::{Mosquitto, certificates};
use super::{broker, hall, now, tested};
use crate::broker::{Broker, PATIENCE, sources};

#[test]
fn a_password_lets_in_and_a_wrong_one_is_said_without_being_shown() {
    let Some(mosquitto) = Mosquitto::prepare("mqtt_password") else {
        return;
    };
    let passwords = mosquitto.path("passwords");
    let made = Command::new("mosquitto_passwd")
        .args(["-b", "-c", &passwords, "fades", "right"])
        .status();
    assert!(made.unwrap().success());
    let mosquitto = mosquitto.configured(&format!("password_file {passwords}"));
    let secret = mosquitto.folder.path().join("secret");
    for version in ["3.1.1", "5"] {
        let options = format!(
            "version = \"{version}\"\nauth = {{ user = \"fades\", password-file = \"secret\" }}"
        );
        std::fs::write(&secret, "right\n").unwrap();
        let sources = hall(mosquitto.port, &options);
        let good = Broker::start(&sources, mosquitto.folder.path());
        let _ = tested(&good).unwrap();
        std::fs::write(&secret, "hunter2\n").unwrap();
        let bad = Broker::start(&sources, mosquitto.folder.path());
        let error = tested(&bad).unwrap_err();
        assert!(error.contains("the broker refuses the node"), "{error}");
        assert!(
            error.contains("auth.password-file") && !error.contains("hunter2"),
            "{error}"
        );
        // A secret is read whenever the source connects.
        std::fs::write(&secret, "right\n").unwrap();
        let _ = tested(&bad).unwrap();
        std::fs::remove_file(&secret).unwrap();
        let none = Broker::start(&sources, mosquitto.folder.path());
        let error = tested(&none).unwrap_err();
        assert!(
            error.contains("secret") && error.contains("No such file"),
            "{error}"
        );
    }
    let error = tested(&broker(&hall(mosquitto.port, ""))).unwrap_err();
    assert!(error.contains("the broker refuses the node"), "{error}");
}

fn secured(port: u16, host: &str, version: &str, tls: &str) -> Sources {
    sources(&format!(
        "[source.hall]\ntype = \"mqtt\"\nurl = \"mqtts://{host}:{port}\"\nversion = \"{version}\"\n\
         topic = \"site/{{location}}/{{device}}/{{kind}}\"\ntls = {{ {tls} }}"
    ))
}

#[test]
fn certificates_are_checked_on_both_sides() {
    let Some(mosquitto) = Mosquitto::prepare("mqtt_tls") else {
        return;
    };
    certificates(mosquitto.folder.path(), "localhost");
    let other = tempfile::tempdir().unwrap();
    certificates(other.path(), "localhost");
    let (ca, server, key) = ("ca.pem", "server.pem", "server.key");
    let [ca, server, key] = [ca, server, key].map(|f| mosquitto.path(f));
    let mosquitto = mosquitto.configured(&format!(
        "allow_anonymous true\ncafile {ca}\ncertfile {server}\nkeyfile {key}\nrequire_certificate true"
    ));
    let own = "certificate-file = \"client.pem\", key-file = \"client.key\"";
    let start = |host: &str, version: &str, tls: &str| {
        let sources = secured(mosquitto.port, host, version, tls);
        Broker::start(&sources, mosquitto.folder.path())
    };
    let whole = format!("ca-file = \"ca.pem\", {own}");
    for version in ["3.1.1", "5"] {
        let _ = tested(&start("localhost", version, &whole)).unwrap();
        let error = tested(&start("127.0.0.1", version, &whole)).unwrap_err();
        assert!(
            error.contains("not valid for name") && error.contains("url's host"),
            "{error}"
        );
        let others = format!("ca-file = \"{}/ca.pem\", {own}", other.path().display());
        let error = tested(&start("localhost", version, &others)).unwrap_err();
        assert!(
            error.contains("certificate") && error.contains("ca-file"),
            "{error}"
        );
        let error = tested(&start("localhost", version, "ca-file = \"ca.pem\"")).unwrap_err();
        assert!(error.contains("mqtts://localhost"), "{error}");
        let error = tested(&start("localhost", version, "ca-file = \"none.pem\"")).unwrap_err();
        assert!(
            error.contains("none.pem") && error.contains("No such file"),
            "{error}"
        );
    }
}

#[test]
fn over_tls_a_wrong_password_and_a_wrong_authority_are_told_apart() {
    let Some(mosquitto) = Mosquitto::prepare("mqtt_tls_password") else {
        return;
    };
    certificates(mosquitto.folder.path(), "localhost");
    let other = tempfile::tempdir().unwrap();
    certificates(other.path(), "localhost");
    let [ca, server, key, passwords] =
        ["ca.pem", "server.pem", "server.key", "passwords"].map(|f| mosquitto.path(f));
    let made = Command::new("mosquitto_passwd")
        .args(["-b", "-c", &passwords, "fades", "right"])
        .status();
    assert!(made.unwrap().success());
    let mosquitto = mosquitto.configured(&format!(
        "password_file {passwords}\ncafile {ca}\ncertfile {server}\nkeyfile {key}"
    ));
    for (file, secret) in [("right", "right\n"), ("wrong", "hunter2\n")] {
        std::fs::write(mosquitto.folder.path().join(file), secret).unwrap();
    }
    let others = other.path().join("ca.pem").display().to_string();
    let said = |version: &str, ca: &str, password: &str| {
        let tls = format!(
            "ca-file = \"{ca}\" }}\nauth = {{ user = \"fades\", password-file = \"{password}\""
        );
        let sources = secured(mosquitto.port, "localhost", version, &tls);
        tested(&Broker::start(&sources, mosquitto.folder.path())).map(drop)
    };
    for version in ["3.1.1", "5"] {
        assert_eq!(said(version, "ca.pem", "right"), Ok(()));
        let error = said(version, "ca.pem", "wrong").unwrap_err();
        assert!(
            error.contains("the broker refuses the node") && error.contains("auth.password-file"),
            "{error}"
        );
        assert!(
            !error.contains("certificate") && !error.contains("hunter2"),
            "{error}"
        );
        // Nobody is told a password before it is known who that is.
        for password in ["right", "wrong"] {
            let error = said(version, &others, password).unwrap_err();
            assert!(
                error.contains("certificate") && error.contains("ca-file"),
                "{error}"
            );
            assert!(!error.contains("refuses the node"), "{error}");
        }
    }
}

/// A broker of a few bytes: answers what is in `answers`, one for each packet.
fn impostor(answers: &'static [&'static [u8]]) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            std::thread::spawn(move || answer(stream.unwrap(), answers));
        }
    });
    port
}

fn answer(mut stream: TcpStream, answers: &[&[u8]]) {
    let mut buffer = [0; 4096];
    for bytes in answers {
        if stream.read(&mut buffer).unwrap_or(0) == 0 || stream.write_all(bytes).is_err() {
            return;
        }
    }
    // Silent from here on; an empty list of answers closes at once.
    while !answers.is_empty() && stream.read(&mut buffer).unwrap_or(0) > 0 {}
}

#[test]
fn brokers_that_misbehave_end_in_words_and_in_time() {
    const ACCEPTED: &[u8] = &[0x20, 2, 0, 0];
    let cases: [(&'static [&'static [u8]], &str); 6] = [
        (&[&[]], "no answer within 5 s"),
        (&[], "127.0.0.1"),
        (&[b"HTTP/1.1 400 Bad Request\r\n\r\n"], "127.0.0.1"),
        (&[&[0x20, 2, 0, 3]], "ServiceUnavailable"),
        (&[&[0x20, 0xff, 0xff, 0xff, 0x7f]], "127.0.0.1"),
        (
            &[ACCEPTED, &[0x90, 3, 0, 1, 0x80]],
            "does not give topic site/+/+/+",
        ),
    ];
    for (answers, words) in cases {
        let broker = broker(&hall(impostor(answers), ""));
        let start = Instant::now();
        let error = tested(&broker).unwrap_err();
        assert!(error.contains(words), "{words} in {error}");
        assert!(
            start.elapsed() < PATIENCE / 8,
            "{words}: {:?}",
            start.elapsed()
        );
        let (ended, _) = broker.run(&[now()]);
        assert!(ended.failure.is_some());
    }
}
