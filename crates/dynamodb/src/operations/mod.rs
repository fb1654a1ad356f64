//! The operations of the contract: which calls they send, and what the responses mean.

mod batch;
mod batch_get;
mod batch_order;
mod build;
mod cancellation;
mod catalog;
mod claims;
mod describe;
mod markers;
mod missing_markers;
mod participant;
mod ping;
mod query_plan;
mod read;
mod tables;
mod transaction;
mod unique;
mod write;

use std::time::Instant;

use mintkey_store::{Error, Operation, Remedy, Reply, Request, Result, Table};

use crate::client::Client;
use crate::config::Config;
use crate::shared::Shared;
use crate::transport::Transport;

/// Carries out a request.
///
/// `started` is when its time begins.
pub async fn run<T: Transport>(
    shared: &Shared,
    transport: &T,
    request: &Request,
    started: Instant,
) -> Result<Reply> {
    let client = Client::new(shared, transport, &request.metrics);
    client.deadline.set(started + shared.config.timeout);
    let now = request.now;
    for table in request.operation.tables() {
        check_table_name(&shared.config, table)?;
    }
    match &request.operation {
        Operation::CreateTable(table) => build::create(&client, table, now).await,
        Operation::DropUnique(table, names) => catalog::withdraw(&client, table, names)
            .await
            .map(|()| Reply::Done),
        Operation::TableExists(table) => tables::exists(&client, table).await,
        Operation::ListTables => describe::list(&client).await,
        Operation::DescribeTable(name) => describe::describe(&client, name).await,
        Operation::RefusingIndexes(table) => tables::refusing_indexes(&client, table).await,
        Operation::DeleteTable(table) => tables::delete(&client, table).await,
        Operation::Ping => ping::ping(&client).await,
        Operation::Get(get) => read::get(&client, get, now).await,
        Operation::GetUnique(get) => unique::get(&client, get, now).await,
        Operation::Query(query) => read::query(&client, query, now).await,
        Operation::Scan(scan) => read::scan(&client, scan, now).await,
        Operation::Put(put) => unique::put(&client, put, None, now).await,
        Operation::Update(update) => unique::update(&client, update, None, now).await,
        Operation::Delete(delete) => unique::delete(&client, delete, None, now).await,
        Operation::BatchGet(batch) => batch_get::get(&client, batch, now).await,
        Operation::BatchWrite(batch) => batch::write(&client, batch, now).await,
        Operation::Transaction(writes) => unique::transact(&client, writes, now).await,
        Operation::TransactionGet(get) => transaction::get(&client, get, now).await,
    }
}

/// The name that a model gives its table was checked before, but without the prefix.
fn check_table_name(config: &Config, table: &Table) -> Result<()> {
    let length = config.prefix.len() + table.name.len();
    let (longest, reason) = if table.unique.is_empty() {
        (tables::LONGEST_NAME, "")
    } else {
        let longest = tables::LONGEST_NAME - markers::SUFFIX.len();
        (longest, " for a model with unique values")
    };
    if length <= longest {
        return Ok(());
    }
    Err(Error::configuration(format!(
        "the name of the table of {} has {length} characters with its prefix, and {longest} are allowed{reason}",
        table.model
    ))
    .remedy(Remedy::ShorterName)
    .of(table))
}
