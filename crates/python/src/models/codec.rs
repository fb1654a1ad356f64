//! `Codec`, the compiled schema of a model: converts instances to items and back, and creates the requests.

#![allow(
    clippy::needless_pass_by_value,
    reason = "pyo3 hands extracted arguments over by value"
)]

use std::sync::{Arc, OnceLock};

use mintkey_store::{
    BatchGet, BatchWrite, Check, Delete, Get, Guard, Key, KeyAttribute, Map, Operation, Query,
    Returning, Scan, Table, Transaction, TransactionWrite, Update, Value, Write, description,
};
use pyo3::exceptions::{PyTypeError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyList, PyString, PyTuple, PyType};

use crate::errors::{from_store, key_dict};
use crate::models::changes::{Patch, patch};
use crate::models::definition::{Definition, FieldSpec, IndexSpec, UniqueSpec, unique_of};
use crate::models::fields::{Field, Selected};
use crate::models::instance_slots;
use crate::panics::caught;
use crate::store::PyRequest;
use crate::values::action::PyAction;
use crate::values::condition::PyCondition;
use crate::values::convert::{Kind, plain_error, to_value};
use crate::values::item::{PyItem, PyKey};

/// The compiled schema of a model.
#[pyclass(frozen, module = "mintkey._core")]
pub struct Codec {
    pub(super) model: String,
    pub(super) fields: Vec<Field>,
    pub(super) table: Option<Arc<Table>>,
    /// The table with the expiry that another class of it declares.
    pub(super) expiring: OnceLock<Arc<Table>>,
    pub(super) partition: Option<usize>,
    pub(super) sort: Option<usize>,
}

/// The exceptions of refused items, each with the index of its item.
type Refused = Vec<(usize, Py<PyAny>)>;

#[pymethods]
impl Codec {
    /// Compiles a schema.
    #[new]
    #[pyo3(signature = (model, fields, *, table=None, partition=None, sort=None, ttl=None, indexes=Vec::new(),
        unique=Vec::new(), colocate=None))]
    #[allow(
        clippy::too_many_arguments,
        reason = "the parts of a schema, each named"
    )]
    fn new(
        model: String,
        fields: Vec<FieldSpec<'_>>,
        table: Option<String>,
        partition: Option<&str>,
        sort: Option<&str>,
        ttl: Option<&str>,
        indexes: Vec<IndexSpec>,
        unique: Vec<UniqueSpec>,
        colocate: Option<String>,
    ) -> PyResult<Self> {
        let definition = Definition::new(&model, fields)?;
        let table = match (table, partition) {
            (Some(name), Some(partition)) => Some(Arc::new(Table {
                name,
                model: model.clone(),
                labels: definition.labels(),
                partition: definition.key(partition)?,
                sort: sort.map(|name| definition.key(name)).transpose()?,
                ttl: ttl.map(|name| definition.stored_name(name)).transpose()?,
                indexes: indexes
                    .into_iter()
                    .map(|index| definition.index(index))
                    .collect::<PyResult<_>>()?,
                unique: unique.into_iter().map(unique_of).collect(),
                colocate,
            })),
            _ => None,
        };
        let position = |name| definition.position(name);
        let (partition, sort) = (
            partition.map(position).transpose()?,
            sort.map(position).transpose()?,
        );
        let fields = definition.fields;
        Ok(Self {
            model,
            fields,
            table,
            expiring: OnceLock::new(),
            partition,
            sort,
        })
    }

    /// The schema of a table without a class, from what the store's catalog has of it. Its attributes are its keys.
    #[staticmethod]
    fn of_table(py: Python<'_>, name: &str, description: &PyItem) -> PyResult<Self> {
        let table = description::parse(&Table::unknown(name), &description.0).ok_or_else(|| {
            let message = "this is not the description of a table".to_owned();
            from_store(py, mintkey_store::Error::configuration(message), None, None)
        })?;
        let field = |part: &KeyAttribute| Field {
            label: part.name.to_string(),
            name: PyString::new(py, &part.name).unbind(),
            alias: part.name.clone(),
            kind: Kind::of_key(part.kind),
            required: true,
            convert: None,
            structure: None,
        };
        Ok(Self {
            model: name.to_owned(),
            fields: table.key_attributes().map(field).collect(),
            partition: Some(0),
            sort: table.sort.as_ref().map(|_| 1),
            table: Some(Arc::new(table)),
            expiring: OnceLock::new(),
        })
    }

    /// Takes over the expiry that another class of the table declares under this stored name: it concerns all rows.
    fn share_ttl(&self, name: &str) {
        if let Some(own) = self.table.as_ref().filter(|table| table.ttl.is_none()) {
            self.expiring.get_or_init(|| {
                Arc::new(Table {
                    ttl: Some(name.into()),
                    ..Table::clone(own)
                })
            });
        }
    }

    // Values to items and back.

    /// The item of an instance's values, checked; `overrides` go before `values`. A `partial` instance does not know all
    /// of its attributes, so none is missed. Keys that mean the same as those of the `loaded` item keep their text.
    #[pyo3(signature = (values, overrides=None, *, partial=false, loaded=None))]
    fn encode(
        &self,
        values: &Bound<'_, PyDict>,
        overrides: Option<&Bound<'_, PyDict>>,
        partial: bool,
        loaded: Option<&PyItem>,
    ) -> PyResult<PyItem> {
        let mut item = self.item(values, overrides, partial, loaded.map(|loaded| &*loaded.0))?;
        if let Some(loaded) = loaded {
            self.keep_keys(values.py(), &loaded.0, &mut item)?;
        }
        Ok(item.into())
    }

    /// The encoded values of an instance, for a map that contains it.
    fn plain<'py>(&self, values: &Bound<'py, PyDict>) -> PyResult<Bound<'py, PyDict>> {
        self.encode(values, None, false, None)?.to_dict(values.py())
    }

    /// An instance's values out of a stored item; attributes that the model lacks are left out.
    fn decode<'py>(&self, py: Python<'py>, item: &PyItem) -> PyResult<Bound<'py, PyDict>> {
        self.values(py, &item.0)
    }

    /// A new instance of a model from a stored item, without a call of the constructor.
    fn load<'py>(
        &self,
        model: &Bound<'py, PyType>,
        item: &Bound<'py, PyItem>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let values = self.values(item.py(), &item.get().0)?;
        instance_slots::loaded(model, &values, item.as_any())
    }

    /// The values of an instance from the encoded values of a map.
    fn decode_plain<'py>(&self, stored: &Bound<'py, PyDict>) -> PyResult<Bound<'py, PyDict>> {
        let value = to_value(stored.as_any(), 1).map_err(plain_error)?;
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
            let names = PyList::empty(values.py());
            for field in &self.fields {
                if field.has_changed(values, item.map(|item| &*item.0))? {
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

    fn key_of(&self, py: Python<'_>, item: &PyItem) -> PyResult<PyKey> {
        let key = self
            .table(py)?
            .key_of(&item.0)
            .map_err(|error| self.raise(py, error))?;
        Ok(PyKey(Arc::new(key)))
    }

    /// A key as a dict of attribute names to stored values.
    pub(super) fn key_dict<'py>(
        &self,
        py: Python<'py>,
        key: &PyKey,
    ) -> PyResult<Bound<'py, PyDict>> {
        let label = |index: Option<usize>| index.map(|index| self.fields[index].label.as_str());
        key_dict(
            py,
            &key.0,
            label(self.partition).unwrap_or_default(),
            label(self.sort),
        )
    }

    // Requests.

    /// Creates the table, or adds the indexes that it lacks.
    fn create_table(&self, py: Python<'_>) -> PyResult<PyRequest> {
        self.about_table(py, Operation::CreateTable)
    }

    /// Drops the unique values with these names.
    fn drop_unique(&self, py: Python<'_>, names: Vec<String>) -> PyResult<PyRequest> {
        self.about_table(py, |table| Operation::DropUnique(table, names))
    }

    /// Asks for the indexes that the table lacks and that will refuse rows.
    fn refusing_indexes(&self, py: Python<'_>) -> PyResult<PyRequest> {
        self.about_table(py, Operation::RefusingIndexes)
    }

    /// Asks whether the table is there.
    fn table_exists(&self, py: Python<'_>) -> PyResult<PyRequest> {
        self.about_table(py, Operation::TableExists)
    }

    /// Drops the table.
    fn delete_table(&self, py: Python<'_>) -> PyResult<PyRequest> {
        self.about_table(py, Operation::DeleteTable)
    }

    /// Reads one item: with `attributes` only these and the key.
    #[pyo3(signature = (key, *, consistent=false, attributes=None))]
    fn get(
        &self,
        py: Python<'_>,
        key: &PyKey,
        consistent: bool,
        attributes: Option<Vec<Selected>>,
    ) -> PyResult<PyRequest> {
        Ok(PyRequest::now(Operation::Get(Get {
            table: self.table(py)?.clone(),
            key: (*key.0).clone(),
            consistent,
            attributes: self.selected(attributes)?,
        })))
    }

    /// Reads the item with these encoded unique values.
    #[pyo3(signature = (name, values, *, attributes=None))]
    fn get_unique(
        &self,
        py: Python<'_>,
        name: &str,
        values: Vec<Bound<'_, PyAny>>,
        attributes: Option<Vec<Selected>>,
    ) -> PyResult<PyRequest> {
        let read = self.unique_read(py, name, &values, attributes)?;
        Ok(PyRequest::now(Operation::GetUnique(read)))
    }

    /// Writes a whole item. `row` is `"any"`, `"absent"` or `"present"`; `version` is False (unchecked), None (the row
    /// has none) or the version that must be stored. A `collision_free` key was generated with 64 random bits or more.
    #[pyo3(signature = (item, *, row, version, condition=None, collision_free=false))]
    fn put(
        &self,
        py: Python<'_>,
        item: &PyItem,
        row: &str,
        version: Option<(String, Option<i64>)>,
        condition: Option<&Bound<'_, PyCondition>>,
        collision_free: bool,
    ) -> PyResult<PyRequest> {
        let guard = Guard {
            collision_free,
            ..Self::guard(row, version, condition)
        };
        let put = self.put_request(py, item.0.clone(), guard)?;
        Ok(PyRequest::now(Operation::Put(put)))
    }

    /// Writes the differences of two items of one key. Returns the request, the item after the write, and whether it
    /// changes. None when nothing differs and no condition is given; a difference in `ignored` attributes alone is none.
    /// A `guard` replaces the condition, and is no reason to send the request.
    #[pyo3(signature = (old, new, *, removed, ignored, version, condition=None, guard=None))]
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
        condition: Option<&Bound<'_, PyCondition>>,
        guard: Option<&Bound<'_, PyCondition>>,
    ) -> PyResult<Option<(PyRequest, PyItem, bool)>> {
        caught(py, || {
            let table = self.table(py)?;
            let key = table
                .key_of(&old.0)
                .map_err(|error| self.raise(py, error))?;
            self.check_same_key(py, &old.0, &new.0, &key)?;
            let Patch {
                mut actions,
                mut merged,
                real,
            } = patch(py, &self.fields, &old.0, &new.0, &removed, &ignored)?;
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
                guard: Self::guard("present", version, guard.or(condition)),
                returning: Returning::Nothing,
            }));
            let merged = PyItem::from(merged);
            Ok(Some((request.leaving(&merged), merged, real)))
        })
    }

    /// Sets and removes attributes (None removes) and applies `actions`, in the store; answers with the new item, or with the
    /// old one.
    #[pyo3(signature = (key, values, *, actions, version, condition=None, return_old=false))]
    #[allow(
        clippy::too_many_arguments,
        reason = "one argument for each thing the caller decides"
    )]
    fn update(
        &self,
        py: Python<'_>,
        key: &PyKey,
        values: &Bound<'_, PyDict>,
        actions: Vec<Bound<'_, PyAction>>,
        version: Option<(String, Option<i64>)>,
        condition: Option<&Bound<'_, PyCondition>>,
        return_old: bool,
    ) -> PyResult<PyRequest> {
        let table = self.table(py)?;
        let compiled = self.actions(values, &actions)?;
        Ok(PyRequest::now(Operation::Update(Update {
            table: table.clone(),
            key: (*key.0).clone(),
            actions: compiled,
            guard: Self::guard("present", version, condition),
            returning: if return_old {
                Returning::Old
            } else {
                Returning::New
            },
        })))
    }

    /// The item that an update makes of another one.
    fn updated(
        &self,
        item: &PyItem,
        values: &Bound<'_, PyDict>,
        actions: Vec<Bound<'_, PyAction>>,
    ) -> PyResult<PyItem> {
        let compiled = self.actions(values, &actions)?;
        let mut item = (*item.0).clone();
        mintkey_store::update::apply(&compiled, &mut item)
            .map_err(|error| self.raise(values.py(), error))?;
        Ok(item.into())
    }

    /// Reads several items: with `attributes` only these and the key.
    #[pyo3(signature = (keys, *, consistent=false, attributes=None))]
    fn batch_get(
        &self,
        py: Python<'_>,
        keys: Vec<Bound<'_, PyKey>>,
        consistent: bool,
        attributes: Option<Vec<Selected>>,
    ) -> PyResult<PyRequest> {
        Ok(PyRequest::now(Operation::BatchGet(BatchGet {
            table: self.table(py)?.clone(),
            keys: keys.iter().map(|key| (*key.get().0).clone()).collect(),
            consistent,
            attributes: self.selected(attributes)?,
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

    /// Writes several whole items, with no other check than that of the row, which is `"any"` or `"absent"`. Also returns the
    /// exception of each item that the table cannot hold, with its index; the request is without these.
    fn put_all(
        &self,
        py: Python<'_>,
        items: Vec<Bound<'_, PyItem>>,
        row: &str,
    ) -> PyResult<(PyRequest, Refused)> {
        let mut writes = Vec::with_capacity(items.len());
        let mut refused = Vec::new();
        for (index, item) in items.iter().enumerate() {
            match self.put_request(py, item.get().0.clone(), Self::guard(row, None, None)) {
                Ok(put) => writes.push(Write::Put(put)),
                Err(error) => refused.push((index, error.into_value(py).into_any())),
            }
        }
        let table = self.table(py)?.clone();
        let request = PyRequest::now(Operation::BatchWrite(BatchWrite { table, writes }));
        Ok((request, refused))
    }

    /// Removes an item; answers with it if `return_old`.
    #[pyo3(signature = (key, *, version, condition=None, return_old=false))]
    fn delete(
        &self,
        py: Python<'_>,
        key: &PyKey,
        version: Option<(String, Option<i64>)>,
        condition: Option<&Bound<'_, PyCondition>>,
        return_old: bool,
    ) -> PyResult<PyRequest> {
        Ok(PyRequest::now(Operation::Delete(Delete {
            table: self.table(py)?.clone(),
            key: (*key.0).clone(),
            guard: Self::guard("any", version, condition),
            returns_old: return_old,
        })))
    }

    /// A transaction that writes nothing, and fails unless the condition is true of an item.
    fn check(
        &self,
        py: Python<'_>,
        key: &PyKey,
        condition: &Bound<'_, PyCondition>,
    ) -> PyResult<PyRequest> {
        let check = Check {
            table: self.table(py)?.clone(),
            key: (*key.0).clone(),
            guard: Self::guard("any", None, Some(condition)),
        };
        Ok(PyRequest::now(Operation::Transaction(Transaction {
            writes: vec![TransactionWrite::Check(check)],
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
        filter: Option<&Bound<'_, PyCondition>>,
        descending: bool,
        limit: Option<usize>,
        after: Option<&[u8]>,
        attributes: Option<Vec<Selected>>,
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
            filter: filter.map(|filter| filter.get().compiled()),
            descending,
            limit,
            after: self.position(py, after)?,
            attributes: self.selected(attributes)?,
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
        filter: Option<&Bound<'_, PyCondition>>,
        descending: bool,
        limit: Option<usize>,
        after: Option<&[u8]>,
        attributes: Option<Vec<Selected>>,
        count: bool,
        consistent: bool,
        segment: Option<(u32, u32)>,
    ) -> PyResult<PyRequest> {
        Ok(PyRequest::now(Operation::Scan(Scan {
            table: self.table(py)?.clone(),
            filter: filter.map(|filter| filter.get().compiled()),
            descending,
            limit,
            after: self.position(py, after)?,
            attributes: self.selected(attributes)?,
            count,
            segment,
            consistent,
        })))
    }
}
