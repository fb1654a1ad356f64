//! The threads of a store that carry out submitted requests.

use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::thread::{self, Thread};

use mintkey_store::{Error, ErrorKind, Outcome, Result};

thread_local! {
    static IS_WORKER: Cell<bool> = const { Cell::new(false) };
}

/// Whether this thread belongs to a store.
pub fn is_worker() -> bool {
    IS_WORKER.get()
}

/// Starts a thread that takes this step again and again until the step returns false.
///
/// A step that panics, which is a defect, does not end the thread: the requests that it held were answered when they
/// were dropped, and the store stays usable. The thread is detached: the child of a fork could neither join it nor drop
/// its handle safely.
pub fn start(name: &str, mut step: impl FnMut() -> bool + Send + 'static) -> Result<Thread> {
    let steps = move || {
        IS_WORKER.set(true);
        while catch_unwind(AssertUnwindSafe(&mut step)).unwrap_or(true) {}
    };
    let started = thread::Builder::new().name(name.to_owned()).spawn(steps);
    started
        .map(|handle| handle.thread().clone())
        .map_err(|error| {
            Error::new(
                ErrorKind::Unavailable(Outcome::NotApplied),
                "the store cannot start a thread, because the system's limit is reached: allow more threads",
            )
            .caused_by(error)
        })
}
