//! Submitted requests on their way to the thread of the store.

use std::collections::VecDeque;
use std::io::{self, Write};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::time::Instant;

use mintkey_store::{Done, Reply, Request, Result, Submission, Ticket};

use crate::fork_gate::{Gate, Shielded};

/// A submitted request. Dropping it answers the caller, whatever becomes of the thread.
pub struct Entry {
    /// What is asked.
    pub request: Arc<Request>,
    /// When.
    pub submitted: Instant,
    submission: Submission,
}

impl Entry {
    /// A request that nobody has begun.
    pub fn new(request: Arc<Request>, done: Done) -> Self {
        Self {
            request,
            submitted: Instant::now(),
            submission: Submission::new(done),
        }
    }

    /// What withdraws it.
    pub fn ticket(&self) -> Box<dyn Ticket> {
        self.submission.ticket()
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

    /// Adds requests. If no thread serves them, `spawn` starts one with this end of a socket, which is readable
    /// when requests wait.
    pub fn push(
        &self,
        entries: &mut Vec<Entry>,
        spawn: impl FnOnce(UnixStream) -> io::Result<()>,
    ) -> io::Result<()> {
        self.0.with(|waiting| {
            if !waiting.alive {
                let (ours, its) = UnixStream::pair()?;
                ours.set_nonblocking(true)?;
                its.set_nonblocking(true)?;
                spawn(its)?;
                waiting.bell = Some(ours);
                waiting.alive = true;
            }
            waiting.entries.extend(entries.drain(..));
            waiting.ring();
            Ok(())
        })
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

    /// Whether a thread serves the requests.
    pub fn is_served(&self) -> bool {
        self.0.with(|waiting| waiting.alive)
    }

    /// Answers what waits for a thread that panicked. The next request starts another.
    pub fn reset(&self) {
        // Dropped here and not inside: answering takes locks.
        drop(self.0.with(std::mem::take));
    }

    /// Starts anew in a child: whoever submitted something did so in the parent.
    pub fn forget_others(&self) {
        // What the answers would wake does not exist here, and must not be dropped either: it may belong
        // to an interpreter whose locks are not free at this moment.
        std::mem::forget(self.0.with(std::mem::take));
    }
}
