//! A model's schema compiled: its instances to stored items and back, and the requests about them.

#![allow(
    clippy::needless_pass_by_value,
    reason = "pyo3 hands extracted arguments over by value"
)]

mod failures;

use std::ops::Bound as Limit;
use std::sync::Arc;

use mintkey_store::{
    Action, BatchGet, BatchWrite, Condition, Delete, Get, Guard, Index, Item, Key, KeyAttribute,
    KeyKind, KeyValue, Map, Name, Number, Operation, Path, Position, Projection, Put, Query, Row,
    Scan, SortCondition, Step, Table, Update, Value, Work, Write, error::shortened,
};
use pyo3::exceptions::{PyTypeError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::{PyBool, PyDict, PyList, PyString, PyTuple};

use crate::condition::{action, condition};
use crate::convert::{
    Kind, Refusal, from_stored, from_value, listed_set, plain_error, refuses, to_stored,
};
use crate::errors::{from_store, key_dict};
use crate::item::{PyItem, PyKey};
use crate::panics::caught;
use crate::request::PyRequest;

/// One attribute as the codec knows it.
struct Field {
    name: Py<PyString>,
    label: String,
    alias: Name,
    kind: Kind,
    required: bool,
    /// The Python pair that makes the plain stored form and reads it back, where the kind is not enough.
    convert: Option<(Py<PyAny>, Py<PyAny>)>,
}

/// A model's schema compiled.
#[pyclass(frozen, module = "mintkey._core")]
pub struct Codec {
    model: String,
    fields: Vec<Field>,
    table: Option<Arc<Table>>,
    partition: Option<usize>,
    sort: Option<usize>,
}

type FieldSpec<'py> = (
    Bound<'py, PyString>,
    String,
    String,
    bool,
    Option<(Bound<'py, PyAny>, Bound<'py, PyAny>)>,
    Option<String>,
);
type IndexSpec = (
    String,
    Vec<String>,
    Option<String>,
    Option<Vec<String>>,
    bool,
);

#[pymethods]
impl Codec {
    /// Compiles a schema. A field is `(name, stored name, kind, required, (encode, decode) or None, key kind or None)`,
    /// an index `(name, partition attributes, sort attribute or None, projected attributes or None for all, local)`.
    #[new]
    #[pyo3(signature = (model, fields, *, table=None, partition=None, sort=None, ttl=None, indexes=Vec::new()))]
    fn new(
        model: String,
        fields: Vec<FieldSpec<'_>>,
        table: Option<String>,
        partition: Option<&str>,
        sort: Option<&str>,
        ttl: Option<&str>,
        indexes: Vec<IndexSpec>,
    ) -> PyResult<Self> {
        let mut kinds = Vec::with_capacity(fields.len());
        let mut compiled = Vec::with_capacity(fields.len());
        for (name, alias, kind, required, convert, key_kind) in fields {
            kinds.push(key_kind.as_deref().map(key_kind_named).transpose()?);
            compiled.push(Field {
                label: name.to_string(),
                name: name.unbind(),
                alias: alias.into(),
                kind: Kind::named(&kind)?,
                required,
                convert: convert.map(|(encode, decode)| (encode.unbind(), decode.unbind())),
            });
        }
        let place = |name: &str| {
            compiled
                .iter()
                .position(|field: &Field| field.label == name)
                .ok_or_else(|| PyValueError::new_err(format!("{model} has no attribute {name:?}")))
        };
        let key = |name: &str| -> PyResult<KeyAttribute> {
            let place = place(name)?;
            let kind = kinds[place].ok_or_else(|| {
                PyValueError::new_err(format!("{model}.{name} cannot be part of a key"))
            })?;
            Ok(KeyAttribute {
                name: compiled[place].alias.clone(),
                kind,
            })
        };
        let indexes = indexes
            .into_iter()
            .map(|(name, partition, sort, projected, local)| {
                let projection = match projected {
                    None => Projection::All,
                    Some(names) if names.is_empty() => Projection::Keys,
                    Some(names) => Projection::Attributes(
                        names
                            .iter()
                            .map(|name| Ok(compiled[place(name)?].alias.clone()))
                            .collect::<PyResult<_>>()?,
                    ),
                };
                Ok(Index {
                    name,
                    partition: partition
                        .iter()
                        .map(|name| key(name))
                        .collect::<PyResult<_>>()?,
                    sort: sort.as_deref().map(key).transpose()?,
                    projection,
                    local,
                })
            })
            .collect::<PyResult<Vec<_>>>()?;
        let table = match (table, partition) {
            (Some(name), Some(partition)) => Some(Arc::new(Table {
                name,
                model: model.clone(),
                partition: key(partition)?,
                sort: sort.map(key).transpose()?,
                ttl: ttl
                    .map(|name| Ok::<_, PyErr>(compiled[place(name)?].alias.clone()))
                    .transpose()?,
                indexes,
                unique: Vec::new(),
            })),
            _ => None,
        };
        let (partition, sort) = (
            partition.map(place).transpose()?,
            sort.map(place).transpose()?,
        );
        Ok(Self {
            model,
            fields: compiled,
            table,
            partition,
            sort,
        })
    }

    // Values to items and back.

    /// The item of an instance's values, checked; `overrides` go before `values`. A `partial` instance does not know all
    /// of its attributes, so none is missed.
    #[pyo3(signature = (values, overrides=None, *, partial=false))]
    fn encode(
        &self,
        values: &Bound<'_, PyDict>,
        overrides: Option<&Bound<'_, PyDict>>,
        partial: bool,
    ) -> PyResult<PyItem> {
        Ok(self.item(values, overrides, partial)?.into())
    }

    /// The plain stored form of an instance's values, for a map that nests it.
    fn plain<'py>(&self, values: &Bound<'py, PyDict>) -> PyResult<Bound<'py, PyDict>> {
        let item = self.encode(values, None, false)?;
        let dict = PyDict::new(values.py());
        for (name, value) in &*item.0 {
            dict.set_item(&**name, from_value(values.py(), value)?)?;
        }
        Ok(dict)
    }

    /// An instance's values out of a stored item; attributes that the model lacks are left out.
    fn decode<'py>(&self, py: Python<'py>, item: &PyItem) -> PyResult<Bound<'py, PyDict>> {
        self.values(py, &item.0)
    }

    /// An instance's values out of the plain stored form of a map.
    fn decode_plain<'py>(&self, stored: &Bound<'py, PyDict>) -> PyResult<Bound<'py, PyDict>> {
        let value = crate::convert::to_value(stored.as_any(), 1).map_err(plain_error)?;
        let map = match value {
            Value::Map(map) => map,
            _ => Map::new(),
        };
        self.values(stored.py(), &map)
    }

    /// The names of the attributes whose values differ from a stored item; a value that cannot be stored differs.
    #[pyo3(signature = (values, item))]
    fn changed<'py>(
        &self,
        values: &Bound<'py, PyDict>,
        item: Option<&PyItem>,
    ) -> PyResult<Bound<'py, PyList>> {
        caught(values.py(), || {
            let py = values.py();
            let names = PyList::empty(py);
            for field in &self.fields {
                let old = item.and_then(|item| item.0.get(&field.alias));
                let differs = match values.get_item(&field.name)? {
                    Some(object) if !object.is_none() => match field.encode(&object) {
                        Ok(new) => field.differs(py, old, new.as_ref())?,
                        Err(Refusal::Reason(_)) => true,
                        Err(Refusal::Raised(error))
                            if error.is_instance_of::<pyo3::exceptions::PyException>(py) =>
                        {
                            true
                        }
                        Err(Refusal::Raised(error)) => return Err(error),
                    },
                    _ => old.is_some(),
                };
                if differs {
                    names.append(&field.name)?;
                }
            }
            Ok(names)
        })
    }

    /// The key in a dict of attribute names to values.
    fn key(&self, values: &Bound<'_, PyDict>) -> PyResult<PyKey> {
        caught(values.py(), || {
            let py = values.py();
            let table = self.table(py)?;
            let partition = self.key_part(values, self.partition, &table.partition)?;
            let sort = match &table.sort {
                Some(attribute) => Some(self.key_part(values, self.sort, attribute)?),
                None => None,
            };
            let key = Key { partition, sort };
            table
                .check_key(&key)
                .map_err(|error| self.raise(py, error))?;
            Ok(PyKey(Arc::new(key)))
        })
    }

    /// The key of an item.
    fn key_of(&self, py: Python<'_>, item: &PyItem) -> PyResult<PyKey> {
        let key = self
            .table(py)?
            .key_of(&item.0)
            .map_err(|error| self.raise(py, error))?;
        Ok(PyKey(Arc::new(key)))
    }

    /// A key as a dict of attribute names to stored values.
    fn key_dict<'py>(&self, py: Python<'py>, key: &PyKey) -> PyResult<Bound<'py, PyDict>> {
        let label = |place: Option<usize>| place.map(|place| self.fields[place].label.as_str());
        key_dict(
            py,
            &key.0,
            label(self.partition).unwrap_or_default(),
            label(self.sort),
        )
    }

    /// Whether a condition holds for an item.
    fn matches(&self, item: &PyItem, condition: &Bound<'_, PyAny>) -> PyResult<bool> {
        let py = condition.py();
        let mut ask = || {
            py.check_signals()?;
            // Other threads run meanwhile.
            py.detach(|| {});
            Ok(())
        };
        match self.checked(Some(condition))? {
            Some(condition) => condition.evaluate(&item.0, &mut Work::new(&mut ask)),
            None => Ok(true),
        }
    }

    // Requests.

    /// Makes the table, or adds what it lacks.
    fn create_table(&self, py: Python<'_>) -> PyResult<PyRequest> {
        Ok(PyRequest::now(Operation::CreateTable(
            self.table(py)?.clone(),
        )))
    }

    /// Asks whether the table is there.
    fn table_exists(&self, py: Python<'_>) -> PyResult<PyRequest> {
        Ok(PyRequest::now(Operation::TableExists(
            self.table(py)?.clone(),
        )))
    }

    /// Drops the table.
    fn delete_table(&self, py: Python<'_>) -> PyResult<PyRequest> {
        Ok(PyRequest::now(Operation::DeleteTable(
            self.table(py)?.clone(),
        )))
    }

    /// Reads one item.
    #[pyo3(signature = (key, *, consistent=false))]
    fn get(&self, py: Python<'_>, key: &PyKey, consistent: bool) -> PyResult<PyRequest> {
        Ok(PyRequest::now(Operation::Get(Get {
            table: self.table(py)?.clone(),
            key: (*key.0).clone(),
            consistent,
            attributes: None,
        })))
    }

    /// Writes a whole item. `row` is `"any"`, `"absent"` or `"present"`; `version` is False (unchecked), None (the row
    /// has none) or the version that must be stored. A `wide` key was minted with 64 random bits or more.
    #[pyo3(signature = (item, *, row, version, condition=None, wide=false))]
    fn put(
        &self,
        py: Python<'_>,
        item: &PyItem,
        row: &str,
        version: Option<(String, Option<i64>)>,
        condition: Option<&Bound<'_, PyAny>>,
        wide: bool,
    ) -> PyResult<PyRequest> {
        let guard = Guard {
            wide,
            ..self.guard(row, version, condition)?
        };
        let put = self.put_request(py, item.0.clone(), guard)?;
        Ok(PyRequest::now(Operation::Put(put)))
    }

    /// Writes what differs between two items of one key; gives the request, the item as it will be stored, and whether it
    /// changes. None when nothing differs and no condition is given; a difference in `ignored` attributes alone is none.
    #[pyo3(signature = (old, new, *, removed, ignored, version, condition=None))]
    #[allow(
        clippy::too_many_arguments,
        reason = "one argument for each thing the caller decides"
    )]
    fn patch(
        &self,
        py: Python<'_>,
        old: &PyItem,
        new: &PyItem,
        removed: Vec<String>,
        ignored: Vec<String>,
        version: Option<(String, Option<i64>)>,
        condition: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<Option<(PyRequest, PyItem, bool)>> {
        caught(py, || {
            let table = self.table(py)?;
            let key = table
                .key_of(&old.0)
                .map_err(|error| self.raise(py, error))?;
            for place in self.partition.iter().chain(&self.sort) {
                let field = &self.fields[*place];
                if old.0.get(&field.alias) != new.0.get(&field.alias) {
                    return Err(self.invalid(
                        py,
                        field,
                        &format!(
                            "the key of a stored item cannot change (it is {key}): save a new {} with the new key, \
                             then delete() this one",
                            self.model
                        ),
                    ));
                }
            }
            let mut actions = Vec::new();
            let mut merged = (*old.0).clone();
            let mut real = false;
            for field in &self.fields {
                let (before, after) = (old.0.get(&field.alias), new.0.get(&field.alias));
                if !field.differs(py, before, after)? {
                    if after.is_none() && removed.contains(&field.label) {
                        actions.push(Action::Remove(top(&field.alias)));
                        real = true;
                    }
                    continue;
                }
                real |= !ignored.contains(&field.label);
                if let Some(value) = after {
                    merged.insert(field.alias.clone(), value.clone());
                    actions.push(Action::Set(top(&field.alias), value.clone()));
                } else {
                    merged.remove(&field.alias);
                    actions.push(Action::Remove(top(&field.alias)));
                }
            }
            if !real {
                if condition.is_none() {
                    return Ok(None);
                }
                actions.clear();
                merged = (*old.0).clone();
            }
            let request = PyRequest::now(Operation::Update(Update {
                table: table.clone(),
                key,
                actions,
                guard: self.guard("present", version, condition)?,
                upsert: false,
                returning: false,
            }));
            let merged = PyItem::from(merged);
            Ok(Some((request.leaving(&merged), merged, real)))
        })
    }

    /// Sets and removes attributes (None removes) and applies `actions`, in the store; answers with the new item.
    #[pyo3(signature = (key, values, *, actions, version, condition=None))]
    fn update(
        &self,
        py: Python<'_>,
        key: &PyKey,
        values: &Bound<'_, PyDict>,
        actions: Vec<Bound<'_, PyAny>>,
        version: Option<(String, Option<i64>)>,
        condition: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<PyRequest> {
        let table = self.table(py)?;
        let compiled = self.actions(values, &actions)?;
        Ok(PyRequest::now(Operation::Update(Update {
            table: table.clone(),
            key: (*key.0).clone(),
            actions: compiled,
            guard: self.guard("present", version, condition)?,
            upsert: false,
            returning: true,
        })))
    }

    /// The item that an update makes of another one.
    fn updated(
        &self,
        item: &PyItem,
        values: &Bound<'_, PyDict>,
        actions: Vec<Bound<'_, PyAny>>,
    ) -> PyResult<PyItem> {
        let compiled = self.actions(values, &actions)?;
        let mut item = (*item.0).clone();
        mintkey_store::update::apply(&compiled, &mut item)
            .map_err(|error| self.raise(values.py(), error))?;
        Ok(item.into())
    }

    /// Reads several items.
    #[pyo3(signature = (keys, *, consistent=false))]
    fn batch_get(
        &self,
        py: Python<'_>,
        keys: Vec<Bound<'_, PyKey>>,
        consistent: bool,
    ) -> PyResult<PyRequest> {
        Ok(PyRequest::now(Operation::BatchGet(BatchGet {
            table: self.table(py)?.clone(),
            keys: keys.iter().map(|key| (*key.get().0).clone()).collect(),
            consistent,
            attributes: None,
        })))
    }

    /// Joins requests that write one item each into one.
    fn batch_write(
        &self,
        py: Python<'_>,
        requests: Vec<Bound<'_, PyRequest>>,
    ) -> PyResult<PyRequest> {
        let writes = requests
            .iter()
            .map(|request| match &request.get().request.operation {
                Operation::Put(put) => Ok(Write::Put(put.clone())),
                Operation::Update(update) => Ok(Write::Update(update.clone())),
                Operation::Delete(delete) => Ok(Write::Delete(delete.clone())),
                _ => Err(PyTypeError::new_err(
                    "a batch joins writes of one item each",
                )),
            })
            .collect::<PyResult<_>>()?;
        Ok(PyRequest::now(Operation::BatchWrite(BatchWrite {
            table: self.table(py)?.clone(),
            writes,
        }))
        .joining(&requests))
    }

    /// Removes an item.
    #[pyo3(signature = (key, *, version, condition=None))]
    fn delete(
        &self,
        py: Python<'_>,
        key: &PyKey,
        version: Option<(String, Option<i64>)>,
        condition: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<PyRequest> {
        Ok(PyRequest::now(Operation::Delete(Delete {
            table: self.table(py)?.clone(),
            key: (*key.0).clone(),
            guard: self.guard("any", version, condition)?,
        })))
    }

    /// Reads a page of a partition, or of an index. `sort` is a tuple such as `("between", low, high)`.
    #[pyo3(signature = (partition, *, index=None, sort=None, filter=None, descending=false, limit=None, after=None,
        attributes=None, count=false, consistent=false))]
    #[allow(
        clippy::too_many_arguments,
        reason = "the parts of a query, each named"
    )]
    fn query(
        &self,
        py: Python<'_>,
        partition: Vec<Bound<'_, PyAny>>,
        index: Option<String>,
        sort: Option<&Bound<'_, PyTuple>>,
        filter: Option<&Bound<'_, PyAny>>,
        descending: bool,
        limit: Option<usize>,
        after: Option<&[u8]>,
        attributes: Option<Vec<String>>,
        count: bool,
        consistent: bool,
    ) -> PyResult<PyRequest> {
        let table = self.table(py)?;
        let (partition_keys, sort_key): (Vec<&KeyAttribute>, Option<&KeyAttribute>) = match &index {
            None => (vec![&table.partition], table.sort.as_ref()),
            Some(name) => {
                let index = table.index(name).ok_or_else(|| {
                    PyValueError::new_err(format!("{} has no index {name:?}", self.model))
                })?;
                (index.partition.iter().collect(), index.sort.as_ref())
            }
        };
        let partition = partition
            .iter()
            .zip(partition_keys)
            .map(|(object, attribute)| self.key_value(object, attribute))
            .collect::<PyResult<Vec<_>>>()?;
        let sort = match (sort, sort_key) {
            (Some(tuple), Some(attribute)) => Some(self.sort_condition(tuple, attribute)?),
            _ => None,
        };
        Ok(PyRequest::now(Operation::Query(Query {
            table: table.clone(),
            index,
            partition,
            sort,
            filter: self.checked(filter)?,
            descending,
            limit,
            after: self.position(py, after)?,
            attributes: self.aliases(attributes)?,
            count,
            consistent,
        })))
    }

    /// Reads a page of the table, or of one of its segments.
    #[pyo3(signature = (*, filter=None, descending=false, limit=None, after=None, attributes=None, count=false,
        consistent=false, segment=None))]
    #[allow(clippy::too_many_arguments, reason = "the parts of a scan, each named")]
    fn scan(
        &self,
        py: Python<'_>,
        filter: Option<&Bound<'_, PyAny>>,
        descending: bool,
        limit: Option<usize>,
        after: Option<&[u8]>,
        attributes: Option<Vec<String>>,
        count: bool,
        consistent: bool,
        segment: Option<(u32, u32)>,
    ) -> PyResult<PyRequest> {
        Ok(PyRequest::now(Operation::Scan(Scan {
            table: self.table(py)?.clone(),
            filter: self.checked(filter)?,
            descending,
            limit,
            after: self.position(py, after)?,
            attributes: self.aliases(attributes)?,
            count,
            segment,
            consistent,
        })))
    }
}

impl Codec {
    /// The item of an instance's values, checked.
    pub fn item(
        &self,
        values: &Bound<'_, PyDict>,
        overrides: Option<&Bound<'_, PyDict>>,
        partial: bool,
    ) -> PyResult<Item> {
        caught(values.py(), || {
            let py = values.py();
            let mut pairs = Vec::with_capacity(self.fields.len());
            for (place, field) in self.fields.iter().enumerate() {
                let given = match overrides
                    .map(|overrides| overrides.get_item(&field.name))
                    .transpose()?
                    .flatten()
                {
                    None => values.get_item(&field.name)?,
                    found => found,
                };
                let stored = match given {
                    Some(object) if !object.is_none() => self.stored(field, &object)?,
                    _ => None,
                };
                match stored {
                    Some(value) => pairs.push((field.alias.clone(), value)),
                    None if Some(place) == self.partition || Some(place) == self.sort => {
                        return Err(self.invalid(
                            py,
                            field,
                            "a key needs a value: give one, or mint it with default=",
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

    /// The put of an item, whose key is checked.
    pub fn put_request(&self, py: Python<'_>, item: Arc<Item>, guard: Guard) -> PyResult<Put> {
        let table = self.table(py)?.clone();
        Put::new(table, item, guard).map_err(|error| self.raise(py, error))
    }

    /// The actions of an update: what `values` set (None removes), then the others, checked together.
    fn actions(
        &self,
        values: &Bound<'_, PyDict>,
        actions: &[Bound<'_, PyAny>],
    ) -> PyResult<Vec<Action>> {
        caught(values.py(), || {
            let py = values.py();
            let table = self.table(py)?;
            let mut compiled = Vec::with_capacity(values.len() + actions.len());
            // A copy, which no code that runs meanwhile can change.
            for (name, object) in &values.copy()? {
                let name: String = name.extract()?;
                let place = self
                    .fields
                    .iter()
                    .position(|field| field.label == name)
                    .ok_or_else(|| self.unknown(&name))?;
                let field = &self.fields[place];
                let stored = if object.is_none() {
                    None
                } else {
                    self.stored(field, &object)?
                };
                if stored.is_none() && field.required {
                    return Err(self.invalid(py, field, "required, so an update cannot remove it"));
                }
                compiled.push(stored.map_or_else(
                    || Action::Remove(top(&field.alias)),
                    |value| Action::Set(top(&field.alias), value),
                ));
            }
            for one in actions {
                compiled.push(action(one).map_err(|refusal| self.refused(py, refusal))?);
            }
            mintkey_store::update::check(&compiled, table)
                .map_err(|error| self.raise(py, error))?;
            Ok(compiled)
        })
    }

    pub fn table(&self, py: Python<'_>) -> PyResult<&Arc<Table>> {
        self.table.as_ref().ok_or_else(|| {
            let message = format!(
                "{} is abstract, so it has no table: derive a class with a key from it",
                self.model
            );
            from_store(py, mintkey_store::Error::configuration(message), None, None)
        })
    }

    fn stored(&self, field: &Field, object: &Bound<'_, PyAny>) -> PyResult<Option<Value>> {
        let py = object.py();
        field.encode(object).map_err(|refusal| match refusal {
            Refusal::Reason(reason) => self.invalid(py, field, &reason),
            Refusal::Raised(error) if refuses(&error, py) => {
                let told = self.invalid(py, field, &shortened(&error.value(py).to_string()));
                told.set_cause(py, Some(error));
                told
            }
            Refusal::Raised(error) => error,
        })
    }

    fn values<'py>(&self, py: Python<'py>, item: &Item) -> PyResult<Bound<'py, PyDict>> {
        caught(py, || {
            let dict = PyDict::new(py);
            // Items are written in the order of the fields, so the next one is nearly always the right one.
            let mut next = 0;
            for (alias, value) in item {
                let place = match self.fields.get(next) {
                    Some(field) if field.alias == *alias => next,
                    _ => match self.fields.iter().position(|field| field.alias == *alias) {
                        Some(place) => place,
                        None => continue,
                    },
                };
                next = place + 1;
                let field = &self.fields[place];
                dict.set_item(&field.name, self.decoded(py, field, value, item)?)?;
            }
            Ok(dict)
        })
    }

    fn decoded<'py>(
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

    fn key_part(
        &self,
        values: &Bound<'_, PyDict>,
        place: Option<usize>,
        attribute: &KeyAttribute,
    ) -> PyResult<KeyValue> {
        let py = values.py();
        let field = place
            .map(|place| &self.fields[place])
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

    /// A key value that is in its plain stored form already.
    fn key_value(&self, object: &Bound<'_, PyAny>, attribute: &KeyAttribute) -> PyResult<KeyValue> {
        let py = object.py();
        let label = self
            .fields
            .iter()
            .find(|field| field.alias == attribute.name)
            .map_or("", |field| &field.label);
        let kind = match attribute.kind {
            KeyKind::String => Kind::String,
            KeyKind::Number => Kind::Number,
            KeyKind::Binary => Kind::Binary,
        };
        match to_stored(kind, object) {
            Ok(Some(value)) => KeyValue::from_value(&value, attribute.kind)
                .ok_or_else(|| self.invalid_at(py, label, None, "this cannot be a key")),
            Ok(None) => Err(self.invalid_at(py, label, None, "a key needs a value")),
            Err(Refusal::Reason(reason)) => Err(self.invalid_at(py, label, None, &reason)),
            Err(Refusal::Raised(error)) => Err(error),
        }
    }

    fn sort_condition(
        &self,
        tuple: &Bound<'_, PyTuple>,
        attribute: &KeyAttribute,
    ) -> PyResult<SortCondition> {
        let name: String = tuple.get_item(0)?.extract()?;
        let operand = |place: usize| self.key_value(&tuple.get_item(place)?, attribute);
        let bound = |value: usize, inclusive: usize| -> PyResult<Limit<KeyValue>> {
            if tuple.get_item(value)?.is_none() {
                return Ok(Limit::Unbounded);
            }
            let limit = operand(value)?;
            let inclusive = tuple.get_item(inclusive)?.cast::<PyBool>()?.is_true();
            Ok(if inclusive {
                Limit::Included(limit)
            } else {
                Limit::Excluded(limit)
            })
        };
        Ok(match name.as_str() {
            "==" => SortCondition::Eq(operand(1)?),
            "<" => SortCondition::Lt(operand(1)?),
            "<=" => SortCondition::Le(operand(1)?),
            ">" => SortCondition::Gt(operand(1)?),
            ">=" => SortCondition::Ge(operand(1)?),
            "between" => SortCondition::Between(operand(1)?, operand(2)?),
            "begins_with" => SortCondition::BeginsWith(operand(1)?),
            "range" => SortCondition::Range {
                low: bound(1, 2)?,
                high: bound(3, 4)?,
            },
            other => {
                return Err(PyValueError::new_err(format!(
                    "{other:?} is no condition on a sort key"
                )));
            }
        })
    }

    fn guard(
        &self,
        row: &str,
        version: Option<(String, Option<i64>)>,
        condition: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<Guard> {
        let row = match row {
            "absent" => Row::Absent,
            "present" => Row::Present,
            _ => Row::Any,
        };
        let version = version.map(|(name, stored)| (Name::from(name), stored.map(Number::from)));
        Ok(Guard {
            row,
            version,
            condition: self.checked(condition)?,
            wide: false,
        })
    }

    fn checked(&self, tuple: Option<&Bound<'_, PyAny>>) -> PyResult<Option<Condition>> {
        let Some(tuple) = tuple else { return Ok(None) };
        let py = tuple.py();
        caught(py, || {
            let compiled = condition(tuple).map_err(|refusal| self.refused(py, refusal))?;
            compiled.check().map_err(|error| self.raise(py, error))?;
            Ok(Some(compiled))
        })
    }

    fn position(&self, py: Python<'_>, bytes: Option<&[u8]>) -> PyResult<Option<Position>> {
        bytes
            .map(Position::from_bytes)
            .transpose()
            .map_err(|error| self.raise(py, error))
    }

    fn aliases(&self, names: Option<Vec<String>>) -> PyResult<Option<Vec<Name>>> {
        let Some(names) = names else { return Ok(None) };
        names
            .iter()
            .map(|name| {
                let field = self.fields.iter().find(|field| field.label == *name);
                field
                    .map(|field| field.alias.clone())
                    .ok_or_else(|| self.unknown(name))
            })
            .collect::<PyResult<_>>()
            .map(Some)
    }
}

impl Field {
    fn encode(&self, object: &Bound<'_, PyAny>) -> Result<Option<Value>, Refusal> {
        match &self.convert {
            None => to_stored(self.kind, object),
            Some((encode, _)) => to_stored(self.kind, &encode.bind(object.py()).call1((object,))?),
        }
    }

    /// Whether two stored values differ in meaning: another program may have written the same time, or the same
    /// JSON, with other characters.
    fn differs(&self, py: Python<'_>, old: Option<&Value>, new: Option<&Value>) -> PyResult<bool> {
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

fn top(alias: &Name) -> Path {
    Path(vec![Step::Name(alias.clone())])
}

fn key_kind_named(name: &str) -> PyResult<KeyKind> {
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
