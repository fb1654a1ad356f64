//! What a fork asks of all stores of the process at once.
//!
//! File connections are closed before it, and both sides open new ones: POSIX locks are not
//! inherited, and a parent that closes would take the log away under a child that believes itself
//! connected. Databases in memory are kept by both.

use std::sync::{Arc, Mutex, Weak};

use crate::storage::file_guard::FileId;
use crate::store::Shared;
use crate::threads::fork_gate::{self, Frozen, locked};

/// All stores, also those that were let go while their threads still finish. Locked only inside the
/// gate, so that it is free whenever a fork happens.
static STORES: Mutex<Vec<Weak<Shared>>> = Mutex::new(Vec::new());

/// Adds a store.
pub fn register(shared: &Arc<Shared>) {
    let _pass = fork_gate::enter();
    let mut stores = locked(&STORES);
    stores.retain(|store| store.strong_count() > 0);
    stores.push(Arc::downgrade(shared));
}

/// Closes all connections of the process to a database whose files are lost. To be called without a
/// pass. False: somebody keeps one.
pub fn abandon(id: FileId) -> bool {
    fork_gate::alone(|| {
        for store in stores() {
            store.abandon(id);
        }
    })
}

fn stores() -> Vec<Arc<Shared>> {
    locked(&STORES).iter().filter_map(Weak::upgrade).collect()
}

/// Waits for what is running, and closes the connections. The first call of a fork does it for all.
pub fn before() {
    if fork_gate::freeze() == Frozen::Empty {
        for store in stores().iter().filter(|store| !store.in_memory()) {
            store.let_go();
        }
    }
}

/// Lets the parent go on.
pub fn in_parent() {
    fork_gate::thaw_parent();
}

/// Puts the child's stores in order.
pub fn in_child() {
    if fork_gate::thaw_child() {
        for store in stores() {
            store.start_anew();
        }
    }
}
