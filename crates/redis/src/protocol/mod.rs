//! The protocol: commands, replies, scripts, hash slots, and the channel between an operation and its driver.

pub mod channel;
pub mod replies;
pub mod resp;
pub mod scripts;
pub mod slots;
pub mod unique_scripts;
