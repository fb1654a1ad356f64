//! A request that is on its way while its thread does something else.
//!
//! Whatever else the thread asks of a store comes after it: the answer is taken in first, so that a program never sees
//! its own requests in another order than it made them.

use std::cell::RefCell;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;

use mintkey_store::{Error, Reply, Request};
use parking_lot::Mutex;
use pyo3::exceptions::PyRuntimeError;
use pyo3::prelude::*;

use crate::signals::take_raised;
use crate::store::Store;

/// How long an answer is waited for by whoever wants out.
const MOMENT: Duration = Duration::from_millis(100);

thread_local! {
    static ON_ITS_WAY: RefCell<Weak<OnItsWay>> = const { RefCell::new(Weak::new()) };
}

/// The request itself, until somebody takes its answer.
struct OnItsWay {
    open: Mutex<Option<Box<dyn mintkey_store::Begun>>>,
    answer: Mutex<Option<Result<Reply, Error>>>,
    hurry: AtomicBool,
}

impl OnItsWay {
    /// Waits for the answer, if nobody has.
    fn settle(&self) {
        // Not under the lock: on its way it may ask for the GIL.
        let open = self.open.lock().take();
        if let Some(begun) = open {
            let within = self.hurry.load(Ordering::SeqCst).then_some(MOMENT);
            let answer = begun.finish(within);
            *self.answer.lock() = Some(answer);
        }
    }
}

/// Takes in the answer to what this thread has on its way, before it asks for something else.
pub fn settle_first(py: Python<'_>) -> PyResult<()> {
    let Some(before) = ON_ITS_WAY.with_borrow_mut(|own| std::mem::take(own).upgrade()) else {
        return Ok(());
    };
    py.detach(|| before.settle());
    take_raised().map_or(Ok(()), Err)
}

/// A request that was made ready, or sent, and has not been waited for.
#[pyclass(frozen, module = "mintkey._core")]
pub struct Begun {
    store: Py<Store>,
    request: Arc<Request>,
    flight: Arc<OnItsWay>,
}

impl Begun {
    /// A request that the store has made ready.
    pub fn new(
        store: &Bound<'_, Store>,
        request: &Arc<Request>,
        begun: Box<dyn mintkey_store::Begun>,
    ) -> Self {
        Self {
            store: store.clone().unbind(),
            request: Arc::clone(request),
            flight: Arc::new(OnItsWay {
                open: Mutex::new(Some(begun)),
                answer: Mutex::default(),
                hurry: AtomicBool::new(false),
            }),
        }
    }
}

#[pymethods]
impl Begun {
    /// Sends it, with the GIL released, and does not wait for the answer.
    fn send(&self, py: Python<'_>) -> PyResult<()> {
        settle_first(py)?;
        let open = self.flight.open.lock().take();
        if let Some(mut begun) = open {
            py.detach(|| begun.send());
            *self.flight.open.lock() = Some(begun);
            ON_ITS_WAY.with_borrow_mut(|own| *own = Arc::downgrade(&self.flight));
        }
        take_raised().map_or(Ok(()), Err)
    }

    /// Lets `finish` wait for a moment only: somebody wants out.
    fn hurry(&self) {
        self.flight.hurry.store(true, Ordering::SeqCst);
    }

    /// Waits for the answer, once, with the GIL released.
    fn finish<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        py.detach(|| self.flight.settle());
        let answer = self.flight.answer.lock().take();
        let answer =
            answer.ok_or_else(|| PyRuntimeError::new_err("this request has been finished"))?;
        // As in `Store.execute`.
        let store = self.store.get();
        take_raised().map_or_else(|| store.shared().answer(py, &self.request, answer), Err)
    }
}
