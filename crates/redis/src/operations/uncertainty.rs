//! Doubt about a write: it was sent, and no reply to it came.

use mintkey_store::{Error, ErrorKind, Outcome, Result};

/// Whether a write may have happened though no reply says so.
///
/// Doubt, once there, stays until the write has succeeded: a later attempt that is refused, or that cannot be sent,
/// says nothing of what became of the first one.
#[derive(Debug, Default)]
pub struct Doubt(Option<Error>);

impl Doubt {
    /// The doubt that a final reply leaves: some, if the call was sent before as well and not answered then.
    pub fn after(sent_before: bool) -> Self {
        Self(sent_before.then(unanswered))
    }

    /// The doubt that a failed attempt leaves.
    pub fn of(error: &Error) -> Self {
        let unknown = error.kind.outcome() == Some(Outcome::Unknown);
        Self(unknown.then(|| Error::new(error.kind, error.message.clone())))
    }

    /// Adds what another attempt leaves.
    pub fn add(&mut self, other: Self) {
        if self.0.is_none() {
            self.0 = other.0;
        }
    }

    /// Whether there is any.
    pub const fn is_there(&self) -> bool {
        self.0.is_some()
    }

    /// The error of a write that nothing can resolve.
    pub fn error(&self) -> Error {
        match &self.0 {
            Some(error) => Error::new(error.kind, error.message.clone()),
            None => unanswered(),
        }
    }

    /// How the write ends, when its last attempt has ended like this.
    pub fn settle<T>(self, result: Result<T>) -> Result<T> {
        match (self.0, result) {
            (Some(doubt), Err(error)) => Err(match error.kind {
                ErrorKind::Unavailable(_)
                | ErrorKind::Timeout(_)
                | ErrorKind::Interrupted(_)
                | ErrorKind::Configuration => error.in_doubt(),
                // What stands in the way may be what this write has written.
                _ => doubt,
            }),
            (_, result) => result,
        }
    }
}

fn unanswered() -> Error {
    Error::new(
        ErrorKind::Unavailable(Outcome::Unknown),
        format!(
            "the connection to Redis broke before the reply came: {}",
            Outcome::Unknown.words()
        ),
    )
}
