//! Several calls in flight at once, each on a connection of its own, on the one thread of the transport.

use std::future::{Future, poll_fn};
use std::mem;
use std::pin::Pin;
use std::task::Poll;

/// The number of calls of one request that are in flight at once.
pub const CONCURRENCY: usize = 8;

/// Runs futures to completion, up to `CONCURRENCY` at a time, and returns their results in order. A future is first
/// polled when one before it has finished, so it can see what that one left.
///
/// # Errors
///
/// The first error of a future: the others end at once.
pub async fn join_all<R, E, F: Future<Output = Result<R, E>>>(
    futures: impl ExactSizeIterator<Item = F>,
) -> Result<Vec<R>, E> {
    let mut waiting = futures.enumerate();
    let mut results: Vec<Option<R>> = Vec::new();
    results.resize_with(waiting.len(), || None);
    let mut running: Vec<(usize, Pin<Box<F>>)> = Vec::with_capacity(CONCURRENCY.min(results.len()));
    let results = poll_fn(|context| {
        loop {
            let free = CONCURRENCY - running.len();
            let started = waiting.by_ref().take(free);
            running.extend(started.map(|(index, future)| (index, Box::pin(future))));
            if running.is_empty() {
                return Poll::Ready(Ok(mem::take(&mut results)));
            }
            let before = running.len();
            let mut failure = None;
            running.retain_mut(|(index, future)| match future.as_mut().poll(context) {
                Poll::Ready(result) => {
                    match result {
                        Ok(result) => results[*index] = Some(result),
                        Err(error) => failure = failure.take().or(Some(error)),
                    }
                    false
                }
                Poll::Pending => true,
            });
            if let Some(error) = failure {
                return Poll::Ready(Err(error));
            }
            if running.len() == before {
                return Poll::Pending;
            }
        }
    })
    .await?;
    Ok(results.into_iter().flatten().collect())
}
