//! Ctrl-C during a blocking call, without ever holding up a fork.
//!
//! A blocking call asks about every 100 ms whether a signal handler raised. The question takes the GIL, which a thread
//! that forks may hold while it waits for this very call to finish; so before a fork the questions are switched off,
//! and the forking thread first lets those through that have been asked already.

use std::cell::RefCell;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use mintkey_store::Interrupt;
use pyo3::prelude::*;

static ASKING: AtomicUsize = AtomicUsize::new(0);
static FORKING: AtomicBool = AtomicBool::new(false);

thread_local! {
    static RAISED: RefCell<Option<PyErr>> = const { RefCell::new(None) };
}

/// Asks Python whether a signal handler raised.
#[derive(Debug)]
pub struct Signals;

impl Interrupt for Signals {
    fn raised(&self) -> bool {
        ASKING.fetch_add(1, Ordering::SeqCst);
        let raised = !FORKING.load(Ordering::SeqCst)
            && Python::attach(|py| match py.check_signals() {
                Ok(()) => false,
                Err(error) => {
                    RAISED.with_borrow_mut(|raised| *raised = Some(error));
                    true
                }
            });
        ASKING.fetch_sub(1, Ordering::SeqCst);
        raised
    }
}

/// What the signal handler raised on this thread, once.
pub fn take_raised() -> Option<PyErr> {
    RAISED.with_borrow_mut(Option::take)
}

/// Called by `os.register_at_fork` before a fork.
#[pyfunction]
pub fn before_fork(py: Python<'_>) {
    FORKING.store(true, Ordering::SeqCst);
    py.detach(|| {
        while ASKING.load(Ordering::SeqCst) > 0 {
            std::thread::yield_now();
        }
    });
}

/// Called by `os.register_at_fork` in parent and child after a fork.
#[pyfunction]
pub fn after_fork() {
    FORKING.store(false, Ordering::SeqCst);
}

/// The child has one thread, which asks nothing at this moment.
pub fn in_child() {
    ASKING.store(0, Ordering::SeqCst);
}
