use std::fs;

use serde_json::{Value, json};

use super::{Kind, Sources, SourcesError};

fn csv() -> Value {
    json!({
        "type": "csv",
        "files": "*.csv",
        "time": { "column": "time" },
        "device": "{id}",
        "points": [{ "column": "t", "kind": "temperature", "unit": "Cel", "valid": [0, 50] }],
    })
}

/// The error for the table above with `change` made to it.
fn error(change: impl FnOnce(&mut Value)) -> String {
    let mut table = csv();
    change(&mut table);
    Sources::parse(&json!({ "hall": table }))
        .unwrap_err()
        .to_string()
}

fn set(field: &'static str, value: Value) -> impl FnOnce(&mut Value) {
    move |table| table[field] = value
}

#[test]
fn a_source_survives_the_way_to_json_and_back() {
    let sources = Sources::parse(&json!({ "hall": csv() })).unwrap();
    let text = serde_json::to_string(&sources).unwrap();
    assert_eq!(serde_json::from_str::<Sources>(&text).unwrap(), sources);
    let again: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(Sources::parse(&again).unwrap(), sources);
    sources.check().unwrap();
}

#[test]
fn the_table_of_the_design_is_understood() {
    let table: Value = toml::from_str(
        r#"
        [source.citizen]
        type = "csv"
        files = "/srv/aberdeen/*/*.csv"
        delimiter = ";"
        time = { column = "timestamp", zone = "UTC" }
        device = "{sensor_id}"
        location = "aberdeen/{location}"
        points = [{ column = "P1", kind = "pm10", unit = "ug/m3", valid = [0, 998.9] }]
        "#,
    )
    .unwrap();
    let sources = Sources::parse(&table["source"]).unwrap();
    let Kind::Csv(csv) = &sources.0.values().next().unwrap().kind else {
        panic!("no CSV source")
    };
    assert_eq!((csv.delimiter, csv.header, csv.decimal), (';', true, '.'));
}

#[test]
fn a_source_of_unknown_kind_is_told_what_exists() {
    let cases = [
        (json!([]), "[source.NAME]"),
        (json!({ "a b": {} }), "source.a b"),
        (json!({ "a": 1 }), "source.a is no table"),
        (json!({ "a": {} }), "source.a.type is missing"),
        (json!({ "a": { "type": "opcua" } }), "there is: csv"),
        (json!({ "a": { "type": 3 } }), "there is: csv"),
    ];
    for (value, words) in cases {
        let error = Sources::parse(&value).unwrap_err().to_string();
        assert!(error.contains(words), "{words} in {error}");
    }
}

#[test]
fn unknown_missing_and_wrong_fields_are_named_with_their_path() {
    let e = error(set("colour", json!(1)));
    assert!(
        e.contains("source.hall") && e.contains("colour") && e.contains("delimiter"),
        "{e}"
    );
    let e = error(|t| {
        t.as_object_mut().unwrap().remove("device");
    });
    assert!(e.contains("source.hall") && e.contains("device"), "{e}");
    let e = error(|t| t["points"][0]["unit"] = json!(7));
    assert!(e.contains("source.hall.points[0].unit"), "{e}");
    let e = error(|t| t["time"]["zone"] = json!("Mars/Olympus"));
    assert!(
        e.contains("source.hall.time.zone") && e.contains("IANA"),
        "{e}"
    );
    let e = error(set("delimiter", json!("::")));
    assert!(e.contains("source.hall.delimiter"), "{e}");
    let e = error(set("encoding", json!("utf-7")));
    assert!(
        e.contains("source.hall.encoding") && e.contains("latin-1"),
        "{e}"
    );
    let e = error(set("files", json!(3)));
    assert!(e.contains("source.hall.files") && e.contains("glob"), "{e}");
}

#[test]
fn values_that_make_no_sense_are_refused_with_the_remedy() {
    let cases: Vec<(&str, Value, &str)> = vec![
        ("files", json!([]), ".files: is empty"),
        ("files", json!("a/[b"), ".files: "),
        ("device", json!(""), ".device: is empty"),
        ("device", json!("{a"), ".device: "),
        ("location", json!("a}"), ".location: "),
        ("delimiter", json!("é"), ".delimiter: "),
        ("quote", json!("''"), ".quote: "),
        ("quote", json!(","), ".quote: must differ"),
        ("decimal", json!(";"), ".decimal: "),
        ("thousands", json!("."), ".thousands: "),
        ("header", json!(false), ".columns: is missing"),
        ("points", json!([]), ".points: is missing"),
        (
            "points",
            json!([{ "kind": "t" }]),
            ".points[0].column: is missing",
        ),
        (
            "points",
            json!([{ "column": "a", "kind": "t" }, { "column": "t" }]),
            ".points[1].kind: ",
        ),
        (
            "points",
            json!([{ "column": "a", "valid": [2, 1] }]),
            ".points[0].valid: ",
        ),
        ("unit", json!("Cel"), ".unit: "),
        ("kind", json!("{k}"), ".value: is missing"),
        ("value", json!("v"), ".kind: is missing"),
        ("time", json!({}), ".time: says no column"),
        (
            "time",
            json!({ "column": "a", "columns": ["b"] }),
            ".time.columns: ",
        ),
        (
            "time",
            json!({ "column": "a", "format": "iso" }),
            ".time.format: ",
        ),
        ("file-name", json!("{a}{b}"), ".file-name: "),
    ];
    for (field, value, words) in cases {
        let e = error(set(field, value));
        assert!(
            e.starts_with("source.hall") && e.contains(words),
            "{words} in {e}"
        );
    }
    let e = error(|t| {
        t["kind"] = json!("{k}");
        t["value"] = json!("v");
    });
    assert!(e.contains("points[0].column: excludes"), "{e}");
}

#[test]
fn a_text_that_looks_like_a_template_is_refused_where_there_are_none() {
    let tables = [
        json!({ "type": "influx", "url": "http://a", "database": "d", "measurement": "m",
                "map": { "device": "room" }, "location": "campus/{floor}" }),
        json!({ "type": "mqtt", "url": "mqtt://a", "topic": "{device}/{kind}",
                "location": "campus/{floor}" }),
        json!({ "type": "modbus", "url": "tcp://a",
                "units": [{ "id": 1, "device": "m", "location": "campus/{floor}" }],
                "registers": [{ "table": "holding", "address": 0, "kind": "t" }] }),
    ];
    for table in tables {
        let e = Sources::parse(&json!({ "hall": table })).unwrap_err();
        let e = e.to_string();
        assert!(
            e.contains("location") && e.contains("without braces"),
            "{e}"
        );
    }
}

#[test]
fn there_is_a_schema_with_every_option() {
    let schema = serde_json::to_string(&schemars::schema_for!(Sources)).unwrap();
    for option in ["skip-lines", "file-name", "thousands", "valid", "unix-ms"] {
        assert!(schema.contains(option), "{option} in {schema}");
    }
}

fn guessed(content: &str) -> Result<super::CsvSource, SourcesError> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("rooms [1].csv");
    fs::write(&path, content).unwrap();
    let sources = Sources::guess(&path)?;
    let Some(Kind::Csv(csv)) = sources.0.into_values().next().map(|s| s.kind) else {
        panic!("one source")
    };
    assert!(csv.files.as_slice()[0].ends_with("rooms [[]1].csv"));
    Ok(csv)
}

#[test]
fn a_plain_file_is_guessed() {
    let csv = guessed("Time,room,temperature,note\n1700000000123,a,21.5,x\n1700000001123,b,,y\n")
        .unwrap();
    assert_eq!(csv.time.columns, ["Time"]);
    assert_eq!(csv.time.format, "unix-ms");
    assert_eq!(
        (csv.device.as_str(), csv.location.as_str()),
        ("{file}", "{room}")
    );
    let columns: Vec<_> = csv.points.iter().map(|p| p.column.as_deref()).collect();
    assert_eq!(columns, [Some("temperature")]);
}

#[test]
fn decimal_commas_split_times_and_the_long_form_are_guessed() {
    let csv = guessed("date;time;sensor_id;t\n2026-01-01;10:00:00;7;21,5\n").unwrap();
    assert_eq!((csv.delimiter, csv.decimal), (';', ','));
    assert_eq!(csv.time.columns, ["date", "time"]);
    assert_eq!(csv.device, "{sensor_id}");
    let csv =
        guessed("timestamp\tdevice\ttype\tvalue\tunit\n2026-01-01T00:00Z\td\tco2\t400\tppm\n")
            .unwrap();
    assert_eq!(csv.kind.as_deref(), Some("{type}"));
    assert_eq!(
        (csv.value.as_deref(), csv.unit.as_deref()),
        (Some("value"), Some("{unit}"))
    );
}

#[test]
fn a_file_that_cannot_be_guessed_says_what_to_change() {
    for (content, words) in [
        ("", "its first line"),
        ("abc\n1\n", "its first line"),
        ("1,2\n3,4\n", "header"),
        ("a,b\n3,4\n", "timestamp"),
        ("time,b\n", "no row with a time"),
        ("time,b\nnoon,4\n", "\"noon\" is no time"),
        ("time,b\n2026-01-01,x\n", "has numbers"),
    ] {
        let error = guessed(content).unwrap_err().to_string();
        assert!(
            error.contains(words) && error.contains("rooms"),
            "{words} in {error}"
        );
    }
    let error = Sources::guess("/nonexistent.csv".as_ref()).unwrap_err();
    assert!(error.to_string().contains("/nonexistent.csv"));
}
