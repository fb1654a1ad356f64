//! Idle connections, kept for later requests.

use std::os::fd::AsFd;
use std::sync::Mutex;

use mintkey_runtime::locked;
use rustix::io::Errno;
use rustix::net::{RecvFlags, recv};

use crate::config::Endpoint;

/// The read buffer of a connection, in bytes.
pub const BUFFER: usize = 16 * 1024;

/// A connection that can be kept.
pub trait Pooled {
    /// The server.
    fn endpoint(&self) -> &Endpoint;

    /// Whether the server has neither closed the connection nor sent anything since the last response.
    fn is_quiet(&self) -> bool;
}

/// The idle connections of a transport.
pub struct Pool<C> {
    limit: usize,
    /// `None` once the pool is closed.
    idle: Mutex<Option<Vec<C>>>,
}

impl<C: Pooled> Pool<C> {
    /// An empty pool that keeps up to `limit` connections.
    pub const fn new(limit: usize) -> Self {
        Self {
            limit,
            idle: Mutex::new(Some(Vec::new())),
        }
    }

    /// A connection to this server that can be used.
    pub fn take(&self, endpoint: &Endpoint) -> Option<C> {
        loop {
            let connection = {
                let mut pool = locked(&self.idle);
                let idle = pool.as_mut()?;
                let position = idle.iter().rposition(|own| own.endpoint() == endpoint)?;
                idle.swap_remove(position)
            };
            if connection.is_quiet() {
                return Some(connection);
            }
        }
    }

    /// Keeps a connection, unless the pool is full or closed.
    pub fn keep(&self, connection: C) {
        if let Some(idle) = locked(&self.idle).as_mut()
            && idle.len() < self.limit
        {
            idle.push(connection);
        }
    }

    /// Closes all idle connections.
    pub fn clear(&self) {
        if let Some(idle) = locked(&self.idle).as_mut() {
            idle.clear();
        }
    }

    /// Closes all idle connections, and keeps none from now on.
    pub fn close(&self) {
        *locked(&self.idle) = None;
    }
}

/// Whether there is nothing to read on a socket, and the peer has not closed it. Asks the system: what a runtime knows
/// about a socket may be out of date.
pub fn is_quiet(socket: impl AsFd) -> bool {
    let flags = RecvFlags::PEEK | RecvFlags::DONTWAIT;
    matches!(recv(socket, &mut [0_u8; 1], flags), Err(Errno::AGAIN))
}
