//! The reactor of the worker thread: many requests in flight, on a runtime of tokio.

use std::future::Future;
use std::io;
use std::net::{IpAddr, SocketAddr, TcpStream, ToSocketAddrs as _};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use mintkey_runtime::Stop;
use tokio::io::Interest;
use tokio::sync::{Semaphore, oneshot};
use tokio::time::{sleep_until, timeout_at};

use crate::transport::error::Cause;
use crate::transport::reactor::{Reactor, Readiness};

/// Host names that are looked up at once.
const LOOKUPS: usize = 2;

/// The reactor of all submitted requests of a store.
pub struct Nonblocking {
    /// The time limit of a request, for messages.
    timeout: Duration,
    /// Permits for the threads that look up host names; `None`: the calling thread does that.
    lookups: Option<Arc<Semaphore>>,
}

impl Nonblocking {
    /// The reactor of the store's thread.
    pub fn new(timeout: Duration) -> Self {
        Self {
            timeout,
            lookups: Some(Arc::new(Semaphore::new(LOOKUPS))),
        }
    }

    /// A reactor that looks up host names on the calling thread.
    pub const fn of_calling_thread(timeout: Duration) -> Self {
        Self {
            timeout,
            lookups: None,
        }
    }

    fn timed_out(&self) -> Cause {
        Stop::Timeout(self.timeout).into()
    }
}

impl Reactor for Nonblocking {
    type Tcp = tokio::net::TcpStream;
    type ForServices = Self;

    fn watch(&self, socket: TcpStream) -> io::Result<Self::Tcp> {
        Self::Tcp::from_std(socket)
    }

    async fn ready(
        &self,
        socket: &Self::Tcp,
        readiness: Readiness,
        until: Instant,
    ) -> Result<(), Cause> {
        let interest = match readiness {
            Readiness::Read => Interest::READABLE,
            Readiness::Write => Interest::WRITABLE,
        };
        let ready = timeout_at(until.into(), socket.ready(interest)).await;
        ready
            .map_err(|_| self.timed_out())?
            .map_err(Cause::Broken)?;
        // The caller reads or writes now, which tokio does not see. If the socket is not ready after all, the next wait is
        // for a new event: this one is over.
        let over = || Err::<(), _>(io::ErrorKind::WouldBlock.into());
        let _ = socket.try_io(interest, over);
        Ok(())
    }

    async fn sleep(&self, until: Instant) -> Result<(), Cause> {
        sleep_until(until.into()).await;
        Ok(())
    }

    fn check(&self, until: Instant) -> Result<(), Cause> {
        if Instant::now() < until {
            Ok(())
        } else {
            Err(self.timed_out())
        }
    }

    /// The system's lookup blocks, so it runs on another thread. tokio's own lookup is not used: it panics where the system
    /// refuses a thread.
    async fn look_up(
        &self,
        host: &str,
        port: u16,
        until: Instant,
    ) -> Result<Vec<SocketAddr>, Cause> {
        if let Ok(address) = host.parse::<IpAddr>() {
            return Ok(vec![SocketAddr::new(address, port)]);
        }
        let host = (host.to_owned(), port);
        let Some(lookups) = &self.lookups else {
            let found = host.to_socket_addrs().map(Iterator::collect);
            return found.map_err(Cause::UnknownHost);
        };
        let found = look_up_on_a_thread(host, Arc::clone(lookups));
        let found = timeout_at(until.into(), found).await;
        found.unwrap_or_else(|_| Err(self.timed_out()))
    }

    async fn in_runtime<F: Future>(&self, work: F, until: Instant) -> Result<F::Output, Cause> {
        let ended = timeout_at(until.into(), work).await;
        ended.map_err(|_| self.timed_out())
    }

    fn for_services(&self) -> Self {
        Self {
            timeout: self.timeout,
            lookups: self.lookups.clone(),
        }
    }
}

/// Looks up a host name on another thread, when there is a permit.
async fn look_up_on_a_thread(
    host: (String, u16),
    lookups: Arc<Semaphore>,
) -> Result<Vec<SocketAddr>, Cause> {
    let permit = lookups.acquire_owned().await;
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
