//! Lets a fork happen only while nobody is inside `SQLite`.
//!
//! A child inherits the memory of its parent but none of its other threads, and none of its file
//! locks. A mutex that another thread holds stays locked for ever there; a connection that is open
//! believes in locks it has not. So every thread takes a pass before it touches a mutex or a
//! connection, and a fork first waits until all passes are back. Whoever waits does so without a pass.

use std::cell::RefCell;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::watch::pause;

const PAUSE: Duration = Duration::from_micros(200);
/// A thread may ask about an interrupt while it holds a pass, and the answer may wait for a lock that
/// the forking thread holds. Then waiting longer changes nothing.
const POLL_PATIENCE: Duration = Duration::from_secs(1);

/// Locks a mutex, also after a panic elsewhere: what is kept here is whole between any two steps.
pub fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

thread_local! {
    /// The gates this thread is inside of, once for each pass.
    static INSIDE: RefCell<Vec<usize>> = const { RefCell::new(Vec::new()) };
}

/// The gate of one store.
#[derive(Debug, Default)]
pub struct Gate {
    active: AtomicUsize,
    polling: AtomicUsize,
    frozen: AtomicBool,
    torn: AtomicBool,
}

/// The right to be inside; dropping it gives it back.
#[derive(Debug)]
pub struct Pass<'a>(&'a Gate);

impl Gate {
    fn identity(&self) -> usize {
        std::ptr::from_ref(self).addr()
    }

    /// How many passes this thread has.
    fn own(&self) -> usize {
        let identity = self.identity();
        INSIDE.with_borrow(|inside| inside.iter().filter(|gate| **gate == identity).count())
    }

    /// Whether this thread is inside.
    pub fn is_inside(&self) -> bool {
        self.own() > 0
    }

    /// Waits while a fork is under way, then lets the thread in.
    pub fn enter(&self) -> Pass<'_> {
        loop {
            self.active.fetch_add(1, Ordering::SeqCst);
            // A thread that is inside already (a signal handler of its own came back here) must not
            // wait for a fork that waits for it.
            if !self.frozen.load(Ordering::SeqCst) || self.own() > 0 {
                break;
            }
            self.active.fetch_sub(1, Ordering::SeqCst);
            pause(PAUSE);
        }
        INSIDE.with_borrow_mut(|inside| inside.push(self.identity()));
        Pass(self)
    }

    /// Asks a question that may wait for a lock of a forking thread, unless a fork is under way.
    pub fn poll(&self, question: impl FnOnce() -> bool) -> bool {
        if self.is_frozen() {
            return false;
        }
        self.polling.fetch_add(1, Ordering::SeqCst);
        let answer = question();
        self.polling.fetch_sub(1, Ordering::SeqCst);
        answer
    }

    /// Whether a fork is waiting or under way.
    pub fn is_frozen(&self) -> bool {
        self.frozen.load(Ordering::SeqCst)
    }

    /// Waits until nobody else is inside, and keeps everybody out. True: nobody at all is inside.
    pub fn freeze(&self) -> bool {
        self.frozen.store(true, Ordering::SeqCst);
        let own = self.own();
        let mut stuck_since: Option<Instant> = None;
        loop {
            let others = self.active.load(Ordering::SeqCst).saturating_sub(own);
            if others == 0 {
                break;
            }
            if others > self.polling.load(Ordering::SeqCst) {
                stuck_since = None;
            } else if stuck_since.get_or_insert_with(Instant::now).elapsed() > POLL_PATIENCE {
                break;
            }
            pause(PAUSE);
        }
        let empty = self.active.load(Ordering::SeqCst) == 0;
        self.torn.store(!empty, Ordering::SeqCst);
        empty
    }

    /// Opens again in the process that went on.
    pub fn thaw_parent(&self) {
        self.torn.store(false, Ordering::SeqCst);
        self.frozen.store(false, Ordering::SeqCst);
    }

    /// Opens again in the child, where only the forking thread is left.
    pub fn thaw_child(&self) {
        self.active.store(self.own(), Ordering::SeqCst);
        self.polling.store(0, Ordering::SeqCst);
        self.frozen.store(false, Ordering::SeqCst);
    }

    /// Whether this process was forked while somebody was inside: then nothing here can be trusted.
    pub fn is_torn(&self) -> bool {
        self.torn.load(Ordering::SeqCst) && !self.is_frozen()
    }
}

impl Drop for Pass<'_> {
    fn drop(&mut self) {
        let identity = self.0.identity();
        // Fails only while the thread ends, when nobody counts any more.
        let _ = INSIDE.try_with(|inside| {
            let mut inside = inside.borrow_mut();
            if let Some(place) = inside.iter().rposition(|gate| *gate == identity) {
                inside.remove(place);
            }
        });
        self.0.active.fetch_sub(1, Ordering::SeqCst);
    }
}
