//! The store of mintkey on Redis, and on Redis Cluster. A row is a hash. Sorted sets keep rows in order, and are the indexes.
//!
//! From the bottom: `protocol` (commands, replies, scripts, slots) and `eviction_warning` (servers that may drop rows),
//! `keyspace` (keys, rows, and the calls on them), `config` (the address), `transport` (connections, and which server has
//! which slots), `operations` (the requests of the contract), `driver` (carries out operations, blocking or on the worker),
//! `store` (entry points, closing, forking).
//!
//! A script makes all changes of a write atomically. Conditions and updates are evaluated here, on the row that was read. The
//! script writes only if the stored row is still the same.

#![forbid(unsafe_code)]
#![allow(
    clippy::missing_errors_doc,
    clippy::must_use_candidate,
    clippy::return_self_not_must_use,
    reason = "`open` is the interface; all else that is public is public for the tests of this crate"
)]

mod config;
mod driver;
mod eviction_warning;
#[doc(hidden)]
pub mod internals;
mod keyspace;
mod operations;
mod protocol;
mod store;
mod transport;

use std::sync::Arc;

use mintkey_store::{Result, Store};

/// Opens the store at an address. The first request connects.
///
/// `redis://user:password@host:6379/0` is a server, `rediss://…` a server with TLS, `unix:///run/redis/redis.sock?db=0` a
/// server at a Unix domain socket, `redis-cluster://a:7000,b:7001` a Cluster with these servers and others,
/// `rediss-cluster://…` a Cluster with TLS. Parameters: `ca=`, `cert=` and `key=` for TLS (paths of PEM files), `prefix=` for
/// all keys, `timeout=` in seconds (5), `max_item=` in bytes (400 KB), `max_reply=` in bytes
/// (512 MiB).
///
/// # Errors
///
/// `Configuration` if the address is not valid, or a file that it names cannot be read.
pub fn open(url: &str) -> Result<Arc<dyn Store>> {
    Ok(Arc::new(store::RedisStore::new(config::Config::parse(
        url,
    )?)))
}
