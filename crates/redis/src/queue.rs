//! Submitted requests on their way to the store's thread, and the thread's start and end.

use std::cell::Cell;
use std::collections::VecDeque;
use std::io::{self, Write};
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use mintkey_store::store::Between;
use mintkey_store::{Done, Error, ErrorKind, Interrupt, Outcome, Reply, Request, Result, Ticket};

use crate::background;
use crate::gate::{Gate, Shielded};
use crate::store::Shared;
use crate::watch::pause;

/// How often a closing store looks whether the thread has ended.
const CLOSING: Duration = Duration::from_millis(1);

/// Nobody has begun it.
const WAITING: u8 = 0;
/// The thread has it.
const TAKEN: u8 = 1;
/// It was given up before it was begun.
const WITHDRAWN: u8 = 2;

thread_local! {
    static IS_WORKER: Cell<bool> = const { Cell::new(false) };
}

/// A submitted request.
pub struct Entry {
    /// What is asked.
    pub request: Arc<Request>,
    /// When.
    pub submitted: Instant,
    stage: AtomicU8,
    done: Mutex<Option<Done>>,
}

impl Entry {
    fn new(request: Arc<Request>, done: Done) -> Arc<Self> {
        Arc::new(Self {
            request,
            submitted: Instant::now(),
            stage: AtomicU8::new(WAITING),
            done: Mutex::new(Some(done)),
        })
    }

    /// Takes it, unless it was withdrawn.
    pub fn take(&self) -> bool {
        self.step(TAKEN)
    }

    fn step(&self, to: u8) -> bool {
        self.stage
            .compare_exchange(WAITING, to, Ordering::SeqCst, Ordering::SeqCst)
            .is_ok()
    }

    /// Gives the answer.
    pub fn deliver(&self, answer: Result<Reply>) {
        let done = self
            .done
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        if let Some(done) = done {
            done(answer);
        }
    }
}

struct Submitted(Arc<Entry>);

impl Ticket for Submitted {
    fn withdraw(&self) -> bool {
        self.0.step(WITHDRAWN)
    }
}

/// What waits for the thread.
pub struct Queue(Shielded<Waiting>);

/// The requests that wait, and how to wake the thread.
#[derive(Default)]
pub struct Waiting {
    entries: VecDeque<Arc<Entry>>,
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
    pub fn take(&self, room: usize, ends: bool) -> Vec<Arc<Entry>> {
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
    hand_over(shared, std::slice::from_ref(&entry));
    Box::new(Submitted(entry))
}

/// Takes requests that came together, and returns at once.
pub fn submit_all(
    shared: &Arc<Shared>,
    requests: Vec<(Arc<Request>, Done)>,
) -> Vec<Box<dyn Ticket>> {
    let requests = requests.into_iter();
    let entries: Vec<Arc<Entry>> = requests
        .map(|(request, done)| Entry::new(request, done))
        .collect();
    hand_over(shared, &entries);
    let ticket = |entry| Box::new(Submitted(entry)) as Box<dyn Ticket>;
    entries.into_iter().map(ticket).collect()
}

fn hand_over(shared: &Arc<Shared>, entries: &[Arc<Entry>]) {
    let queued = shared.check_open().and_then(|()| queue(shared, entries));
    if let Err(error) = queued {
        for (entry, refusal) in entries.iter().zip(error.of_all(entries.len())) {
            if entry.step(TAKEN) {
                entry.deliver(refusal);
            }
        }
    }
}

fn queue(shared: &Arc<Shared>, entries: &[Arc<Entry>]) -> Result<()> {
    shared.queue.0.with(|waiting| {
        if !waiting.alive {
            let bell = start(shared).map_err(|error| {
                Error::new(
                    ErrorKind::Unavailable(Outcome::NotApplied),
                    "no thread can be started for the store: the system's limit is reached",
                )
                .caused_by(error)
            })?;
            waiting.bell = Some(bell);
            waiting.alive = true;
        }
        waiting.entries.extend(entries.iter().map(Arc::clone));
        waiting.ring();
        Ok(())
    })
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
        background::work(own, its);
    })?;
    Ok(ours)
}
