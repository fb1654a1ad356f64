//! Lets a fork happen only while no lock of the store is held.
//!
//! A child inherits the memory of its parent but none of its other threads: a lock that another thread
//! holds would stay locked for ever there. So whatever threads share lies behind a gate that a fork
//! closes. Nobody waits for anything while he is inside, and nobody is inside twice, so that closing
//! it takes no longer than one look at a map.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

/// The gate of one store.
#[derive(Debug, Default)]
pub struct Gate {
    inside: AtomicUsize,
    closed: AtomicBool,
}

impl Gate {
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

    /// Keeps everybody out, once all have left.
    pub fn close(&self) {
        self.closed.store(true, Ordering::SeqCst);
        while self.inside.load(Ordering::SeqCst) > 0 {
            std::thread::yield_now();
        }
    }

    /// Lets everybody in again.
    pub fn open(&self) {
        self.closed.store(false, Ordering::SeqCst);
    }

    /// Lets the child's only thread in: whoever was trying to enter does not exist here.
    pub fn open_in_child(&self) {
        self.inside.store(0, Ordering::SeqCst);
        self.open();
    }
}

/// Something that threads share behind the gate.
#[derive(Debug)]
pub struct Shielded<T> {
    gate: Arc<Gate>,
    inner: Mutex<T>,
}

impl<T: Default> Shielded<T> {
    /// An empty one.
    pub fn new(gate: &Arc<Gate>) -> Self {
        Self {
            gate: Arc::clone(gate),
            inner: Mutex::default(),
        }
    }

    /// Works with it; the work must neither wait nor come back here.
    pub fn with<R>(&self, work: impl FnOnce(&mut T) -> R) -> R {
        struct Pass<'a>(&'a Gate);
        impl Drop for Pass<'_> {
            fn drop(&mut self) {
                self.0.leave();
            }
        }
        self.gate.enter();
        let _pass = Pass(&self.gate);
        // What is inside is whole even after a panic: nothing here changes it in two steps.
        let mut inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        work(&mut inner)
    }
}
