//! A submitted request in an engine. It always gets an answer, also if the thread that executes it panics.

use std::mem;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::error::{Error, ErrorKind, Outcome, Result};
use crate::reply::Reply;
use crate::store::{Done, Ticket};

/// The engine's side of a submitted request.
///
/// Dropping it answers the request, unless it was answered or withdrawn before. So an engine that loses a request, by
/// a panic or with an abandoned queue, leaves no caller waiting. An engine must not share it with
/// its tickets: a ticket outlives the thread that panicked.
pub struct Submission(Arc<Mutex<State>>);

enum State {
    /// In a queue: it can be withdrawn.
    Waiting(Done),
    /// An engine executes it.
    Started(Done),
    /// Answered or withdrawn.
    Over,
}

impl Submission {
    /// A request that is not started; `done` gets its answer.
    #[must_use]
    pub fn new(done: Done) -> Self {
        Self(Arc::new(Mutex::new(State::Waiting(done))))
    }

    /// The caller's side.
    #[must_use]
    pub fn ticket(&self) -> Box<dyn Ticket> {
        Box::new(Submitted(Arc::clone(&self.0)))
    }

    /// Starts the request. False: it was withdrawn, or started before.
    #[must_use]
    pub fn start(&self) -> bool {
        let mut state = locked(&self.0);
        match mem::replace(&mut *state, State::Over) {
            State::Waiting(done) => {
                *state = State::Started(done);
                true
            }
            other => {
                *state = other;
                false
            }
        }
    }

    /// Answers the request, started or not. Nothing is delivered if it was answered or withdrawn before.
    pub fn answer(&self, answer: Result<Reply>) -> Delivery {
        Delivery(match self.end() {
            State::Waiting(done) | State::Started(done) => Some((done, answer)),
            State::Over => None,
        })
    }

    fn end(&self) -> State {
        mem::replace(&mut *locked(&self.0), State::Over)
    }
}

impl Drop for Submission {
    fn drop(&mut self) {
        let (done, started) = match self.end() {
            State::Waiting(done) => (done, false),
            State::Started(done) => (done, true),
            State::Over => return,
        };
        drop(Delivery(Some((done, Err(lost(started))))));
    }
}

/// An answer that is about to be delivered: dropping it calls `done`, which may take locks. So an engine drops it where
/// it holds none itself.
#[must_use = "dropping it delivers the answer: choose where"]
pub struct Delivery(Option<(Done, Result<Reply>)>);

impl Delivery {
    /// Delivers the answer.
    pub fn deliver(self) {
        drop(self);
    }
}

impl Drop for Delivery {
    fn drop(&mut self) {
        if let Some((done, answer)) = self.0.take() {
            done(answer);
        }
    }
}

/// The caller's side of a submitted request.
struct Submitted(Arc<Mutex<State>>);

impl Ticket for Submitted {
    fn withdraw(&self) -> bool {
        let mut state = locked(&self.0);
        if !matches!(*state, State::Waiting(_)) {
            return false;
        }
        // `done` is dropped now, and not when the engine takes the request.
        let withdrawn = mem::replace(&mut *state, State::Over);
        drop(state);
        drop(withdrawn);
        true
    }
}

fn locked(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The error of a request that an engine lost, by a panic for example.
#[must_use]
pub fn lost(started: bool) -> Error {
    let (when, outcome) = if started {
        ("in the middle of the request", Outcome::Unknown)
    } else {
        ("before it began the request", Outcome::NotApplied)
    };
    Error::new(
        ErrorKind::Unavailable(outcome),
        format!("the store's thread ended {when}, which is a bug in mintkey"),
    )
    .advice("report it with the panic message that the thread printed to standard error")
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::{Receiver, channel};

    use super::*;

    fn submission() -> (Submission, Receiver<Result<Reply>>) {
        let (sender, answers) = channel();
        let done: Done = Box::new(move |answer| sender.send(answer).unwrap());
        (Submission::new(done), answers)
    }

    fn kinds(answers: &Receiver<Result<Reply>>) -> Vec<Option<ErrorKind>> {
        let kind = |answer: Result<Reply>| answer.err().map(|error| error.kind);
        answers.try_iter().map(kind).collect()
    }

    #[test]
    fn a_request_is_answered_once() {
        let (submission, answers) = submission();
        assert!(submission.start());
        assert!(!submission.start());
        let delivery = submission.answer(Ok(Reply::Done));
        assert!(kinds(&answers).is_empty(), "not before it is delivered");
        delivery.deliver();
        submission.answer(Ok(Reply::Done)).deliver();
        drop(submission);
        assert_eq!(kinds(&answers), [None]);
    }

    #[test]
    fn a_dropped_request_is_answered_while_its_ticket_lives() {
        for (started, outcome) in [(false, Outcome::NotApplied), (true, Outcome::Unknown)] {
            let (submission, answers) = submission();
            let ticket = submission.ticket();
            assert!(!started || submission.start());
            drop(submission);
            assert_eq!(kinds(&answers), [Some(ErrorKind::Unavailable(outcome))]);
            assert!(!ticket.withdraw());
        }
    }

    #[test]
    fn a_panic_answers_what_was_started_and_what_was_about_to_be_delivered() {
        let (first, first_answers) = submission();
        let (second, second_answers) = submission();
        let worker = std::thread::spawn(move || {
            assert!(first.start());
            let _delivery = second.answer(Ok(Reply::Done));
            assert!(!first.start(), "started once");
            panic!("as a defect would");
        });
        worker.join().unwrap_err();
        let unknown = ErrorKind::Unavailable(Outcome::Unknown);
        assert_eq!(kinds(&first_answers), [Some(unknown)]);
        assert_eq!(kinds(&second_answers), [None]);
    }

    #[test]
    fn a_withdrawn_request_is_never_begun_nor_answered() {
        let (submission, answers) = submission();
        let ticket = submission.ticket();
        assert!(ticket.withdraw());
        assert!(!ticket.withdraw());
        // The receiver sees at once that there will be no answer.
        assert!(answers.recv().is_err());
        assert!(!submission.start());
        submission.answer(Ok(Reply::Done)).deliver();
    }

    #[test]
    fn what_was_started_cannot_be_withdrawn() {
        let (submission, answers) = submission();
        let ticket = submission.ticket();
        assert!(submission.start());
        assert!(!ticket.withdraw());
        submission.answer(Ok(Reply::Done)).deliver();
        assert_eq!(kinds(&answers), [None]);
    }
}
