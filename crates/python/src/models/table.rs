//! The table of a codec. Classes that share a table share its expiry, too.

use std::sync::Arc;

use mintkey_store::{Operation, Table};
use pyo3::prelude::*;

use crate::errors::from_store;
use crate::models::codec::Codec;
use crate::store::PyRequest;

impl Codec {
    /// Sets the expiry of a table that has none.
    pub(super) fn set_expiry(&self, name: &str) {
        if let Some(own) = self.table.as_ref().filter(|table| table.ttl.is_none()) {
            self.expiring.get_or_init(|| {
                Arc::new(Table {
                    ttl: Some(name.into()),
                    ..Table::clone(own)
                })
            });
        }
    }

    /// A request about the table as a whole.
    pub(super) fn about_table(
        &self,
        py: Python<'_>,
        operation: impl FnOnce(Arc<Table>) -> Operation,
    ) -> PyResult<PyRequest> {
        Ok(PyRequest::now(operation(self.table(py)?.clone())))
    }

    /// The table; an error if the model is abstract.
    pub fn table(&self, py: Python<'_>) -> PyResult<&Arc<Table>> {
        self.expiring.get().or(self.table.as_ref()).ok_or_else(|| {
            let message = format!(
                "{} is abstract, so it has no table: derive a class with a key from it",
                self.model
            );
            from_store(py, mintkey_store::Error::configuration(message), None, None)
        })
    }
}
