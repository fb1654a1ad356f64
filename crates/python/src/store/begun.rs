//! A request in two halves: its thread sends it, does other work, and then waits for the reply.
//!
//! Before the thread sends another request, the reply of this one is read. So the requests of a thread are executed in
//! order.

use std::cell::RefCell;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;

use mintkey_store::{Error, Reply, Request};
use parking_lot::Mutex;
use pyo3::exceptions::PyRuntimeError;
use pyo3::prelude::*;

use crate::store::shared::Shared;
use crate::store::signals::take_raised;

/// How long a cancelled request waits for its reply.
const CANCELLED_WAIT: Duration = Duration::from_millis(100);

thread_local! {
    static IN_FLIGHT: RefCell<Weak<InFlight>> = const { RefCell::new(Weak::new()) };
}

/// The request and its reply.
struct InFlight {
    open: Mutex<Option<Box<dyn mintkey_store::Begun>>>,
    answer: Mutex<Option<Result<Reply, Error>>>,
    cancelled: AtomicBool,
}

impl InFlight {
    /// Waits for the reply, unless it was read before.
    fn settle(&self) {
        // Not under the lock: it may need the GIL.
        let open = self.open.lock().take();
        if let Some(begun) = open {
            let within = self
                .cancelled
                .load(Ordering::SeqCst)
                .then_some(CANCELLED_WAIT);
            let answer = begun.finish(within);
            *self.answer.lock() = Some(answer);
        }
    }
}

/// Reads the reply of the request that this thread has in flight, before it sends another one.
pub fn settle_first(py: Python<'_>) -> PyResult<()> {
    let Some(before) = IN_FLIGHT.with_borrow_mut(|own| std::mem::take(own).upgrade()) else {
        return Ok(());
    };
    py.detach(|| before.settle());
    take_raised().map_or(Ok(()), Err)
}

/// A request that was prepared or sent, whose reply has not been read.
#[pyclass(frozen, module = "mintkey._core")]
pub struct Begun {
    store: Arc<Shared>,
    request: Arc<Request>,
    in_flight: Arc<InFlight>,
}

impl Begun {
    /// A request that the store has prepared.
    pub fn new(
        store: &Arc<Shared>,
        request: &Arc<Request>,
        begun: Box<dyn mintkey_store::Begun>,
    ) -> Self {
        Self {
            store: Arc::clone(store),
            request: Arc::clone(request),
            in_flight: Arc::new(InFlight {
                open: Mutex::new(Some(begun)),
                answer: Mutex::default(),
                cancelled: AtomicBool::new(false),
            }),
        }
    }
}

#[pymethods]
impl Begun {
    /// Sends it, with the GIL released, and does not wait for the reply.
    fn send(&self, py: Python<'_>) -> PyResult<()> {
        settle_first(py)?;
        let open = self.in_flight.open.lock().take();
        if let Some(mut begun) = open {
            py.detach(|| begun.send());
            *self.in_flight.open.lock() = Some(begun);
            IN_FLIGHT.with_borrow_mut(|own| *own = Arc::downgrade(&self.in_flight));
        }
        take_raised().map_or(Ok(()), Err)
    }

    /// Limits the wait of `finish` to 100 ms, because the caller was interrupted.
    fn cancel(&self) {
        self.in_flight.cancelled.store(true, Ordering::SeqCst);
    }

    /// Waits for the reply, once, with the GIL released.
    fn finish<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        py.detach(|| self.in_flight.settle());
        let answer = self.in_flight.answer.lock().take();
        let answer =
            answer.ok_or_else(|| PyRuntimeError::new_err("this request has been finished"))?;
        // As in `Store.execute`.
        take_raised().map_or_else(|| self.store.answer(py, &self.request, answer), Err)
    }
}
