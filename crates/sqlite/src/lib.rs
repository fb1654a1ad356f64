//! The embedded store of mintkey: a file, or memory, through `SQLite`.
//!
//! One connection writes, several read. A writer that is alone works on its own thread; when several
//! come at once, one of them carries all waiting requests into one transaction.

#![forbid(unsafe_code)]

mod catalog;
mod config;
mod layout;
mod reading;
mod storage;
mod store;
mod threads;
mod workers;
mod writing;

use std::sync::Arc;

use mintkey_store::{Result, Store};

/// Opens the store at an address. Nothing is read or written before the first request.
///
/// `sqlite:///shop.db` is a file beside the working directory, `sqlite:////srv/shop.db` one with an
/// absolute path, `sqlite://` a database in memory that ends with the store. Parameters:
/// `sync=full` (default: a commit survives a power cut) or `sync=normal` (a commit survives a crash of
/// the process), `timeout=` in seconds (5), `max_item=` in bytes (400 KB), `mode=`, the permissions of a
/// new file in octal (600).
///
/// # Errors
///
/// `Configuration` if the address is no such address.
pub fn open(url: &str) -> Result<Arc<dyn Store>> {
    Ok(Arc::new(store::SqliteStore::new(config::Config::parse(
        url,
    )?)))
}
