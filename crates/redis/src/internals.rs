//! The parts of the store that `tests/interleavings` drives step by step (operations without a driver), and that fuzzing
//! drives. They are no part of the interface of the crate.

pub use crate::config::{Config, Endpoint};
pub use crate::keyspace::layout::{Keyspace, Layout};
pub use crate::keyspace::layout_cache::LayoutCache;
pub use crate::keyspace::rows::decode_row;
pub use crate::operations::context::StoreContext;
pub use crate::operations::run;
pub use crate::protocol::channel::{Channel, FinalReply, Replies};
pub use crate::protocol::resp::{Call, Parser, ProtocolError, Value};
pub use crate::protocol::slots::{group_of, group_of_bytes};
pub use crate::transport::topology::Topology;
