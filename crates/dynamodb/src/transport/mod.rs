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

pub use http_transport::Transport;
