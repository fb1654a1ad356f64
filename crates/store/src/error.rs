//! What can go wrong.
//!
//! An error is data: what happened, what it is about, what became of a write, and which remedy applies. Its message
//! names neither the class nor the item, and neither the outcome nor the remedy is part of it: the binding words these
//! once for all errors.

use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;

use crate::key::{Key, KeyValue};
use crate::value::{Item, Name};

/// The characters of a text that a message repeats.
const SHOWN: usize = 200;

/// A text of another program for a message. A long one is cut, because it may contain a whole value.
#[must_use]
pub fn shortened(text: &str) -> Cow<'_, str> {
    match start(text, SHOWN) {
        start if start.len() == text.len() => start.into(),
        start => format!("{start}… ({} bytes)", text.len()).into(),
    }
}

/// The first characters of a text.
#[must_use]
pub fn start(text: &str, most: usize) -> &str {
    let end = text.char_indices().nth(most);
    &text[..end.map_or(text.len(), |(end, _)| end)]
}

/// The result of anything that can fail here.
pub type Result<T> = std::result::Result<T, Error>;

/// Whether a failed write may have been applied.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Outcome {
    /// It was not applied.
    NotApplied,
    /// It is unknown: read the row, or repeat a write that may be repeated.
    Unknown,
}

impl Outcome {
    /// In words.
    #[must_use]
    pub const fn words(self) -> &'static str {
        match self {
            Self::NotApplied => "nothing was written",
            Self::Unknown => "whether it was written is unknown",
        }
    }
}

/// The kinds of failure.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum ErrorKind {
    /// The URL, the model or the state of the store is not valid.
    Configuration,
    /// A value, key, condition or update is not valid.
    InvalidValue,
    /// A page cursor is damaged, or belongs to another query.
    InvalidCursor,
    /// The item exceeds the limit on its size.
    ItemTooLarge,
    /// The item to change does not exist.
    ItemGone,
    /// The table does not exist, and this store does not create tables by itself.
    TableMissing,
    /// The condition was false.
    ConditionFailed,
    /// An item with this key exists already.
    KeyCollision,
    /// Another item holds this unique value.
    UniqueViolation,
    /// The stored version differs.
    VersionConflict,
    /// A transaction wrote nothing, for the reasons of its items.
    TransactionCancelled,
    /// The store cannot be reached or used.
    Unavailable(Outcome),
    /// The time limit is over.
    Timeout(Outcome),
    /// The store throttles requests.
    Throttled,
    /// This store does not support the operation.
    Unsupported,
    /// The caller was interrupted.
    Interrupted(Outcome),
}

impl ErrorKind {
    /// Whether the write was applied, for the kinds that leave it open.
    #[must_use]
    pub const fn outcome(self) -> Option<Outcome> {
        match self {
            Self::Unavailable(outcome) | Self::Timeout(outcome) | Self::Interrupted(outcome) => {
                Some(outcome)
            }
            _ => None,
        }
    }
}

/// What the caller can do about an error.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Remedy {
    /// Use another key, or read the item and change that.
    OtherKey,
    /// Use another value, or change the item that holds it.
    OtherValue,
    /// Write the whole item, whether it is there or not.
    Replace,
    /// Write the values as a new item: the row and its version do not exist any more.
    WriteAsNew,
    /// Read the item again, then repeat the change.
    Refresh,
    /// Use the cursor with its own query, or start without one.
    StartAgain,
    /// Open the store again.
    Connect,
    /// Create the table, or what it lacks.
    CreateTable,
    /// Send fewer requests, or give the table more capacity.
    SlowDown,
    /// Shorten the prefix of the store's tables, or name the table.
    ShorterName,
    /// Put the items of these models into one slot group, or use one server.
    Colocate {
        /// The models.
        models: String,
        /// The text by which they would be colocated.
        text: Name,
        /// Whether equal partition keys are enough.
        equal_keys: bool,
    },
    /// Something in the surroundings of the program: a parameter of the URL, a setting of the server or the system.
    Advice(Cow<'static, str>),
}

/// Rows that have the same values of unique attributes.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Violation {
    /// The attributes.
    pub attributes: Vec<Name>,
    /// Their values, in order.
    pub values: Vec<KeyValue>,
    /// The keys of the rows that hold them. A refused write has one: the row that is there.
    pub holders: Vec<Key>,
}

/// A failure, with what it is about.
#[derive(Clone, Debug)]
pub struct Error {
    /// The kind.
    pub kind: ErrorKind,
    /// What happened.
    pub message: String,
    /// What to do about it, unless the message says it.
    pub remedy: Option<Box<Remedy>>,
    /// The class.
    pub model: Option<Name>,
    /// The table.
    pub table: Option<Name>,
    /// The attribute.
    pub attribute: Option<Name>,
    /// The item's key.
    pub key: Option<Box<Key>>,
    /// The stored item for which a guard was false.
    pub item: Option<Box<Item>>,
    /// Which rows hold unique values: one for a refused write, all duplicates for values that cannot become unique.
    pub violations: Option<Arc<[Violation]>>,
    /// For each item of a cancelled transaction, in order, why it was refused; `None` if it was not.
    pub reasons: Vec<Option<Error>>,
    /// The cause below.
    pub source: Option<Arc<dyn std::error::Error + Send + Sync>>,
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)?;
        if let Some(outcome) = self.kind.outcome() {
            write!(f, ": {}", outcome.words())?;
        }
        match self.remedy.as_deref() {
            Some(Remedy::Advice(advice)) => write!(f, "; {advice}"),
            _ => Ok(()),
        }
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.source.as_deref().map(|source| source as _)
    }
}

/// Two errors are equal when they say the same of the same kind.
impl PartialEq for Error {
    fn eq(&self, other: &Self) -> bool {
        self.kind == other.kind && self.message == other.message
    }
}

impl Error {
    /// An error of this kind with this message and nothing else.
    #[must_use]
    pub fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        Self {
            kind,
            message: message.into(),
            remedy: None,
            model: None,
            table: None,
            attribute: None,
            key: None,
            item: None,
            violations: None,
            reasons: Vec::new(),
            source: None,
        }
    }

    /// The same failure for another request, which is about another item.
    #[must_use]
    pub fn for_another(&self) -> Self {
        Self {
            attribute: None,
            key: None,
            item: None,
            ..self.clone()
        }
    }

    /// What failed for several at once, for each of them.
    #[must_use]
    pub fn of_all<T>(self, count: usize) -> Vec<Result<T>> {
        (0..count).map(|_| Err(self.for_another())).collect()
    }

    /// A `Configuration` error.
    #[must_use]
    pub fn configuration(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Configuration, message)
    }

    /// An `InvalidValue` error.
    #[must_use]
    pub fn invalid(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::InvalidValue, message)
    }

    /// The failure of a write that was sent before and never answered. This failure says nothing of what was sent
    /// first, so the outcome is unknown.
    #[must_use]
    pub fn uncertain(mut self) -> Self {
        self.kind = match self.kind {
            ErrorKind::Timeout(_) => ErrorKind::Timeout(Outcome::Unknown),
            ErrorKind::Interrupted(_) => ErrorKind::Interrupted(Outcome::Unknown),
            _ => ErrorKind::Unavailable(Outcome::Unknown),
        };
        self
    }

    /// Says what to do about it.
    #[must_use]
    pub fn remedy(mut self, remedy: Remedy) -> Self {
        self.remedy = Some(Box::new(remedy));
        self
    }

    /// Says what to do about it, in the surroundings of the program.
    #[must_use]
    pub fn advice(self, advice: impl Into<Cow<'static, str>>) -> Self {
        self.remedy(Remedy::Advice(advice.into()))
    }

    /// Says which attribute it is about.
    #[must_use]
    pub fn on(mut self, attribute: &Name) -> Self {
        self.attribute = Some(attribute.clone());
        self
    }

    /// Says which item it is about.
    #[must_use]
    pub fn at(mut self, key: &Key) -> Self {
        self.key = Some(Box::new(key.clone()));
        self
    }

    /// Adds the stored item for which a guard was false.
    #[must_use]
    pub fn with_item(mut self, item: Option<Item>) -> Self {
        self.item = item.map(Box::new);
        self
    }

    /// Names the cause below.
    #[must_use]
    pub fn caused_by(mut self, source: impl std::error::Error + Send + Sync + 'static) -> Self {
        self.source = Some(Arc::new(source));
        self
    }

    /// The store was closed.
    #[must_use]
    pub fn closed(address: &str) -> Self {
        Self::configuration(format!("store {address} is closed")).remedy(Remedy::Connect)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_outcome_of_an_uncertain_write_is_unknown() {
        for (kind, expected) in [
            (
                ErrorKind::Unavailable(Outcome::NotApplied),
                ErrorKind::Unavailable(Outcome::Unknown),
            ),
            (
                ErrorKind::Configuration,
                ErrorKind::Unavailable(Outcome::Unknown),
            ),
            (
                ErrorKind::Timeout(Outcome::NotApplied),
                ErrorKind::Timeout(Outcome::Unknown),
            ),
            (
                ErrorKind::Interrupted(Outcome::Unknown),
                ErrorKind::Interrupted(Outcome::Unknown),
            ),
        ] {
            let error = Error::new(kind, "the server is full").uncertain();
            assert_eq!(error.kind, expected);
        }
    }
}
