//! Blocking requests: drives operations on the calling thread, over connections of its own.

use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use mintkey_runtime::Deadline;
use mintkey_store::{Interrupt, Reply, Request, Result};

use crate::driver::blocking_exchange::{RequestConnections, exchange, release};
use crate::driver::shared::Shared;
use crate::operations;
use crate::protocol::channel::Channel;
use crate::protocol::replies::is_in_sync;

/// Carries out a request.
pub fn execute(
    shared: &Shared,
    request: &Request,
    interrupt: &'static dyn Interrupt,
) -> Result<Reply> {
    let channel = Channel::new(Deadline::new(interrupt, shared.context.config.timeout));
    let mut connections = RequestConnections::new();
    let mut operation = pin!(operations::run(&shared.context, &channel, request));
    let mut waker_context = Context::from_waker(Waker::noop());
    let result = loop {
        match operation.as_mut().poll(&mut waker_context) {
            Poll::Ready(result) => break result,
            Poll::Pending => {
                let calls = channel.take_calls();
                let (replies, retries) =
                    exchange(shared, calls, &mut connections, &mut channel.deadline());
                channel.add_retries(&retries);
                channel.resume(replies);
            }
        }
    };
    request.metrics.add_retries(channel.retries());
    release(
        shared,
        connections,
        &channel.deadline(),
        is_in_sync(&result),
    );
    result
}

/// Carries out requests. The calls that they send at the same time share round trips.
pub fn execute_all(
    shared: &Shared,
    requests: &[Arc<Request>],
    interrupt: &'static dyn Interrupt,
) -> Vec<Result<Reply>> {
    let common = Channel::new(Deadline::new(interrupt, shared.context.config.timeout));
    let channels: Vec<Channel> = requests.iter().map(|_| common.for_part()).collect();
    let mut connections = RequestConnections::new();
    let operations = requests.iter().zip(&channels).enumerate();
    let mut running: Vec<_> = operations
        .map(|(index, (request, channel))| {
            let operation = operations::run(&shared.context, channel, request);
            (index, Box::pin(operation))
        })
        .collect();
    let mut results: Vec<Option<Result<Reply>>> = requests.iter().map(|_| None).collect();
    let mut waker_context = Context::from_waker(Waker::noop());
    loop {
        let (mut calls, mut counts) = (Vec::new(), Vec::new());
        running.retain_mut(|(index, operation)| {
            match operation.as_mut().poll(&mut waker_context) {
                Poll::Ready(result) => {
                    requests[*index].metrics.finish();
                    results[*index] = Some(result);
                    false
                }
                Poll::Pending => {
                    let own_calls = channels[*index].take_calls();
                    counts.push((*index, own_calls.len()));
                    calls.extend(own_calls);
                    true
                }
            }
        });
        if running.is_empty() {
            break;
        }
        let (replies, retries) = exchange(shared, calls, &mut connections, &mut common.deadline());
        let mut replies = replies.into_iter();
        let mut retries = retries.as_slice();
        for (index, count) in counts {
            let (own, others) = retries.split_at(count);
            retries = others;
            channels[index].add_retries(own);
            channels[index].resume(replies.by_ref().take(count).collect());
        }
    }
    for (request, channel) in requests.iter().zip(&channels) {
        request.metrics.add_retries(channel.retries());
    }
    let results: Vec<Result<Reply>> = results.into_iter().flatten().collect();
    let in_sync = results.iter().all(is_in_sync);
    release(shared, connections, &common.deadline(), in_sync);
    results
}
