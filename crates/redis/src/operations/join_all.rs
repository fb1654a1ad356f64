//! Writes of one request that go on at the same time: what they ask goes to the servers together.

use std::pin::Pin;
use std::task::{Context, Poll, Waker};

use mintkey_store::Result;

use crate::protocol::channel::{Answer, Talk};
use crate::protocol::resp::Call;

/// A write on its way.
struct Running<'a> {
    /// Its place in the batch.
    place: usize,
    talk: Talk,
    operation: Pin<Box<dyn Future<Output = Result<()>> + Send + 'a>>,
}

/// Writes that go on at the same time.
#[derive(Default)]
pub struct Abreast<'a> {
    running: Vec<Running<'a>>,
    ended: Vec<(usize, Result<()>)>,
}

impl<'a> Abreast<'a> {
    /// Adds a write, which asks at a place of its own.
    pub fn begin<F>(&mut self, place: usize, write: impl FnOnce(Talk) -> F)
    where
        F: Future<Output = Result<()>> + Send + 'a,
    {
        let talk = Talk::default();
        let operation = Box::pin(write(talk.clone()));
        self.running.push(Running {
            place,
            talk,
            operation,
        });
    }

    /// Asks for all what they want to know next, behind some other calls; gives the answers to those.
    /// If there are none, every write hears of it too.
    pub async fn ask(&mut self, talk: &Talk, beside: Vec<Call>) -> Answer {
        let many = beside.len();
        let (calls, shares) = self.go_on(talk, beside);
        if calls.is_empty() && shares.is_empty() {
            return Ok(Vec::new());
        }
        match talk.exchange(calls).await {
            Ok(mut values) => {
                let mut own = values.split_off(many).into_iter();
                for (one, share) in self.running.iter().zip(shares) {
                    one.talk.answer(Ok(own.by_ref().take(share).collect()));
                }
                Ok(values)
            }
            Err(error) => {
                let mut errors = error.of_all(shares.len() + 1);
                for (one, error) in self.running.iter().zip(errors.drain(1..)) {
                    one.talk.answer(error);
                }
                errors.remove(0)
            }
        }
    }

    /// Lets each go on until it asks or ends; gives all calls, and how many are whose.
    fn go_on(&mut self, talk: &Talk, mut calls: Vec<Call>) -> (Vec<Call>, Vec<usize>) {
        let mut shares = Vec::with_capacity(self.running.len());
        let mut context = Context::from_waker(Waker::noop());
        let ended = &mut self.ended;
        self.running
            .retain_mut(|one| match one.operation.as_mut().poll(&mut context) {
                Poll::Ready(result) => {
                    ended.push((one.place, result));
                    false
                }
                Poll::Pending => {
                    let (asked, anew) = one.talk.asked();
                    if anew {
                        talk.start_anew();
                    }
                    shares.push(asked.len());
                    calls.extend(asked);
                    true
                }
            });
        (calls, shares)
    }

    /// Carries all out; gives how each ended, with its place.
    pub async fn finish(mut self, talk: &Talk) -> Vec<(usize, Result<()>)> {
        while !self.running.is_empty() {
            // Whatever came to nothing, the writes have heard of it, and end with it.
            let _ = self.ask(talk, Vec::new()).await;
        }
        self.ended
    }
}
