//! A server, with idle connections for blocking calls.

use std::mem;
use std::sync::Mutex;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use mintkey_runtime::locked;
use mintkey_store::{Error, ErrorKind, Outcome, Server};

use crate::config::Endpoint;
use crate::transport::connection::Connection;

/// The idle connections to a server that are kept open.
const MAX_IDLE: usize = 64;
/// How long to wait for one server of a Cluster before another one is asked.
pub const NODE_TIMEOUT: Duration = Duration::from_secs(1);

/// A server.
pub struct Node {
    /// Where it listens.
    pub endpoint: Endpoint,
    /// Its address in messages.
    pub address: String,
    /// Idle connections for blocking calls.
    idle: Mutex<Vec<Connection>>,
    /// The version of the server, as the last new connection has found it.
    version: Mutex<Option<String>>,
    /// Whether the last request for the slots failed: other servers are asked first.
    pub is_unresponsive: AtomicBool,
}

/// Each node is another server.
impl PartialEq for Node {
    fn eq(&self, other: &Self) -> bool {
        std::ptr::eq(self, other)
    }
}

impl Node {
    /// A server that nothing was sent to yet.
    pub fn new(endpoint: &Endpoint, address: String) -> Self {
        Self {
            endpoint: endpoint.clone(),
            address,
            idle: Mutex::default(),
            version: Mutex::default(),
            is_unresponsive: AtomicBool::new(false),
        }
    }

    /// Notes the version of the server.
    pub fn set_version(&self, version: Option<String>) {
        *locked(&self.version) = version;
    }

    /// The server, for a report: its own address, and its version.
    pub fn describe(&self) -> Server {
        Server {
            address: self.own_address(),
            version: locked(&self.version).clone(),
        }
    }

    /// Its host and port, or the path of its socket.
    pub fn own_address(&self) -> String {
        match &self.endpoint {
            Endpoint::Host(host, port) if host.contains(':') => format!("[{host}]:{port}"),
            Endpoint::Host(host, port) => format!("{host}:{port}"),
            Endpoint::Socket(path) => path.display().to_string(),
        }
    }

    /// An idle connection that can be used.
    pub fn take_idle(&self) -> Option<Connection> {
        loop {
            let mut connection = locked(&self.idle).pop()?;
            if connection.is_usable() {
                return Some(connection);
            }
        }
    }

    /// The error of a server of a Cluster that does not answer in time.
    pub fn no_answer_error(&self) -> Error {
        let address = &self.address;
        Error::new(
            ErrorKind::Unavailable(Outcome::NotApplied),
            format!(
                "Redis at {address} does not answer: is it running, and is the address correct?"
            ),
        )
    }

    /// Keeps a connection for the next call.
    pub fn keep(&self, connection: Connection) {
        let mut idle = locked(&self.idle);
        if idle.len() < MAX_IDLE {
            idle.push(connection);
        }
    }

    /// Closes the idle connections.
    pub fn close_idle(&self) {
        let idle = mem::take(&mut *locked(&self.idle));
        drop(idle);
    }
}
