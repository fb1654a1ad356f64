//! Why a request was given up, and the error that the caller gets.

use std::time::Duration;

use mintkey_store::{Error, ErrorKind, Outcome};

/// Why a request was given up.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Stop {
    /// The time was over; this is how long it was.
    Timeout(Duration),
    /// The interrupt was raised.
    Interrupted,
    /// The process forked while the request ran (a signal handler can do that), and this is the child.
    Forked,
}

impl Stop {
    /// The error for the caller: where (the store's address), doing what ("waiting for an answer"), and
    /// what is known of a write. In the child of a fork nothing is known: the parent continues the request.
    #[must_use]
    pub fn error(self, address: &str, doing: &str, outcome: Outcome) -> Error {
        match self {
            Self::Timeout(time) => Error::new(
                ErrorKind::Timeout(outcome),
                format!("{address}: {doing} took longer than {} s", time.as_secs_f64()),
            )
            .advice("try again, or raise ?timeout="),
            Self::Interrupted => Error::new(
                ErrorKind::Interrupted(outcome),
                format!("{address}: interrupted while {doing}"),
            ),
            Self::Forked => Error::new(
                ErrorKind::Unavailable(Outcome::Unknown),
                format!(
                    "{address}: the process forked while {doing}, and the request belongs to the parent process"
                ),
            )
            .advice("do not fork in signal handlers, or in code that creates the items of a batch"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_stop_has_a_kind_and_says_where_and_what() {
        let stops = [
            (
                Stop::Timeout(Duration::from_millis(2500)),
                ErrorKind::Timeout(Outcome::NotApplied),
                "longer than 2.5 s",
            ),
            (
                Stop::Interrupted,
                ErrorKind::Interrupted(Outcome::NotApplied),
                "interrupted while",
            ),
            (
                Stop::Forked,
                ErrorKind::Unavailable(Outcome::Unknown),
                "forked while",
            ),
        ];
        for (stop, kind, words) in stops {
            let error = stop.error("redis://host", "waiting for an answer", Outcome::NotApplied);
            assert_eq!(error.kind, kind);
            let parts = ["redis://host: ", "waiting for an answer", words];
            for part in parts {
                assert!(error.message.contains(part), "{}", error.message);
            }
        }
    }
}
