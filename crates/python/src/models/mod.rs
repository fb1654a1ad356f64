//! The compiled schemas of models: their values, and the requests about them.

mod changes;
mod clauses;
mod codec;
mod definition;
mod encoding;
mod failures;
mod fields;
mod instance_slots;
mod new_save;
mod table;
mod unique;

pub use codec::Codec;
pub use instance_slots::register;
pub use new_save::NewSave;
