//! The HTTP client. It is written once, for the calling thread and for the worker: a reactor waits.

use std::future::Future;
use std::sync::Arc;
use std::time::{Duration, Instant};

use mintkey_runtime::{Generation, Stop};
use mintkey_store::{Error, Interrupt};

use crate::config::{Config, Endpoint};
use crate::transport::blocking::Blocking;
use crate::transport::connection::Connection;
use crate::transport::error::{Cause, TransportError};
use crate::transport::http::{Request, Response};
use crate::transport::nonblocking::Nonblocking;
use crate::transport::pool::Pool;
use crate::transport::reactor::Reactor;

pub trait Transport {
    /// Sends a request and waits for the response.
    async fn exchange(
        &self,
        endpoint: &Endpoint,
        request: Request,
        deadline: Instant,
    ) -> Result<Response, TransportError>;

    /// Closes the connections that no request uses.
    fn close_idle(&self);

    /// Waits for this time. Fails if the caller is interrupted or the deadline comes first.
    async fn pause(&self, time: Duration, deadline: Instant) -> Result<(), TransportError>;

    /// Fails if the deadline has passed or the caller is interrupted.
    fn may_continue(&self, deadline: Instant) -> Result<(), TransportError>;

    /// Runs work of AWS's libraries, which needs a runtime of tokio, until it ends or the deadline comes.
    async fn in_runtime<F: Future>(
        &self,
        work: F,
        deadline: Instant,
    ) -> Result<F::Output, TransportError>;

    /// A transport for the requests of that work.
    fn for_services(&self) -> HttpTransport<Nonblocking>;
}

/// Sends requests, and waits with a reactor.
pub struct HttpTransport<R: Reactor> {
    config: Arc<Config>,
    pool: Arc<Pool<R::Tcp>>,
    reactor: R,
    /// The process that the connections belong to.
    generation: Generation,
}

impl<R: Reactor> HttpTransport<R> {
    /// A client with these idle connections.
    pub fn new(config: &Arc<Config>, pool: &Arc<Pool<R::Tcp>>, reactor: R) -> Self {
        Self {
            config: Arc::clone(config),
            pool: Arc::clone(pool),
            reactor,
            generation: Generation::current(),
        }
    }

    /// Waits for time, and for looking up names.
    pub const fn reactor(&self) -> &R {
        &self.reactor
    }
}

impl HttpTransport<Blocking> {
    /// The client of one blocking call.
    pub fn of_call(
        config: &Arc<Config>,
        pool: &Arc<Pool<<Blocking as Reactor>::Tcp>>,
        interrupt: &'static dyn Interrupt,
    ) -> Self {
        Self::new(config, pool, Blocking::new(config.timeout, interrupt))
    }

    /// Runs a future that waits for nothing but exchanges of this client.
    pub fn run<T>(&self, future: impl Future<Output = Result<T, Error>>) -> Result<T, Error> {
        self.reactor.run(future)
    }
}

impl<R: Reactor<ForServices = Nonblocking>> Transport for HttpTransport<R> {
    async fn exchange(
        &self,
        endpoint: &Endpoint,
        request: Request,
        deadline: Instant,
    ) -> Result<Response, TransportError> {
        let reactor = &self.reactor;
        // The interrupt may have been raised while the thread waited for a concurrent exchange.
        reactor.check(deadline).map_err(Cause::unsent)?;
        let mut connection = if let Some(connection) = self.pool.take(endpoint) {
            connection
        } else {
            let opened = Connection::open(reactor, &self.config, endpoint, deadline).await;
            opened.map_err(Cause::unsent)?
        };
        let sent = connection.send(reactor, request.bytes(), deadline).await;
        sent.map_err(Cause::unsent)?;
        let parser = request.into_parser();
        let received = connection.receive(reactor, parser, deadline).await;
        let response = received.map_err(Cause::sent)?;
        if !response.is_intact() {
            return Err(Cause::Damaged.sent());
        }
        if response.keep_alive && self.generation.is_current() {
            self.pool.keep(connection);
        }
        Ok(response)
    }

    fn close_idle(&self) {
        self.pool.clear();
    }

    async fn pause(&self, time: Duration, deadline: Instant) -> Result<(), TransportError> {
        let until = Instant::now() + time;
        let slept = self.reactor.sleep(until.min(deadline)).await;
        slept.map_err(Cause::unsent)?;
        if until > deadline {
            return Err(Cause::from(Stop::Timeout(self.config.timeout)).unsent());
        }
        Ok(())
    }

    fn may_continue(&self, deadline: Instant) -> Result<(), TransportError> {
        self.reactor.check(deadline).map_err(Cause::unsent)
    }

    async fn in_runtime<F: Future>(
        &self,
        work: F,
        deadline: Instant,
    ) -> Result<F::Output, TransportError> {
        let ended = self.reactor.in_runtime(work, deadline).await;
        ended.map_err(Cause::unsent)
    }

    fn for_services(&self) -> HttpTransport<Nonblocking> {
        let pool = Arc::new(Pool::new(0));
        HttpTransport::new(&self.config, &pool, self.reactor.for_services())
    }
}
