//! The channel between an operation and its driver.
//!
//! An operation is written once, as an async function that sends calls and awaits the replies. It does no I/O. A driver
//! polls it, takes the calls from the channel, exchanges them with the servers in its own way (blocking the calling
//! thread, or on the store's thread), and resumes the operation with the replies.

use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};

use mintkey_store::{Outcome, Result};

use crate::protocol::resp::{Call, Value};
use crate::threads::deadline::Deadline;

/// The final reply to a call.
#[derive(Debug, Eq, PartialEq)]
pub struct FinalReply {
    /// The reply.
    pub value: Value,
    /// Whether an earlier attempt got no reply. The server may have carried out the call then.
    pub sent_before: bool,
}

/// The final reply to each call, or the error that left them without one.
pub type Replies = Result<Vec<FinalReply>>;

/// Where an operation and its driver exchange calls and replies.
#[derive(Clone, Default)]
pub struct Channel {
    state: Arc<Mutex<ChannelState>>,
    /// The deadline of the request. The driver checks it while it waits for replies.
    deadline: Option<Deadline>,
}

#[derive(Default)]
struct ChannelState {
    message: Message,
    restarts_deadline: bool,
    may_have_written: bool,
}

/// What is in the channel.
#[derive(Default)]
enum Message {
    #[default]
    Nothing,
    Calls(Vec<Call>),
    Replies(Replies),
}

impl Channel {
    fn lock(&self) -> MutexGuard<'_, ChannelState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The channel of an operation that checks its deadline between exchanges, too.
    pub fn with_deadline(deadline: &Deadline) -> Self {
        Self {
            deadline: Some(deadline.clone()),
            ..Self::default()
        }
    }

    /// The channel of a part of the operation.
    pub fn for_part(&self) -> Self {
        Self {
            deadline: self.deadline.clone(),
            ..Self::default()
        }
    }

    /// Fails if the evaluation of rows must stop. Meanwhile, no write is in flight.
    pub fn check_deadline(&self) -> Result<()> {
        let checked = self.deadline.as_ref().map_or(Ok(()), Deadline::check);
        checked.map_err(|stop| stop.error(Outcome::NotApplied))
    }

    /// Restarts the deadline of the request: it takes long, but it makes progress.
    pub fn restart_deadline(&self) {
        self.lock().restarts_deadline = true;
    }

    /// Sends calls at once. There are as many replies, in the same order.
    pub async fn exchange(&self, calls: Vec<Call>) -> Replies {
        let writes = calls.iter().any(|call| call.writes);
        self.lock().message = Message::Calls(calls);
        let replies = NextReplies(self).await;
        if writes
            && replies
                .as_ref()
                .err()
                .and_then(|error| error.kind.outcome())
                != Some(Outcome::NotApplied)
        {
            self.lock().may_have_written = true;
        }
        replies
    }

    /// Whether one of the calls so far may have written something.
    pub fn may_have_written(&self) -> bool {
        self.lock().may_have_written
    }

    /// Sends calls at once. There are as many replies, in the same order.
    pub async fn send(&self, calls: Vec<Call>) -> Result<Vec<Value>> {
        let replies = self.exchange(calls).await?;
        Ok(replies.into_iter().map(|reply| reply.value).collect())
    }

    /// Sends one call.
    pub async fn send_one(&self, call: Call) -> Result<Value> {
        let mut values = self.send(vec![call]).await?;
        Ok(values.pop().unwrap_or(Value::Nil))
    }

    /// For the driver: the calls that the operation sends, and whether to restart its deadline.
    pub fn take_calls(&self) -> (Vec<Call>, bool) {
        let mut state = self.lock();
        let restarts = std::mem::take(&mut state.restarts_deadline);
        match std::mem::take(&mut state.message) {
            Message::Calls(calls) => (calls, restarts),
            _ => (Vec::new(), restarts),
        }
    }

    /// For the driver: hands over the replies. The operation can be polled again.
    pub fn resume(&self, replies: Replies) {
        self.lock().message = Message::Replies(replies);
    }
}

/// Waits for the replies of the driver.
struct NextReplies<'a>(&'a Channel);

impl Future for NextReplies<'_> {
    type Output = Replies;

    fn poll(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Replies> {
        let message = &mut self.0.lock().message;
        match std::mem::take(message) {
            Message::Replies(replies) => Poll::Ready(replies),
            other => {
                *message = other;
                Poll::Pending
            }
        }
    }
}
