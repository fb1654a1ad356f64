//! Blocking calls: an operation driven on the calling thread, over connections of its own.

use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use mintkey_store::{Interrupt, Reply, Request, Result};

use crate::driver::exchange::{Held, exchange, keep};
use crate::driver::shared::Shared;
use crate::operations;
use crate::protocol::channel::Talk;
use crate::transport::deadline::Watch;

/// Carries a request out on this thread.
pub fn execute(
    shared: &Shared,
    request: &Request,
    interrupt: &'static dyn Interrupt,
) -> Result<Reply> {
    let mut watch = Watch::new(Some(interrupt), shared.engine.config.timeout);
    let talk = Talk::default();
    let mut held = Held::new();
    let mut operation = pin!(operations::run(&shared.engine, &talk, request));
    let mut context = Context::from_waker(Waker::noop());
    let result = loop {
        match operation.as_mut().poll(&mut context) {
            Poll::Ready(result) => break result,
            Poll::Pending => {
                let (calls, anew) = talk.asked();
                if anew {
                    watch.start_anew();
                }
                talk.answer(exchange(shared, &calls, &mut held, &mut watch));
            }
        }
    };
    keep(shared, held);
    result
}

/// Carries requests out on this thread, whatever they ask at the same time in the same trip.
pub fn execute_all(
    shared: &Shared,
    requests: &[Arc<Request>],
    interrupt: &'static dyn Interrupt,
) -> Vec<Result<Reply>> {
    let mut watch = Watch::new(Some(interrupt), shared.engine.config.timeout);
    let talks: Vec<Talk> = requests.iter().map(|_| Talk::default()).collect();
    let mut held = Held::new();
    let operations = requests.iter().zip(&talks).enumerate();
    let mut running: Vec<_> = operations
        .map(|(place, (request, talk))| {
            (
                place,
                Box::pin(operations::run(&shared.engine, talk, request)),
            )
        })
        .collect();
    let mut results: Vec<Option<Result<Reply>>> = requests.iter().map(|_| None).collect();
    let mut context = Context::from_waker(Waker::noop());
    loop {
        let (mut calls, mut counts) = (Vec::new(), Vec::new());
        running.retain_mut(
            |(place, operation)| match operation.as_mut().poll(&mut context) {
                Poll::Ready(result) => {
                    results[*place] = Some(result);
                    false
                }
                Poll::Pending => {
                    let (asked, anew) = talks[*place].asked();
                    if anew {
                        watch.start_anew();
                    }
                    counts.push((*place, asked.len()));
                    calls.extend(asked);
                    true
                }
            },
        );
        if running.is_empty() {
            break;
        }
        match exchange(shared, &calls, &mut held, &mut watch) {
            Ok(values) => {
                let mut values = values.into_iter();
                for (place, count) in counts {
                    talks[place].answer(Ok(values.by_ref().take(count).collect()));
                }
            }
            Err(error) => {
                for ((place, _), error) in counts.iter().zip(error.of_all(counts.len())) {
                    talks[*place].answer(error);
                }
            }
        }
    }
    keep(shared, held);
    results.into_iter().flatten().collect()
}
