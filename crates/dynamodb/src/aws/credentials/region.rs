//! Region and endpoint, from the address, the environment or the profile.

use mintkey_store::{Error, Result};

use crate::aws::credentials::sources::Sources;
use crate::config::{Config, Endpoint};

/// Where calls are sent.
pub struct Destination {
    pub region: String,
    pub endpoint: Endpoint,
    /// The value of the header `host`.
    pub authority: String,
}

impl Destination {
    /// Finds the destination of a store.
    pub fn find(config: &Config, sources: &Sources) -> Result<Self> {
        let region = match &config.region {
            Some(region) => region.clone(),
            None => match sources
                .var("AWS_REGION")
                .or_else(|| sources.var("AWS_DEFAULT_REGION"))
            {
                Some(region) => region,
                None => sources
                    .profile(config.profile.as_deref())?
                    .get("region")
                    .ok_or_else(|| {
                        Error::configuration(format!(
                            "{}: no region: write dynamodb://eu-central-1, set AWS_REGION, or set the region of the \
                             profile",
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
                None => Endpoint::https(format!("dynamodb.{region}.{}", domain(&region))),
            },
        };
        Ok(Self {
            authority: endpoint.authority(),
            region,
            endpoint,
        })
    }
}

/// The domain of AWS's services in a region.
pub fn domain(region: &str) -> &'static str {
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
