use std::path::Path;

use ureq::http::Uri;

use super::{Access, Client, Means, Times, TokenWord, checked, shown};
use crate::connection::{Auth, SecretFile};
use crate::dial::Dial;
use crate::secret::Secrets;

fn client(url: &str) -> Client {
    signing(url, None, "/".as_ref())
}

fn signing(url: &str, auth: Option<&Auth>, base: &Path) -> Client {
    let means = Means {
        secrets: Secrets::new(base, None),
        dial: Dial::Direct,
    };
    let second = std::time::Duration::from_secs(1);
    let times = Times {
        connect: second,
        head: second,
        stall: second,
        whole: None,
    };
    let access = Access {
        auth: auth.cloned(),
        word: TokenWord::Bearer,
        tls: None,
        times,
        gzip: false,
        agent: "fades".to_owned(),
    };
    Client::new(url, access, &means).unwrap()
}

#[test]
fn a_server_that_repeats_a_secret_does_not_bring_it_into_words() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("secret"), "hunter2\n").unwrap();
    let file = || Some(SecretFile("secret".to_owned()));
    let auth = Auth {
        user: Some("u".to_owned()),
        password_file: file(),
        token_file: None,
    };
    let said = b"Basic dTpodW50ZXIy, u:hunter2 is wrong";
    let client = signing("http://h", Some(&auth), folder.path());
    assert_eq!(
        client.concealed(said),
        "Basic [secret], u:[secret] is wrong"
    );
    let auth = Auth {
        user: None,
        password_file: None,
        token_file: file(),
    };
    let client = signing("http://h", Some(&auth), folder.path());
    assert_eq!(client.concealed(b"Bearer hunter2"), "Bearer [secret]");
    std::fs::remove_file(folder.path().join("secret")).unwrap();
    assert_eq!(client.concealed(b"Bearer hunter2"), "");
}

#[test]
fn addresses_name_a_server_and_no_password() {
    assert!(checked("https://[::1]:8086/x?y").is_ok());
    for (url, why) in [
        ("10.0.0.1:80", "neither http"),
        ("ftp://h", "neither http"),
        ("/x", "neither http"),
        ("http://u:p@h/", "use auth"),
        ("http:// h", "no address"),
    ] {
        let reason = checked(url).unwrap_err().reason;
        assert!(reason.contains(why), "{url}: {reason}");
        assert!(!reason.contains("u:p"));
    }
}

#[test]
fn only_the_same_server_is_gone_on_with() {
    let client = client("http://Host/a/b?c");
    assert_eq!(client.origin(), "http://host:80");
    let from: Uri = "http://host/a/b?c".parse().unwrap();
    let to = |to: &str| client.same_server(&from, to).map(|u| u.to_string());
    assert_eq!(to("/x").as_deref(), Some("http://host:80/x"));
    assert_eq!(to("x?y").as_deref(), Some("http://host:80/a/x?y"));
    assert_eq!(to("?d").as_deref(), Some("http://host:80/a/b?d"));
    assert!(to("http://HOST:80/z").is_some());
    for other in [
        "https://host/",
        "http://host:81/",
        "http://host.evil/",
        "//evil/",
        "",
        "http://x@host/",
    ] {
        assert_eq!(to(other), None, "{other}");
    }
}

#[test]
fn words_of_a_server_are_short_and_harmless() {
    assert_eq!(shown(b" a\x1b[31m\nb\xff "), "a [31m b\u{fffd}");
    assert_eq!(shown(&[b'x'; 1000]).len(), 200);
}
