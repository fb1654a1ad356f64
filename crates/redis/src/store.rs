//! The store: ways in, closing and forking.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use mintkey_store::{
    Begun, Capabilities, Done, Error, Interrupt, Notice, Reply, Request, Result, Severity, Store,
    Ticket,
};

use crate::config::Config;
use crate::driver::begun::Beginning;
use crate::driver::queue::{self, Queue};
use crate::fork_gate::Gate;
use crate::operations::catalog::Layouts;
use crate::operations::context::Engine;
use crate::protocol::scripts;
use crate::transport::deadline::FORKS;
use crate::transport::topology::Nodes;

/// What the store's threads share.
pub struct Shared {
    pub engine: Engine,
    /// The servers, with connections that wait for the next blocking call.
    pub nodes: Nodes,
    pub queue: Queue,
    gate: Arc<Gate>,
    closed: AtomicBool,
}

/// A store on a server.
pub struct RedisStore(Arc<Shared>);

impl RedisStore {
    /// The store that the configuration describes.
    pub fn new(config: Config) -> Self {
        scripts::prepare();
        let gate = Arc::default();
        Self(Arc::new(Shared {
            nodes: Nodes::new(&config, &gate),
            engine: Engine {
                config,
                layouts: Layouts::new(&gate),
            },
            queue: Queue::new(&gate),
            gate,
            closed: AtomicBool::new(false),
        }))
    }
}

impl Shared {
    /// Whether it was closed.
    pub fn is_closed(&self) -> bool {
        self.closed.load(Ordering::SeqCst)
    }

    /// Refuses after closing.
    pub fn check_open(&self) -> Result<()> {
        if self.is_closed() {
            return Err(Error::closed(&self.engine.config.address));
        }
        Ok(())
    }

    fn shut(&self) {
        self.closed.store(true, Ordering::SeqCst);
        self.queue.wake();
        self.nodes.let_go();
    }
}

impl Store for RedisStore {
    fn capabilities(&self) -> Capabilities {
        Capabilities {
            engine: "redis",
            address: self.0.engine.config.address.clone(),
            creates_tables: true,
            consistent_indexes: true,
            ordered_scans: true,
        }
    }

    fn notice(&self) -> Option<Notice> {
        let text = self.0.engine.config.eviction.tell()?;
        Some(Notice {
            severity: Severity::Warning,
            text,
        })
    }

    fn execute(&self, request: &Request, interrupt: &'static dyn Interrupt) -> Result<Reply> {
        self.0.check_open()?;
        self.0.carry_out(request, interrupt)
    }

    fn begin(
        &self,
        request: &Arc<Request>,
        interrupt: &'static dyn Interrupt,
    ) -> Option<Box<dyn Begun>> {
        // Closed: it is told where it is executed.
        self.0.check_open().ok()?;
        Some(Box::new(Beginning::new(&self.0, request, interrupt)))
    }

    fn execute_all(
        &self,
        requests: &[Arc<Request>],
        interrupt: &'static dyn Interrupt,
    ) -> Vec<Result<Reply>> {
        match self.0.check_open() {
            Ok(()) => self.0.carry_out_all(requests, interrupt),
            Err(closed) => closed.of_all(requests.len()),
        }
    }

    fn submit(&self, request: Arc<Request>, done: Done) -> Box<dyn Ticket> {
        queue::submit(&self.0, request, done)
    }

    fn submit_all(&self, requests: Vec<(Arc<Request>, Done)>) -> Vec<Box<dyn Ticket>> {
        queue::submit_all(&self.0, requests)
    }

    fn close(&self, interrupt: &'static dyn Interrupt) {
        self.0.shut();
        self.0.queue.wait_for_end(interrupt);
    }

    fn before_fork(&self) {
        self.0.gate.close();
    }

    fn in_parent(&self) {
        self.0.gate.open();
    }

    fn in_child(&self) {
        self.0.gate.open_in_child();
        FORKS.fetch_add(1, Ordering::SeqCst);
        // The sockets are the parent's too; closing them here says nothing to the server.
        self.0.nodes.let_go();
        self.0.queue.forget_others();
    }
}

impl Drop for RedisStore {
    fn drop(&mut self) {
        self.0.shut();
    }
}
