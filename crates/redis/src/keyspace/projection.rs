//! What is read of rows: everything, or some attributes.

use mintkey_store::{Item, Key, Name, Result, Table, json};

use crate::keyspace::layout::Layout;
use crate::keyspace::rows::{item, part};
use crate::protocol::resp::{self, Call};

/// What is read of rows.
pub enum Fields {
    /// Everything.
    All,
    /// These attributes; the first is one that every row has.
    Some(Vec<Name>),
}

impl Fields {
    /// The call that reads a row.
    pub fn call(&self, layout: &Layout, key: &Key) -> Call {
        let row = layout.row(key);
        match self {
            Self::All => layout.call("HGETALL").arg(row),
            Self::Some(names) => {
                let call = layout.call("HMGET").arg(row);
                names
                    .iter()
                    .fold(call, |call, name| call.arg(name.as_bytes()))
            }
        }
    }

    /// The item of such a call's answer.
    pub fn item(
        &self,
        value: resp::Value,
        table: &Table,
        decoder: &mut json::Decoder,
    ) -> Result<Option<Item>> {
        match self {
            Self::All => item(value, table, decoder),
            Self::Some(names) => part(value, names, table, decoder),
        }
    }
}
