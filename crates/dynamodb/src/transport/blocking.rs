//! The link that works on the calling thread: one write, one read, and a look at the interrupt
//! whenever a tenth of a second has passed or a signal has come.
//!
//! Several calls at once share the thread: each is sent, then the thread waits for whichever answer is the first.

use std::cell::{Cell, RefCell};
use std::future::{Future, poll_fn};
use std::io::{self, Read, Write};
use std::mem;
use std::net::{SocketAddr, TcpStream, ToSocketAddrs as _};
use std::os::fd::{AsFd, OwnedFd};
use std::pin::pin;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use mintkey_store::{Error, ErrorKind, Interrupt, Outcome};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::net::{RecvFlags, recv};
use rustls::{ClientConnection, StreamOwned};

use crate::store::{Inner, locked};
use crate::transport::http::{Endpoint, Incoming, Response};
use crate::transport::tls;
use crate::transport::{Fault, Link, Why, closed};

/// How often an interrupt is looked for.
const LOOK: Duration = Duration::from_millis(100);
/// Connections kept open.
const IDLE: usize = 16;

/// Runs to its end what never waits for anything but this thread and the link's answers.
pub fn run<T>(
    link: &Blocking<'_>,
    future: impl Future<Output = Result<T, Error>>,
) -> Result<T, Error> {
    let mut future = pin!(future);
    let mut context = Context::from_waker(Waker::noop());
    loop {
        if let Poll::Ready(result) = future.as_mut().poll(&mut context) {
            return result;
        }
        if link.awaited.borrow().is_empty() {
            return Err(Error::new(
                ErrorKind::Unavailable(Outcome::Unknown),
                "a blocking request waited for another thread: please report this",
            ));
        }
        link.wait_for_one();
    }
}

/// A connection of a blocking call.
pub struct Connection {
    endpoint: Endpoint,
    stream: Stream,
    incoming: Incoming,
}

enum Stream {
    Plain(TcpStream),
    Tls(Box<StreamOwned<ClientConnection, TcpStream>>),
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

    fn read(&mut self) -> io::Result<usize> {
        let room = self.incoming.room();
        let count = match &mut self.stream {
            Stream::Plain(socket) => socket.read(room)?,
            Stream::Tls(stream) => stream.read(room)?,
        };
        self.incoming.advance(count);
        Ok(count)
    }
}

/// Whether the server has neither closed nor said anything while nobody asked.
pub fn is_quiet(socket: impl AsFd) -> bool {
    let flags = RecvFlags::PEEK | RecvFlags::DONTWAIT;
    matches!(recv(socket, &mut [0_u8; 1], flags), Err(Errno::AGAIN))
}

/// The link of one blocking call.
pub struct Blocking<'a> {
    inner: &'a Inner,
    interrupt: &'static dyn Interrupt,
    /// Whether the interrupt was raised, which it says only once.
    interrupted: Cell<bool>,
    /// How many crowds of exchanges share the thread, one inside the other.
    sharing: Cell<u32>,
    /// The sockets of a crowd that have not answered yet.
    awaited: RefCell<Vec<OwnedFd>>,
}

impl<'a> Blocking<'a> {
    /// A link for a call that begins now.
    pub fn new(inner: &'a Inner, interrupt: &'static dyn Interrupt) -> Self {
        Self {
            inner,
            interrupt,
            interrupted: Cell::new(false),
            sharing: Cell::new(0),
            awaited: RefCell::default(),
        }
    }

    /// Looks at the clock and the interrupt when something did not go on.
    fn look(&self, deadline: Instant) -> Result<(), Why> {
        self.ask();
        self.check(deadline)
    }

    /// Asks whether somebody wants out.
    fn ask(&self) {
        if !self.interrupted.get() {
            self.interrupted.set(self.interrupt.raised());
        }
    }

    /// What is known already of the interrupt, and the clock.
    fn check(&self, deadline: Instant) -> Result<(), Why> {
        if self.interrupted.get() {
            return Err(Why::Interrupted);
        }
        if !self.inner.is_current() {
            // A signal handler forked: the connection is the parent's.
            return Err(Why::Forked);
        }
        if Instant::now() >= deadline {
            return Err(Why::Late);
        }
        Ok(())
    }

    /// Lets the others of a crowd go on until there is something to read.
    async fn answered(&self, connection: &Connection, deadline: Instant) -> Result<(), Why> {
        while is_quiet(connection.socket()) {
            self.check(deadline)?;
            let socket = connection.socket().as_fd().try_clone_to_owned();
            self.awaited.borrow_mut().push(socket.map_err(Why::Broken)?);
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

    /// Waits until a socket of the crowd has something to read, or it is time to look around.
    fn wait_for_one(&self) {
        let sockets = mem::take(&mut *self.awaited.borrow_mut());
        let mut watched: Vec<_> = sockets
            .iter()
            .map(|socket| PollFd::new(socket, PollFlags::IN))
            .collect();
        if !matches!(poll(&mut watched, Some(&timespec(LOOK))), Ok(ready) if ready > 0) {
            self.ask();
        }
    }

    /// The same after an error that may only mean "not yet".
    fn wait(&self, error: io::Error, deadline: Instant) -> Result<(), Why> {
        match error.kind() {
            io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut | io::ErrorKind::Interrupted => {
                self.look(deadline)
            }
            _ => Err(Why::Broken(error)),
        }
    }

    fn idle(&self, endpoint: &Endpoint) -> Option<Connection> {
        loop {
            let connection = {
                let mut pool = locked(&self.inner.pool);
                let place = pool.iter().rposition(|idle| idle.endpoint == *endpoint)?;
                pool.remove(place)
            };
            if is_quiet(connection.socket()) {
                return Some(connection);
            }
        }
    }

    fn keep(&self, connection: Connection) {
        if self.inner.is_closed() || !self.inner.is_current() {
            return;
        }
        let mut pool = locked(&self.inner.pool);
        if pool.len() < IDLE {
            pool.push(connection);
        }
    }

    fn connect(&self, endpoint: &Endpoint, deadline: Instant) -> Result<Connection, Why> {
        let within = Instant::now() + self.inner.config.connect_timeout;
        let addresses = (endpoint.host.as_str(), endpoint.port)
            .to_socket_addrs()
            .map_err(Why::Unknown)?;
        let mut failed = Why::Unknown(io::Error::new(
            io::ErrorKind::NotFound,
            "the name has no address",
        ));
        for address in addresses {
            match self.dial(address, deadline.min(within)) {
                Ok(socket) => return self.greet(endpoint, socket),
                Err(Why::Late) if deadline > within => return Err(Why::ConnectTimeout),
                Err(why) if why.is_final() => return Err(why),
                Err(why) => failed = why,
            }
        }
        Err(failed)
    }

    /// Connects without ever waiting longer than until the next look.
    fn dial(&self, address: SocketAddr, deadline: Instant) -> Result<TcpStream, Why> {
        let socket = socket2::Socket::new(
            socket2::Domain::for_address(address),
            socket2::Type::STREAM,
            None,
        )
        .map_err(Why::Unreachable)?;
        socket.set_nonblocking(true).map_err(Why::Unreachable)?;
        match socket.connect(&address.into()) {
            Ok(()) => {}
            Err(error) if Errno::from_io_error(&error) == Some(Errno::INPROGRESS) => loop {
                let left = deadline.saturating_duration_since(Instant::now());
                let mut watched = [PollFd::new(&socket, PollFlags::OUT)];
                match poll(&mut watched, Some(&timespec(left.min(LOOK)))) {
                    Ok(0) | Err(Errno::INTR) => self.look(deadline)?,
                    Ok(_) => break,
                    Err(error) => return Err(Why::Unreachable(error.into())),
                }
            },
            Err(error) => return Err(Why::Unreachable(error)),
        }
        if let Some(error) = socket.take_error().map_err(Why::Unreachable)? {
            return Err(Why::Unreachable(error));
        }
        let stream = TcpStream::from(socket);
        let prepare = || {
            let look = LOOK.min(self.inner.config.timeout);
            stream.set_nonblocking(false)?;
            stream.set_nodelay(true)?;
            stream.set_read_timeout(Some(look))?;
            stream.set_write_timeout(Some(look))
        };
        prepare().map_err(Why::Unreachable)?;
        Ok(stream)
    }

    fn greet(&self, endpoint: &Endpoint, socket: TcpStream) -> Result<Connection, Why> {
        let stream = if endpoint.tls {
            let config = self.inner.tls.config()?;
            let connection = ClientConnection::new(config, tls::server_name(&endpoint.host)?)
                .map_err(|error| Why::Untrusted(error.to_string()))?;
            Stream::Tls(Box::new(StreamOwned::new(connection, socket)))
        } else {
            Stream::Plain(socket)
        };
        Ok(Connection {
            endpoint: endpoint.clone(),
            stream,
            incoming: Incoming::new(),
        })
    }

    fn send(
        &self,
        connection: &mut Connection,
        request: &[u8],
        deadline: Instant,
    ) -> Result<(), Why> {
        let mut rest = request;
        while !rest.is_empty() {
            match connection.write(rest) {
                Ok(0) => return Err(closed()),
                Ok(count) => rest = &rest[count..],
                Err(error) => self.wait(error, deadline)?,
            }
        }
        Ok(())
    }

    fn receive(&self, connection: &mut Connection, deadline: Instant) -> Result<Response, Why> {
        // What TLS has taken in may still lie here.
        while let Err(error) = connection.flush() {
            self.wait(error, deadline)?;
        }
        loop {
            match connection.read() {
                Ok(0) => return connection.incoming.end().ok_or_else(closed),
                Ok(_) => match connection.incoming.response() {
                    Ok(Some(response)) => return Ok(response),
                    // A trickle keeps no deadline from coming.
                    Ok(None) if Instant::now() < deadline => {}
                    Ok(None) => return Err(Why::Late),
                    Err(_) => return Err(Why::Garbage),
                },
                Err(error) => self.wait(error, deadline)?,
            }
        }
    }
}

impl Link for Blocking<'_> {
    async fn exchange(
        &self,
        endpoint: &Endpoint,
        request: &[u8],
        deadline: Instant,
    ) -> Result<Response, Fault> {
        if self.interrupted.get() {
            // It came while another call of the crowd was waiting.
            return Err(Why::Interrupted.unsent());
        }
        let mut connection = match self.idle(endpoint) {
            Some(connection) => connection,
            None => self.connect(endpoint, deadline).map_err(Why::unsent)?,
        };
        self.send(&mut connection, request, deadline)
            .map_err(Why::unsent)?;
        if self.sharing.get() > 0 {
            let answered = self.answered(&connection, deadline).await;
            answered.map_err(|why| Fault { sent: true, why })?;
        }
        let response = self
            .receive(&mut connection, deadline)
            .map_err(|why| Fault { sent: true, why })?;
        if response.keep_alive {
            self.keep(connection);
        }
        Ok(response)
    }

    async fn pause(&self, time: Duration, deadline: Instant) -> Result<(), Fault> {
        let until = Instant::now() + time;
        loop {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Ok(());
            }
            match poll(&mut [], Some(&timespec(left.min(LOOK)))) {
                Ok(_) | Err(Errno::INTR) => self.look(deadline).map_err(Why::unsent)?,
                Err(error) => return Err(Why::Broken(error.into()).unsent()),
            }
        }
    }

    fn begin_sharing(&self) {
        self.sharing.set(self.sharing.get() + 1);
    }

    fn end_sharing(&self) {
        self.sharing.set(self.sharing.get() - 1);
    }
}

fn timespec(time: Duration) -> Timespec {
    Timespec {
        tv_sec: i64::try_from(time.as_secs()).unwrap_or(i64::MAX),
        tv_nsec: time.subsec_nanos().into(),
    }
}
