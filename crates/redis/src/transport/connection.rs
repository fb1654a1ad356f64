//! One connection to a server: sockets, signing in, bytes.

use std::io::{self, ErrorKind as Io, Read, Write};
use std::net::{SocketAddr, TcpStream, ToSocketAddrs};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use mintkey_store::{Error, ErrorKind, Outcome, Result};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::net::{AddressFamily, RecvFlags, SocketFlags, SocketType, sockopt};

use crate::config::{Config, Place};
use crate::protocol::replies::{is_busy, refused};
use crate::protocol::resp::{Call, Garbage, Parser, Value};
use crate::transport::adaptive_spin::Patience;
use crate::transport::deadline::{POLL, RESPITE, Stop, Watch, pause};
use crate::transport::tls::{Encrypted, distrust, encrypt};

/// The oldest server with all that is needed here.
const OLDEST: (u32, u32) = (6, 2);

/// What happens to a connection so soon after its last use might as well have happened during it.
const MOMENT: Duration = Duration::from_micros(100);

/// A socket of either kind.
pub enum Stream {
    /// To a host's port.
    Tcp(TcpStream),
    /// To a host's port, encrypted.
    Encrypted(Encrypted),
    /// To a socket in the file system.
    Unix(UnixStream),
}

impl Stream {
    /// Whether bytes that were taken already still wait to be sent.
    pub fn holds_back(&self) -> bool {
        matches!(self, Self::Encrypted(stream) if stream.conn.wants_write())
    }
}

impl Read for Stream {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Tcp(stream) => stream.read(buffer),
            Self::Encrypted(stream) => stream.read(buffer),
            Self::Unix(stream) => stream.read(buffer),
        }
    }
}

/// Reads from a socket, for a moment awake.
struct Awake<'a>(&'a mut Stream, &'a mut Patience);

impl Read for Awake<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let Self(stream, patience) = self;
        if let Stream::Encrypted(stream) = stream {
            // What its socket has need not be an answer yet.
            return stream.read(buffer);
        }
        let come = patience.look_for(|| {
            match rustix::net::recv(stream.as_fd(), &mut *buffer, RecvFlags::DONTWAIT) {
                Err(Errno::AGAIN | Errno::INTR) => None,
                told => Some(told),
            }
        });
        match come {
            Some(told) => Ok(told?.1),
            None => stream.read(buffer),
        }
    }
}

impl Write for Stream {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Tcp(stream) => stream.write(bytes),
            Self::Encrypted(stream) => stream.write(bytes),
            Self::Unix(stream) => stream.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            Self::Encrypted(stream) => stream.flush(),
            _ => Ok(()),
        }
    }
}

impl AsFd for Stream {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Self::Tcp(stream) => stream.as_fd(),
            Self::Encrypted(stream) => stream.sock.as_fd(),
            Self::Unix(stream) => stream.as_fd(),
        }
    }
}

/// Why an exchange came to nothing.
#[derive(Debug)]
pub enum Cause {
    /// It was given up.
    Stopped(Stop),
    /// The connection broke.
    Broken(io::Error),
}

impl From<Garbage> for Cause {
    fn from(_: Garbage) -> Self {
        Self::Broken(io::Error::new(
            Io::InvalidData,
            "the other side does not speak the protocol of Redis",
        ))
    }
}

impl Cause {
    /// The error it gives, for whoever sent something.
    pub fn error(self, address: &str, outcome: Outcome) -> Error {
        match self {
            Self::Stopped(stop) => stop.error(outcome),
            Self::Broken(cause) => {
                if let Some(why) = distrust(&cause) {
                    return Error::configuration(format!("{address} is not trusted: {why}"))
                        .caused_by(cause);
                }
                let fate = outcome.words();
                let way_out = match outcome {
                    Outcome::NotApplied => "; try again",
                    Outcome::Unknown => "",
                };
                Error::new(
                    ErrorKind::Unavailable(outcome),
                    format!("the connection to {address} broke ({cause}): {fate}{way_out}"),
                )
                .caused_by(cause)
            }
        }
    }
}

/// An exchange that failed.
#[derive(Debug)]
pub struct Failure {
    /// Why.
    pub cause: Cause,
    /// Whether the server may have got some of it.
    pub sent: bool,
}

/// A connection that is signed in.
pub struct Connection {
    /// The socket.
    pub stream: Stream,
    /// What came in.
    pub parser: Parser,
    out: Vec<u8>,
    /// When it was last used.
    used: Instant,
    patience: Patience,
}

impl Connection {
    /// Connects and signs in. With `patient` it waits for a server that cannot answer at the moment, as calls on a
    /// connection that stands do.
    pub fn open(
        config: &Config,
        place: &Place,
        address: &str,
        watch: &mut Watch,
        patient: bool,
    ) -> Result<Self> {
        let stream = match place {
            Place::Host(host, port) => {
                let socket = connect(address, host, *port, watch)?;
                match &config.encryption {
                    None => Stream::Tcp(socket),
                    Some(client) => {
                        Stream::Encrypted(encrypt(&config.address, client, host, socket)?)
                    }
                }
            }
            Place::Socket(path) => {
                let stream = UnixStream::connect(path)
                    .map_err(|error| unreachable_server(address, error))?;
                let timed = stream
                    .set_read_timeout(Some(POLL))
                    .and_then(|()| stream.set_write_timeout(Some(POLL)));
                timed.map_err(|error| unreachable_server(address, error))?;
                Stream::Unix(stream)
            }
        };
        let mut connection = Self {
            stream,
            parser: Parser::default(),
            out: Vec::new(),
            used: Instant::now(),
            patience: Patience::default(),
        };
        loop {
            match connection.sign_in(config, address, watch) {
                Ok(()) => return Ok(connection),
                Err(error) if patient && is_busy(&error) => match watch.look() {
                    Ok(()) => pause(RESPITE),
                    Err(Stop::Late(_)) => return Err(error),
                    Err(stop) => return Err(stop.error(Outcome::NotApplied)),
                },
                Err(error) => return Err(error),
            }
        }
    }

    fn sign_in(&mut self, config: &Config, address: &str, watch: &mut Watch) -> Result<()> {
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
        // All of it in one answer: servers before 7.0 take no list of what is wanted.
        calls.push(Call::new("INFO"));
        let (mut values, failure) = self.exchange_until_broken(&calls, watch);
        let info = (values.len() == calls.len())
            .then(|| values.pop())
            .flatten();
        // Before the connection: a server with too many clients says so, and closes it.
        for value in values {
            if let Value::Error(text) = value {
                return Err(refused(address, &text));
            }
        }
        if let Some(failure) = failure {
            let way_out = self.other_scheme(&failure.cause);
            let mut error = failure.cause.error(address, Outcome::NotApplied);
            error.message.push_str(way_out);
            return Err(error);
        }
        match info {
            Some(Value::Bulk(info)) => {
                let info = String::from_utf8_lossy(&info);
                check_version(address, &info)?;
                check_mode(config, &info)?;
                config.eviction.hear(address, &info);
                Ok(())
            }
            // A user that may not ask for the version may do all else.
            Some(Value::Error(text)) if text.starts_with("NOPERM") => Ok(()),
            Some(Value::Error(text)) => Err(refused(address, &text)),
            _ => Err(Error::new(
                ErrorKind::Unavailable(Outcome::NotApplied),
                format!("{address} answers as no Redis does"),
            )),
        }
    }

    /// Sends calls. Gives the replies, and the failure if it comes before the last one.
    fn exchange_until_broken(
        &mut self,
        calls: &[Call],
        watch: &mut Watch,
    ) -> (Vec<Value>, Option<Failure>) {
        let out = self.fresh_out();
        for call in calls {
            call.write(false, out);
        }
        let mut values = Vec::with_capacity(calls.len());
        let mut sent = self.send(watch);
        while sent.is_ok() && values.len() < calls.len() {
            sent = self.receive(1, watch).map(|own| values.extend(own));
        }
        (values, sent.err())
    }

    /// What to do where one side may encrypt and the other not: neither understands the other's first words.
    fn other_scheme(&self, cause: &Cause) -> &'static str {
        match (&self.stream, cause) {
            (Stream::Encrypted(_), Cause::Broken(error)) if distrust(error).is_some() => "",
            (Stream::Encrypted(stream), Cause::Broken(_) | Cause::Stopped(Stop::Late(_)))
                if stream.conn.is_handshaking() =>
            {
                ". If this server does not encrypt, write redis… instead of rediss…"
            }
            (Stream::Tcp(_), Cause::Broken(_)) => {
                ". If this server encrypts, write rediss… instead of redis…"
            }
            _ => "",
        }
    }

    /// Lets no read or write wait any more.
    pub fn unblock(&self, address: &str) -> Result<()> {
        let set = match &self.stream {
            Stream::Tcp(stream) => stream.set_nonblocking(true),
            Stream::Encrypted(stream) => stream.sock.set_nonblocking(true),
            Stream::Unix(stream) => stream.set_nonblocking(true),
        };
        set.map_err(|error| unreachable_server(address, error))
    }

    /// Notes that it is not used from now on.
    pub fn rest(&mut self) {
        self.used = Instant::now();
    }

    /// Whether the server has not closed it while nobody looked; for a moment nobody needs to look.
    pub fn is_fresh(&self) -> bool {
        if self.used.elapsed() < MOMENT {
            return self.parser.is_empty();
        }
        let mut byte = [0_u8; 1];
        let flags = RecvFlags::PEEK | RecvFlags::DONTWAIT;
        let looked = rustix::net::recv(self.stream.as_fd(), &mut byte, flags);
        // An encrypted connection may have had a word of its own after the greeting.
        let quiet = match looked {
            Ok((_, count)) => count > 0 && matches!(self.stream, Stream::Encrypted(_)),
            Err(error) => error == Errno::AGAIN,
        };
        quiet && self.parser.is_empty()
    }

    /// Sends calls and waits for the answers to all of them.
    pub fn exchange(
        &mut self,
        calls: &[Call],
        watch: &mut Watch,
    ) -> std::result::Result<Vec<Value>, Failure> {
        match self.exchange_until_broken(calls, watch) {
            (values, None) => Ok(values),
            (_, Some(failure)) => Err(failure),
        }
    }

    /// Room for calls that will be sent together.
    pub fn fresh_out(&mut self) -> &mut Vec<u8> {
        self.out.clear();
        &mut self.out
    }

    /// Sends what was written.
    pub fn send(&mut self, watch: &mut Watch) -> std::result::Result<(), Failure> {
        let mut written = 0;
        while written < self.out.len() {
            match self.stream.write(&self.out[written..]) {
                Ok(count) => {
                    written += count;
                    if written < self.out.len() {
                        watch.look().map_err(|stop| Failure {
                            cause: Cause::Stopped(stop),
                            sent: true,
                        })?;
                    }
                }
                Err(error) => pass(&error, watch).map_err(|cause| Failure {
                    cause: cause.unwrap_or(Cause::Broken(error)),
                    sent: written > 0,
                })?,
            }
        }
        Ok(())
    }

    /// Waits for so many answers.
    pub fn receive(
        &mut self,
        many: usize,
        watch: &mut Watch,
    ) -> std::result::Result<Vec<Value>, Failure> {
        let mut values = Vec::with_capacity(many);
        let failed = |cause| Failure { cause, sent: true };
        let mut begun = false;
        loop {
            while values.len() < many {
                match self.parser.next() {
                    Ok(Some(value)) => values.push(value),
                    Ok(None) => break,
                    Err(garbage) => return Err(failed(garbage.into())),
                }
            }
            if values.len() == many {
                return Ok(values);
            }
            if begun {
                // No wait for the next piece of an answer that comes in pieces need ever be cut short.
                watch.look().map_err(|stop| failed(Cause::Stopped(stop)))?;
            }
            let mut socket = Awake(&mut self.stream, &mut self.patience);
            match self.parser.fill(&mut socket) {
                Ok(0) => {
                    let ended = io::Error::new(Io::UnexpectedEof, "the server closed it");
                    return Err(failed(Cause::Broken(ended)));
                }
                Ok(_) => begun = true,
                Err(error) => pass(&error, watch)
                    .map_err(|cause| failed(cause.unwrap_or(Cause::Broken(error))))?,
            }
        }
    }
}

/// Looks whether to go on after a wait that was cut short; `Err(None)` if it was no such wait.
fn pass(error: &io::Error, watch: &mut Watch) -> std::result::Result<(), Option<Cause>> {
    match error.kind() {
        Io::WouldBlock | Io::TimedOut | Io::Interrupted => {
            watch.look().map_err(|stop| Some(Cause::Stopped(stop)))
        }
        _ => Err(None),
    }
}

fn unreachable_server(address: &str, cause: io::Error) -> Error {
    Error::new(
        ErrorKind::Unavailable(Outcome::NotApplied),
        format!(
            "no Redis can be reached at {address} ({cause}): is it running, and is the address right?"
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
        (Some(major), Some(minor)) if (major, minor) < OLDEST => {
            Err(Error::configuration(format!(
                "{address} is Redis {version}, and mintkey needs {}.{} or later: upgrade it",
                OLDEST.0, OLDEST.1
            )))
        }
        _ => Ok(()),
    }
}

/// A server of a Cluster is spoken to otherwise than one that stands alone.
fn check_mode(config: &Config, info: &str) -> Result<()> {
    let mode = info.lines().find_map(|line| {
        let redis = line.strip_prefix("redis_mode:");
        redis.or_else(|| line.strip_prefix("server_mode:"))
    });
    let address = &config.address;
    let (scheme, location) = address.split_once("://").unwrap_or(("", address));
    let location = location.split(['/', ',', '?']).next().unwrap_or(location);
    let (is, other) = match (mode.map(str::trim), config.space.in_buckets, scheme) {
        (Some("cluster"), false, "rediss") => ("is a server of a Cluster", "rediss-cluster"),
        (Some("cluster"), false, _) => ("is a server of a Cluster", "redis-cluster"),
        (Some("standalone"), true, "rediss-cluster") => ("is no Cluster", "rediss"),
        (Some("standalone"), true, _) => ("is no Cluster", "redis"),
        _ => return Ok(()),
    };
    let location = if scheme == "unix" {
        "host:6379"
    } else {
        location
    };
    Err(Error::configuration(format!(
        "{address} {is}: write {other}://{location}"
    )))
}

/// Connects to the first address of a host that answers.
fn connect(address: &str, host: &str, port: u16, watch: &mut Watch) -> Result<TcpStream> {
    let addresses = (host, port)
        .to_socket_addrs()
        .map_err(|error| unreachable_server(address, error))?;
    let mut last = io::Error::new(Io::NotFound, "the host has no address");
    for socket in addresses {
        match connect_to(socket, watch) {
            Ok(stream) => return Ok(stream),
            Err(Cause::Stopped(stop)) => return Err(stop.error(Outcome::NotApplied)),
            Err(Cause::Broken(error)) => last = error,
        }
    }
    Err(unreachable_server(address, last))
}

/// Connects without being deaf meanwhile: the system's own call cannot be taken up again after a
/// signal.
fn connect_to(address: SocketAddr, watch: &mut Watch) -> std::result::Result<TcpStream, Cause> {
    let broken = |error: rustix::io::Errno| Cause::Broken(error.into());
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
            while !wait(socket.as_fd(), PollFlags::OUT, watch)? {
                watch.look().map_err(Cause::Stopped)?;
            }
            let outcome = sockopt::socket_error(&socket).map_err(broken)?;
            outcome.map_err(broken)?;
        }
        Err(error) => return Err(broken(error)),
    }
    let stream = TcpStream::from(socket);
    let set = stream
        .set_nonblocking(false)
        .and_then(|()| stream.set_nodelay(true))
        .and_then(|()| stream.set_read_timeout(Some(POLL)))
        .and_then(|()| stream.set_write_timeout(Some(POLL)));
    set.map_err(Cause::Broken)?;
    Ok(stream)
}

fn wait(
    socket: BorrowedFd<'_>,
    flags: PollFlags,
    watch: &Watch,
) -> std::result::Result<bool, Cause> {
    let mut sockets = [PollFd::new(&socket, flags)];
    let time = Timespec::try_from(watch.pause()).ok();
    match poll(&mut sockets, time.as_ref()) {
        Ok(count) => Ok(count > 0),
        Err(rustix::io::Errno::INTR) => Ok(false),
        Err(error) => Err(Cause::Broken(error.into())),
    }
}
