//! What is special to AWS: credentials and signatures, which its libraries provide, and retries.

pub mod credentials;
pub mod retry;
pub mod signing;
