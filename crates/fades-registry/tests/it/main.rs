//! Functions in registries: a real one with TLS and passwords, and one that does what a
//! test wants.
#![expect(
    clippy::print_stdout,
    reason = "skipped tests are counted from the output"
)]

mod docker;
mod stub;
mod tokens;

use std::path::Path;

use fades_outside::client::Means;
use fades_outside::connection::Tls;
use fades_outside::dial::Dial;
use fades_outside::secret::Secrets;
use fades_registry::function::{Artifact, platform};
use fades_registry::remote::{Elsewhere, Login, Remote, Way};

fn artifact(image: &[u8]) -> Artifact {
    Artifact {
        annotations: [("vnd.fades.abi".to_owned(), "1.0".to_owned())].into(),
        platform: Some(platform("x86-64")),
        image: image.to_vec(),
        symbols: Some(b"0 1 main".to_vec()),
        signatures: vec![b"{\"signed\":1}".to_vec()],
        materials: vec![b"{}\n".to_vec()],
    }
}

fn login() -> Option<Login> {
    Some(Login::new("city".to_owned(), "rosebud".to_owned()))
}

/// `air/summary` at `origin`; certificates are those in `folder`.
fn repository(origin: &str, login: Option<Login>, elsewhere: Elsewhere, folder: &Path) -> Remote {
    let means = Means {
        secrets: Secrets::new(folder, None),
        dial: Dial::Direct,
    };
    let tls = origin.starts_with("https").then(|| Tls {
        ca_file: Some("ca.pem".to_owned()),
        ..Tls::default()
    });
    let way = Way {
        origin: origin.to_owned(),
        login,
        tls,
        agent: "fades/test".to_owned(),
        elsewhere,
    };
    Remote::new(way, "air/summary".parse().unwrap(), &means, &[]).unwrap()
}
