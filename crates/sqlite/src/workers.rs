//! The threads that carry out submitted requests: one that writes, a few that read. They start with
//! the first request for them, end with the store, and do not live on in a child.

use std::cell::Cell;
use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, MutexGuard};
use std::thread::{self, Thread};
use std::time::Duration;

use mintkey_store::store::Never;
use mintkey_store::{Delivery, Done, Error, ErrorKind, Outcome, Request, Submission, Ticket};

use crate::store::Shared;
use crate::threads::deadline::{Watch, pause};
use crate::threads::fork_gate::{self, Pass, locked};
use crate::writing::entry::Entry;
use crate::writing::queue::{GROUP, Queue};

/// The threads that read at once.
const READERS: usize = 4;
/// The time between two looks of the writing thread at a crowd that gathers, and how often it looks at
/// most.
const LULL: Duration = Duration::from_micros(100);
const LOOKS: usize = 20;
/// How many looks in a row must find nobody new. One is enough when as many are there as the last
/// time; a crowd that is smaller so far may only have been kept from the processor.
const QUIET: usize = 1;
const QUIET_IF_FEWER: usize = 4;

thread_local! {
    static IS_WORKER: Cell<bool> = const { Cell::new(false) };
}

/// Whether this thread belongs to a store.
pub fn is_worker() -> bool {
    IS_WORKER.get()
}

/// The reads that wait, and the threads that carry them out.
#[derive(Default)]
pub struct Readers {
    waiting: VecDeque<(Arc<Request>, Submission)>,
    idle: Vec<Thread>,
    alive: usize,
    /// The store is closed: what waits is carried out, then the threads end.
    closed: bool,
}

impl Readers {
    /// Starts anew in a child.
    pub fn forget_others(&mut self) {
        std::mem::forget(std::mem::take(&mut self.waiting));
        self.idle.clear();
        self.alive = 0;
    }

    /// Whether nothing waits and nobody works.
    pub fn is_over(&self) -> bool {
        self.alive == 0 && self.waiting.is_empty()
    }

    /// Lets the threads end.
    pub fn close(&mut self) {
        self.closed = true;
        self.idle.iter().for_each(Thread::unpark);
    }
}

/// Takes a request and returns at once.
pub fn submit(shared: &Arc<Shared>, request: Arc<Request>, done: Done) -> Box<dyn Ticket> {
    let submission = Submission::new(done);
    let ticket = submission.ticket();
    let refused = match shared.check_whole() {
        Err(error) => Some(submission.answer(Err(error))),
        Ok(()) if shared.writes(&request) => submit_write(shared, request, submission),
        Ok(()) => submit_read(shared, request, submission),
    };
    // Here, where no pass is held.
    drop(refused);
    ticket
}

fn submit_write(
    shared: &Arc<Shared>,
    request: Arc<Request>,
    submission: Submission,
) -> Option<Delivery> {
    let _pass = fork_gate::enter();
    let mut queue = locked(&shared.queue);
    if queue.closed {
        return Some(submission.answer(Err(Error::closed(&shared.config.address))));
    }
    if let Some(background) = &queue.background {
        background.unpark();
    } else {
        let own = Arc::clone(shared);
        match spawn("mintkey-writer", move || write(&own)) {
            Ok(thread) => queue.background = Some(thread),
            Err(error) => return Some(submission.answer(Err(error))),
        }
    }
    queue.push(Entry::of_task(request, submission));
    None
}

fn submit_read(
    shared: &Arc<Shared>,
    request: Arc<Request>,
    submission: Submission,
) -> Option<Delivery> {
    let _pass = fork_gate::enter();
    let mut readers = locked(&shared.readers);
    if readers.closed {
        return Some(submission.answer(Err(Error::closed(&shared.config.address))));
    }
    if let Some(idle) = readers.idle.pop() {
        idle.unpark();
    } else if readers.alive < READERS {
        let own = Arc::clone(shared);
        match spawn("mintkey-reader", move || read(&own)) {
            Ok(_) => readers.alive += 1,
            Err(error) if readers.alive == 0 => return Some(submission.answer(Err(error))),
            // Those who are there will do.
            Err(_) => {}
        }
    }
    readers.waiting.push_back((request, submission));
    None
}

/// Starts a thread. Its handle is let go: a child could neither wait for it nor drop it safely.
fn spawn(name: &str, work: impl FnOnce() + Send + 'static) -> Result<Thread, Error> {
    let named = thread::Builder::new().name(name.to_owned());
    let started = named.spawn(move || {
        IS_WORKER.set(true);
        work();
    });
    started
        .map(|handle| handle.thread().clone())
        .map_err(|error| {
            Error::new(
                ErrorKind::Unavailable(Outcome::NotApplied),
                "no thread can be started for the store: the system's limit is reached",
            )
            .caused_by(error)
        })
}

/// Does a worker's work until it is done. After a panic, which is a defect, the thread goes on: the requests that were
/// in its hands have been answered by their drop, and the store stays usable.
fn persist(mut work: impl FnMut()) {
    while catch_unwind(AssertUnwindSafe(&mut work)).is_err() {}
}

/// The life of the writing thread.
fn write(shared: &Shared) {
    persist(|| while write_once(shared) {});
}

/// Waits for something to write, and writes it. False: the store is closed.
fn write_once(shared: &Shared) -> bool {
    let pass = fork_gate::enter();
    let mut queue = locked(&shared.queue);
    if queue.is_led() || queue.waiting() == 0 {
        let over = queue.closed && queue.waiting() == 0;
        if over {
            queue.background = None;
        }
        drop(queue);
        drop(pass);
        if !over {
            thread::park();
        }
        return !over;
    }
    if queue.waiting() < 2 && queue.carried < 2 {
        lead(shared, queue, pass);
        return true;
    }
    drop(queue);
    drop(pass);
    gather(shared);
    let pass = fork_gate::enter();
    let queue = locked(&shared.queue);
    if !queue.is_led() && queue.waiting() > 0 {
        lead(shared, queue, pass);
    }
    true
}

fn lead(shared: &Shared, mut queue: MutexGuard<'_, Queue>, pass: Pass) {
    let connection = queue.lead();
    drop(queue);
    let mut watch = Watch::new(None, Some(shared.config.timeout));
    // Whatever failed was said to those whom it concerns.
    let _ = shared.lead(None, connection, &mut watch, pass);
}

/// Waits until a crowd has come together: many tasks that save at once then share one commit.
fn gather(shared: &Shared) {
    let mut crowd = Crowd::default();
    for _ in 0..LOOKS {
        let pass = fork_gate::enter();
        let queue = locked(&shared.queue);
        let (waiting, before) = (queue.waiting(), queue.carried);
        drop(queue);
        drop(pass);
        if crowd.is_complete(waiting, before) {
            return;
        }
        pause(LULL);
    }
}

/// Those who wait, as one look after the other finds them.
#[derive(Default)]
struct Crowd {
    found: usize,
    quiet: usize,
}

impl Crowd {
    /// Whether nobody else is expected, when so many wait and so many shared the last commit.
    const fn is_complete(&mut self, waiting: usize, before: usize) -> bool {
        if waiting >= GROUP {
            return true;
        }
        if waiting != self.found {
            self.found = waiting;
            self.quiet = 0;
            return false;
        }
        self.quiet += 1;
        // One alone after a crowd is more likely to be alone than to be its first.
        let patience = if waiting > 1 && waiting < before {
            QUIET_IF_FEWER
        } else {
            QUIET
        };
        self.quiet >= patience
    }
}

/// The life of a reading thread.
fn read(shared: &Shared) {
    persist(|| while read_once(shared) {});
}

/// Waits for something to read, and reads it. False: the store is closed.
fn read_once(shared: &Shared) -> bool {
    let pass = fork_gate::enter();
    let mut readers = locked(&shared.readers);
    let own = thread::current().id();
    readers.idle.retain(|thread| thread.id() != own);
    let Some((request, submission)) = readers.waiting.pop_front() else {
        if readers.closed {
            readers.alive -= 1;
            return false;
        }
        readers.idle.push(thread::current());
        drop(readers);
        drop(pass);
        thread::park();
        return true;
    };
    drop(readers);
    drop(pass);
    if submission.begin() {
        let answer = shared.carry_out(&request, &Never);
        submission.answer(answer).deliver();
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    fn looks(waiting: &[usize], before: usize) -> Vec<bool> {
        let mut crowd = Crowd::default();
        let look = |waiting: &usize| crowd.is_complete(*waiting, before);
        waiting.iter().map(look).collect()
    }

    #[test]
    fn a_crowd_is_complete_when_nobody_new_comes() {
        assert_eq!(looks(&[2, 30, 64, 64], 64), [false, false, false, true]);
        assert_eq!(looks(&[70, 70], 64), [false, true]);
        assert_eq!(looks(&[GROUP], 0), [true]);
    }

    #[test]
    fn a_smaller_crowd_than_the_last_is_given_more_time() {
        assert_eq!(
            looks(&[9, 9, 9, 40, 40, 40, 64, 64], 64),
            [false, false, false, false, false, false, false, true]
        );
        assert_eq!(looks(&[9; 5], 64), [false, false, false, false, true]);
    }

    #[test]
    fn one_alone_waits_for_one_look_at_most() {
        assert_eq!(looks(&[1, 1], 64), [false, true]);
        assert_eq!(looks(&[1, 1], 1), [false, true]);
    }
}
