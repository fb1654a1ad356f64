//! The attributes of a compiled schema.

use mintkey_store::{KeyKind, Name, Path, Step, Value};
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::PyString;

use crate::values::convert::{Kind, from_stored, listed_set, to_stored};
use crate::values::refusal::Refusal;

/// An attribute.
pub(super) struct Field {
    pub name: Py<PyString>,
    pub label: String,
    pub alias: Name,
    pub kind: Kind,
    pub required: bool,
    /// The Python functions that encode and decode the value, if it has an encoding of its own.
    pub convert: Option<(Py<PyAny>, Py<PyAny>)>,
}

impl Field {
    pub(super) fn encode(&self, object: &Bound<'_, PyAny>) -> Result<Option<Value>, Refusal> {
        match &self.convert {
            None => to_stored(self.kind, object),
            Some((encode, _)) => to_stored(self.kind, &encode.bind(object.py()).call1((object,))?),
        }
    }

    /// Whether two stored values differ in meaning: another program may have written the same time, or the same
    /// JSON, with other characters.
    pub(super) fn differs(
        &self,
        py: Python<'_>,
        old: Option<&Value>,
        new: Option<&Value>,
    ) -> PyResult<bool> {
        if old == new {
            return Ok(false);
        }
        if let Some(Value::List(members)) = old
            && let Some(set) = listed_set(self.kind, members)
        {
            // An empty set is stored as nothing.
            return Ok(new != Some(&set).filter(|_| !members.is_empty()));
        }
        let (Some(old), Some(_), Some((_, decode))) = (old, new, &self.convert) else {
            return Ok(true);
        };
        let plain = from_stored(py, self.kind, old)?;
        let Ok(read) = decode.bind(py).call1((plain,)) else {
            return Ok(true);
        };
        Ok(self.encode(&read).ok().flatten().as_ref() != new)
    }
}

pub(super) fn top(alias: &Name) -> Path {
    Path(vec![Step::Name(alias.clone())])
}

pub(super) fn key_kind_named(name: &str) -> PyResult<KeyKind> {
    Ok(match name {
        "string" => KeyKind::String,
        "number" => KeyKind::Number,
        "binary" => KeyKind::Binary,
        other => {
            return Err(PyValueError::new_err(format!(
                "there is no kind of key named {other:?}"
            )));
        }
    })
}
