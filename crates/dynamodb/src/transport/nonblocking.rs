//! The transport of the worker thread: many requests in flight, on a runtime of tokio.

use std::future::Future;
use std::io;
use std::net::{IpAddr, SocketAddr, ToSocketAddrs as _};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use mintkey_runtime::{Stop, Tls};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::sync::{Semaphore, oneshot};
use tokio::time::{sleep_until, timeout_at};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::config::{Config, Endpoint};
use crate::transport::Transport;
use crate::transport::error::{Cause, TransportError};
use crate::transport::http::{Request, Response, ResponseParser};
use crate::transport::pool::{BUFFER, Pool, Pooled, is_quiet};

/// Host names that are looked up at once.
const LOOKUPS: usize = 2;

/// A connection of the worker thread.
struct Connection {
    endpoint: Endpoint,
    stream: Stream,
    buffer: Vec<u8>,
}

enum Stream {
    Plain(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
}

impl Pooled for Connection {
    fn endpoint(&self) -> &Endpoint {
        &self.endpoint
    }

    fn is_quiet(&self) -> bool {
        match &self.stream {
            Stream::Plain(socket) => is_quiet(socket),
            Stream::Tls(stream) => is_quiet(stream.get_ref().0),
        }
    }
}

impl Connection {
    async fn send(&mut self, request: &[u8]) -> io::Result<()> {
        match &mut self.stream {
            Stream::Plain(socket) => socket.write_all(request).await,
            Stream::Tls(stream) => stream.write_all(request).await,
        }
    }

    async fn receive(&mut self, mut parser: ResponseParser) -> Result<Response, Cause> {
        if let Stream::Tls(stream) = &mut self.stream {
            stream.flush().await.map_err(Cause::Broken)?;
        }
        loop {
            let count = match &mut self.stream {
                Stream::Plain(socket) => socket.read(&mut self.buffer).await,
                Stream::Tls(stream) => stream.read(&mut self.buffer).await,
            }
            .map_err(Cause::Broken)?;
            if count == 0 {
                return parser.end().ok_or_else(Cause::closed);
            }
            let response = parser.feed(&self.buffer[..count]);
            if let Some(response) = response.map_err(|_| Cause::NotHttp)? {
                return Ok(response);
            }
        }
    }
}

/// The transport of all submitted requests of a store.
pub struct Nonblocking {
    config: Config,
    pool: Pool<Connection>,
    /// Permits for the threads that look up host names; `None`: the calling thread does that.
    lookups: Option<Arc<Semaphore>>,
}

impl Nonblocking {
    /// A transport that keeps up to `idle` connections.
    pub fn new(config: Config, idle: usize) -> Self {
        Self {
            config,
            pool: Pool::new(idle),
            lookups: Some(Arc::new(Semaphore::new(LOOKUPS))),
        }
    }

    /// A transport that keeps no connections, and looks up host names on the calling thread.
    pub fn of_calling_thread(config: Config) -> Self {
        Self {
            lookups: None,
            ..Self::new(config, 0)
        }
    }

    fn timeout(&self) -> Cause {
        Stop::Timeout(self.config.timeout).into()
    }

    /// An idle connection, or a new one.
    async fn connection(
        &self,
        endpoint: &Endpoint,
        deadline: Instant,
    ) -> Result<Connection, Cause> {
        if let Some(connection) = self.pool.take(endpoint) {
            return Ok(connection);
        }
        let limit = Instant::now() + self.config.connect_timeout;
        match timeout_at(limit.min(deadline).into(), self.connect(endpoint)).await {
            Ok(result) => result,
            Err(_) if deadline > limit => Err(Cause::ConnectTimeout),
            Err(_) => Err(self.timeout()),
        }
    }

    async fn connect(&self, endpoint: &Endpoint) -> Result<Connection, Cause> {
        let mut failed = Cause::no_address();
        for address in self.look_up(&endpoint.host, endpoint.port).await? {
            match TcpStream::connect(address).await {
                Ok(socket) => return self.secure(endpoint, socket).await,
                Err(error) => failed = Cause::Unreachable(error),
            }
        }
        Err(failed)
    }

    /// The addresses of a host. The system's lookup blocks, so it runs on another thread. tokio's own lookup is not used:
    /// it panics where the system refuses a thread.
    pub async fn look_up(&self, host: &str, port: u16) -> Result<Vec<SocketAddr>, Cause> {
        if let Ok(address) = host.parse::<IpAddr>() {
            return Ok(vec![SocketAddr::new(address, port)]);
        }
        let host = (host.to_owned(), port);
        let Some(lookups) = &self.lookups else {
            let found = host.to_socket_addrs().map(Iterator::collect);
            return found.map_err(Cause::UnknownHost);
        };
        let permit = Arc::clone(lookups).acquire_owned().await;
        let (sender, addresses) = oneshot::channel();
        thread::Builder::new()
            .name("mintkey-dynamodb-lookup".to_owned())
            .spawn(move || {
                // Nobody receives it when the time limit for connecting has passed.
                let _ = sender.send(host.to_socket_addrs().map(Iterator::collect));
                drop(permit);
            })
            .map_err(Cause::NoThread)?;
        let lost = |_| Err(io::Error::other("the thread that looked it up ended"));
        addresses
            .await
            .unwrap_or_else(lost)
            .map_err(Cause::UnknownHost)
    }

    async fn secure(&self, endpoint: &Endpoint, socket: TcpStream) -> Result<Connection, Cause> {
        socket.set_nodelay(true).map_err(Cause::Unreachable)?;
        let stream = if endpoint.tls {
            let connector = TlsConnector::from(self.config.tls.config()?);
            let name = Tls::server_name(&endpoint.host)?;
            let stream = connector
                .connect(name, socket)
                .await
                .map_err(Cause::broken)?;
            Stream::Tls(Box::new(stream))
        } else {
            Stream::Plain(socket)
        };
        Ok(Connection {
            endpoint: endpoint.clone(),
            stream,
            buffer: vec![0; BUFFER],
        })
    }
}

impl Transport for Nonblocking {
    async fn exchange(
        &self,
        endpoint: &Endpoint,
        request: Request,
        deadline: Instant,
    ) -> Result<Response, TransportError> {
        let connected = self.connection(endpoint, deadline).await;
        let mut connection = connected.map_err(Cause::unsent)?;
        // The server cannot carry out an incomplete request.
        match timeout_at(deadline.into(), connection.send(request.bytes())).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => return Err(Cause::Broken(error).unsent()),
            Err(_) => return Err(self.timeout().unsent()),
        }
        let received = timeout_at(deadline.into(), connection.receive(request.into_parser())).await;
        let response = received
            .unwrap_or_else(|_| Err(self.timeout()))
            .map_err(Cause::sent)?;
        if response.keep_alive {
            self.pool.keep(connection);
        }
        Ok(response)
    }

    async fn pause(&self, time: Duration, deadline: Instant) -> Result<(), TransportError> {
        let until = Instant::now() + time;
        sleep_until(until.min(deadline).into()).await;
        if until > deadline {
            return Err(self.timeout().unsent());
        }
        Ok(())
    }

    async fn in_runtime<F: Future>(
        &self,
        work: F,
        deadline: Instant,
    ) -> Result<F::Output, TransportError> {
        let ended = timeout_at(deadline.into(), work).await;
        ended.map_err(|_| self.timeout().unsent())
    }

    fn for_services(&self) -> Self {
        Self {
            config: self.config.clone(),
            pool: Pool::new(0),
            lookups: self.lookups.clone(),
        }
    }

    fn may_continue(&self, deadline: Instant) -> Result<(), TransportError> {
        if Instant::now() < deadline {
            Ok(())
        } else {
            Err(self.timeout().unsent())
        }
    }
}
