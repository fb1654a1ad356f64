//! All stores of the process, so that a fork can prepare them at once.
//!
//! Connections to files are closed before a fork, and both sides open new ones: a child does not inherit POSIX locks,
//! and a parent that closes its connections would remove the log while the child still uses it. Both sides keep
//! databases in memory.

use std::sync::{Arc, Mutex, Weak};

use mintkey_runtime::locked;

use crate::storage::file_guard::FileId;
use crate::storage::fork_gate::{self, Closed};

/// What a fork, or the loss of files, requires of a store. All methods are called while no thread is inside the fork
/// gate.
pub trait RegisteredStore: Send + Sync {
    /// Closes all connections to files.
    fn release(&self);

    /// Closes all connections to these lost files.
    fn abandon(&self, lost: FileId);

    /// Resets the store in a child, where only the forking thread exists.
    fn reset_in_child(&self);
}

/// All stores, including dropped ones whose threads still complete requests. Locked only inside the gate, so that it is
/// free whenever a fork happens.
static STORES: Mutex<Vec<Weak<dyn RegisteredStore>>> = Mutex::new(Vec::new());

/// Adds a store.
pub fn register(store: Weak<dyn RegisteredStore>) {
    let _pass = fork_gate::enter();
    let mut stores = locked(&STORES);
    stores.retain(|store| store.strong_count() > 0);
    stores.push(store);
}

/// Closes all connections of the process to a database whose files are lost. Must be called without a pass. False: a
/// connection is still in use.
pub fn abandon(lost: FileId) -> bool {
    fork_gate::run_alone(|| {
        for store in stores() {
            store.abandon(lost);
        }
    })
}

fn stores() -> Vec<Arc<dyn RegisteredStore>> {
    locked(&STORES).iter().filter_map(Weak::upgrade).collect()
}

/// Waits for requests in progress, and closes the connections to files. The first call of a fork does so for all
/// stores.
pub fn before() {
    if fork_gate::close() == Closed::Empty {
        for store in stores() {
            store.release();
        }
    }
}

pub fn in_parent() {
    fork_gate::open_in_parent();
}

/// Opens the gate in the child, and resets its stores.
pub fn in_child() {
    if fork_gate::open_in_child() {
        for store in stores() {
            store.reset_in_child();
        }
    }
}
