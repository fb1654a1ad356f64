//! Who we are and where: AWS's own chain of sources for credentials and region.
//!
//! In order: environment, profile (keys, role, single sign-on, process), web identity, container,
//! instance. Nothing here is ever part of a message, a log or a `Debug` text.

mod chain;
mod files;
mod remote;
mod sources;
#[cfg(test)]
mod tests;

use std::sync::{Arc, Mutex, OnceLock};

use mintkey_store::{Error, Result};

use crate::aws::signing::{DayKey, Signing};
use crate::aws::time;
use crate::client::Session;
use crate::config::Config;
use crate::store::locked;
use crate::transport::Link;
use crate::transport::http::Endpoint;

pub use sources::Sources;

/// Credentials are renewed this many seconds before they expire.
const MARGIN: i64 = 300;

/// Keys to sign with.
#[derive(Clone, Eq, PartialEq)]
pub struct Credentials {
    pub access_key: String,
    pub secret: String,
    pub token: Option<String>,
    /// When they end, in seconds since 1970.
    pub expires: Option<i64>,
}

/// Credentials in use, with the signing key of the day.
pub struct Identity {
    credentials: Credentials,
    day: Mutex<Option<DayKey>>,
}

impl Identity {
    pub const fn new(credentials: Credentials) -> Self {
        Self {
            credentials,
            day: Mutex::new(None),
        }
    }

    /// The token that goes with temporary keys.
    pub fn token(&self) -> Option<&str> {
        self.credentials.token.as_deref()
    }

    /// Appends the value of the header `authorization`.
    pub fn authorize(&self, signing: &Signing<'_>, to: &mut String) {
        let key = {
            let mut day = locked(&self.day);
            match &*day {
                Some(key) if key.fits(signing) => key.clone(),
                _ => day
                    .insert(DayKey::new(&self.credentials.secret, signing))
                    .clone(),
            }
        };
        key.authorize(signing, &self.credentials.access_key, to);
    }

    /// Whether a text holds the start of what no message may show: a server may answer with what it was sent.
    pub fn is_part_of(&self, text: &str) -> bool {
        let secrets = [
            Some(&self.credentials.secret),
            self.credentials.token.as_ref(),
        ];
        let start = |secret: &str| secret.get(..8).unwrap_or(secret).to_owned();
        text.contains("AWS4-HMAC-SHA256")
            || secrets
                .into_iter()
                .flatten()
                .any(|secret| text.contains(&start(secret)))
    }

    fn lasts(&self, until: i64) -> bool {
        self.credentials
            .expires
            .is_none_or(|expires| expires > until)
    }
}

/// Where requests go.
pub struct Place {
    pub region: String,
    pub endpoint: Endpoint,
    /// What the header `host` says.
    pub authority: String,
}

/// The credentials and the place of a store, found at the first request.
#[derive(Default)]
pub struct Keeper {
    current: Mutex<Option<Arc<Identity>>>,
    place: OnceLock<Place>,
    sources: Sources,
}

impl Keeper {
    /// A keeper that looks where a test says.
    #[cfg(test)]
    pub fn of(sources: Sources) -> Self {
        Self {
            sources,
            ..Self::default()
        }
    }

    /// Where requests go.
    pub fn place(&self, config: &Config) -> Result<&Place> {
        if let Some(place) = self.place.get() {
            return Ok(place);
        }
        let place = find_place(config, &self.sources)?;
        Ok(self.place.get_or_init(|| place))
    }

    /// Gives up credentials that the service no longer takes.
    pub fn forget(&self, refused: &Arc<Identity>) {
        let mut current = locked(&self.current);
        if current
            .as_ref()
            .is_some_and(|own| Arc::ptr_eq(own, refused))
        {
            *current = None;
        }
    }
}

/// The credentials to use now, new ones if the old are about to end.
pub async fn identity<L: Link>(session: &Session<'_, L>) -> Result<Arc<Identity>> {
    let keeper = &session.inner.credentials;
    let known = locked(&keeper.current).clone();
    let now = match &known {
        Some(known) if known.credentials.expires.is_none() => return Ok(Arc::clone(known)),
        _ => time::now(),
    };
    if let Some(known) = &known
        && known.lasts(now + MARGIN)
    {
        return Ok(Arc::clone(known));
    }
    let config = &session.inner.config;
    match chain::find(config, keeper.place(config)?, &keeper.sources, session).await {
        Ok(found) => {
            let fresh = Arc::new(Identity::new(found));
            *locked(&keeper.current) = Some(Arc::clone(&fresh));
            Ok(fresh)
        }
        // What still holds is better than nothing.
        Err(error) => known.filter(|known| known.lasts(now)).ok_or(error),
    }
}

fn find_place(config: &Config, sources: &Sources) -> Result<Place> {
    let files = || sources.profile(config.profile.as_deref());
    let region = match &config.region {
        Some(region) => region.clone(),
        None => match sources
            .var("AWS_REGION")
            .or_else(|| sources.var("AWS_DEFAULT_REGION"))
        {
            Some(region) => region,
            None => files()?.get("region").ok_or_else(|| {
                Error::configuration(format!(
                    "{}: no region: write dynamodb://eu-central-1, set AWS_REGION, or give the profile a region",
                    config.address
                ))
            })?,
        },
    };
    let endpoint = match &config.endpoint {
        Some(endpoint) => endpoint.clone(),
        None => match sources
            .var("AWS_ENDPOINT_URL_DYNAMODB")
            .or_else(|| sources.var("AWS_ENDPOINT_URL"))
        {
            Some(url) => Endpoint::parse(&url)?,
            None => Endpoint::https(format!("dynamodb.{region}.{}", suffix(&region))),
        },
    };
    Ok(Place {
        authority: endpoint.authority(),
        region,
        endpoint,
    })
}

/// The domain of a region's partition.
pub fn suffix(region: &str) -> &'static str {
    match region.split('-').next() {
        Some("cn") => "amazonaws.com.cn",
        Some("eusc") => "amazonaws.eu",
        Some("us") if region.starts_with("us-iso-") => "c2s.ic.gov",
        Some("us") if region.starts_with("us-isob-") => "sc2s.sgov.gov",
        Some("us") if region.starts_with("us-isof-") => "csp.hci.ic.gov",
        Some("eu") if region.starts_with("eu-isoe-") => "cloud.adc-e.uk",
        _ => "amazonaws.com",
    }
}
