//! A folder with everything that a node needs, and a node in it.

use std::net::SocketAddr;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use fades_orc::api::types::{FunctionInfo, NodeInfo, Publish, TaskResult};
use fades_task::identity::Digest;
use fades_task::mtw::Mtw;
use fades_task::quantity::Duration;
use fades_task::time::Time;
use fades_trust::function::{
    Architecture, FunctionStatement, ImageFormat, image_digest, sign_function,
};
use fades_trust::key::SecretKey;
use fades_trust::request::{RequestStatement, sign_request, to_header};
use fades_trust::task::sign_task;
use fades_trust::trust::{Role, TrustStore, TrustedKey};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::certificates::{Authority, Shown};
use crate::client::{Answer, PATIENCE, over_socket};

pub(crate) const IMAGE: &[u8] = b"\x7fELF, or so it says";

/// Key 1 submits for `city-air`, 2 publishes, 3 reads, 4 submits for `noise`.
pub(crate) fn key(n: u8) -> SecretKey {
    SecretKey::from_seed(&[n; 32])
}

pub(crate) fn now() -> Time {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    Time(since.as_nanos() as i64)
}

pub(crate) fn digest() -> Digest {
    image_digest(IMAGE)
}

pub(crate) fn stand_in() -> PathBuf {
    let test = std::env::current_exe().unwrap();
    let target = test.parent().and_then(Path::parent).unwrap();
    let path = target.join("examples/stand_in");
    assert!(
        path.exists(),
        "`cargo test -p fades-orc` builds {}",
        path.display()
    );
    path
}

/// The files of a node; nothing runs yet.
pub(crate) struct Site {
    folder: TempDir,
    settings: Value,
}

/// A node that runs; killed when dropped.
pub(crate) struct Running<'a> {
    pub(crate) site: &'a Site,
    pub(crate) process: Child,
}

impl Site {
    pub(crate) fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        for role in ["tender", "broker", "node"] {
            symlink(stand_in(), folder.path().join(role)).unwrap();
        }
        let mut trust = TrustStore::default();
        for (n, name, role, service) in [
            (1, "city", Role::Submit, Some("city-air")),
            (2, "plant", Role::Publish, None),
            (3, "audit", Role::Read, None),
            (4, "noise", Role::Submit, Some("noise")),
        ] {
            trust
                .add(TrustedKey {
                    name: name.parse().unwrap(),
                    public: key(n).public(),
                    roles: vec![role],
                    services: service.iter().map(|s| s.parse().unwrap()).collect(),
                    development: n == 2,
                    not_after: (n == 3).then(|| now().after(Duration::from_secs(29 * 24 * 3600))),
                })
                .unwrap();
        }
        let site = Self {
            folder,
            settings: json!({ "parallel": 2, "sources": {}, "grants": { "all": {
                "services": ["*"], "functions": ["*"], "history": "any", "live": true,
                "previews": true, "destinations": ["*"],
            } } }),
        };
        std::fs::write(site.path("trust.toml"), trust.to_toml()).unwrap();
        site
    }

    pub(crate) fn with(mut self, setting: &str, value: Value) -> Self {
        self.settings[setting] = value;
        self
    }

    /// Has the node listen over TCP as well, with certificates of `authority`
    /// on both sides.
    pub(crate) fn listening(self, authority: &Authority) -> (Self, SocketAddr) {
        let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = port.local_addr().unwrap();
        std::fs::create_dir(self.path("tls")).unwrap();
        self.certify(&authority.node());
        std::fs::write(self.path("tls/clients.crt"), authority.pem()).unwrap();
        (self.with("listen", json!(address.to_string())), address)
    }

    /// The certificate that the node shows from its start, or from when it is
    /// told.
    pub(crate) fn certify(&self, own: &Shown) {
        let key = self.path("tls/node.key");
        std::fs::write(self.path("tls/node.crt"), &own.certificate).unwrap();
        std::fs::write(&key, &own.key).unwrap();
        let mode = std::os::unix::fs::PermissionsExt::from_mode(0o600);
        std::fs::set_permissions(&key, mode).unwrap();
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub(crate) fn image(&self) -> PathBuf {
        let name = digest().to_string().replace(':', "-");
        self.path(&format!("state/images/{name}.fades"))
    }

    fn command(&self) -> Command {
        let settings = serde_json::to_string(&self.settings).unwrap();
        std::fs::write(self.path("node.json"), settings).unwrap();
        let mut command = Command::new(self.path("node"));
        command.arg(self.folder.path()).stdin(Stdio::null());
        command
    }

    /// Starts a node that is expected to end of itself, and gives its words.
    pub(crate) fn fails_to_start(&self) -> String {
        let done = self.command().output().unwrap();
        assert!(!done.status.success());
        String::from_utf8_lossy(&done.stderr).into_owned()
    }

    /// Starts a node, which has the function `summary`, and waits for it.
    pub(crate) fn start(&self) -> Running<'_> {
        let running = self.start_bare();
        running.publish();
        running
    }

    pub(crate) fn start_bare(&self) -> Running<'_> {
        let process = self.command().stderr(Stdio::inherit()).spawn().unwrap();
        let mut running = Running {
            site: self,
            process,
        };
        running.wait_until("the node answers", |node| {
            let ended = node.process.try_wait().unwrap();
            assert!(ended.is_none(), "the node ended: {ended:?}");
            node.try_ask("GET", "/v1/node", b"").is_ok()
        });
        running
    }
}

pub(crate) fn task(id: &str, change: impl FnOnce(&mut Value)) -> Mtw {
    let mut task = json!({
        "task": {
            "id": id, "name": "air", "service": "city-air", "for": ["harbour-07"],
            "expires": now().after(Duration::from_secs(3600)), "zone": "Europe/London"
        },
        "retrieve": [{"name": "pm", "kind": "pm10", "last": "24h"}],
        "function": {"image": format!("summary@{}", digest()), "limits": {"memory": "1MiB"}}
    });
    change(&mut task);
    serde_json::from_value(task).unwrap()
}

pub(crate) fn signed(task: &Mtw) -> Vec<u8> {
    sign_task(task, &key(1)).to_json().into_bytes()
}

pub(crate) fn publish(image: &[u8], signer: u8) -> Vec<u8> {
    let statement = FunctionStatement {
        name: "summary".parse().unwrap(),
        digest: digest(),
        size: IMAGE.len() as u64,
        abi_major: 1,
        abi_minor: 0,
        architecture: Architecture::HERE,
        format: ImageFormat::FadesElf,
        created: None,
    };
    publish_as(&statement, image, signer)
}

pub(crate) fn publish_as(statement: &FunctionStatement, image: &[u8], signer: u8) -> Vec<u8> {
    let body = Publish {
        envelope: sign_function(statement, &key(signer)).to_json(),
        image: STANDARD.encode(image),
        symbols: Some("1000 20 main\n".to_owned()),
    };
    serde_json::to_vec(&body).unwrap()
}

/// An `Authorization` header for one request, signed by key `n`.
pub(crate) fn header(n: u8, method: &str, path: &str, nonce: &str) -> String {
    let statement = RequestStatement {
        method: method.to_owned(),
        path: path.to_owned(),
        audience: "harbour-07".parse().unwrap(),
        expires: now().after(Duration::from_secs(60)),
        nonce: nonce.parse().unwrap(),
    };
    to_header(&sign_request(&statement, &key(n)))
}

impl Running<'_> {
    pub(crate) fn try_ask(&self, method: &str, path: &str, body: &[u8]) -> std::io::Result<Answer> {
        over_socket(&self.site.path("api.sock"), (method, path), None, body)
    }

    pub(crate) fn ask(&self, method: &str, path: &str, body: &[u8]) -> Answer {
        self.try_ask(method, path, body).unwrap()
    }

    pub(crate) fn get(&self, path: &str) -> Answer {
        self.ask("GET", path, b"")
    }

    pub(crate) fn post(&self, path: &str, body: &[u8]) -> Answer {
        self.ask("POST", path, body)
    }

    pub(crate) fn ask_as(&self, header: &str, method: &str, path: &str) -> Answer {
        let socket = self.site.path("api.sock");
        over_socket(&socket, (method, path), Some(header), b"").unwrap()
    }

    pub(crate) fn publish(&self) -> FunctionInfo {
        let answer = self.post("/v1/functions", &publish(IMAGE, 2));
        assert!(matches!(answer.status, 200 | 201), "{answer:?}");
        answer.json()
    }

    pub(crate) fn submit(&self, task: &Mtw) -> Answer {
        self.post("/v1/tasks", &signed(task))
    }

    /// Submits a task that must be taken.
    #[track_caller]
    pub(crate) fn takes(&self, task: &Mtw) {
        let answer = self.submit(task);
        assert_eq!(
            answer.status,
            201,
            "{}",
            String::from_utf8_lossy(&answer.body)
        );
    }

    /// The final result of a task.
    #[track_caller]
    pub(crate) fn result(&self, id: &str) -> TaskResult {
        let answer = self.get(&format!("/v1/tasks/{id}/result?wait=25s"));
        assert_eq!(
            answer.status,
            200,
            "{}",
            String::from_utf8_lossy(&answer.body)
        );
        answer.json()
    }

    pub(crate) fn info(&self) -> NodeInfo {
        self.get("/v1/node").json()
    }

    #[track_caller]
    pub(crate) fn wait_until(&mut self, what: &str, mut holds: impl FnMut(&mut Self) -> bool) {
        let deadline = Instant::now() + PATIENCE;
        while !holds(self) {
            assert!(Instant::now() < deadline, "waited in vain until {what}");
            std::thread::sleep(std::time::Duration::from_millis(5));
        }
    }

    /// Waits until a tender works on a task.
    #[track_caller]
    pub(crate) fn wait_for_tender(&mut self, task: &str) -> u32 {
        let mut pid = None;
        self.wait_until("its tender runs", |node| {
            let tenders = node.info().tenders;
            let found = tenders.iter().find(|t| t.task.as_str() == task);
            pid = found.map(|t| t.pid);
            pid.is_some()
        });
        pid.unwrap()
    }

    pub(crate) fn signal(&self, signal: rustix::process::Signal) {
        signal_process(self.process.id(), signal);
    }

    /// Asks the node to end, and waits for it.
    pub(crate) fn stop(mut self) {
        self.signal(rustix::process::Signal::TERM);
        let status = self.process.wait().unwrap();
        assert!(status.success(), "{status}");
    }
}

pub(crate) fn signal_process(pid: u32, signal: rustix::process::Signal) {
    let pid = rustix::process::Pid::from_raw(pid as i32).unwrap();
    // It may have ended in the meantime.
    let _ = rustix::process::kill_process(pid, signal);
}

impl Drop for Running<'_> {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
