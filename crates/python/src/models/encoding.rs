//! Values of instances as items, and items as values.

use std::sync::Arc;

use mintkey_store::error::shortened;
use mintkey_store::{Guard, Item, Key, KeyAttribute, KeyValue, Map, Put, Value};
use pyo3::exceptions::PyException;
use pyo3::prelude::*;
use pyo3::types::PyDict;

use crate::models::codec::Codec;
use crate::models::fields::Field;
use crate::panics::caught;
use crate::values::convert::{Kind, from_stored, refuses, to_stored};
use crate::values::unstorable::{Converted, Unstorable};

impl Codec {
    /// The item of an instance's values, checked.
    pub fn item(
        &self,
        values: &Bound<'_, PyDict>,
        overrides: Option<&Bound<'_, PyDict>>,
        partial: bool,
        loaded: Option<&Item>,
    ) -> PyResult<Item> {
        caught(values.py(), || {
            let py = values.py();
            let mut pairs = Vec::with_capacity(self.fields.len());
            for (index, field) in self.fields.iter().enumerate() {
                let given = match overrides
                    .map(|overrides| overrides.get_item(&field.name))
                    .transpose()?
                    .flatten()
                {
                    None => values.get_item(&field.name)?,
                    found => found,
                };
                let stored = match given {
                    Some(object) if !object.is_none() => match self.fit(field, &object, values) {
                        Ok(stored) => stored,
                        Err(error) if !error.is_instance_of::<PyException>(py) => {
                            return Err(error);
                        }
                        // A stored value that this class cannot write stays if nobody has changed it.
                        Err(error) => match loaded.and_then(|item| field.present(item)) {
                            Some(old) if field.is_untouched(py, old, &object)? => Some(old.clone()),
                            _ => return Err(error),
                        },
                    },
                    _ => None,
                };
                match stored {
                    Some(value) => pairs.push((field.alias.clone(), value)),
                    None if Some(index) == self.partition || Some(index) == self.sort => {
                        return Err(self.invalid(
                            py,
                            field,
                            "a key needs a value: set one, or generate it with default=",
                        ));
                    }
                    None if field.required && !partial => {
                        return Err(self.invalid(py, field, "required, but it has no value"));
                    }
                    None => {}
                }
            }
            Ok(Map::from_pairs(pairs))
        })
    }

    /// The encoded value of an attribute, checked. In a structured value, instances take the index of dicts.
    fn fit(
        &self,
        field: &Field,
        object: &Bound<'_, PyAny>,
        values: &Bound<'_, PyDict>,
    ) -> PyResult<Option<Value>> {
        if field.structure.is_none() {
            return self.stored(field, object);
        }
        let py = object.py();
        let fitted = self.checked_value(py, field, field.fitted(object.clone()))?;
        if !fitted.is(object) {
            values.set_item(&field.name, &fitted)?;
        }
        self.stored(field, &fitted)
    }

    /// Takes over the keys of a loaded item that mean the same: another program may have written the same time or UUID
    /// with other characters, and the row stays where it is.
    pub(super) fn keep_keys(&self, py: Python<'_>, loaded: &Item, item: &mut Item) -> PyResult<()> {
        for index in self.partition.iter().chain(&self.sort) {
            let field = &self.fields[*index];
            let (old, new) = (loaded.get(&field.alias), item.get(&field.alias));
            if let Some(old) = old
                && Some(old) != new
                && !field.differs(py, Some(old), new)?
            {
                item.insert(field.alias.clone(), old.clone());
            }
        }
        Ok(())
    }

    /// Refuses items of different keys.
    pub(super) fn check_same_key(
        &self,
        py: Python<'_>,
        old: &Item,
        new: &Item,
        key: &Key,
    ) -> PyResult<()> {
        for index in self.partition.iter().chain(&self.sort) {
            let field = &self.fields[*index];
            if field.differs(py, old.get(&field.alias), new.get(&field.alias))? {
                let message = format!(
                    "the key of a stored item cannot change (it is {key}): save a new {} with the new key, \
                     then delete() this one",
                    self.model
                );
                return Err(self.invalid(py, field, &message));
            }
        }
        Ok(())
    }

    /// The put of an item, whose key is checked.
    pub fn put_request(&self, py: Python<'_>, item: Arc<Item>, guard: Guard) -> PyResult<Put> {
        let table = self.table(py)?.clone();
        Put::new(table, item, guard).map_err(|error| self.raise(py, error))
    }

    pub(super) fn stored(
        &self,
        field: &Field,
        object: &Bound<'_, PyAny>,
    ) -> PyResult<Option<Value>> {
        self.checked_value(object.py(), field, field.encode(object))
    }

    /// The result of a conversion; a refusal names the attribute.
    pub(super) fn checked_value<T>(
        &self,
        py: Python<'_>,
        field: &Field,
        converted: Converted<T>,
    ) -> PyResult<T> {
        converted.map_err(|refusal| match refusal {
            Unstorable::Reason(reason) => self.invalid(py, field, &reason),
            Unstorable::Raised(error) if refuses(&error, py) => {
                let invalid = self.invalid(py, field, &shortened(&error.value(py).to_string()));
                invalid.set_cause(py, Some(error));
                invalid
            }
            Unstorable::Raised(error) => error,
        })
    }

    pub(super) fn values<'py>(&self, py: Python<'py>, item: &Item) -> PyResult<Bound<'py, PyDict>> {
        caught(py, || {
            let dict = PyDict::new(py);
            // Items are written in the order of the fields, so the next one is nearly always the right one.
            let mut next = 0;
            for (alias, value) in item {
                let index = match self.fields.get(next) {
                    Some(field) if field.alias == *alias => next,
                    _ => match self.fields.iter().position(|field| field.alias == *alias) {
                        Some(index) => index,
                        None => continue,
                    },
                };
                next = index + 1;
                if matches!(value, Value::Null) {
                    continue;
                }
                let field = &self.fields[index];
                dict.set_item(&field.name, self.decoded(py, field, value, item)?)?;
            }
            Ok(dict)
        })
    }

    pub(super) fn decoded<'py>(
        &self,
        py: Python<'py>,
        field: &Field,
        value: &Value,
        item: &Item,
    ) -> PyResult<Bound<'py, PyAny>> {
        let plain = from_stored(py, field.kind, value)?;
        match &field.convert {
            None => Ok(plain),
            Some((_, decode)) => decode
                .bind(py)
                .call1((&plain,))
                .map_err(|error| self.unreadable(py, field, &plain, error, item)),
        }
    }

    pub(super) fn key_part(
        &self,
        values: &Bound<'_, PyDict>,
        index: Option<usize>,
        attribute: &KeyAttribute,
    ) -> PyResult<KeyValue> {
        let py = values.py();
        let field = index
            .map(|index| &self.fields[index])
            .ok_or_else(|| self.unknown(&attribute.name))?;
        let given = values
            .get_item(&field.name)?
            .filter(|object| !object.is_none());
        let stored = match given {
            Some(object) => self.stored(field, &object)?,
            None => None,
        };
        stored
            .as_ref()
            .and_then(|value| KeyValue::from_value(value, attribute.kind))
            .ok_or_else(|| self.invalid(py, field, "a key needs a value"))
    }

    /// A key value that is encoded already.
    pub(super) fn key_value(
        &self,
        object: &Bound<'_, PyAny>,
        attribute: &KeyAttribute,
    ) -> PyResult<KeyValue> {
        let py = object.py();
        let label = self
            .fields
            .iter()
            .find(|field| field.alias == attribute.name)
            .map_or("", |field| &field.label);
        let stored = self.labelled(py, label, to_stored(Kind::of_key(attribute.kind), object))?;
        let value = stored.ok_or_else(|| self.invalid_at(py, label, "a key needs a value"))?;
        KeyValue::from_value(&value, attribute.kind)
            .ok_or_else(|| self.invalid_at(py, label, "this cannot be a key"))
    }

    /// The result of a conversion; a refusal names the attribute of this name.
    pub(super) fn labelled<T>(
        &self,
        py: Python<'_>,
        label: &str,
        converted: Converted<T>,
    ) -> PyResult<T> {
        converted.map_err(|refusal| match refusal {
            Unstorable::Reason(reason) => self.invalid_at(py, label, &reason),
            Unstorable::Raised(error) => error,
        })
    }
}
