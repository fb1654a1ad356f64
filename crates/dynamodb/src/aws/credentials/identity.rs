//! Credentials, and the signatures that they make.

use std::sync::{Mutex, PoisonError};

use crate::aws::signing::{DayKey, Signing};

/// Access key, secret and session token.
#[derive(Clone, Eq, PartialEq)]
pub struct Credentials {
    pub access_key: String,
    pub secret: String,
    pub token: Option<String>,
    /// When they expire, in seconds since 1970.
    pub expires: Option<i64>,
}

/// Credentials in use, with the signing key of the day.
pub struct Identity {
    pub credentials: Credentials,
    day: Mutex<Option<DayKey>>,
}

impl Identity {
    /// Signs with these credentials.
    pub const fn new(credentials: Credentials) -> Self {
        Self {
            credentials,
            day: Mutex::new(None),
        }
    }

    /// The session token of temporary credentials.
    pub fn token(&self) -> Option<&str> {
        self.credentials.token.as_deref()
    }

    /// The texts that no message may show.
    pub fn secrets(&self) -> [&str; 2] {
        [&self.credentials.secret, self.token().unwrap_or("")]
    }

    /// Appends the value of the header `authorization`.
    pub fn authorize(&self, signing: &Signing<'_>, to: &mut String) {
        let key = {
            let mut day = self.day.lock().unwrap_or_else(PoisonError::into_inner);
            match &*day {
                Some(key) if key.is_for(signing) => key.clone(),
                _ => day
                    .insert(DayKey::new(&self.credentials.secret, signing))
                    .clone(),
            }
        };
        key.authorize(signing, &self.credentials.access_key, to);
    }

    /// Whether the credentials are still valid at this time.
    pub fn is_valid_at(&self, time: i64) -> bool {
        self.credentials
            .expires
            .is_none_or(|expires| expires > time)
    }
}
