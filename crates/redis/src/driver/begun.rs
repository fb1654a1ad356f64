//! A blocking request in two halves: the caller prepares the next request while the first calls of this one are in flight.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use mintkey_store::{Begun, Interrupt, Outcome, Reply, Request, Result};

use crate::driver::exchange::{HeldConnections, SentCalls, collect, exchange, release, send};
use crate::driver::shared::Shared;
use crate::operations;
use crate::protocol::channel::Channel;
use crate::protocol::resp::Call;
use crate::threads::deadline::Deadline;

/// A request that was begun on the calling thread.
pub struct BegunRequest {
    shared: Arc<Shared>,
    operation: Pin<Box<dyn Future<Output = Result<Reply>> + Send>>,
    channel: Channel,
    deadline: Deadline,
    held: HeldConnections,
    stage: Stage,
}

/// The stage of the operation.
enum Stage {
    /// It must be polled.
    Poll,
    /// It sends these calls.
    Ready(Vec<Call>),
    /// These calls are sent, and have no replies yet.
    Sent(Vec<Call>, SentCalls),
    /// It has ended.
    Ended(Result<Reply>),
}

impl BegunRequest {
    /// Prepares the first calls of the request.
    pub fn new(
        shared: &Arc<Shared>,
        request: &Arc<Request>,
        interrupt: &'static dyn Interrupt,
    ) -> Self {
        let deadline = Deadline::new(Some(interrupt), shared.context.config.timeout);
        let channel = Channel::with_deadline(&deadline);
        let operation = {
            let (shared, channel) = (Arc::clone(shared), channel.clone());
            let request = Arc::clone(request);
            Box::pin(async move { operations::run(&shared.context, &channel, &request).await })
        };
        let mut begun = Self {
            shared: Arc::clone(shared),
            operation,
            channel,
            deadline,
            held: HeldConnections::new(),
            stage: Stage::Poll,
        };
        begun.advance();
        begun
    }

    /// Polls the operation until it sends calls or ends.
    fn advance(&mut self) {
        let mut waker_context = Context::from_waker(Waker::noop());
        self.stage = match self.operation.as_mut().poll(&mut waker_context) {
            Poll::Ready(result) => Stage::Ended(result),
            Poll::Pending => {
                let (calls, restarts) = self.channel.take_calls();
                if restarts {
                    self.deadline.restart();
                }
                Stage::Ready(calls)
            }
        };
    }

    /// Fails if the calls were sent by the parent of this forked process.
    fn check_process(&mut self) -> Result<()> {
        if !matches!(self.stage, Stage::Sent(..)) {
            // Nothing has been sent yet: this process may send it.
            self.deadline.adopt_process();
        }
        self.deadline
            .check_fork()
            .map_err(|stop| stop.error(Outcome::Unknown))
    }
}

impl Begun for BegunRequest {
    fn send(&mut self) {
        self.deadline.restart();
        if self.check_process().is_err() || self.shared.check_open().is_err() {
            // `finish` reports the error.
            return;
        }
        self.stage = match std::mem::replace(&mut self.stage, Stage::Poll) {
            Stage::Ready(calls) => {
                match send(&self.shared, &calls, &mut self.held, &mut self.deadline) {
                    Ok(sent) => Stage::Sent(calls, sent),
                    Err(error) => {
                        self.channel.resume(Err(error));
                        Stage::Poll
                    }
                }
            }
            other => other,
        };
    }

    fn finish(mut self: Box<Self>, within: Option<Duration>) -> Result<Reply> {
        self.deadline.restart();
        self.check_process()?;
        if let Stage::Ready(_) = self.stage {
            self.shared.check_open()?;
        }
        if let Some(time) = within {
            self.deadline = self.deadline.shorter(time);
        }
        let result = loop {
            let replies = match std::mem::replace(&mut self.stage, Stage::Poll) {
                Stage::Ended(result) => break result,
                Stage::Poll => {
                    self.advance();
                    continue;
                }
                Stage::Ready(calls) => {
                    exchange(&self.shared, &calls, &mut self.held, &mut self.deadline)
                }
                Stage::Sent(calls, sent) => collect(
                    &self.shared,
                    &calls,
                    sent,
                    &mut self.held,
                    &mut self.deadline,
                ),
            };
            self.channel.resume(replies);
        };
        release(&self.shared, std::mem::take(&mut self.held));
        result
    }
}
