//! Lets a fork happen only while no thread uses `SQLite`.
//!
//! A child inherits the memory of its parent, but none of its other threads and none of its file locks. There, a mutex
//! that another thread held stays locked, including those of `SQLite`; an open connection relies on locks that
//! it does not hold. So each thread takes a pass before it uses a mutex or a connection, and a fork first waits until
//! all passes are returned. A thread that waits for others returns its pass first. There is one gate for the process,
//! because the mutexes of `SQLite` belong to the process.

use std::cell::Cell;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use mintkey_runtime::{Generation, pause};
use mintkey_store::Interrupt;

/// The time between two checks of the gate.
const INTERVAL: Duration = Duration::from_micros(200);
/// How long to wait for threads that only poll for an interrupt. The poll may wait for a lock that the forking thread
/// holds (the GIL); then it never ends.
const POLL_TIMEOUT: Duration = Duration::from_secs(1);

thread_local! {
    /// How many passes this thread holds. The address of this variable identifies the thread.
    static PASSES: Cell<usize> = const { Cell::new(0) };
    /// How many of `POLLING` belong to this thread: a signal handler that runs during a poll may fork.
    static POLLS: Cell<usize> = const { Cell::new(0) };
}

/// A number that identifies this thread, also in the child of a fork; never 0.
fn myself() -> usize {
    PASSES.with(|passes| std::ptr::from_ref(passes).addr())
}

/// The passes of all threads.
static ACTIVE: AtomicUsize = AtomicUsize::new(0);
/// The polls of threads that hold a pass.
static POLLING: AtomicUsize = AtomicUsize::new(0);
/// The thread that has closed the gate, or 0.
static CLOSED_BY: AtomicUsize = AtomicUsize::new(0);
/// Whether a thread is inside at the moment of the fork.
static OCCUPIED: AtomicBool = AtomicBool::new(false);
/// Whether this process was forked while a thread was inside.
static FORKED_INSIDE: AtomicBool = AtomicBool::new(false);

/// The right to be inside the gate. Dropping it returns it.
#[derive(Debug)]
pub struct Pass(());

/// Waits while another thread has closed the gate, then takes a pass.
pub fn enter() -> Pass {
    loop {
        ACTIVE.fetch_add(1, Ordering::SeqCst);
        let closed_by = CLOSED_BY.load(Ordering::SeqCst);
        // A thread that is already inside (a signal handler calls the store) must not wait for a fork, which waits for
        // this thread.
        if closed_by == 0 || is_inside() || closed_by == myself() {
            PASSES.set(PASSES.get() + 1);
            return Pass(());
        }
        ACTIVE.fetch_sub(1, Ordering::SeqCst);
        pause(INTERVAL);
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

/// Whether another thread waits for the pass of this one. A thread that only waits for a lock of `SQLite` then closes
/// its connection, returns the pass, and starts again.
pub fn is_pass_wanted() -> bool {
    let closed_by = CLOSED_BY.load(Ordering::SeqCst);
    closed_by != 0 && closed_by != myself()
}

/// Asks whether an interrupt was raised, which may wait for a lock of a forking thread. Returns false without asking while
/// the gate is closed.
pub fn poll(interrupt: &dyn Interrupt) -> bool {
    if CLOSED_BY.load(Ordering::SeqCst) != 0 {
        return false;
    }
    // Only polls inside the gate count: a fork does not wait for the others, and would take one for a thread that
    // works.
    let counted = usize::from(is_inside());
    POLLING.fetch_add(counted, Ordering::SeqCst);
    POLLS.set(POLLS.get() + counted);
    let raised = interrupt.raised();
    POLLS.set(POLLS.get() - counted);
    POLLING.fetch_sub(counted, Ordering::SeqCst);
    raised
}

/// What a thread finds that closes the gate.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Closed {
    Empty,
    /// A thread is inside and cannot leave.
    Occupied,
    /// This thread has closed the gate before.
    Already,
}

/// Closes the gate, and waits until no other thread is inside.
pub fn close() -> Closed {
    let myself = myself();
    while let Err(other) = CLOSED_BY.compare_exchange(0, myself, Ordering::SeqCst, Ordering::SeqCst)
    {
        if other == myself {
            return Closed::Already;
        }
        pause(INTERVAL);
    }
    let mut stuck_since: Option<Instant> = None;
    let empty = loop {
        let others = ACTIVE.load(Ordering::SeqCst).saturating_sub(PASSES.get());
        if others == 0 {
            // Not counted a second time: a thread that is refused at this moment counts, although it is not inside.
            break !is_inside();
        }
        if others > POLLING.load(Ordering::SeqCst).saturating_sub(POLLS.get()) {
            stuck_since = None;
        } else if stuck_since.get_or_insert_with(Instant::now).elapsed() > POLL_TIMEOUT {
            break false;
        }
        pause(INTERVAL);
    };
    OCCUPIED.store(!empty, Ordering::SeqCst);
    if empty {
        Closed::Empty
    } else {
        Closed::Occupied
    }
}

/// Opens the gate, in the parent if there was a fork.
pub fn open_in_parent() {
    if CLOSED_BY.load(Ordering::SeqCst) == myself() {
        CLOSED_BY.store(0, Ordering::SeqCst);
    }
}

/// Opens the gate in the child, where only the forking thread exists. False: it is open already.
pub fn open_in_child() -> bool {
    let mine = CLOSED_BY.load(Ordering::SeqCst) == myself();
    if mine {
        ACTIVE.store(PASSES.get(), Ordering::SeqCst);
        POLLING.store(POLLS.get(), Ordering::SeqCst);
        Generation::begin();
        // For ever: SQLite in this process relies on locks that the parent holds.
        FORKED_INSIDE.fetch_or(OCCUPIED.load(Ordering::SeqCst), Ordering::SeqCst);
        CLOSED_BY.store(0, Ordering::SeqCst);
    }
    mine
}

/// Does some work while no thread is inside. False: this thread is inside, or another one cannot leave.
pub fn run_alone(work: impl FnOnce()) -> bool {
    struct Open;
    impl Drop for Open {
        fn drop(&mut self) {
            open_in_parent();
        }
    }
    if is_inside() {
        return false;
    }
    let closed = close();
    if closed == Closed::Already {
        return false;
    }
    let _open = Open;
    if closed == Closed::Empty {
        work();
    }
    closed == Closed::Empty
}

/// Whether this process was forked while a thread was inside. Then no connection may be used.
pub fn was_forked_inside() -> bool {
    FORKED_INSIDE.load(Ordering::SeqCst)
}

#[cfg(test)]
mod tests {
    use std::sync::OnceLock;
    use std::thread;

    use super::*;

    #[test]
    fn the_gate_is_empty_although_other_threads_try_to_enter() {
        let (over, entered) = (AtomicBool::new(false), AtomicUsize::new(0));
        thread::scope(|scope| {
            for _ in 0..2 {
                scope.spawn(|| {
                    while !over.load(Ordering::SeqCst) {
                        drop(enter());
                        entered.fetch_add(1, Ordering::SeqCst);
                    }
                });
            }
            let failed = (0..1_000).filter(|_| {
                let before = entered.load(Ordering::SeqCst);
                while entered.load(Ordering::SeqCst) == before {
                    thread::yield_now();
                }
                !run_alone(|| ())
            });
            let failed = failed.count();
            over.store(true, Ordering::SeqCst);
            assert_eq!(failed, 0);
        });
    }

    /// Records how many polls of this thread a fork takes into account during a poll.
    #[derive(Default)]
    struct Counted(OnceLock<usize>);

    impl Interrupt for Counted {
        fn raised(&self) -> bool {
            let _ = self.0.set(POLLS.get());
            false
        }
    }

    fn counted(is_inside: bool) -> usize {
        let counted = Counted::default();
        loop {
            let _pass = is_inside.then(enter);
            poll(&counted);
            // A poll does not ask while another test closes the gate.
            if let Some(polls) = counted.0.get() {
                return *polls;
            }
        }
    }

    #[test]
    fn only_a_poll_inside_the_gate_lets_a_fork_give_up_waiting() {
        assert_eq!(counted(false), 0);
        assert_eq!(counted(true), 1);
    }
}
