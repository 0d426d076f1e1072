//! A server InfluxDB 1.x of the distribution, on ports and in a folder of its own.

use std::net::TcpListener;
use std::process::{Child, Command, Stdio};
use std::time::Instant;

use crate::broker::soon;

pub(super) struct Influxd {
    pub(super) url: String,
    _folder: tempfile::TempDir,
    child: Child,
    agent: ureq::Agent,
}

/// A port that nobody has just now.
fn port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.local_addr().unwrap().port()
}

impl Influxd {
    /// A server with a database `lab`; `None` when there is no `influxd`.
    pub(super) fn start(test: &str) -> Option<Self> {
        let influxd = Self::with(test, "", "http")?;
        influxd.query("CREATE DATABASE lab");
        Some(influxd)
    }

    /// A server with more options below `[http]`, reached by `scheme`.
    pub(super) fn with(test: &str, http: &str, scheme: &str) -> Option<Self> {
        let folder = tempfile::tempdir().unwrap();
        let (bind, port) = (port(), port());
        let path = folder.path().display().to_string();
        let config = format!(
            "reporting-disabled = true\nbind-address = \"127.0.0.1:{bind}\"\n[meta]\ndir = \"{path}/meta\"\n\
             [data]\ndir = \"{path}/data\"\nwal-dir = \"{path}/wal\"\nquery-log-enabled = false\n\
             max-values-per-tag = 0\nmax-series-per-database = 0\n\
             [http]\nbind-address = \"127.0.0.1:{port}\"\nlog-enabled = false\n{http}\n\
             [monitor]\nstore-enabled = false\n[subscriber]\nenabled = false\n"
        );
        let file = folder.path().join("influx.conf");
        std::fs::write(&file, config).unwrap();
        let child = Command::new("influxd")
            .arg("-config")
            .arg(&file)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn();
        let child = match child {
            Ok(child) => child,
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => {
                println!("SKIPPED: {test}: no influxd; apt-get install influxdb");
                return None;
            }
            Err(e) => panic!("{e}"),
        };
        let tls = ureq::tls::TlsConfig::builder()
            .disable_verification(true)
            .build();
        let agent = ureq::Agent::config_builder()
            .tls_config(tls)
            .proxy(None)
            .http_status_as_error(false)
            .build();
        let influxd = Self {
            url: format!("{scheme}://127.0.0.1:{port}"),
            _folder: folder,
            child,
            agent: agent.into(),
        };
        let deadline = soon().unwrap();
        while influxd
            .agent
            .get(format!("{}/ping", influxd.url))
            .call()
            .is_err()
        {
            assert!(Instant::now() < deadline);
            std::thread::sleep(std::time::Duration::from_millis(5));
        }
        Some(influxd)
    }

    pub(super) const fn agent(&self) -> &ureq::Agent {
        &self.agent
    }

    pub(super) fn query(&self, q: &str) {
        let mut answer = self
            .agent
            .post(format!("{}/query", self.url))
            .send_form([("q", q)])
            .unwrap();
        let text = answer.body_mut().read_to_string().unwrap();
        assert!(
            answer.status().is_success() && !text.contains("error"),
            "{text}"
        );
    }

    pub(super) fn write(&self, lines: &str) {
        self.write_as(lines, "");
    }

    pub(super) fn write_as(&self, lines: &str, who: &str) {
        let url = format!("{}/write?db=lab{who}", self.url);
        let mut answer = self.agent.post(url).send(lines.as_bytes()).unwrap();
        let text = answer.body_mut().read_to_string().unwrap();
        assert_eq!(answer.status(), 204, "{text}");
    }
}

impl Drop for Influxd {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
