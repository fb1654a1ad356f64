//! One connection to a server: connecting, TLS, sending and receiving.

use std::io::{self, Read as _, Write as _};
use std::net::SocketAddr;
use std::os::fd::AsFd;
use std::time::Instant;

use mintkey_runtime::Stop;

use crate::config::{Config, Endpoint};
use crate::transport::error::Cause;
use crate::transport::http::{Response, ResponseParser};
use crate::transport::reactor::{Reactor, Readiness};
use crate::transport::socket::{Socket, connect};

/// The read buffer of a connection, in bytes.
const BUFFER: usize = 16 * 1024;

/// A connection over a socket of a reactor.
pub struct Connection<T: AsFd> {
    endpoint: Endpoint,
    socket: Socket<T>,
    buffer: Vec<u8>,
}

impl<T: AsFd> Connection<T> {
    /// The server.
    pub const fn endpoint(&self) -> &Endpoint {
        &self.endpoint
    }

    /// Whether the server has neither closed it nor sent anything since the last response.
    pub fn is_quiet(&mut self) -> bool {
        self.socket.is_quiet()
    }

    /// Connects to a server within the time limit for connecting. Its addresses are tried in turn.
    pub async fn open<R: Reactor<Tcp = T>>(
        reactor: &R,
        config: &Config,
        endpoint: &Endpoint,
        deadline: Instant,
    ) -> Result<Self, Cause> {
        let limit = Instant::now() + config.connect_timeout;
        let opened = Self::open_until(reactor, config, endpoint, deadline.min(limit)).await;
        if opened.is_ok() {
            config.notices.debug(format!("connected to {endpoint}"));
        }
        opened.map_err(|cause| match cause {
            Cause::Stopped(Stop::Timeout(_)) if deadline > limit => Cause::ConnectTimeout,
            cause => cause,
        })
    }

    async fn open_until<R: Reactor<Tcp = T>>(
        reactor: &R,
        config: &Config,
        endpoint: &Endpoint,
        until: Instant,
    ) -> Result<Self, Cause> {
        let mut failed = Cause::no_address();
        let addresses = reactor
            .look_up(&endpoint.host, endpoint.port, until)
            .await?;
        let mut left = u32::try_from(addresses.len()).unwrap_or(u32::MAX);
        for address in addresses {
            // An address that does not answer leaves time for the others.
            let now = Instant::now();
            let share = now + until.saturating_duration_since(now) / left;
            left -= 1;
            match Self::dial(reactor, endpoint, address, share).await {
                Err(Cause::Stopped(Stop::Timeout(_))) if left > 0 => {}
                Ok(connection) if endpoint.tls => {
                    return connection.secure(reactor, config, until).await;
                }
                Ok(connection) => return Ok(connection),
                Err(cause) if cause.is_final() => return Err(cause),
                Err(cause) => failed = cause,
            }
        }
        Err(failed)
    }

    async fn dial<R: Reactor<Tcp = T>>(
        reactor: &R,
        endpoint: &Endpoint,
        address: SocketAddr,
        until: Instant,
    ) -> Result<Self, Cause> {
        let socket = connect(address).and_then(|socket| reactor.watch(socket));
        let socket = Socket::new(socket.map_err(Cause::Unreachable)?);
        while !socket.is_connected().map_err(Cause::Unreachable)? {
            reactor.ready(socket.tcp(), Readiness::Write, until).await?;
        }
        Ok(Self {
            endpoint: endpoint.clone(),
            socket,
            buffer: vec![0; BUFFER],
        })
    }

    async fn secure<R: Reactor<Tcp = T>>(
        self,
        reactor: &R,
        config: &Config,
        until: Instant,
    ) -> Result<Self, Cause> {
        let tls = config.tls.connection(&self.endpoint.host)?;
        let mut secured = Self {
            socket: self.socket.encrypted(tls),
            ..self
        };
        while let Err(error) = secured.socket.complete_handshake() {
            secured.after(reactor, error, until).await?;
        }
        Ok(secured)
    }

    /// Waits after an error that only means "not yet".
    async fn after<R: Reactor<Tcp = T>>(
        &mut self,
        reactor: &R,
        error: io::Error,
        until: Instant,
    ) -> Result<(), Cause> {
        match error.kind() {
            io::ErrorKind::Interrupted => reactor.check(until),
            io::ErrorKind::WouldBlock => {
                // TLS reads nothing while it has something to send.
                let readiness = if self.socket.has_unsent_bytes() {
                    Readiness::Write
                } else {
                    Readiness::Read
                };
                reactor.ready(self.socket.tcp(), readiness, until).await
            }
            _ => Err(Cause::broken(self.socket.explain(error))),
        }
    }

    /// Sends a request. If that fails, the server cannot have received all of it.
    pub async fn send<R: Reactor<Tcp = T>>(
        &mut self,
        reactor: &R,
        request: &[u8],
        deadline: Instant,
    ) -> Result<(), Cause> {
        let mut rest = request;
        while !rest.is_empty() || self.socket.has_unsent_bytes() {
            let written = if rest.is_empty() {
                self.socket.flush()
            } else {
                match self.socket.write(rest) {
                    Ok(0) => return Err(Cause::closed()),
                    Ok(count) => {
                        rest = &rest[count..];
                        Ok(())
                    }
                    Err(error) => Err(error),
                }
            };
            match written {
                Ok(()) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    let writable = reactor.ready(self.socket.tcp(), Readiness::Write, deadline);
                    writable.await?;
                }
                Err(error) => self.after(reactor, error, deadline).await?,
            }
        }
        Ok(())
    }

    /// Receives the response.
    pub async fn receive<R: Reactor<Tcp = T>>(
        &mut self,
        reactor: &R,
        mut parser: ResponseParser,
        deadline: Instant,
    ) -> Result<Response, Cause> {
        if !self.socket.is_encrypted() {
            // A read before that would return nothing.
            let readable = reactor.ready(self.socket.tcp(), Readiness::Read, deadline);
            readable.await?;
        }
        loop {
            match self.socket.read(&mut self.buffer) {
                Ok(0) => return parser.end().ok_or_else(Cause::closed),
                Ok(count) => {
                    let response = parser.feed(&self.buffer[..count]);
                    if let Some(response) = response.map_err(|_| Cause::NotHttp)? {
                        return Ok(response);
                    }
                    // A response that arrives slowly must not outlast the deadline.
                    reactor.check(deadline)?;
                }
                Err(error) => self.after(reactor, error, deadline).await?,
            }
        }
    }
}
