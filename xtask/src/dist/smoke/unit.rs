//! What a unit file says.

/// The last value of a setting of the section `[Service]`; the last assignment counts.
pub(super) fn service<'a>(unit: &'a str, setting: &str) -> Option<&'a str> {
    let mut section = "";
    let mut found = None;
    for line in unit.lines().map(str::trim) {
        if line.starts_with('[') {
            section = line;
        }
        if let Some((name, value)) = line.split_once('=')
            && section == "[Service]"
            && name.trim() == setting
        {
            found = Some(value.trim());
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::service;

    #[test]
    fn the_last_assignment_of_the_service_counts() {
        let unit = "[Unit]\nExecStart=no\n[Service]\n# ExecStart=no\nExecStart=/a b\n\
                    ExecStart = /c d\n[Install]\nExecStart=no\n";
        assert_eq!(service(unit, "ExecStart"), Some("/c d"));
        assert_eq!(service(unit, "User"), None);
    }
}
