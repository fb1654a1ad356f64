//! Idle connections, kept for later requests.

use std::os::fd::AsFd;
use std::sync::Mutex;

use mintkey_runtime::locked;

use crate::config::Endpoint;
use crate::transport::connection::Connection;

/// Idle connections over sockets of a reactor.
pub struct Pool<T: AsFd> {
    limit: usize,
    /// `None` once the pool is closed.
    idle: Mutex<Option<Vec<Connection<T>>>>,
}

impl<T: AsFd> Pool<T> {
    /// An empty pool that keeps up to `limit` connections.
    pub const fn new(limit: usize) -> Self {
        Self {
            limit,
            idle: Mutex::new(Some(Vec::new())),
        }
    }

    /// A connection to this server that can be used.
    pub fn take(&self, endpoint: &Endpoint) -> Option<Connection<T>> {
        loop {
            let mut connection = {
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
    pub fn keep(&self, connection: Connection<T>) {
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
