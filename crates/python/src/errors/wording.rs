//! The text of an exception: model and attribute, the error, the outcome of a write, and the remedy.
//!
//! The stores report all of that as data; this file words it for Python's API.

use mintkey_store::{Error, ErrorKind, Remedy};

/// The text for an error of an operation on a model. Only that of a write contains the outcome.
pub fn of_operation(error: &Error, writes: bool) -> String {
    // Only a transaction may be about several models.
    let model = error.model.as_deref().unwrap_or("the transaction");
    let attribute = match (error.kind, error.attribute.as_deref()) {
        // Other kinds of error are about the whole item.
        (ErrorKind::InvalidValue, Some(attribute)) => format!("{model}.{attribute}: "),
        _ => String::new(),
    };
    let sentence = sentence(error, writes);
    match &error.key {
        Some(key) => format!("{model} {key}: {attribute}{sentence}"),
        None if attribute.is_empty() => format!("{model}: {sentence}"),
        None => attribute + &sentence,
    }
}

/// The text for an error outside an operation, such as that of a wrong URL.
pub fn alone(error: &Error) -> String {
    sentence(error, true)
}

/// The text for an error of a request about no model that writes nothing.
pub fn of_read(error: &Error) -> String {
    sentence(error, false)
}

fn sentence(error: &Error, writes: bool) -> String {
    let mut text = error.message.clone();
    if let Some(outcome) = error.kind.outcome().filter(|_| writes) {
        text += ": ";
        text += outcome.words();
    }
    if let Some(remedy) = &error.remedy {
        text += "; ";
        text += &words(remedy, error.model.as_deref().unwrap_or("Model"));
    }
    text
}

fn words(remedy: &Remedy, model: &str) -> String {
    match remedy {
        Remedy::OtherKey => "use another key, or get() it and change that".to_owned(),
        Remedy::OtherValue => "use another value, or change the item that has it".to_owned(),
        Remedy::Replace => "save(replace=True) writes it whole".to_owned(),
        Remedy::WriteAsNew => {
            format!("save() a new {model} with its values")
        }
        Remedy::Refresh => "refresh() and try again".to_owned(),
        Remedy::StartAgain => {
            "pass the text of Page.cursor unchanged to the query that it came from, or start again \
                               without cursor="
                .to_owned()
        }
        Remedy::Connect => "connect() again".to_owned(),
        Remedy::CreateTable => format!("call {model}.create_table()"),
        Remedy::SlowDown => "slow down (rate_limit=), or raise the table's capacity".to_owned(),
        Remedy::ShorterName => {
            "shorten ?table_prefix=, or name the table with ModelConfig(table=…)".to_owned()
        }
        Remedy::Colocate {
            models,
            text,
            equal_keys,
        } => {
            let keys = if *equal_keys {
                "give them equal partition keys, "
            } else {
                ""
            };
            format!(
                "{keys}define {models} with ModelConfig(colocate={text:?}) before their tables are created, or use a \
                 single Redis server"
            )
        }
        Remedy::Advice(advice) => advice.to_string(),
    }
}
