//! The worker: one thread that carries out submitted requests, many at once.

use std::future::Future;
use std::rc::Rc;
use std::result;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use mintkey_store::{Error, ErrorKind, Interrupt, Outcome, Request, Result, Submission};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::LocalSet;

use crate::operations;
use crate::shared::Shared;
use crate::transport::http_transport::HttpTransport;
use crate::transport::nonblocking::Nonblocking;
use crate::transport::pool::Pool;

/// The requests in flight at once; the others wait, and can still be withdrawn.
const IN_FLIGHT: u32 = 64;

/// A submitted request on its way to the thread. Dropping it answers the caller.
pub struct Job {
    request: Arc<Request>,
    /// When it was submitted: the time in the queue counts.
    submitted: Instant,
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
    thread: mintkey_runtime::Worker,
    unanswered: Arc<AtomicUsize>,
}

impl Worker {
    /// Starts the thread.
    pub fn start(shared: Arc<Shared>) -> Result<Self> {
        let address = shared.config.address.clone();
        Self::start_with(&address, |queue| serve(shared, queue))
    }

    /// Starts a thread that serves its queue like this. The address is for messages.
    pub fn start_with<F: Future<Output = ()>>(
        address: &str,
        serve: impl FnOnce(UnboundedReceiver<Job>) -> F + Send + 'static,
    ) -> Result<Self> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(|error| {
                Error::new(
                    ErrorKind::Unavailable(Outcome::NotApplied),
                    format!("{address}: the event loop of async calls cannot be created ({error})"),
                )
                .advice("allow more open files (ulimit -n)")
                .caused_by(error)
            })?;
        let (jobs, queue) = unbounded_channel();
        let work = move || LocalSet::new().block_on(&runtime, serve(queue));
        let thread = mintkey_runtime::Worker::start("mintkey-dynamodb", address, work, || ())?;
        Ok(Self {
            jobs,
            thread,
            unanswered: Arc::default(),
        })
    }

    /// Queues a request. Returns it if the thread has ended, which only a panic does.
    pub fn submit(
        &self,
        request: Arc<Request>,
        submission: Submission,
    ) -> result::Result<(), Submission> {
        let job = Job {
            request,
            submitted: Instant::now(),
            submission,
            _unanswered: Unanswered::new(&self.unanswered),
        };
        self.jobs.send(job).map_err(|refused| refused.0.submission)
    }

    /// Whether all requests are answered.
    pub fn is_idle(&self) -> bool {
        self.unanswered.load(Ordering::Acquire) == 0
    }

    /// Lets the thread complete what was submitted. Waits for that, unless this is the worker itself, or the interrupt is
    /// raised.
    pub fn finish(self, interrupt: &'static dyn Interrupt) {
        drop(self.jobs);
        self.thread.wait_for_end(interrupt);
    }
}

async fn serve(shared: Arc<Shared>, mut queue: UnboundedReceiver<Job>) {
    let pool = Arc::new(Pool::new(IN_FLIGHT as usize));
    let reactor = Nonblocking::new(shared.config.timeout);
    let transport = Rc::new(HttpTransport::new(&shared.config, &pool, reactor));
    let permits = Arc::new(Semaphore::new(IN_FLIGHT as usize));
    while let Some(job) = queue.recv().await {
        let Ok(permit) = Arc::clone(&permits).acquire_owned().await else {
            break;
        };
        if job.submission.start() {
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
    transport: Rc<HttpTransport<Nonblocking>>,
    _permit: OwnedSemaphorePermit,
) {
    let result = operations::run(&shared, &*transport, &job.request, job.submitted).await;
    job.submission.answer(result).deliver();
}
