//! The credentials and the destination of a store, looked up at the first call.

use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use mintkey_store::Result;

use crate::aws::credentials::chain;
use crate::aws::credentials::identity::Identity;
use crate::aws::credentials::region::Destination;
use crate::aws::credentials::remote::Lookup;
use crate::aws::credentials::sources::Sources;
use crate::aws::time;
use crate::config::Config;
use crate::transport::Transport;

/// Credentials are renewed this many seconds before they expire.
const MARGIN: i64 = 300;

/// Keeps credentials until they expire.
#[derive(Default)]
pub struct CredentialsCache {
    current: Mutex<Option<Arc<Identity>>>,
    destination: OnceLock<Destination>,
    sources: Sources,
}

impl CredentialsCache {
    /// A cache of the credentials in the sources of a test.
    #[cfg(test)]
    pub fn of(sources: Sources) -> Self {
        Self {
            sources,
            ..Self::default()
        }
    }

    fn current(&self) -> MutexGuard<'_, Option<Arc<Identity>>> {
        self.current.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Where calls are sent.
    pub fn destination(&self, config: &Config) -> Result<&Destination> {
        if let Some(destination) = self.destination.get() {
            return Ok(destination);
        }
        let destination = Destination::find(config, &self.sources)?;
        Ok(self.destination.get_or_init(|| destination))
    }

    /// The credentials to use now: new ones if the cached ones are about to expire.
    pub async fn identity<T: Transport>(&self, lookup: &Lookup<'_, T>) -> Result<Arc<Identity>> {
        let cached = self.current().clone();
        let now = match &cached {
            Some(cached) if cached.credentials.expires.is_none() => return Ok(Arc::clone(cached)),
            _ => time::now(),
        };
        if let Some(cached) = &cached
            && cached.is_valid_at(now + MARGIN)
        {
            return Ok(Arc::clone(cached));
        }
        let destination = self.destination(lookup.config)?;
        match chain::find(destination, &self.sources, lookup).await {
            Ok(found) => {
                let renewed = Arc::new(Identity::new(found));
                *self.current() = Some(Arc::clone(&renewed));
                Ok(renewed)
            }
            // Credentials that are still valid are better than none.
            Err(error) => cached.filter(|cached| cached.is_valid_at(now)).ok_or(error),
        }
    }

    /// Removes credentials that the server no longer accepts.
    pub fn forget(&self, refused: &Arc<Identity>) {
        let mut current = self.current();
        if current
            .as_ref()
            .is_some_and(|own| Arc::ptr_eq(own, refused))
        {
            *current = None;
        }
    }
}
