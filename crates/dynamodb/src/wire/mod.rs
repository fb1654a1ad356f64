//! The format of calls and responses: JSON, expressions, bodies, error responses.

pub mod body;
pub mod errors;
pub mod expression;
pub mod json;
pub mod key_condition;
pub mod response;
pub mod transaction;
