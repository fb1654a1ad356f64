//! Invalid parameters and invalid texts.

use std::fmt;

/// The start of a text, for a message.
pub(crate) fn start(text: &str) -> &str {
    const SHOWN: usize = 80;
    let end = text.char_indices().nth(SHOWN);
    &text[..end.map_or(text.len(), |(end, _)| end)]
}

/// Why parameters are not valid.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InvalidParameter(pub String);

impl fmt::Display for InvalidParameter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for InvalidParameter {}

/// Why a text is not an id, and the position of the mistake.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InvalidText {
    /// The position of the wrong character, if there is one.
    pub position: Option<usize>,
    /// What is wrong.
    pub reason: String,
}

impl InvalidText {
    pub(crate) fn new(reason: impl Into<String>) -> Self {
        Self {
            position: None,
            reason: reason.into(),
        }
    }

    pub(crate) fn at(position: usize, reason: impl Into<String>) -> Self {
        Self {
            position: Some(position),
            reason: reason.into(),
        }
    }
}

impl fmt::Display for InvalidText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.position {
            Some(position) => write!(f, "{} at position {position}", self.reason),
            None => f.write_str(&self.reason),
        }
    }
}

impl std::error::Error for InvalidText {}
