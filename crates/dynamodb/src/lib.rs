//! The store of mintkey on `DynamoDB`, and on compatible servers: `DynamoDB` Local, `ScyllaDB` Alternator.
//!
//! From the bottom: `config` (the address), `transport` (connections), `wire` (the format of calls and responses), `aws`
//! (credentials, signatures, retries), `shared` (the state of a store), `client` (sends calls), `operations` (the requests
//! of the contract), `worker` (the thread of submitted requests), `store` (entry points, closing, forking).
//!
//! There is no official client below: it takes several times as long for a request as this one. Operations, retries and
//! credentials are written once, for a transport that blocks the calling thread and for one that belongs to the worker.

#![forbid(unsafe_code)]

mod aws;
mod client;
mod config;
#[doc(hidden)]
pub mod internals;
mod operations;
mod shared;
mod store;
mod transport;
mod wire;
mod worker;

use std::sync::Arc;

use mintkey_store::{Result, Store};

/// Opens the store at an address. The first request sends the first byte.
///
/// `dynamodb://eu-central-1` is that region of AWS; `dynamodb://` the region of the environment or the profile.
/// Parameters: `endpoint=` (another server, `http://localhost:8000`), `profile=` (of `~/.aws`), `table_prefix=` (the prefix
/// of all table names), `timeout=` in seconds for a whole request (5), `connect_timeout=` in seconds (3), `retries=` (3),
/// `ca=`, `cert=`, `key=` (PEM files: trusted authorities, client certificate and key),
/// `capacity=` read and write units of new tables, `5,5` (without it they are on demand).
///
/// # Errors
///
/// `Configuration` if the address is not valid.
pub fn open(url: &str) -> Result<Arc<dyn Store>> {
    Ok(Arc::new(store::DynamoStore::new(config::Config::parse(
        url,
    )?)))
}
