//! Carries out one read, on a connection of its own.

use std::sync::Arc;
use std::time::Duration;

use mintkey_runtime::{Deadline, pause};
use mintkey_store::{
    Error, Operation, Outcome, Reply, Request, Result, Server, Table, TransactionGet,
};

use crate::catalog;
use crate::layout::Layout;
use crate::reading::rows;
use crate::shared::Shared;
use crate::storage::connection::{self, Attempt, Connection, Fault, Opened};
use crate::storage::deadline_slot::Kind;
use crate::storage::file_guard::FileId;
use crate::storage::fork_gate;

/// How often a read starts again when the tables change meanwhile.
const ATTEMPTS: usize = 5;
/// Between two attempts while another connection recovers or closes the log.
const BUSY_INTERVAL: Duration = Duration::from_millis(1);

pub enum ReadResult {
    Reply(Reply),
    /// A table of the request must be created, extended or built first.
    TableNotReady,
    /// These files are no longer in their place.
    FilesLost(FileId),
}

/// Carries out a read.
pub fn read(shared: &Shared, request: &Request, deadline: &mut Deadline) -> Result<ReadResult> {
    loop {
        let _pass = fork_gate::enter();
        match read_inside(shared, request, deadline) {
            // The read waited for a lock, and its connection is closed: a fork need not wait for this thread.
            Err(error) if fork_gate::is_pass_wanted() && deadline.check().is_ok() => drop(error),
            result => return result,
        }
    }
}

fn read_inside(shared: &Shared, request: &Request, deadline: &mut Deadline) -> Result<ReadResult> {
    shared.check_usable()?;
    let closed = || Error::closed(&shared.config.address);
    let mut read = shared.pool.begin_read().ok_or_else(closed)?;
    let connection = match read.connection.take() {
        Some(connection) => connection,
        None => match shared.open(deadline)? {
            Opened::Ready(connection) => {
                let version = connection::retry_while_busy(&shared.config, deadline, || {
                    connection.schema_version()
                })?;
                // The known layouts may be older than the tables that this connection sees.
                shared.layouts.set_version(version);
                connection
            }
            Opened::Lost(id) => return Ok(ReadResult::FilesLost(id)),
        },
    };
    connection.deadline.set(*deadline, Kind::Plain);
    let result = attempts(shared, &connection, request, deadline);
    connection.deadline.clear();
    // Lost files may have caused an error, so they are checked at once then.
    let in_place = match &result {
        Ok(_) => connection.was_in_place(),
        Err(_) => connection.is_in_place(),
    };
    let result = match &connection.files {
        Some(files) if !in_place && !files.is_replaced() => {
            return Ok(ReadResult::FilesLost(files.id()));
        }
        Some(_) if !in_place => Err(shared.replaced(Outcome::NotApplied)),
        _ => result,
    };
    // What could not be rolled back ends with its connection.
    read.connection = Some(connection).filter(|connection| connection.raw.is_autocommit());
    result
}

fn attempts(
    shared: &Shared,
    connection: &Connection,
    request: &Request,
    deadline: &mut Deadline,
) -> Result<ReadResult> {
    let mut stale = 0;
    loop {
        match attempt(shared, connection, request) {
            Ok(reply) => return Ok(reply),
            Err(Fault::Refused(error)) => return Err(error),
            Err(Fault::Stopped(stop)) => return Err(shared.stopped(stop)),
            Err(Fault::Stale) if stale < ATTEMPTS => {}
            Err(Fault::Sqlite(error))
                if stale < ATTEMPTS && connection::is_unknown_name(&error) => {}
            Err(Fault::Stale) => return Ok(ReadResult::TableNotReady),
            Err(Fault::Sqlite(error)) if connection::is_busy(&error) => {
                // Rare for reads: another connection recovers or closes the log.
                deadline.check().map_err(|stop| {
                    let address = &shared.config.address;
                    stop.error(address, "waiting to read", Outcome::NotApplied)
                })?;
                pause(BUSY_INTERVAL);
                continue;
            }
            Err(Fault::Sqlite(error)) => {
                return Err(shared.explain(connection, error, Outcome::NotApplied));
            }
        }
        stale += 1;
        shared.layouts.clear();
    }
}

fn attempt(shared: &Shared, connection: &Connection, request: &Request) -> Attempt<ReadResult> {
    #[cfg(test)]
    crate::writing::tests::panic_if_wanted(request);
    let (operation, now) = (&request.operation, request.now);
    if let Operation::TransactionGet(get) = operation {
        return get_all(shared, connection, get, now);
    }
    let Some(table) = operation.table().filter(|_| reads_rows(operation)) else {
        let reply = without_layout(connection, operation, &shared.config.address);
        return reply.map(ReadResult::Reply);
    };
    match layout(shared, connection, table)? {
        Some(layout) if layout.lacks(operation) => Ok(ReadResult::TableNotReady),
        Some(layout) => rows::read(connection, &layout, operation, now).map(ReadResult::Reply),
        None => Ok(ReadResult::TableNotReady),
    }
}

/// Whether an operation reads rows of one table.
pub const fn reads_rows(operation: &Operation) -> bool {
    matches!(
        operation,
        Operation::Get(_)
            | Operation::GetUnique(_)
            | Operation::Query(_)
            | Operation::Scan(_)
            | Operation::BatchGet(_)
    )
}

/// Carries out a read of no rows.
pub fn without_layout(
    connection: &Connection,
    operation: &Operation,
    address: &str,
) -> Attempt<Reply> {
    match operation {
        Operation::TableExists(table) => catalog::exists(connection, table).map(Reply::Exists),
        Operation::ListTables => catalog::list(connection),
        Operation::DescribeTable(name) => catalog::describe(connection, name),
        Operation::RefusingIndexes(_) => Ok(Reply::Names(Vec::new())),
        Operation::Ping => {
            // It reads the first page of the file.
            connection.schema_version()?;
            Ok(Reply::Servers(vec![Server {
                address: address.to_owned(),
                version: Some(rusqlite::version().to_owned()),
            }]))
        }
        _ => Ok(Reply::Done),
    }
}

/// Reads items in one transaction, so from one snapshot.
fn get_all(
    shared: &Shared,
    connection: &Connection,
    get: &TransactionGet,
    now: i64,
) -> Attempt<ReadResult> {
    get.check()?;
    // Dropping it ends the transaction.
    let _snapshot = connection.raw.unchecked_transaction()?;
    let mut items = Vec::with_capacity(get.keys.len());
    for (table, key) in &get.keys {
        let Some(layout) = layout(shared, connection, table)? else {
            return Ok(ReadResult::TableNotReady);
        };
        items.push(rows::live(connection, &layout, key, now)?);
    }
    Ok(ReadResult::Reply(Reply::Items(items)))
}

fn layout(
    shared: &Shared,
    connection: &Connection,
    table: &Arc<Table>,
) -> Attempt<Option<Arc<Layout>>> {
    if let Some(layout) = shared.layouts.find(table, None) {
        return Ok(Some(layout));
    }
    let version = connection.schema_version()?;
    let layout = catalog::load(connection, table)?;
    if let Some(layout) = &layout {
        shared.layouts.insert(version, table, layout);
    }
    Ok(layout)
}
