//! Concurrent writes of one request. The calls that they send at the same time share round trips.

use std::pin::Pin;
use std::task::{Context, Poll, Waker};

use mintkey_store::Result;

use crate::protocol::channel::{Channel, Replies};
use crate::protocol::resp::Call;

/// A write that has not ended.
struct Pending<'a> {
    /// Its index in the batch.
    index: usize,
    channel: Channel,
    operation: Pin<Box<dyn Future<Output = Result<()>> + Send + 'a>>,
}

/// Concurrent writes.
#[derive(Default)]
pub struct JoinAll<'a> {
    pending: Vec<Pending<'a>>,
    results: Vec<(usize, Result<()>)>,
}

impl<'a> JoinAll<'a> {
    pub fn add<F>(&mut self, channel: &Channel, index: usize, write: impl FnOnce(Channel) -> F)
    where
        F: Future<Output = Result<()>> + Send + 'a,
    {
        let channel = channel.for_part();
        let operation = Box::pin(write(channel.clone()));
        self.pending.push(Pending {
            index,
            channel,
            operation,
        });
    }

    /// Sends other calls, together with the next calls of all writes. Returns the replies to the other calls.
    pub async fn exchange(&mut self, channel: &Channel, others: Vec<Call>) -> Replies {
        let other_count = others.len();
        let (calls, counts) = self.poll_all(others);
        if calls.is_empty() && counts.is_empty() {
            return Vec::new();
        }
        let mut replies = channel.exchange(calls).await;
        let mut own = replies.split_off(other_count).into_iter();
        for (write, count) in self.pending.iter().zip(counts) {
            write.channel.resume(own.by_ref().take(count).collect());
        }
        replies
    }

    /// Polls each write until it sends calls or ends. Returns all calls, and how many each write has sent.
    fn poll_all(&mut self, mut calls: Vec<Call>) -> (Vec<Call>, Vec<usize>) {
        let mut counts = Vec::with_capacity(self.pending.len());
        let mut waker_context = Context::from_waker(Waker::noop());
        let results = &mut self.results;
        self.pending.retain_mut(
            |write| match write.operation.as_mut().poll(&mut waker_context) {
                Poll::Ready(result) => {
                    results.push((write.index, result));
                    false
                }
                Poll::Pending => {
                    let own_calls = write.channel.take_calls();
                    counts.push(own_calls.len());
                    calls.extend(own_calls);
                    true
                }
            },
        );
        (calls, counts)
    }

    /// Completes all writes. Returns their results with their indexes.
    pub async fn finish(mut self, channel: &Channel) -> Vec<(usize, Result<()>)> {
        while !self.pending.is_empty() {
            self.exchange(channel, Vec::new()).await;
        }
        self.results
    }
}
