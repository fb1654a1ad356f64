//! The table of a codec. Classes that share a table share its expiry, too.

use std::sync::Arc;

use mintkey_store::{Operation, Table};
use pyo3::prelude::*;

use crate::errors::from_store;
use crate::models::codec::Codec;
use crate::store::PyRequest;

impl Codec {
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
