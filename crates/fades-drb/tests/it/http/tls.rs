//! Certificates of both sides.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::sync::Arc;

use rustls::crypto::ring;
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig, ServerConnection, StreamOwned};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};

use super::{ONE, now, table};
use crate::broker::{Broker, sources};
use crate::mqtt::mosquitto::certificates;

/// A server that answers whoever shows a certificate of the authority in `folder`;
/// its own is for the address in the certificate `server.pem`.
fn serve(folder: &Path) -> String {
    let certificate = |file: &str| CertificateDer::from_pem_file(folder.join(file)).unwrap();
    let mut trusted = RootCertStore::empty();
    trusted.add(certificate("ca.pem")).unwrap();
    let provider = Arc::new(ring::default_provider());
    let clients =
        WebPkiClientVerifier::builder_with_provider(Arc::new(trusted), Arc::clone(&provider))
            .build()
            .unwrap();
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_client_cert_verifier(clients)
        .with_single_cert(
            vec![certificate("server.pem")],
            PrivateKeyDer::from_pem_file(folder.join("server.key")).unwrap(),
        )
        .unwrap();
    let (config, listener) = (Arc::new(config), TcpListener::bind("127.0.0.1:0").unwrap());
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let config = Arc::clone(&config);
            std::thread::spawn(move || answer(config, stream));
        }
    });
    format!("https://127.0.0.1:{port}/now")
}

fn answer(config: Arc<ServerConfig>, stream: TcpStream) {
    let mut stream = StreamOwned::new(ServerConnection::new(config).unwrap(), stream);
    let (mut head, mut byte) = (Vec::new(), [0]);
    while !head.ends_with(b"\r\n\r\n") {
        match stream.read(&mut byte) {
            Ok(1) => head.push(byte[0]),
            _ => return,
        }
    }
    let body = r#"{"id":"d","t":1,"h":2}"#;
    let length = body.len();
    let _ = write!(
        stream,
        "HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n\r\n{body}"
    );
}

#[test]
fn a_server_that_wants_a_certificate_gets_it() {
    let (folder, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    certificates(folder.path(), "127.0.0.1");
    certificates(other.path(), "127.0.0.1");
    let copy = |from: &str, to: &str| {
        std::fs::copy(other.path().join(from), folder.path().join(to)).unwrap();
    };
    copy("client.pem", "foreign.pem");
    copy("client.key", "foreign.key");
    let url = serve(folder.path());
    let run = |url: &str, tls: &str| {
        let rest = format!("{ONE}timeout = \"10s\"\n[source.web.tls]\n{tls}\n");
        let source = sources(&table(url, &rest));
        Broker::start(&source, folder.path()).run(&[now()]).0
    };
    let own = |name: &str| {
        format!(
            "ca-file = \"ca.pem\"\ncertificate-file = \"{name}.pem\"\nkey-file = \"{name}.key\""
        )
    };
    assert_eq!(run(&url, &own("client")).good().used, 2);
    let fails = |url: &str, tls: &str, words: &[&str]| {
        let text = run(url, tls).failure_text();
        for word in words {
            assert!(text.contains(word), "{word}: {text}");
        }
    };
    fails(&url, "ca-file = \"ca.pem\"", &["CertificateRequired"]);
    fails(&url, &own("foreign"), &["127.0.0.1"]);
    fails(&url, "", &["not trusted", "ca-file"]);
    std::fs::remove_file(folder.path().join("client.key")).unwrap();
    fails(&url, &own("client"), &["client.key", "No such file"]);
    std::fs::remove_file(folder.path().join("client.pem")).unwrap();
    fails(&url, &own("client"), &["client.pem", "No such file"]);
}

#[test]
fn a_certificate_for_another_name_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    certificates(folder.path(), "elsewhere.lab");
    let url = serve(folder.path());
    let tls = "ca-file = \"ca.pem\"\ncertificate-file = \"client.pem\"\nkey-file = \"client.key\"";
    let rest = format!("{ONE}[source.web.tls]\n{tls}\n");
    let source = sources(&table(&url, &rest));
    let (ended, _) = Broker::start(&source, folder.path()).run(&[now()]);
    let text = ended.failure_text();
    assert!(
        text.contains("another name") && text.contains("elsewhere.lab"),
        "{text}"
    );
}
