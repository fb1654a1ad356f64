//! Exceptions of `mintkey.errors`.

use pyo3::prelude::*;
use pyo3::types::PyType;

/// The exception class of this name.
pub fn class<'py>(py: Python<'py>, name: &str) -> PyResult<Bound<'py, PyType>> {
    Ok(py
        .import("mintkey.errors")?
        .getattr(name)?
        .cast_into::<PyType>()?)
}

/// An exception of this class with a message.
#[cold]
pub fn exception(py: Python<'_>, class_name: &str, message: &str) -> PyErr {
    class(py, class_name)
        .and_then(|class| class.call1((message,)))
        .map_or_else(|failure| failure, PyErr::from_value)
}
