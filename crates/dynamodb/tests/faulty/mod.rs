//! A server that answers as a script says, request by request, and keeps what it was sent.
#![allow(dead_code, reason = "each test file uses its part")]

use std::io::{Read as _, Write as _};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Barrier, Mutex};
use std::time::Duration;

use mintkey_store::{Operation, Reply, Result, Store};
use mintkey_store_testkit::requests::{self, submit};

/// What happens to one request.
#[derive(Clone, Debug)]
pub enum Act {
    /// Answered with this status and body.
    Reply(u16, String),
    /// Answered with these bytes as they are.
    Raw(String),
    /// Taken in, and the connection closed.
    Cut,
    /// Answered, and the connection is closed after it, without an announcement.
    Leave(String),
    /// Taken in, and nothing more.
    Stall,
    /// Answered so much later.
    Late(Duration, String),
    /// Taken in; then the server listens no more, and the connection is closed.
    Vanish,
    /// Answered like this when as many requests wait as meet there.
    Meet(Arc<Barrier>, String),
}

/// The server; it ends with its last connection.
pub struct Faulty {
    pub endpoint: String,
    seen: Arc<Mutex<Vec<String>>>,
    connections: Arc<AtomicUsize>,
    left: Receiver<()>,
}

/// An answer with this status, type and body, behind which the connection is closed.
pub fn answered(status: u16, content_type: &str, body: &str) -> Act {
    Act::Raw(format!(
        "HTTP/1.1 {status} Said\r\ncontent-type: {content_type}\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    ))
}

pub fn refused(status: u16, code: &str) -> Act {
    Act::Reply(
        status,
        format!(
            "{{\"__type\":\"com.amazonaws.dynamodb.v20120810#{code}\",\"message\":\"because\"}}"
        ),
    )
}

impl Faulty {
    pub fn new(script: &[Act]) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let endpoint = format!("http://{}", listener.local_addr().unwrap());
        let seen: Arc<Mutex<Vec<String>>> = Arc::default();
        let own: Vec<Act> = script.to_vec();
        let script = Arc::new(Mutex::new(own.into_iter()));
        let (leaving, left) = channel();
        let noted = Arc::clone(&seen);
        let connections: Arc<AtomicUsize> = Arc::default();
        let counted = Arc::clone(&connections);
        let listener = Arc::new(listener);
        std::thread::spawn(move || {
            while let Ok((stream, _)) = listener.accept() {
                counted.fetch_add(1, Ordering::SeqCst);
                let (noted, script) = (Arc::clone(&noted), Arc::clone(&script));
                let (leaving, listener) = (leaving.clone(), Arc::clone(&listener));
                std::thread::spawn(move || serve(stream, &noted, &script, &leaving, &listener));
            }
        });
        Self {
            endpoint,
            seen,
            connections,
            left,
        }
    }

    /// The requests that came, whole.
    pub fn seen(&self) -> Vec<String> {
        self.seen.lock().unwrap().clone()
    }

    /// The number of connections so far.
    pub fn connections(&self) -> usize {
        self.connections.load(Ordering::SeqCst)
    }

    /// Waits until a connection was left.
    pub fn wait_for_leaving(&self) {
        self.left.recv().unwrap();
    }
}

/// The body of the response to a request that succeeds and finds no row.
fn success(request: &str) -> String {
    let target = request.lines().find_map(|line| {
        let (_, target) = line.split_once("x-amz-target: DynamoDB_20120810.")?;
        Some(target.trim())
    });
    match target {
        Some("Query" | "Scan") => r#"{"Items":[],"Count":0,"ScannedCount":0}"#.to_owned(),
        Some("BatchGetItem") => r#"{"Responses":{},"UnprocessedKeys":{}}"#.to_owned(),
        Some("BatchWriteItem") => r#"{"UnprocessedItems":{}}"#.to_owned(),
        Some("CreateTable" | "DeleteTable" | "UpdateTable") => {
            r#"{"TableDescription":{}}"#.to_owned()
        }
        Some("UpdateItem") if request.contains("ALL_NEW") => {
            let (_, body) = request.split_once("\r\n\r\n").unwrap();
            let body: serde_json::Value = serde_json::from_str(body).unwrap();
            serde_json::json!({ "Attributes": body["Key"] }).to_string()
        }
        _ => "{}".to_owned(),
    }
}

fn serve(
    mut stream: TcpStream,
    seen: &Mutex<Vec<String>>,
    script: &Mutex<std::vec::IntoIter<Act>>,
    leaving: &Sender<()>,
    listener: &TcpListener,
) {
    while let Some(request) = read(&mut stream) {
        // Beyond the script everything is well.
        let act = script.lock().unwrap().next();
        let act = act.unwrap_or_else(|| Act::Reply(200, success(&request)));
        seen.lock().unwrap().push(request);
        let written = match act {
            Act::Reply(status, body) => stream.write_all(answer(status, &body).as_bytes()),
            Act::Raw(text) => {
                let _ = stream.write_all(text.as_bytes());
                return;
            }
            Act::Cut => return,
            Act::Vanish => {
                let listener = socket2::SockRef::from(listener);
                return listener.shutdown(Shutdown::Both).unwrap();
            }
            Act::Leave(body) => {
                let written = stream.write_all(answer(200, &body).as_bytes());
                drop(stream);
                let _ = leaving.send(());
                return drop(written);
            }
            Act::Meet(place, body) => {
                place.wait();
                stream.write_all(answer(200, &body).as_bytes())
            }
            Act::Late(time, body) => {
                // The other side sends nothing more, unless it gives up.
                stream.set_read_timeout(Some(time)).unwrap();
                let _ = stream.read(&mut [0]);
                stream.set_read_timeout(None).unwrap();
                stream.write_all(answer(200, &body).as_bytes())
            }
            Act::Stall => {
                // Until the other side gives up.
                let _ = stream.read(&mut [0]);
                return;
            }
        };
        if written.is_err() {
            return;
        }
    }
}

/// The bytes of a response.
pub fn answer(status: u16, body: &str) -> String {
    format!(
        "HTTP/1.1 {status} Said\r\ncontent-type: application/x-amz-json-1.0\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    )
}

/// Whether these bytes are a complete request.
pub fn is_whole(bytes: &[u8]) -> bool {
    let text = String::from_utf8_lossy(bytes);
    let Some((head, body)) = text.split_once("\r\n\r\n") else {
        return false;
    };
    let length = head
        .lines()
        .find_map(|line| line.strip_prefix("content-length: "));
    length.is_some_and(|length| body.len() >= length.parse().unwrap())
}

/// Reads one request; nothing when the other side has closed.
fn read(stream: &mut TcpStream) -> Option<String> {
    let mut bytes = Vec::new();
    let mut buffer = [0; 4096];
    loop {
        if is_whole(&bytes) {
            return Some(String::from_utf8_lossy(&bytes).into_owned());
        }
        match stream.read(&mut buffer) {
            Ok(count) if count > 0 => bytes.extend_from_slice(&buffer[..count]),
            _ => return None,
        }
    }
}

pub fn open(endpoint: &str, parameters: &str) -> Arc<dyn Store> {
    let url = format!("dynamodb://us-east-1?endpoint={endpoint}{parameters}");
    mintkey_dynamodb::open(&url).unwrap()
}

/// Carries out an operation, once blocking and once submitted. Returns each result with the bodies that were sent.
pub fn both(
    script: &[Act],
    parameters: &str,
    operation: &Operation,
) -> [(Result<Reply>, Vec<String>); 2] {
    let blocking = Faulty::new(script);
    let store = open(&blocking.endpoint, parameters);
    let result = requests::run(&*store, operation.clone());
    let submitted = Faulty::new(script);
    let store = open(&submitted.endpoint, parameters);
    let (_, answer) = submit(&*store, operation.clone());
    [
        (result, bodies(&blocking)),
        (answer.recv().unwrap(), bodies(&submitted)),
    ]
}

/// The bodies of the requests.
pub fn bodies(server: &Faulty) -> Vec<String> {
    let body = |request: String| request.split_once("\r\n\r\n").unwrap().1.to_owned();
    server.seen().into_iter().map(body).collect()
}

/// A body without its token, and the token.
pub fn without_token(body: &str) -> (&str, &str) {
    body.split_once(",\"ClientRequestToken\":").unwrap()
}

/// The response for a cancelled transaction, with these reasons.
pub fn cancelled(reasons: &[&str]) -> Act {
    Act::Reply(
        400,
        format!(
            "{{\"__type\":\"com.amazonaws.dynamodb.v20120810#TransactionCanceledException\",\"Message\":\"because\",\
             \"CancellationReasons\":[{}]}}",
            reasons.join(",")
        ),
    )
}

pub const NONE: &str = r#"{"Code":"None"}"#;
pub const CONFLICT: &str = r#"{"Code":"TransactionConflict","Message":"because"}"#;
pub const THROTTLED: &str = r#"{"Code":"ThrottlingError","Message":"because"}"#;
pub const INVALID: &str = r#"{"Code":"ValidationError","Message":"An operand in the update expression has an incorrect data type"}"#;
pub const NO_ROW: &str =
    r#"{"Code":"ConditionalCheckFailed","Message":"The conditional request failed"}"#;
