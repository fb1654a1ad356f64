//! The elements of Python containers, read safely while Python code runs.
//!
//! A subclass may override `__len__` and `__iter__`, and code that runs there may change the container. So no memory is
//! reserved for a length that Python reports, no more elements are read than reported, and a difference is refused.

use pyo3::exceptions::{PyRecursionError, PyRuntimeError};
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyDict, PyTuple};

use crate::values::unstorable::{Converted, Unstorable, type_name};

/// Gives each element of a list, tuple or set, with its position; returns their number.
pub fn each<'py>(
    object: &Bound<'py, PyAny>,
    mut take: impl FnMut(usize, Bound<'py, PyAny>) -> Converted<()>,
) -> Converted<usize> {
    let reported = object.len()?;
    let mut count = 0;
    for element in object.try_iter().map_err(|error| raised(object, error))? {
        let element = element.map_err(|error| raised(object, error))?;
        if count == reported {
            return Err(changed(
                object,
                "it holds more elements than len() reported",
            ));
        }
        take(count, element)?;
        count += 1;
    }
    if count < reported {
        return Err(changed(
            object,
            "it holds fewer elements than len() reported",
        ));
    }
    Ok(count)
}

/// Gives each entry of a dict; the methods of a subclass are not asked for them.
pub fn each_entry<'py>(
    dict: &Bound<'py, PyDict>,
    mut take: impl FnMut(Bound<'py, PyAny>, Bound<'py, PyAny>) -> Converted<()>,
) -> Converted<()> {
    static ITEMS: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
    let py = dict.py();
    let items = ITEMS.get_or_try_init(py, || {
        let items = py.get_type::<PyDict>().getattr(intern!(py, "items"))?;
        Ok::<_, PyErr>(items.unbind())
    })?;
    // Python's own iterator reports a change; that of pyo3 panics.
    let view = items.bind(py).call1((dict,))?;
    let reported = dict.as_any().len()?;
    let mut count = 0;
    for entry in view.try_iter()? {
        let entry = entry.map_err(|error| raised(dict, error))?;
        let entry = entry.cast::<PyTuple>().map_err(PyErr::from)?;
        take(entry.get_item(0)?, entry.get_item(1)?)?;
        count += 1;
    }
    if count != reported {
        return Err(changed(
            dict,
            "it does not hold as many entries as len() reported",
        ));
    }
    Ok(())
}

/// The refusal for an exception of Python between two elements.
fn raised(object: &Bound<'_, PyAny>, error: PyErr) -> Unstorable {
    let py = object.py();
    if error.is_instance_of::<PyRuntimeError>(py) && !error.is_instance_of::<PyRecursionError>(py) {
        return changed(object, &error.value(py).to_string());
    }
    Unstorable::Raised(error)
}

fn changed(object: &Bound<'_, PyAny>, how: &str) -> Unstorable {
    Unstorable::Reason(format!(
        "the {} changed during save ({how}): save a copy of it",
        type_name(object)
    ))
}
