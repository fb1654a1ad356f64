//! Locks that a fork cannot leave locked.
//!
//! A forked child inherits the memory of its parent, but none of its other threads. A lock that another thread holds at
//! that moment would stay locked in the child for ever. So what threads share is behind a gate that a fork closes. A
//! thread behind the gate neither waits nor passes the gate a second time. So closing the gate takes little time.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use mintkey_runtime::locked;

/// The gate of one store.
#[derive(Debug, Default)]
pub struct ForkGate {
    inside: AtomicUsize,
    closed: AtomicBool,
}

impl ForkGate {
    fn enter(&self) {
        loop {
            self.inside.fetch_add(1, Ordering::SeqCst);
            if !self.closed.load(Ordering::SeqCst) {
                return;
            }
            self.inside.fetch_sub(1, Ordering::SeqCst);
            std::thread::yield_now();
        }
    }

    fn leave(&self) {
        self.inside.fetch_sub(1, Ordering::SeqCst);
    }

    /// Closes the gate, and waits until all threads have left.
    pub fn close(&self) {
        self.closed.store(true, Ordering::SeqCst);
        while self.inside.load(Ordering::SeqCst) > 0 {
            std::thread::yield_now();
        }
    }

    /// Opens the gate.
    pub fn open(&self) {
        self.closed.store(false, Ordering::SeqCst);
    }

    /// Opens the gate in a forked child. Threads that were about to enter do not exist there.
    pub fn open_in_child(&self) {
        self.inside.store(0, Ordering::SeqCst);
        self.open();
    }
}

/// A value that threads share, behind the gate.
#[derive(Debug)]
pub struct ForkGated<T> {
    gate: Arc<ForkGate>,
    inner: Mutex<T>,
}

impl<T: Default> ForkGated<T> {
    /// The default value behind this gate.
    pub fn new(gate: &Arc<ForkGate>) -> Self {
        Self {
            gate: Arc::clone(gate),
            inner: Mutex::default(),
        }
    }

    /// Accesses the value. The closure must neither wait nor pass the gate again.
    pub fn with<R>(&self, work: impl FnOnce(&mut T) -> R) -> R {
        struct Pass<'a>(&'a ForkGate);
        impl Drop for Pass<'_> {
            fn drop(&mut self) {
                self.0.leave();
            }
        }
        self.gate.enter();
        let _pass = Pass(&self.gate);
        // The value is consistent even after a panic: no closure here changes it in two steps.
        work(&mut locked(&self.inner))
    }
}
