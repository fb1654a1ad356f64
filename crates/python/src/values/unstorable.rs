//! Why a Python value cannot be stored.

use pyo3::prelude::*;

/// Why a value cannot be stored.
pub enum Unstorable {
    /// What is wrong with it.
    Reason(String),
    /// Code of Python raised while the value was read.
    Raised(PyErr),
}

impl From<PyErr> for Unstorable {
    fn from(error: PyErr) -> Self {
        Self::Raised(error)
    }
}

/// The result of a conversion.
pub type Converted<T> = Result<T, Unstorable>;

/// The name of an object's type, for messages.
pub fn type_name(object: &Bound<'_, PyAny>) -> String {
    object
        .get_type()
        .name()
        .map_or_else(|_| "?".into(), |name| name.to_string())
}
