//! The formats of ids and timestamps.

use std::fmt;

/// The formats.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[allow(
    missing_docs,
    reason = "the names say it; DESCRIPTIONS would only repeat them"
)]
pub enum Kind {
    Uuid4,
    Uuid7,
    Ulid,
    Ksuid,
    Nanoid,
    Snowflake,
    Typeid,
    Xid,
    Cuid2,
    Epoch,
    EpochMs,
    Iso8601,
    Iso8601Ms,
    /// Microseconds since the Unix epoch, for the fields that a save sets to its time. Not a public strategy.
    EpochUs,
}

impl Kind {
    /// All public formats, in the order in which they are listed.
    pub const ALL: [Self; 13] = [
        Self::Uuid4,
        Self::Uuid7,
        Self::Ulid,
        Self::Ksuid,
        Self::Nanoid,
        Self::Snowflake,
        Self::Typeid,
        Self::Xid,
        Self::Cuid2,
        Self::Epoch,
        Self::EpochMs,
        Self::Iso8601,
        Self::Iso8601Ms,
    ];

    /// The name of the format.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Uuid4 => "uuid4",
            Self::Uuid7 => "uuid7",
            Self::Ulid => "ulid",
            Self::Ksuid => "ksuid",
            Self::Nanoid => "nanoid",
            Self::Snowflake => "snowflake",
            Self::Typeid => "typeid",
            Self::Xid => "xid",
            Self::Cuid2 => "cuid2",
            Self::Epoch => "epoch",
            Self::EpochMs => "epoch_ms",
            Self::Iso8601 => "iso8601",
            Self::Iso8601Ms => "iso8601_ms",
            Self::EpochUs => "epoch_us",
        }
    }

    /// The format of this name.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        let mut kinds = Self::ALL.into_iter().chain([Self::EpochUs]);
        kinds.find(|kind| kind.name() == name)
    }

    /// Whether it generates ids; the others are timestamps, which repeat.
    #[must_use]
    pub const fn is_id(self) -> bool {
        !matches!(
            self,
            Self::Epoch | Self::EpochMs | Self::Iso8601 | Self::Iso8601Ms | Self::EpochUs
        )
    }

    /// Whether values sort by the time at which they were generated.
    #[must_use]
    pub const fn is_sortable(self) -> bool {
        !matches!(self, Self::Uuid4 | Self::Nanoid | Self::Cuid2)
    }

    /// Whether values are integers.
    #[must_use]
    pub const fn is_int(self) -> bool {
        matches!(
            self,
            Self::Snowflake | Self::Epoch | Self::EpochMs | Self::EpochUs
        )
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}
