//! A real registry, `docker-registry`, which keeps no lists of referrers; and another
//! program, `skopeo`, which carries a layout folder into it.

use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use fades_registry::RegistryError;
use fades_registry::function::{Under, look, pull, push};
use fades_registry::layout::Layout;
use fades_registry::manifest::digest;
use fades_registry::reference::{Tag, Which};
use fades_registry::remote::{Elsewhere, Login};

use crate::{artifact, login, repository};

/// `city` with the password `rosebud`.
const HTPASSWD: &str = "city:$2b$04$7Gh1z9yaa0IKVeXAWNJas.eCbTGQwZtEmf.8hvQ/NcXbP27dV1tZ.\n";

struct Registry {
    child: Child,
    port: u16,
    folder: tempfile::TempDir,
}

impl Registry {
    /// `None`, said, where the program is not there.
    fn start(test: &str) -> Option<Self> {
        let version = Command::new("docker-registry").arg("--version").output();
        if version.is_err() {
            println!("SKIPPED: {test}: no docker-registry; apt-get install docker-registry");
            return None;
        }
        let folder = tempfile::tempdir().unwrap();
        certificates(folder.path());
        let at = |file: &str| folder.path().join(file).display().to_string();
        std::fs::write(at("htpasswd"), HTPASSWD).unwrap();
        (0..5)
            .find_map(|_| Self::serve(&folder))
            .or_else(|| panic!("docker-registry does not listen"))
            .map(|(child, port)| Self {
                child,
                port,
                folder,
            })
    }

    /// On a port that was free a moment ago; `None` when somebody took it meanwhile.
    fn serve(folder: &tempfile::TempDir) -> Option<(Child, u16)> {
        let at = |file: &str| folder.path().join(file).display().to_string();
        let free = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = free.local_addr().unwrap().port();
        drop(free);
        let config = format!(
            "version: 0.1\nlog: {{level: error}}\nstorage:\n  filesystem: {{rootdirectory: {}}}\nhttp:\n  addr: 127.0.0.1:{port}\n  tls: {{certificate: {}, key: {}}}\nauth:\n  htpasswd: {{realm: here, path: {}}}\n",
            at("data"),
            at("server.pem"),
            at("server.key"),
            at("htpasswd"),
        );
        std::fs::write(at("config.yml"), config).unwrap();
        let mut child = Command::new("docker-registry")
            .args(["serve", &at("config.yml")])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let deadline = Instant::now() + Duration::from_secs(30);
        while child.try_wait().unwrap().is_none() && Instant::now() < deadline {
            let stream = TcpStream::connect(("127.0.0.1", port));
            // A connection to a port that nobody listens on can end at itself.
            if stream.is_ok_and(|s| s.local_addr().unwrap() != s.peer_addr().unwrap()) {
                return Some((child, port));
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        let _ = child.kill();
        let _ = child.wait();
        None
    }

    fn origin(&self) -> String {
        format!("https://127.0.0.1:{}", self.port)
    }

    fn repository(&self, login: Option<Login>) -> fades_registry::remote::Remote {
        let nowhere = Elsewhere::Only(Vec::new());
        repository(&self.origin(), login, nowhere, self.folder.path())
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn certificates(folder: &Path) {
    use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
    let write = |file: &str, text: String| std::fs::write(folder.join(file), text).unwrap();
    let key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::new(vec![]).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    write("ca.pem", params.self_signed(&key).unwrap().pem());
    let authority = Issuer::new(params, key);
    let key = KeyPair::generate().unwrap();
    let params = CertificateParams::new(vec!["127.0.0.1".to_owned()]).unwrap();
    write(
        "server.pem",
        params.signed_by(&key, &authority).unwrap().pem(),
    );
    write("server.key", key.serialize_pem());
}

#[test]
fn a_function_comes_back_from_a_registry_as_it_was_pushed() {
    let Some(registry) = Registry::start("a real registry") else {
        return;
    };
    let shelf = registry.repository(login());
    let pushed = artifact(b"image");
    let tag: Tag = "1.0".parse().unwrap();
    let manifest = push(&shelf, &pushed, &tag, Under::Index).unwrap();
    for which in [
        Which::Tag(tag),
        Which::Digest(manifest),
        Which::Tag(Tag::of_image(digest(b"image"))),
    ] {
        // A client of its own: nothing is remembered.
        let mut pulled = pull(&registry.repository(login()), &which, "x86-64").unwrap();
        pulled.platform.clone_from(&pushed.platform);
        assert_eq!(pulled, pushed, "{which}");
    }
}

#[test]
fn who_is_not_let_in_learns_why_and_no_password() {
    let Some(registry) = Registry::start("passwords of a registry") else {
        return;
    };
    let tag = Which::Tag("1.0".parse().unwrap());
    let wrong = Login::new("city".to_owned(), "sled".to_owned());
    for (login, who) in [(None, "anybody"), (Some(wrong), "city")] {
        let error = look(&registry.repository(login), &tag, "x86-64").unwrap_err();
        assert!(
            matches!(&error, RegistryError::Forbidden { who: w, .. } if w == who),
            "{error}"
        );
        assert!(!error.to_string().contains("sled"), "{error}");
    }
    let error = look(&registry.repository(login()), &tag, "x86-64").unwrap_err();
    assert!(matches!(error, RegistryError::Missing { .. }), "{error}");
}

#[test]
fn another_program_carries_a_folder_to_a_registry() {
    let test = "a layout folder that skopeo carries";
    if Command::new("skopeo").arg("--version").output().is_err() {
        println!("SKIPPED: {test}: no skopeo; apt-get install skopeo");
        return;
    }
    let Some(registry) = Registry::start(test) else {
        return;
    };
    let folder = tempfile::tempdir().unwrap();
    let layout = Layout::create(folder.path()).unwrap();
    let pushed = artifact(b"image");
    push(&layout, &pushed, &"1.0".parse().unwrap(), Under::Tag).unwrap();
    let copied = Command::new("skopeo")
        .args([
            "copy",
            "--dest-tls-verify=false",
            "--dest-creds=city:rosebud",
        ])
        .arg(format!("oci:{}:1.0", folder.path().display()))
        .arg(format!(
            "docker://127.0.0.1:{}/air/summary:carried",
            registry.port
        ))
        .output()
        .unwrap();
    assert!(
        copied.status.success(),
        "{}",
        String::from_utf8_lossy(&copied.stderr)
    );
    let carried = Which::Tag("carried".parse().unwrap());
    let pulled = pull(&registry.repository(login()), &carried, "x86-64").unwrap();
    assert_eq!(
        (pulled.image, pulled.symbols),
        (pushed.image, pushed.symbols)
    );
    assert_eq!(pulled.annotations, pushed.annotations);
}
