//! The operations of the contract: which commands they send, and what the replies mean.

pub mod batch;
pub mod catalog;
pub mod context;
pub mod join_all;
pub mod read;
pub mod slot_group_merge;
pub mod uncertainty;
pub mod write;
