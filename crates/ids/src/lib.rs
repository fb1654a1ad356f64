//! Generates unique ids in thirteen formats, ordered and unguessable.
//!
//! [`engine`] is the state of the process behind one lock. [`minter`] keeps the order of ids; it gets its clock and its
//! random numbers as arguments. The other modules are the formats.
#![forbid(unsafe_code)]

mod base32;
mod base62;
mod bounds;
pub mod chacha;
pub mod clock;
pub mod engine;
mod error;
mod hex;
mod iso8601;
mod kind;
pub mod minter;
mod node;
mod node_choice;
mod node_lock;
mod parse;
mod refusal;
mod strategy;

pub use base32::{write_typeid, write_ulid, write_xid};
pub use base62::write_ksuid;
pub use bounds::bounds;
pub use clock::Reading;
pub use engine::{before_fork, in_child, in_parent, now, now_ms, watch_forks};
pub use error::{InvalidParameter, InvalidText};
pub use hex::{write_hex, write_uuid};
pub use iso8601::{write_iso8601, write_iso8601_ms};
pub use kind::Kind;
pub use node_choice::NodeChoice;
pub use parse::{
    Parsed, candidates, integer_kind, likeliest, parse, parse_bits, parse_int, parse_ksuid,
    prefixed,
};
pub use refusal::Refusal;
pub use strategy::{
    CUID2_LENGTH, Draft, NANOID_ALPHABET, NANOID_SIZE, Parameters, Strategy, check_prefix,
    write_cuid2, write_nanoid,
};
