//! Update actions as Python objects: immutable, with the attribute that they change.

use std::hash::{DefaultHasher, Hash, Hasher};

use mintkey_store::Action;
use pyo3::prelude::*;
use pyo3::types::PyTuple;

use crate::values::statement::{Statement, action, path, refused};

/// A change that the store computes.
#[pyclass(frozen, name = "Action", module = "mintkey._core")]
pub struct PyAction {
    statement: Statement,
    pub inner: Action,
}

#[pymethods]
impl PyAction {
    #[new]
    fn new(
        root: Py<PyAny>,
        label: String,
        steps: &Bound<'_, PyTuple>,
        name: String,
        operands: Bound<'_, PyTuple>,
    ) -> PyResult<Self> {
        let py = steps.py();
        let inner = action(path(steps)?, &name, &operands);
        let inner = inner.map_err(|refusal| refused(py, &label, refusal))?;
        let statement = Statement::new(root, label, steps, name, operands);
        Ok(Self { statement, inner })
    }

    fn __reduce__<'py>(
        slf: &Bound<'py, Self>,
    ) -> PyResult<(Bound<'py, PyAny>, Bound<'py, PyTuple>)> {
        let py = slf.py();
        let arguments = slf.get().statement.arguments(py).into_pyobject(py)?;
        Ok((slf.get_type().into_any(), arguments))
    }

    /// The attribute that it changes, and the one whose value it reads.
    fn roots(&self, py: Python<'_>) -> PyResult<Vec<Py<PyAny>>> {
        self.statement.roots(py)
    }

    /// The attribute that it changes, or a part of.
    #[getter]
    fn root(&self, py: Python<'_>) -> Py<PyAny> {
        self.statement.root.clone_ref(py)
    }

    /// The kind of change, such as `"add"`.
    #[getter]
    fn name(&self) -> &str {
        &self.statement.name
    }

    /// Whether it changes the attribute as a whole.
    #[getter]
    fn is_whole(&self) -> bool {
        self.inner.path().0.len() == 1
    }

    fn __repr__(&self, py: Python<'_>) -> PyResult<String> {
        self.statement.text(py)
    }

    fn __eq__(&self, other: &Bound<'_, PyAny>) -> bool {
        other.cast::<Self>().is_ok_and(|other| {
            let other = other.get();
            self.statement.label == other.statement.label && self.inner == other.inner
        })
    }

    fn __hash__(&self) -> u64 {
        let mut hasher = DefaultHasher::new();
        format!("{:?}", self.inner).hash(&mut hasher);
        hasher.finish()
    }
}
