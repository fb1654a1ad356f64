//! The operations of the contract: which commands they send, and what the replies mean.

mod batch;
mod catalog;
mod claims;
pub mod context;
mod evaluation;
mod index_build;
pub mod join_all;
mod page;
mod ping;
mod read;
mod slot_group_merge;
mod tables;
mod transaction;
mod uncertainty;
mod unique;
mod unique_build;
mod write;

use mintkey_store::{Error, Operation, Remedy, Reply, Request, Result};

use crate::operations::context::{OperationContext, StoreContext};
use crate::operations::uncertainty::Uncertainty;
use crate::protocol::channel::Channel;

/// Carries out a request. The driver that polls this serves the channel.
pub async fn run(store: &StoreContext, channel: &Channel, request: &Request) -> Result<Reply> {
    let context = OperationContext {
        store,
        channel,
        now: request.now,
    };
    // These operations send several calls. If one fails, those before it were carried out.
    let in_steps = |result: Result<()>| match result {
        Err(error) if channel.may_have_written() && error.kind.outcome().is_some() => {
            Err(begun(error))
        }
        other => other.map(|()| Reply::Done),
    };
    match &request.operation {
        Operation::CreateTable(table) => {
            store.layouts.clear();
            in_steps(context.create_table(table).await)
        }
        Operation::DropUnique(table, names) => in_steps(context.drop_unique(table, names).await),
        Operation::TableExists(table) => Ok(Reply::Exists(context.table_exists(table).await?)),
        Operation::ListTables => context.list_tables().await,
        Operation::DescribeTable(name) => context.describe_table(name).await,
        Operation::RefusingIndexes(_) => Ok(Reply::Names(Vec::new())),
        Operation::DeleteTable(table) => in_steps(context.delete_table(table).await),
        Operation::Get(get) => context.get(get).await,
        Operation::GetUnique(get) => context.get_unique(get).await,
        Operation::BatchGet(batch) => context.batch_get(batch).await,
        Operation::Put(put) => context
            .put(put, Uncertainty::default())
            .await
            .map(|()| Reply::Done),
        Operation::Update(update) => context.update(update).await,
        Operation::Delete(delete) => {
            let deleted = context.delete(delete, Uncertainty::default()).await?;
            Ok(if delete.returns_old {
                Reply::Item(deleted)
            } else {
                Reply::Done
            })
        }
        Operation::BatchWrite(batch) => context.batch_write(batch).await,
        Operation::Transaction(transaction) => context.transaction(transaction).await,
        Operation::TransactionGet(get) => context.transaction_get(get).await,
        Operation::Ping => context.ping().await,
        Operation::Query(query) => context.query(query).await,
        Operation::Scan(scan) => context.scan(scan).await,
    }
}

/// The error of an operation in several steps of which some may be done. All of them can be repeated.
fn begun(error: Error) -> Error {
    const CONTINUE: &str = "repeat the call: a part of it may be done, and the rest follows";
    let advice = match error.remedy.as_deref() {
        Some(Remedy::Advice(first)) => format!("{first}; then {CONTINUE}"),
        _ => CONTINUE.to_owned(),
    };
    error.uncertain().advice(advice)
}
