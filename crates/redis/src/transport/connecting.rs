//! Connects and signs in without blocking, step by step. The calling thread of a blocking request waits between the steps,
//! and the event loop serves other requests.

use std::io::{self, ErrorKind as Io};
use std::net::{IpAddr, SocketAddr, TcpStream, ToSocketAddrs};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::Arc;
use std::vec;

use mintkey_runtime::{Stop, untrusted_reason};
use mintkey_store::{Error, ErrorKind, Outcome, Result, Severity};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, sockopt};

use crate::config::{Config, Endpoint};
use crate::protocol::replies::{RETRY_DELAY, handshake_error, is_denied};
use crate::protocol::resp::{Call, Value};
use crate::transport::connection::{Connection, RoundTrip, TransportError};
use crate::transport::lookup::{Lookup, Lookups};
use crate::transport::node::Node;
use crate::transport::stream::{Stream, Wait};

/// The oldest version with all commands that are used.
const MIN_VERSION: (u32, u32) = (6, 2);

/// A connection that is not open yet.
pub struct Connecting {
    node: Arc<Node>,
    step: Step,
}

enum Step {
    /// The host must be looked up, or the path of a socket connected to.
    Start,
    /// A thread looks up the host.
    LookUp(Lookup),
    /// The addresses to connect to, and why the one before failed.
    Connect(vec::IntoIter<SocketAddr>, io::Error),
    /// The connection to one address is being established.
    Establish(OwnedFd, vec::IntoIter<SocketAddr>),
    SignIn(Connection, RoundTrip),
    /// It is open, or has failed.
    Ended,
}

impl Connecting {
    /// Nothing has happened yet.
    pub fn new(node: &Arc<Node>) -> Self {
        Self {
            node: Arc::clone(node),
            step: Step::Start,
        }
    }

    /// Goes as far as possible without blocking. Returns the connection when it is signed in, with a non-blocking socket.
    ///
    /// Host names are looked up on a thread of `lookups`, or without it on the calling thread.
    pub fn advance(
        &mut self,
        config: &Config,
        lookups: Option<&Lookups>,
    ) -> Result<Option<Connection>> {
        let advanced = self.take_steps(config, lookups);
        let address = || self.node.own_address();
        match &advanced {
            Ok(None) => {}
            Ok(Some(_)) => config.notices.debug(format!("connected to {}", address())),
            Err(Error { message, .. }) => {
                let text = format!("connecting to {} failed: {message}", address());
                config.notices.debug(text);
            }
        }
        advanced
    }

    fn take_steps(
        &mut self,
        config: &Config,
        lookups: Option<&Lookups>,
    ) -> Result<Option<Connection>> {
        loop {
            self.step = match std::mem::replace(&mut self.step, Step::Ended) {
                Step::Start => match self.start(config, lookups)? {
                    Step::Start => {
                        self.step = Step::Start;
                        return Ok(None);
                    }
                    next => next,
                },
                Step::LookUp(lookup) => match lookup.addresses() {
                    None => {
                        self.step = Step::LookUp(lookup);
                        return Ok(None);
                    }
                    Some(found) => self.found(found)?,
                },
                Step::Connect(mut addresses, last) => match addresses.next() {
                    None => return Err(unreachable_server(&self.node.address, last)),
                    Some(next) => match connect(next) {
                        Ok(socket) => Step::Establish(socket, addresses),
                        Err(error) => Step::Connect(addresses, error.into()),
                    },
                },
                Step::Establish(socket, addresses) => match is_established(&socket) {
                    Ok(false) => {
                        self.step = Step::Establish(socket, addresses);
                        return Ok(None);
                    }
                    Ok(true) => self.secure(config, socket.into())?,
                    Err(error) => Step::Connect(addresses, error),
                },
                Step::SignIn(connection, round_trip) => {
                    return self.sign_in(config, connection, round_trip);
                }
                Step::Ended => return Ok(None),
            }
        }
    }

    /// What to wait for before the next step.
    pub fn wait(&self) -> Wait<'_> {
        match &self.step {
            Step::LookUp(lookup) => Wait::Socket(lookup.as_fd(), PollFlags::IN),
            Step::Establish(socket, _) => Wait::Socket(socket.as_fd(), PollFlags::OUT),
            Step::SignIn(connection, round_trip) => round_trip.wait(connection),
            Step::Start | Step::Connect(..) | Step::Ended => Wait::Time(RETRY_DELAY),
        }
    }

    /// The error if it is given up now.
    pub fn stopped(&self, stop: Stop) -> Error {
        match &self.step {
            Step::SignIn(connection, _) => self.failed(connection, &TransportError::Stopped(stop)),
            _ => stop.error(&self.node.address, "connecting", Outcome::NotApplied),
        }
    }

    /// `Step::Start` if it must be tried again later.
    fn start(&self, config: &Config, lookups: Option<&Lookups>) -> Result<Step> {
        let (host, port) = match &self.node.endpoint {
            Endpoint::Host(host, port) => (host, *port),
            Endpoint::Socket(path) => {
                return match connect_to_path(path) {
                    Ok(socket) => Ok(signing_in(config, Stream::Unix(socket))),
                    // The server has not accepted the connections before this one, and nothing reports when it has.
                    Err(Errno::AGAIN) => Ok(Step::Start),
                    Err(error) => Err(unreachable_server(&self.node.address, error.into())),
                };
            }
        };
        if let Ok(address) = host.parse::<IpAddr>() {
            return self.found(Ok(vec![SocketAddr::new(address, port)]));
        }
        let Some(lookups) = lookups else {
            let found = (host.as_str(), port).to_socket_addrs();
            return self.found(found.map(Iterator::collect));
        };
        match lookups.start(host, port) {
            Ok(lookup) => Ok(lookup.map_or(Step::Start, Step::LookUp)),
            Err(error) => Err(Error::new(
                ErrorKind::Unavailable(Outcome::NotApplied),
                format!(
                    "{}: the system refuses the thread that looks up the host name ({error})",
                    self.node.address
                ),
            )
            .advice("allow more threads (ulimit -u, or the pids limit of the container) and open files (ulimit -n)")
            .caused_by(error)),
        }
    }

    fn found(&self, found: io::Result<Vec<SocketAddr>>) -> Result<Step> {
        let addresses = found.map_err(|error| unreachable_server(&self.node.address, error))?;
        let none = io::Error::new(Io::NotFound, "the host has no address");
        Ok(Step::Connect(addresses.into_iter(), none))
    }

    fn secure(&self, config: &Config, socket: TcpStream) -> Result<Step> {
        let set = socket.set_nodelay(true);
        set.map_err(|error| unreachable_server(&self.node.address, error))?;
        let stream = match (&config.tls, &self.node.endpoint) {
            (Some(tls), Endpoint::Host(host, _)) => {
                Stream::encrypted(tls.connection(host)?, socket)
            }
            _ => Stream::Tcp(socket),
        };
        Ok(signing_in(config, stream))
    }

    fn sign_in(
        &mut self,
        config: &Config,
        mut connection: Connection,
        mut round_trip: RoundTrip,
    ) -> Result<Option<Connection>> {
        let failure = match connection.advance(&mut round_trip) {
            Ok(false) => {
                self.step = Step::SignIn(connection, round_trip);
                return Ok(None);
            }
            Ok(true) => None,
            Err(cause) => Some(cause),
        };
        // Errors come before the failure: a server with too many clients sends one, and closes the connection.
        self.check_replies(config, round_trip.into_replies())?;
        match failure {
            None if connection.is_usable() => Ok(Some(connection)),
            None => {
                let surplus = "the server sent more than was asked for, or closed it";
                let cause = TransportError::Broken(io::Error::other(surplus));
                Err(self.failed(&connection, &cause))
            }
            Some(cause) => Err(self.failed(&connection, &cause)),
        }
    }

    /// Checks the replies that have come, all or the first ones. Notes the version of the server.
    fn check_replies(&self, config: &Config, replies: Vec<Value>) -> Result<()> {
        let last = sign_in_calls(config).len() - 1;
        let address = &self.node.address;
        for (index, reply) in replies.into_iter().enumerate() {
            match reply {
                // A user without permission for INFO may have all others.
                Value::Error(text) if index == last && is_denied(&text) => {}
                Value::Error(text) => return Err(handshake_error(address, &text)),
                Value::Bulk(info) if index == last => {
                    let info = String::from_utf8_lossy(&info);
                    check_version(address, &info)?;
                    self.node.set_version(own_version(&info));
                    check_mode(config, &info)?;
                    if let Some(warning) = config.eviction.read_info(address, &info) {
                        config.notices.add(Severity::Warning, warning);
                    }
                }
                _ if index == last => {
                    return Err(Error::new(
                        ErrorKind::Unavailable(Outcome::NotApplied),
                        format!("{address} sent a reply that Redis does not send"),
                    ));
                }
                _ => {}
            }
        }
        Ok(())
    }

    fn failed(&self, connection: &Connection, cause: &TransportError) -> Error {
        let hint = other_scheme_hint(&connection.stream, cause);
        let error = cause.error(&self.node.address, Outcome::NotApplied);
        match hint {
            Some(hint) => error.advice(hint),
            None => error,
        }
    }
}

/// A hint for a failed connection where one side may use TLS and the other not.
fn other_scheme_hint(stream: &Stream, cause: &TransportError) -> Option<&'static str> {
    match (stream, cause) {
        (Stream::Encrypted(_), TransportError::Broken(error))
            if untrusted_reason(error).is_some() =>
        {
            None
        }
        (
            Stream::Encrypted(_),
            TransportError::Broken(_) | TransportError::Stopped(Stop::Timeout(_)),
        ) if stream.is_handshaking() => {
            Some("if this server does not encrypt, write redis… instead of rediss…")
        }
        (Stream::Tcp(_), TransportError::Broken(_)) => {
            Some("if this server encrypts, write rediss… instead of redis…")
        }
        _ => None,
    }
}

fn signing_in(config: &Config, stream: Stream) -> Step {
    let mut connection = Connection::new(stream, config.max_reply);
    let round_trip = RoundTrip::new(&mut connection, &sign_in_calls(config));
    Step::SignIn(connection, round_trip)
}

fn sign_in_calls(config: &Config) -> Vec<Call> {
    let mut calls = Vec::new();
    if let Some(password) = &config.password {
        let call = Call::new("AUTH");
        calls.push(match &config.user {
            Some(user) => call.arg(user).arg(password),
            None => call.arg(password),
        });
    }
    if config.database != 0 {
        calls.push(Call::new("SELECT").arg(config.database.to_string()));
    }
    // All sections in one reply: servers before 7.0 do not accept a list of sections.
    calls.push(Call::new("INFO"));
    calls
}

fn new_socket(family: AddressFamily) -> rustix::io::Result<OwnedFd> {
    let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
    rustix::net::socket_with(family, SocketType::STREAM, flags, None)
}

/// Starts to connect. A blocking `connect` could not be resumed after a signal.
fn connect(address: SocketAddr) -> rustix::io::Result<OwnedFd> {
    let socket = new_socket(match address {
        SocketAddr::V4(_) => AddressFamily::INET,
        SocketAddr::V6(_) => AddressFamily::INET6,
    })?;
    match rustix::net::connect(&socket, &address) {
        Ok(()) | Err(Errno::INPROGRESS | Errno::INTR) => Ok(socket),
        Err(error) => Err(error),
    }
}

fn is_established(socket: &OwnedFd) -> io::Result<bool> {
    let mut sockets = [PollFd::new(socket, PollFlags::OUT)];
    if poll(&mut sockets, Some(&Timespec::default()))? == 0 {
        return Ok(false);
    }
    sockopt::socket_error(socket)??;
    Ok(true)
}

/// Connects to a Unix domain socket: at once, or `AGAIN` if too many connections wait to be accepted.
fn connect_to_path(path: &Path) -> rustix::io::Result<UnixStream> {
    let socket = new_socket(AddressFamily::UNIX)?;
    rustix::net::connect(&socket, &SocketAddrUnix::new(path)?)?;
    Ok(socket.into())
}

/// The error if no connection can be opened.
pub fn unreachable_server(address: &str, cause: io::Error) -> Error {
    Error::new(
        ErrorKind::Unavailable(Outcome::NotApplied),
        format!(
            "cannot connect to Redis at {address} ({cause}): is it running, and is the address correct?"
        ),
    )
    .caused_by(cause)
}

/// The version of the server. Valkey has one of its own, besides that of the Redis which it is compatible with.
fn own_version(info: &str) -> Option<String> {
    let version = field(info, "valkey_version:").or_else(|| field(info, "redis_version:"))?;
    Some(version.trim().to_owned())
}

fn field<'a>(info: &'a str, name: &str) -> Option<&'a str> {
    info.lines().find_map(|line| line.strip_prefix(name))
}

fn check_version(address: &str, info: &str) -> Result<()> {
    let Some(version) = field(info, "redis_version:") else {
        return Ok(());
    };
    let mut numbers = version.split('.').map(|part| part.trim().parse().ok());
    match (numbers.next().flatten(), numbers.next().flatten()) {
        (Some(major), Some(minor)) if (major, minor) < MIN_VERSION => {
            Err(Error::configuration(format!(
                "{address} is Redis {version}, and mintkey needs {}.{} or later: upgrade the server",
                MIN_VERSION.0, MIN_VERSION.1
            )))
        }
        _ => Ok(()),
    }
}

/// Checks that the scheme fits the server: a Cluster needs `redis-cluster://`.
fn check_mode(config: &Config, info: &str) -> Result<()> {
    let mode = info.lines().find_map(|line| {
        let redis = line.strip_prefix("redis_mode:");
        redis.or_else(|| line.strip_prefix("server_mode:"))
    });
    let address = &config.address;
    let (scheme, location) = address.split_once("://").unwrap_or(("", address));
    let location = location.split(['/', ',', '?']).next().unwrap_or(location);
    let (found, other_scheme) = match (mode.map(str::trim), config.keyspace.clustered, scheme) {
        (Some("cluster"), false, "rediss") => ("is a server of a Cluster", "rediss-cluster"),
        (Some("cluster"), false, _) => ("is a server of a Cluster", "redis-cluster"),
        (Some("standalone"), true, "rediss-cluster") => ("is not a Cluster", "rediss"),
        (Some("standalone"), true, _) => ("is not a Cluster", "redis"),
        _ => return Ok(()),
    };
    let location = if scheme == "unix" {
        "host:6379"
    } else {
        location
    };
    Err(Error::configuration(format!(
        "{address} {found}: write {other_scheme}://{location}"
    )))
}
