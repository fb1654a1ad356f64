//! A submitted request in flight.

use std::pin::Pin;
use std::sync::Arc;
use std::time::Instant;

use mintkey_runtime::Deadline;
use mintkey_store::store::Never;
use mintkey_store::{Error, Reply, Request, Result};

use crate::driver::call_state::CallState;
use crate::driver::queue::Job;
use crate::driver::shared::Shared;
use crate::operations;
use crate::protocol::channel::Channel;
use crate::protocol::resp::Call;

/// A request in flight.
pub struct InFlight {
    /// The job, or several that were coalesced.
    pub jobs: Vec<Job>,
    /// The operation.
    pub operation: Pin<Box<dyn Future<Output = Result<Reply>> + Send>>,
    /// The channel of the operation, with its deadline.
    pub channel: Channel,
    /// Counts the rounds of calls. Replies to calls of an earlier round are ignored.
    pub round: u64,
    /// The calls of this round.
    pub calls: Vec<Call>,
    /// The states of the calls.
    pub states: Vec<CallState>,
    /// The calls without a final reply.
    pub missing: usize,
    /// The connections that broke in this round.
    pub tries: usize,
    /// The redirects that were followed at once in this round.
    pub redirects: usize,
    /// The error to report if no server of the Cluster can be reached in time.
    pub last_error: Option<Error>,
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
            calls: Vec::new(),
            states: Vec::new(),
            missing: 0,
            tries: 0,
            redirects: 0,
            last_error: None,
        }
    }

    /// When its time is over.
    pub fn end(&self) -> Option<Instant> {
        self.channel.deadline().end()
    }

    /// Begins a round of calls.
    pub fn begin_round(&mut self, calls: Vec<Call>) {
        self.round += 1;
        self.missing = calls.len();
        self.states = calls.iter().map(|_| CallState::default()).collect();
        self.calls = calls;
        (self.tries, self.redirects, self.last_error) = (0, 0, None);
    }
}
