//! Lets a fork happen only while nobody is inside SQLite.
//!
//! A child inherits the memory of its parent but none of its other threads, and none of its file
//! locks. A mutex that another thread holds stays locked for ever there, SQLite's own among them; a
//! connection that is open believes in locks it has not. So every thread takes a pass before it
//! touches a mutex or a connection, and a fork first waits until all passes are back. Whoever waits
//! does so without a pass. SQLite's mutexes are the process's, and so is the gate.

use std::cell::Cell;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::threads::sleep::sleep;

const PAUSE: Duration = Duration::from_micros(200);
/// A thread may ask about an interrupt while it holds a pass, and the answer may wait for a lock that
/// the forking thread holds. Then waiting longer changes nothing.
const POLL_PATIENCE: Duration = Duration::from_secs(1);

/// Locks a mutex, also after a panic elsewhere: what is kept here is whole between any two steps.
pub fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

thread_local! {
    /// How many passes this thread has; its address is the thread's name.
    static PASSES: Cell<usize> = const { Cell::new(0) };
    /// How many of `POLLING` are this thread's: a signal handler that runs during one may fork.
    static POLLS: Cell<usize> = const { Cell::new(0) };
}

/// A number no other thread has, and that a forked thread keeps; never 0.
fn myself() -> usize {
    PASSES.with(|passes| std::ptr::from_ref(passes).addr())
}

static ACTIVE: AtomicUsize = AtomicUsize::new(0);
static POLLING: AtomicUsize = AtomicUsize::new(0);
/// The thread that is about to fork, or 0.
static FORKING: AtomicUsize = AtomicUsize::new(0);
/// Whether somebody is inside at the moment of the fork.
static OCCUPIED: AtomicBool = AtomicBool::new(false);
static TORN: AtomicBool = AtomicBool::new(false);
/// Counts the forks that led to this process.
static FORKS: AtomicU64 = AtomicU64::new(0);

/// A number that changes in each child.
pub fn forks() -> u64 {
    FORKS.load(Ordering::Relaxed)
}

/// The right to be inside; dropping it gives it back.
#[derive(Debug)]
pub struct Pass(());

/// Waits while another thread forks, then lets this one in.
pub fn enter() -> Pass {
    loop {
        ACTIVE.fetch_add(1, Ordering::SeqCst);
        let forking = FORKING.load(Ordering::SeqCst);
        // A thread that is inside already (a signal handler of its own came back here) must not wait
        // for a fork that waits for it.
        if forking == 0 || is_inside() || forking == myself() {
            PASSES.set(PASSES.get() + 1);
            return Pass(());
        }
        ACTIVE.fetch_sub(1, Ordering::SeqCst);
        sleep(PAUSE);
    }
}

impl Drop for Pass {
    fn drop(&mut self) {
        PASSES.set(PASSES.get().saturating_sub(1));
        ACTIVE.fetch_sub(1, Ordering::SeqCst);
    }
}

/// Whether this thread is inside.
pub fn is_inside() -> bool {
    PASSES.get() > 0
}

/// Whether another thread waits for this one's pass. Whoever only waits for somebody else's lock then closes his
/// connection, gives the pass back, and begins anew.
pub fn is_wanted() -> bool {
    let forking = FORKING.load(Ordering::SeqCst);
    forking != 0 && forking != myself()
}

/// Asks a question that may wait for a lock of a forking thread, unless a fork is under way.
pub fn poll(question: impl FnOnce() -> bool) -> bool {
    if FORKING.load(Ordering::SeqCst) != 0 {
        return false;
    }
    // A fork does not wait for a thread outside, so that one must not stand for another thread, which works inside.
    let counted = usize::from(is_inside());
    POLLING.fetch_add(counted, Ordering::SeqCst);
    POLLS.set(POLLS.get() + counted);
    let answer = question();
    POLLS.set(POLLS.get() - counted);
    POLLING.fetch_sub(counted, Ordering::SeqCst);
    answer
}

/// What a thread that is about to fork finds.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Frozen {
    /// Nobody is inside, and nobody comes in.
    Empty,
    /// Somebody cannot come out.
    Occupied,
    /// This thread has asked before.
    Already,
}

/// Waits until nobody else is inside, and keeps everybody out.
pub fn freeze() -> Frozen {
    let myself = myself();
    while let Err(other) = FORKING.compare_exchange(0, myself, Ordering::SeqCst, Ordering::SeqCst) {
        if other == myself {
            return Frozen::Already;
        }
        sleep(PAUSE);
    }
    let mut stuck_since: Option<Instant> = None;
    loop {
        let others = ACTIVE.load(Ordering::SeqCst).saturating_sub(PASSES.get());
        if others == 0 {
            break;
        }
        if others > POLLING.load(Ordering::SeqCst).saturating_sub(POLLS.get()) {
            stuck_since = None;
        } else if stuck_since.get_or_insert_with(Instant::now).elapsed() > POLL_PATIENCE {
            break;
        }
        sleep(PAUSE);
    }
    let empty = ACTIVE.load(Ordering::SeqCst) == 0;
    OCCUPIED.store(!empty, Ordering::SeqCst);
    if empty {
        Frozen::Empty
    } else {
        Frozen::Occupied
    }
}

/// Opens again in the process that went on.
pub fn thaw_parent() {
    if FORKING.load(Ordering::SeqCst) == myself() {
        FORKING.store(0, Ordering::SeqCst);
    }
}

/// Opens again in the child, where only the forking thread is left. False: it is open already.
pub fn thaw_child() -> bool {
    let mine = FORKING.load(Ordering::SeqCst) == myself();
    if mine {
        ACTIVE.store(PASSES.get(), Ordering::SeqCst);
        POLLING.store(POLLS.get(), Ordering::SeqCst);
        FORKS.fetch_add(1, Ordering::Relaxed);
        // For good: what SQLite remembers of the process's locks, the parent holds.
        TORN.fetch_or(OCCUPIED.load(Ordering::SeqCst), Ordering::SeqCst);
        FORKING.store(0, Ordering::SeqCst);
    }
    mine
}

/// Does something while nobody is inside, unless this thread itself is, or somebody cannot come out.
pub fn alone(work: impl FnOnce()) -> bool {
    struct Thaw;
    impl Drop for Thaw {
        fn drop(&mut self) {
            thaw_parent();
        }
    }
    if is_inside() {
        return false;
    }
    let frozen = freeze();
    if frozen == Frozen::Already {
        return false;
    }
    let _thaw = Thaw;
    if frozen == Frozen::Empty {
        work();
    }
    frozen == Frozen::Empty
}

/// Whether this process was forked while somebody was inside: then no connection can be touched.
pub fn is_torn() -> bool {
    TORN.load(Ordering::SeqCst)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// How many polls of this thread a fork takes into account during a poll.
    fn counted(is_inside: bool) -> usize {
        let counted = Cell::new(None);
        // A poll asks no question while another test closes the gate.
        while counted.get().is_none() {
            let _pass = is_inside.then(enter);
            poll(|| {
                counted.set(Some(POLLS.get()));
                false
            });
        }
        counted.get().unwrap()
    }

    #[test]
    fn only_a_poll_inside_the_gate_lets_a_fork_give_up_waiting() {
        assert_eq!(counted(false), 0);
        assert_eq!(counted(true), 1);
    }
}
