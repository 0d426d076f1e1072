//! Configurations that make no sense.

#[test]
fn a_configuration_that_makes_no_sense_is_refused() {
    let refused = |options: &str| {
        let table: serde_json::Value = toml::from_str(options).unwrap();
        let whole = serde_json::json!({ "p": table });
        fades_drb::config::Sources::parse(&whole)
            .unwrap_err()
            .to_string()
    };
    let register = "{ table = \"input\", address = 0, kind = \"a\" }";
    let with = |options: &str, unit: &str, register: &str| {
        refused(&format!(
            "type = \"modbus\"\nunits = [{unit}]\nregisters = [{register}]\n{options}"
        ))
    };
    let tcp = "url = \"tcp://a\"";
    let unit = "{ id = 1, device = \"m\" }";
    let cases = [
        (with("", unit, register), ".url: is missing"),
        (with("url = \"udp://a\"", unit, register), ".url: "),
        (
            with("url = \"tcp://a\"\nserial = \"/dev/x\"", unit, register),
            ".serial: excludes",
        ),
        (
            with("url = \"tcp://a\"\nbaud = 9600", unit, register),
            ".baud: belongs",
        ),
        (
            with("serial = \"x\"", unit, register),
            ".serial: must be a path",
        ),
        (
            with("serial = \"/x\"\ndata-bits = 7", unit, register),
            ".data-bits: ",
        ),
        (
            with("serial = \"/x\"\nstop-bits = 3", unit, register),
            ".stop-bits: ",
        ),
        (
            with("serial = \"/x\"\nbaud = 1", unit, register),
            ".baud: must",
        ),
        (
            with("serial = \"/x\"", "{ id = 0, device = \"m\" }", register),
            ".units[0].id: ",
        ),
        (
            with(tcp, "{ id = 248, device = \"m\" }", register),
            ".units[0].id: ",
        ),
        (
            with(tcp, &format!("{unit}, {unit}"), register),
            ".units[1].id: is there twice",
        ),
        (
            with(
                tcp,
                "{ id = 1, device = \"m\" }, { id = 2, device = \"m\" }",
                register,
            ),
            ".units[1].device: ",
        ),
        (with(tcp, unit, ""), ".units[0].registers: has none"),
        (with(tcp, "", register), ".units: is empty"),
        (
            with(tcp, unit, &format!("{register}, {register}")),
            ".registers[1].kind: ",
        ),
        (
            with("url = \"tcp://a\"\ntimeout = \"9ms\"", unit, register),
            ".timeout: ",
        ),
        (
            with("url = \"tcp://a\"\nevery = \"1ms\"", unit, register),
            ".every: ",
        ),
        (
            with("url = \"tcp://a\"\nmost = 126", unit, register),
            ".most: ",
        ),
        (
            with("url = \"tcp://a\"\nmost-coils = 2001", unit, register),
            ".most-coils: ",
        ),
        (
            with(
                tcp,
                unit,
                "{ table = \"coil\", address = 0, kind = \"a\", type = \"u16\" }",
            ),
            ".type: ",
        ),
        (
            with(
                tcp,
                unit,
                "{ table = \"input\", address = 65535, kind = \"a\", type = \"u32\" }",
            ),
            ".address: ",
        ),
        (
            with(
                tcp,
                unit,
                "{ table = \"input\", address = 0, kind = \"a\", scale = 0 }",
            ),
            ".scale: ",
        ),
        (
            with(
                tcp,
                unit,
                "{ table = \"input\", address = 0, kind = \"a\", valid = [2, 1] }",
            ),
            ".valid: ",
        ),
        (
            with(
                tcp,
                unit,
                "{ table = \"input\", address = 0, kind = \"a\", missing = -1 }",
            ),
            ".missing: ",
        ),
        (
            with(tcp, unit, "{ table = \"input\", address = 0, kind = \"\" }"),
            ".kind: ",
        ),
    ];
    for (error, expected) in cases {
        assert!(error.contains(expected), "{error} should say {expected}");
    }
}
