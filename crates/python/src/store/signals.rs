//! Ctrl-C during a blocking call, without delaying a fork.
//!
//! A blocking call checks about every 100 ms whether a signal handler raised. The check takes the GIL, which a thread that
//! forks may hold while it waits for this call to finish. So checks are disabled before a fork, and the forking thread
//! first waits for the running checks of other threads. It cannot wait for its own checks: it has some if a signal handler
//! forks, because a check runs the handlers.

use std::cell::{Cell, RefCell};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use mintkey_store::Interrupt;
use pyo3::prelude::*;

/// The running checks of all threads.
static CHECKING: AtomicUsize = AtomicUsize::new(0);
static FORKING: AtomicBool = AtomicBool::new(false);

thread_local! {
    /// The running checks of this thread: several if a handler makes a blocking call that runs a handler.
    static OWN: Cell<usize> = const { Cell::new(0) };
    static RAISED: RefCell<Option<PyErr>> = const { RefCell::new(None) };
}

/// Checks whether a signal handler of Python raised.
#[derive(Debug)]
pub struct Signals;

impl Interrupt for Signals {
    fn raised(&self) -> bool {
        CHECKING.fetch_add(1, Ordering::SeqCst);
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
        CHECKING.fetch_sub(1, Ordering::SeqCst);
        raised
    }
}

/// The exception that a signal handler raised on this thread, once.
pub fn take_raised() -> Option<PyErr> {
    RAISED.with_borrow_mut(Option::take)
}

/// Called by `os.register_at_fork` before a fork.
#[pyfunction]
pub fn before_fork(py: Python<'_>) {
    FORKING.store(true, Ordering::SeqCst);
    py.detach(|| {
        while CHECKING.load(Ordering::SeqCst) > OWN.get() {
            std::thread::yield_now();
        }
    });
}

/// Called by `os.register_at_fork` in parent and child after a fork.
#[pyfunction]
pub fn after_fork() {
    FORKING.store(false, Ordering::SeqCst);
}

/// The child has one thread, and only its checks.
pub fn in_child() {
    CHECKING.store(OWN.get(), Ordering::SeqCst);
}
