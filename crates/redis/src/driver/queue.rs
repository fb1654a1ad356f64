//! Submitted requests on their way to the store's thread, and the thread's start and end.

use std::cell::Cell;
use std::collections::VecDeque;
use std::io::{self, Write};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use mintkey_store::store::Between;
use mintkey_store::{
    Done, Error, ErrorKind, Interrupt, Outcome, Reply, Request, Result, Submission, Ticket,
};

use crate::driver::event_loop;
use crate::fork_gate::{Gate, Shielded};
use crate::store::Shared;
use crate::transport::deadline::pause;

/// How often a closing store looks whether the thread has ended.
const CLOSING: Duration = Duration::from_millis(1);

thread_local! {
    static IS_WORKER: Cell<bool> = const { Cell::new(false) };
}

/// A submitted request. Dropping it answers the caller, whatever becomes of the thread.
pub struct Entry {
    /// What is asked.
    pub request: Arc<Request>,
    /// When.
    pub submitted: Instant,
    submission: Submission,
}

impl Entry {
    fn new(request: Arc<Request>, done: Done) -> Self {
        Self {
            request,
            submitted: Instant::now(),
            submission: Submission::new(done),
        }
    }

    /// Begins it; false if it was withdrawn.
    pub fn begin(&self) -> bool {
        self.submission.begin()
    }

    /// Gives the answer.
    pub fn deliver(&self, answer: Result<Reply>) {
        self.submission.answer(answer).deliver();
    }
}

/// What waits for the thread.
pub struct Queue(Shielded<Waiting>);

/// The requests that wait, and how to wake the thread.
#[derive(Default)]
pub struct Waiting {
    entries: VecDeque<Entry>,
    bell: Option<UnixStream>,
    alive: bool,
    asleep: bool,
}

impl Waiting {
    fn ring(&mut self) {
        if std::mem::take(&mut self.asleep)
            && let Some(bell) = &self.bell
        {
            // A full pipe has woken it already.
            let _ = (&*bell).write(&[1]);
        }
    }
}

impl Queue {
    /// Nothing waits yet.
    pub fn new(gate: &Arc<Gate>) -> Self {
        Self(Shielded::new(gate))
    }

    /// Wakes the thread, if there is one.
    pub fn wake(&self) {
        self.0.with(Waiting::ring);
    }

    /// Takes up to so many requests; without any the thread may end.
    pub fn take(&self, room: usize, ends: bool) -> Vec<Entry> {
        self.0.with(|waiting| {
            let many = waiting.entries.len().min(room);
            if many == 0 && ends {
                // Never set: a thread that a fork left behind must not pass for the one to come.
                waiting.alive = false;
                waiting.bell = None;
            }
            waiting.entries.drain(..many).collect()
        })
    }

    /// Whether requests wait.
    pub fn has_some(&self) -> bool {
        self.0.with(|waiting| !waiting.entries.is_empty())
    }

    /// From now on whoever submits something rings; false if something waits already.
    pub fn falls_asleep(&self) -> bool {
        self.0.with(|waiting| {
            waiting.asleep = waiting.entries.is_empty();
            waiting.asleep
        })
    }

    /// Says that the thread is awake.
    pub fn is_awake(&self) {
        self.0.with(|waiting| waiting.asleep = false);
    }

    /// Waits until the thread has finished what was submitted, unless this is that thread.
    pub fn wait_for_end(&self, interrupt: &'static dyn Interrupt) {
        let mut between = Between::new(interrupt);
        // A thread of the store cannot wait for its own end.
        while !IS_WORKER.get()
            && self.0.with(|waiting| waiting.alive)
            && between.refusal().is_none()
        {
            pause(CLOSING);
        }
    }

    /// Starts anew in a child: whoever submitted something did so in the parent.
    pub fn forget_others(&self) {
        // What the answers would wake does not exist here, and must not be dropped either: it may belong
        // to an interpreter whose locks are not free at this moment.
        std::mem::forget(self.0.with(std::mem::take));
    }
}

/// Takes a request and returns at once.
pub fn submit(shared: &Arc<Shared>, request: Arc<Request>, done: Done) -> Box<dyn Ticket> {
    let entry = Entry::new(request, done);
    let ticket = entry.submission.ticket();
    hand_over(shared, vec![entry]);
    ticket
}

/// Takes requests that came together, and returns at once.
pub fn submit_all(
    shared: &Arc<Shared>,
    requests: Vec<(Arc<Request>, Done)>,
) -> Vec<Box<dyn Ticket>> {
    let entries: Vec<Entry> = requests
        .into_iter()
        .map(|(request, done)| Entry::new(request, done))
        .collect();
    let tickets = entries.iter().map(|entry| entry.submission.ticket());
    let tickets = tickets.collect();
    hand_over(shared, entries);
    tickets
}

fn hand_over(shared: &Arc<Shared>, mut entries: Vec<Entry>) {
    let refused = shared
        .check_open()
        .and_then(|()| queue(shared, &mut entries));
    if let Err(error) = refused {
        for (entry, refusal) in entries.iter().zip(error.of_all(entries.len())) {
            entry.deliver(refusal);
        }
    }
}

/// Moves requests into the queue, and starts the thread if there is none.
fn queue(shared: &Arc<Shared>, entries: &mut Vec<Entry>) -> Result<()> {
    shared.queue.0.with(|waiting| {
        if !waiting.alive {
            waiting.bell = Some(start(shared).map_err(|error| no_thread(shared, error))?);
            waiting.alive = true;
        }
        waiting.entries.extend(entries.drain(..));
        waiting.ring();
        Ok(())
    })
}

fn no_thread(shared: &Shared, error: io::Error) -> Error {
    let address = &shared.engine.config.address;
    Error::new(
        ErrorKind::Unavailable(Outcome::NotApplied),
        format!(
            "{address}: the thread for awaited requests cannot be started ({error}): {}; allow more threads \
             (ulimit -u, or the pids limit of the container)",
            Outcome::NotApplied.words()
        ),
    )
    .caused_by(error)
}

/// Answers what waits for a thread that panicked. The next request starts another.
struct AfterPanic(Arc<Shared>);

impl Drop for AfterPanic {
    fn drop(&mut self) {
        if thread::panicking() {
            // Dropped here and not inside: answering takes locks.
            drop(self.0.queue.0.with(std::mem::take));
        }
    }
}

/// Starts the thread, and gives what wakes it. Its handle is let go: a child could neither wait for it
/// nor drop it safely.
fn start(shared: &Arc<Shared>) -> io::Result<UnixStream> {
    let (ours, its) = UnixStream::pair()?;
    ours.set_nonblocking(true)?;
    its.set_nonblocking(true)?;
    let own = Arc::clone(shared);
    let named = thread::Builder::new().name("mintkey-redis".to_owned());
    named.spawn(move || {
        IS_WORKER.set(true);
        // Dropped after the requests that the thread carries out.
        let _after_panic = AfterPanic(Arc::clone(&own));
        event_loop::work(own, its);
    })?;
    Ok(ours)
}
