//! A request that waits for a leader: a thread's, which is parked meanwhile, or a submitted one.

use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::{self, Thread, ThreadId};

use mintkey_store::{Delivery, Reply, Request, Result, Submission, submission};

use crate::threads::fork_gate::lock;

/// Nobody has begun it.
const WAITING: u8 = 0;
/// A leader has it.
const TAKEN: u8 = 1;
/// It was given up before anybody began it.
const WITHDRAWN: u8 = 2;
/// Its thread is the next leader.
pub const LEADING: u8 = 3;
/// Its answer is there.
pub const ANSWERED: u8 = 4;

/// A request in the queue. Dropping it answers it, if it was not answered, withdrawn, or handed back to its thread.
pub struct PendingWrite {
    pub request: Arc<Request>,
    owner: Owner,
}

enum Owner {
    /// A thread's that is parked until it is woken.
    Thread(Arc<Parked>),
    /// Submitted: the answer is passed on.
    Submission(Submission),
}

/// What a thread and its request in the queue share.
pub struct Parked {
    thread: Thread,
    stage: AtomicU8,
    answer: Mutex<Option<Result<Reply>>>,
}

impl Parked {
    /// How far the request is.
    pub fn stage(&self) -> u8 {
        self.stage.load(Ordering::SeqCst)
    }

    /// Gives the request up, unless somebody has begun it.
    pub fn withdraw(&self) -> bool {
        self.step(WAITING, WITHDRAWN)
    }

    /// The answer, once it is there.
    pub fn answer(&self) -> Result<Reply> {
        let answer = lock(&self.answer).take();
        answer.unwrap_or_else(|| Err(submission::lost(true)))
    }

    fn step(&self, from: u8, to: u8) -> bool {
        self.stage
            .compare_exchange(from, to, Ordering::SeqCst, Ordering::SeqCst)
            .is_ok()
    }
}

impl PendingWrite {
    /// The request of the calling thread, and what that waits with.
    pub fn blocking(request: Arc<Request>) -> (Self, Arc<Parked>) {
        let parked = Arc::new(Parked {
            thread: thread::current(),
            stage: AtomicU8::new(WAITING),
            answer: Mutex::new(None),
        });
        let owner = Owner::Thread(Arc::clone(&parked));
        (Self { request, owner }, parked)
    }

    /// A submitted request.
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

    /// Begins it, unless it was withdrawn.
    pub fn begin(&self) -> bool {
        match &self.owner {
            Owner::Thread(parked) => parked.step(WAITING, TAKEN),
            Owner::Submission(submission) => submission.begin(),
        }
    }

    /// Makes its thread the next leader, if it has one that still waits.
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

    /// Answers a request that was begun. What has to be delivered, the caller delivers without a pass.
    pub fn answer(&self, answer: Result<Reply>) -> Option<Delivery> {
        match &self.owner {
            Owner::Thread(parked) => {
                *lock(&parked.answer) = Some(answer);
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
        // A submission answers by itself.
        if let Owner::Thread(parked) = &self.owner {
            let begun = parked.step(TAKEN, TAKEN);
            if begun || parked.step(WAITING, TAKEN) {
                self.answer(Err(submission::lost(begun)));
            }
        }
    }
}
