//! Requests and replies as Python objects.

#![allow(
    clippy::needless_pass_by_value,
    reason = "pyo3 hands extracted arguments over by value"
)]

use std::sync::Arc;

use mintkey_store::size::item_size;
use mintkey_store::units::{read_units, transaction_read_units, transaction_units, write_units};
use mintkey_store::{
    Error, Item, Operation, Page, Position, Reply, Request, Returning, Transaction, TransactionGet,
    TransactionWrite, Write, description,
};
use pyo3::exceptions::PyTypeError;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyList};

use crate::values::item::{PyItem, PyKey};

/// A request to a store.
#[pyclass(frozen, name = "Request", module = "mintkey._core")]
pub struct PyRequest {
    pub request: Arc<Request>,
    /// The items that its writes leave in the store, if they are known. In the order of the writes; the end is left out if
    /// no item of it is known.
    results: Vec<Option<Arc<Item>>>,
}

impl PyRequest {
    /// A request that evaluates expiry for the current time.
    pub fn now(operation: Operation) -> Self {
        Self {
            request: Arc::new(Request::new(
                mintkey_ids::now_ms().div_euclid(1000),
                operation,
            )),
            results: Vec::new(),
        }
    }

    /// Sets the item that this write leaves in the store.
    pub fn leaving(mut self, item: &PyItem) -> Self {
        self.results = vec![Some(item.0.clone())];
        self
    }

    /// Sets the items that the joined requests leave in the store.
    pub fn joining(mut self, requests: &[Bound<'_, Self>]) -> Self {
        self.results = requests
            .iter()
            .map(|request| request.get().results.first().cloned().flatten())
            .collect();
        self
    }

    /// The size of the item that the write at this index leaves in the store, if it is known.
    fn result_size(&self, index: usize) -> Option<usize> {
        let item = self.results.get(index)?.as_ref()?;
        Some(item_size(item))
    }

    /// The capacity units of the write at this index; `least` if its item is not known.
    fn write_units(&self, index: usize, least: f64) -> f64 {
        self.result_size(index)
            .map_or(least, |size| write_units(size).max(least))
    }

    /// Whether it is a strongly consistent read.
    fn is_consistent(&self) -> bool {
        match &self.request.operation {
            Operation::Get(get) => get.consistent,
            Operation::GetUnique(_) => true,
            Operation::BatchGet(get) => get.consistent,
            Operation::Query(query) => query.consistent,
            Operation::Scan(scan) => scan.consistent,
            _ => false,
        }
    }
}

#[pymethods]
impl PyRequest {
    /// Pings the servers.
    #[staticmethod]
    fn ping() -> Self {
        Self::now(Operation::Ping)
    }

    /// Joins requests that write or check one item each into a transaction.
    #[staticmethod]
    fn transaction(requests: Vec<Bound<'_, Self>>) -> PyResult<Self> {
        let mut writes = Vec::with_capacity(requests.len());
        for request in &requests {
            match &request.get().request.operation {
                Operation::Put(put) => writes.push(TransactionWrite::Put(put.clone())),
                Operation::Update(update) => writes.push(TransactionWrite::Update(update.clone())),
                Operation::Delete(delete) => writes.push(TransactionWrite::Delete(delete.clone())),
                Operation::Transaction(check) => writes.extend(check.writes.iter().cloned()),
                _ => {
                    return Err(PyTypeError::new_err(
                        "a transaction joins writes and checks of one item each",
                    ));
                }
            }
        }
        Ok(Self::now(Operation::Transaction(Transaction { writes })).joining(&requests))
    }

    /// Joins requests that read one item each into a transaction.
    #[staticmethod]
    fn transaction_get(requests: Vec<Bound<'_, Self>>) -> PyResult<Self> {
        let keys = requests
            .iter()
            .map(|request| match &request.get().request.operation {
                Operation::Get(get) => Ok((get.table.clone(), get.key.clone())),
                _ => Err(PyTypeError::new_err(
                    "a transaction of reads joins reads of one item each",
                )),
            })
            .collect::<PyResult<_>>()?;
        Ok(Self::now(Operation::TransactionGet(TransactionGet {
            keys,
        })))
    }

    /// Lists the tables of the store.
    #[staticmethod]
    fn list_tables() -> Self {
        Self::now(Operation::ListTables)
    }

    /// Describes the table of this name.
    #[staticmethod]
    fn describe_table(name: String) -> Self {
        Self::now(Operation::DescribeTable(name))
    }

    /// Whether it changes the store. Then its units are write units, else read units.
    #[getter]
    fn writes(&self) -> bool {
        self.request.operation.is_write()
    }

    /// The key of the item that it writes, if it writes one.
    #[getter]
    fn key(&self) -> Option<PyKey> {
        let operation = &self.request.operation;
        let key = operation.key().filter(|_| operation.is_write())?;
        Some(PyKey(Arc::new(key.clone())))
    }

    /// Asks the store to report the units that it takes, if it counts them.
    fn meter(&self) {
        self.request.metrics.meter();
    }

    /// The capacity units that the store has counted; None if it counts none.
    #[getter]
    fn consumed(&self) -> Option<f64> {
        self.request.metrics.consumed()
    }

    /// The seconds until its reply was there, of a metered request that was executed together with others.
    #[getter]
    fn seconds(&self) -> Option<f64> {
        let duration = self.request.metrics.duration();
        duration.map(|duration| duration.as_secs_f64())
    }

    #[getter]
    fn operation(&self) -> &'static str {
        self.request.operation.name()
    }

    /// The names of its tables, each once.
    #[getter]
    fn tables(&self) -> Vec<&str> {
        let mut names = Vec::new();
        for table in self.request.operation.tables() {
            if !names.contains(&&*table.name) {
                names.push(&*table.name);
            }
        }
        names
    }

    /// How often it was sent, or the part of it that was sent most often.
    #[getter]
    fn attempts(&self) -> u32 {
        1 + self.request.metrics.retries()
    }

    /// The number of reads or writes of a batch or transaction; None for other requests.
    #[getter]
    fn size(&self) -> Option<usize> {
        match &self.request.operation {
            Operation::BatchGet(batch) => Some(batch.keys.len()),
            Operation::BatchWrite(batch) => Some(batch.writes.len()),
            Operation::Transaction(transaction) => Some(transaction.writes.len()),
            Operation::TransactionGet(transaction) => Some(transaction.keys.len()),
            _ => None,
        }
    }

    /// The number of items that it read or wrote, if this is its reply.
    fn rows(&self, answer: &Bound<'_, PyAny>) -> PyResult<u64> {
        Ok(match &self.request.operation {
            Operation::CreateTable(_)
            | Operation::TableExists(_)
            | Operation::RefusingIndexes(_)
            | Operation::DeleteTable(_)
            | Operation::DropUnique(..)
            | Operation::ListTables
            | Operation::DescribeTable(_)
            | Operation::Ping => 0,
            Operation::Put(_) | Operation::Update(_) | Operation::Delete(_) => 1,
            Operation::Get(_) | Operation::GetUnique(_) => u64::from(!answer.is_none()),
            Operation::Query(_) | Operation::Scan(_) => answer.cast::<PyPage>()?.get().count,
            Operation::BatchGet(_) | Operation::TransactionGet(_) => count(answer, false)?,
            // Exceptions are failures.
            Operation::BatchWrite(_) => count(answer, true)?,
            Operation::Transaction(transaction) => {
                let checks =
                    |write: &&TransactionWrite| !matches!(write, TransactionWrite::Check(_));
                transaction.writes.iter().filter(checks).count() as u64
            }
        })
    }

    /// Whether the store throttled it.
    #[getter]
    fn throttled(&self) -> bool {
        self.request.metrics.was_throttled()
    }

    /// The capacity units that it takes at least, as known before its reply.
    #[getter]
    fn units(&self) -> f64 {
        let least = self.request.operation.least_units();
        match &self.request.operation {
            Operation::BatchWrite(batch) => batch
                .writes
                .iter()
                .map(Write::least_units)
                .enumerate()
                .map(|(index, least)| self.write_units(index, least))
                .sum(),
            Operation::Transaction(transaction) => transaction
                .writes
                .iter()
                .map(TransactionWrite::least_size)
                .enumerate()
                .map(|(index, least)| self.result_size(index).unwrap_or(least))
                .map(transaction_units)
                .sum(),
            _ => self.write_units(0, least),
        }
    }

    /// The capacity units that it took, if this is its reply.
    fn units_of(&self, answer: &Bound<'_, PyAny>) -> PyResult<f64> {
        let consistent = self.is_consistent();
        Ok(match &self.request.operation {
            Operation::Get(_) => read_units(found_size(answer)?, consistent),
            // A marker, then the row.
            Operation::GetUnique(_) => read_units(0, true) + read_units(found_size(answer)?, true),
            Operation::BatchGet(_) => {
                let mut units = 0.0;
                for found in answer.try_iter()? {
                    units += read_units(found_size(&found?)?, consistent);
                }
                units
            }
            Operation::TransactionGet(_) => {
                let mut units = 0.0;
                for found in answer.try_iter()? {
                    units += transaction_read_units(found_size(&found?)?);
                }
                units
            }
            Operation::Query(_) | Operation::Scan(_) => {
                let page = answer.cast::<PyPage>()?.get();
                let mut bytes = 0;
                for item in page.items.bind(answer.py()) {
                    bytes += found_size(&item)?;
                }
                read_units(bytes, consistent)
            }
            Operation::Update(update) if update.returning == Returning::New => {
                write_units(found_size(answer)?).max(self.units())
            }
            _ => self.units(),
        })
    }
}

/// The members of a list that are None, or that are not.
fn count(answer: &Bound<'_, PyAny>, is_none: bool) -> PyResult<u64> {
    let mut count = 0;
    for member in answer.try_iter()? {
        count += u64::from(member?.is_none() == is_none);
    }
    Ok(count)
}

/// The size of an item, or nothing for None.
fn found_size(found: &Bound<'_, PyAny>) -> PyResult<usize> {
    if found.is_none() {
        return Ok(0);
    }
    Ok(item_size(&found.cast::<PyItem>()?.get().0))
}

/// A page of a query or scan.
#[pyclass(frozen, name = "Page", module = "mintkey._core")]
pub struct PyPage {
    items: Py<PyList>,
    count: u64,
    next: Option<Position>,
}

impl PyPage {
    fn new(py: Python<'_>, page: Page) -> PyResult<Self> {
        let items = PyList::empty(py);
        for item in page.items {
            items.append(PyItem::from(item))?;
        }
        Ok(Self {
            items: items.unbind(),
            count: page.count,
            next: page.next,
        })
    }
}

#[pymethods]
impl PyPage {
    /// The items, in order.
    #[getter]
    fn items(&self, py: Python<'_>) -> Py<PyList> {
        self.items.clone_ref(py)
    }

    /// How many items there are.
    #[getter]
    const fn count(&self) -> u64 {
        self.count
    }

    /// The position of the next page; None after the last.
    #[getter]
    fn next<'py>(&self, py: Python<'py>) -> Option<Bound<'py, PyBytes>> {
        self.next
            .as_ref()
            .map(|position| PyBytes::new(py, &position.to_bytes()))
    }
}

/// The reply as a Python object: None, a bool, a list of names, the description of a table with its facts or None, an item
/// or None, a page, a list of items or None, a list of exceptions or None, or a list
/// of addresses and versions. `fail` returns the exception of the write at an index.
pub fn answer(
    py: Python<'_>,
    reply: Reply,
    fail: impl Fn(usize, Error) -> PyErr,
) -> PyResult<Bound<'_, PyAny>> {
    Ok(match reply {
        Reply::Done | Reply::Item(None) | Reply::Described(None) => py.None().into_bound(py),
        Reply::Exists(exists) => pyo3::types::PyBool::new(py, exists).to_owned().into_any(),
        Reply::Tables(names) | Reply::Names(names) => PyList::new(py, names)?.into_any(),
        Reply::Described(Some(found)) => {
            let description = PyItem::from(description::describe(&found.table));
            let facts = (
                description,
                found.rows,
                found.is_exact,
                found.bytes,
                found.id,
            );
            facts.into_pyobject(py)?.into_any()
        }
        Reply::Item(Some(item)) => Bound::new(py, PyItem::from(item))?.into_any(),
        Reply::Items(items) => {
            let list = PyList::empty(py);
            for item in items {
                list.append(item.map(PyItem::from))?;
            }
            list.into_any()
        }
        Reply::Written(outcomes) => {
            let list = PyList::empty(py);
            for (index, outcome) in outcomes.into_iter().enumerate() {
                list.append(match outcome {
                    Ok(()) => None,
                    Err(error) => Some(fail(index, error).into_value(py)),
                })?;
            }
            list.into_any()
        }
        Reply::Page(page) => Bound::new(py, PyPage::new(py, page)?)?.into_any(),
        Reply::Servers(servers) => {
            let pairs = servers.into_iter();
            let pairs = pairs.map(|server| (server.address, server.version));
            PyList::new(py, pairs.collect::<Vec<_>>())?.into_any()
        }
    })
}
