//! A request as Python carries it from an operation to a store, and the answer on its way back.

use std::sync::Arc;

use mintkey_store::{Error, Operation, Page, Position, Reply, Request};
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyList};

use crate::item::PyItem;

/// What an operation asks of a store.
#[pyclass(frozen, name = "Request", module = "mintkey._core")]
pub struct PyRequest(pub Arc<Request>);

impl PyRequest {
    /// A request that judges expiry by the clock as it stands.
    pub fn now(operation: Operation) -> Self {
        Self(Arc::new(Request {
            now: mintkey_ids::now_ms().div_euclid(1000),
            operation,
        }))
    }
}

/// A page of a query or scan.
#[pyclass(frozen, name = "Page", module = "mintkey._core")]
pub struct PyPage {
    items: Py<PyList>,
    count: u64,
    next: Option<Position>,
}

impl PyPage {
    fn new(py: Python<'_>, page: Page) -> PyResult<Self> {
        let items = PyList::empty(py);
        for item in page.items {
            items.append(PyItem::from(item))?;
        }
        Ok(Self {
            items: items.unbind(),
            count: page.count,
            next: page.next,
        })
    }
}

#[pymethods]
impl PyPage {
    /// The items, in order.
    #[getter]
    fn items(&self, py: Python<'_>) -> Py<PyList> {
        self.items.clone_ref(py)
    }

    /// How many items there are.
    #[getter]
    const fn count(&self) -> u64 {
        self.count
    }

    /// Where the next page begins; None after the last.
    #[getter]
    fn next<'py>(&self, py: Python<'py>) -> Option<Bound<'py, PyBytes>> {
        self.next
            .as_ref()
            .map(|position| PyBytes::new(py, &position.to_bytes()))
    }
}

/// The answer as Python sees it: None, a bool, an item or None, a page, a list of items or None, or a list of
/// exceptions or None, which `fail` makes.
pub fn answer(
    py: Python<'_>,
    reply: Reply,
    fail: impl Fn(Error) -> PyErr,
) -> PyResult<Bound<'_, PyAny>> {
    Ok(match reply {
        Reply::Done | Reply::Item(None) => py.None().into_bound(py),
        Reply::Exists(exists) => pyo3::types::PyBool::new(py, exists).to_owned().into_any(),
        Reply::Item(Some(item)) => Bound::new(py, PyItem::from(item))?.into_any(),
        Reply::Items(items) => {
            let list = PyList::empty(py);
            for item in items {
                list.append(item.map(PyItem::from))?;
            }
            list.into_any()
        }
        Reply::Written(outcomes) => {
            let list = PyList::empty(py);
            for outcome in outcomes {
                list.append(match outcome {
                    Ok(()) => None,
                    Err(error) => Some(fail(error).into_value(py)),
                })?;
            }
            list.into_any()
        }
        Reply::Page(page) => Bound::new(py, PyPage::new(py, page)?)?.into_any(),
    })
}
