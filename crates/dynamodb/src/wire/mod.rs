//! What goes over the wire: DynamoDB's JSON, expressions, bodies of calls, and answers that are errors.

pub mod body;
pub mod errors;
pub mod expression;
pub mod filters;
pub mod json;
pub mod key_condition;
