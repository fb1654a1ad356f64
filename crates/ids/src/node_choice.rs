//! The nodes that a snowflake strategy may use.

use std::fmt;

use crate::error::{InvalidParameter, start};

/// Nodes of a snowflake: ten bits.
pub const NODES: u16 = 1024;

/// Which nodes a strategy may use.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum NodeChoice {
    /// The default of the process (`$MINTKEY_NODE`, else any free one).
    #[default]
    Default,
    /// Any free one between these two, both included.
    Between(u16, u16),
}

impl NodeChoice {
    /// Any of all nodes.
    pub const ANY: Self = Self::Between(0, NODES - 1);

    /// Reads `"5"` or `"32-47"`.
    ///
    /// # Errors
    /// When the text is neither, or a number is beyond 1023.
    pub fn parse(text: &str) -> Result<Self, InvalidParameter> {
        let number = |part: &str| part.trim().parse::<u16>().ok().filter(|&n| n < NODES);
        let parsed = match text.split_once('-') {
            None => number(text).map(|node| (node, node)),
            Some((low, high)) => number(low).zip(number(high)),
        };
        match parsed {
            Some((low, high)) if low <= high => Ok(Self::Between(low, high)),
            _ => Err(InvalidParameter(format!(
                "{:?} is not a snowflake node: pass a number from 0 to 1023 or a range such as \"32-47\"",
                start(text)
            ))),
        }
    }
}

impl fmt::Display for NodeChoice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => f.write_str("default"),
            Self::Between(low, high) if low == high => write!(f, "{low}"),
            Self::Between(low, high) => write!(f, "{low}-{high}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn invalid_texts_are_refused() {
        assert_eq!(NodeChoice::parse("7"), Ok(NodeChoice::Between(7, 7)));
        assert_eq!(
            NodeChoice::parse(" 32 - 47 "),
            Ok(NodeChoice::Between(32, 47))
        );
        for text in [
            "", "-1", "1024", "5-", "-", "7-3", "1-2-3", "a", "0x1", "3-1024",
        ] {
            assert!(NodeChoice::parse(text).is_err(), "{text}");
        }
    }
}
