//! A store as Python drives it: blocking on the calling thread, or awaited through a mailbox.

use std::sync::Arc;

use mintkey_store::{Error, ErrorKind, Key, Operation, Reply, Request, Severity, Write};
use parking_lot::Mutex;
use pyo3::exceptions::PyStopIteration;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::PyIterator;
use pyo3::types::PyList;
use pyo3::types::iterator::PySendResult;
use pyo3::{PyTraverseError, PyVisit};

use crate::begun::{Begun, settle_first};
use crate::errors::{from_store, of_operation};
use crate::mailbox::{Flight, Mailboxes, forget_closed};
use crate::panics::caught;
use crate::request::{PyRequest, answer};
use crate::signals::{Signals, take_raised};

/// What the binding keeps of an open store; the fork handlers know it too.
pub struct Shared {
    engine: Arc<dyn mintkey_store::Store>,
    /// The URL without its password.
    address: String,
    pub mailboxes: Mutex<Mailboxes>,
}

impl Shared {
    pub fn engine(&self) -> &dyn mintkey_store::Store {
        &*self.engine
    }

    /// A store's answer as Python's: a value, or the exception.
    pub fn answer<'py>(
        &self,
        py: Python<'py>,
        request: &Request,
        result: Result<Reply, Error>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let operation = &request.operation;
        let fail = |mut error: Error, key: Option<&Key>| {
            let names = key_names(operation);
            if error.model.is_none() {
                error = error.of(operation.table());
            }
            // An error about the table is about no item.
            if error.kind != ErrorKind::TableMissing && error.key.is_none() {
                error.key = key.cloned().map(Box::new);
            }
            of_operation(
                py,
                error,
                operation.is_write(),
                (&names.0, names.1.as_deref()),
                &self.address,
            )
        };
        self.log_notices(py)?;
        match result {
            Ok(reply) => answer(py, reply, |place, error| {
                let key = match operation {
                    Operation::BatchWrite(batch) => batch.writes.get(place).map(Write::key),
                    _ => None,
                };
                fail(error, key)
            }),
            Err(error) => Err(fail(error, operation.key())),
        }
    }

    /// Logs what the engine has to report.
    fn log_notices(&self, py: Python<'_>) -> PyResult<()> {
        while let Some(notice) = self.engine.notice() {
            let is_error = notice.severity == Severity::Error;
            let engine = self.engine.capabilities().engine;
            py.import("mintkey.stores")?
                .call_method1("_log", (engine, is_error, notice.text))?;
        }
        Ok(())
    }

    /// Before a fork: the store gets ready, and no other thread is inside the mailboxes.
    pub fn before_fork(&self) {
        self.engine.before_fork();
        std::mem::forget(self.mailboxes.lock());
    }

    /// After a fork, in the parent.
    pub fn in_parent(&self) {
        self.unlock_mailboxes();
        self.engine.in_parent();
    }

    /// After a fork, in the child, where the parent's event loops mean nothing.
    pub fn in_child(&self) {
        self.unlock_mailboxes();
        self.mailboxes.lock().abandon();
        self.engine.in_child();
    }

    #[allow(unsafe_code, reason = "the lock is held across the fork")]
    fn unlock_mailboxes(&self) {
        // SAFETY: `before_fork` locked it on this thread and forgot the guard.
        unsafe { self.mailboxes.force_unlock() };
    }
}

/// An open store.
#[pyclass(frozen, module = "mintkey._core")]
pub struct Store {
    shared: Arc<Shared>,
}

#[pymethods]
impl Store {
    /// Opens the store at a URL; nothing is connected before the first request.
    #[new]
    fn new(py: Python<'_>, url: &str) -> PyResult<Self> {
        let engine = open(url).map_err(|error| from_store(py, error, None, None))?;
        let address = engine.capabilities().address;
        let shared = Arc::new(Shared {
            engine,
            address,
            mailboxes: Mutex::default(),
        });
        crate::fork::watch(&shared);
        Ok(Self { shared })
    }

    /// A store leads to the futures of its requests, these to their tasks, and the tasks back to the store.
    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        // A mailbox in use belongs to something that lives.
        let mailboxes = self.shared.mailboxes.try_lock();
        mailboxes.map_or(Ok(()), |mailboxes| mailboxes.traverse(&visit))
    }

    fn __clear__(&self) {
        let gone = std::mem::take(&mut *self.shared.mailboxes.lock());
        drop(gone);
    }

    /// The URL without its password.
    #[getter]
    fn address(&self) -> &str {
        &self.shared.address
    }

    /// The engine's name.
    #[getter]
    fn engine(&self) -> &'static str {
        self.shared.engine.capabilities().engine
    }

    /// Whether a missing table is made at its first use.
    #[getter]
    fn creates_tables(&self) -> bool {
        self.shared.engine.capabilities().creates_tables
    }

    /// Whether a scan comes in the order of the keys.
    #[getter]
    fn ordered_scans(&self) -> bool {
        self.shared.engine.capabilities().ordered_scans
    }

    /// Carries a request out on this thread, with the GIL released.
    fn execute<'py>(&self, py: Python<'py>, request: &PyRequest) -> PyResult<Bound<'py, PyAny>> {
        settle_first(py)?;
        caught(py, || {
            let result = py.detach(|| self.shared.engine.execute(&request.request, &Signals));
            // What a signal handler raised is told in any case, and does not live on into another call: the interrupted
            // part may be one of a batch, or none at all when the answer came in the same moment.
            take_raised().map_or_else(|| self.shared.answer(py, &request.request, result), Err)
        })
    }

    /// Makes a request ready to be sent from this thread, to be waited for later; None where it has to be executed.
    fn begin(slf: &Bound<'_, Self>, request: &PyRequest) -> Option<Begun> {
        let begun = slf.get().shared.engine.begin(&request.request, &Signals)?;
        Some(Begun::new(slf, &request.request, begun))
    }

    /// Carries several requests out on this thread, with the GIL released; in order, what each was answered, or the
    /// exception that it failed with.
    fn execute_all<'py>(
        &self,
        py: Python<'py>,
        requests: &Bound<'py, PyList>,
    ) -> PyResult<Vec<Bound<'py, PyAny>>> {
        let requests = requests
            .iter()
            .map(|request| Ok(request.cast::<PyRequest>()?.get().request.clone()))
            .collect::<PyResult<Vec<_>>>()?;
        settle_first(py)?;
        let results = caught(py, || {
            Ok(py.detach(|| self.shared.engine.execute_all(&requests, &Signals)))
        })?;
        let mut raised = take_raised();
        let told = |(request, result): (&Arc<Request>, Result<Reply, Error>)| {
            let interrupted =
                matches!(&result, Err(error) if matches!(error.kind, ErrorKind::Interrupted(_)));
            raised
                .take_if(|_| interrupted)
                .map_or_else(|| self.shared.answer(py, request, result), Err)
                .unwrap_or_else(|error| error.into_value(py).into_bound(py).into_any())
        };
        let answers = requests.iter().zip(results).map(told).collect();
        // None was interrupted, and yet somebody wants out.
        raised.map_or(Ok(answers), Err)
    }

    /// Starts a request; its answer comes to the future of what is returned.
    fn submit<'py>(
        slf: &Bound<'py, Self>,
        request: &PyRequest,
        event_loop: &Bound<'py, PyAny>,
    ) -> PyResult<Flight> {
        settle_first(slf.py())?;
        caught(slf.py(), || {
            Mailboxes::send(slf, event_loop, request.request.clone())
        })
    }

    /// Closes connections and ends threads, after what is running.
    fn close(&self, py: Python<'_>) -> PyResult<()> {
        py.detach(|| self.shared.engine.close(&Signals));
        forget_closed(py, &self.shared);
        self.shared.log_notices(py)?;
        take_raised().map_or(Ok(()), Err)
    }
}

/// Drives an operation to its end and gives its result. `execute` is the store, or is called with each request; what an
/// operation asks beside requests, `others` is called with.
#[pyfunction]
pub fn drive<'py>(
    operation: &Bound<'py, PyIterator>,
    execute: &Bound<'py, PyAny>,
    others: &Bound<'py, PyAny>,
) -> PyResult<Bound<'py, PyAny>> {
    let py = operation.py();
    let store = execute.cast_exact::<Store>().ok();
    let mut step = operation.send(&py.None().into_bound(py))?;
    loop {
        let asked = match step {
            PySendResult::Return(result) => return Ok(result),
            PySendResult::Next(asked) => asked,
        };
        let reply = match (asked.cast_exact::<PyRequest>(), store) {
            (Ok(request), Some(store)) => store.get().execute(py, request.get()),
            (Ok(request), None) => execute.call1((request,)),
            (Err(_), _) => others.call1((asked,)),
        };
        step = match reply {
            Ok(reply) => operation.send(&reply)?,
            // The operation decides, Ctrl-C included.
            Err(error) => {
                match operation.call_method1(intern!(py, "throw"), (error.into_value(py),)) {
                    Ok(asked) => PySendResult::Next(asked),
                    Err(end) if end.is_instance_of::<PyStopIteration>(py) => {
                        PySendResult::Return(end.value(py).getattr(intern!(py, "value"))?)
                    }
                    Err(error) => return Err(error),
                }
            }
        };
    }
}

impl Store {
    pub fn shared(&self) -> &Arc<Shared> {
        &self.shared
    }
}

fn key_names(operation: &Operation) -> (String, Option<String>) {
    let table = operation.table();
    (
        table.partition.name.to_string(),
        table.sort.as_ref().map(|sort| sort.name.to_string()),
    )
}

/// The engine for a URL's scheme.
fn open(url: &str) -> Result<Arc<dyn mintkey_store::Store>, Error> {
    const KNOWN: &str = "sqlite:///file.db for a file, sqlite:// for memory, redis://host:6379/0 for a Redis \
                         server, redis-cluster://host:6379 for a Cluster, dynamodb://region for DynamoDB";
    // Anything else before the "://" is no scheme, and may be a part of a password.
    let is_scheme = |text: &&str| {
        text.bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || b"+-.".contains(&byte))
    };
    let scheme = url.split_once("://").map(|(scheme, _)| scheme);
    match scheme.filter(is_scheme) {
        Some("sqlite") => mintkey_sqlite::open(url),
        Some("dynamodb") => mintkey_dynamodb::open(url),
        Some("redis" | "rediss" | "redis-cluster" | "rediss-cluster" | "unix") => {
            mintkey_redis::open(url)
        }
        Some(other) => Err(Error::configuration(format!(
            "there is no store for URLs that begin with {other}://. Use {KNOWN}"
        ))),
        None => Err(Error::configuration(format!(
            "a store's URL begins with its scheme: {KNOWN}"
        ))),
    }
}
