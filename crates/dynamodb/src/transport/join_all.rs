//! Several calls at once, each over a connection of its own, on the one thread that the link has.

use std::future::{Future, poll_fn};
use std::mem;
use std::pin::Pin;
use std::task::Poll;

use crate::transport::Link;

/// Calls of one request that are under way at once.
pub const AT_ONCE: usize = 8;

/// Runs futures to their ends, up to `AT_ONCE` of them at a time; their results in order. One begins only when there is
/// room, so what it looks at first may be what an earlier one has left.
pub async fn join_all<L: Link, F: Future>(
    link: &L,
    futures: impl ExactSizeIterator<Item = F>,
) -> Vec<F::Output> {
    let shared = futures.len() > 1;
    if shared {
        link.begin_sharing();
    }
    let mut waiting = futures.enumerate();
    let mut results: Vec<Option<F::Output>> = Vec::new();
    results.resize_with(waiting.len(), || None);
    let mut running: Vec<(usize, Pin<Box<F>>)> = Vec::with_capacity(AT_ONCE.min(results.len()));
    let results = poll_fn(|context| {
        loop {
            let room = AT_ONCE - running.len();
            running.extend(
                waiting
                    .by_ref()
                    .take(room)
                    .map(|(place, future)| (place, Box::pin(future))),
            );
            if running.is_empty() {
                return Poll::Ready(mem::take(&mut results));
            }
            let before = running.len();
            running.retain_mut(|(place, future)| match future.as_mut().poll(context) {
                Poll::Ready(result) => {
                    results[*place] = Some(result);
                    false
                }
                Poll::Pending => true,
            });
            if running.len() == before {
                return Poll::Pending;
            }
        }
    })
    .await;
    if shared {
        link.end_sharing();
    }
    results.into_iter().flatten().collect()
}
