//! `Store`, with blocking and awaited requests, and `drive`, which runs an operation.

mod event_loop;
mod fork;
mod mailbox;
mod request;
mod shared;
mod signals;
mod wakeup;

use std::sync::Arc;

use mintkey_store::{Error, ErrorKind, Reply, Request};
use pyo3::exceptions::PyStopIteration;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::iterator::PySendResult;
use pyo3::types::{PyIterator, PyList};
use pyo3::{PyTraverseError, PyVisit};

use crate::errors::from_store;
use crate::panics::caught;

pub use event_loop::{InFlightRequest, running_loop};
pub use fork::register;
pub use request::{PyPage, PyRequest};
pub use signals::{after_fork, before_fork};

use event_loop::{forget_closed, send};
use shared::Shared;
use signals::{Signals, take_raised};

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
        let shared = Arc::new(Shared::new(engine));
        fork::watch(&shared);
        Ok(Self { shared })
    }

    /// A store refers to the futures of its requests, these to their tasks, and the tasks to the store.
    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        // Locked mailboxes are in use, so the store is not garbage.
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
        self.shared.engine().capabilities().engine
    }

    /// Whether a missing table is created at its first use.
    #[getter]
    fn creates_tables(&self) -> bool {
        self.shared.engine().capabilities().creates_tables
    }

    /// Whether a scan returns items in the order of the keys.
    #[getter]
    fn ordered_scans(&self) -> bool {
        self.shared.engine().capabilities().ordered_scans
    }

    /// The most writes of one request of a batch.
    #[getter]
    fn largest_batch(&self) -> usize {
        self.shared.engine().capabilities().largest_batch
    }

    /// Executes a request on this thread, with the GIL released.
    fn execute<'py>(&self, py: Python<'py>, request: &PyRequest) -> PyResult<Bound<'py, PyAny>> {
        caught(py, || {
            let result = py.detach(|| self.shared.engine().execute(&request.request, &Signals));
            // An exception of a signal handler is always raised here, and not by a later call: a part of a batch may have
            // been interrupted, or nothing if the reply arrived at the same time.
            take_raised().map_or_else(|| self.shared.answer(py, &request.request, result), Err)
        })
    }

    /// Executes several requests on this thread, with the GIL released. Returns the reply or the exception of each, in
    /// order.
    fn execute_all<'py>(
        &self,
        py: Python<'py>,
        requests: &Bound<'py, PyList>,
    ) -> PyResult<Vec<Bound<'py, PyAny>>> {
        let requests = requests
            .iter()
            .map(|request| Ok(request.cast::<PyRequest>()?.get().request.clone()))
            .collect::<PyResult<Vec<_>>>()?;
        let results = caught(py, || {
            Ok(py.detach(|| self.shared.engine().execute_all(&requests, &Signals)))
        })?;
        let mut raised = take_raised();
        let reply = |(request, result): (&Arc<Request>, Result<Reply, Error>)| {
            let interrupted =
                matches!(&result, Err(error) if matches!(error.kind, ErrorKind::Interrupted(_)));
            raised
                .take_if(|_| interrupted)
                .map_or_else(|| self.shared.answer(py, request, result), Err)
                .unwrap_or_else(|error| error.into_value(py).into_bound(py).into_any())
        };
        let answers = requests.iter().zip(results).map(reply).collect();
        // No request was interrupted, but a signal handler has raised.
        raised.map_or(Ok(answers), Err)
    }

    /// Submits a request. Its reply is set as the result of the future.
    fn submit<'py>(
        slf: &Bound<'py, Self>,
        request: &PyRequest,
        event_loop: &Bound<'py, PyAny>,
    ) -> PyResult<InFlightRequest> {
        caught(slf.py(), || {
            send(
                slf.as_any(),
                &slf.get().shared,
                event_loop,
                &request.request,
            )
        })
    }

    /// Closes connections and ends threads after the running requests.
    fn close(&self, py: Python<'_>) -> PyResult<()> {
        py.detach(|| self.shared.engine().close(&Signals));
        forget_closed(py, &self.shared);
        self.shared.log_notices(py)?;
        take_raised().map_or(Ok(()), Err)
    }
}

/// Runs an operation and returns its result. `execute` is the store, or a function that is called with each request;
/// `others` is called with what else the operation yields.
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
            // The operation handles every exception, also that of Ctrl-C.
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

/// The engine for a URL's scheme.
fn open(url: &str) -> Result<Arc<dyn mintkey_store::Store>, Error> {
    const KNOWN: &str = "sqlite:///file.db for a file, sqlite:// for memory, redis://host:6379/0 for a Redis \
                         server, redis-cluster://host:6379 for a Cluster, dynamodb://region for DynamoDB";
    // Any other text before the "://" is not a scheme, and may be a part of a password.
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
