//! The transport of blocking calls: it works on the calling thread, and checks the interrupt every 100 ms.
//!
//! Concurrent exchanges share the thread: each request is sent, then the thread waits for whichever response comes first.

use std::cell::{Cell, RefCell};
use std::future::{Future, poll_fn};
use std::io::{self, Read, Write};
use std::mem;
use std::net::{SocketAddr, TcpStream, ToSocketAddrs as _};
use std::os::fd::{AsFd, OwnedFd};
use std::pin::pin;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use mintkey_runtime::{Deadline, Generation, POLL, Stop, pause};
use mintkey_store::{Error, ErrorKind, Interrupt, Outcome};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustls::{ClientConnection, StreamOwned};
use tokio::time::timeout;

use crate::config::{Config, Endpoint};
use crate::transport::Transport;
use crate::transport::error::{Cause, TransportError};
use crate::transport::handlers;
use crate::transport::http::{Request, Response, ResponseParser};
use crate::transport::nonblocking::Nonblocking;
use crate::transport::pool::{BUFFER, Pool, Pooled, is_quiet};

/// Idle connections that a store keeps.
pub const IDLE_CONNECTIONS: usize = 16;

/// A connection of a blocking call.
pub struct Connection {
    endpoint: Endpoint,
    stream: Stream,
    buffer: Vec<u8>,
}

enum Stream {
    Plain(TcpStream),
    Tls(Box<StreamOwned<ClientConnection, TcpStream>>),
}

impl Pooled for Connection {
    fn endpoint(&self) -> &Endpoint {
        &self.endpoint
    }

    fn is_quiet(&self) -> bool {
        is_quiet(self.socket())
    }
}

impl Connection {
    const fn socket(&self) -> &TcpStream {
        match &self.stream {
            Stream::Plain(socket) => socket,
            Stream::Tls(stream) => &stream.sock,
        }
    }

    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match &mut self.stream {
            Stream::Plain(socket) => socket.write(bytes),
            Stream::Tls(stream) => stream.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match &mut self.stream {
            Stream::Plain(_) => Ok(()),
            Stream::Tls(stream) => stream.flush(),
        }
    }

    fn read(&mut self) -> io::Result<&[u8]> {
        let count = match &mut self.stream {
            Stream::Plain(socket) => socket.read(&mut self.buffer)?,
            Stream::Tls(stream) => stream.read(&mut self.buffer)?,
        };
        Ok(&self.buffer[..count])
    }
}

/// The transport of one blocking call.
pub struct Blocking<'a> {
    config: &'a Config,
    pool: &'a Pool<Connection>,
    /// Ends all exchanges of the call at an interrupt, and in the child of a fork. Each has its own time limit.
    interrupt: Cell<Deadline>,
    /// The nesting depth of concurrent exchanges.
    concurrent: Cell<u32>,
    /// The sockets of concurrent exchanges without a response.
    awaited: RefCell<Vec<OwnedFd>>,
    /// The process that began the call.
    generation: Generation,
}

impl<'a> Blocking<'a> {
    /// The transport of a call that begins now.
    pub fn new(
        config: &'a Config,
        pool: &'a Pool<Connection>,
        interrupt: &'static dyn Interrupt,
    ) -> Self {
        Self {
            config,
            pool,
            interrupt: Cell::new(Deadline::unlimited(interrupt)),
            concurrent: Cell::new(0),
            awaited: RefCell::default(),
            generation: Generation::current(),
        }
    }

    /// Runs a future that waits for nothing but exchanges of this transport.
    pub fn run<R>(&self, future: impl Future<Output = Result<R, Error>>) -> Result<R, Error> {
        let mut future = pin!(future);
        let mut context = Context::from_waker(Waker::noop());
        loop {
            if let Poll::Ready(result) = future.as_mut().poll(&mut context) {
                return result;
            }
            if self.awaited.borrow().is_empty() {
                return Err(Error::new(
                    ErrorKind::Unavailable(Outcome::Unknown),
                    "a blocking request waited for another thread: this is a defect of mintkey, report it",
                ));
            }
            self.wait_for_any();
        }
    }

    /// Checks interrupt, process and deadline.
    fn check(&self, deadline: Instant) -> Result<(), Cause> {
        let mut interrupt = self.interrupt.get();
        let checked = interrupt.check();
        self.interrupt.set(interrupt);
        checked?;
        if Instant::now() >= deadline {
            return Err(Stop::Timeout(self.config.timeout).into());
        }
        Ok(())
    }

    /// How long to wait at most before the next check.
    fn wait(&self) -> Duration {
        self.interrupt.get().wait()
    }

    /// Lets concurrent exchanges continue until there is something to read.
    async fn readable(&self, connection: &Connection, deadline: Instant) -> Result<(), Cause> {
        while connection.is_quiet() {
            self.check(deadline)?;
            let socket = connection.socket().as_fd().try_clone_to_owned();
            self.awaited
                .borrow_mut()
                .push(socket.map_err(Cause::Broken)?);
            let mut waited = false;
            poll_fn(|_| {
                if mem::replace(&mut waited, true) {
                    Poll::Ready(())
                } else {
                    Poll::Pending
                }
            })
            .await;
        }
        Ok(())
    }

    /// Waits until one of the awaited sockets is readable, or it is time to check.
    fn wait_for_any(&self) {
        let sockets = mem::take(&mut *self.awaited.borrow_mut());
        let mut polled: Vec<_> = sockets
            .iter()
            .map(|socket| PollFd::new(socket, PollFlags::IN))
            .collect();
        // Whatever it returns, each exchange looks at its own socket, and checks.
        let _ = poll(&mut polled, Some(&timespec(self.wait())));
    }

    /// Checks after an error of a socket that only means "not yet".
    fn check_after(&self, error: io::Error, deadline: Instant) -> Result<(), Cause> {
        match error.kind() {
            io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut | io::ErrorKind::Interrupted => {
                self.check(deadline)
            }
            _ => Err(Cause::broken(error)),
        }
    }

    fn connect(&self, endpoint: &Endpoint, deadline: Instant) -> Result<Connection, Cause> {
        let limit = Instant::now() + self.config.connect_timeout;
        let addresses = (endpoint.host.as_str(), endpoint.port)
            .to_socket_addrs()
            .map_err(Cause::UnknownHost)?;
        let mut failed = Cause::no_address();
        for address in addresses {
            match self.dial(address, deadline.min(limit)) {
                Ok(socket) => return self.secure(endpoint, socket),
                Err(Cause::Stopped(Stop::Timeout(_))) if deadline > limit => {
                    return Err(Cause::ConnectTimeout);
                }
                Err(cause) if cause.is_final() => return Err(cause),
                Err(cause) => failed = cause,
            }
        }
        Err(failed)
    }

    /// Connects, and checks in between.
    fn dial(&self, address: SocketAddr, deadline: Instant) -> Result<TcpStream, Cause> {
        let socket = socket2::Socket::new(
            socket2::Domain::for_address(address),
            socket2::Type::STREAM,
            None,
        )
        .map_err(Cause::Unreachable)?;
        socket.set_nonblocking(true).map_err(Cause::Unreachable)?;
        match socket.connect(&address.into()) {
            Ok(()) => {}
            Err(error) if Errno::from_io_error(&error) == Some(Errno::INPROGRESS) => loop {
                let left = deadline.saturating_duration_since(Instant::now());
                let mut polled = [PollFd::new(&socket, PollFlags::OUT)];
                match poll(&mut polled, Some(&timespec(left.min(self.wait())))) {
                    Ok(0) | Err(Errno::INTR) => self.check(deadline)?,
                    Ok(_) => break,
                    Err(error) => return Err(Cause::Unreachable(error.into())),
                }
            },
            Err(error) => return Err(Cause::Unreachable(error)),
        }
        if let Some(error) = socket.take_error().map_err(Cause::Unreachable)? {
            return Err(Cause::Unreachable(error));
        }
        let stream = TcpStream::from(socket);
        let configure = || {
            let interval = POLL.min(self.config.timeout);
            stream.set_nonblocking(false)?;
            stream.set_nodelay(true)?;
            stream.set_read_timeout(Some(interval))?;
            stream.set_write_timeout(Some(interval))
        };
        configure().map_err(Cause::Unreachable)?;
        Ok(stream)
    }

    fn secure(&self, endpoint: &Endpoint, socket: TcpStream) -> Result<Connection, Cause> {
        let stream = if endpoint.tls {
            let connection = self.config.tls.connection(&endpoint.host)?;
            Stream::Tls(Box::new(StreamOwned::new(connection, socket)))
        } else {
            Stream::Plain(socket)
        };
        Ok(Connection {
            endpoint: endpoint.clone(),
            stream,
            buffer: vec![0; BUFFER],
        })
    }

    fn send(
        &self,
        connection: &mut Connection,
        request: &[u8],
        deadline: Instant,
    ) -> Result<(), Cause> {
        let mut rest = request;
        while !rest.is_empty() {
            match connection.write(rest) {
                Ok(0) => return Err(Cause::closed()),
                Ok(count) => rest = &rest[count..],
                Err(error) => self.check_after(error, deadline)?,
            }
        }
        Ok(())
    }

    fn receive(
        &self,
        connection: &mut Connection,
        mut parser: ResponseParser,
        deadline: Instant,
    ) -> Result<Response, Cause> {
        // A part of the request may still be in the buffers of TLS.
        while let Err(error) = connection.flush() {
            self.check_after(error, deadline)?;
        }
        loop {
            match connection.read() {
                Ok([]) => return parser.end().ok_or_else(Cause::closed),
                Ok(bytes) => match parser.feed(bytes) {
                    Ok(Some(response)) => return Ok(response),
                    // A response that arrives slowly must not outlast the deadline.
                    Ok(None) => self.check(deadline)?,
                    Err(_) => return Err(Cause::NotHttp),
                },
                Err(error) => self.check_after(error, deadline)?,
            }
        }
    }
}

impl Transport for Blocking<'_> {
    async fn exchange(
        &self,
        endpoint: &Endpoint,
        request: Request,
        deadline: Instant,
    ) -> Result<Response, TransportError> {
        // The interrupt may have been raised while the thread waited for a concurrent exchange.
        self.check(deadline).map_err(Cause::unsent)?;
        let mut connection = match self.pool.take(endpoint) {
            Some(connection) => connection,
            None => self.connect(endpoint, deadline).map_err(Cause::unsent)?,
        };
        self.send(&mut connection, request.bytes(), deadline)
            .map_err(Cause::unsent)?;
        if self.concurrent.get() > 0 {
            let readable = self.readable(&connection, deadline).await;
            readable.map_err(Cause::sent)?;
        }
        let response = self
            .receive(&mut connection, request.into_parser(), deadline)
            .map_err(Cause::sent)?;
        if response.keep_alive && self.generation.is_current() {
            self.pool.keep(connection);
        }
        Ok(response)
    }

    async fn pause(&self, time: Duration, deadline: Instant) -> Result<(), TransportError> {
        let until = Instant::now() + time;
        loop {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Ok(());
            }
            pause(left.min(self.wait()));
            self.check(deadline).map_err(Cause::unsent)?;
        }
    }

    fn may_continue(&self, deadline: Instant) -> Result<(), TransportError> {
        self.check(deadline).map_err(Cause::unsent)
    }

    async fn in_runtime<F: Future>(
        &self,
        work: F,
        deadline: Instant,
    ) -> Result<F::Output, TransportError> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(|error| Cause::Broken(error).unsent())?;
        let mut work = Box::pin(work);
        loop {
            // Asked outside of the runtime: a signal handler may use the store, and so begin another one.
            if let Err(cause) = handlers::ask(|| self.check(deadline)) {
                if !self.generation.is_current() {
                    // In the child they share sockets, and the set of these, with the parent.
                    mem::forget((work, runtime));
                }
                return Err(cause.unsent());
            }
            let left = deadline.saturating_duration_since(Instant::now());
            let slice = left.min(self.wait());
            let turned = runtime.block_on(async { timeout(slice, &mut work).await });
            if let Ok(result) = turned {
                return Ok(result);
            }
        }
    }

    fn for_services(&self) -> Nonblocking {
        Nonblocking::of_calling_thread(self.config.clone())
    }

    fn begin_concurrent(&self) {
        self.concurrent.set(self.concurrent.get() + 1);
    }

    fn end_concurrent(&self) {
        self.concurrent.set(self.concurrent.get() - 1);
    }
}

fn timespec(time: Duration) -> Timespec {
    Timespec {
        tv_sec: i64::try_from(time.as_secs()).unwrap_or(i64::MAX),
        tv_nsec: time.subsec_nanos().into(),
    }
}
