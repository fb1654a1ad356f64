//! Uncertain writes: a call was sent, and no reply came.

use mintkey_store::{Error, ErrorKind, Outcome, Result};

/// Whether a write may have happened although no reply confirms it.
///
/// An uncertain write stays uncertain until it succeeds. A later attempt that is refused, or that cannot be sent, says
/// nothing about the first one.
#[derive(Debug, Default)]
pub struct Uncertainty(Option<Error>);

impl Uncertainty {
    /// After a final reply: uncertain if an earlier attempt of the call got no reply.
    pub fn after(sent_before: bool) -> Self {
        Self(sent_before.then(unanswered))
    }

    /// After a failed attempt.
    pub fn of(error: &Error) -> Self {
        let unknown = error.kind.outcome() == Some(Outcome::Unknown);
        Self(unknown.then(|| error.clone()))
    }

    /// Adds the uncertainty of another attempt.
    pub fn add(&mut self, other: Self) {
        if self.0.is_none() {
            self.0 = other.0;
        }
    }

    /// Whether the write is uncertain.
    pub const fn exists(&self) -> bool {
        self.0.is_some()
    }

    /// The error of a write whose outcome cannot be found out.
    pub fn error(&self) -> Error {
        match &self.0 {
            Some(error) => error.clone(),
            None => unanswered(),
        }
    }

    /// The result of the write, from the result of its last attempt.
    pub fn settle<T>(self, result: Result<T>) -> Result<T> {
        match (self.0, result) {
            (Some(uncertain), Err(error)) => Err(match error.kind {
                ErrorKind::Unavailable(_)
                | ErrorKind::Timeout(_)
                | ErrorKind::Interrupted(_)
                | ErrorKind::Configuration => error.uncertain(),
                // The conflicting row may have been written by this write.
                _ => uncertain,
            }),
            (_, result) => result,
        }
    }
}

fn unanswered() -> Error {
    Error::new(
        ErrorKind::Unavailable(Outcome::Unknown),
        "the connection to Redis broke before the reply came",
    )
}
