//! The store itself: one trait, which every engine implements.

use std::sync::Arc;
use std::time::Duration;

use crate::error::Result;
use crate::reply::Reply;
use crate::request::Request;

/// Whether the person at the keyboard wants out.
///
/// A blocking call asks about every 100 ms, on its own thread, and gives up when the answer is true.
/// The answer may take a while (it may run a signal handler), but it must not wait for a thread that
/// is forking.
pub trait Interrupt: Sync {
    /// True: give up.
    fn raised(&self) -> bool;
}

/// Never interrupts.
#[derive(Clone, Copy, Debug)]
pub struct Never;

impl Interrupt for Never {
    fn raised(&self) -> bool {
        false
    }
}

/// What to do with the answer to a submitted request: called exactly once, on whichever thread has
/// carried the request out (before `submit` returns, if the store refuses it), unless the request was
/// withdrawn. It must not wait for other requests of the store. An engine wraps it into a
/// [`Submission`](crate::Submission), which calls it even if the engine loses the request.
pub type Done = Box<dyn FnOnce(Result<Reply>) + Send>;

/// A submitted request.
pub trait Ticket: Send + Sync {
    /// Takes the request back. True: it was never begun, and its `done` will not be called. False:
    /// it is running or done.
    fn withdraw(&self) -> bool;
}

/// A request that the calling thread has begun, and waits for later: meanwhile it prepares another.
pub trait Begun: Send {
    /// Sends what is to be sent first, and does not wait for the answer. An error is told by `finish`.
    fn send(&mut self);

    /// Waits for the answer; sends first if that was not done. The time of the request counts from here, and may
    /// be shorter than what the store was opened with.
    ///
    /// # Errors
    ///
    /// Whatever [`Store::execute`] would have told.
    fn finish(self: Box<Self>, within: Option<Duration>) -> Result<Reply>;
}

/// What a store is and can do.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Capabilities {
    /// The engine: `"sqlite"`, `"redis"` or `"dynamodb"`.
    pub engine: &'static str,
    /// The store's address, without a password.
    pub address: String,
    /// Whether missing tables are made at first use.
    pub creates_tables: bool,
    /// Whether a read by index sees every write acknowledged before.
    pub consistent_indexes: bool,
    /// Whether a scan comes in the order of the keys, and can come in reverse.
    pub ordered_scans: bool,
}

/// How bad a notice is.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Severity {
    /// Something may go wrong.
    Warning,
    /// Something went wrong that no answer tells.
    Error,
}

/// What the people who run a program should know of a store: it goes to their log.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Notice {
    /// How bad it is.
    pub severity: Severity,
    /// What is wrong, and what to do.
    pub text: String,
}

/// A store. Opening one does no I/O; the first request does.
pub trait Store: Send + Sync {
    /// What it is and can do.
    fn capabilities(&self) -> Capabilities;

    /// What the people who run it should know of it, and have not been told yet. Asked after each answer, so it has to be
    /// quick.
    fn notice(&self) -> Option<Notice> {
        None
    }

    /// Carries a request out on the calling thread, without starting another.
    ///
    /// The interrupt lives for ever because an engine may keep it beyond what the compiler can see;
    /// a unit value is promoted to that by itself.
    ///
    /// # Errors
    ///
    /// Whatever the request calls for; see [`crate::ErrorKind`].
    fn execute(&self, request: &Request, interrupt: &'static dyn Interrupt) -> Result<Reply>;

    /// Makes a request ready to be sent, on the calling thread and without a wait; nothing if this engine gains nothing by
    /// it, or cannot: then the request is executed.
    fn begin(
        &self,
        request: &Arc<Request>,
        interrupt: &'static dyn Interrupt,
    ) -> Option<Box<dyn Begun>> {
        let _ = (request, interrupt);
        None
    }

    /// Carries several requests out on the calling thread, without starting another: one after the other, or at once
    /// where one thread can wait for many answers. None may depend on what another of them does. The answers come in the
    /// order of the requests; after an interrupt none is begun any more.
    fn execute_all(
        &self,
        requests: &[Arc<Request>],
        interrupt: &'static dyn Interrupt,
    ) -> Vec<Result<Reply>>;

    /// Takes a request and returns at once; the answer goes to `done`.
    fn submit(&self, request: Arc<Request>, done: Done) -> Box<dyn Ticket>;

    /// Takes requests that came together, which an engine may carry out together; the tickets come in the same order.
    fn submit_all(&self, requests: Vec<(Arc<Request>, Done)>) -> Vec<Box<dyn Ticket>> {
        requests
            .into_iter()
            .map(|(request, done)| self.submit(request, done))
            .collect()
    }

    /// Closes connections and ends threads; what was submitted is finished first. Later requests are
    /// a `Configuration` error. Closing twice is closing once. An interrupt ends the wait alone.
    fn close(&self, interrupt: &'static dyn Interrupt);

    /// Called on the thread that is about to fork: waits for what is running, and lets go of what
    /// must not be inherited.
    fn before_fork(&self);

    /// Called in the parent after the fork, on the same thread.
    fn in_parent(&self);

    /// Called in the child after the fork, on the same thread.
    fn in_child(&self);
}
