//! Connections to servers, and which server has which hash slots.

pub mod adaptive_spin;
pub mod connection;
pub mod deadline;
pub mod tls;
pub mod topology;
