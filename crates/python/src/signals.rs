//! Ctrl-C during a blocking call, without ever holding up a fork.
//!
//! A blocking call asks about every 100 ms whether a signal handler raised. The question takes the GIL, which a thread
//! that forks may hold while it waits for this very call to finish; so before a fork the questions are switched off,
//! and the forking thread first waits for those that other threads have asked already. Its own questions it cannot wait
//! for: it has some if a signal handler forks, because a question runs the handlers.

use std::cell::{Cell, RefCell};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use mintkey_store::Interrupt;
use pyo3::prelude::*;

/// The questions of all threads.
static ASKING: AtomicUsize = AtomicUsize::new(0);
static FORKING: AtomicBool = AtomicBool::new(false);

thread_local! {
    /// The questions of this thread: several if a handler makes a blocking call that runs a handler.
    static OWN: Cell<usize> = const { Cell::new(0) };
    static RAISED: RefCell<Option<PyErr>> = const { RefCell::new(None) };
}

/// Asks Python whether a signal handler raised.
#[derive(Debug)]
pub struct Signals;

impl Interrupt for Signals {
    fn raised(&self) -> bool {
        ASKING.fetch_add(1, Ordering::SeqCst);
        OWN.set(OWN.get() + 1);
        let raised = !FORKING.load(Ordering::SeqCst)
            && Python::attach(|py| match py.check_signals() {
                Ok(()) => false,
                Err(error) => {
                    RAISED.with_borrow_mut(|raised| *raised = Some(error));
                    true
                }
            });
        OWN.set(OWN.get() - 1);
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
        while ASKING.load(Ordering::SeqCst) > OWN.get() {
            std::thread::yield_now();
        }
    });
}

/// Called by `os.register_at_fork` in parent and child after a fork.
#[pyfunction]
pub fn after_fork() {
    FORKING.store(false, Ordering::SeqCst);
}

/// The child has one thread, and only its questions.
pub fn in_child() {
    ASKING.store(OWN.get(), Ordering::SeqCst);
}
