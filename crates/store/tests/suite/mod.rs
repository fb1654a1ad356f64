//! What every store must do, as tests that know none.
//!
//! A store's own tests take this folder in as the module `suite`, and define a `Fixture` beside it: with
//! `new()`, a `store`, and `reopen()`.

mod batches;
mod catalog;
mod items;
mod queries;
mod ranges;
pub mod requests;
