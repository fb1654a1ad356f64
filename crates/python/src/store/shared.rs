//! The state of an open store that the binding, its event loops and the fork handlers share.

use std::sync::Arc;

use mintkey_store::{
    Error, ErrorKind, Key, Operation, Reply, Request, Severity, Table, TransactionWrite, Write,
};
use parking_lot::Mutex;
use pyo3::prelude::*;
use pyo3::types::PyList;

use crate::errors::{of_operation, of_store};
use crate::store::mailbox::Mailboxes;
use crate::store::request::answer;

/// An open store.
pub struct Shared {
    engine: Arc<dyn mintkey_store::Store>,
    /// The URL without its password.
    pub address: String,
    pub mailboxes: Mutex<Mailboxes>,
}

impl Shared {
    pub fn new(engine: Arc<dyn mintkey_store::Store>) -> Self {
        Self {
            address: engine.capabilities().address,
            engine,
            mailboxes: Mutex::default(),
        }
    }

    pub fn engine(&self) -> &dyn mintkey_store::Store {
        &*self.engine
    }

    /// A reply as a Python object, or the exception.
    pub fn answer<'py>(
        &self,
        py: Python<'py>,
        request: &Request,
        result: Result<Reply, Error>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let operation = &request.operation;
        self.log_notices(py)?;
        match (result, operation) {
            (Ok(reply), _) => answer(py, reply, |index, error| {
                let key = match operation {
                    Operation::BatchWrite(batch) => batch.writes.get(index).map(Write::key),
                    _ => None,
                };
                self.failure(py, operation, error, operation.table(), key)
            }),
            (Err(error), Operation::Ping | Operation::ListTables | Operation::DescribeTable(_)) => {
                Err(of_store(py, error, &self.address))
            }
            (Err(error), Operation::Transaction(transaction)) => {
                Err(self.cancellation(py, operation, error, &transaction.writes)?)
            }
            (Err(error), _) => {
                Err(self.failure(py, operation, error, operation.table(), operation.key()))
            }
        }
    }

    /// The exception for an error of an operation, about an item of this table with this key if they are known.
    fn failure(
        &self,
        py: Python<'_>,
        operation: &Operation,
        mut error: Error,
        table: Option<&Arc<Table>>,
        key: Option<&Key>,
    ) -> PyErr {
        if let Some(table) = table
            && error.model.is_none()
        {
            error = error.of(table);
        }
        // An error about the table has no key.
        if error.kind != ErrorKind::TableMissing && error.key.is_none() {
            error.key = key.cloned().map(Box::new);
        }
        let tables = operation.tables();
        let wanted = error.table.as_deref();
        let table = table.or_else(|| {
            tables
                .into_iter()
                .find(|table| Some(table.name.as_str()) == wanted)
        });
        if let (Some(table), Some(attribute)) = (table, &error.attribute) {
            error.attribute = Some(table.label(attribute).into());
        }
        let table = table.map(|table| &**table);
        of_operation(py, error, operation.is_write(), table, &self.address)
    }

    /// The exception for the error of a transaction, with the exceptions of its items.
    fn cancellation(
        &self,
        py: Python<'_>,
        operation: &Operation,
        mut error: Error,
        writes: &[TransactionWrite],
    ) -> PyResult<PyErr> {
        let reasons = PyList::empty(py);
        for (reason, write) in std::mem::take(&mut error.reasons).into_iter().zip(writes) {
            let reason = reason.map(|reason| {
                let (table, key) = (Some(write.table()), Some(write.key()));
                self.failure(py, operation, reason, table, key)
                    .into_value(py)
            });
            reasons.append(reason)?;
        }
        let raised = self.failure(py, operation, error, None, None);
        raised.value(py).setattr("reasons", reasons)?;
        Ok(raised)
    }

    pub fn log_notices(&self, py: Python<'_>) -> PyResult<()> {
        while let Some(notice) = self.engine.notice() {
            let (logger, level) = match notice.severity {
                Severity::Debug => ("stores", 10),
                Severity::Warning => (self.engine.capabilities().engine, 30),
                Severity::Error => (self.engine.capabilities().engine, 40),
            };
            py.import("mintkey.stores")?
                .call_method1("_log", (logger, level, notice.text))?;
        }
        Ok(())
    }

    /// Before a fork: prepares the store, and locks the mailboxes.
    pub fn before_fork(&self) {
        self.engine.before_fork();
        std::mem::forget(self.mailboxes.lock());
    }

    /// After a fork, in the parent.
    pub fn in_parent(&self) {
        self.unlock_mailboxes();
        self.engine.in_parent();
    }

    /// After a fork, in the child, which has no event loops of the parent.
    pub fn in_child(&self) {
        self.unlock_mailboxes();
        self.mailboxes.lock().abandon();
        self.engine.in_child();
    }

    #[allow(unsafe_code, reason = "the lock is held across the fork")]
    fn unlock_mailboxes(&self) {
        // SAFETY: `before_fork` locked it on this thread and forgot the guard.
        unsafe { self.mailboxes.force_unlock() };
    }
}
