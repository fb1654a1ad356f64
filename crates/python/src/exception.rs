//! Exceptions of `mintkey.errors`.

use pyo3::prelude::*;
use pyo3::types::{PyDict, PyType};

/// The exception class of this name.
pub fn class<'py>(py: Python<'py>, name: &str) -> PyResult<Bound<'py, PyType>> {
    Ok(py
        .import("mintkey.errors")?
        .getattr(name)?
        .cast_into::<PyType>()?)
}

#[cold]
pub fn exception(py: Python<'_>, class_name: &str, message: &str) -> PyErr {
    class(py, class_name)
        .and_then(|class| class.call1((message,)))
        .map_or_else(|failure| failure, PyErr::from_value)
}

/// `InvalidValue` for a value of an attribute, or of a path into one: `Model.attribute`, `Model.attribute['key']`.
#[cold]
pub fn invalid_at_label(py: Python<'_>, label: &str, reason: &str) -> PyErr {
    let (model, path) = label.split_once('.').unwrap_or((label, ""));
    let attribute = path
        .split_once('[')
        .map_or(path, |(attribute, _)| attribute);
    let built = || -> PyResult<PyErr> {
        let data = PyDict::new(py);
        data.set_item("model", model)?;
        data.set_item("attribute", attribute)?;
        let exception =
            class(py, "InvalidValue")?.call((format!("{label}: {reason}"),), Some(&data));
        exception.map(PyErr::from_value)
    };
    built().unwrap_or_else(|failure| failure)
}
