//! Secrets are shown nowhere: some are planted, everything that could show them is
//! provoked, and all that the programs say is searched.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;

use crate::stage::{Stage, can_run};

/// Every secret begins so, and nothing else has this in it.
const PLANTED: &str = "planted-";

/// The user that has passwords.
const USER: &str = "fades";

/// What is shown and no secret: a search that works finds it.
const SHOWN: &str = "known-device";

/// Answers every connection by `answer`; the port.
fn server(answer: impl Fn(TcpStream) -> Option<()> + Copy + Send + 'static) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            std::thread::spawn(move || answer(stream.unwrap()));
        }
    });
    port
}

/// A web server that repeats what it was told: in a refusal, in an answer that is
/// none, in one that ends too early.
fn repeats(stream: TcpStream) -> Option<()> {
    let mut lines = BufReader::new(stream.try_clone().ok()?).lines();
    let first = lines.next()?.ok()?;
    let mut told = String::new();
    loop {
        let line = lines.next()?.ok()?;
        if line.is_empty() {
            break;
        }
        if line.to_ascii_lowercase().starts_with("authorization") {
            told = line;
        }
    }
    let (status, length) = match first {
        f if f.contains("/garbage") => ("200 OK", told.len()),
        f if f.contains("/cut") => ("200 OK", told.len() + 100),
        f if f.contains("/broken") => ("500 Broken", told.len()),
        _ => ("401 Unauthorized", told.len()),
    };
    write!(
        &stream,
        "HTTP/1.1 {status}\r\nConnection: close\r\nContent-Length: {length}\r\n\r\n{told}"
    )
    .ok()
}

/// An MQTT broker that lets nobody in.
fn refuses(mut stream: TcpStream) -> Option<()> {
    let mut bytes = [0; 1024];
    let length = stream.read(&mut bytes).ok()?;
    // The version follows the protocol's name.
    let is_five = bytes[..length].windows(5).any(|w| w == b"MQTT\x05");
    let refusal: &[u8] = match is_five {
        true => &[0x20, 3, 0, 0x86, 0],
        false => &[0x20, 2, 0, 4],
    };
    stream.write_all(refusal).ok()?;
    // It may say more; nobody listens.
    let _ = stream.read(&mut bytes);
    Some(())
}

fn stage() -> (Stage, Vec<&'static str>) {
    let stage = Stage::with_node();
    let secret = |name: &str| format!("{PLANTED}{name}-5f1c9\n");
    for name in ["password", "token", "header"] {
        stage.write(&format!("fades-node/secrets/{name}"), secret(name));
    }
    stage.write("credentials/credential", secret("credential"));
    let bytes = [secret("bytes").as_bytes(), b"\xff"].concat();
    stage.write("fades-node/secrets/bytes", bytes);
    stage.write("fades-node/secrets/control", format!("{PLANTED}\u{1}x"));
    let key = format!("-----BEGIN PRIVATE KEY-----\n{PLANTED}key\n");
    stage.write("fades-node/secrets/key", key);
    stage.write("fades-node/secrets/folder/none", "");
    let (web, mqtt) = (server(repeats), server(refuses));
    let free = TcpListener::bind("127.0.0.1:0").unwrap();
    let absent = free.local_addr().unwrap().port();
    drop(free);
    let mut config = "[node]\nname = \"here\"\nmemory = \"64MiB\"\n".to_owned();
    let mut names = Vec::new();
    let mut add = |name: &'static str, text: String| {
        names.push(name);
        config += &format!("[source.{name}]\n{text}\n");
    };
    let http = |url: String, auth: &str| {
        format!(
            "type = \"http\"\nurl = \"{url}\"\ndevice = \"{SHOWN}\"\nkind = \"t\"\nvalue = \"/v\"\nauth = {auth}"
        )
    };
    let token = |file: &str| format!("{{ token-file = \"{file}\" }}");
    let password = format!("{{ user = \"{USER}\", password-file = \"secrets/password\" }}");
    let at = |path: &str| format!("http://127.0.0.1:{web}/{path}");
    for path in ["refused", "garbage", "cut", "broken"] {
        add(path, http(at(path), &token("secrets/token")));
    }
    add("basic", http(at("refused"), &password));
    add("credential", http(at("refused"), &token("credential")));
    add(
        "absent",
        http(format!("http://127.0.0.1:{absent}/"), &password),
    );
    add(
        "insecure",
        http(format!("https://127.0.0.1:{web}/"), &password),
    );
    for file in ["bytes", "control", "folder", "nowhere"] {
        add(
            file,
            http(at("refused"), &token(&format!("secrets/{file}"))),
        );
    }
    let tls = "tls = { certificate-file = \"secrets/token\", key-file = \"secrets/key\" }";
    let secured = http(format!("https://127.0.0.1:{web}/"), &password);
    add("key", format!("{secured}\n{tls}"));
    let tls = "tls = { ca-file = \"secrets/key\", certificate-file = \"secrets/key\", key-file = \"secrets/key\" }";
    let hall = |url: String, rest: &str| {
        format!(
            "type = \"mqtt\"\nurl = \"{url}\"\ntopic = \"{{device}}/{{kind}}\"\nauth = {password}\n{rest}"
        )
    };
    add("mqtt", hall(format!("mqtt://127.0.0.1:{mqtt}"), ""));
    add(
        "mqtt5",
        hall(format!("mqtt://127.0.0.1:{mqtt}"), "version = \"5\""),
    );
    add("mqtts", hall(format!("mqtts://127.0.0.1:{mqtt}"), tls));
    let influx = "type = \"influx\"\nmeasurement = \"m\"\nmap = { device = \"d\" }";
    let url = format!("url = \"http://127.0.0.1:{web}\"");
    add(
        "influx",
        format!("{influx}\n{url}\ndatabase = \"d\"\nauth = {password}"),
    );
    let auth = token("secrets/token");
    add(
        "influx2",
        format!("{influx}\n{url}\nversion = 2\norg = \"o\"\nbucket = \"b\"\nauth = {auth}"),
    );
    stage.write("fades-node/node.toml", config);
    (stage, names)
}

/// Everything that is in the support file.
fn unpacked(stage: &Stage) -> String {
    let file = std::fs::File::open(stage.home().join("support.tar.gz")).unwrap();
    let mut archive = tar::Archive::new(flate2::read::GzDecoder::new(file));
    let mut all = String::new();
    for entry in archive.entries().unwrap() {
        entry.unwrap().read_to_string(&mut all).unwrap();
    }
    all
}

/// The forms in which a secret could be shown.
fn needles() -> Vec<String> {
    let list: Vec<String> = PLANTED.bytes().map(|b| b.to_string()).collect();
    let hex = |separator: &str| {
        let bytes: Vec<String> = PLANTED.bytes().map(|b| format!("{b:02x}")).collect();
        bytes.join(separator)
    };
    // Whole groups of three bytes: what follows changes nothing before it.
    let basic = BASE64_STANDARD.encode(format!("{USER}:{PLANTED}"));
    let alone = BASE64_STANDARD.encode(PLANTED);
    vec![
        PLANTED.to_owned(),
        list.join(", "),
        hex(""),
        hex(" "),
        basic[..16].to_owned(),
        alone[..8].to_owned(),
    ]
}

#[test]
fn a_secret_is_in_nothing_that_is_said() {
    if !can_run("a_secret_is_in_nothing_that_is_said") {
        return;
    }
    let (stage, names) = stage();
    let credentials = stage.home().join("credentials");
    let variables = [("CREDENTIALS_DIRECTORY", credentials.as_path())];
    let (node, log) = stage.node_logged(&["--log", "debug"], &variables).unwrap();
    stage.publish(&["summary"]);
    let mut said: Vec<(String, String)> = Vec::new();
    let mut run = |words: &[&str]| {
        let ended = stage.run(words);
        said.push((words.join(" "), format!("{}{}", ended.out, ended.err)));
        ended
    };
    for name in &names {
        let ended = run(&["source", "test", name]);
        assert_ne!(ended.out.len() + ended.err.len(), 0, "{name}");
        run(&["source", "test", name, "-o", "json"]);
        let task = format!("{name}.toml");
        let text = format!(
            "[function]\nimage = \"summary\"\n[[retrieve]]\nname = \"d\"\nsource = \"{name}\"\nnow = true\n"
        );
        stage.write(&task, text);
        run(&["submit", "-f", &task, "--wait", "-o", "json"]);
    }
    for words in [
        &["resources"][..],
        &["resources", "-o", "json"],
        &["doctor", "--folder", "fades-node"],
        &["doctor", "--folder", "fades-node", "-o", "json"],
        &["ps"],
        &["config", "show", "--folder", "fades-node"],
        &["config", "check", "--folder", "fades-node"],
    ] {
        run(words);
    }
    // Nothing that is meant to be shown has a secret, but this file goes further.
    let mistake = format!("[node]\nlabels = [\"{PLANTED}token-5f1c9\"]\n");
    stage.write("fades-node/conf.d/mistake.toml", mistake);
    run(&["support", "support.tar.gz", "--folder", "fades-node"]);
    said.push(("the support file".to_owned(), unpacked(&stage)));
    for path in ["/v1/node", "/v1/resources", "/v1/tasks"] {
        said.push((path.to_owned(), stage.get(path)));
    }
    node.stop();
    said.push(("the log".to_owned(), log.join().unwrap()));
    for (what, text) in &said {
        for needle in needles() {
            let around = text.find(&needle).map(|at| {
                let begin = text.floor_char_boundary(at.saturating_sub(300));
                &text[begin..at]
            });
            assert_eq!(around, None, "{what} shows {needle}");
        }
    }
    // What is no secret is found, so the search works and everything was said.
    let all = |words: &str| -> String {
        let found = said.iter().filter(|(what, _)| what.contains(words));
        found.map(|(_, text)| text.as_str()).collect()
    };
    for (words, shown) in [
        ("source test refused", "does not let the node in"),
        ("source test basic", "[secret]"),
        ("source test credential", "does not let the node in"),
        ("source test absent", "nothing listens at"),
        ("source test bytes", "it is not text"),
        ("source test control", "characters that no header can have"),
        ("source test nowhere", "cannot be read"),
        ("source test mqtt", "user or password is wrong"),
        ("source test key", "no certificate"),
        ("submit -f refused.toml", "does not let the node in"),
        ("resources", SHOWN),
        ("/v1/node", "\"confinement\""),
        ("/v1/resources", SHOWN),
        ("the support file", "auth.token-file"),
        ("the support file", SHOWN),
        ("the support file", "\"confinement\""),
        ("the support file", "DEBUG fades_orc"),
        ("the support file", "the broker refuses the node"),
        ("the support file", "redacted: 1\n"),
        ("the log", "DEBUG fades_orc"),
        ("the log", "the broker refuses the node"),
    ] {
        let text = all(words);
        assert!(
            text.contains(shown),
            "{words}: {shown:?} is not in {text:.3000}"
        );
    }
    // So it would be found if it were logged.
    let leaked = format!("{}{PLANTED}password", all("the log"));
    assert!(needles().iter().any(|n| leaked.contains(n)));
}
