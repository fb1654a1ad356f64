//! The seam between what is asked of a server and how the bytes travel.
//!
//! An operation is written once, as an async function that asks and awaits. Whoever drives it looks
//! at what it asked, carries that to the server in its own way (blocking on the calling thread, or on
//! the store's background thread), and lets it go on.

use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};

use mintkey_store::{Outcome, Result};

use crate::protocol::resp::{Call, Value};

/// The final reply to a call.
#[derive(Debug, Eq, PartialEq)]
pub struct Answered {
    /// The reply.
    pub value: Value,
    /// Whether the call was sent before as well, and may have been carried out then: no reply came.
    pub sent_before: bool,
}

/// The final reply to each call, or the reason why there is none.
pub type Answer = Result<Vec<Answered>>;

/// Where one operation's questions and answers are exchanged.
#[derive(Clone, Default)]
pub struct Talk(Arc<Mutex<Desk>>);

#[derive(Default)]
struct Desk {
    exchange: Exchange,
    anew: bool,
    wrote: bool,
}

#[derive(Default)]
enum Exchange {
    #[default]
    Quiet,
    Asked(Vec<Call>),
    Answered(Answer),
}

impl Talk {
    fn desk(&self) -> MutexGuard<'_, Desk> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Lets the time of the request begin anew: this one is long, but it gets on.
    pub fn start_anew(&self) {
        self.desk().anew = true;
    }

    /// Sends several calls at once. The answers are as many, in the same order.
    pub async fn exchange(&self, calls: Vec<Call>) -> Answer {
        let writes = calls.iter().any(|call| call.writes);
        self.desk().exchange = Exchange::Asked(calls);
        let answer = Turn(self).await;
        if writes
            && answer.as_ref().err().and_then(|error| error.kind.outcome())
                != Some(Outcome::NotApplied)
        {
            self.desk().wrote = true;
        }
        answer
    }

    /// Whether something may have been written by what was sent so far.
    pub fn wrote(&self) -> bool {
        self.desk().wrote
    }

    /// Asks several things at once; the answers are as many, in the same order.
    pub async fn ask(&self, calls: Vec<Call>) -> Result<Vec<Value>> {
        let answered = self.exchange(calls).await?;
        Ok(answered.into_iter().map(|own| own.value).collect())
    }

    /// Asks one thing.
    pub async fn ask_one(&self, call: Call) -> Result<Value> {
        let mut values = self.ask(vec![call]).await?;
        Ok(values.pop().unwrap_or(Value::Nil))
    }

    /// What the operation asked, and whether its time begins anew; for the one who drives it.
    pub fn asked(&self) -> (Vec<Call>, bool) {
        let mut desk = self.desk();
        let anew = std::mem::take(&mut desk.anew);
        match std::mem::take(&mut desk.exchange) {
            Exchange::Asked(calls) => (calls, anew),
            _ => (Vec::new(), anew),
        }
    }

    /// Gives the answer; the operation can go on.
    pub fn answer(&self, answer: Answer) {
        self.desk().exchange = Exchange::Answered(answer);
    }
}

/// The driver's turn.
struct Turn<'a>(&'a Talk);

impl Future for Turn<'_> {
    type Output = Answer;

    fn poll(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Answer> {
        let exchange = &mut self.0.desk().exchange;
        match std::mem::take(exchange) {
            Exchange::Answered(answer) => Poll::Ready(answer),
            other => {
                *exchange = other;
                Poll::Pending
            }
        }
    }
}
