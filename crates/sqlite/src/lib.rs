//! The embedded store of mintkey: a database in a file, or in memory, through `SQLite`.
//!
//! From the bottom: `config` (the address), `entry` (what the catalog says of a table), `layout` (tables and their
//! statements), `storage` (files,
//! connections, the fork gate), `catalog` (the stored descriptions of tables), `shared` (the state
//! of a store), `reading` and `writing` (one request, or one transaction), `operations` (the requests of the contract),
//! `workers` (the threads of submitted requests), `store` (entry points, closing, forking).
//!
//! One connection writes, several read. Blocking calls run on their own thread. When several threads write at the same
//! time, one of them carries out all waiting writes in one transaction.

#![forbid(unsafe_code)]

mod catalog;
mod config;
mod entry;
mod layout;
mod operations;
mod reading;
mod shared;
mod storage;
mod store;
mod workers;
mod writing;

use std::sync::Arc;

use mintkey_store::{Result, Store};

/// Opens the store at an address. Nothing is read or written before the first request.
///
/// `sqlite:///shop.db` is a file in the working directory, `sqlite:////srv/shop.db` one with an
/// absolute path, `sqlite://` a database in memory that ends with the store. Parameters:
/// `sync=full` (default: a commit survives a power cut) or `sync=normal` (a commit survives a crash of
/// the process), `timeout=` in seconds (5), `max_item=` in bytes (400 KB), `mode=`, the permissions of a
/// new file in octal (600).
///
/// # Errors
///
/// `Configuration` if the address is not valid.
pub fn open(url: &str) -> Result<Arc<dyn Store>> {
    Ok(Arc::new(store::SqliteStore::new(config::Config::parse(
        url,
    )?)))
}
