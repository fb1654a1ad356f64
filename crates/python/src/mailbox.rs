//! Answers on their way to an event loop: many replies, one wake-up.
//!
//! A store's thread puts an answer into the loop's mailbox and, when the mailbox was empty, writes to one file
//! descriptor that the loop watches. It never takes the GIL for it. The descriptor is there while something is in
//! flight, so an idle store holds nothing. A loop that cannot watch descriptors is called with `call_soon_threadsafe`.
//!
//! Nothing of Python's runs while the lock of the mailboxes is held, not even the end of an object: another thread could
//! get the GIL there and wait for the lock with it.

use std::collections::HashMap;
use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::sync::Arc;

use mintkey_store::{Done, Reply, Request, Ticket};
use parking_lot::Mutex;
use pyo3::exceptions::PyNotImplementedError;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::PyCFunction;

use crate::store::{Shared, Store};

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
        if !first {
            return;
        }
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
    waiting: HashMap<u64, (Py<PyAny>, Arc<Request>)>,
}

/// The mailboxes of one store, by the identity of their loop.
#[derive(Default)]
pub struct Mailboxes {
    by_loop: HashMap<usize, Mailbox>,
    sent: u64,
}

impl Mailboxes {
    /// A place for the answer to a request, and what the store calls with the answer.
    pub fn expect<'py>(
        store: &Bound<'py, Store>,
        event_loop: &Bound<'py, PyAny>,
        request: Arc<Request>,
    ) -> PyResult<(Place, Done)> {
        let future = event_loop.call_method0("create_future")?;
        let identity = event_loop.as_ptr() as usize;
        let shared = store.get().shared();
        if !shared.mailboxes.lock().by_loop.contains_key(&identity) {
            let mailbox = open(store, event_loop, identity)?;
            forget_closed(store.py(), shared);
            let replaced = shared.mailboxes.lock().by_loop.insert(identity, mailbox);
            drop(replaced);
        }
        let (number, inbox) = {
            let mut mailboxes = shared.mailboxes.lock();
            mailboxes.sent += 1;
            let number = mailboxes.sent;
            let Some(mailbox) = mailboxes.by_loop.get_mut(&identity) else {
                return Err(PyNotImplementedError::new_err(
                    "the event loop is used from two threads at once",
                ));
            };
            mailbox
                .waiting
                .insert(number, (future.clone().unbind(), request));
            (number, mailbox.inbox.clone())
        };
        let place = Place {
            store: store.clone().unbind(),
            identity,
            number,
            future: future.unbind(),
        };
        Ok((place, Box::new(move |outcome| inbox.put(number, outcome))))
    }

    /// Forgets everything, in a child: its loops are other loops, and the objects belong to the parent's past.
    pub fn abandon(&mut self) {
        std::mem::forget(std::mem::take(&mut self.by_loop));
    }
}

/// Takes out the mailboxes of loops that were closed with something in flight.
fn forget_closed(py: Python<'_>, shared: &Shared) {
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

/// A new mailbox that wakes this loop.
fn open<'py>(
    store: &Bound<'py, Store>,
    event_loop: &Bound<'py, PyAny>,
    identity: usize,
) -> PyResult<Mailbox> {
    let py = store.py();
    let owner: Py<Store> = store.clone().unbind();
    let deliver = PyCFunction::new_closure(py, None, None, move |arguments, _| -> PyResult<()> {
        deliver(owner.bind(arguments.py()), identity)
    })?;
    let (read, write) = descriptors()?;
    let bell = match event_loop.call_method1("add_reader", (read.as_raw_fd(), &deliver)) {
        Ok(_) => Bell::Descriptor { read, write },
        Err(error) if error.is_instance_of::<PyNotImplementedError>(py) => {
            let ring = event_loop.getattr("call_soon_threadsafe")?;
            let partial = py.import("functools")?.getattr("partial")?;
            Bell::Call(partial.call1((ring, &deliver))?.unbind())
        }
        Err(error) => return Err(error),
    };
    let inbox = Arc::new(Inbox {
        arrived: Mutex::default(),
        bell,
    });
    Ok(Mailbox {
        event_loop: event_loop.clone().unbind(),
        inbox,
        waiting: HashMap::new(),
    })
}

/// Hands the answers that have arrived to their futures; called by the loop.
fn deliver(store: &Bound<'_, Store>, identity: usize) -> PyResult<()> {
    let py = store.py();
    let shared = store.get().shared();
    let Some(inbox) = shared
        .mailboxes
        .lock()
        .by_loop
        .get(&identity)
        .map(|mailbox| mailbox.inbox.clone())
    else {
        return Ok(());
    };
    for (number, outcome) in inbox.take() {
        let waiting = shared
            .mailboxes
            .lock()
            .by_loop
            .get_mut(&identity)
            .and_then(|mailbox| mailbox.waiting.remove(&number));
        let Some((future, request)) = waiting else {
            continue;
        };
        let future = future.bind(py);
        let answer = store.get().answer(py, &request, outcome);
        if future.call_method0("done")?.is_truthy()? {
            continue; // cancelled: the write is finished, and nobody waits for it
        }
        match answer {
            Ok(value) => future.call_method1("set_result", (value,))?,
            Err(error) => future.call_method1("set_exception", (error.into_value(py),))?,
        };
    }
    close_if_idle(py, shared, identity)
}

fn close_if_idle(py: Python<'_>, shared: &Shared, identity: usize) -> PyResult<()> {
    let idle = {
        let mut mailboxes = shared.mailboxes.lock();
        match mailboxes.by_loop.get(&identity) {
            Some(mailbox) if mailbox.waiting.is_empty() => mailboxes.by_loop.remove(&identity),
            _ => None,
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

/// Where the answer to one request is awaited.
pub struct Place {
    store: Py<Store>,
    identity: usize,
    number: u64,
    future: Py<PyAny>,
}

/// A submitted request whose answer is awaited.
#[pyclass(frozen, module = "mintkey._core")]
pub struct Flight {
    place: Place,
    ticket: Box<dyn Ticket>,
}

impl Flight {
    pub fn new(place: Place, ticket: Box<dyn Ticket>) -> Self {
        Self { place, ticket }
    }
}

#[pymethods]
impl Flight {
    /// The future of the answer.
    #[getter]
    fn future(&self, py: Python<'_>) -> Py<PyAny> {
        self.place.future.clone_ref(py)
    }

    /// Takes the request back; True if it was never begun.
    fn withdraw(&self, py: Python<'_>) -> PyResult<bool> {
        let withdrawn = py.detach(|| self.ticket.withdraw());
        if withdrawn {
            let shared = self.place.store.get().shared();
            let waited = shared
                .mailboxes
                .lock()
                .by_loop
                .get_mut(&self.place.identity)
                .and_then(|mailbox| mailbox.waiting.remove(&self.place.number));
            drop(waited);
            close_if_idle(py, shared, self.place.identity)?;
        }
        Ok(withdrawn)
    }
}
