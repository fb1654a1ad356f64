//! The store: entry points, closing, forking.

use std::sync::Arc;

use mintkey_runtime::Generations;
use mintkey_store::{Capabilities, Done, Interrupt, Notice, Reply, Request, Result, Store, Ticket};

use crate::config::Config;
use crate::driver::shared::Shared;
use crate::driver::{blocking, worker};
use crate::protocol::unique_scripts;

/// A store on a Redis server or Cluster.
pub struct RedisStore(Arc<Generations<Shared>>);

impl RedisStore {
    /// The store that the configuration describes.
    pub fn new(config: Config) -> Self {
        unique_scripts::compute_digests();
        Self(Arc::new(Generations::new(Shared::new(config))))
    }
}

impl Store for RedisStore {
    fn capabilities(&self) -> Capabilities {
        Capabilities {
            engine: "redis",
            address: self.0.current().context.config.address.clone(),
            creates_tables: true,
            ordered_scans: true,
            largest_batch: 500,
        }
    }

    fn notice(&self) -> Option<Notice> {
        self.0.current().context.config.notices.take()
    }

    fn execute(&self, request: &Request, interrupt: &'static dyn Interrupt) -> Result<Reply> {
        let shared = self.0.current();
        shared.check_open()?;
        blocking::execute(shared, request, interrupt)
    }

    fn execute_all(
        &self,
        requests: &[Arc<Request>],
        interrupt: &'static dyn Interrupt,
    ) -> Vec<Result<Reply>> {
        let shared = self.0.current();
        match shared.check_open() {
            Ok(()) => blocking::execute_all(shared, requests, interrupt),
            Err(closed) => closed.of_all(requests.len()),
        }
    }

    fn submit(&self, request: Arc<Request>, done: Done) -> Box<dyn Ticket> {
        worker::submit(self.0.current(), request, done)
    }

    fn submit_all(&self, requests: Vec<(Arc<Request>, Done)>) -> Vec<Box<dyn Ticket>> {
        worker::submit_all(self.0.current(), requests)
    }

    fn close(&self, interrupt: &'static dyn Interrupt) {
        let shared = self.0.current();
        shared.shut_down();
        if let Some(worker) = shared.queue.worker() {
            worker.wait_for_end(interrupt);
        }
    }

    fn before_fork(&self) {
        // The child would have the same sockets open, and the server would not see that the parent closes them.
        self.0.current().context.topology.close_idle();
    }

    fn in_parent(&self) {}

    fn in_child(&self) {
        self.0.in_child(Shared::in_child);
    }
}

impl Drop for RedisStore {
    fn drop(&mut self) {
        self.0.current().shut_down();
    }
}
