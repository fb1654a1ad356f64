//! Awaited requests: from an event loop to a store, and back. One wake-up of the loop delivers many replies.
//!
//! The requests that the tasks of a loop submit in one turn are passed to the store together, at the start of the next
//! turn, so that an engine can send them together.
//!
//! A store's thread adds a reply to the inbox of the loop and, if the inbox was empty, writes to a file descriptor that
//! the loop watches. It never takes the GIL for that. The descriptor exists while a request is in flight, so an idle store
//! holds none. It is closed one turn of the loop after the last reply, because a task that got a reply often sends another
//! request at once. A loop that cannot watch descriptors is called with `call_soon_threadsafe`.
//!
//! The function that the loop calls owns the descriptor. A loop that still watches a closed descriptor would not watch the
//! next one with the same number, which could be that of another store.
//!
//! No code of Python runs while the lock of the mailboxes is held, and no object is freed: another thread could get the GIL
//! there and wait for the lock.

use std::collections::HashMap;
use std::os::fd::{AsRawFd, RawFd};
use std::sync::Arc;

use mintkey_store::{Done, Request, Ticket};
use pyo3::exceptions::PyNotImplementedError;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::PyCFunction;
use pyo3::{PyTraverseError, PyVisit};

use crate::store::mailbox::{Awaited, Mailbox, Stage};
use crate::store::shared::Shared;
use crate::store::wakeup::{Inbox, Wakeup, descriptors};

/// The most requests that are passed to the store at once. It executes them while the tasks prepare more.
const MAX_SUBMITTED: usize = 32;

/// Submits a request with the others of this turn of the loop. `store` is the object of `shared`.
pub fn send<'py>(
    store: &Bound<'py, PyAny>,
    shared: &Arc<Shared>,
    event_loop: &Bound<'py, PyAny>,
    request: &Arc<Request>,
) -> PyResult<InFlightRequest> {
    let future = event_loop.call_method0(intern!(store.py(), "create_future"))?;
    let identity = event_loop.as_ptr() as usize;
    if !shared.mailboxes.lock().by_loop.contains_key(&identity) {
        let mailbox = open(shared, event_loop, identity)?;
        forget_closed(store.py(), shared);
        let replaced = shared.mailboxes.lock().by_loop.insert(identity, mailbox);
        drop(replaced);
    }
    let (number, full, post) = {
        let mut mailboxes = shared.mailboxes.lock();
        mailboxes.sent += 1;
        let number = mailboxes.sent;
        let Some(mailbox) = mailboxes.by_loop.get_mut(&identity) else {
            return Err(PyNotImplementedError::new_err(
                "the event loop is used from two threads at once",
            ));
        };
        let awaited = Awaited {
            future: future.clone().unbind(),
            request: Arc::clone(request),
            stage: Stage::Collected,
        };
        mailbox.waiting.insert(number, awaited);
        mailbox.outgoing.push(number);
        let first = mailbox.outgoing.len() == 1;
        let full = mailbox.outgoing.len() == MAX_SUBMITTED;
        (
            number,
            full,
            first.then(|| mailbox.post.clone_ref(store.py())),
        )
    };
    if let Some(post) = post {
        event_loop.call_method1(intern!(store.py(), "call_soon"), (post,))?;
    }
    if full {
        post_requests(store.py(), shared, identity)?;
    }
    Ok(InFlightRequest {
        store: store.clone().unbind(),
        shared: Arc::clone(shared),
        identity,
        number,
        future: future.unbind(),
    })
}

/// Removes the mailboxes of loops that were closed with requests in flight.
pub fn forget_closed(py: Python<'_>, shared: &Shared) {
    let loops: Vec<(usize, Py<PyAny>)> = shared
        .mailboxes
        .lock()
        .by_loop
        .iter()
        .map(|(identity, mailbox)| (*identity, mailbox.event_loop.clone_ref(py)))
        .collect();
    for (identity, event_loop) in loops {
        let closed = event_loop.bind(py).call_method0("is_closed");
        if closed
            .and_then(|closed| closed.is_truthy())
            .unwrap_or(false)
        {
            let gone = shared.mailboxes.lock().by_loop.remove(&identity);
            drop(gone);
        }
    }
}

/// A function of a mailbox that its loop calls. It holds the store weakly: the store holds the mailbox, and Python's
/// garbage collector could not see that circle.
fn callback(
    py: Python<'_>,
    shared: &Arc<Shared>,
    identity: usize,
    call: fn(Python<'_>, &Shared, usize) -> PyResult<()>,
) -> PyResult<Py<PyAny>> {
    let shared = Arc::downgrade(shared);
    function(py, move |py| {
        shared
            .upgrade()
            .map_or(Ok(()), |shared| call(py, &shared, identity))
    })
}

fn function(
    py: Python<'_>,
    call: impl Fn(Python<'_>) -> PyResult<()> + Send + Sync + 'static,
) -> PyResult<Py<PyAny>> {
    let function =
        PyCFunction::new_closure(py, None, None, move |arguments, _| call(arguments.py()))?;
    Ok(function.into_any().unbind())
}

/// A new mailbox that wakes this loop.
fn open(shared: &Arc<Shared>, event_loop: &Bound<'_, PyAny>, identity: usize) -> PyResult<Mailbox> {
    let py = event_loop.py();
    Ok(Mailbox {
        event_loop: event_loop.clone().unbind(),
        inbox: watched_inbox(shared, event_loop, identity)?,
        close: callback(py, shared, identity, close_if_idle)?,
        closing: false,
        post: callback(py, shared, identity, post_requests)?,
        outgoing: Vec::new(),
        waiting: HashMap::new(),
    })
}

/// An inbox whose descriptor the loop watches, if it can.
fn watched_inbox(
    shared: &Arc<Shared>,
    event_loop: &Bound<'_, PyAny>,
    identity: usize,
) -> PyResult<Arc<Inbox>> {
    let py = event_loop.py();
    let (read, write) = descriptors()?;
    let descriptor = read.as_raw_fd();
    let inbox = Arc::new(Inbox::new(Wakeup::Descriptor { read, write }));
    let watched = {
        let (shared, inbox) = (Arc::downgrade(shared), inbox.clone());
        function(py, move |py| {
            let mailbox = shared.upgrade();
            match mailbox.filter(|shared| holds(shared, identity, &inbox)) {
                Some(shared) => deliver(py, &shared, identity, &inbox),
                None => stop_watching(py, descriptor),
            }
        })?
    };
    match event_loop.call_method1("add_reader", (descriptor, watched)) {
        Ok(_) => return Ok(inbox),
        Err(error) if error.is_instance_of::<PyNotImplementedError>(py) => {}
        Err(error) => return Err(error),
    }
    let called = callback(py, shared, identity, |py, shared, identity| {
        let inbox = inbox_of(shared, identity);
        inbox.map_or(Ok(()), |inbox| deliver(py, shared, identity, &inbox))
    })?;
    let call_soon = event_loop.getattr("call_soon_threadsafe")?;
    let partial = py.import("functools")?.getattr("partial")?;
    let call = partial.call1((call_soon, called))?.unbind();
    Ok(Arc::new(Inbox::new(Wakeup::Call(call))))
}

/// The inbox of the mailbox of a loop.
fn inbox_of(shared: &Shared, identity: usize) -> Option<Arc<Inbox>> {
    let mailboxes = shared.mailboxes.lock();
    let mailbox = mailboxes.by_loop.get(&identity)?;
    Some(mailbox.inbox.clone())
}

/// Whether the store's mailbox of this loop still has this inbox.
fn holds(shared: &Shared, identity: usize, inbox: &Arc<Inbox>) -> bool {
    inbox_of(shared, identity).is_some_and(|current| Arc::ptr_eq(&current, inbox))
}

/// Makes the running loop stop watching the descriptor of a removed mailbox.
fn stop_watching(py: Python<'_>, descriptor: RawFd) -> PyResult<()> {
    running_loop(py)?
        .call_method1("remove_reader", (descriptor,))
        .map(drop)
}

/// Passes the requests to the store that were submitted since the last turn of the loop.
fn post_requests(py: Python<'_>, shared: &Shared, identity: usize) -> PyResult<()> {
    let (inbox, requests) = {
        let mut mailboxes = shared.mailboxes.lock();
        let Some(mailbox) = mailboxes.by_loop.get_mut(&identity) else {
            return Ok(());
        };
        let numbers = std::mem::take(&mut mailbox.outgoing);
        // Requests that are no longer there were withdrawn.
        let requests: Vec<_> = numbers
            .into_iter()
            .filter_map(|number| {
                let awaited = mailbox.waiting.get(&number)?;
                let future = awaited.future.clone_ref(py);
                Some((number, future, awaited.request.clone()))
            })
            .collect();
        (mailbox.inbox.clone(), requests)
    };
    let (mut sent, mut submissions) = (Vec::new(), Vec::new());
    for (number, future, request) in requests {
        // A cancelled request stays in the mailbox until its task withdraws it.
        let cancelled = future.bind(py).call_method0(intern!(py, "cancelled"))?;
        if !cancelled.is_truthy()? {
            let inbox = inbox.clone();
            let done: Done = Box::new(move |outcome| inbox.put(number, outcome));
            sent.push(number);
            submissions.push((request, done));
        }
    }
    let tickets = shared.engine().submit_all(submissions);
    let mut mailboxes = shared.mailboxes.lock();
    if let Some(mailbox) = mailboxes.by_loop.get_mut(&identity) {
        for (number, ticket) in sent.into_iter().zip(tickets) {
            if let Some(awaited) = mailbox.waiting.get_mut(&number) {
                awaited.stage = Stage::Sent(ticket);
            }
        }
    }
    Ok(())
}

/// Sets the results of the futures whose replies have arrived; called by the loop.
fn deliver(py: Python<'_>, shared: &Shared, identity: usize, inbox: &Inbox) -> PyResult<()> {
    for (number, outcome) in inbox.take() {
        let waiting = shared
            .mailboxes
            .lock()
            .by_loop
            .get_mut(&identity)
            .and_then(|mailbox| mailbox.waiting.remove(&number));
        let Some(Awaited {
            future, request, ..
        }) = waiting
        else {
            continue;
        };
        let future = future.bind(py);
        let answer = shared.answer(py, &request, outcome);
        let set = match answer {
            Ok(value) => future.call_method1(intern!(py, "set_result"), (value,)),
            Err(error) => {
                future.call_method1(intern!(py, "set_exception"), (error.into_value(py),))
            }
        };
        if let Err(error) = set
            && !future.call_method0(intern!(py, "done"))?.is_truthy()?
        {
            return Err(error);
        }
        // Else it was cancelled: no task waits for it.
    }
    close_soon_if_idle(py, shared, identity)
}

/// Makes the loop close an idle mailbox in its next turn, after the tasks that have just got their replies.
fn close_soon_if_idle(py: Python<'_>, shared: &Shared, identity: usize) -> PyResult<()> {
    let idle = {
        let mut mailboxes = shared.mailboxes.lock();
        match mailboxes.by_loop.get_mut(&identity) {
            Some(mailbox) if mailbox.waiting.is_empty() && !mailbox.closing => {
                mailbox.closing = true;
                Some((
                    mailbox.event_loop.clone_ref(py),
                    mailbox.close.clone_ref(py),
                ))
            }
            _ => None,
        }
    };
    if let Some((event_loop, close)) = idle {
        event_loop
            .bind(py)
            .call_method1(intern!(py, "call_soon"), (close,))?;
    }
    Ok(())
}

fn close_if_idle(py: Python<'_>, shared: &Shared, identity: usize) -> PyResult<()> {
    let idle = {
        let mut mailboxes = shared.mailboxes.lock();
        match mailboxes.by_loop.get_mut(&identity) {
            Some(mailbox) if mailbox.waiting.is_empty() => mailboxes.by_loop.remove(&identity),
            Some(mailbox) => {
                mailbox.closing = false;
                None
            }
            None => None,
        }
    };
    if let Some(mailbox) = idle
        && let Wakeup::Descriptor { read, .. } = &mailbox.inbox.wakeup
    {
        mailbox
            .event_loop
            .bind(py)
            .call_method1("remove_reader", (read.as_raw_fd(),))?;
    }
    Ok(())
}

/// `asyncio.get_running_loop()`, without importing asyncio before it is needed.
#[pyfunction]
pub fn running_loop(py: Python<'_>) -> PyResult<Bound<'_, PyAny>> {
    static ASK: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
    let ask = ASK.get_or_try_init(py, || {
        let asyncio = py.import("asyncio")?;
        asyncio.getattr("get_running_loop").map(Bound::unbind)
    })?;
    ask.bind(py).call0()
}

/// A submitted request.
#[pyclass(frozen, module = "mintkey._core")]
pub struct InFlightRequest {
    /// The object of `shared`, for the garbage collector.
    store: Py<PyAny>,
    shared: Arc<Shared>,
    identity: usize,
    number: u64,
    future: Py<PyAny>,
}

impl InFlightRequest {
    /// Removes the request from the mailbox if the store has not got it.
    fn take_back(&self) -> TakenBack {
        let mut mailboxes = self.shared.mailboxes.lock();
        let Some(mailbox) = mailboxes.by_loop.get_mut(&self.identity) else {
            return TakenBack::Gone;
        };
        let Some(awaited) = mailbox.waiting.get_mut(&self.number) else {
            return TakenBack::Gone;
        };
        match std::mem::replace(&mut awaited.stage, Stage::Withdrawn) {
            Stage::Sent(ticket) => TakenBack::Sent(ticket),
            Stage::Withdrawn => TakenBack::Gone,
            Stage::Collected => mailbox
                .waiting
                .remove(&self.number)
                .map_or(TakenBack::Gone, TakenBack::Back),
        }
    }
}

/// The state of a request when it is taken back.
enum TakenBack {
    /// The store had not got it.
    Back(Awaited),
    /// The store has it.
    Sent(Box<dyn Ticket>),
    /// It was answered, or taken back before.
    Gone,
}

#[pymethods]
impl InFlightRequest {
    /// The future of the reply.
    #[getter]
    fn future(&self, py: Python<'_>) -> Py<PyAny> {
        self.future.clone_ref(py)
    }

    /// The future refers to this object, through the task that awaits it. If the loop is closed before the reply arrives,
    /// only the garbage collector can free that circle.
    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        visit.call(&self.store)?;
        visit.call(&self.future)
    }

    /// Takes the request back; True if it was never executed.
    fn withdraw(&self, py: Python<'_>) -> PyResult<bool> {
        let withdrawn = match self.take_back() {
            TakenBack::Gone => return Ok(false),
            TakenBack::Back(awaited) => {
                drop(awaited);
                true
            }
            TakenBack::Sent(ticket) => py.detach(|| ticket.withdraw()),
        };
        if withdrawn {
            let waited = self
                .shared
                .mailboxes
                .lock()
                .by_loop
                .get_mut(&self.identity)
                .and_then(|mailbox| mailbox.waiting.remove(&self.number));
            drop(waited);
            close_if_idle(py, &self.shared, self.identity)?;
        }
        Ok(withdrawn)
    }
}
