//! The bodies of transactions, which consist of the bodies of single calls.

use mintkey_store::json::push_string;

/// The kind of a write, and the body of the single call.
pub type Part = (&'static str, String);

/// The body of a transaction of writes.
pub fn write_items(writes: &[Part], token: &str) -> String {
    let mut body = items(writes);
    body.push_str(",\"ClientRequestToken\":");
    push_string(token, &mut body);
    body.push('}');
    body
}

/// The body of a transaction of reads.
pub fn get_items(reads: &[Part]) -> String {
    let mut body = items(reads);
    body.push('}');
    body
}

fn items(parts: &[Part]) -> String {
    let length: usize = parts.iter().map(|(_, body)| body.len() + 32).sum();
    let mut text = String::with_capacity(length + 128);
    let mut open = "{\"TransactItems\":[{\"";
    for (kind, body) in parts {
        text.push_str(open);
        text.push_str(kind);
        text.push_str("\":");
        text.push_str(body);
        open = "},{\"";
    }
    text.push_str("}]");
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_transaction_contains_the_bodies_of_its_parts() {
        let parts = [("Put", "{\"a\":1}".to_owned()), ("Delete", "{}".to_owned())];
        assert_eq!(
            write_items(&parts, "t"),
            r#"{"TransactItems":[{"Put":{"a":1}},{"Delete":{}}],"ClientRequestToken":"t"}"#
        );
        assert_eq!(
            get_items(&[("Get", "{}".to_owned())]),
            r#"{"TransactItems":[{"Get":{}}]}"#
        );
    }
}
