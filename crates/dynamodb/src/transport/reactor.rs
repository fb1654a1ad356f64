//! What the HTTP client needs from the thread that it runs on.

use std::future::Future;
use std::io;
use std::net::{SocketAddr, TcpStream};
use std::os::fd::AsFd;
use std::time::Instant;

use crate::transport::error::Cause;

/// What a socket is ready for.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Readiness {
    Read,
    Write,
}

/// Waits for sockets and for time. Each wait ends with an error at its end of time, or when the caller is interrupted.
pub trait Reactor {
    /// A socket that it can wait for.
    type Tcp: AsFd;

    /// The reactor for the requests of AWS's libraries.
    type ForServices: Reactor;

    /// Prepares to wait for a socket, which does not block.
    fn watch(&self, socket: TcpStream) -> io::Result<Self::Tcp>;

    /// Waits until a socket is ready. May return earlier.
    async fn ready(
        &self,
        socket: &Self::Tcp,
        readiness: Readiness,
        until: Instant,
    ) -> Result<(), Cause>;

    /// Waits until an instant.
    async fn sleep(&self, until: Instant) -> Result<(), Cause>;

    /// Fails if this instant has passed or the caller is interrupted.
    fn check(&self, until: Instant) -> Result<(), Cause>;

    /// The addresses of a host.
    async fn look_up(
        &self,
        host: &str,
        port: u16,
        until: Instant,
    ) -> Result<Vec<SocketAddr>, Cause>;

    /// Runs work of AWS's libraries, which needs a runtime of tokio.
    async fn in_runtime<F: Future>(&self, work: F, until: Instant) -> Result<F::Output, Cause>;

    /// The reactor for the requests of that work.
    fn for_services(&self) -> Self::ForServices;
}
