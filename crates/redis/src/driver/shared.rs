//! The state that the threads of a store share.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use mintkey_store::{Error, Result};

use crate::config::Config;
use crate::driver::queue::Queue;
use crate::keyspace::layout_cache::LayoutCache;
use crate::operations::context::StoreContext;
use crate::transport::topology::Topology;

/// The shared state of one store in one process.
pub struct Shared {
    /// What the operations share.
    pub context: StoreContext,
    /// The requests for the worker.
    pub queue: Queue,
    closed: AtomicBool,
}

impl Shared {
    /// The state of a store that has sent nothing yet.
    pub fn new(config: Config) -> Self {
        Self {
            context: StoreContext {
                topology: Topology::new(&config),
                config,
                layouts: LayoutCache::default(),
            },
            queue: Queue::default(),
            closed: AtomicBool::new(false),
        }
    }

    /// The state of the same store in a forked child.
    pub fn in_child(&self) -> Self {
        let parents = &self.context.config;
        let tls = parents.tls.as_ref().map(|tls| Arc::new(tls.in_child()));
        Self {
            closed: AtomicBool::new(self.is_closed()),
            ..Self::new(Config {
                tls,
                notices: Arc::default(),
                ..parents.clone()
            })
        }
    }

    /// Whether the store is closed.
    pub fn is_closed(&self) -> bool {
        self.closed.load(Ordering::SeqCst)
    }

    /// Fails if the store is closed.
    pub fn check_open(&self) -> Result<()> {
        if self.is_closed() {
            return Err(Error::closed(&self.context.config.address));
        }
        Ok(())
    }

    /// Refuses requests from now on. The worker completes what was submitted.
    pub fn shut_down(&self) {
        self.closed.store(true, Ordering::SeqCst);
        self.queue.wake();
        self.context.topology.close_idle();
    }
}
