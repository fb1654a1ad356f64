//! Why the engine cannot generate an id now, and what the caller has to do.

use std::fmt;

use crate::node_choice::NodeChoice;

/// Why the engine generated no id. It is returned in a box, so that an id is returned in registers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Refusal {
    /// A format's ids of this tick, and of the second that may be borrowed, are used up.
    Exhausted {
        /// The format that ran out.
        format: &'static str,
        /// Milliseconds until there are new ones, or `None` when the clock stands still.
        wait_ms: Option<u64>,
    },
    /// The clock reads a time that the format cannot represent.
    OutOfRange {
        /// The format.
        format: &'static str,
        /// The reading, in milliseconds since the Unix epoch.
        at_ms: i64,
    },
    /// The engine has no random numbers yet: see [`crate::engine::seed`].
    NotSeeded,
    /// The operating system returned no random numbers.
    NoRandomness(String),
    /// A snowflake without `node=` was asked for before the process chose its default.
    NodeNotChosen,
    /// No node of this choice has been claimed yet: see [`crate::engine::claim_node`].
    NodeNotClaimed {
        /// The choice.
        choice: NodeChoice,
        /// Random bits that choose one of many free nodes.
        random: u64,
    },
    /// Another thread claims a node or checks the locks: wait and retry.
    NodesBusy,
    /// The locks of nodes have not been checked for a while: see [`crate::engine::check_nodes`].
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
                "the clock reads {at_ms} ms since 1970, a time that {format} cannot represent; \
                 correct the clock or choose another strategy"
            ),
            Self::NoRandomness(why) => {
                write!(f, "the operating system returned no random numbers: {why}")
            }
            Self::NotSeeded => f.write_str("no random numbers have been read"),
            Self::NodeNotChosen => f.write_str("no snowflake node has been chosen"),
            Self::NodeNotClaimed { choice, .. } => {
                write!(f, "no snowflake node of {choice} is claimed")
            }
            Self::NodesBusy => f.write_str("another thread is claiming a snowflake node"),
            Self::NodesUnchecked => f.write_str("the locks of snowflake nodes have to be checked"),
            Self::Node(why) => f.write_str(why),
        }
    }
}

impl std::error::Error for Refusal {}
