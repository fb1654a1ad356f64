//! Drives operations: on the calling thread, or on the thread of the store.

pub mod begun;
pub mod blocking;
pub mod call_state;
pub mod coalesce;
pub mod event_loop;
pub mod exchange;
pub mod multiplexed;
pub mod queue;
pub mod shared;
pub mod worker;
