//! The way to a server: what the two kinds, blocking and waiting, have in common.

pub mod blocking;
pub mod http;
pub mod join_all;
pub mod tls;

use std::io;
use std::time::{Duration, Instant};

use crate::transport::http::{Endpoint, Response};

/// Sends requests and waits. All logic above is written once, over this.
pub trait Link {
    /// Sends a request and reads its answer.
    async fn exchange(
        &self,
        endpoint: &Endpoint,
        request: &[u8],
        deadline: Instant,
    ) -> Result<Response, Fault>;

    /// Lets time pass; less when the caller is interrupted or the deadline comes.
    async fn pause(&self, time: Duration, deadline: Instant) -> Result<(), Fault>;

    /// Several exchanges are about to be under way at once: none may keep the others waiting.
    fn begin_sharing(&self) {}

    /// They are over.
    fn end_sharing(&self) {}
}

/// Why there is no answer.
#[derive(Debug)]
pub struct Fault {
    /// Whether the server may have the whole request.
    pub sent: bool,
    /// What happened.
    pub why: Why,
}

/// What happened instead of an answer.
#[derive(Debug)]
pub enum Why {
    /// The name has no address.
    Unknown(io::Error),
    /// The system refused the thread that looks the name up.
    NoThread(io::Error),
    /// No connection came to stand.
    Unreachable(io::Error),
    /// The connection broke, or the server closed it.
    Broken(io::Error),
    /// What came is no HTTP.
    Garbage,
    /// No connection came to stand in its time.
    ConnectTimeout,
    /// The time is over.
    Late,
    /// The caller was interrupted.
    Interrupted,
    /// The process was forked while the answer was awaited, and this is the child.
    Forked,
    /// There are no certificates to trust.
    Untrusted(String),
}

impl Why {
    /// A fault before the request was out.
    pub const fn unsent(self) -> Fault {
        Fault {
            sent: false,
            why: self,
        }
    }

    /// Whether another attempt makes no sense.
    pub const fn is_final(&self) -> bool {
        matches!(
            self,
            Self::Late | Self::Interrupted | Self::Forked | Self::Untrusted(_)
        )
    }
}

/// What a closed connection is as an error.
pub fn closed() -> Why {
    Why::Broken(io::Error::new(
        io::ErrorKind::UnexpectedEof,
        "the server closed the connection",
    ))
}
