//! Random tokens, by which a server recognises a request that is sent again.

use std::fmt::Write as _;

use mintkey_store::{Error, Result};

/// The bytes of a token.
const BYTES: usize = 16;

/// 128 random bits as 32 hexadecimal digits: no two tokens are equal, in any process.
///
/// # Errors
///
/// `Configuration` if the system has no random numbers.
pub fn random_token() -> Result<String> {
    let mut bytes = [0; BYTES];
    getrandom::fill(&mut bytes).map_err(|error| {
        Error::configuration("the system returns no random numbers").caused_by(error)
    })?;
    let mut token = String::with_capacity(2 * BYTES);
    for byte in bytes {
        let _ = write!(token, "{byte:02x}");
    }
    Ok(token)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_are_distinct_hexadecimal_digits() {
        let (one, other) = (random_token().unwrap(), random_token().unwrap());
        assert_ne!(one, other);
        for token in [one, other] {
            assert_eq!(token.len(), 32);
            assert!(token.bytes().all(|byte| byte.is_ascii_hexdigit()));
        }
    }
}
