//! A blocking call in two halves: what it sends first is on its way while the caller prepares what comes next.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use mintkey_store::{Begun, Interrupt, Outcome, Reply, Request, Result};

use crate::driver::exchange::{Dispatched, Held, collect, dispatch, exchange, keep};
use crate::driver::shared::Shared;
use crate::operations;
use crate::protocol::channel::Talk;
use crate::protocol::resp::Call;
use crate::transport::deadline::Watch;

/// A request that was begun on the calling thread.
pub struct Beginning {
    shared: Arc<Shared>,
    operation: Pin<Box<dyn Future<Output = Result<Reply>> + Send>>,
    talk: Talk,
    watch: Watch,
    held: Held,
    stage: Stage,
}

/// How far it has come.
enum Stage {
    /// The operation has something to say.
    Open,
    /// It asks this.
    Ready(Vec<Call>),
    /// It has asked this.
    Sent(Vec<Call>, Dispatched),
    /// It needed nobody.
    Ended(Result<Reply>),
}

impl Beginning {
    /// Makes ready what the request sends first.
    pub fn new(
        shared: &Arc<Shared>,
        request: &Arc<Request>,
        interrupt: &'static dyn Interrupt,
    ) -> Self {
        let talk = Talk::default();
        let operation = {
            let (shared, talk) = (Arc::clone(shared), talk.clone());
            let request = Arc::clone(request);
            Box::pin(async move { operations::run(&shared.engine, &talk, &request).await })
        };
        let mut beginning = Self {
            shared: Arc::clone(shared),
            operation,
            talk,
            watch: Watch::new(Some(interrupt), shared.engine.config.timeout),
            held: Held::new(),
            stage: Stage::Open,
        };
        beginning.advance();
        beginning
    }

    /// Lets the operation go on to what it asks next.
    fn advance(&mut self) {
        let mut context = Context::from_waker(Waker::noop());
        self.stage = match self.operation.as_mut().poll(&mut context) {
            Poll::Ready(result) => Stage::Ended(result),
            Poll::Pending => {
                let (calls, anew) = self.talk.asked();
                if anew {
                    self.watch.start_anew();
                }
                Stage::Ready(calls)
            }
        };
    }

    /// Looks whether the lines and the answers are still this process's own.
    fn is_ours(&mut self) -> Result<()> {
        if !matches!(self.stage, Stage::Sent(..)) {
            // Nothing has left yet: whoever is there may send it.
            self.watch.take_over();
        }
        self.watch
            .look_for_forks()
            .map_err(|stop| stop.error(Outcome::Unknown))
    }
}

impl Begun for Beginning {
    fn send(&mut self) {
        self.watch.start_anew();
        if self.is_ours().is_err() || self.shared.check_open().is_err() {
            // It is told by whoever waits for the answer.
            return;
        }
        self.stage = match std::mem::replace(&mut self.stage, Stage::Open) {
            Stage::Ready(calls) => {
                match dispatch(&self.shared, &calls, &mut self.held, &mut self.watch) {
                    Ok(sent) => Stage::Sent(calls, sent),
                    Err(error) => {
                        self.talk.answer(Err(error));
                        Stage::Open
                    }
                }
            }
            other => other,
        };
    }

    fn finish(mut self: Box<Self>, within: Option<Duration>) -> Result<Reply> {
        self.watch.start_anew();
        self.is_ours()?;
        if let Stage::Ready(_) = self.stage {
            self.shared.check_open()?;
        }
        if let Some(time) = within {
            self.watch = self.watch.shorter(time);
        }
        let result = loop {
            let answer = match std::mem::replace(&mut self.stage, Stage::Open) {
                Stage::Ended(result) => break result,
                Stage::Open => {
                    self.advance();
                    continue;
                }
                Stage::Ready(calls) => {
                    exchange(&self.shared, &calls, &mut self.held, &mut self.watch)
                }
                Stage::Sent(calls, sent) => {
                    collect(&self.shared, &calls, sent, &mut self.held, &mut self.watch)
                }
            };
            self.talk.answer(answer);
        };
        keep(&self.shared, std::mem::take(&mut self.held));
        result
    }
}
