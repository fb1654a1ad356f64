//! The Cluster of the tests, and access to it without the code under test.
#![allow(dead_code, reason = "each test file uses its part")]

use std::io::Write;
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use mintkey_store::Store;
use mintkey_store_testkit::server::free_port;

#[path = "../raw_replies/mod.rs"]
mod raw_replies;

/// How long the servers may take to agree.
const TIME_LIMIT: Duration = Duration::from_secs(20);

/// The processes of a Cluster. A shell ends each of them, and removes its folder, as soon as this process ends in any way.
pub struct ClusterServers {
    pub ports: Vec<u16>,
    folder: PathBuf,
    shells: Vec<Child>,
}

impl ClusterServers {
    /// Starts three primaries, each with this number of replicas.
    pub fn start(replicas: u16) -> Self {
        static COUNT: AtomicUsize = AtomicUsize::new(0);
        let own = COUNT.fetch_add(1, Ordering::SeqCst);
        let name = format!("mintkey-redis-cluster-{}-{own}", std::process::id());
        let mut servers = Self {
            ports: Vec::new(),
            folder: std::env::temp_dir().join(name),
            shells: Vec::new(),
        };
        for _ in 0..3 * (1 + replicas) {
            let port = free_port();
            servers.ports.push(port);
            let shell = servers.run(port);
            servers.shells.push(shell);
        }
        let endpoints: Vec<String> = servers
            .ports
            .iter()
            .map(|port| format!("127.0.0.1:{port}"))
            .collect();
        let created = Command::new("redis-cli")
            .args(["--cluster", "create"])
            .args(endpoints)
            .args(["--cluster-replicas", &replicas.to_string(), "--cluster-yes"])
            .output()
            .unwrap();
        assert!(created.status.success(), "{created:?}");
        servers.wait_until("they agree", |servers| {
            servers.ports.iter().all(|port| {
                let known = strings(*port, &["CLUSTER", "SLOTS"]);
                known.len() >= 3 * 5 && Self::is_connected(*port)
            })
        });
        servers
    }

    fn run(&self, port: u16) -> Child {
        let folder = self.folder.join(port.to_string());
        std::fs::create_dir_all(&folder).unwrap();
        let script = "trap : INT TERM; cd \"$0\"; redis-server --port $1 --bind 127.0.0.1 --cluster-enabled yes \
                      --cluster-node-timeout 1000 --save '' --appendonly yes --appendfsync always \
                      --repl-diskless-sync-delay 0 >>log 2>&1 & echo $! >pid; read -r _; \
                      kill -9 $! 2>/dev/null; wait; rm -r \"$0\"; rmdir \"${0%/*}\" 2>/dev/null";
        let shell = Command::new("sh")
            .args(["-c", script, folder.to_str().unwrap(), &port.to_string()])
            .stdin(Stdio::piped())
            .spawn()
            .unwrap();
        let began = Instant::now();
        while std::net::TcpStream::connect(("127.0.0.1", port)).is_err() {
            assert!(began.elapsed() < TIME_LIMIT, "no server at {port}");
            std::thread::yield_now();
        }
        shell
    }

    /// Sends a signal to a server: `KILL` is a crash, after `STOP` it does not answer until `CONT`.
    pub fn signal(&self, port: u16, signal: &str) {
        let pid = std::fs::read_to_string(self.folder.join(format!("{port}/pid"))).unwrap();
        let sent = Command::new("kill")
            .args(["-s", signal, pid.trim()])
            .status();
        assert!(sent.unwrap().success());
    }

    /// Kills a server, and waits until it has ended.
    pub fn kill(&self, port: u16) {
        let pid = std::fs::read_to_string(self.folder.join(format!("{port}/pid"))).unwrap();
        self.signal(port, "KILL");
        // Its shell does not wait for it yet, and its sockets are closed when all its threads have ended.
        let process = PathBuf::from(format!("/proc/{}", pid.trim()));
        self.wait_until("the server has ended", |_| {
            let state = std::fs::read_to_string(process.join("stat"));
            let threads = std::fs::read_dir(process.join("task"));
            state.map_or(true, |state| state.contains(") Z "))
                && threads.map_or(0, Iterator::count) <= 1
        });
    }

    /// The server that has a slot, according to a running server.
    pub fn holder(&self, slot: &str) -> u16 {
        let slot: u16 = slot.parse().unwrap();
        let mut known = self.ports.iter().map(|port| slots(*port));
        let known = known.find(|ranges| !ranges.is_empty()).unwrap();
        let range = known.iter().find(|(range, _)| range.contains(&slot));
        range.unwrap().1
    }

    /// Whether a server knows that this holder has a slot.
    pub fn knows(&self, port: u16, slot: &str, holder: u16) -> bool {
        let slot: u16 = slot.parse().unwrap();
        let own = |(range, port): &(RangeInclusive<u16>, u16)| {
            range.contains(&slot) && *port == holder && self.ports.contains(port)
        };
        slots(port).iter().any(own)
    }

    /// The servers that have slots.
    pub fn primaries(&self) -> Vec<u16> {
        let is_primary = |port: &u16| {
            let role = strings(*port, &["ROLE"]);
            role.first().is_some_and(|role| role == "master")
        };
        self.ports.iter().copied().filter(is_primary).collect()
    }

    /// The replicas of a primary.
    pub fn replicas(&self, primary: u16) -> Vec<u16> {
        let of_primary = |port: &u16| {
            let role = strings(*port, &["ROLE"]);
            role.first().is_some_and(|role| role == "slave") && role[2] == primary.to_string()
        };
        self.ports.iter().copied().filter(of_primary).collect()
    }

    /// Whether a server sees the whole Cluster, and a replica is connected to its primary.
    pub fn is_connected(port: u16) -> bool {
        let info = strings(port, &["CLUSTER", "INFO"]).join("");
        let role = strings(port, &["ROLE"]);
        info.contains("cluster_state:ok")
            && (role[0] != "slave" || role.iter().any(|word| word == "connected"))
    }

    pub fn wait_until(&self, event: &str, has_happened: impl Fn(&Self) -> bool) {
        let began = Instant::now();
        while !has_happened(self) {
            assert!(began.elapsed() < TIME_LIMIT, "not in time: {event}");
            std::thread::yield_now();
        }
    }

    /// The URL of these servers.
    pub fn url(ports: &[u16]) -> String {
        let endpoints: Vec<String> = ports
            .iter()
            .map(|port| format!("127.0.0.1:{port}"))
            .collect();
        format!("redis-cluster://{}", endpoints.join(","))
    }
}

impl Drop for ClusterServers {
    fn drop(&mut self) {
        for shell in &mut self.shells {
            drop(shell.stdin.take());
        }
        for shell in &mut self.shells {
            let _ = shell.wait();
        }
    }
}

/// The ranges of slots that a server knows, each with the port of its primary.
fn slots(port: u16) -> Vec<(RangeInclusive<u16>, u16)> {
    let nodes = strings(port, &["CLUSTER", "NODES"]).join("");
    let mut found = Vec::new();
    for line in nodes.lines() {
        let mut words = line.split(' ').skip(1);
        let endpoint = words.next().unwrap();
        let own = endpoint
            .split('@')
            .next()
            .and_then(|endpoint| endpoint.split(':').nth(1));
        // Flags, primary, three times and the link state come before the slots.
        for range in words.skip(6) {
            let (first, last) = range.split_once('-').unwrap_or((range, range));
            if let (Ok(first), Ok(last)) = (first.parse(), last.parse()) {
                found.push((first..=last, own.unwrap().parse().unwrap()));
            }
        }
    }
    found
}

/// All strings in the reply of a server.
pub fn strings(port: u16, words: &[&str]) -> Vec<String> {
    let mut request = format!("*{}\r\n", words.len()).into_bytes();
    for word in words {
        write!(request, "${}\r\n{word}\r\n", word.len()).unwrap();
    }
    let Ok(mut stream) = std::net::TcpStream::connect(("127.0.0.1", port)) else {
        return Vec::new();
    };
    stream.write_all(&request).unwrap();
    raw_replies::strings(stream)
}

/// A store on a Cluster, under a prefix of its own.
pub struct Fixture {
    pub url: String,
    pub prefix: String,
    pub store: Arc<dyn Store>,
}

/// The URL of the Cluster to test with: `MINTKEY_TEST_REDIS_CLUSTER`, or a Cluster that is started for this process and ends
/// with it.
pub fn address() -> &'static str {
    static ADDRESS: OnceLock<(String, Option<ClusterServers>)> = OnceLock::new();
    let named = || std::env::var("MINTKEY_TEST_REDIS_CLUSTER").map(|address| (address, None));
    let started = || {
        let servers = ClusterServers::start(0);
        (ClusterServers::url(&servers.ports), Some(servers))
    };
    &ADDRESS
        .get_or_init(|| named().unwrap_or_else(|_| started()))
        .0
}

impl Fixture {
    pub fn new() -> Self {
        Self::at(address(), "")
    }

    pub fn at(address: &str, parameters: &str) -> Self {
        static COUNT: AtomicUsize = AtomicUsize::new(0);
        let (own, process) = (COUNT.fetch_add(1, Ordering::SeqCst), std::process::id());
        let prefix = format!("test-{process}-{own}");
        let url = format!("{address}?prefix={prefix}{parameters}");
        let store = mintkey_redis::open(&url).unwrap();
        Self { url, prefix, store }
    }

    pub fn reopen(&self) -> Arc<dyn Store> {
        mintkey_redis::open(&self.url).unwrap()
    }

    /// All keys of this fixture on all servers, without the prefix. Read without the code under test.
    pub fn keys(&self) -> Vec<String> {
        let location = self.url.split("://").nth(1).unwrap();
        let endpoints = location.split('?').next().unwrap().split(',');
        let mut keys: Vec<String> = endpoints
            .flat_map(|endpoint| {
                let port = endpoint.rsplit(':').next().unwrap().parse().unwrap();
                strings(port, &["KEYS", &format!("{}/*", self.prefix)])
            })
            .map(|key| key[self.prefix.len() + 1..].to_owned())
            .collect();
        keys.sort();
        keys.dedup();
        keys
    }
}

/// The migration of a slot to another primary.
pub struct Migration {
    slot: String,
    from: u16,
    to: u16,
}

impl Migration {
    pub fn begin(servers: &ClusterServers, tag: &str) -> Self {
        let slot = strings(servers.ports[0], &["CLUSTER", "KEYSLOT", tag]).remove(0);
        let from = servers.holder(&slot);
        let to = servers.primaries().into_iter().find(|port| *port != from);
        let migration = Self {
            slot,
            from,
            to: to.unwrap(),
        };
        migration.set(migration.to, "IMPORTING", migration.from);
        migration.set(migration.from, "MIGRATING", migration.to);
        migration
    }

    fn set(&self, at: u16, word: &str, other: u16) {
        let id = strings(other, &["CLUSTER", "MYID"]).remove(0);
        let words = ["CLUSTER", "SETSLOT", &self.slot, word, &id];
        assert_eq!(strings(at, &words), ["OK"], "{words:?}");
    }

    /// Moves all keys, a few at a time.
    pub fn move_keys(&self) {
        loop {
            let keys = strings(self.from, &["CLUSTER", "GETKEYSINSLOT", &self.slot, "3"]);
            if keys.is_empty() {
                return;
            }
            let to = self.to.to_string();
            let mut words = vec!["MIGRATE", "127.0.0.1", &to, "", "0", "5000", "KEYS"];
            words.extend(keys.iter().map(String::as_str));
            let moved = strings(self.from, &words);
            assert!(["OK", "NOKEY"].contains(&moved[0].as_str()), "{moved:?}");
        }
    }

    pub fn end(&self, servers: &ClusterServers) {
        for port in [self.to, self.from] {
            self.set(port, "NODE", self.to);
        }
        servers.wait_until("all servers know which one has the slot", |servers| {
            let mut primaries = servers.primaries().into_iter();
            primaries.all(|port| servers.knows(port, &self.slot, self.to))
        });
    }
}
