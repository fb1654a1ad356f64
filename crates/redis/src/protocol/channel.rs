//! The channel between an operation and its driver.
//!
//! An operation is written once, as an async function that sends calls and awaits the replies. It does no I/O. A driver
//! polls it, takes the calls from the channel, exchanges them with the servers in its own way (blocking the calling
//! thread, or on the store's thread), and resumes the operation with the replies.

use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard};
use std::task::{Context, Poll};

use mintkey_runtime::{Deadline, locked};
use mintkey_store::{Outcome, Result};

use crate::protocol::replies::is_refusal;
use crate::protocol::resp::{Call, Value};

/// The final reply to a call.
#[derive(Debug, Eq, PartialEq)]
pub struct FinalReply {
    /// The reply.
    pub value: Value,
    /// Whether an earlier attempt got no reply. The server may have carried out the call then.
    pub sent_before: bool,
}

/// The final reply to each call, or the error that left it without one.
pub type Replies = Vec<Result<FinalReply>>;

/// Where an operation and its driver exchange calls and replies.
#[derive(Clone)]
pub struct Channel {
    state: Arc<Mutex<ChannelState>>,
    /// Shared by all channels of the request.
    deadline: Arc<Mutex<Deadline>>,
}

#[derive(Default)]
struct ChannelState {
    message: Message,
    may_have_written: bool,
    /// How often calls were sent again.
    retries: u32,
    /// How often each call of the last exchange was sent again.
    last_retries: Vec<u32>,
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
        locked(&self.state)
    }

    /// The channel of a request with this deadline.
    pub fn new(deadline: Deadline) -> Self {
        Self {
            state: Arc::default(),
            deadline: Arc::new(Mutex::new(deadline)),
        }
    }

    /// A channel of another operation of the same request.
    pub fn for_part(&self) -> Self {
        Self {
            state: Arc::default(),
            deadline: Arc::clone(&self.deadline),
        }
    }

    /// The deadline of the request. The driver checks it while it waits for replies, the operation while it evaluates rows.
    /// The lock must be released before the operation is polled.
    pub fn deadline(&self) -> MutexGuard<'_, Deadline> {
        locked(&self.deadline)
    }

    /// Sends calls at once. There are as many replies, in the same order.
    pub async fn exchange(&self, calls: Vec<Call>) -> Replies {
        self.exchange_writes(calls).await.0
    }

    /// Sends calls at once. Also returns whether one of them may have written something.
    async fn exchange_writes(&self, calls: Vec<Call>) -> (Replies, bool) {
        let writes: Vec<bool> = calls.iter().map(|call| call.writes).collect();
        self.lock().message = Message::Calls(calls);
        let replies = NextReplies(self).await;
        let mut written = writes.into_iter().zip(&replies);
        let any = written.any(|(writes, reply)| writes && may_have_written(reply));
        self.lock().may_have_written |= any;
        (replies, any)
    }

    /// Whether one of the calls so far may have written something.
    pub fn may_have_written(&self) -> bool {
        self.lock().may_have_written
    }

    /// Sends calls at once. There are as many replies, in the same order. If one has none, that is the error of all: what the
    /// calls have done together is unknown if one of them may have written something.
    pub async fn send(&self, calls: Vec<Call>) -> Result<Vec<Value>> {
        let (replies, may_have_written) = self.exchange_writes(calls).await;
        let replies: Result<Vec<FinalReply>> = replies.into_iter().collect();
        match replies {
            Ok(replies) => Ok(replies.into_iter().map(|reply| reply.value).collect()),
            Err(error) if may_have_written => Err(error.uncertain()),
            Err(error) => Err(error),
        }
    }

    /// Sends one call.
    pub async fn send_one(&self, call: Call) -> Result<Value> {
        let mut values = self.send(vec![call]).await?;
        Ok(values.pop().unwrap_or(Value::Nil))
    }

    /// For the driver: records how often each call of an exchange was sent again. Calls that are sent together count once.
    pub fn add_retries(&self, retries: Vec<u32>) {
        let mut state = self.lock();
        state.retries += retries.iter().max().copied().unwrap_or(0);
        state.last_retries = retries;
    }

    /// How often each call of the last exchange was sent again, as far as the driver has recorded it.
    pub fn take_last_retries(&self) -> Vec<u32> {
        std::mem::take(&mut self.lock().last_retries)
    }

    /// How often calls of the operation were sent again.
    pub fn retries(&self) -> u32 {
        self.lock().retries
    }

    /// For the driver: the calls that the operation sends.
    pub fn take_calls(&self) -> Vec<Call> {
        match std::mem::take(&mut self.lock().message) {
            Message::Calls(calls) => calls,
            _ => Vec::new(),
        }
    }

    /// For the driver: hands over the replies. The operation can be polled again.
    pub fn resume(&self, replies: Replies) {
        self.lock().message = Message::Replies(replies);
    }
}

/// Whether a call that writes may have done so: not if the server has refused it, or cannot have received it.
fn may_have_written(reply: &Result<FinalReply>) -> bool {
    match reply {
        Ok(reply) => reply.sent_before || !is_refusal(&reply.value),
        Err(error) => error.kind.outcome() == Some(Outcome::Unknown),
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
