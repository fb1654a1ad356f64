//! Python values as values of the contract, and back.

pub mod action;
pub mod compress;
pub mod condition;
pub mod convert;
pub mod digest;
mod elements;
pub mod item;
mod statement;
pub mod unstorable;
