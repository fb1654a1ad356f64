//! A connection to a server: connecting, signing in, sending and receiving.

use std::io::{self, ErrorKind as Io, Write};
use std::net::{SocketAddr, TcpStream, ToSocketAddrs};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;

use mintkey_runtime::{Deadline, POLL, Stop, distrust, pause};
use mintkey_store::{Error, ErrorKind, Outcome, Result};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::net::{AddressFamily, SocketFlags, SocketType, sockopt};

use crate::config::{Config, Endpoint};
use crate::protocol::replies::{RETRY_DELAY, handshake_error, is_busy};
use crate::protocol::resp::{Call, Parser, ProtocolError, Value};
use crate::transport::adaptive_spin::AdaptiveSpin;
use crate::transport::stream::{SpinningRead, Stream};

/// The oldest version with all commands that are used.
const MIN_VERSION: (u32, u32) = (6, 2);

/// Why an exchange failed.
#[derive(Debug)]
pub enum TransportError {
    /// It was stopped.
    Stopped(Stop),
    /// The connection broke.
    Broken(io::Error),
    /// A reply is larger than this number of bytes.
    TooLarge(usize),
}

impl From<ProtocolError> for TransportError {
    fn from(error: ProtocolError) -> Self {
        match error {
            ProtocolError::NotRedis => Self::Broken(io::Error::new(
                Io::InvalidData,
                "the server sent bytes that are not a reply of Redis",
            )),
            ProtocolError::TooLarge(max_reply) => Self::TooLarge(max_reply),
        }
    }
}

impl TransportError {
    /// The error for the caller.
    pub fn error(self, address: &str, outcome: Outcome) -> Error {
        match self {
            Self::Stopped(stop) => stop.error(address, "waiting for a reply", outcome),
            Self::TooLarge(max_reply) => Error::new(
                ErrorKind::Unavailable(outcome),
                format!("{address} sent a reply of more than {max_reply} bytes"),
            )
            .advice("raise ?max_reply=, or check that a Redis server listens at this address"),
            Self::Broken(cause) => {
                if let Some(reason) = distrust(&cause) {
                    return Error::configuration(format!("{address} is not trusted: {reason}"))
                        .caused_by(cause);
                }
                let error = Error::new(
                    ErrorKind::Unavailable(outcome),
                    format!("the connection to {address} broke ({cause})"),
                )
                .caused_by(cause);
                match outcome {
                    Outcome::NotApplied => error.advice("try again"),
                    Outcome::Unknown => error,
                }
            }
        }
    }
}

/// An exchange that failed.
#[derive(Debug)]
pub struct ExchangeFailure {
    /// The reason.
    pub cause: TransportError,
    /// Whether the server may have received some of it.
    pub sent: bool,
}

/// A connection that is signed in.
pub struct Connection {
    /// The stream.
    pub stream: Stream,
    /// The bytes received.
    pub parser: Parser,
    output: Vec<u8>,
    spin: AdaptiveSpin,
}

impl Connection {
    /// Connects and signs in. With `wait_while_busy` it waits for a server that cannot answer at the moment, as calls on an
    /// open connection do.
    pub fn open(
        config: &Config,
        endpoint: &Endpoint,
        address: &str,
        deadline: &mut Deadline,
        wait_while_busy: bool,
    ) -> Result<Self> {
        let stream = match endpoint {
            Endpoint::Host(host, port) => {
                let socket = connect(address, host, *port, deadline)?;
                match &config.tls {
                    None => Stream::Tcp(socket),
                    Some(tls) => Stream::encrypted(tls.connection(host)?, socket),
                }
            }
            Endpoint::Socket(path) => {
                let stream = UnixStream::connect(path)
                    .map_err(|error| unreachable_server(address, error))?;
                let result = stream
                    .set_read_timeout(Some(POLL))
                    .and_then(|()| stream.set_write_timeout(Some(POLL)));
                result.map_err(|error| unreachable_server(address, error))?;
                Stream::Unix(stream)
            }
        };
        let mut connection = Self {
            stream,
            parser: Parser::new(config.max_reply),
            output: Vec::new(),
            spin: AdaptiveSpin::default(),
        };
        loop {
            match connection.sign_in(config, address, deadline) {
                Ok(()) => return Ok(connection),
                Err(error) if wait_while_busy && is_busy(&error) => match deadline.check() {
                    Ok(()) => pause(RETRY_DELAY),
                    Err(Stop::Timeout(_)) => return Err(error),
                    Err(stop) => {
                        return Err(stop.error(address, "connecting", Outcome::NotApplied));
                    }
                },
                Err(error) => return Err(error),
            }
        }
    }

    fn sign_in(&mut self, config: &Config, address: &str, deadline: &mut Deadline) -> Result<()> {
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
        let (mut values, failure) = self.exchange_until_broken(&calls, deadline);
        let info = (values.len() == calls.len())
            .then(|| values.pop())
            .flatten();
        // Errors come before the failure: a server with too many clients sends one, and closes the connection.
        for value in values {
            if let Value::Error(text) = value {
                return Err(handshake_error(address, &text));
            }
        }
        if let Some(failure) = failure {
            let hint = self.other_scheme_hint(&failure.cause);
            let error = failure.cause.error(address, Outcome::NotApplied);
            return Err(match hint {
                Some(hint) => error.advice(hint),
                None => error,
            });
        }
        match info {
            Some(Value::Bulk(info)) => {
                let info = String::from_utf8_lossy(&info);
                check_version(address, &info)?;
                check_mode(config, &info)?;
                config.eviction.read_info(address, &info);
                Ok(())
            }
            // A user without permission for INFO may have all others.
            Some(Value::Error(text)) if text.starts_with("NOPERM") => Ok(()),
            Some(Value::Error(text)) => Err(handshake_error(address, &text)),
            _ => Err(Error::new(
                ErrorKind::Unavailable(Outcome::NotApplied),
                format!("{address} sent a reply that Redis does not send"),
            )),
        }
    }

    /// Sends calls. Returns the replies, and the failure if there is one before the last reply.
    fn exchange_until_broken(
        &mut self,
        calls: &[Call],
        deadline: &mut Deadline,
    ) -> (Vec<Value>, Option<ExchangeFailure>) {
        let out = self.clear_output();
        for call in calls {
            call.write(false, out);
        }
        let mut values = Vec::with_capacity(calls.len());
        let mut sent = self.send(deadline);
        while sent.is_ok() && values.len() < calls.len() {
            sent = self.receive(1, deadline).map(|own| values.extend(own));
        }
        (values, sent.err())
    }

    /// A hint for a failed connection where one side may use TLS and the other not.
    fn other_scheme_hint(&self, cause: &TransportError) -> Option<&'static str> {
        match (&self.stream, cause) {
            (Stream::Encrypted(_), TransportError::Broken(error)) if distrust(error).is_some() => {
                None
            }
            (
                Stream::Encrypted(stream),
                TransportError::Broken(_) | TransportError::Stopped(Stop::Timeout(_)),
            ) if stream.conn.is_handshaking() => {
                Some("if this server does not encrypt, write redis… instead of rediss…")
            }
            (Stream::Tcp(_), TransportError::Broken(_)) => {
                Some("if this server encrypts, write rediss… instead of redis…")
            }
            _ => None,
        }
    }

    /// Makes the socket non-blocking.
    pub fn set_nonblocking(&self, address: &str) -> Result<()> {
        let result = self.stream.set_nonblocking(true);
        result.map_err(|error| unreachable_server(address, error))
    }

    /// Whether the server has not closed it, and has sent nothing that no call asked for. Nothing is left in any buffer.
    pub fn is_usable(&mut self) -> bool {
        self.parser.is_empty() && self.stream.is_quiet()
    }

    /// Sends calls and waits for all replies.
    pub fn exchange(
        &mut self,
        calls: &[Call],
        deadline: &mut Deadline,
    ) -> std::result::Result<Vec<Value>, ExchangeFailure> {
        match self.exchange_until_broken(calls, deadline) {
            (values, None) => Ok(values),
            (_, Some(failure)) => Err(failure),
        }
    }

    /// The output buffer, empty, for calls that are sent together.
    pub fn clear_output(&mut self) -> &mut Vec<u8> {
        self.output.clear();
        &mut self.output
    }

    /// Sends the output buffer.
    pub fn send(&mut self, deadline: &mut Deadline) -> std::result::Result<(), ExchangeFailure> {
        let mut written = 0;
        while written < self.output.len() {
            match self.stream.write(&self.output[written..]) {
                Ok(count) => {
                    written += count;
                    if written < self.output.len() {
                        deadline.check().map_err(|stop| ExchangeFailure {
                            cause: TransportError::Stopped(stop),
                            sent: true,
                        })?;
                    }
                }
                Err(error) => {
                    check_after_wait(&error, deadline).map_err(|cause| ExchangeFailure {
                        cause: cause.unwrap_or(TransportError::Broken(error)),
                        sent: written > 0,
                    })?;
                }
            }
        }
        Ok(())
    }

    /// Waits for this number of replies.
    pub fn receive(
        &mut self,
        count: usize,
        deadline: &mut Deadline,
    ) -> std::result::Result<Vec<Value>, ExchangeFailure> {
        let mut values = Vec::with_capacity(count);
        let failed = |cause| ExchangeFailure { cause, sent: true };
        let mut has_read = false;
        loop {
            while values.len() < count {
                match self.parser.next() {
                    Ok(Some(value)) => values.push(value),
                    Ok(None) => break,
                    Err(garbage) => return Err(failed(garbage.into())),
                }
            }
            if values.len() == count {
                return Ok(values);
            }
            if has_read {
                // If a reply comes in pieces, the reads may never time out.
                deadline
                    .check()
                    .map_err(|stop| failed(TransportError::Stopped(stop)))?;
            }
            let mut socket = SpinningRead(&mut self.stream, &mut self.spin);
            match self.parser.fill(&mut socket) {
                Ok(0) => {
                    let ended =
                        io::Error::new(Io::UnexpectedEof, "the server closed the connection");
                    return Err(failed(TransportError::Broken(ended)));
                }
                Ok(_) => has_read = true,
                Err(error) => check_after_wait(&error, deadline)
                    .map_err(|cause| failed(cause.unwrap_or(TransportError::Broken(error))))?,
            }
        }
    }
}

/// Checks the deadline after a read or write that timed out or was interrupted. `Err(None)` for other errors.
fn check_after_wait(
    error: &io::Error,
    deadline: &mut Deadline,
) -> std::result::Result<(), Option<TransportError>> {
    match error.kind() {
        Io::WouldBlock | Io::TimedOut | Io::Interrupted => deadline
            .check()
            .map_err(|stop| Some(TransportError::Stopped(stop))),
        _ => Err(None),
    }
}

fn unreachable_server(address: &str, cause: io::Error) -> Error {
    Error::new(
        ErrorKind::Unavailable(Outcome::NotApplied),
        format!(
            "cannot connect to Redis at {address} ({cause}): is it running, and is the address correct?"
        ),
    )
    .caused_by(cause)
}

fn check_version(address: &str, info: &str) -> Result<()> {
    let version = info
        .lines()
        .find_map(|line| line.strip_prefix("redis_version:"));
    let Some(version) = version else {
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

/// Connects to the first address of a host that accepts the connection.
fn connect(address: &str, host: &str, port: u16, deadline: &mut Deadline) -> Result<TcpStream> {
    let addresses = (host, port)
        .to_socket_addrs()
        .map_err(|error| unreachable_server(address, error))?;
    let mut last = io::Error::new(Io::NotFound, "the host has no address");
    for socket in addresses {
        match connect_to(socket, deadline) {
            Ok(stream) => return Ok(stream),
            Err(TransportError::Stopped(stop)) => {
                return Err(stop.error(address, "connecting", Outcome::NotApplied));
            }
            Err(TransportError::Broken(error)) => last = error,
            Err(cause) => return Err(cause.error(address, Outcome::NotApplied)),
        }
    }
    Err(unreachable_server(address, last))
}

/// Connects without blocking, so that interrupts are noticed: a blocking `connect` cannot be resumed after a signal.
fn connect_to(
    address: SocketAddr,
    deadline: &mut Deadline,
) -> std::result::Result<TcpStream, TransportError> {
    let broken = |error: rustix::io::Errno| TransportError::Broken(error.into());
    let family = if address.is_ipv4() {
        AddressFamily::INET
    } else {
        AddressFamily::INET6
    };
    let socket = rustix::net::socket_with(
        family,
        SocketType::STREAM,
        SocketFlags::NONBLOCK | SocketFlags::CLOEXEC,
        None,
    )
    .map_err(broken)?;
    match rustix::net::connect(&socket, &address) {
        Ok(()) => {}
        Err(rustix::io::Errno::INPROGRESS | rustix::io::Errno::INTR) => {
            while !wait(socket.as_fd(), PollFlags::OUT, deadline)? {
                deadline.check().map_err(TransportError::Stopped)?;
            }
            let outcome = sockopt::socket_error(&socket).map_err(broken)?;
            outcome.map_err(broken)?;
        }
        Err(error) => return Err(broken(error)),
    }
    let stream = TcpStream::from(socket);
    let result = stream
        .set_nonblocking(false)
        .and_then(|()| stream.set_nodelay(true))
        .and_then(|()| stream.set_read_timeout(Some(POLL)))
        .and_then(|()| stream.set_write_timeout(Some(POLL)));
    result.map_err(TransportError::Broken)?;
    Ok(stream)
}

fn wait(
    socket: BorrowedFd<'_>,
    flags: PollFlags,
    deadline: &Deadline,
) -> std::result::Result<bool, TransportError> {
    let mut sockets = [PollFd::new(&socket, flags)];
    let time = Timespec::try_from(deadline.wait()).ok();
    match poll(&mut sockets, time.as_ref()) {
        Ok(count) => Ok(count > 0),
        Err(rustix::io::Errno::INTR) => Ok(false),
        Err(error) => Err(TransportError::Broken(error.into())),
    }
}
