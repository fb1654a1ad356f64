//! What all services of AWS ask of a client: credentials, signatures, retries.

pub mod credentials;
pub mod retry;
pub mod signing;
pub mod time;
