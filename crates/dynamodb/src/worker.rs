//! The worker: one thread that carries out submitted requests, many at once.

use std::future::Future;
use std::io;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use mintkey_store::store::Between;
use mintkey_store::{Interrupt, Request, Submission};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::LocalSet;

use crate::operations;
use crate::shared::Shared;
use crate::transport::nonblocking::Nonblocking;

/// The requests in flight at once; the others wait, and can still be withdrawn.
const IN_FLIGHT: u32 = 64;

/// How often closing checks whether the thread has ended.
const CLOSE_INTERVAL: Duration = Duration::from_millis(1);

/// A submitted request on its way to the thread. Dropping it answers the caller.
pub struct Job {
    request: Arc<Request>,
    submission: Submission,
    /// The last field, so that it is dropped after the answer.
    _unanswered: Unanswered,
}

/// Counts a request as unanswered.
struct Unanswered(Arc<AtomicUsize>);

impl Unanswered {
    fn new(count: &Arc<AtomicUsize>) -> Self {
        count.fetch_add(1, Ordering::AcqRel);
        Self(Arc::clone(count))
    }
}

impl Drop for Unanswered {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::AcqRel);
    }
}

/// The thread and its queue.
pub struct Worker {
    jobs: UnboundedSender<Job>,
    thread: JoinHandle<()>,
    unanswered: Arc<AtomicUsize>,
}

impl Worker {
    /// Starts the thread.
    pub fn start(shared: Arc<Shared>) -> io::Result<Self> {
        Self::start_with(|queue| serve(shared, queue))
    }

    /// Starts a thread that serves its queue like this.
    pub fn start_with<F: Future<Output = ()>>(
        serve: impl FnOnce(UnboundedReceiver<Job>) -> F + Send + 'static,
    ) -> io::Result<Self> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        let (jobs, queue) = unbounded_channel();
        let thread = thread::Builder::new()
            .name("mintkey-dynamodb".to_owned())
            .spawn(move || LocalSet::new().block_on(&runtime, serve(queue)))?;
        Ok(Self {
            jobs,
            thread,
            unanswered: Arc::default(),
        })
    }

    /// Queues a request. Returns it if the thread has ended, which only a panic does.
    pub fn submit(&self, request: Arc<Request>, submission: Submission) -> Result<(), Submission> {
        let job = Job {
            request,
            submission,
            _unanswered: Unanswered::new(&self.unanswered),
        };
        self.jobs.send(job).map_err(|refused| refused.0.submission)
    }

    /// Whether all requests are answered.
    pub fn is_idle(&self) -> bool {
        self.unanswered.load(Ordering::Acquire) == 0
    }

    /// Whether the calling thread is the worker.
    fn is_this_thread(&self) -> bool {
        self.thread.thread().id() == thread::current().id()
    }

    /// Lets the thread complete what was submitted. Waits for that, unless this is the worker itself, or the interrupt is
    /// raised.
    pub fn finish(self, interrupt: &'static dyn Interrupt) {
        let is_this_thread = self.is_this_thread();
        drop(self.jobs);
        let mut between = Between::new(interrupt);
        while !is_this_thread && !self.thread.is_finished() {
            if between.refusal().is_some() {
                return;
            }
            thread::park_timeout(CLOSE_INTERVAL);
        }
        if !is_this_thread {
            // After a panic there is nothing to complete.
            let _ = self.thread.join();
        }
    }
}

async fn serve(shared: Arc<Shared>, mut queue: UnboundedReceiver<Job>) {
    let connect_timeout = shared.config.connect_timeout;
    let transport = Nonblocking::new(connect_timeout, Arc::clone(&shared.tls), IN_FLIGHT as usize);
    let transport = Rc::new(transport);
    let permits = Arc::new(Semaphore::new(IN_FLIGHT as usize));
    while let Some(job) = queue.recv().await {
        let Ok(permit) = Arc::clone(&permits).acquire_owned().await else {
            break;
        };
        if job.submission.begin() {
            let (shared, transport) = (Arc::clone(&shared), Rc::clone(&transport));
            tokio::task::spawn_local(carry_out(job, shared, transport, permit));
        }
    }
    // The store is closed: complete what is in flight.
    drop(permits.acquire_many(IN_FLIGHT).await);
}

/// Carries out one request. A panic ends this task only: dropping the job answers the caller, and dropping the permit lets
/// the next request begin.
async fn carry_out(
    job: Job,
    shared: Arc<Shared>,
    transport: Rc<Nonblocking>,
    _permit: OwnedSemaphorePermit,
) {
    let result = operations::run(&shared, &*transport, &job.request).await;
    job.submission.answer(result).deliver();
}
