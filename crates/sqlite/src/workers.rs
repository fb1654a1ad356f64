//! Submitted requests, and the threads that carry them out: one that writes, a few that read. They start with the first
//! request for them, end with the store, and do not exist in the child of a fork.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::thread;

use mintkey_runtime::{Worker, locked};
use mintkey_store::store::Never;
use mintkey_store::{Delivery, Done, Error, Request, Result, Submission, Ticket};

use crate::operations::Operations;
use crate::reading::queue::Next;
use crate::storage::fork_gate;
use crate::writing::pending::PendingWrite;

/// The most threads that read.
const READERS: usize = 4;

/// Takes requests and returns at once. The writes are queued together, so that one commit serves them.
pub fn submit_all(
    operations: &Arc<Operations>,
    requests: Vec<(Arc<Request>, Done)>,
) -> Vec<Box<dyn Ticket>> {
    let mut tickets = Vec::with_capacity(requests.len());
    let (mut writes, mut refused) = (Vec::new(), Vec::new());
    for (request, done) in requests {
        let submission = Submission::new(done);
        tickets.push(submission.ticket());
        match operations.shared.check_usable() {
            Err(error) => refused.push(submission.answer(Err(error))),
            Ok(()) if operations.is_write(&request) && !operations.takes_steps(&request) => {
                writes.push(PendingWrite::submitted(request, submission));
            }
            Ok(()) => refused.extend(submit_single(operations, request, submission)),
        }
    }
    if !writes.is_empty() {
        let own = Arc::clone(operations);
        let address = &operations.shared.config.address;
        let start_writer = || start("mintkey-writer", address, move || own.writer.work());
        refused.extend(operations.writer.submit_all(writes, start_writer));
    }
    // Delivers without a pass.
    drop(refused);
    tickets
}

/// Takes a read, or a write that takes several transactions.
fn submit_single(
    operations: &Arc<Operations>,
    request: Arc<Request>,
    submission: Submission,
) -> Option<Delivery> {
    let _pass = fork_gate::enter();
    let mut reads = locked(&operations.reads);
    if reads.is_closed() {
        let closed = Error::closed(&operations.shared.config.address);
        return Some(submission.answer(Err(closed)));
    }
    if !reads.wake_idle() && reads.threads() < READERS {
        let own = Arc::clone(operations);
        let address = &operations.shared.config.address;
        match start("mintkey-reader", address, move || read(&own)) {
            Ok(thread) => reads.add_thread(thread),
            Err(error) if reads.threads() == 0 => return Some(submission.answer(Err(error))),
            // The threads that exist carry it out.
            Err(_) => {}
        }
    }
    reads.push(request, submission);
    None
}

/// Starts a thread that takes this step again and again until the step returns false.
///
/// A step that panics, which is a defect, does not end the thread: the requests that it held were answered when they
/// were dropped, and the thread carries out those that wait.
fn start(
    name: &str,
    address: &str,
    mut step: impl FnMut() -> bool + Send + 'static,
) -> Result<Worker> {
    let steps = move || while catch_unwind(AssertUnwindSafe(&mut step)).unwrap_or(true) {};
    Worker::start(name, address, steps, || ())
}

/// Waits for a submitted read, and carries it out. False: the store is closed.
fn read(operations: &Operations) -> bool {
    let pass = fork_gate::enter();
    let next = locked(&operations.reads).next();
    drop(pass);
    match next {
        Next::Read(request, submission) => {
            if submission.start() {
                let answer = operations.run(&request, &Never);
                submission.answer(answer).deliver();
            }
            true
        }
        Next::Wait => {
            thread::park();
            true
        }
        Next::End => false,
    }
}
