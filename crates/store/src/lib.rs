//! The contract that every store of mintkey keeps: values, keys, conditions and updates with their
//! one meaning, requests in, replies and errors out.
//!
//! The meaning is `DynamoDB`'s, the strictest of the engines. A store either runs
//! [`Condition::evaluate`] and [`update::apply`] on the stored item, or translates them to
//! expressions that mean the same. This crate does no I/O.

#![forbid(unsafe_code)]

pub mod condition;
pub mod description;
pub mod error;
mod guard;
mod item_error;
pub mod json;
mod json_text;
pub mod key;
mod key_encoding;
mod metrics;
pub mod names;
pub mod number;
pub mod path;
pub mod position;
pub mod query;
pub mod reply;
pub mod request;
pub mod size;
pub mod store;
pub mod submission;
pub mod table;
pub mod transaction;
pub mod unique;
pub mod units;
pub mod update;
pub mod value;
pub mod work;

pub use condition::{Comparison, Condition};
pub use error::{Error, ErrorKind, Outcome, Remedy, Result, Violation};
pub use guard::{Guard, Row};
pub use json_text::JsonText;
pub use key::{Key, KeyKind, KeyValue};
pub use metrics::RequestMetrics;
pub use number::{InvalidNumber, Number};
pub use path::{Path, Step};
pub use position::Position;
pub use query::{Query, QueryKey, Scan, SortCondition};
pub use reply::{Page, Reply, Server};
pub use request::{
    BatchGet, BatchWrite, Check, Delete, Get, GetUnique, Operation, Put, Request, Returning,
    Transaction, TransactionGet, TransactionWrite, Update, Write,
};
pub use store::{Capabilities, Done, Interrupt, Notice, Severity, Store, Ticket};
pub use submission::{Delivery, Submission};
pub use table::{Index, KeyAttribute, Labels, Projection, Table};
pub use unique::{Claim, Unique};
pub use update::Action;
pub use value::{Item, Map, Name, Value, ValueType};
pub use work::Work;
