//! A node that nobody can reach fetches tasks and brings answers away: it is in a
//! network namespace of its own, whose firewall drops every connection from outside,
//! and nothing of it listens.

use std::collections::BTreeSet;
use std::fs::File;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::os::fd::AsFd;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use rustls::ServerConfig;
use rustls::crypto::ring;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};

use super::asker::Asker;
use super::world::World;
use crate::stage::{Node, Stage, can_run, children, skipped};

const TASKS: usize = 40;

/// What is said of a namespace that cannot be made.
const NOT_ROOT: &str = "only root can make a network namespace";

fn run(line: &str) -> Result<(), String> {
    let mut words = line.split(' ');
    let program = words.next().unwrap();
    let ended = Command::new(program).args(words).output();
    let ended = ended.map_err(|e| format!("{program} cannot be started: {e}"))?;
    let said = String::from_utf8_lossy(&ended.stderr);
    match ended.status.success() {
        true => Ok(()),
        false => Err(format!("{line}: {said}")),
    }
}

/// A namespace that is connected with this one by one wire; gone when dropped.
struct Namespace {
    name: String,
    /// The address of this end, and of that one.
    here: Ipv4Addr,
    there: Ipv4Addr,
}

impl Namespace {
    fn new() -> Result<Self, String> {
        if !rustix::process::geteuid().is_root() {
            return Err(NOT_ROOT.to_owned());
        }
        for (program, package) in [("ip", "iproute2"), ("nft", "nftables")] {
            if Command::new(program).arg("-V").output().is_err() {
                return Err(format!("no {program}; apt-get install {package}"));
            }
        }
        let number = std::process::id();
        let [high, low, ..] = number.to_le_bytes();
        let space = Self {
            name: format!("fades-{number}"),
            here: Ipv4Addr::new(169, 254, high, low & 0xfc | 1),
            there: Ipv4Addr::new(169, 254, high, low & 0xfc | 2),
        };
        let Self { name, here, there } = &space;
        let made = run(&format!("ip netns add {name}"));
        made.map_err(|e| format!("{NOT_ROOT} ({e})"))?;
        for line in [
            format!("ip link add fa{number} type veth peer name fb{number} netns {name}"),
            format!("ip addr add {here}/30 dev fa{number}"),
            format!("ip link set fa{number} up"),
            format!("ip -n {name} addr add {there}/30 dev fb{number}"),
            format!("ip -n {name} link set fb{number} up"),
            format!("ip -n {name} link set lo up"),
            format!("ip netns exec {name} nft add table inet closed"),
            format!(
                "ip netns exec {name} nft add chain inet closed in \
                 {{ type filter hook input priority 0 ; policy drop ; }}"
            ),
            format!("ip netns exec {name} nft add rule inet closed in iif lo accept"),
            format!("ip netns exec {name} nft add rule inet closed in ct state established accept"),
        ] {
            run(&line).map_err(|e| format!("{NOT_ROOT} ({e})"))?;
        }
        Ok(space)
    }

    fn path(&self) -> String {
        format!("/run/netns/{}", self.name)
    }

    /// Somebody who listens in there.
    fn listener(&self) -> TcpListener {
        let space = File::open(self.path()).unwrap();
        let listen = move || {
            let network = Some(LinkNameSpaceType::Network);
            move_into_link_name_space(space.as_fd(), network).unwrap();
            TcpListener::bind((Ipv4Addr::UNSPECIFIED, 0)).unwrap()
        };
        std::thread::spawn(listen).join().unwrap()
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        // The wire goes with it.
        let _ = run(&format!("ip netns delete {}", self.name));
    }
}

/// A certificate for an address, which is its own authority.
fn certificate(stage: &Stage, address: Ipv4Addr) -> Result<Arc<ServerConfig>, String> {
    let folder = stage.folder();
    let made = Command::new("openssl")
        .args(["req", "-x509", "-newkey", "ec", "-nodes", "-days", "2"])
        .args([
            "-pkeyopt",
            "ec_paramgen_curve:prime256v1",
            "-subj",
            "/CN=city",
        ])
        .args(["-addext", "basicConstraints=critical,CA:FALSE"])
        .args(["-addext", &format!("subjectAltName=IP:{address}")])
        .args(["-keyout", "city.key", "-out", "city.pem"])
        .current_dir(&folder)
        .output();
    let Ok(made) = made else {
        return Err("no openssl; apt-get install openssl".to_owned());
    };
    assert!(made.status.success(), "{made:?}");
    let certificate = CertificateDer::from_pem_file(folder.join("city.pem")).unwrap();
    let key = PrivateKeyDer::from_pem_file(folder.join("city.key")).unwrap();
    let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![certificate], key)
        .unwrap();
    Ok(Arc::new(config))
}

/// What was seen of the sockets of a node's processes.
#[derive(Debug, Default)]
struct Seen {
    looks: usize,
    /// Listening sockets of TCP, and all of UDP.
    open: BTreeSet<String>,
    /// Where connections lead.
    peers: BTreeSet<SocketAddr>,
}

impl Seen {
    /// Looks at the node's namespace, and now and then at those that its children
    /// may have instead, which takes longer.
    fn look(&mut self, node: u32) {
        let children = match self.looks % 64 {
            0 => children(node),
            _ => Vec::new(),
        };
        self.looks += 1;
        for pid in children.into_iter().map(|(pid, _)| pid).chain([node]) {
            for table in ["tcp", "tcp6", "udp", "udp6", "raw", "raw6"] {
                // A process may have ended.
                let path = format!("/proc/{pid}/net/{table}");
                let rows = std::fs::read_to_string(path).unwrap_or_default();
                rows.lines().skip(1).for_each(|row| self.row(table, row));
            }
        }
    }

    fn row(&mut self, table: &str, row: &str) {
        const LISTENS: &str = "0A";
        let fields: Vec<&str> = row.split_whitespace().collect();
        if table != "tcp" || fields[3] == LISTENS {
            self.open.insert(format!("{table} {row}"));
        } else {
            self.peers.insert(address(fields[2]));
        }
    }
}

/// An address as the kernel shows it: bytes in the host's order, hexadecimal.
fn address(shown: &str) -> SocketAddr {
    let (ip, port) = shown.split_once(':').unwrap();
    let ip = u32::from_str_radix(ip, 16).unwrap().to_le_bytes();
    let port = u16::from_str_radix(port, 16).unwrap();
    SocketAddr::new(IpAddr::from(ip), port)
}

/// Hands in tasks one after the other, each when the node waits for it, and looks at
/// its sockets all the time.
fn watched(node: &Node, world: &World, asker: &Asker) -> Seen {
    let end = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let look = scope.spawn(|| {
            let mut seen = Seen::default();
            while !end.load(Ordering::Relaxed) {
                seen.look(node.pid());
                std::thread::sleep(Duration::from_millis(1));
            }
            seen
        });
        for n in 0..TASKS {
            world.wait("the node waits for letters", |k| k.waiting > 0);
            let id = format!("t{n}");
            let deliver = serde_json::json!([{"to": "city"}]);
            world.post(&id, &asker.signed(&id, |task| task["deliver"] = deliver));
            world.wait("the answer is there", |k| {
                k.delivered.contains_key(&id) && k.returned.contains_key(&id)
            });
        }
        end.store(true, Ordering::Relaxed);
        look.join().unwrap()
    })
}

#[test]
fn a_node_that_nobody_can_reach_fetches_its_tasks_and_listens_nowhere() {
    let test = "a_node_that_nobody_can_reach_fetches_its_tasks_and_listens_nowhere";
    if !can_run(test) {
        return;
    }
    let stage = Stage::with_node();
    let made = Namespace::new().and_then(|space| {
        let tls = certificate(&stage, space.here)?;
        Ok((space, tls))
    });
    let (space, tls) = match made {
        Ok(made) => made,
        Err(reason) => return skipped(test, &reason),
    };
    // The firewall does what it is there for.
    let listener = space.listener();
    let port = listener.local_addr().unwrap().port();
    let inside = SocketAddr::from((space.there, port));
    let tried = TcpStream::connect_timeout(&inside, Duration::from_millis(500));
    assert!(tried.is_err(), "somebody gets in");
    drop(listener);

    let listener = TcpListener::bind((space.here, 0)).unwrap();
    let server = listener.local_addr().unwrap();
    let world = World::secure(listener, tls);
    let at = &world.at;
    let tables = format!(
        "[inbox.post]\nurl = \"{at}/inbox\"\nwait = \"5s\"\nca-file = \"city.pem\"\n\
         [destination.city]\nurl = \"{at}/air\"\nca-file = \"city.pem\"\n"
    );
    stage.write("fades-node/conf.d/proof.toml", tables);
    let node = stage.node_by(&["nsenter", &format!("--net={}", space.path())]);
    let asker = Asker::new(&stage);
    let network = |pid: u32| std::fs::read_link(format!("/proc/{pid}/ns/net")).unwrap();
    assert_ne!(network(node.pid()), network(std::process::id()));
    let seen = watched(&node, &world, &asker);
    assert_eq!(seen.open, BTreeSet::new(), "nothing listens");
    let peers = Vec::from_iter(seen.peers);
    assert_eq!(peers, [server], "and connections lead to the server only");
    assert!(seen.looks > 20, "{} looks prove little", seen.looks);
    let known = world.known();
    for n in 0..TASKS {
        let id = format!("t{n}");
        assert_eq!(known.delivered[&id][0], known.returned[&id][0]);
        let event: serde_json::Value = serde_json::from_slice(&known.returned[&id][0]).unwrap();
        assert_eq!(event["data"]["answer"]["rows"], 192);
    }
    drop(known);
    assert_eq!(node.stop(), Some(0));
}
