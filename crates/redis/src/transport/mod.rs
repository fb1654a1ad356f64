//! Connections to servers, and which server has which slot group.

pub mod adaptive_spin;
pub mod connecting;
pub mod connection;
pub mod lookup;
pub mod node;
pub mod slot_refresh;
pub mod stream;
pub mod topology;
