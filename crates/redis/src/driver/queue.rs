//! The queue of submitted requests.

use std::collections::VecDeque;
use std::io::Write;
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::time::Instant;

use mintkey_runtime::Worker;
use mintkey_store::{Done, Reply, Request, Result, Submission, Ticket};

use crate::threads::fork_gate::{ForkGate, ForkGated};

/// A submitted request. Dropping it answers the caller, even if the worker panics.
pub struct Job {
    /// The request.
    pub request: Arc<Request>,
    /// When it was submitted.
    pub submitted: Instant,
    submission: Submission,
}

impl Job {
    /// A request that is submitted now.
    pub fn new(request: Arc<Request>, done: Done) -> Self {
        Self {
            request,
            submitted: Instant::now(),
            submission: Submission::new(done),
        }
    }

    /// The ticket of the caller.
    pub fn ticket(&self) -> Box<dyn Ticket> {
        self.submission.ticket()
    }

    /// Marks it as begun. Returns false if it was withdrawn.
    pub fn begin(&self) -> bool {
        self.submission.begin()
    }

    /// Answers the caller.
    pub fn answer(&self, result: Result<Reply>) {
        self.submission.answer(result).deliver();
    }
}

/// The jobs that wait for the worker.
pub struct Queue(ForkGated<QueueState>);

#[derive(Default)]
struct QueueState {
    jobs: VecDeque<Job>,
    /// The worker, with the end of a socket that wakes it.
    worker: Option<(Worker, UnixStream)>,
    is_worker_asleep: bool,
}

impl QueueState {
    fn wake(&mut self) {
        if std::mem::take(&mut self.is_worker_asleep)
            && let Some((_, wakeup)) = &mut self.worker
        {
            // If the socket is full, the worker is awake.
            let _ = wakeup.write(&[1]);
        }
    }
}

impl Queue {
    /// An empty queue.
    pub fn new(gate: &Arc<ForkGate>) -> Self {
        Self(ForkGated::new(gate))
    }

    /// Wakes the worker, if there is one.
    pub fn wake(&self) {
        self.0.with(QueueState::wake);
    }

    /// Adds jobs. If there is no worker, `start` starts one.
    pub fn push(
        &self,
        jobs: &mut Vec<Job>,
        start: impl FnOnce() -> Result<(Worker, UnixStream)>,
    ) -> Result<()> {
        self.0.with(|queue| {
            if queue.worker.is_none() {
                queue.worker = Some(start()?);
            }
            queue.jobs.extend(jobs.drain(..));
            queue.wake();
            Ok(())
        })
    }

    /// Takes up to `room` jobs. If there are none and `may_end` is set, the calling worker must end.
    pub fn take(&self, room: usize, may_end: bool) -> Vec<Job> {
        self.0.with(|queue| {
            let count = queue.jobs.len().min(room);
            if count == 0 && may_end {
                queue.worker = None;
            }
            queue.jobs.drain(..count).collect()
        })
    }

    /// Whether jobs wait.
    pub fn has_jobs(&self) -> bool {
        self.0.with(|queue| !queue.jobs.is_empty())
    }

    /// Notes that the worker blocks, so that the next push wakes it. Returns false if jobs wait already.
    pub fn begin_sleep(&self) -> bool {
        self.0.with(|queue| {
            queue.is_worker_asleep = queue.jobs.is_empty();
            queue.is_worker_asleep
        })
    }

    /// Notes that the worker is awake.
    pub fn end_sleep(&self) {
        self.0.with(|queue| queue.is_worker_asleep = false);
    }

    /// The worker, if it runs.
    pub fn worker(&self) -> Option<Worker> {
        self.0.with(|queue| {
            let worker = queue.worker.as_ref();
            worker.map(|(worker, _)| worker.clone())
        })
    }

    /// Answers the jobs of a worker that panicked. The next push starts another one.
    pub fn reset(&self) {
        // Dropped outside of the gate, because answers take locks.
        drop(self.0.with(std::mem::take));
    }

    /// Empties the queue in a forked child. All jobs belong to the parent.
    pub fn forget_in_child(&self) {
        // The jobs must not be dropped. Their answers would wake threads that do not exist here, and may need locks of an
        // interpreter that are not free at this moment.
        std::mem::forget(self.0.with(std::mem::take));
    }
}
