//! Carries out the requests of the contract: reads on connections of their own, writes through the writer.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use mintkey_runtime::{Deadline, Stop, locked, pause};
use mintkey_store::{
    Error, ErrorKind, Interrupt, Operation, Outcome, Reply, Request, Result, Table,
    TransactionWrite,
};

use crate::config::Config;
use crate::reading::queue::ReadQueue;
use crate::reading::reader::{self, ReadResult};
use crate::shared::Shared;
use crate::storage::file_guard::FileId;
use crate::storage::fork_gate;
use crate::storage::fork_registry::RegisteredStore;
use crate::writing::queue::GROUP;
use crate::writing::writer::Writer;

/// Between two steps of a build. Another process that waits for the lock tries to get it within this time.
const BETWEEN_STEPS: Duration = Duration::from_millis(5);
/// How often a read starts again when its table must be created, or its files have moved.
const ATTEMPTS: usize = 5;

/// The operations of one store, and the state of its threads.
pub struct Operations {
    pub shared: Arc<Shared>,
    pub writer: Writer,
    pub reads: Mutex<ReadQueue>,
}

impl Operations {
    pub fn new(config: Config) -> Self {
        let shared = Arc::new(Shared::new(config));
        Self {
            writer: Writer::new(Arc::clone(&shared)),
            reads: Mutex::default(),
            shared,
        }
    }

    /// Whether a request needs the connection that writes. In memory there is no other.
    pub fn is_write(&self, request: &Request) -> bool {
        self.shared.in_memory() || request.operation.is_write()
    }

    /// Whether a request takes several transactions: one that builds something, or a write that must wait for that.
    pub fn takes_steps(&self, request: &Request) -> bool {
        let operation = &request.operation;
        is_change_of_table(operation) || self.tables_to_build(operation).next().is_some()
    }

    /// The tables of a write whose unique values may not be built yet.
    fn tables_to_build<'a>(
        &self,
        operation: &'a Operation,
    ) -> impl Iterator<Item = &'a Arc<Table>> {
        let writes = match operation {
            Operation::Transaction(transaction) => &transaction.writes[..],
            _ => &[],
        };
        let writes_rows = operation.is_write() && !matches!(operation, Operation::DeleteTable(_));
        let own = operation.table().filter(|_| writes_rows);
        let tables = own
            .into_iter()
            .chain(writes.iter().map(TransactionWrite::table));
        tables.filter(|table| {
            !table.unique.is_empty()
                && self
                    .shared
                    .layouts
                    .find(table, None)
                    .is_none_or(|layout| layout.awaits_unique(table))
        })
    }

    /// Carries out a request on this thread.
    pub fn run(&self, request: &Request, interrupt: &'static dyn Interrupt) -> Result<Reply> {
        if is_change_of_table(&request.operation) {
            return self.change_table(request, interrupt);
        }
        for table in self.tables_to_build(&request.operation) {
            self.create_table(table, request.now, interrupt)?;
        }
        if self.is_write(request) {
            return self.writer.write(request, interrupt);
        }
        let mut deadline = self.shared.deadline(interrupt);
        for _ in 0..ATTEMPTS {
            match reader::read(&self.shared, request, &mut deadline)? {
                ReadResult::Reply(reply) => return Ok(reply),
                ReadResult::FilesLost(id) => self.shared.close_lost_files(id)?,
                ReadResult::TableNotReady => {
                    for table in request.operation.tables() {
                        self.create_table(table, request.now, interrupt)?;
                    }
                }
            }
        }
        Err(Error::new(
            ErrorKind::Unavailable(Outcome::NotApplied),
            format!(
                "{}: the tables or files change faster than they can be read: try again",
                self.shared.config.address
            ),
        ))
    }

    fn create_table(
        &self,
        table: &Arc<Table>,
        now: i64,
        interrupt: &'static dyn Interrupt,
    ) -> Result<()> {
        let create = Operation::CreateTable(Arc::clone(table));
        self.change_table(&Request::new(now, create), interrupt)?;
        Ok(())
    }

    /// Creates, extends or builds a table in steps. Other writers can write between two of them.
    fn change_table(&self, request: &Request, interrupt: &'static dyn Interrupt) -> Result<Reply> {
        let mut deadline = Deadline::unlimited(interrupt);
        loop {
            match self.writer.write(request, interrupt) {
                Ok(Reply::Exists(false)) => {
                    if let Err(stop) = deadline.check() {
                        let address = &self.shared.config.address;
                        return Err(stop.error(address, "building a table", Outcome::NotApplied));
                    }
                    if !self.shared.in_memory() {
                        pause(BETWEEN_STEPS);
                    }
                }
                Err(error) => {
                    if let Operation::CreateTable(table) = &request.operation
                        && matches!(
                            error.kind,
                            ErrorKind::UniqueViolation | ErrorKind::InvalidValue
                        )
                    {
                        // What rows have of unique values that were refused. If this fails, the next change of the table
                        // does it.
                        let clear = Operation::DropUnique(Arc::clone(table), Vec::new());
                        let _ = self.change_table(&Request::new(request.now, clear), interrupt);
                    }
                    return Err(error);
                }
                reply => return reply,
            }
        }
    }

    /// Carries out requests one after the other; consecutive writes share a transaction.
    pub fn run_all(
        &self,
        requests: &[Arc<Request>],
        interrupt: &'static dyn Interrupt,
    ) -> Vec<Result<Reply>> {
        let is_write =
            |request: &Arc<Request>| request.operation.is_write() && !self.takes_steps(request);
        let groups = requests
            .chunk_by(|one, next| is_write(one) && is_write(next))
            .flat_map(|group| group.chunks(GROUP));
        let mut deadline = Deadline::unlimited(interrupt);
        let mut stop = None;
        let mut answers = Vec::with_capacity(requests.len());
        for group in groups {
            stop = stop.or_else(|| deadline.check().err());
            if let Some(stop) = stop {
                let address = &self.shared.config.address;
                let doing = "waiting for the requests before this one";
                let refusal = stop.error(address, doing, Outcome::NotApplied);
                answers.extend(refusal.of_all(group.len()));
                continue;
            }
            let results = match group {
                [single] => vec![self.run(single, interrupt)],
                several => self.writer.write_all(several, interrupt),
            };
            // An interrupt is reported once.
            if results.iter().any(is_interrupted) {
                stop = Some(Stop::Interrupted);
            }
            for request in group {
                request.metrics.finish();
            }
            answers.extend(results);
        }
        answers
    }

    /// Whether everything is complete that was requested before the store was closed.
    pub fn is_over(&self) -> bool {
        let _pass = fork_gate::enter();
        self.writer.is_over() && locked(&self.reads).is_over() && self.shared.pool.is_unused()
    }

    /// Refuses new requests, lets the threads end when their work is done, and closes the idle connections. Connections
    /// in use are closed after their requests.
    pub fn close(&self) {
        let _pass = fork_gate::enter();
        locked(&self.reads).close();
        self.shared.pool.close();
        self.writer.close();
    }
}

/// Whether an operation creates, extends or builds a table, or takes unique values away.
const fn is_change_of_table(operation: &Operation) -> bool {
    matches!(
        operation,
        Operation::CreateTable(_) | Operation::DropUnique(..)
    )
}

fn is_interrupted(result: &Result<Reply>) -> bool {
    matches!(result, Err(error) if matches!(error.kind, ErrorKind::Interrupted(_)))
}

impl RegisteredStore for Operations {
    fn release(&self) {
        if !self.shared.in_memory() {
            self.shared.pool.release();
        }
    }

    fn abandon(&self, lost: FileId) {
        self.shared.abandon(lost);
    }

    fn reset_in_child(&self) {
        self.shared.pool.reset_in_child();
        self.writer.reset_in_child();
        locked(&self.reads).reset_in_child();
    }
}
