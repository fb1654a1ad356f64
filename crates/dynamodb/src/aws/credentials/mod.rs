//! Credentials, region and endpoint from AWS's chain of sources.
//!
//! In order: environment, profile (keys, role, single sign-on, process), web identity, container, instance. Nothing of
//! them is ever part of a message, a log or a `Debug` text.

pub mod cache;
mod chain;
mod files;
pub mod identity;
pub mod region;
pub mod remote;
pub mod sources;
#[cfg(test)]
mod tests;
