//! Python values as values of the contract, and back.

pub mod compress;
pub mod condition;
pub mod convert;
mod elements;
pub mod item;
pub mod refusal;
