//! Connections to servers, and which server has which slot group.

pub mod adaptive_spin;
pub mod connecting;
pub mod connection;
pub mod learning;
pub mod lookup;
pub mod node;
pub mod stream;
pub mod topology;
