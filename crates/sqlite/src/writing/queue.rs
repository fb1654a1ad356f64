//! The writes that wait, and the thread that leads: it carries them all out in one transaction.

use std::collections::VecDeque;
use std::mem;
use std::thread::{self, ThreadId};

use mintkey_runtime::Worker;

use crate::writing::pending::PendingWrite;

/// The most requests of one transaction.
pub const GROUP: usize = 512;

/// The leader, and the writes that wait for it.
#[derive(Default)]
pub struct WriteQueue {
    /// The thread that writes, or that is about to.
    leader: Option<ThreadId>,
    waiting: VecDeque<PendingWrite>,
    /// The thread that leads when only submitted requests wait, once there is one.
    background: Option<Worker>,
    closed: bool,
}

impl WriteQueue {
    /// Whether the store is closed: waiting requests are carried out, then the background thread ends.
    pub const fn is_closed(&self) -> bool {
        self.closed
    }

    /// How many requests wait.
    pub fn waiting(&self) -> usize {
        self.waiting.len()
    }

    /// Whether a thread leads.
    pub const fn is_led(&self) -> bool {
        self.leader.is_some()
    }

    /// Whether the calling thread leads.
    pub fn is_leader(&self) -> bool {
        self.leader == Some(thread::current().id())
    }

    /// Whether the store is closed and needs the writing connection no longer.
    pub fn is_finished(&self) -> bool {
        self.closed && self.waiting.is_empty() && !self.is_led()
    }

    /// Whether everything is complete that was requested before the store was closed.
    pub fn is_over(&self) -> bool {
        let ended = self.background.as_ref().is_none_or(Worker::has_ended);
        ended && self.waiting.is_empty() && !self.is_led()
    }

    /// Refuses new requests, and lets the background thread end when its work is done.
    pub fn close(&mut self) {
        self.closed = true;
        self.wake_background();
    }

    pub const fn has_background(&self) -> bool {
        self.background.is_some()
    }

    pub fn set_background(&mut self, thread: Worker) {
        self.background = Some(thread);
    }

    pub fn wake_background(&self) {
        if let Some(background) = &self.background {
            background.wake();
        }
    }

    pub fn push(&mut self, write: PendingWrite) {
        self.waiting.push_back(write);
    }

    /// Makes the calling thread the leader.
    pub fn lead(&mut self) {
        self.leader = Some(thread::current().id());
    }

    /// Takes out the requests of the next transaction.
    pub fn take_group(&mut self) -> Vec<PendingWrite> {
        let many = self.waiting.len().min(GROUP);
        self.waiting
            .drain(..many)
            .filter(PendingWrite::start)
            .collect()
    }

    /// Takes out the submitted requests, none of which was started.
    pub fn take_submitted(&mut self) -> VecDeque<PendingWrite> {
        let waiting = mem::take(&mut self.waiting);
        let (blocking, submitted) = waiting.into_iter().partition(PendingWrite::is_blocking);
        self.waiting = blocking;
        submitted
    }

    /// Ends the lead of the calling thread. The longest waiting thread leads next; if there is none, the background
    /// thread is woken. It is also woken to end with a closed store.
    pub fn pass_on(&mut self) {
        self.leader = None;
        // A thread that gave up waiting left its write here. Without a later leader, closing would wait for it for
        // ever.
        self.waiting.retain(|write| !write.is_withdrawn());
        let next = self.waiting.iter().position(PendingWrite::make_leader);
        if let Some(write) = next.and_then(|index| self.waiting.remove(index)) {
            self.leader = write.thread();
            write.wake();
        } else if self.closed || !self.waiting.is_empty() {
            self.wake_background();
        }
    }

    /// Resets the queue in the child of a fork: all requests that wait belong to the parent.
    pub fn reset_in_child(&mut self) {
        // Nothing that a callback would wake exists here. It must not be dropped either: it may belong to an
        // interpreter whose locks are held at this moment.
        mem::forget(mem::take(&mut self.waiting));
        self.leader = None;
        self.background = None;
    }
}
