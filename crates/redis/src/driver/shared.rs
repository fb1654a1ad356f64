//! What the threads of a store share.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use mintkey_store::{Error, Result};

use crate::config::Config;
use crate::driver::queue::Queue;
use crate::fork_gate::Gate;
use crate::keyspace::layout_cache::LayoutCache;
use crate::operations::context::Engine;
use crate::transport::topology::Nodes;

/// What the store's threads share.
pub struct Shared {
    pub engine: Engine,
    /// The servers, with connections that wait for the next blocking call.
    pub nodes: Nodes,
    pub queue: Queue,
    pub gate: Arc<Gate>,
    closed: AtomicBool,
}

impl Shared {
    /// The state of a store that has sent nothing yet.
    pub fn new(config: Config) -> Self {
        let gate = Arc::default();
        Self {
            nodes: Nodes::new(&config, &gate),
            engine: Engine {
                config,
                layouts: LayoutCache::new(&gate),
            },
            queue: Queue::new(&gate),
            gate,
            closed: AtomicBool::new(false),
        }
    }

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

    /// Refuses requests from now on.
    pub fn shut(&self) {
        self.closed.store(true, Ordering::SeqCst);
        self.queue.wake();
        self.nodes.let_go();
    }
}
