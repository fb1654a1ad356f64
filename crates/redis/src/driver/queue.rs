//! The queue of submitted requests.

use std::collections::VecDeque;
use std::io::Write;
use std::os::unix::net::UnixStream;
use std::sync::{Arc, Mutex};

use mintkey_runtime::{Worker, locked};
use mintkey_store::{Done, Reply, Request, Result, Submission, Ticket};

/// A submitted request. Dropping it answers the caller, even if the worker panics.
pub struct Job {
    pub request: Arc<Request>,
    submission: Submission,
}

impl Job {
    /// A request that is submitted now.
    pub fn new(request: Arc<Request>, done: Done) -> Self {
        Self {
            request,
            submission: Submission::new(done),
        }
    }

    /// The ticket of the caller.
    pub fn ticket(&self) -> Box<dyn Ticket> {
        self.submission.ticket()
    }

    /// Marks it as started. Returns false if it was withdrawn.
    pub fn start(&self) -> bool {
        self.submission.start()
    }

    /// Answers the caller.
    pub fn answer(&self, result: Result<Reply>) {
        self.submission.answer(result).deliver();
    }
}

/// The jobs that wait for the worker.
#[derive(Default)]
pub struct Queue(Mutex<QueueState>);

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
    /// Wakes the worker, if there is one.
    pub fn wake(&self) {
        locked(&self.0).wake();
    }

    /// Adds jobs. If there is no worker, `start` starts one.
    pub fn push(
        &self,
        jobs: &mut Vec<Job>,
        start: impl FnOnce() -> Result<(Worker, UnixStream)>,
    ) -> Result<()> {
        let mut queue = locked(&self.0);
        if queue.worker.is_none() {
            queue.worker = Some(start()?);
        }
        queue.jobs.extend(jobs.drain(..));
        queue.wake();
        Ok(())
    }

    /// Takes up to `room` jobs. If there are none and `may_end` is set, the calling worker must end.
    pub fn take(&self, room: usize, may_end: bool) -> Vec<Job> {
        let mut queue = locked(&self.0);
        let count = queue.jobs.len().min(room);
        if count == 0 && may_end {
            queue.worker = None;
        }
        queue.jobs.drain(..count).collect()
    }

    /// Whether jobs wait.
    pub fn has_jobs(&self) -> bool {
        !locked(&self.0).jobs.is_empty()
    }

    /// Notes that the worker blocks, so that the next push wakes it. Returns false if jobs wait already.
    pub fn begin_sleep(&self) -> bool {
        let mut queue = locked(&self.0);
        queue.is_worker_asleep = queue.jobs.is_empty();
        queue.is_worker_asleep
    }

    /// Notes that the worker is awake.
    pub fn end_sleep(&self) {
        locked(&self.0).is_worker_asleep = false;
    }

    /// The worker, if it runs.
    pub fn worker(&self) -> Option<Worker> {
        let queue = locked(&self.0);
        queue.worker.as_ref().map(|(worker, _)| worker.clone())
    }

    /// Answers the jobs of a worker that panicked. The next push starts another one.
    pub fn reset(&self) {
        let old = std::mem::take(&mut *locked(&self.0));
        // Dropped without the lock, because answers take locks.
        drop(old);
    }
}
