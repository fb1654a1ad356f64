//! Credentials, region and endpoint from AWS's chain of sources.
//!
//! In order: environment, profile (keys, role, single sign-on, process), web identity, container, instance. Keys of the
//! environment are read here; everything else is the work of `aws-config`, which gets from here its connections
//! (`services`), the programs that profiles name (`process`), and the moments at which it may run (`fork_gate`). Nothing of
//! them is ever part of a message, a log or a `Debug` text.

pub mod cache;
mod chain;
pub mod destination;
pub mod environment;
pub mod fork_gate;
mod process;
mod profiles;
mod services;
