//! Drives operations: on the calling thread, or on the thread of the store.

pub mod begun;
pub mod blocking;
pub mod coalesce;
pub mod event_loop;
pub mod multiplexed;
pub mod queue;
