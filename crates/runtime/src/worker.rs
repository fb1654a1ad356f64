//! A thread of a store.

use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, Thread};
use std::time::Duration;

use mintkey_store::{Error, ErrorKind, Interrupt, Outcome, Result};

use crate::deadline::Deadline;
use crate::generation::Generation;
use crate::pause::pause;

/// The time between two checks of `wait_for_end`.
const POLL_INTERVAL: Duration = Duration::from_millis(1);

thread_local! {
    static IS_WORKER: Cell<bool> = const { Cell::new(false) };
}

/// Whether the calling thread is a worker of any store.
#[must_use]
pub fn is_worker_thread() -> bool {
    IS_WORKER.get()
}

/// A thread that carries out submitted requests.
///
/// It may outlive all its handles. A panic ends the thread, never the process. The values that its work owned are dropped
/// then, which answers each [`Submission`](mintkey_store::Submission) among them, and the store may start another worker.
#[derive(Clone, Debug)]
pub struct Worker {
    thread: Thread,
    ended: Arc<AtomicBool>,
    generation: Generation,
}

/// Dropping it marks the thread as ended, also after a panic of `after_panic`.
struct End(Arc<AtomicBool>);

impl Drop for End {
    fn drop(&mut self) {
        self.0.store(true, Ordering::SeqCst);
    }
}

impl Worker {
    /// Starts a thread of this name for the store at this address. If `work` panics, `after_panic` runs on the thread after all that `work` owned was
    /// dropped. An engine whose queue is shared by several threads drops the submissions there that wait for this one.
    ///
    /// # Errors
    ///
    /// `Unavailable` if the system refuses the thread; then neither function has run.
    pub fn start(
        name: &str,
        address: &str,
        work: impl FnOnce() + Send + 'static,
        after_panic: impl FnOnce() + Send + 'static,
    ) -> Result<Self> {
        let ended = Arc::new(AtomicBool::new(false));
        let end = End(Arc::clone(&ended));
        let run = move || {
            let _end = end;
            IS_WORKER.set(true);
            // No value that a panic left half changed is used again: `work` owned it, or it is behind a lock that is
            // made for that, see `locked`.
            if catch_unwind(AssertUnwindSafe(work)).is_err() {
                after_panic();
            }
        };
        // The handle is not kept: a child of a fork could neither join the thread nor drop the handle safely.
        match thread::Builder::new().name(name.to_owned()).spawn(run) {
            Ok(handle) => Ok(Self {
                thread: handle.thread().clone(),
                ended,
                generation: Generation::current(),
            }),
            Err(error) => Err(Error::new(
                ErrorKind::Unavailable(Outcome::NotApplied),
                format!("{address}: the system refuses another thread for the store ({error})"),
            )
            .advice("allow more threads (ulimit -u, or the pids limit of the container)")
            .caused_by(error)),
        }
    }

    /// Wakes the thread if it is parked.
    pub fn wake(&self) {
        self.thread.unpark();
    }

    /// Whether it has finished, panicked, or stayed in the parent of a fork.
    #[must_use]
    pub fn has_ended(&self) -> bool {
        self.ended.load(Ordering::SeqCst) || !self.generation.is_current()
    }

    /// Waits until the thread has ended or the interrupt is raised. A thread does not wait for its own end.
    pub fn wait_for_end(&self, interrupt: &'static dyn Interrupt) {
        let mut deadline = Deadline::unlimited(interrupt);
        let is_own = self.thread.id() == thread::current().id();
        while !is_own && !self.has_ended() && deadline.check().is_ok() {
            pause(POLL_INTERVAL);
        }
    }
}
