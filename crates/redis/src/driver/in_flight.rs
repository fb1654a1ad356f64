//! A submitted request in flight.

use std::pin::Pin;
use std::sync::Arc;
use std::time::Instant;

use mintkey_runtime::{Deadline, Stop};
use mintkey_store::store::Never;
use mintkey_store::{Reply, Request, Result};

use crate::driver::exchange::Exchange;
use crate::driver::queue::Job;
use crate::driver::shared::Shared;
use crate::operations;
use crate::protocol::channel::Channel;
use crate::protocol::resp::Call;
use crate::transport::node::Node;

/// A request in flight.
pub struct InFlight {
    /// The job, or several that were coalesced.
    pub jobs: Vec<Job>,
    pub operation: Pin<Box<dyn Future<Output = Result<Reply>> + Send>>,
    /// The channel of the operation, with its deadline.
    pub channel: Channel,
    /// Counts the rounds of calls. Replies to calls of an earlier round are ignored.
    pub round: u64,
    /// The exchange of this round.
    pub exchange: Exchange<Arc<Node>>,
    /// When calls are sent again.
    pub retry_at: Option<Instant>,
    /// Whether it waits for the slots of the Cluster.
    pub is_refreshing_slots: bool,
}

impl InFlight {
    /// Prepares the operation of a request.
    pub fn new(shared: &Arc<Shared>, jobs: Vec<Job>, request: Arc<Request>) -> Self {
        let channel = Channel::new(Deadline::new(&Never, shared.context.config.timeout));
        let operation = {
            let (shared, channel) = (Arc::clone(shared), channel.clone());
            Box::pin(async move { operations::run(&shared.context, &channel, &request).await })
        };
        Self {
            jobs,
            operation,
            channel,
            round: 0,
            exchange: Exchange::new(Vec::new()),
            retry_at: None,
            is_refreshing_slots: false,
        }
    }

    /// Reports to the callers how often calls were sent again.
    pub fn record_retries(&self) {
        let retries = self.channel.retries();
        for job in &self.jobs {
            job.request.metrics.add_retries(retries);
        }
    }

    /// When its time is over.
    pub fn end(&self) -> Option<Instant> {
        self.channel.deadline().end()
    }

    pub fn check(&self) -> std::result::Result<(), Stop> {
        self.channel.deadline().check()
    }

    pub fn start_round(&mut self, calls: Vec<Call>) {
        self.round += 1;
        self.exchange = Exchange::new(calls);
        (self.retry_at, self.is_refreshing_slots) = (None, false);
    }
}
