//! Drives operations: on the calling thread, or in the event loop of the worker.

pub mod blocking;
pub mod blocking_exchange;
pub mod coalesce;
pub mod event_loop;
pub mod exchange;
pub mod in_flight;
pub mod multiplexed;
pub mod queue;
pub mod shared;
pub mod worker;
