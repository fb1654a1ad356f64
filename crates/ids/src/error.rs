//! Why no id can be minted, or a text is not an id.

use std::fmt;

use crate::node::NodeChoice;

/// The start of a text, for a message.
pub(crate) fn start(text: &str) -> &str {
    const SHOWN: usize = 80;
    let end = text.char_indices().nth(SHOWN);
    &text[..end.map_or(text.len(), |(end, _)| end)]
}

/// Why a minter gave no id. Handed on in a box, so that an id comes back in registers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Refusal {
    /// A format's ids of this tick, and of the second that may be borrowed, are used up.
    Exhausted {
        /// The format that ran out.
        format: &'static str,
        /// Milliseconds until there are new ones, or `None` when the clock stands still.
        wait_ms: Option<u64>,
    },
    /// The clock reads a time that the format has no bits for.
    OutOfRange {
        /// The format.
        format: &'static str,
        /// The reading, in milliseconds since the Unix epoch.
        at_ms: i64,
    },
    /// The engine has no randomness yet: see [`crate::engine::seed`].
    NotSeeded,
    /// The operating system gave no randomness.
    NoRandomness(String),
    /// A snowflake without `node=` was asked for before the process chose its default.
    NodeNotChosen,
    /// No node of this choice has been claimed yet: see [`crate::engine::claim_node`].
    NodeNotClaimed {
        /// The choice.
        choice: NodeChoice,
        /// Random bits to choose by.
        random: u64,
    },
    /// Another thread claims a node or looks at the locks: wait a moment.
    NodesBusy,
    /// The locks of nodes have not been looked at for a while: see [`crate::engine::check_nodes`].
    NodesUnchecked,
    /// No snowflake node could be claimed; the text says which and what to do.
    Node(String),
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exhausted {
                format,
                wait_ms: None,
            } => write!(
                f,
                "all {format} values up to one second ahead of the frozen clock are used up; \
                 move the clock forward with advance()"
            ),
            Self::Exhausted {
                format,
                wait_ms: Some(ms),
            } => write!(
                f,
                "all {format} values up to one second ahead of the clock are used up for another {ms} ms"
            ),
            Self::OutOfRange { format, at_ms } => write!(
                f,
                "the clock reads {at_ms} ms since 1970, a time that {format} has no bits for; \
                 set the clock right or choose another strategy"
            ),
            Self::NoRandomness(why) => {
                write!(f, "the operating system gave no randomness: {why}")
            }
            Self::NotSeeded => f.write_str("no randomness has been drawn"),
            Self::NodeNotChosen => f.write_str("no snowflake node has been chosen"),
            Self::NodeNotClaimed { choice, .. } => {
                write!(f, "no snowflake node of {choice} is claimed")
            }
            Self::NodesBusy => f.write_str("another thread claims a snowflake node"),
            Self::NodesUnchecked => f.write_str("the locks of snowflake nodes have to be checked"),
            Self::Node(why) => f.write_str(why),
        }
    }
}

impl std::error::Error for Refusal {}

/// Why parameters make no strategy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InvalidParameter(pub String);

impl fmt::Display for InvalidParameter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for InvalidParameter {}

/// Why a text is not an id, and where it goes wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InvalidText {
    /// Characters before the one at fault, where one is.
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
