//! The document of the API: complete, unchanged unless somebody means it, and
//! true of a node that is asked at random.

use std::io::copy;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::Command;

use fades_orc::api::openapi::document;
use serde_json::Value;

use crate::site::{Site, task};

/// `FADES_GOLDEN=write` writes it.
#[test]
fn the_document_is_what_the_golden_file_says() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/openapi.json");
    let text = serde_json::to_string_pretty(&document()).unwrap() + "\n";
    if std::env::var_os("FADES_GOLDEN").is_some_and(|v| v == "write") {
        std::fs::write(&path, &text).unwrap();
    }
    let known = std::fs::read_to_string(&path).unwrap_or_default();
    let differs =
        "docs/openapi.json differs; see what changed with FADES_GOLDEN=write and git diff";
    assert!(known == text, "{differs}");
}

#[test]
fn a_node_gives_the_document_to_everybody() {
    let site = Site::new();
    let node = site.start();
    let given: Value = node.get("/v1/openapi.json").json();
    assert_eq!(given, document());
}

/// A way over TCP to a Unix socket, for programs that know nothing else.
fn way_to(socket: PathBuf) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let (there, socket) = (stream.unwrap(), socket.clone());
            std::thread::spawn(move || pass(there, &socket));
        }
    });
    address
}

/// Either end may leave at any time.
fn pass(there: TcpStream, socket: &Path) -> std::io::Result<()> {
    let here = UnixStream::connect(socket)?;
    let (mut from, mut to) = (there.try_clone()?, here.try_clone()?);
    std::thread::spawn(move || {
        let _ = copy(&mut from, &mut to);
        to.shutdown(std::net::Shutdown::Write)
    });
    let (mut from, mut to) = (here, there);
    let _ = copy(&mut from, &mut to);
    to.shutdown(std::net::Shutdown::Both)
}

/// The fuzzer, where `FADES_SCHEMATHESIS` or `PATH` names it.
fn fuzzer() -> Option<PathBuf> {
    let named = std::env::var_os("FADES_SCHEMATHESIS").map(PathBuf::from);
    let named = named.unwrap_or_else(|| PathBuf::from("schemathesis"));
    let there = Command::new(&named).arg("--version").output();
    there.is_ok_and(|o| o.status.success()).then_some(named)
}

#[test]
#[expect(clippy::print_stdout, reason = "a test tells that it did nothing")]
fn a_fuzzer_of_the_document_finds_nothing() {
    let Some(fuzzer) = fuzzer() else {
        println!(
            "SKIPPED: a_fuzzer_of_the_document_finds_nothing: no schemathesis; pip install schemathesis"
        );
        return;
    };
    let site = Site::new();
    let node = site.start();
    node.takes(&task("t1", |_| ()));
    node.result("t1");
    let url = format!("http://{}", way_to(site.path("api.sock")));
    let out = tempfile::tempdir().unwrap();
    let done = Command::new(fuzzer)
        .current_dir(out.path())
        .args(["run", &format!("{url}/v1/openapi.json"), "--url", &url])
        .args(["--seed", "1", "--max-examples", "40", "--workers", "2"])
        .args(["--phases", "examples,coverage,fuzzing", "--no-color"])
        // A random task is never signed, and the operator needs no signature.
        .args(["--exclude-checks", "positive_data_acceptance,ignored_auth"])
        // That one does not end.
        .args(["--exclude-operation-id", "watch-events"])
        .args(["--request-timeout", "30", "--generation-database", "none"])
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&done.stdout);
    assert!(
        done.status.success(),
        "{said}\n{}",
        String::from_utf8_lossy(&done.stderr)
    );
    assert!(said.contains("Operations"), "{said}");
}
