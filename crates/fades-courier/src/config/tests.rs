use serde_json::{Value, json};

use super::{Destination, Inbox, MqttVersion, Places};

fn table(text: &str) -> Value {
    toml::from_str(text).unwrap()
}

fn parsed(text: &str) -> Result<Places, String> {
    let table = table(text);
    Places::parse(table.get("inbox"), table.get("destination")).map_err(|e| e.to_string())
}

const ALL: &str = r#"
    [inbox.city]
    url = "https://city.example/fades/inbox"
    token-file = "city-token"
    ca-file = "city-ca.pem"
    certificate-file = "own.pem"
    key-file = "own.key"
    wait = "20s"
    [inbox.drop]
    folder = "inbox"
    [destination.city]
    url = "https://[FD00::1]:8443/air?x=1"
    token-file = "city-token"
    timeout = "1m"
    [destination.hall]
    url = "mqtts://Hall.example"
    topic = "fades/{node}/{service}/{name}/{task}"
    auth = { user = "u", password-file = "p" }
    [destination.here]
    url = "http://localhost:8080"
    [destination.bus]
    url = "mqtt://10.0.0.7"
    topic = "x"
    version = "3.1.1"
    insecure = true
    [destination.disk]
    folder = "/srv/answers"
"#;

#[test]
fn tables_say_what_they_are_by_folder_or_scheme() {
    let places = parsed(ALL).unwrap();
    assert!(!places.is_empty());
    let inbox = |name: &str| &places.inbox[name];
    let to = |name: &str| &places.destination[name];
    assert!(matches!(inbox("city"), Inbox::Http(h) if h.wait.as_std().as_secs() == 20));
    assert!(matches!(inbox("drop"), Inbox::Folder(f) if f.folder == "inbox"));
    assert!(matches!(to("city"), Destination::Http(h) if h.timeout.as_std().as_secs() == 60));
    assert!(matches!(to("here"), Destination::Http(h) if h.timeout.as_std().as_secs() == 30));
    assert!(matches!(to("hall"), Destination::Mqtt(m) if m.version == MqttVersion::V5));
    assert!(matches!(to("bus"), Destination::Mqtt(m) if m.version == MqttVersion::V3));
    assert!(matches!(to("disk"), Destination::Folder(_)));
}

#[test]
fn tables_survive_the_way_to_json_and_back() {
    let places = parsed(ALL).unwrap();
    let text = serde_json::to_string(&places).unwrap();
    let again: Places = serde_json::from_str(&text).unwrap();
    assert_eq!(again, places);
    again.check().unwrap();
    let value: Value = serde_json::from_str(&text).unwrap();
    let parsed = Places::parse(value.get("inbox"), value.get("destination"));
    assert_eq!(parsed.unwrap(), places);
    assert!(Places::parse(None, None).unwrap().is_empty());
}

#[test]
fn addresses_are_those_that_are_connected_to() {
    let places = parsed(ALL).unwrap();
    let shown = places.addresses().into_iter();
    let shown: Vec<_> = shown
        .map(|a| format!("{} {} {}", a.source, a.host, a.port))
        .collect();
    assert_eq!(
        shown,
        [
            "bus 10.0.0.7 1883",
            "city city.example 443",
            "city fd00::1 8443",
            "hall hall.example 8883",
            "here localhost 8080",
        ]
    );
}

/// The error when `fields` are written into a table.
fn error(table: &str, base: &Value, fields: &Value) -> String {
    let mut place = base.clone();
    for (name, value) in fields.as_object().unwrap() {
        place[name] = value.clone();
    }
    let tables = json!({ "a": place });
    let (inbox, destination) = match table {
        "inbox" => (Some(&tables), None),
        _ => (None, Some(&tables)),
    };
    let error = Places::parse(inbox, destination).unwrap_err().to_string();
    // What comes as JSON is held to the same.
    let json = json!({ table: tables });
    if let Ok(places) = serde_json::from_value::<Places>(json) {
        places.check().unwrap_err();
    }
    error
}

#[test]
fn what_is_wrong_with_a_server_names_field_and_remedy() {
    let base = json!({ "url": "https://h/x" });
    for table in ["inbox", "destination"] {
        for (fields, words) in [
            (json!({ "url": "ftp://h" }), ".url: begins with neither"),
            (json!({ "url": 1 }), ".url: invalid type"),
            (json!({ "url": "https://u:p@h/" }), ".url: a password"),
            (
                json!({ "url": "https://h/x#y" }),
                ".url: has a part after #",
            ),
            (
                json!({ "url": "http://h/x" }),
                "insecure = true if that is meant",
            ),
            (
                json!({ "url": "http://localhost.evil/x" }),
                "insecure = true",
            ),
            (json!({ "url": "http://128.0.0.1/x" }), "insecure = true"),
            (json!({ "insecure": true }), ".insecure: says nothing"),
            (json!({ "token": "x" }), "unknown field `token`"),
            (json!({ "folder": "x" }), ".folder: excludes url"),
            (json!({ "key-file": "x" }), "write both or none"),
            (json!({ "certificate-file": "x" }), "write both or none"),
            (
                json!({ "url": "http://[::1]/", "ca-file": "x" }),
                ".ca-file: the url asks for no security",
            ),
        ] {
            let error = error(table, &base, &fields);
            assert!(error.starts_with(&format!("{table}.a")), "{error}");
            assert!(error.contains(words), "{fields}: {error}");
            assert!(!error.contains("u:p"), "{error}");
        }
    }
    for wait in ["0s", "999ms", "301s"] {
        let error = error("inbox", &base, &json!({ "wait": wait }));
        assert_eq!(error, "inbox.a.wait: is 1s to 5m");
    }
    let error = error("inbox", &base, &json!({ "url": "https://h/x?y" }));
    assert!(error.contains("without one"), "{error}");
    for timeout in ["0s", "601s"] {
        let error = self::error("destination", &base, &json!({ "timeout": timeout }));
        assert_eq!(error, "destination.a.timeout: is 1s to 10m");
    }
}

#[test]
fn what_is_wrong_with_a_topic_names_field_and_remedy() {
    let base = json!({ "url": "mqtts://h", "topic": "t" });
    for (fields, words) in [
        (
            json!({ "url": "mqtts://" }),
            ".url: \"mqtts://\": it names no host",
        ),
        (json!({ "url": "mqtt://10.0.0.1" }), "insecure = true"),
        (
            json!({ "topic": "a/{device}" }),
            ".topic: {device} is not known",
        ),
        (json!({ "timeout": "1ms" }), ".timeout: is 1s to 10m"),
        (json!({ "version": "4" }), ".version: unknown variant"),
        (json!({ "client-id": "" }), ".client-id: has 1 to 256"),
        (json!({ "auth": { "user": "u" } }), ".auth: write either"),
        (
            json!({ "auth": { "token-file": "u" } }),
            "MQTT knows users and passwords",
        ),
        (
            json!({ "certificate-file": "a", "key-file": "b" }),
            "needs ca-file",
        ),
    ] {
        let error = error("destination", &base, &fields);
        assert!(error.contains(words), "{fields}: {error}");
    }
    let error = error("destination", &json!({ "url": "mqtts://h" }), &json!({}));
    assert_eq!(error, "destination.a: missing field `topic`");
    // A server has no topic.
    let error = self::error("inbox", &base, &json!({}));
    assert!(error.contains("unknown field `topic`"), "{error}");
}

#[test]
fn what_is_no_table_says_so() {
    for (text, words) in [
        ("inbox = 1", "inbox is no table: write [inbox.NAME]"),
        ("[inbox]\na = 1", "inbox.a is no table"),
        ("[destination]\na = 1", "write [destination.NAME]"),
        ("[inbox.\"a b\"]\nfolder = \"x\"", "inbox.a b: "),
        ("[inbox.a]", "inbox.a says neither url nor folder"),
        (
            "[inbox.a]\nfolder = \"\"",
            "inbox.a.folder: names no folder",
        ),
        (
            "[inbox.a]\nfolder = \"x\"\nwait = \"1s\"",
            "unknown field `wait`",
        ),
    ] {
        let error = parsed(text).unwrap_err();
        assert!(error.contains(words), "{text}: {error}");
    }
}

#[test]
fn no_two_share_a_folder_that_one_of_them_reads() {
    let error = parsed("[inbox.a]\nfolder = \"x\"\n[destination.b]\nfolder = \"x\"");
    let error = error.unwrap_err();
    assert!(
        error.starts_with("destination.b.folder: is an inbox's"),
        "{error}"
    );
    let error = parsed("[inbox.a]\nfolder = \"x\"\n[inbox.b]\nfolder = \"x/\"");
    assert!(error.unwrap_err().contains("another inbox's"));
    parsed("[destination.a]\nfolder = \"x\"\n[destination.b]\nfolder = \"x\"").unwrap();
}
