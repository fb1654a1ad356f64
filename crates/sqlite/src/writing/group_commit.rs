//! One transaction for a group of writes.

use mintkey_runtime::Deadline;
use mintkey_store::store::Never;
use mintkey_store::{Delivery, Error, ErrorKind, Outcome, Reply, Request, Result, submission};

use crate::shared::Shared;
use crate::storage::connection::{self, Connection, Fault, Opened};
use crate::storage::deadline_slot::Kind;
use crate::writing::pending::PendingWrite;
use crate::writing::transaction::Transaction;

/// Opens a connection if there is none, and begins a transaction.
pub fn begin(
    shared: &Shared,
    connection: Option<Connection>,
    deadline: &mut Deadline,
) -> Result<Opened> {
    #[cfg(test)]
    crate::writing::tests::panic_if_asked_to_begin(shared);
    shared.check_usable()?;
    let mut connection = match connection {
        Some(connection) => connection,
        None => match shared.open(deadline)? {
            Opened::Ready(connection) => {
                connection.prepare_to_write(&shared.config, deadline)?;
                connection
            }
            lost @ Opened::Lost(_) => return Ok(lost),
        },
    };
    connection.checks_schema_first = true;
    let started = connection::retry_while_busy(&shared.config, deadline, || {
        connection
            .raw
            .prepare_cached("BEGIN IMMEDIATE")?
            .raw_execute()
    });
    match (started, &connection.files) {
        (Err(_), Some(files)) if !files.is_in_place() && !files.is_replaced() => {
            Ok(Opened::Lost(files.id()))
        }
        (started, _) => started.map(|_| Opened::Ready(connection)),
    }
}

/// Carries out a group of requests in the transaction that has begun, commits, and answers them. `None`: nothing was
/// done, because the files are lost.
pub fn commit_group(
    shared: &Shared,
    connection: &Connection,
    own: Option<&Request>,
    group: &[PendingWrite],
    deadline: &Deadline,
) -> Option<(Result<Reply>, Vec<Delivery>)> {
    // A leader with requests of others cannot be stopped before the commit; a single request can.
    let (deadline, kind) = if !group.is_empty() {
        (shared.deadline(&Never), Kind::Group)
    } else if connection.files.is_some() {
        (*deadline, Kind::FileWrite)
    } else {
        (*deadline, Kind::Plain)
    };
    connection.deadline.set(deadline, kind);
    let requests = own
        .into_iter()
        .chain(group.iter().map(|write| &*write.request));
    let answers = transact(shared, connection, &requests);
    connection.deadline.clear();
    let mut answers = answers?.into_iter();
    let reply = match own {
        Some(_) => answers
            .next()
            .unwrap_or_else(|| Err(submission::lost(true))),
        None => Ok(Reply::Done),
    };
    let deliveries = group
        .iter()
        .zip(answers)
        .filter_map(|(write, answer)| write.answer(answer));
    let deliveries = deliveries.collect();
    Some((reply, deliveries))
}

/// Carries out requests and commits. Returns an answer for each request, in order. `None`: nothing was applied, because
/// the files are lost.
fn transact<'a>(
    shared: &Shared,
    connection: &Connection,
    requests: &(impl Iterator<Item = &'a Request> + Clone),
) -> Option<Vec<Result<Reply>>> {
    let raw = &connection.raw;
    let fail_all =
        |error, outcome| fail_all(shared, connection, requests.clone().count(), error, outcome);
    let changes = raw.total_changes();
    let alone = requests.clone().nth(1).is_none();
    let started = Transaction::begin(connection, &shared.layouts, shared.config.max_item, alone);
    let mut transaction = match started {
        Ok(transaction) => transaction,
        Err(error) => return fail_all(error, Outcome::NotApplied),
    };
    let mut answers = Vec::new();
    for request in requests.clone() {
        match transaction.apply(request) {
            Ok(reply) => answers.push(Ok(reply)),
            Err(Fault::Refused(error)) => answers.push(Err(error)),
            Err(Fault::Stopped(stop)) if alone => {
                roll_back(connection);
                return Some(vec![Err(shared.stopped(stop))]);
            }
            Err(Fault::Stopped(stop)) => answers.push(Err(shared.stopped(stop))),
            Err(Fault::Stale) => answers.push(Err(submission::lost(true))),
            Err(Fault::Sqlite(error)) => {
                if alone || raw.is_autocommit() || connection::is_stopped(&error) {
                    return fail_all(error, Outcome::NotApplied);
                }
                answers.push(Err(shared.explain(connection, error, Outcome::NotApplied)));
            }
        }
    }
    match commit(connection, &transaction, changes) {
        Ok(Commit::Durable) => {
            transaction.publish_layouts();
            Some(answers)
        }
        Ok(Commit::Unknown) => Some(index_lost(shared).of_all(answers.len())),
        Ok(Commit::Lost) => None,
        Err(error) => {
            let outcome = match error.sqlite_error_code() {
                Some(rusqlite::ErrorCode::SystemIoFailure) => Outcome::Unknown,
                _ => Outcome::NotApplied,
            };
            fail_all(error, outcome)
        }
    }
}

/// What became of a commit.
enum Commit {
    Durable,
    /// Other processes may still find it.
    Unknown,
    /// Nothing of the transaction was applied, because the files are lost.
    Lost,
}

/// Commits a transaction. `changes` is what the connection had changed before it.
fn commit(
    connection: &Connection,
    transaction: &Transaction<'_>,
    changes: u64,
) -> rusqlite::Result<Commit> {
    transaction.delete_expired()?;
    // A commit is not stopped: afterwards its outcome would be unknown.
    connection.deadline.clear();
    connection.raw.prepare_cached("COMMIT")?.raw_execute()?;
    // A commit into a removed log is durable only if the log was copied into the database, as its index says. A
    // transaction is copied completely or not at all. So if anything is missing, nothing of this one was applied, and it
    // can be carried out again.
    let has_changed = || connection.raw.total_changes() != changes;
    Ok(
        if connection.keeps_commits() || (has_changed() && connection.recovers_commits()) {
            Commit::Durable
        } else if connection.commit_may_be_found() {
            Commit::Unknown
        } else {
            Commit::Lost
        },
    )
}

/// The answers to all requests of a transaction that failed. `None`: nothing was applied, because the files are lost.
fn fail_all(
    shared: &Shared,
    connection: &Connection,
    requests: usize,
    error: rusqlite::Error,
    outcome: Outcome,
) -> Option<Vec<Result<Reply>>> {
    roll_back(connection);
    let is_lost = outcome == Outcome::NotApplied && !connection.is_in_place();
    let answers = || shared.explain(connection, error, outcome).of_all(requests);
    (!is_lost).then(answers)
}

/// Rolls back. If this fails too, the connection is closed.
fn roll_back(connection: &Connection) {
    if !connection.raw.is_autocommit() {
        let _ = connection.raw.execute_batch("ROLLBACK");
    }
}

fn index_lost(shared: &Shared) -> Error {
    Error::new(
        ErrorKind::Unavailable(Outcome::Unknown),
        format!(
            "{}: another program removed the file that ends in -shm while the store had it open",
            shared.config.address
        ),
    )
}
