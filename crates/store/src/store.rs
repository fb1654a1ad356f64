//! The trait `Store`, which every engine implements.

use std::sync::Arc;

use crate::error::Result;
use crate::reply::Reply;
use crate::request::Request;

/// Whether a blocking call is to be interrupted, as by Ctrl-C.
///
/// A blocking call checks about every 100 ms, on its own thread. A check may take a while (it may run a signal
/// handler), but it must not wait for a thread that is forking.
pub trait Interrupt: Sync {
    /// Returns true if the call has to end.
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

/// Receives the answer to a submitted request. It is called exactly once, on the thread that has executed
/// the request (before `submit` returns, if the store refuses it), unless the request was withdrawn. It
/// must not wait for other requests of the store. An engine wraps it into a
/// [`Submission`](crate::Submission), which calls it even if the engine loses the request.
pub type Done = Box<dyn FnOnce(Result<Reply>) + Send>;

/// A submitted request.
pub trait Ticket: Send + Sync {
    /// Withdraws the request. True: it was never started, and its `done` will not be called. False: it is running or
    /// done.
    fn withdraw(&self) -> bool;
}

/// The properties of a store.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Capabilities {
    /// The engine: `"sqlite"`, `"redis"` or `"dynamodb"`.
    pub engine: &'static str,
    /// The store's address, without a password.
    pub address: String,
    /// Whether missing tables are created at first use.
    pub creates_tables: bool,
    /// Whether a scan returns items in the order of the keys, and can reverse it.
    pub ordered_scans: bool,
    /// The most writes of one request of a batch.
    pub largest_batch: usize,
}

/// The severity of a notice.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Severity {
    /// A connection was opened, or an attempt failed and may be repeated.
    Debug,
    /// Something may go wrong.
    Warning,
    /// Something went wrong that no answer reports.
    Error,
}

/// A report about a store for the log of the program.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Notice {
    /// Its severity.
    pub severity: Severity,
    /// What is wrong, and what to do.
    pub text: String,
}

/// A store. Opening one does no I/O; the first request does.
pub trait Store: Send + Sync {
    /// The properties of the store.
    fn capabilities(&self) -> Capabilities;

    /// The next report for the log. Called after each answer, so it has to be quick.
    fn notice(&self) -> Option<Notice> {
        None
    }

    /// Executes a request on the calling thread, without starting another thread.
    ///
    /// The interrupt is `'static`, because an engine may keep it in a connection.
    ///
    /// # Errors
    ///
    /// The errors of the request; see [`crate::ErrorKind`].
    fn execute(&self, request: &Request, interrupt: &'static dyn Interrupt) -> Result<Reply>;

    /// Executes several requests on the calling thread, without starting another thread: one after the other, or
    /// concurrently if one thread can wait for many answers. They must not depend on each other. The answers are in the
    /// order of the requests. After an interrupt no other request is started. Each request that is metered is finished
    /// when its own reply is there; see [`RequestMetrics::finish`](crate::RequestMetrics::finish).
    fn execute_all(
        &self,
        requests: &[Arc<Request>],
        interrupt: &'static dyn Interrupt,
    ) -> Vec<Result<Reply>>;

    /// Submits a request and returns at once; the answer is passed to `done`.
    fn submit(&self, request: Arc<Request>, done: Done) -> Box<dyn Ticket>;

    /// Submits requests, which an engine may execute together. The tickets are in the same order.
    fn submit_all(&self, requests: Vec<(Arc<Request>, Done)>) -> Vec<Box<dyn Ticket>> {
        requests
            .into_iter()
            .map(|(request, done)| self.submit(request, done))
            .collect()
    }

    /// Closes connections and ends threads after the submitted requests. Later requests fail with a `Configuration`
    /// error. A second call does nothing. An interrupt only ends the wait.
    fn close(&self, interrupt: &'static dyn Interrupt);

    /// Called on the thread that is about to fork: waits for running requests, and closes what must not be inherited.
    fn before_fork(&self);

    /// Called in the parent after the fork, on the same thread.
    fn in_parent(&self);

    /// Called in the child after the fork, on the same thread.
    fn in_child(&self);
}
