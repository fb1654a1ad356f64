//! The parameters of strategies, as Python passes them.

use mintkey_ids::NodeChoice;
use pyo3::exceptions::{PyOverflowError, PyTypeError};
use pyo3::prelude::*;
use pyo3::types::{PyBool, PyInt, PyString};

use crate::exception::exception;

/// A parameter that is text.
pub(super) fn text(name: &str, value: &Bound<'_, PyAny>) -> PyResult<String> {
    let py = value.py();
    let Ok(text) = value.cast::<PyString>() else {
        let message = format!("{name}={} is not text", shortened(value)?);
        return Err(PyTypeError::new_err(message));
    };
    if let Ok(text) = text.to_cow() {
        return Ok(text.into_owned());
    }
    let message = format!("{name}={} contains a lone surrogate", shortened(value)?);
    Err(exception(py, "ConfigurationError", &message))
}

/// A parameter that is an integer.
pub(super) fn int(name: &str, value: &Bound<'_, PyAny>) -> PyResult<i64> {
    let py = value.py();
    match value.extract() {
        Ok(int) if !value.is_instance_of::<PyBool>() => Ok(int),
        Err(wrong) if wrong.is_instance_of::<PyOverflowError>(py) => {
            let message = format!("{name}={} is out of range", shortened(value)?);
            Err(exception(py, "ConfigurationError", &message))
        }
        _ => {
            let message = format!("{name}={} is not an integer", shortened(value)?);
            Err(PyTypeError::new_err(message))
        }
    }
}

/// A value for a message: it may be long, and Python does not write very large integers in decimal.
#[cold]
pub(super) fn shortened(value: &Bound<'_, PyAny>) -> PyResult<String> {
    let errors = value.py().import("mintkey.errors")?;
    errors.call_method1("shortened", (value,))?.extract()
}

pub(super) fn node_choice(node: &Bound<'_, PyAny>) -> PyResult<NodeChoice> {
    let text = match node.cast::<PyString>() {
        Ok(text) => text.to_string_lossy().into_owned(),
        Err(_) if node.is_instance_of::<PyInt>() => node.str()?.to_string_lossy().into_owned(),
        Err(_) => {
            return Err(PyTypeError::new_err(format!(
                "node={} is neither a number nor a range such as \"32-47\"",
                shortened(node)?
            )));
        }
    };
    NodeChoice::parse(&text).map_err(|wrong| exception(node.py(), "ConfigurationError", &wrong.0))
}
