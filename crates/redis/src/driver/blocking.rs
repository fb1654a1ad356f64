//! Blocking requests: drives operations on the calling thread, over connections of its own.

use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use mintkey_runtime::Deadline;
use mintkey_store::{Interrupt, Reply, Request, Result};

use crate::driver::blocking_exchange::{RequestConnections, exchange, release};
use crate::driver::shared::Shared;
use crate::operations::{self, join_all::JoinAll};
use crate::protocol::channel::Channel;
use crate::protocol::replies::is_in_sync;

/// Carries out a request.
pub fn execute(
    shared: &Shared,
    request: &Request,
    interrupt: &'static dyn Interrupt,
) -> Result<Reply> {
    let channel = Channel::new(Deadline::new(interrupt, shared.context.config.timeout));
    let operation = operations::run(&shared.context, &channel, request);
    let result = drive(shared, &channel, operation, is_in_sync);
    request.metrics.add_retries(channel.retries());
    result
}

/// Carries out requests. The calls that they send at the same time share round trips.
pub fn execute_all(
    shared: &Shared,
    requests: &[Arc<Request>],
    interrupt: &'static dyn Interrupt,
) -> Vec<Result<Reply>> {
    let channel = Channel::new(Deadline::new(interrupt, shared.context.config.timeout));
    let mut join_all = JoinAll::new();
    for (index, request) in requests.iter().enumerate() {
        join_all.add(&channel, index, |own| async move {
            let result = operations::run(&shared.context, &own, request).await;
            request.metrics.finish();
            request.metrics.add_retries(own.retries());
            result
        });
    }
    let are_in_sync = |results: &Vec<(usize, Result<Reply>)>| {
        let mut results = results.iter();
        results.all(|(_, result)| is_in_sync(result))
    };
    let mut results = drive(shared, &channel, join_all.finish(&channel), are_in_sync);
    results.sort_by_key(|(index, _)| *index);
    results.into_iter().map(|(_, result)| result).collect()
}

/// Polls an operation, and exchanges its calls for replies, until it has ended.
fn drive<T>(
    shared: &Shared,
    channel: &Channel,
    operation: impl Future<Output = T>,
    in_sync: impl FnOnce(&T) -> bool,
) -> T {
    let mut connections = RequestConnections::new();
    let mut operation = pin!(operation);
    let mut waker_context = Context::from_waker(Waker::noop());
    loop {
        if let Poll::Ready(result) = operation.as_mut().poll(&mut waker_context) {
            release(shared, connections, &channel.deadline(), in_sync(&result));
            return result;
        }
        let calls = channel.take_calls();
        let (replies, retries) = exchange(shared, calls, &mut connections, &mut channel.deadline());
        channel.add_retries(retries);
        channel.resume(replies);
    }
}
