//! Requests on their way from an event loop, and answers on their way back: many of them, one wake-up.
//!
//! What the tasks of a loop submit in one of its turns goes to the store together, at the start of the next turn, so
//! that an engine can send together what comes together.
//!
//! A store's thread puts an answer into the loop's mailbox and, when the mailbox was empty, writes to one file
//! descriptor that the loop watches. It never takes the GIL for it. The descriptor is there while something is in
//! flight, so an idle store holds nothing; it goes one turn of the loop after the last answer, for whoever was answered
//! often asks again at once. A loop that cannot watch descriptors is called with `call_soon_threadsafe`.
//!
//! The function that the loop calls owns the descriptor. A loop that still watches a descriptor that was closed does not
//! watch the next one of the same number, which could be that of another store.
//!
//! Nothing of Python's runs while the lock of the mailboxes is held, not even the end of an object: another thread could
//! get the GIL there and wait for the lock with it.

use std::collections::HashMap;
use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::sync::Arc;

use mintkey_store::{Done, Reply, Request, Ticket};
use parking_lot::Mutex;
use pyo3::exceptions::PyNotImplementedError;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::PyCFunction;
use pyo3::{PyTraverseError, PyVisit};

use crate::store::{Shared, Store};

/// So many requests go to the store at once: it is at work while the loop's tasks prepare more.
const SACK: usize = 16;

type Outcome = Result<Reply, mintkey_store::Error>;

/// What arrived, and how to tell the loop.
struct Inbox {
    arrived: Mutex<Vec<(u64, Outcome)>>,
    bell: Bell,
}

enum Bell {
    /// The loop watches the read end; on Linux both ends are one eventfd.
    Descriptor { read: Arc<File>, write: Arc<File> },
    /// The loop is called from the store's thread.
    Call(Py<PyAny>),
}

impl Inbox {
    fn put(&self, number: u64, outcome: Outcome) {
        let first = {
            let mut arrived = self.arrived.lock();
            arrived.push((number, outcome));
            arrived.len() == 1
        };
        if first {
            self.ring();
        }
    }

    /// Makes the loop call `deliver`.
    fn ring(&self) {
        match &self.bell {
            // A failed write means a full pipe: the loop has been woken already.
            Bell::Descriptor { write, .. } => drop((&**write).write(&1_u64.to_ne_bytes())),
            Bell::Call(ring) => Python::attach(|py| {
                // A closed loop has nobody left who waits.
                drop(ring.call0(py));
            }),
        }
    }

    fn take(&self) -> Vec<(u64, Outcome)> {
        if let Bell::Descriptor { read, .. } = &self.bell {
            let mut buffer = [0; 64];
            drop((&**read).read(&mut buffer));
        }
        std::mem::take(&mut *self.arrived.lock())
    }
}

/// The mailbox of one loop, while something is in flight for it.
struct Mailbox {
    event_loop: Py<PyAny>,
    inbox: Arc<Inbox>,
    /// Closes this mailbox if nothing is in flight; called by the loop.
    leave: Py<PyAny>,
    /// Whether the loop has been asked to call that.
    leaving: bool,
    /// Hands the store what has come together; called by the loop.
    post: Py<PyAny>,
    /// What has come together, by number.
    outgoing: Vec<u64>,
    waiting: HashMap<u64, Awaited>,
}

impl Drop for Mailbox {
    /// The loop, which knows the mailbox's descriptor, is told to look: it stops watching it. Only the loop may do that,
    /// and a store can end in any thread.
    fn drop(&mut self) {
        if matches!(self.inbox.bell, Bell::Descriptor { .. }) {
            self.inbox.ring();
        }
    }
}

/// A request whose answer is awaited.
struct Awaited {
    future: Py<PyAny>,
    request: Arc<Request>,
    stage: Stage,
}

/// Where a request is.
enum Stage {
    /// Here: the store has not got it.
    Here,
    /// The store has it.
    Sent(Box<dyn Ticket>),
    /// The store has it, and was asked to give it back.
    AskedBack,
}

/// The mailboxes of one store, by the identity of their loop.
#[derive(Default)]
pub struct Mailboxes {
    by_loop: HashMap<usize, Mailbox>,
    sent: u64,
}

impl Mailboxes {
    /// Lets a request go to the store with the others of this turn of the loop; gives the place of the answer.
    pub fn send<'py>(
        store: &Bound<'py, Store>,
        event_loop: &Bound<'py, PyAny>,
        request: Arc<Request>,
    ) -> PyResult<Flight> {
        let future = event_loop.call_method0(intern!(store.py(), "create_future"))?;
        let identity = event_loop.as_ptr() as usize;
        let shared = store.get().shared();
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
                request,
                stage: Stage::Here,
            };
            mailbox.waiting.insert(number, awaited);
            mailbox.outgoing.push(number);
            let first = mailbox.outgoing.len() == 1;
            let full = mailbox.outgoing.len() == SACK;
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
            self::post(store.py(), shared, identity)?;
        }
        Ok(Flight {
            store: store.clone().unbind(),
            identity,
            number,
            future: future.unbind(),
        })
    }

    /// Visits what the garbage collector can free only together with the store.
    pub fn traverse(&self, visit: &PyVisit<'_>) -> Result<(), PyTraverseError> {
        for mailbox in self.by_loop.values() {
            visit.call(&mailbox.event_loop)?;
            for awaited in mailbox.waiting.values() {
                visit.call(&awaited.future)?;
            }
        }
        Ok(())
    }

    /// Forgets everything, in a child: its loops are other loops, and the objects belong to the parent's past.
    pub fn abandon(&mut self) {
        std::mem::forget(std::mem::take(&mut self.by_loop));
    }
}

/// Takes out the mailboxes of loops that were closed with something in flight.
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

/// A function of a mailbox for its loop to call. It does not keep the store, which keeps the mailbox: Python's garbage
/// collector could not see that circle.
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
        leave: callback(py, shared, identity, close_if_idle)?,
        leaving: false,
        post: callback(py, shared, identity, post)?,
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
    let inbox = Arc::new(Inbox {
        arrived: Mutex::default(),
        bell: Bell::Descriptor { read, write },
    });
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
    let ring = event_loop.getattr("call_soon_threadsafe")?;
    let partial = py.import("functools")?.getattr("partial")?;
    Ok(Arc::new(Inbox {
        arrived: Mutex::default(),
        bell: Bell::Call(partial.call1((ring, called))?.unbind()),
    }))
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

/// Lets the running loop forget the descriptor of a mailbox that is gone.
fn stop_watching(py: Python<'_>, descriptor: RawFd) -> PyResult<()> {
    running_loop(py)?
        .call_method1("remove_reader", (descriptor,))
        .map(drop)
}

/// Hands the store what was submitted since the last turn of the loop.
fn post(py: Python<'_>, shared: &Shared, identity: usize) -> PyResult<()> {
    let (inbox, requests) = {
        let mut mailboxes = shared.mailboxes.lock();
        let Some(mailbox) = mailboxes.by_loop.get_mut(&identity) else {
            return Ok(());
        };
        let numbers = std::mem::take(&mut mailbox.outgoing);
        // Those that are not there any more were withdrawn.
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
    let (mut sent, mut parcels) = (Vec::new(), Vec::new());
    for (number, future, request) in requests {
        // One that was cancelled stays here until its task withdraws it.
        let cancelled = future.bind(py).call_method0(intern!(py, "cancelled"))?;
        if !cancelled.is_truthy()? {
            let inbox = inbox.clone();
            let done: Done = Box::new(move |outcome| inbox.put(number, outcome));
            sent.push(number);
            parcels.push((request, done));
        }
    }
    let tickets = shared.engine().submit_all(parcels);
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

/// Hands the answers that have arrived to their futures; called by the loop.
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
        let told = match answer {
            Ok(value) => future.call_method1(intern!(py, "set_result"), (value,)),
            Err(error) => {
                future.call_method1(intern!(py, "set_exception"), (error.into_value(py),))
            }
        };
        if let Err(error) = told
            && !future.call_method0(intern!(py, "done"))?.is_truthy()?
        {
            return Err(error);
        }
        // Else it was cancelled: the write is finished, and nobody waits for it.
    }
    leave_if_idle(py, shared, identity)
}

/// Lets the loop close an idle mailbox in its next turn, behind those who were just answered.
fn leave_if_idle(py: Python<'_>, shared: &Shared, identity: usize) -> PyResult<()> {
    let idle = {
        let mut mailboxes = shared.mailboxes.lock();
        match mailboxes.by_loop.get_mut(&identity) {
            Some(mailbox) if mailbox.waiting.is_empty() && !mailbox.leaving => {
                mailbox.leaving = true;
                Some((
                    mailbox.event_loop.clone_ref(py),
                    mailbox.leave.clone_ref(py),
                ))
            }
            _ => None,
        }
    };
    if let Some((event_loop, leave)) = idle {
        event_loop
            .bind(py)
            .call_method1(intern!(py, "call_soon"), (leave,))?;
    }
    Ok(())
}

fn close_if_idle(py: Python<'_>, shared: &Shared, identity: usize) -> PyResult<()> {
    let idle = {
        let mut mailboxes = shared.mailboxes.lock();
        match mailboxes.by_loop.get_mut(&identity) {
            Some(mailbox) if mailbox.waiting.is_empty() => mailboxes.by_loop.remove(&identity),
            Some(mailbox) => {
                mailbox.leaving = false;
                None
            }
            None => None,
        }
    };
    if let Some(mailbox) = idle
        && let Bell::Descriptor { read, .. } = &mailbox.inbox.bell
    {
        mailbox
            .event_loop
            .bind(py)
            .call_method1("remove_reader", (read.as_raw_fd(),))?;
    }
    Ok(())
}

/// The two ends of a bell, which on Linux are one: what is written to it can be read from it, and neither ever waits.
#[cfg(target_os = "linux")]
#[allow(unsafe_code, reason = "libc's interface")]
fn descriptors() -> PyResult<(Arc<File>, Arc<File>)> {
    // SAFETY: eventfd takes no pointers; the descriptor it gives is new and owned by nobody else.
    let descriptor = unsafe {
        let raw = libc::eventfd(0, libc::EFD_CLOEXEC | libc::EFD_NONBLOCK);
        if raw < 0 {
            return Err(std::io::Error::last_os_error().into());
        }
        OwnedFd::from_raw_fd(raw)
    };
    let both = Arc::new(File::from(descriptor));
    Ok((both.clone(), both))
}

/// The two ends of a bell: what is written to one is read from the other, and neither ever waits.
#[cfg(not(target_os = "linux"))]
fn descriptors() -> PyResult<(Arc<File>, Arc<File>)> {
    let (read, write) = std::os::unix::net::UnixStream::pair()?;
    read.set_nonblocking(true)?;
    write.set_nonblocking(true)?;
    Ok((
        Arc::new(File::from(OwnedFd::from(read))),
        Arc::new(File::from(OwnedFd::from(write))),
    ))
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

/// A submitted request whose answer is awaited.
#[pyclass(frozen, module = "mintkey._core")]
pub struct Flight {
    store: Py<Store>,
    identity: usize,
    number: u64,
    future: Py<PyAny>,
}

impl Flight {
    /// Takes the request out of the mailbox, unless the store has it.
    fn keep_back(&self, shared: &Shared) -> Kept {
        let mut mailboxes = shared.mailboxes.lock();
        let Some(mailbox) = mailboxes.by_loop.get_mut(&self.identity) else {
            return Kept::Gone;
        };
        let Some(awaited) = mailbox.waiting.get_mut(&self.number) else {
            return Kept::Gone;
        };
        match std::mem::replace(&mut awaited.stage, Stage::AskedBack) {
            Stage::Sent(ticket) => Kept::Sent(ticket),
            Stage::AskedBack => Kept::Gone,
            Stage::Here => mailbox
                .waiting
                .remove(&self.number)
                .map_or(Kept::Gone, Kept::Back),
        }
    }
}

/// What became of a request that is taken back.
enum Kept {
    /// The store never got it.
    Back(Awaited),
    /// The store has it.
    Sent(Box<dyn Ticket>),
    /// It was answered, or taken back before.
    Gone,
}

#[pymethods]
impl Flight {
    /// The future of the answer.
    #[getter]
    fn future(&self, py: Python<'_>) -> Py<PyAny> {
        self.future.clone_ref(py)
    }

    /// The future leads back to here, through the task that awaits it: only the garbage collector ends that circle where
    /// the loop was closed before the answer came.
    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        visit.call(&self.store)?;
        visit.call(&self.future)
    }

    /// Takes the request back; True if it was never begun.
    fn withdraw(&self, py: Python<'_>) -> PyResult<bool> {
        let shared = self.store.get().shared();
        let withdrawn = match self.keep_back(shared) {
            Kept::Gone => return Ok(false),
            Kept::Back(awaited) => {
                drop(awaited);
                true
            }
            Kept::Sent(ticket) => py.detach(|| ticket.withdraw()),
        };
        if withdrawn {
            let waited = shared
                .mailboxes
                .lock()
                .by_loop
                .get_mut(&self.identity)
                .and_then(|mailbox| mailbox.waiting.remove(&self.number));
            drop(waited);
            close_if_idle(py, shared, self.identity)?;
        }
        Ok(withdrawn)
    }
}
