//! The store: entry points, closing, forking.

use std::sync::{Arc, Weak};
use std::time::Duration;

use mintkey_runtime::{Deadline, is_worker_thread, pause};
use mintkey_store::{Capabilities, Done, Interrupt, Notice, Reply, Request, Result, Store, Ticket};

use crate::config::Config;
use crate::operations::Operations;
use crate::storage::fork_gate;
use crate::storage::fork_registry::{self, RegisteredStore};
use crate::storage::notices;
use crate::workers;

/// How often closing checks whether the threads have ended.
const CLOSE_INTERVAL: Duration = Duration::from_millis(1);

/// A store in a file or in memory.
pub struct SqliteStore(Arc<Operations>);

impl SqliteStore {
    /// The store of this configuration.
    pub fn new(config: Config) -> Self {
        let operations = Arc::new(Operations::new(config));
        let registered: Weak<Operations> = Arc::downgrade(&operations);
        fork_registry::register(registered as Weak<dyn RegisteredStore>);
        Self(operations)
    }

    #[cfg(test)]
    pub fn operations(&self) -> &Operations {
        &self.0
    }
}

/// Each commit writes the pages of an index again that its rows have changed: for more rows, fewer pages a row.
const LARGEST_BATCH: usize = 10_000;
/// With a shorter timeout, a large batch may take too long.
const LARGE_BATCH_TIMEOUT: Duration = Duration::from_secs(1);

impl Store for SqliteStore {
    fn capabilities(&self) -> Capabilities {
        let config = &self.0.shared.config;
        Capabilities {
            engine: "sqlite",
            address: config.address.clone(),
            creates_tables: true,
            ordered_scans: true,
            largest_batch: if config.timeout < LARGE_BATCH_TIMEOUT {
                500
            } else {
                LARGEST_BATCH
            },
        }
    }

    fn notice(&self) -> Option<Notice> {
        notices::take()
    }

    fn execute(&self, request: &Request, interrupt: &'static dyn Interrupt) -> Result<Reply> {
        self.0.shared.check_usable()?;
        self.0.run(request, interrupt)
    }

    fn execute_all(
        &self,
        requests: &[Arc<Request>],
        interrupt: &'static dyn Interrupt,
    ) -> Vec<Result<Reply>> {
        match self.0.shared.check_usable() {
            Ok(()) => self.0.run_all(requests, interrupt),
            Err(error) => error.of_all(requests.len()),
        }
    }

    fn submit(&self, request: Arc<Request>, done: Done) -> Box<dyn Ticket> {
        self.submit_all(vec![(request, done)]).swap_remove(0)
    }

    fn submit_all(&self, requests: Vec<(Arc<Request>, Done)>) -> Vec<Box<dyn Ticket>> {
        workers::submit_all(&self.0, requests)
    }

    fn close(&self, interrupt: &'static dyn Interrupt) {
        self.0.close();
        // A thread of the store cannot wait for its own end, nor a thread that is inside a statement for that
        // statement.
        if is_worker_thread() || fork_gate::is_inside() {
            return;
        }
        let mut deadline = Deadline::unlimited(interrupt);
        while !self.0.is_over() && deadline.check().is_ok() {
            pause(CLOSE_INTERVAL);
        }
    }

    fn before_fork(&self) {
        fork_registry::before();
    }

    fn in_parent(&self) {
        fork_registry::in_parent();
    }

    fn in_child(&self) {
        fork_registry::in_child();
    }
}

impl Drop for SqliteStore {
    fn drop(&mut self) {
        self.0.close();
    }
}
