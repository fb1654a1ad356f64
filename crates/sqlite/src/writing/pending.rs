//! A write that waits for a leader. Either a thread is parked meanwhile, or the write was submitted.

use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::{self, Thread, ThreadId};

use mintkey_runtime::locked;
use mintkey_store::{Delivery, Reply, Request, Result, Submission, submission};

/// No leader has started it.
const WAITING: u8 = 0;
/// A leader carries it out.
const STARTED: u8 = 1;
/// Its thread gave up waiting before a leader began it.
const WITHDRAWN: u8 = 2;
/// Its thread is the next leader.
pub const LEADING: u8 = 3;
/// It has an answer.
pub const ANSWERED: u8 = 4;

/// A write in the queue. Dropping it answers it, unless it was answered or withdrawn, or its thread is the next leader.
pub struct PendingWrite {
    pub request: Arc<Request>,
    owner: Owner,
}

enum Owner {
    /// The thread that waits for it.
    Thread(Arc<Parked>),
    /// The submitted request, whose callback gets the answer.
    Submission(Submission),
}

/// What a parked thread and its write in the queue share.
pub struct Parked {
    thread: Thread,
    stage: AtomicU8,
    answer: Mutex<Option<Result<Reply>>>,
}

impl Parked {
    /// How far the write is.
    pub fn stage(&self) -> u8 {
        self.stage.load(Ordering::SeqCst)
    }

    /// Withdraws the write, unless a leader has started it. False: it was started.
    pub fn withdraw(&self) -> bool {
        self.step(WAITING, WITHDRAWN)
    }

    /// Takes the answer, once there is one.
    pub fn answer(&self) -> Result<Reply> {
        let answer = locked(&self.answer).take();
        answer.unwrap_or_else(|| Err(submission::lost(true)))
    }

    fn step(&self, from: u8, to: u8) -> bool {
        self.stage
            .compare_exchange(from, to, Ordering::SeqCst, Ordering::SeqCst)
            .is_ok()
    }
}

impl PendingWrite {
    /// The write of the calling thread, and what the thread waits with.
    pub fn blocking(request: Arc<Request>) -> (Self, Arc<Parked>) {
        let parked = Arc::new(Parked {
            thread: thread::current(),
            stage: AtomicU8::new(WAITING),
            answer: Mutex::new(None),
        });
        let owner = Owner::Thread(Arc::clone(&parked));
        (Self { request, owner }, parked)
    }

    /// A submitted write.
    pub const fn submitted(request: Arc<Request>, submission: Submission) -> Self {
        let owner = Owner::Submission(submission);
        Self { request, owner }
    }

    /// Whether a thread waits for it.
    pub const fn is_blocking(&self) -> bool {
        matches!(self.owner, Owner::Thread(_))
    }

    /// Whether its thread gave up waiting.
    pub fn is_withdrawn(&self) -> bool {
        matches!(&self.owner, Owner::Thread(parked) if parked.stage() == WITHDRAWN)
    }

    /// Starts it. False: it was withdrawn.
    pub fn start(&self) -> bool {
        match &self.owner {
            Owner::Thread(parked) => parked.step(WAITING, STARTED),
            Owner::Submission(submission) => submission.start(),
        }
    }

    /// Makes its thread the next leader. False: no thread waits for it any longer.
    pub fn make_leader(&self) -> bool {
        matches!(&self.owner, Owner::Thread(parked) if parked.step(WAITING, LEADING))
    }

    /// The thread that waits for it.
    pub fn thread(&self) -> Option<ThreadId> {
        match &self.owner {
            Owner::Thread(parked) => Some(parked.thread.id()),
            Owner::Submission(_) => None,
        }
    }

    /// Wakes the thread that waits for it.
    pub fn wake(&self) {
        if let Owner::Thread(parked) = &self.owner {
            parked.thread.unpark();
        }
    }

    /// Answers it. The caller drops the delivery of a submitted write where it holds no pass.
    pub fn answer(&self, answer: Result<Reply>) -> Option<Delivery> {
        match &self.owner {
            Owner::Thread(parked) => {
                *locked(&parked.answer) = Some(answer);
                parked.stage.store(ANSWERED, Ordering::SeqCst);
                parked.thread.unpark();
                None
            }
            Owner::Submission(submission) => Some(submission.answer(answer)),
        }
    }
}

impl Drop for PendingWrite {
    fn drop(&mut self) {
        // Dropping a submission answers it.
        if let Owner::Thread(parked) = &self.owner {
            let started = parked.step(STARTED, STARTED);
            if started || parked.step(WAITING, STARTED) {
                self.answer(Err(submission::lost(started)));
            }
        }
    }
}
