//! Submitted reads, and the threads that carry them out.

use std::collections::VecDeque;
use std::mem;
use std::sync::Arc;
use std::thread::{self, Thread};

use mintkey_runtime::Worker;
use mintkey_store::{Request, Submission};

/// The reads that wait, and the threads that carry them out.
#[derive(Default)]
pub struct ReadQueue {
    waiting: VecDeque<(Arc<Request>, Submission)>,
    threads: Vec<Worker>,
    idle: Vec<Thread>,
    /// The store is closed: waiting reads are carried out, then the threads end.
    closed: bool,
}

/// What a thread does next.
pub enum Next {
    Read(Arc<Request>, Submission),
    /// Parks until there is something to read.
    Wait,
    End,
}

impl ReadQueue {
    pub const fn is_closed(&self) -> bool {
        self.closed
    }

    /// How many threads there are.
    pub const fn threads(&self) -> usize {
        self.threads.len()
    }

    /// Wakes an idle thread. False: there is none.
    pub fn wake_idle(&mut self) -> bool {
        let idle = self.idle.pop();
        if let Some(thread) = &idle {
            thread.unpark();
        }
        idle.is_some()
    }

    pub fn add_thread(&mut self, thread: Worker) {
        self.threads.push(thread);
    }

    pub fn push(&mut self, request: Arc<Request>, submission: Submission) {
        self.waiting.push_back((request, submission));
    }

    /// What the calling thread, one of the store, does next.
    pub fn next(&mut self) -> Next {
        let own = thread::current();
        self.idle.retain(|thread| thread.id() != own.id());
        if let Some((request, submission)) = self.waiting.pop_front() {
            return Next::Read(request, submission);
        }
        if self.closed {
            return Next::End;
        }
        self.idle.push(own);
        Next::Wait
    }

    /// Lets the threads end once no read waits.
    pub fn close(&mut self) {
        self.closed = true;
        self.idle.iter().for_each(Thread::unpark);
    }

    /// Whether no read waits and all threads have ended.
    pub fn is_over(&self) -> bool {
        self.waiting.is_empty() && self.threads.iter().all(Worker::has_ended)
    }

    /// Resets the queue in the child of a fork, which has none of the threads.
    pub fn reset_in_child(&mut self) {
        // The callbacks of the requests belong to the parent.
        mem::forget(mem::take(&mut self.waiting));
        self.threads.clear();
        self.idle.clear();
    }
}
