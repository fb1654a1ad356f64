//! The store of mintkey on `DynamoDB`, and on what speaks its protocol: `DynamoDB` Local, `ScyllaDB`
//! Alternator.
//!
//! Requests become expressions and JSON bodies, signed here and sent over connections of our own:
//! the official client alone costs several times what a whole request costs here. What a request
//! means, retries and credentials are written once, over a link that either blocks the calling
//! thread or waits on the store's own.

#![forbid(unsafe_code)]

mod aws;
mod client;
mod config;
mod operations;
mod store;
mod transport;
mod wire;
mod worker;

use std::sync::Arc;

use mintkey_store::{Result, Store};

/// Opens the store at an address. Nothing is sent before the first request.
///
/// `dynamodb://eu-central-1` is that region of AWS; `dynamodb://` the region of the environment or the
/// profile. Parameters: `endpoint=` (another server, `http://localhost:8000`), `profile=` (of
/// `~/.aws`), `table_prefix=` (stands before every table's name), `timeout=` in seconds for a whole
/// request (5), `connect_timeout=` in seconds (3), `retries=` (3), `capacity=` read and write units
/// for tables made here, `5,5` (without it they are on demand).
///
/// # Errors
///
/// `Configuration` if the address is no such address.
pub fn open(url: &str) -> Result<Arc<dyn Store>> {
    Ok(Arc::new(store::DynamoStore::new(config::Config::parse(
        url,
    )?)))
}
