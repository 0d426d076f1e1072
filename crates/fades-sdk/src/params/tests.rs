use super::*;
use crate::cbor::encode_map;
use crate::context::{self, Zone};
use crate::value::{Map, Value};

fn params(given: Map) -> Params {
    let mut bytes = vec![0; 4096];
    let length = encode_map(&given, &mut bytes).unwrap();
    bytes.truncate(length);
    let context = context::encode(&Zone::utc(), &["pm".to_owned()]);
    Params::new(bytes.leak(), context.leak())
}

fn raw(bytes: &'static [u8]) -> Params {
    Params::new(bytes, &[])
}

#[test]
fn each_type_is_read_and_defaults_stand_in() {
    let p = params(
        Map::new()
            .with("limit", 27)
            .with("factor", 1.5)
            .with("room", "hall")
            .with("deep", true)
            .with("below", -3)
            .with("every", "15m")
            .with("each", 5),
    );
    assert_eq!(p.require::<f64>("limit").unwrap(), 27.0);
    assert_eq!(p.require::<u64>("limit").unwrap(), 27);
    assert_eq!(p.require::<f64>("factor").unwrap(), 1.5);
    assert_eq!(p.require::<&str>("room").unwrap(), "hall");
    assert!(p.require::<bool>("deep").unwrap());
    assert_eq!(p.require::<i64>("below").unwrap(), -3);
    assert_eq!(p.require::<Span>("every").unwrap(), Span(900_000_000_000));
    assert_eq!(p.require::<Span>("each").unwrap(), Span(5));
    assert_eq!(p.or("other", 8_u64).unwrap(), 8);
    assert_eq!(p.get::<f64>("missing").unwrap(), None);
    assert!(p.finish().is_ok());
}

#[test]
fn what_is_missing_or_of_another_type_is_named_with_what_it_must_be() {
    let p = params(
        Map::new()
            .with("limit", "27x")
            .with("count", -1)
            .with("list", vec![1]),
    );
    let text = |result: Result<(), Abort>| result.unwrap_err().text().to_owned();
    assert_eq!(
        text(p.require::<f64>("level").map(drop)),
        "parameter `level` is missing: give it as a number"
    );
    assert_eq!(
        text(p.require::<f64>("limit").map(drop)),
        "parameter `limit` must be a number, not the text 27x"
    );
    assert_eq!(
        text(p.require::<u64>("count").map(drop)),
        "parameter `count` must be an integer of at least 0, not this integer"
    );
    assert_eq!(
        text(p.get::<&str>("list").map(drop)),
        "parameter `list` must be text, not a list"
    );
    let infinite = params(Map::new().with("limit", f64::INFINITY));
    assert!(infinite.require::<f64>("limit").is_err());
}

#[test]
fn a_parameter_that_nobody_asked_for_is_refused_with_those_that_are_known() {
    let p = params(Map::new().with("limit", 1).with("limt", 2));
    let _ = p.get::<f64>("limit");
    let _ = p.get::<f64>("room");
    let text = p.finish().unwrap_err().text().to_owned();
    assert_eq!(
        text,
        "parameter `limt` is unknown: this function takes `limit`, `room`"
    );
    let text = params(Map::new().with("x", 1)).finish().unwrap_err();
    assert_eq!(
        text.text(),
        "parameter `x` is unknown: this function takes none"
    );
}

#[test]
fn choices_are_taken_by_name() {
    let choices = [("mean", 1), ("max", 2)];
    let p = params(
        Map::new()
            .with("one", "max")
            .with("list", vec!["max", "mean"])
            .with("wrong", "median")
            .with(
                "mixed",
                Value::Array(vec![Value::from("max"), Value::Int(1)]),
            )
            .with("empty", Value::Array(Vec::new())),
    );
    assert_eq!(p.choice("one", &choices).unwrap(), Some(2));
    assert_eq!(p.choice("none", &choices).unwrap(), None);
    assert_eq!(p.choices("list", &choices).unwrap(), Some(vec![2, 1]));
    assert_eq!(p.choices("one", &choices).unwrap(), Some(vec![2]));
    assert_eq!(p.choices("none", &choices).unwrap(), None);
    let text = p.choice("wrong", &choices).unwrap_err();
    assert_eq!(
        text.text(),
        "parameter `wrong` must be one of `mean`, `max`, not the text median"
    );
    assert!(p.choices("mixed", &choices).is_err());
    assert!(p.choices("empty", &choices).is_err());
}

#[test]
fn numbers_come_as_a_list_or_alone() {
    let mixed = Value::Array(vec![Value::Int(1), Value::from("x")]);
    let p = params(
        Map::new()
            .with("q", vec![0.5, 1.0])
            .with("one", 3)
            .with("mixed", mixed),
    );
    assert_eq!(p.numbers("q").unwrap(), Some(vec![0.5, 1.0]));
    assert_eq!(p.numbers("one").unwrap(), Some(vec![3.0]));
    assert_eq!(p.numbers("none").unwrap(), None);
    assert!(
        p.numbers("mixed")
            .unwrap_err()
            .text()
            .contains("a list of numbers")
    );
}

#[test]
fn lengths_of_time_have_a_unit_and_are_above_zero() {
    let read = |text: &'static str| Span::read(&Item::Text(text)).map(|s| s.0);
    assert_eq!(read("250ms"), Some(250_000_000));
    assert_eq!(read("7us"), Some(7_000));
    assert_eq!(read("9ns"), Some(9));
    assert_eq!(read("2d"), Some(172_800_000_000_000));
    for wrong in [
        "",
        "5",
        "h",
        "1.5h",
        "-1h",
        "+1h",
        "0s",
        "1w",
        "1 h",
        "300000000d",
    ] {
        assert_eq!(read(wrong), None, "{wrong}");
    }
}

#[test]
fn no_bytes_are_no_parameters_and_other_bytes_an_error() {
    assert!(raw(&[]).finish().is_ok());
    assert_eq!(raw(&[]).get::<f64>("x").unwrap(), None);
    for bytes in [&[0x00][..], &[0xa1], &[0xa0, 0x00], &[0xa1, 0x01, 0x01]] {
        let text = raw(bytes).finish().unwrap_err();
        assert!(
            text.text().starts_with("the parameters cannot be read"),
            "{text}"
        );
        assert!(raw(bytes).get::<f64>("x").is_err());
    }
}

#[test]
fn the_context_is_read_or_refused() {
    assert_eq!(params(Map::new()).context().unwrap().dtos, ["pm"]);
    let text = raw(&[]).context().unwrap_err();
    assert_eq!(text.text(), "the context of the task breaks its layout");
}
