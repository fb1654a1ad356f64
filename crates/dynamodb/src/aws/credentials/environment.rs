//! Settings in environment variables.

use aws_credential_types::Credentials;
use mintkey_store::{Error, Result};

/// Looks up an environment variable.
type VariableLookup = dyn Fn(&str) -> Option<String> + Send + Sync;

/// The environment variables.
pub struct Environment {
    var: Box<VariableLookup>,
}

impl Default for Environment {
    fn default() -> Self {
        Self {
            var: Box::new(|name| std::env::var(name).ok()),
        }
    }
}

impl Environment {
    /// An environment whose variables are looked up like this. `aws-config` reads the real one.
    #[cfg(test)]
    pub fn from_fn(var: impl Fn(&str) -> Option<String> + Send + Sync + 'static) -> Self {
        Self { var: Box::new(var) }
    }

    /// A variable that is set and not empty.
    pub fn var(&self, name: &str) -> Option<String> {
        (self.var)(name).filter(|value| !value.is_empty())
    }

    /// Whether a variable is `true`.
    pub fn is_true(&self, name: &str) -> bool {
        self.var(name)
            .is_some_and(|value| value.eq_ignore_ascii_case("true"))
    }

    /// The access key, with secret and session token.
    pub fn keys(&self) -> Result<Option<Credentials>> {
        let both = (
            self.var("AWS_ACCESS_KEY_ID"),
            self.var("AWS_SECRET_ACCESS_KEY"),
        );
        let (Some(access_key), Some(secret)) = both else {
            return Ok(None);
        };
        let token = self.var("AWS_SESSION_TOKEN");
        let keys = Credentials::new(access_key, secret, token, None, "the environment");
        check_control_characters(&keys)?;
        Ok(Some(keys))
    }
}

/// Refuses credentials that would add a line to the head of a request.
pub fn check_control_characters(keys: &Credentials) -> Result<()> {
    let parts = [
        ("access key", keys.access_key_id()),
        ("secret access key", keys.secret_access_key()),
        ("session token", keys.session_token().unwrap_or("")),
    ];
    for (name, text) in parts {
        if text.chars().any(char::is_control) {
            return Err(Error::configuration(format!(
                "the {name} in AWS's credentials contains a line break or another control character: remove it",
            )));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_with_a_line_break_are_refused_and_not_shown() {
        for name in [
            "AWS_ACCESS_KEY_ID",
            "AWS_SECRET_ACCESS_KEY",
            "AWS_SESSION_TOKEN",
        ] {
            for end in ["\r", "\n", "\r\nx-evil: 1", "\u{0}"] {
                let environment = Environment::from_fn(move |asked| {
                    let value = "hush".to_owned();
                    Some(if asked == name { value + end } else { value })
                });
                let error = environment.keys().unwrap_err();
                assert!(error.message.contains("line break"), "{error}");
                assert!(!error.message.contains("hush"), "{error}");
            }
        }
        let complete = Environment::from_fn(|_| Some("hush".to_owned()));
        assert!(complete.keys().unwrap().is_some());
        let half =
            Environment::from_fn(|name| (name == "AWS_ACCESS_KEY_ID").then(|| "hush".to_owned()));
        assert!(half.keys().unwrap().is_none());
    }
}
