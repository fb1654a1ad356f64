//! Texts of JSON, compared by their values.

use serde_json::Value;

use crate::number::Number;

/// A text of JSON. Two texts are equal if their values are: the order of keys, spaces, escapes and the spelling of
/// numbers do not count. A text that cannot be read is equal only to itself.
#[derive(Clone, Debug)]
pub struct JsonText {
    text: String,
    value: Option<Value>,
}

impl JsonText {
    /// Reads a text.
    #[must_use]
    pub fn new(text: &str) -> Self {
        Self {
            text: text.to_owned(),
            value: parse(text),
        }
    }

    /// Whether another text has the same value.
    #[must_use]
    pub fn is_equal_to(&self, other: &str) -> bool {
        self.text == other || (self.value.is_some() && self.value == parse(other))
    }

    /// The length in bytes.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.text.len()
    }

    /// Whether the text is empty.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.text.is_empty()
    }
}

impl PartialEq for JsonText {
    fn eq(&self, other: &Self) -> bool {
        self.is_equal_to(&other.text)
    }
}

fn parse(text: &str) -> Option<Value> {
    let mut value = serde_json::from_str(text).ok()?;
    normalize(&mut value);
    Some(value)
}

/// Writes all numbers in their canonical digits. The parser limits the depth.
fn normalize(value: &mut Value) {
    match value {
        Value::Number(number) => {
            let canonical = number.as_str().parse::<Number>();
            if let Ok(Ok(same)) = canonical.map(|number| number.to_string().parse()) {
                *number = same;
            }
        }
        Value::Array(values) => values.iter_mut().for_each(normalize),
        Value::Object(entries) => entries.values_mut().for_each(normalize),
        Value::Null | Value::Bool(_) | Value::String(_) => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_compared_by_value() {
        let text = JsonText::new(r#"{"a": [1, 2.50], "b": "\u00e4"}"#);
        for same in [
            r#"{"b":"ä","a":[1,2.5]}"#,
            r#"{"b":"ä","a":[1.0,25e-1]}"#,
            r#"{"b":1,"b":"ä","a":[1,2.5]}"#,
        ] {
            assert!(text.is_equal_to(same), "{same}");
        }
        for other in [
            r#"{"b":"ä","a":[2.5,1]}"#,
            r#"{"b":"ä"}"#,
            r#"{"b":"ä","a":["1",2.5]}"#,
            "null",
            "{",
        ] {
            assert!(!text.is_equal_to(other), "{other}");
        }
        assert!(JsonText::new("{").is_equal_to("{") && !JsonText::new("{").is_equal_to("}"));
        let long = "1".repeat(60);
        assert!(JsonText::new(&long).is_equal_to(&long));
        assert!(!JsonText::new(&long).is_equal_to(&format!("{}2", "1".repeat(59))));
    }
}
