//! The worker: the thread that carries out submitted requests.

use std::io;
use std::os::unix::net::UnixStream;
use std::sync::Arc;

use mintkey_runtime::Worker;
use mintkey_store::{Done, Error, ErrorKind, Outcome, Request, Result, Ticket};

use crate::driver::event_loop;
use crate::driver::queue::Job;
use crate::driver::shared::Shared;

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
    let pushed = shared
        .check_open()
        .and_then(|()| shared.queue.push(&mut jobs, || start(shared)));
    if let Err(error) = pushed {
        for (job, error) in jobs.iter().zip(error.of_all(jobs.len())) {
            job.answer(error);
        }
    }
}

/// Starts the worker. Returns it with the end of a socket that wakes it.
fn start(shared: &Arc<Shared>) -> Result<(Worker, UnixStream)> {
    let address = shared.context.config.address.clone();
    let (own_end, worker_end) = wakeup_sockets().map_err(|error| {
        Error::new(
            ErrorKind::Unavailable(Outcome::NotApplied),
            format!(
                "{address}: the socket that wakes the store's thread cannot be opened ({error})"
            ),
        )
        .advice("allow more open files (ulimit -n)")
        .caused_by(error)
    })?;
    let (shared, after_panic) = (Arc::clone(shared), Arc::clone(shared));
    let worker = Worker::start(
        "mintkey-redis",
        &address,
        move || event_loop::run(shared, worker_end),
        move || after_panic.queue.reset(),
    )?;
    Ok((worker, own_end))
}

fn wakeup_sockets() -> io::Result<(UnixStream, UnixStream)> {
    let (own_end, worker_end) = UnixStream::pair()?;
    own_end.set_nonblocking(true)?;
    worker_end.set_nonblocking(true)?;
    Ok((own_end, worker_end))
}
