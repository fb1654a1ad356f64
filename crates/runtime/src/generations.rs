//! What each process of a chain of forks has for itself.

use std::mem;
use std::sync::{Arc, OnceLock};

use crate::generation::Generation;

/// A value for this process, and a new one for each child of a fork.
///
/// The child has none of the parent's other threads. A lock that one of them held stays locked there
/// for ever, and a value that one of them was changing stays half changed. So a child never locks,
/// changes or drops its parent's value, and no fork has to wait for what the threads of the parent do.
#[derive(Debug)]
pub struct Generations<T>(Link<T>);

#[derive(Debug)]
struct Link<T> {
    value: Arc<T>,
    /// The child's, after a fork.
    next: OnceLock<Box<Self>>,
}

impl<T> Link<T> {
    fn new(value: T) -> Self {
        Self {
            value: Arc::new(value),
            next: OnceLock::new(),
        }
    }
}

impl<T> Generations<T> {
    /// Begins with the value of this process.
    pub fn new(value: T) -> Self {
        Self(Link::new(value))
    }

    fn last(&self) -> &Link<T> {
        let mut link = &self.0;
        while let Some(next) = link.next.get() {
            link = next;
        }
        link
    }

    /// The value of this process.
    pub fn current(&self) -> &Arc<T> {
        &self.last().value
    }

    /// Begins a new [`Generation`] in the child of a fork. `make` gets the parent's value, of which it may read what
    /// never changes.
    pub fn in_child(&self, make: impl FnOnce(&T) -> T) {
        Generation::begin();
        let old = self.last();
        // One owner too many, so that the parent's value is never dropped here.
        mem::forget(Arc::clone(&old.value));
        // The child has one thread, so nobody else has set it.
        let _ = old.next.set(Box::new(Link::new(make(&old.value))));
    }
}
