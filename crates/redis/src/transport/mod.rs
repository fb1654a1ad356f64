//! Connections to servers, and which server has which slot group.

pub mod adaptive_spin;
pub mod connection;
pub mod stream;
pub mod topology;
