//! The differences of two items of one instance.

use mintkey_store::{Action, Item};
use pyo3::prelude::*;

use crate::models::fields::{Field, top};

/// The actions that turn one item into another.
pub(super) struct Patch {
    pub actions: Vec<Action>,
    /// The item after them.
    pub merged: Item,
    /// Whether an attribute changes that is not to be ignored.
    pub real: bool,
}

/// The differences, with those of the attributes in `removed` that neither item has.
pub(super) fn patch(
    py: Python<'_>,
    fields: &[Field],
    old: &Item,
    new: &Item,
    removed: &[String],
    ignored: &[String],
) -> PyResult<Patch> {
    let mut actions = Vec::new();
    let mut merged = old.clone();
    let mut real = false;
    for field in fields {
        let (before, after) = (field.present(old), field.present(new));
        if !field.differs(py, before, after)? {
            if after.is_none() && removed.contains(&field.label) {
                actions.push(Action::Remove(top(&field.alias)));
                real = true;
            }
            continue;
        }
        real |= !ignored.contains(&field.label);
        if let Some(value) = after {
            let value = field.merged(py, before, value)?;
            merged.insert(field.alias.clone(), value.clone());
            actions.push(Action::Set(top(&field.alias), value));
        } else {
            merged.remove(&field.alias);
            actions.push(Action::Remove(top(&field.alias)));
        }
    }
    Ok(Patch {
        actions,
        merged,
        real,
    })
}
