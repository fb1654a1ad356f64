//! The store: entry points, closing, forking.

use std::sync::Arc;

use mintkey_runtime::Generation;
use mintkey_store::{
    Begun, Capabilities, Done, Interrupt, Notice, Reply, Request, Result, Severity, Store, Ticket,
};

use crate::config::Config;
use crate::driver::begun::BegunRequest;
use crate::driver::shared::Shared;
use crate::driver::{blocking, worker};
use crate::protocol::scripts;

/// A store on a Redis server or Cluster.
pub struct RedisStore(Arc<Shared>);

impl RedisStore {
    /// The store that the configuration describes.
    pub fn new(config: Config) -> Self {
        scripts::compute_digests();
        Self(Arc::new(Shared::new(config)))
    }
}

impl Store for RedisStore {
    fn capabilities(&self) -> Capabilities {
        Capabilities {
            engine: "redis",
            address: self.0.context.config.address.clone(),
            creates_tables: true,
            consistent_indexes: true,
            ordered_scans: true,
        }
    }

    fn notice(&self) -> Option<Notice> {
        let text = self.0.context.config.eviction.take()?;
        Some(Notice {
            severity: Severity::Warning,
            text,
        })
    }

    fn execute(&self, request: &Request, interrupt: &'static dyn Interrupt) -> Result<Reply> {
        self.0.check_open()?;
        blocking::execute(&self.0, request, interrupt)
    }

    fn begin(
        &self,
        request: &Arc<Request>,
        interrupt: &'static dyn Interrupt,
    ) -> Option<Box<dyn Begun>> {
        // If it is closed, executing the request reports that.
        self.0.check_open().ok()?;
        Some(Box::new(BegunRequest::new(&self.0, request, interrupt)))
    }

    fn execute_all(
        &self,
        requests: &[Arc<Request>],
        interrupt: &'static dyn Interrupt,
    ) -> Vec<Result<Reply>> {
        match self.0.check_open() {
            Ok(()) => blocking::execute_all(&self.0, requests, interrupt),
            Err(closed) => closed.of_all(requests.len()),
        }
    }

    fn submit(&self, request: Arc<Request>, done: Done) -> Box<dyn Ticket> {
        worker::submit(&self.0, request, done)
    }

    fn submit_all(&self, requests: Vec<(Arc<Request>, Done)>) -> Vec<Box<dyn Ticket>> {
        worker::submit_all(&self.0, requests)
    }

    fn close(&self, interrupt: &'static dyn Interrupt) {
        self.0.shut_down();
        if let Some(worker) = self.0.queue.worker() {
            worker.wait_for_end(interrupt);
        }
    }

    fn before_fork(&self) {
        self.0.gate.close();
    }

    fn in_parent(&self) {
        self.0.gate.open();
    }

    fn in_child(&self) {
        Generation::begin();
        self.0.gate.open_in_child();
        // The parent has the same sockets open: closing them here sends nothing to the server.
        self.0.topology.close_idle();
        self.0.queue.forget_in_child();
    }
}

impl Drop for RedisStore {
    fn drop(&mut self) {
        self.0.shut_down();
    }
}
