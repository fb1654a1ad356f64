//! Servers of AWS's services, and programs that use a store with their credentials.
//!
//! AWS's libraries read the environment and the files of their process, so each lookup of credentials has its own process.

use std::collections::HashMap;
use std::fmt::Write as _;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use mintkey_store::{Interrupt, Reply, Result};
use mintkey_store_testkit::requests::{self, get_of, key, orders, submit};

/// A request that a service got.
#[derive(Clone, Debug)]
pub struct Seen {
    /// Method and path.
    pub line: String,
    pub headers: HashMap<String, String>,
    pub body: String,
}

impl Seen {
    /// The access key of the signature.
    pub fn key(&self) -> &str {
        let text = self.headers.get("authorization").map_or("", String::as_str);
        let key = text.split_once("Credential=").map_or("", |(_, rest)| rest);
        key.split_once('/').map_or("", |(key, _)| key)
    }
}

/// The status, more headers, and the body of an answer.
pub type Answer = (u16, &'static str, String);
type Handler = dyn Fn(&Seen) -> Answer + Send + Sync;

/// All services at one address. `DynamoDB` has no rows; the others answer as the test says.
pub struct Services {
    pub port: u16,
    seen: Arc<Mutex<Vec<Seen>>>,
}

impl Services {
    pub fn new(handler: impl Fn(&Seen) -> Answer + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("0.0.0.0:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let seen: Arc<Mutex<Vec<Seen>>> = Arc::default();
        let noted = Arc::clone(&seen);
        let handler: Arc<Handler> = Arc::new(handler);
        // It ends with the test's process.
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let (noted, handler) = (Arc::clone(&noted), Arc::clone(&handler));
                std::thread::spawn(move || serve(&stream.unwrap(), &noted, &*handler));
            }
        });
        Self { port, seen }
    }

    /// The URL of a service on this machine.
    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// A URL for which credentials are looked up as for a server elsewhere.
    pub fn elsewhere(&self) -> String {
        format!("http://0.0.0.0:{}", self.port)
    }

    /// The requests with this in method, path or body.
    pub fn seen(&self, part: &str) -> Vec<Seen> {
        let seen = self.seen.lock().unwrap();
        let found = seen
            .iter()
            .filter(|seen| seen.line.contains(part) || seen.body.contains(part));
        found.cloned().collect()
    }

    /// The access keys that requests to `DynamoDB` were signed with.
    pub fn keys(&self) -> Vec<String> {
        let seen = self.seen.lock().unwrap();
        let rows = seen
            .iter()
            .filter(|seen| seen.headers.contains_key("x-amz-target"));
        rows.map(|seen| seen.key().to_owned()).collect()
    }
}

fn serve(mut stream: &TcpStream, noted: &Mutex<Vec<Seen>>, handler: &Handler) {
    let mut reader = BufReader::new(stream);
    let mut line = String::new();
    if reader.read_line(&mut line).unwrap_or(0) == 0 {
        return;
    }
    let mut headers = HashMap::new();
    loop {
        let mut header = String::new();
        reader.read_line(&mut header).unwrap();
        match header.trim_end().split_once(": ") {
            Some((name, value)) => {
                headers.insert(name.to_ascii_lowercase(), value.to_owned());
            }
            None => break,
        }
    }
    let length = headers
        .get("content-length")
        .map_or(0, |length| length.parse().unwrap());
    let mut body = vec![0; length];
    reader.read_exact(&mut body).unwrap();
    let seen = Seen {
        line: line.trim_end().to_owned(),
        headers,
        body: String::from_utf8(body).unwrap(),
    };
    noted.lock().unwrap().push(seen.clone());
    let (status, more, body) = if seen.headers.contains_key("x-amz-target") {
        let json = "content-type: application/x-amz-json-1.0\r\n";
        (200, json, "{}".to_owned())
    } else {
        handler(&seen)
    };
    let length = body.len();
    // A client that has given up closes the connection.
    let _ = write!(
        stream,
        "HTTP/1.1 {status} Said\r\nconnection: close\r\ncontent-length: {length}\r\n{more}\r\n{body}"
    );
}

/// A time in the future, in seconds.
pub fn after(seconds: u64) -> String {
    let now = std::time::SystemTime::now() + Duration::from_secs(seconds);
    let time = aws_smithy_types::DateTime::from(now);
    time.fmt(aws_smithy_types::date_time::Format::DateTime)
        .unwrap()
}

/// Credentials as containers, instances and programs give them.
pub fn keys(name: &str, seconds: u64) -> String {
    format!(
        "{{\"Code\":\"Success\",\"Type\":\"x\",\"Version\":1,\"AccessKeyId\":\"{name}\",\"SecretAccessKey\":\"hush\",\
         \"Token\":\"t\",\"LastUpdated\":\"2020-01-01T00:00:00Z\",\"Expiration\":\"{}\"}}",
        after(seconds)
    )
}

/// Credentials as STS gives them.
pub fn assumed(action: &str, name: &str) -> Answer {
    let body = format!(
        "<{action}Response xmlns=\"https://sts.amazonaws.com/doc/2011-06-15/\"><{action}Result><Credentials>\
         <AccessKeyId>{name}</AccessKeyId><SecretAccessKey>hush</SecretAccessKey><SessionToken>t</SessionToken>\
         <Expiration>{}</Expiration></Credentials></{action}Result></{action}Response>",
        after(3600)
    );
    (200, "content-type: text/xml\r\n", body)
}

/// What a program with a store is to do, and in which surroundings.
pub struct Program {
    home: tempfile::TempDir,
    vars: Vec<(String, String)>,
}

impl Program {
    /// With these files of AWS.
    pub fn new(config: &str, credentials: &str) -> Self {
        let home = tempfile::tempdir().unwrap();
        let aws = home.path().join(".aws");
        std::fs::create_dir_all(aws.join("sso/cache")).unwrap();
        std::fs::write(aws.join("config"), config).unwrap();
        std::fs::write(aws.join("credentials"), credentials).unwrap();
        let vars = vec![("HOME".to_owned(), home.path().display().to_string())];
        Self { home, vars }
    }

    pub fn home(&self) -> &Path {
        self.home.path()
    }

    /// Writes a file into its home.
    pub fn file(&self, name: &str, text: &str) -> PathBuf {
        let path = self.home().join(name);
        std::fs::write(&path, text).unwrap();
        path
    }

    pub fn with(mut self, vars: &[(&str, &str)]) -> Self {
        let vars = vars
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        self.vars.extend(vars);
        self
    }

    /// With STS and single sign-on at these services.
    pub fn at(self, services: &Services) -> Self {
        let url = services.url();
        let names = ["STS", "SSO", "SSO_OIDC"].map(|name| format!("AWS_ENDPOINT_URL_{name}"));
        names
            .iter()
            .fold(self, |program, name| program.with(&[(name, &url)]))
    }

    /// What a read prints, blocking and submitted alike.
    pub fn run(&self, url: &str) -> String {
        let blocking = self.ask("blocking", url);
        let submitted = self.ask("submitted", url);
        assert_eq!(blocking, submitted);
        blocking
    }

    /// What calls of this kind print.
    pub fn ask(&self, calls: &str, url: &str) -> String {
        let output = Command::new(std::env::current_exe().unwrap())
            .args(["--ignored", "--exact", "program", "--nocapture"])
            .env_clear()
            .env("PATH", "/usr/bin:/bin")
            .env("MINTKEY_CALLS", calls)
            .env("MINTKEY_URL", url)
            .envs(self.vars.iter().map(|(name, value)| (name, value)))
            .output()
            .unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        let printed = text
            .split_once("<<")
            .and_then(|(_, rest)| rest.split_once(">>"));
        let errors = String::from_utf8_lossy(&output.stderr);
        let printed = printed.unwrap_or_else(|| panic!("{text}{errors}")).0;
        assert!(!printed.contains("hush"), "{printed}");
        printed.to_owned()
    }
}

/// Raised a moment after the program has begun.
struct Soon(Instant);

impl Interrupt for Soon {
    fn raised(&self) -> bool {
        self.0.elapsed() > Duration::from_millis(300)
    }
}

fn show(result: &Result<Reply>) -> String {
    match result {
        Ok(_) => "ok".to_owned(),
        Err(error) => format!("{:?}: {error}", error.kind),
    }
}

/// What a program does.
pub fn program() {
    let var = |name| std::env::var(name).unwrap();
    let begin = Instant::now();
    let store = match mintkey_dynamodb::open(&var("MINTKEY_URL")) {
        Ok(store) => store,
        Err(error) => {
            println!("<<{:?}: {error}>>", error.kind);
            return;
        }
    };
    let read = || get_of(&orders(), key("a", "1"));
    let mut printed = String::new();
    match var("MINTKEY_CALLS").as_str() {
        "blocking" => printed = show(&requests::run(&*store, read())),
        "submitted" => printed = show(&submit(&*store, read()).1.recv().unwrap()),
        "three" => {
            for _ in 0..3 {
                let _ = write!(printed, "{} ", show(&requests::run(&*store, read())));
            }
        }
        "many" => {
            let answers: Vec<_> = (0..64).map(|_| submit(&*store, read()).1).collect();
            std::fs::write(format!("{}/all wait", var("HOME")), "").unwrap();
            let answers = answers.iter().map(|answer| show(&answer.recv().unwrap()));
            let failed: Vec<_> = answers.filter(|answer| answer != "ok").collect();
            printed = format!("{failed:?}");
        }
        "interrupted" => {
            let soon: &'static Soon = Box::leak(Box::new(Soon(begin)));
            let request = mintkey_store::Request::new(0, read());
            printed = show(&store.execute(&request, soon));
        }
        other => panic!("{other}"),
    }
    if begin.elapsed() > Duration::from_secs(20) {
        printed.push_str(" late");
    }
    println!("<<{printed}>>");
}
