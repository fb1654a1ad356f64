//! Region and endpoint, from the address, the environment or the profile.

use aws_config::profile::ProfileSet;
use aws_runtime::env_config::EnvConfigValue;
use aws_types::os_shim_internal::Env;
use mintkey_store::{Error, Result};

use crate::aws::credentials::environment::Environment;
use crate::aws::credentials::profiles;
use crate::config::{Config, Endpoint};

/// Where calls are sent.
pub struct Destination {
    pub region: String,
    pub endpoint: Endpoint,
    /// The value of the header `host`.
    pub authority: String,
}

/// The kind of AWS's endpoints to use, for all services.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Variant {
    /// With cryptography that FIPS 140 allows.
    pub fips: bool,
    /// By IPv4 and IPv6.
    pub dual_stack: bool,
}

impl Destination {
    /// Finds the destination of a store. Reads no file unless address and environment leave something open.
    pub fn find(config: &Config, environment: &Environment) -> Result<Self> {
        let region = config
            .region
            .clone()
            .or_else(|| environment.var("AWS_REGION"))
            .or_else(|| environment.var("AWS_DEFAULT_REGION"));
        let endpoint = match &config.endpoint {
            Some(endpoint) => Some(endpoint.clone()),
            None => configured(environment)?,
        };
        let (region, endpoint) = match (region, endpoint) {
            (Some(region), Some(endpoint)) => (region, endpoint),
            (region, endpoint) => {
                let profiles = profiles::load(config, environment)?;
                let region = region.map_or_else(|| region_of(config, &profiles), Ok)?;
                let endpoint = match endpoint {
                    Some(endpoint) => Some(endpoint),
                    None => configured_in(&profiles, environment)?,
                };
                let of_aws = || Endpoint::https(host(&region, Variant::of(&profiles)));
                let endpoint = endpoint.unwrap_or_else(of_aws);
                (region, endpoint)
            }
        };
        let allowed = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-';
        if !region.bytes().all(allowed) {
            return Err(Error::configuration(format!(
                "{}: the region of the environment or the profile is not valid: a region consists of letters, digits \
                 and '-'",
                config.address
            )));
        }
        Ok(Self {
            authority: endpoint.authority(),
            region,
            endpoint,
        })
    }
}

fn region_of(config: &Config, profiles: &ProfileSet) -> Result<String> {
    let region = profiles.get("region").filter(|region| !region.is_empty());
    region.map(ToOwned::to_owned).ok_or_else(|| {
        Error::configuration(format!(
            "{}: no region: write dynamodb://eu-central-1, set AWS_REGION, or set the region of the profile",
            config.address
        ))
    })
}

/// The endpoint that the environment names.
fn configured(environment: &Environment) -> Result<Option<Endpoint>> {
    if environment.is_true("AWS_IGNORE_CONFIGURED_ENDPOINT_URLS") {
        return Ok(None);
    }
    let url = environment
        .var("AWS_ENDPOINT_URL_DYNAMODB")
        .or_else(|| environment.var("AWS_ENDPOINT_URL"));
    url.map(|url| Endpoint::parse(&url)).transpose()
}

/// The endpoint that the profile names, for this service or for all.
fn configured_in(profiles: &ProfileSet, environment: &Environment) -> Result<Option<Endpoint>> {
    let is_ignored = environment.is_true("AWS_IGNORE_CONFIGURED_ENDPOINT_URLS")
        || is_true(profiles.get("ignore_configured_endpoint_urls"));
    if is_ignored {
        return Ok(None);
    }
    let real = Env::real();
    let value = EnvConfigValue::new()
        .profile("endpoint_url")
        .service_id("dynamodb");
    let found = value.load(&real, Some(profiles));
    found.map(|(url, _)| Endpoint::parse(&url)).transpose()
}

fn is_true(value: Option<&str>) -> bool {
    value.is_some_and(|value| value.eq_ignore_ascii_case("true"))
}

impl Variant {
    /// The kind that environment or profile ask for.
    pub fn of(profiles: &ProfileSet) -> Self {
        let real = Env::real();
        let is_set = |variable: &str, setting: &str| {
            let value = EnvConfigValue::new().env(variable).profile(setting);
            let found = value.load(&real, Some(profiles));
            is_true(found.as_ref().map(|(value, _)| &**value))
        };
        Self {
            fips: is_set("AWS_USE_FIPS_ENDPOINT", "use_fips_endpoint"),
            dual_stack: is_set("AWS_USE_DUALSTACK_ENDPOINT", "use_dualstack_endpoint"),
        }
    }
}

/// AWS's server in a region.
///
/// Source: the endpoint rules and the partitions of the AWS SDKs.
fn host(region: &str, variant: Variant) -> String {
    let is_gov = region.starts_with("us-gov-");
    let (suffix, dual_stack) = match region.split('-').next() {
        Some("cn") => ("amazonaws.com.cn", "api.amazonwebservices.com.cn"),
        Some("eusc") => ("amazonaws.eu", "api.amazonwebservices.eu"),
        Some("us") if region.starts_with("us-iso-") => ("c2s.ic.gov", "api.aws.ic.gov"),
        Some("us") if region.starts_with("us-isob-") => ("sc2s.sgov.gov", "api.aws.scloud"),
        Some("us") if region.starts_with("us-isof-") => ("csp.hci.ic.gov", "api.aws.hci.ic.gov"),
        Some("eu") if region.starts_with("eu-isoe-") => {
            ("cloud.adc-e.uk", "api.cloud-aws.adc-e.uk")
        }
        _ => ("amazonaws.com", "api.aws"),
    };
    // In the regions of the US government all endpoints are FIPS endpoints.
    let service = if variant.fips && (variant.dual_stack || !is_gov) {
        "dynamodb-fips"
    } else {
        "dynamodb"
    };
    let suffix = if variant.dual_stack {
        dual_stack
    } else {
        suffix
    };
    format!("{service}.{region}.{suffix}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_depend_on_region_and_variant() {
        let of = |region, fips, dual_stack| host(region, Variant { fips, dual_stack });
        for (found, expected) in [
            (
                of("eu-west-1", false, false),
                "dynamodb.eu-west-1.amazonaws.com",
            ),
            (
                of("eu-west-1", true, false),
                "dynamodb-fips.eu-west-1.amazonaws.com",
            ),
            (of("eu-west-1", false, true), "dynamodb.eu-west-1.api.aws"),
            (
                of("eu-west-1", true, true),
                "dynamodb-fips.eu-west-1.api.aws",
            ),
            (
                of("us-gov-west-1", true, false),
                "dynamodb.us-gov-west-1.amazonaws.com",
            ),
            (
                of("cn-north-1", false, false),
                "dynamodb.cn-north-1.amazonaws.com.cn",
            ),
            (
                of("us-isob-east-1", false, false),
                "dynamodb.us-isob-east-1.sc2s.sgov.gov",
            ),
        ] {
            assert_eq!(found, expected);
        }
    }
}
