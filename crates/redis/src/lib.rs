//! The Redis store of mintkey: one hash for each item, sorted sets for every order.
//!
//! Whatever a write changes changes in one script, computed from the stored row. Conditions and
//! updates are judged here, on the row as it was read, and carried out only if it is still that row.

#![forbid(unsafe_code)]

mod config;
mod driver;
mod eviction_warning;
mod fork_gate;
#[cfg(test)]
mod interleavings;
mod keyspace;
mod operations;
mod protocol;
mod store;
mod transport;

// The tests' own servers speak of this crate by its name.
#[cfg(test)]
extern crate self as mintkey_redis;

use std::sync::Arc;

use mintkey_store::{Result, Store};

/// Opens the store at an address. Nothing is connected before the first request.
///
/// `redis://user:password@host:6379/0` is a server, `rediss://…` one that is spoken to encrypted,
/// `unix:///run/redis/redis.sock?db=0` one that listens at a socket, `redis-cluster://a:7000,b:7001` a
/// Cluster with these servers and others, `rediss-cluster://…` one that is encrypted. Parameters:
/// `ca=`, `cert=` and
/// `key=` for the encrypted ones (paths of PEM files), `prefix=` for the names of all keys, `timeout=` in seconds (5),
/// `max_item=` in bytes (400 KB).
///
/// # Errors
///
/// `Configuration` if the address is no such address, or a file that it names cannot be read.
pub fn open(url: &str) -> Result<Arc<dyn Store>> {
    Ok(Arc::new(store::RedisStore::new(config::Config::parse(
        url,
    )?)))
}
