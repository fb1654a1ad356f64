//! Carries out the requests of the contract: reads on connections of their own, writes through the writer.

use std::sync::{Arc, Mutex};

use mintkey_store::store::Between;
use mintkey_store::{Error, ErrorKind, Interrupt, Operation, Outcome, Reply, Request, Result};

use crate::config::Config;
use crate::reading::queue::ReadQueue;
use crate::reading::reader::{self, ReadResult};
use crate::shared::Shared;
use crate::storage::file_guard::FileId;
use crate::storage::fork_registry::Member;
use crate::threads::deadline::Deadline;
use crate::threads::fork_gate::{self, lock};
use crate::writing::queue::GROUP;
use crate::writing::writer::Writer;

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

    /// Carries out a request on this thread.
    pub fn run(&self, request: &Request, interrupt: &'static dyn Interrupt) -> Result<Reply> {
        if self.is_write(request) {
            return self.writer.write(request, interrupt);
        }
        let mut deadline = Deadline::new(Some(interrupt), Some(self.shared.config.timeout));
        for _ in 0..ATTEMPTS {
            match reader::read(&self.shared, request, &mut deadline)? {
                ReadResult::Reply(reply) => return Ok(reply),
                ReadResult::FilesLost(id) => self.shared.leave_lost_files(id)?,
                ReadResult::TableMissing => {
                    let operation = Operation::CreateTable(Arc::clone(request.operation.table()));
                    let create = Request::new(request.now, operation);
                    self.writer.write(&create, interrupt)?;
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

    /// Carries out requests one after the other; consecutive writes share a transaction.
    pub fn run_all(
        &self,
        requests: &[Arc<Request>],
        interrupt: &'static dyn Interrupt,
    ) -> Vec<Result<Reply>> {
        let is_write = |request: &Arc<Request>| request.operation.is_write();
        let groups = requests
            .chunk_by(|one, next| is_write(one) && is_write(next))
            .flat_map(|group| group.chunks(GROUP));
        let mut between = Between::new(interrupt);
        let mut answers = Vec::with_capacity(requests.len());
        for group in groups {
            if let Some(refusal) = between.refusal() {
                answers.extend(refusal.of_all(group.len()));
                continue;
            }
            let results = match group {
                [single] => vec![self.run(single, interrupt)],
                several => self.writer.write_all(several, interrupt),
            };
            for result in results {
                between.note(&result);
                answers.push(result);
            }
        }
        answers
    }

    /// Whether everything is complete that was requested before the store was closed.
    pub fn is_over(&self) -> bool {
        let _pass = fork_gate::enter();
        self.writer.is_over() && lock(&self.reads).is_over() && self.shared.pool.is_unused()
    }

    /// Refuses new requests, lets the threads end when their work is done, and closes the idle connections. Connections
    /// in use are closed after their requests.
    pub fn close(&self) {
        let _pass = fork_gate::enter();
        lock(&self.reads).close();
        self.shared.pool.close();
        self.writer.close();
    }
}

impl Member for Operations {
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
        lock(&self.reads).reset_in_child();
    }
}
