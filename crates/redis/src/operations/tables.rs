//! What the catalog says of the tables, without their models.

use std::sync::Arc;

use mintkey_store::description::StoredTable;
use mintkey_store::{Reply, Result, Table};

use crate::keyspace::layout::TABLE_KEY_GROUP;
use crate::operations::context::OperationContext;
use crate::protocol::replies::{bulks, checked, unexpected_reply};
use crate::protocol::resp::{Call, Value};

impl OperationContext<'_> {
    /// Creates a table, or adds what it lacks, and builds its indexes.
    pub async fn create_table(&self, table: &Arc<Table>) -> Result<()> {
        loop {
            let layouts = self.all_layouts(table).await?;
            if !self.build_indexes(&layouts, None).await? {
                break;
            }
        }
        // An earlier version, which kept no names of tables, may have created it. A server that takes no writes now has all
        // that the class needs.
        let call = Call::on(TABLE_KEY_GROUP, "SADD")
            .arg(self.store.config.keyspace.tables_key())
            .arg(&table.name)
            .writing()
            .repeatable();
        self.channel.send_one(call).await.map(drop)
    }

    /// The names of all tables, in order.
    pub async fn list_tables(&self) -> Result<Reply> {
        let all = Table::unknown("tables");
        let call =
            Call::on(TABLE_KEY_GROUP, "SMEMBERS").arg(self.store.config.keyspace.tables_key());
        let names = bulks(self.channel.send_one(call).await?, &all)?;
        let mut names: Vec<String> = names
            .into_iter()
            .map(|name| String::from_utf8(name).map_err(|_| unexpected_reply(&all)))
            .collect::<Result<_>>()?;
        names.sort_unstable();
        Ok(Reply::Tables(names))
    }

    /// The description of a table, with the number of its rows.
    pub async fn describe_table(&self, name: &str) -> Result<Reply> {
        let keyspace = &self.store.config.keyspace;
        let unknown = Arc::new(Table::unknown(name));
        let Some(entry) = self.table_entry(&unknown).await? else {
            return Ok(Reply::Described(None));
        };
        let table = entry.table;
        let slot_groups = keyspace.slot_groups_of(&table).into_iter();
        let counts = slot_groups.map(|slot_group| {
            Call::on(slot_group, "ZCARD").arg(keyspace.row_set(name, slot_group))
        });
        let info = Call::on(TABLE_KEY_GROUP, "INFO").arg("replication");
        let mut replies = self.channel.send(counts.chain([info]).collect()).await?;
        let data_set = replies.pop().and_then(data_set);
        let mut rows = 0;
        for reply in replies {
            rows += match checked(reply, &table)? {
                Value::Int(count) => u64::try_from(count).unwrap_or(0),
                _ => return Err(unexpected_reply(&table)),
            };
        }
        Ok(Reply::Described(Some(Box::new(StoredTable {
            is_exact: table.ttl.is_none(),
            rows: Some(rows),
            bytes: None,
            id: Some(format!("{} {}", entry.epoch, data_set.unwrap_or_default())),
            table,
        }))))
    }
}

/// The id of the data that a server and its replicas have; `None` if the user may not ask for it.
fn data_set(info: Value) -> Option<String> {
    let Value::Bulk(info) = info else {
        return None;
    };
    let mut lines = std::str::from_utf8(&info).ok()?.lines();
    lines.find_map(|line| Some(line.strip_prefix("master_replid:")?.to_owned()))
}
