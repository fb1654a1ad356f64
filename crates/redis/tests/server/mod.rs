//! The server of the tests, and access to it without the code under test.
#![allow(dead_code, reason = "each test file uses its part")]

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::os::unix::net::UnixStream;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};

use mintkey_store::Store;

#[path = "../raw_replies/mod.rs"]
mod raw_replies;

/// A store under a prefix of its own.
pub struct Fixture {
    pub url: String,
    pub prefix: String,
    pub store: Arc<dyn Store>,
}

/// The URL of the server to test with: `MINTKEY_TEST_REDIS`, or a server that is started for this process and ends with it.
pub fn address() -> &'static str {
    static ADDRESS: OnceLock<(String, Option<Child>)> = OnceLock::new();
    let named = || std::env::var("MINTKEY_TEST_REDIS").map(|address| (address, None));
    let started = || {
        let (address, shell) = start();
        (address, Some(shell))
    };
    &ADDRESS
        .get_or_init(|| named().unwrap_or_else(|_| started()))
        .0
}

/// Starts a server at a socket in a new folder. A shell ends it, and removes the folder, as soon as this process ends in any
/// way.
fn start() -> (String, Child) {
    let folder = std::env::temp_dir().join(format!("mintkey-redis-{}", std::process::id()));
    std::fs::create_dir(&folder).unwrap();
    let script = "trap : INT TERM; redis-server --port 0 --unixsocket \"$0/redis.sock\" --save '' --dir \"$0\" \
                  >\"$0/log\" 2>&1 & read -r _; kill $!; wait; rm -r \"$0\"";
    let shell = Command::new("sh")
        .args(["-c", script, folder.to_str().unwrap()])
        .stdin(Stdio::piped())
        .spawn()
        .unwrap();
    let socket = folder.join("redis.sock");
    let began = std::time::Instant::now();
    while UnixStream::connect(&socket).is_err() {
        assert!(
            began.elapsed().as_secs() < 60,
            "no Redis to test with: install redis-server, or set MINTKEY_TEST_REDIS to the address of one"
        );
        std::thread::yield_now();
    }
    (format!("unix://{}", socket.display()), shell)
}

impl Fixture {
    pub fn new() -> Self {
        Self::with("")
    }

    pub fn with(parameters: &str) -> Self {
        static COUNT: AtomicUsize = AtomicUsize::new(0);
        let (own, process) = (COUNT.fetch_add(1, Ordering::SeqCst), std::process::id());
        let prefix = format!("test-{process}-{own}");
        let url = format!("{}?prefix={prefix}{parameters}", address());
        let store = mintkey_redis::open(&url).unwrap();
        Self { url, prefix, store }
    }

    pub fn reopen(&self) -> Arc<dyn Store> {
        mintkey_redis::open(&self.url).unwrap()
    }

    /// All keys of this fixture, without the prefix. Read without the code under test.
    pub fn keys(&self) -> Vec<String> {
        let mut keys = command(&["KEYS", &format!("{}/*", self.prefix)]);
        keys.sort();
        keys.iter()
            .map(|key| key[self.prefix.len() + 1..].to_owned())
            .collect()
    }

    /// A key with the prefix.
    pub fn key(&self, key: &str) -> String {
        format!("{}/{key}", self.prefix)
    }
}

/// All strings in the reply of the server to a command.
pub fn command(words: &[&str]) -> Vec<String> {
    let mut request = format!("*{}\r\n", words.len()).into_bytes();
    for word in words {
        write!(request, "${}\r\n{word}\r\n", word.len()).unwrap();
    }
    if let Some(path) = address().strip_prefix("unix://") {
        let mut stream = UnixStream::connect(path).unwrap();
        stream.write_all(&request).unwrap();
        return raw_replies::strings(stream);
    }
    let location = address().strip_prefix("redis://").unwrap();
    let mut stream = TcpStream::connect(location.split('/').next().unwrap()).unwrap();
    stream.write_all(&request).unwrap();
    raw_replies::strings(stream)
}

/// A connection to the server: its writer and its reader.
pub fn connect() -> (Box<dyn Write>, Box<dyn BufRead>) {
    if let Some(path) = address().strip_prefix("unix://") {
        let stream = UnixStream::connect(path).unwrap();
        let copy = stream.try_clone().unwrap();
        return (Box::new(stream), Box::new(BufReader::new(copy)));
    }
    let location = address().strip_prefix("redis://").unwrap();
    let stream = TcpStream::connect(location.split('/').next().unwrap()).unwrap();
    let copy = stream.try_clone().unwrap();
    (Box::new(stream), Box::new(BufReader::new(copy)))
}

/// The bytes of the next command or reply; `None` at the end.
pub fn frame(mut reader: impl BufRead) -> Option<Vec<u8>> {
    let (mut bytes, mut missing) = (Vec::new(), 1);
    while missing > 0 {
        missing -= 1;
        let start = bytes.len();
        reader.read_until(b'\n', &mut bytes).ok()?;
        let line = std::str::from_utf8(&bytes[start..]).unwrap().trim_end();
        let (kind, rest) = line.split_at_checked(1)?;
        match kind {
            "*" => missing += rest.parse::<i64>().unwrap().max(0),
            "$" if rest != "-1" => {
                let length = rest.parse::<u64>().unwrap() + 2;
                reader.by_ref().take(length).read_to_end(&mut bytes).ok()?;
            }
            _ => {}
        }
    }
    Some(bytes)
}
