//! The worker: the thread that carries out submitted requests.

use std::cell::Cell;
use std::io;
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use mintkey_store::store::Between;
use mintkey_store::{Done, Error, ErrorKind, Interrupt, Outcome, Request, Result, Ticket};

use crate::driver::event_loop;
use crate::driver::queue::Job;
use crate::driver::shared::Shared;
use crate::threads::deadline::sleep;

/// How often closing checks whether the worker has ended.
const CLOSE_INTERVAL: Duration = Duration::from_millis(1);

thread_local! {
    static IS_WORKER: Cell<bool> = const { Cell::new(false) };
}

/// Submits a request. Returns at once.
pub fn submit(shared: &Arc<Shared>, request: Arc<Request>, done: Done) -> Box<dyn Ticket> {
    let job = Job::new(request, done);
    let ticket = job.ticket();
    submit_jobs(shared, vec![job]);
    ticket
}

/// Submits requests together. Returns at once.
pub fn submit_all(
    shared: &Arc<Shared>,
    requests: Vec<(Arc<Request>, Done)>,
) -> Vec<Box<dyn Ticket>> {
    let jobs: Vec<Job> = requests
        .into_iter()
        .map(|(request, done)| Job::new(request, done))
        .collect();
    let tickets = jobs.iter().map(Job::ticket).collect();
    submit_jobs(shared, jobs);
    tickets
}

fn submit_jobs(shared: &Arc<Shared>, mut jobs: Vec<Job>) {
    let pushed = shared.check_open().and_then(|()| push(shared, &mut jobs));
    if let Err(error) = pushed {
        for (job, error) in jobs.iter().zip(error.of_all(jobs.len())) {
            job.answer(error);
        }
    }
}

fn push(shared: &Arc<Shared>, jobs: &mut Vec<Job>) -> Result<()> {
    let pushed = shared.queue.push(jobs, |wakeup| spawn(shared, wakeup));
    pushed.map_err(|error| no_thread(shared, error))
}

fn no_thread(shared: &Shared, error: io::Error) -> Error {
    let address = &shared.context.config.address;
    Error::new(
        ErrorKind::Unavailable(Outcome::NotApplied),
        format!("{address}: the thread for awaited requests cannot be started ({error})"),
    )
    .advice("allow more threads (ulimit -u, or the pids limit of the container)")
    .caused_by(error)
}

/// Answers the jobs in the queue if the worker panics.
struct ResetAfterPanic(Arc<Shared>);

impl Drop for ResetAfterPanic {
    fn drop(&mut self) {
        if thread::panicking() {
            self.0.queue.reset();
        }
    }
}

/// Starts the worker. Its handle is dropped: a forked child could neither join it nor drop it safely.
fn spawn(shared: &Arc<Shared>, wakeup: UnixStream) -> io::Result<()> {
    let own = Arc::clone(shared);
    let builder = thread::Builder::new().name("mintkey-redis".to_owned());
    builder.spawn(move || {
        IS_WORKER.set(true);
        // Dropped after the requests that the event loop carries out.
        let _reset = ResetAfterPanic(Arc::clone(&own));
        event_loop::run(own, wakeup);
    })?;
    Ok(())
}

/// Waits until the worker has completed what was submitted, unless the calling thread is the worker.
pub fn wait_for_end(shared: &Shared, interrupt: &'static dyn Interrupt) {
    let mut between = Between::new(interrupt);
    while !IS_WORKER.get() && shared.queue.has_worker() && between.refusal().is_none() {
        sleep(CLOSE_INTERVAL);
    }
}
