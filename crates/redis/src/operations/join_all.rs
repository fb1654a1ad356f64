//! Concurrent operations: the writes of a batch, or several requests. The calls that they send at the same time share round
//! trips.

use std::pin::Pin;
use std::task::{Context, Poll, Waker};

use mintkey_store::Result;

use crate::protocol::channel::{Channel, Replies};
use crate::protocol::resp::Call;

/// An operation that has not ended.
struct Pending<'a, T> {
    index: usize,
    channel: Channel,
    operation: Pin<Box<dyn Future<Output = Result<T>> + Send + 'a>>,
}

/// Concurrent operations.
pub struct JoinAll<'a, T = ()> {
    pending: Vec<Pending<'a, T>>,
    results: Vec<(usize, Result<T>)>,
}

impl<'a, T> JoinAll<'a, T> {
    /// No operations.
    pub const fn new() -> Self {
        Self {
            pending: Vec::new(),
            results: Vec::new(),
        }
    }

    pub fn add<F>(&mut self, channel: &Channel, index: usize, operation: impl FnOnce(Channel) -> F)
    where
        F: Future<Output = Result<T>> + Send + 'a,
    {
        let channel = channel.for_part();
        let operation = Box::pin(operation(channel.clone()));
        self.pending.push(Pending {
            index,
            channel,
            operation,
        });
    }

    /// Sends other calls, together with the next calls of all operations. Returns the replies to the other calls.
    pub async fn exchange(&mut self, channel: &Channel, others: Vec<Call>) -> Replies {
        let other_count = others.len();
        let (calls, counts) = self.poll_all(others);
        if calls.is_empty() && counts.is_empty() {
            return Vec::new();
        }
        let mut replies = channel.exchange(calls).await;
        let mut own = replies.split_off(other_count).into_iter();
        let mut retries = channel.take_last_retries().into_iter().skip(other_count);
        for (pending, count) in self.pending.iter().zip(counts) {
            let own_retries = retries.by_ref().take(count).collect();
            pending.channel.add_retries(own_retries);
            pending.channel.resume(own.by_ref().take(count).collect());
        }
        replies
    }

    /// Polls each operation until it sends calls or ends. Returns all calls, and how many each operation has sent.
    fn poll_all(&mut self, mut calls: Vec<Call>) -> (Vec<Call>, Vec<usize>) {
        let mut counts = Vec::with_capacity(self.pending.len());
        let mut waker_context = Context::from_waker(Waker::noop());
        let results = &mut self.results;
        self.pending.retain_mut(|pending| {
            match pending.operation.as_mut().poll(&mut waker_context) {
                Poll::Ready(result) => {
                    results.push((pending.index, result));
                    false
                }
                Poll::Pending => {
                    let own_calls = pending.channel.take_calls();
                    counts.push(own_calls.len());
                    calls.extend(own_calls);
                    true
                }
            }
        });
        (calls, counts)
    }

    /// Completes all operations. Returns their results with their indexes.
    pub async fn finish(mut self, channel: &Channel) -> Vec<(usize, Result<T>)> {
        while !self.pending.is_empty() {
            self.exchange(channel, Vec::new()).await;
        }
        self.results
    }
}
