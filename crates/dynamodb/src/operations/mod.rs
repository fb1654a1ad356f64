//! The operations of the contract: which calls they send, and what the responses mean.

mod batch;
mod query_plan;
mod read;
mod tables;
mod transaction;
mod write;

use std::time::Instant;

use mintkey_store::{Error, Operation, Reply, Request, Result, Table};

use crate::client::Client;
use crate::config::Config;
use crate::shared::Shared;
use crate::transport::Transport;

/// The longest name of a table with its prefix, in characters.
const LONGEST_NAME: usize = 255;

/// Carries out a request.
///
/// `began` is when its time begins.
pub async fn run<T: Transport>(
    shared: &Shared,
    transport: &T,
    request: &Request,
    began: Instant,
) -> Result<Reply> {
    let client = Client::new(shared, transport, &request.metrics);
    client.deadline.set(began + shared.config.timeout);
    let now = request.now;
    for table in request.operation.tables() {
        check_table_name(&shared.config, table)?;
        if !table.unique.is_empty() {
            return Err(Error::unique_unsupported(table));
        }
    }
    match &request.operation {
        Operation::CreateTable(table) => tables::create(&client, table).await,
        Operation::TableExists(table) => tables::exists(&client, table).await,
        Operation::DeleteTable(table) => tables::delete(&client, table).await,
        Operation::Get(get) => read::get(&client, get, now).await,
        Operation::GetUnique(get) => Err(Error::unique_unsupported(&get.table)),
        Operation::Query(query) => read::query(&client, query, now).await,
        Operation::Scan(scan) => read::scan(&client, scan, now).await,
        Operation::Put(put) => write::put(&client, put, now).await,
        Operation::Update(update) => write::update(&client, update, now).await,
        Operation::Delete(delete) => write::delete(&client, delete, now).await,
        Operation::BatchGet(batch) => batch::get(&client, batch, now).await,
        Operation::BatchWrite(batch) => batch::write(&client, batch, now).await,
        Operation::Transaction(writes) => transaction::write(&client, writes, now).await,
        Operation::TransactionGet(get) => transaction::get(&client, get, now).await,
    }
}

/// The name that a model gives its table was checked before, but without the prefix.
fn check_table_name(config: &Config, table: &Table) -> Result<()> {
    let length = config.prefix.len() + table.name.len();
    if length <= LONGEST_NAME {
        return Ok(());
    }
    Err(Error::configuration(format!(
        "the name of the table of {} has {length} characters with its prefix, and {LONGEST_NAME} are allowed: shorten \
         ?table_prefix=, or name the table with ModelConfig(table=…)",
        table.model
    ))
    .of(table))
}
