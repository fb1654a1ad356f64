//! A Cluster that the tests use, and a look into it past the code under test.
#![allow(dead_code, reason = "each test file uses its part")]

use std::io::Write;
use std::net::TcpListener;
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use mintkey_store::Store;

#[path = "../answers/mod.rs"]
mod answers;

/// How long a Cluster may take to come together.
const PATIENCE: Duration = Duration::from_secs(20);

/// The processes of a Cluster. A shell watches over each: it ends it, and removes its folder, as soon as
/// this process is gone, however it goes.
pub struct Members {
    pub ports: Vec<u16>,
    folder: PathBuf,
    shells: Vec<Child>,
}

impl Members {
    /// Three primaries, and as many replicas if there is one each.
    pub fn start(replicas: u16) -> Self {
        static COUNT: AtomicUsize = AtomicUsize::new(0);
        let own = COUNT.fetch_add(1, Ordering::SeqCst);
        let name = format!("mintkey-redis-cluster-{}-{own}", std::process::id());
        let mut members = Self {
            ports: Vec::new(),
            folder: std::env::temp_dir().join(name),
            shells: Vec::new(),
        };
        for _ in 0..3 * (1 + replicas) {
            let port = free_port();
            members.ports.push(port);
            let shell = members.run(port);
            members.shells.push(shell);
        }
        let places: Vec<String> = members
            .ports
            .iter()
            .map(|port| format!("127.0.0.1:{port}"))
            .collect();
        let made = Command::new("redis-cli")
            .args(["--cluster", "create"])
            .args(places)
            .args(["--cluster-replicas", &replicas.to_string(), "--cluster-yes"])
            .output()
            .unwrap();
        assert!(made.status.success(), "{made:?}");
        members.wait_until("they agree", |members| {
            members.ports.iter().all(|port| {
                let known = texts(*port, &["CLUSTER", "SLOTS"]);
                known.len() >= 3 * 5 && Self::is_whole(*port)
            })
        });
        members
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
            assert!(began.elapsed() < PATIENCE, "no server at {port}");
            std::thread::yield_now();
        }
        shell
    }

    /// Sends a member a signal: `KILL` is a crash, after `STOP` it says nothing until `CONT`.
    pub fn signal(&self, port: u16, signal: &str) {
        let pid = std::fs::read_to_string(self.folder.join(format!("{port}/pid"))).unwrap();
        let sent = Command::new("kill")
            .args(["-s", signal, pid.trim()])
            .status();
        assert!(sent.unwrap().success());
    }

    /// The member that has a slot, as a member tells that lives.
    pub fn holder(&self, slot: &str) -> u16 {
        let slot: u16 = slot.parse().unwrap();
        let mut told = self.ports.iter().map(|port| slots(*port));
        let told = told.find(|ranges| !ranges.is_empty()).unwrap();
        let range = told.iter().find(|(range, _)| range.contains(&slot));
        range.unwrap().1
    }

    /// Whether a member says that another has a slot.
    pub fn knows(&self, port: u16, slot: &str, holder: u16) -> bool {
        let slot: u16 = slot.parse().unwrap();
        let own = |(range, port): &(RangeInclusive<u16>, u16)| {
            range.contains(&slot) && *port == holder && self.ports.contains(port)
        };
        slots(port).iter().any(own)
    }

    /// Those that have slots.
    pub fn primaries(&self) -> Vec<u16> {
        let is_primary = |port: &u16| {
            let role = texts(*port, &["ROLE"]);
            role.first().is_some_and(|role| role == "master")
        };
        self.ports.iter().copied().filter(is_primary).collect()
    }

    /// The replicas of a primary.
    pub fn replicas(&self, primary: u16) -> Vec<u16> {
        let of_primary = |port: &u16| {
            let role = texts(*port, &["ROLE"]);
            role.first().is_some_and(|role| role == "slave") && role[2] == primary.to_string()
        };
        self.ports.iter().copied().filter(of_primary).collect()
    }

    /// Whether a member sees the whole Cluster, and a replica its primary.
    pub fn is_whole(port: u16) -> bool {
        let info = texts(port, &["CLUSTER", "INFO"]).join("");
        let role = texts(port, &["ROLE"]);
        info.contains("cluster_state:ok")
            && (role[0] != "slave" || role.iter().any(|word| word == "connected"))
    }

    pub fn wait_until(&self, what: &str, so: impl Fn(&Self) -> bool) {
        let began = Instant::now();
        while !so(self) {
            assert!(began.elapsed() < PATIENCE, "not in time: {what}");
            std::thread::yield_now();
        }
    }

    /// The address that names these members.
    pub fn url(ports: &[u16]) -> String {
        let places: Vec<String> = ports
            .iter()
            .map(|port| format!("127.0.0.1:{port}"))
            .collect();
        format!("redis-cluster://{}", places.join(","))
    }
}

impl Drop for Members {
    fn drop(&mut self) {
        for shell in &mut self.shells {
            drop(shell.stdin.take());
        }
        for shell in &mut self.shells {
            let _ = shell.wait();
        }
    }
}

/// The ranges of slots that a member knows, each with its primary's port.
fn slots(port: u16) -> Vec<(RangeInclusive<u16>, u16)> {
    let told = texts(port, &["CLUSTER", "NODES"]).join("");
    let mut found = Vec::new();
    for line in told.lines() {
        let mut words = line.split(' ').skip(1);
        let place = words.next().unwrap();
        let own = place
            .split('@')
            .next()
            .and_then(|place| place.split(':').nth(1));
        // Flags, primary, three times and the state of the link come before the slots.
        for range in words.skip(6) {
            let (first, last) = range.split_once('-').unwrap_or((range, range));
            if let (Ok(first), Ok(last)) = (first.parse(), last.parse()) {
                found.push((first..=last, own.unwrap().parse().unwrap()));
            }
        }
    }
    found
}

/// A port that nobody listens at, as is the one above by 10,000, where the members talk.
fn free_port() -> u16 {
    loop {
        let free = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = free.local_addr().unwrap().port();
        if port < 50_000 && TcpListener::bind(("127.0.0.1", port + 10_000)).is_ok() {
            return port;
        }
    }
}

/// What a member answers, flattened to its texts.
pub fn texts(port: u16, words: &[&str]) -> Vec<String> {
    let mut request = format!("*{}\r\n", words.len()).into_bytes();
    for word in words {
        write!(request, "${}\r\n{word}\r\n", word.len()).unwrap();
    }
    let Ok(mut stream) = std::net::TcpStream::connect(("127.0.0.1", port)) else {
        return Vec::new();
    };
    stream.write_all(&request).unwrap();
    answers::flat(stream)
}

/// A store on a Cluster, under a prefix of its own.
pub struct Fixture {
    pub url: String,
    pub prefix: String,
    pub store: Arc<dyn Store>,
}

/// The address of the Cluster to test with: the one that `MINTKEY_TEST_REDIS_CLUSTER` names, or one that is
/// started for this process and ends with it.
pub fn address() -> &'static str {
    static ADDRESS: OnceLock<(String, Option<Members>)> = OnceLock::new();
    let named = || std::env::var("MINTKEY_TEST_REDIS_CLUSTER").map(|address| (address, None));
    let started = || {
        let members = Members::start(0);
        (Members::url(&members.ports), Some(members))
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

    /// Every key of this fixture on all members, past the code under test and without the prefix.
    pub fn keys(&self) -> Vec<String> {
        let location = self.url.split("://").nth(1).unwrap();
        let places = location.split('?').next().unwrap().split(',');
        let mut keys: Vec<String> = places
            .flat_map(|place| {
                let port = place.rsplit(':').next().unwrap().parse().unwrap();
                texts(port, &["KEYS", &format!("{}/*", self.prefix)])
            })
            .map(|key| key[self.prefix.len() + 1..].to_owned())
            .collect();
        keys.sort();
        keys.dedup();
        keys
    }
}
