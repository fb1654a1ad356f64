//! Failures of a transport.

use std::io;

use mintkey_runtime::{Stop, untrusted_reason};
use mintkey_store::Error;

/// Why there is no response.
#[derive(Debug)]
pub struct TransportError {
    /// Whether the server may have received the whole request.
    pub sent: bool,
    /// What happened.
    pub cause: Cause,
}

/// What happened instead of a response.
#[derive(Debug)]
pub enum Cause {
    /// The host name has no address.
    UnknownHost(io::Error),
    /// The system refused the thread that looks up the host name.
    NoThread(io::Error),
    /// No connection was established.
    Unreachable(io::Error),
    /// The connection broke, or the server closed it.
    Broken(io::Error),
    /// The server does not speak HTTP.
    NotHttp,
    /// The checksum of the response is wrong.
    Damaged,
    /// No connection was established within the time limit for connecting.
    ConnectTimeout,
    /// The request was given up.
    Stopped(Stop),
    /// The server is not trusted, refuses the client's certificate, or TLS cannot be used: what to do.
    Untrusted(String),
}

impl From<Stop> for Cause {
    fn from(stop: Stop) -> Self {
        Self::Stopped(stop)
    }
}

impl From<Error> for Cause {
    fn from(tls: Error) -> Self {
        Self::Untrusted(tls.message)
    }
}

impl Cause {
    /// The failure of an exchange whose request was not sent completely.
    pub const fn unsent(self) -> TransportError {
        TransportError {
            sent: false,
            cause: self,
        }
    }

    /// The failure of an exchange whose request was sent.
    pub const fn sent(self) -> TransportError {
        TransportError {
            // In TLS 1.3 the server verifies the client when that may send already. It carries nothing out before.
            sent: !matches!(self, Self::Untrusted(_)),
            cause: self,
        }
    }

    /// The connection broke.
    pub fn broken(error: io::Error) -> Self {
        untrusted_reason(&error).map_or(Self::Broken(error), Self::Untrusted)
    }

    /// The connection was closed by the server.
    pub fn closed() -> Self {
        Self::Broken(io::Error::new(
            io::ErrorKind::UnexpectedEof,
            "the server closed the connection",
        ))
    }

    /// The host name was looked up and has no address.
    pub fn no_address() -> Self {
        Self::UnknownHost(io::Error::new(
            io::ErrorKind::NotFound,
            "the name has no address",
        ))
    }

    /// Whether a time limit has passed.
    pub const fn is_timeout(&self) -> bool {
        matches!(self, Self::ConnectTimeout | Self::Stopped(Stop::Timeout(_)))
    }

    /// Whether a retry is pointless.
    pub const fn is_final(&self) -> bool {
        matches!(self, Self::Stopped(_) | Self::Untrusted(_))
    }
}

/// Whether a connection broke because the server sent something else than TLS.
pub fn is_not_tls(error: &io::Error) -> bool {
    let tls = error.get_ref().and_then(|cause| cause.downcast_ref());
    matches!(tls, Some(rustls::Error::InvalidMessage(_)))
}
