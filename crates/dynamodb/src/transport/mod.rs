//! Connections to servers. One HTTP client connects, sends and receives, over sockets that do not block. Two reactors wait
//! for these: one on the calling thread, the other on the worker thread, which has many requests in flight.

pub mod blocking;
pub mod connection;
pub mod error;
pub mod handlers;
pub mod http;
pub mod http_transport;
pub mod join_all;
pub mod nonblocking;
pub mod pool;
pub mod reactor;
pub mod socket;

use std::future::Future;
use std::time::{Duration, Instant};

use crate::config::Endpoint;
use crate::transport::error::TransportError;
use crate::transport::http::{Request, Response};
use crate::transport::http_transport::HttpTransport;
use crate::transport::nonblocking::Nonblocking;

/// Sends requests and waits.
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
