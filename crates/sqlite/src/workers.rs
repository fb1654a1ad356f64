//! Submitted requests, and the threads that carry them out: one that writes, a few that read. They start with the first
//! request for them, end with the store, and do not exist in the child of a fork.

use std::sync::Arc;
use std::thread;

use mintkey_store::store::Never;
use mintkey_store::{Delivery, Done, Error, Request, Submission, Ticket};

use crate::operations::Operations;
use crate::reading::queue::Next;
use crate::threads::fork_gate::{self, lock};
use crate::threads::worker;

/// The most threads that read.
const READERS: usize = 4;

/// Takes a request and returns at once.
pub fn submit(operations: &Arc<Operations>, request: Arc<Request>, done: Done) -> Box<dyn Ticket> {
    let submission = Submission::new(done);
    let ticket = submission.ticket();
    let refused = match operations.shared.check_usable() {
        Err(error) => Some(submission.answer(Err(error))),
        Ok(()) if operations.is_write(&request) => {
            let own = Arc::clone(operations);
            let start = || worker::start("mintkey-writer", move || own.writer.work());
            operations.writer.submit(request, submission, start)
        }
        Ok(()) => submit_read(operations, request, submission),
    };
    // Delivers without a pass.
    drop(refused);
    ticket
}

fn submit_read(
    operations: &Arc<Operations>,
    request: Arc<Request>,
    submission: Submission,
) -> Option<Delivery> {
    let _pass = fork_gate::enter();
    let mut reads = lock(&operations.reads);
    if reads.is_closed() {
        let closed = Error::closed(&operations.shared.config.address);
        return Some(submission.answer(Err(closed)));
    }
    if !reads.wake_idle() && reads.threads() < READERS {
        let own = Arc::clone(operations);
        match worker::start("mintkey-reader", move || read(&own)) {
            Ok(_) => reads.add_thread(),
            Err(error) if reads.threads() == 0 => return Some(submission.answer(Err(error))),
            // The threads that exist carry it out.
            Err(_) => {}
        }
    }
    reads.push(request, submission);
    None
}

/// Waits for a submitted read, and carries it out. False: the store is closed.
fn read(operations: &Operations) -> bool {
    let pass = fork_gate::enter();
    let next = lock(&operations.reads).next();
    drop(pass);
    match next {
        Next::Read(request, submission) => {
            if submission.begin() {
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
