//! A request as Python carries it from an operation to a store, and the answer on its way back.

use std::sync::Arc;

use mintkey_store::{Operation, Page, Reply, Request};
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyList};

use crate::item::PyItem;

/// What an operation asks of a store.
#[pyclass(frozen, name = "Request", module = "mintkey._core")]
pub struct PyRequest(pub Arc<Request>);

impl PyRequest {
    /// A request that judges expiry by the clock as it stands.
    pub fn now(operation: Operation) -> Self {
        Self(Arc::new(Request { now: mintkey_ids::now_ms().div_euclid(1000), operation }))
    }
}

/// A page of a query or scan.
#[pyclass(frozen, name = "Page", module = "mintkey._core")]
pub struct PyPage(Page);

#[pymethods]
impl PyPage {
    /// The items, in order.
    #[getter]
    fn items<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyList>> {
        let list = PyList::empty(py);
        for item in &self.0.items {
            list.append(PyItem::from(item.clone()))?;
        }
        Ok(list)
    }

    /// How many items there are.
    #[getter]
    const fn count(&self) -> u64 {
        self.0.count
    }

    /// Where the next page begins; None after the last.
    #[getter]
    fn next<'py>(&self, py: Python<'py>) -> Option<Bound<'py, PyBytes>> {
        self.0.next.as_ref().map(|position| PyBytes::new(py, &position.to_bytes()))
    }
}

/// The answer as Python sees it: None, a bool, an item or None, or a page.
pub fn answer(py: Python<'_>, reply: Reply) -> PyResult<Bound<'_, PyAny>> {
    Ok(match reply {
        Reply::Done | Reply::Item(None) => py.None().into_bound(py),
        Reply::Exists(exists) => pyo3::types::PyBool::new(py, exists).to_owned().into_any(),
        Reply::Item(Some(item)) => Bound::new(py, PyItem::from(item))?.into_any(),
        Reply::Page(page) => Bound::new(py, PyPage(page))?.into_any(),
    })
}
