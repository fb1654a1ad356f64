//! A blocking request in two halves: the caller prepares the next request while the first calls of this one are in flight.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use mintkey_runtime::{Deadline, Generations, Stop};
use mintkey_store::{Begun, Interrupt, Outcome, Reply, Request, Result};

use crate::driver::exchange::{HeldConnections, SentCalls, collect, exchange, release, send};
use crate::driver::shared::Shared;
use crate::operations;
use crate::protocol::channel::Channel;
use crate::protocol::resp::Call;

/// A request that was begun on the calling thread.
pub struct BegunRequest {
    store: Arc<Generations<Shared>>,
    shared: Arc<Shared>,
    request: Arc<Request>,
    operation: Pin<Box<dyn Future<Output = Result<Reply>> + Send>>,
    channel: Channel,
    interrupt: &'static dyn Interrupt,
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
        store: &Arc<Generations<Shared>>,
        request: &Arc<Request>,
        interrupt: &'static dyn Interrupt,
    ) -> Self {
        let shared = store.current();
        let channel = Channel::new(Deadline::new(interrupt, shared.context.config.timeout));
        let operation = {
            let (shared, channel) = (Arc::clone(shared), channel.clone());
            let request = Arc::clone(request);
            Box::pin(async move { operations::run(&shared.context, &channel, &request).await })
        };
        let mut begun = Self {
            store: Arc::clone(store),
            shared: Arc::clone(shared),
            request: Arc::clone(request),
            operation,
            channel,
            interrupt,
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
            Poll::Pending => Stage::Ready(self.channel.take_calls()),
        };
    }

    /// Starts the time of the next half. Fails if the calls were sent by the parent of this forked process.
    fn restart_deadline(&mut self) -> Result<()> {
        let has_forked = self.channel.deadline().has_forked();
        if has_forked && matches!(self.stage, Stage::Ready(_) | Stage::Ended(_)) {
            // Nothing has been sent yet: this process begins again.
            *self = Self::new(&self.store, &self.request, self.interrupt);
        } else if has_forked {
            let address = &self.shared.context.config.address;
            return Err(Stop::Forked.error(address, "waiting for a reply", Outcome::Unknown));
        }
        self.channel.deadline().restart();
        Ok(())
    }
}

impl Begun for BegunRequest {
    fn send(&mut self) {
        if self.restart_deadline().is_err() || self.shared.check_open().is_err() {
            // `finish` reports the error.
            return;
        }
        self.stage = match std::mem::replace(&mut self.stage, Stage::Poll) {
            Stage::Ready(calls) => {
                let mut deadline = self.channel.deadline();
                match send(&self.shared, &calls, &mut self.held, &mut deadline) {
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
        self.restart_deadline()?;
        if let Stage::Ready(_) = self.stage {
            self.shared.check_open()?;
        }
        if let Some(time) = within {
            let mut deadline = self.channel.deadline();
            *deadline = deadline.shorter(time);
        }
        let result = loop {
            let replies = match std::mem::replace(&mut self.stage, Stage::Poll) {
                Stage::Ended(result) => break result,
                Stage::Poll => {
                    self.advance();
                    continue;
                }
                Stage::Ready(calls) => {
                    let mut deadline = self.channel.deadline();
                    exchange(&self.shared, &calls, &mut self.held, &mut deadline)
                }
                Stage::Sent(calls, sent) => {
                    let mut deadline = self.channel.deadline();
                    collect(&self.shared, &calls, sent, &mut self.held, &mut deadline)
                }
            };
            self.channel.resume(replies);
        };
        let held = std::mem::take(&mut self.held);
        release(&self.shared, held, &self.channel.deadline());
        result
    }
}
