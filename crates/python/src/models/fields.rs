//! The attributes of a compiled schema.

use mintkey_store::{Item, Name, Path, Step, Value};
use pyo3::exceptions::PyException;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyString, PyTuple};

use crate::values::convert::{Kind, TUPLE, from_stored, listed_set, refuses, to_stored};
use crate::values::unstorable::Unstorable;

/// An attribute.
pub(super) struct Field {
    pub name: Py<PyString>,
    pub label: String,
    pub alias: Name,
    pub kind: Kind,
    pub required: bool,
    /// The Python functions that encode and decode the value, if it has an encoding of its own.
    pub convert: Option<(Py<PyAny>, Py<PyAny>)>,
    /// For structured values: the Python function that puts instances in place of dicts, and the one that adds the
    /// entries of a stored value that its class does not know to a new encoded value.
    pub structure: Option<(Py<PyAny>, Py<PyAny>)>,
}

impl Field {
    pub(super) fn encode(&self, object: &Bound<'_, PyAny>) -> Result<Option<Value>, Unstorable> {
        match &self.convert {
            None if self.kind == Kind::List && object.is_instance_of::<PyTuple>() => {
                Err(Unstorable::Reason(TUPLE.into()))
            }
            None => to_stored(self.kind, object),
            Some((encode, _)) => to_stored(self.kind, &encode.bind(object.py()).call1((object,))?),
        }
    }

    /// The encoded value in an item. A null is an absent value: other programs write one.
    pub(super) fn present<'a>(&self, item: &'a Item) -> Option<&'a Value> {
        item.get(&self.alias)
            .filter(|value| !matches!(value, Value::Null))
    }

    /// The value with instances in place of the dicts that stand for them.
    pub(super) fn fitted<'py>(
        &self,
        object: Bound<'py, PyAny>,
    ) -> Result<Bound<'py, PyAny>, Unstorable> {
        match &self.structure {
            None => Ok(object),
            Some((fitted, _)) => Ok(fitted.bind(object.py()).call1((object,))?),
        }
    }

    /// The new encoded value with the entries of the stored one that its class does not know. A stored value that
    /// cannot be encoded again, because the class requires more today, is replaced as a whole.
    pub(super) fn merged(
        &self,
        py: Python<'_>,
        stored: Option<&Value>,
        new: &Value,
    ) -> PyResult<Value> {
        let (Some(stored), Some((_, merged))) = (stored, &self.structure) else {
            return Ok(new.clone());
        };
        let (stored, plain) = (
            from_stored(py, self.kind, stored)?,
            from_stored(py, self.kind, new)?,
        );
        let value = merged
            .bind(py)
            .call1((stored, plain))
            .map_err(Unstorable::from);
        match value.and_then(|value| to_stored(self.kind, &value)) {
            Ok(value) => Ok(value.unwrap_or_else(|| new.clone())),
            Err(Unstorable::Reason(_)) => Ok(new.clone()),
            Err(Unstorable::Raised(error)) if refuses(&error, py) => Ok(new.clone()),
            Err(Unstorable::Raised(error)) => Err(error),
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
        let (Some(old), Some((_, decode))) = (old, &self.convert) else {
            return Ok(true);
        };
        let plain = from_stored(py, self.kind, old)?;
        let Ok(read) = decode.bind(py).call1((plain,)) else {
            return Ok(true);
        };
        if read.is_none() {
            return Ok(new.is_some());
        }
        Ok(self.encode(&read).ok().flatten().as_ref() != new)
    }

    /// Whether a value is what is read from a stored one. An exception of its comparison counts as a difference.
    pub(super) fn is_untouched(
        &self,
        py: Python<'_>,
        old: &Value,
        object: &Bound<'_, PyAny>,
    ) -> PyResult<bool> {
        let plain = from_stored(py, self.kind, old)?;
        let read = match &self.convert {
            None => Ok(plain),
            Some((_, decode)) => decode.bind(py).call1((plain,)),
        };
        let same =
            read.and_then(|read| Ok(read.get_type().is(object.get_type()) && read.eq(object)?));
        match same {
            Err(error) if !error.is_instance_of::<PyException>(py) => Err(error),
            same => Ok(same.unwrap_or(false)),
        }
    }

    /// Whether the value of an instance differs from that of the item. A value that cannot be encoded differs, unless
    /// it is the stored one.
    pub(super) fn has_changed(
        &self,
        values: &Bound<'_, PyDict>,
        item: Option<&Item>,
    ) -> PyResult<bool> {
        let py = values.py();
        let old = item.and_then(|item| self.present(item));
        let object = match values.get_item(&self.name)? {
            Some(object) if !object.is_none() => object,
            _ => return self.differs(py, old, None),
        };
        match self.encode(&object) {
            Ok(new) => self.differs(py, old, new.as_ref()),
            Err(Unstorable::Raised(error)) if !error.is_instance_of::<PyException>(py) => {
                Err(error)
            }
            Err(_) => match old {
                Some(old) => Ok(!self.is_untouched(py, old, &object)?),
                None => Ok(true),
            },
        }
    }
}

pub(super) fn top(alias: &Name) -> Path {
    Path(vec![Step::Name(alias.clone())])
}

/// What a read selects.
#[derive(FromPyObject)]
pub(super) enum Selected {
    Attribute(String),
    /// A part of a map: the attribute, and the stored names of the steps into it.
    Part((String, Vec<String>)),
}

impl Selected {
    /// The attribute, and the steps into its map.
    pub(super) fn into_parts(self) -> (String, Vec<String>) {
        match self {
            Self::Attribute(name) => (name, Vec::new()),
            Self::Part(parts) => parts,
        }
    }
}
