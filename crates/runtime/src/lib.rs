//! What the stores share below the contract: reading a URL, deadlines, threads, forks, and TLS.
//!
//! A store crate adds what is special to its engine. Queues and the ways to wake a thread stay with each engine.

#![forbid(unsafe_code)]

mod address;
mod deadline;
#[cfg(feature = "net")]
mod encrypted;
mod generation;
mod generations;
mod lock;
mod notices;
mod parameters;
mod pause;
mod stop;
#[cfg(feature = "net")]
mod tls;
#[cfg(feature = "net")]
mod tls_records;
#[cfg(feature = "net")]
mod token;
mod worker;

pub use address::{Address, Host};
pub use deadline::{Deadline, POLL};
#[cfg(feature = "net")]
pub use encrypted::{Encrypted, is_quiet};
pub use generation::Generation;
pub use generations::Generations;
pub use lock::locked;
pub use notices::Notices;
pub use parameters::Parameters;
pub use pause::pause;
pub use stop::Stop;
#[cfg(feature = "net")]
pub use tls::{Tls, untrusted, untrusted_reason};
#[cfg(feature = "net")]
pub use token::random_token;
pub use worker::{Worker, is_worker_thread};
