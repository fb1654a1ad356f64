//! Sources of credentials that are requested over HTTP.

use std::fmt::Write as _;
use std::time::{Duration, Instant};

use mintkey_store::{Error, Outcome, Result};
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use ring::digest;

use crate::aws::credentials::files::{Files, Profile};
use crate::aws::credentials::identity::{Credentials, Identity};
use crate::aws::credentials::region::domain;
use crate::aws::credentials::sources::Sources;
use crate::aws::signing::{Signing, push_hex};
use crate::aws::time;
use crate::config::{Config, Endpoint};
use crate::transport::Transport;
use crate::transport::http::{self, Response};
use crate::wire::errors;
use crate::wire::json::Parser;

/// The address of the credentials of a container (ECS).
const CONTAINER: &str = "169.254.170.2";
/// The other addresses that need no TLS (EKS, IPv4 and IPv6).
const POD: [&str; 2] = ["169.254.170.23", "fd00:ec2::23"];
/// The address of the metadata of an instance.
const INSTANCE: &str = "169.254.169.254";
/// Its time limit: outside of AWS there is no response.
const INSTANCE_TIMEOUT: Duration = Duration::from_secs(1);

/// How a source is requested.
pub struct Lookup<'a, T> {
    pub config: &'a Config,
    pub transport: &'a T,
    pub deadline: Instant,
    /// The outcome of the request of the store, if no credentials are found.
    pub outcome: Outcome,
}

/// A role to assume.
pub struct Role {
    pub arn: String,
    pub session: Option<String>,
    pub external: Option<String>,
    pub duration: Option<String>,
}

/// What permits it.
pub enum Proof {
    /// Credentials that may assume the role.
    Keys(Credentials),
    /// A token of a provider that the role trusts.
    Token(String),
}

fn failed(source: &str, why: &str) -> Error {
    Error::configuration(format!("credentials from {source}: {why}"))
}

async fn send<T: Transport>(
    lookup: &Lookup<'_, T>,
    source: &str,
    endpoint: &Endpoint,
    request: Vec<u8>,
    deadline: Instant,
) -> Result<Response> {
    let response = lookup
        .transport
        .exchange(endpoint, &request, deadline)
        .await;
    let response = response.map_err(|error| {
        let mut error = errors::transport_error(lookup.config, &error, lookup.outcome);
        error.message = format!("credentials from {source} at {endpoint}: {}", error.message);
        error
    })?;
    if response.status == 200 {
        Ok(response)
    } else {
        // The body is not shown: it may repeat the request.
        Err(failed(
            source,
            &format!("{endpoint} responded with status {}", response.status),
        ))
    }
}

/// Parses the response of a container or an instance, and the output of a process.
pub fn parse(text: &str, source: &str) -> Result<Credentials> {
    let mut found = [const { None }; 4];
    let parsed = Parser::new(text).object(|parser, name| {
        let index = match &*name {
            "AccessKeyId" => 0,
            "SecretAccessKey" => 1,
            "Token" | "SessionToken" => 2,
            "Expiration" => 3,
            _ => return parser.skip(),
        };
        found[index] = Some(parser.string()?.into_owned());
        Some(())
    });
    let [Some(access_key), Some(secret), token, expires] = found else {
        return Err(failed(source, "the response contains no credentials"));
    };
    if parsed.is_none() {
        return Err(failed(source, "the response is not valid"));
    }
    Ok(Credentials {
        access_key,
        secret,
        token,
        expires: expires.as_deref().and_then(time::parse_iso),
    })
}

fn text<'a>(response: &'a Response, source: &str) -> Result<&'a str> {
    std::str::from_utf8(&response.body).map_err(|_| failed(source, "the response is not text"))
}

/// The credentials of the container, if it has a role.
pub async fn container<T: Transport>(
    lookup: &Lookup<'_, T>,
    sources: &Sources,
) -> Result<Option<Credentials>> {
    const SOURCE: &str = "the container";
    let (endpoint, path) = if let Some(path) = sources.var("AWS_CONTAINER_CREDENTIALS_RELATIVE_URI")
    {
        (Endpoint::parse(&format!("http://{CONTAINER}"))?, path)
    } else if let Some(url) = sources.var("AWS_CONTAINER_CREDENTIALS_FULL_URI") {
        let start = url.find("://").map_or(0, |scheme| scheme + 3);
        let cut = url[start..]
            .find('/')
            .map_or(url.len(), |path| start + path);
        let endpoint = Endpoint::parse(&url[..cut])?;
        let is_local = endpoint.is_loopback()
            || endpoint.host == CONTAINER
            || POD.contains(&endpoint.host.as_str());
        if !endpoint.tls && !is_local {
            return Err(failed(
                SOURCE,
                "AWS_CONTAINER_CREDENTIALS_FULL_URI must be https, or an address of this machine",
            ));
        }
        let path = if cut < url.len() { &url[cut..] } else { "/" };
        (endpoint, path.to_owned())
    } else {
        return Ok(None);
    };
    let token = match sources.var("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE") {
        Some(path) => sources.file(&path)?,
        None => sources.var("AWS_CONTAINER_AUTHORIZATION_TOKEN"),
    };
    let authority = endpoint.authority();
    let mut headers = vec![("host", authority.as_str()), ("accept", "application/json")];
    if let Some(token) = &token {
        headers.push(("authorization", one_line(token, SOURCE)?));
    }
    let request = http::request("GET", one_line(&path, SOURCE)?, &headers, "");
    let response = send(lookup, SOURCE, &endpoint, request, lookup.deadline).await?;
    parse(text(&response, SOURCE)?, SOURCE).map(Some)
}

/// A text for a header or the request line.
fn one_line<'a>(text: &'a str, source: &str) -> Result<&'a str> {
    let text = text.trim();
    if text.bytes().any(|byte| byte < b' ') || text.contains('\u{7f}') {
        return Err(failed(source, "a setting contains a line break"));
    }
    Ok(text)
}

/// The credentials of the instance; `None` if this is not an instance, or one without a role.
pub async fn instance<T: Transport>(
    lookup: &Lookup<'_, T>,
    sources: &Sources,
) -> Result<Option<Credentials>> {
    const SOURCE: &str = "the instance";
    const PATH: &str = "/latest/meta-data/iam/security-credentials/";
    let off = sources.var("AWS_EC2_METADATA_DISABLED");
    if off.is_some_and(|off| off.eq_ignore_ascii_case("true")) {
        return Ok(None);
    }
    let endpoint = match sources.var("AWS_EC2_METADATA_SERVICE_ENDPOINT") {
        Some(url) => Endpoint::parse(&url)?,
        None => Endpoint::parse(&format!("http://{INSTANCE}"))?,
    };
    let authority = endpoint.authority();
    let deadline = lookup.deadline.min(Instant::now() + INSTANCE_TIMEOUT);
    let ttl = ("x-aws-ec2-metadata-token-ttl-seconds", "21600");
    let request = http::request("PUT", "/latest/api/token", &[("host", &authority), ttl], "");
    let Ok(response) = lookup
        .transport
        .exchange(&endpoint, &request, deadline)
        .await
    else {
        return Ok(None);
    };
    if response.status != 200 {
        return Ok(None);
    }
    let token = one_line(text(&response, SOURCE)?, SOURCE)?.to_owned();
    let headers = [
        ("host", authority.as_str()),
        ("x-aws-ec2-metadata-token", &token),
    ];
    let request = http::request("GET", PATH, &headers, "");
    let Ok(response) = lookup
        .transport
        .exchange(&endpoint, &request, deadline)
        .await
    else {
        return Ok(None);
    };
    if response.status != 200 {
        return Ok(None);
    }
    let role = one_line(
        text(&response, SOURCE)?.lines().next().unwrap_or(""),
        SOURCE,
    )?;
    let request = http::request("GET", &format!("{PATH}{role}"), &headers, "");
    let response = send(lookup, SOURCE, &endpoint, request, lookup.deadline).await?;
    parse(text(&response, SOURCE)?, SOURCE).map(Some)
}

fn form(parameters: &[(&str, &str)]) -> String {
    let mut body = String::new();
    for (name, value) in parameters {
        if !body.is_empty() {
            body.push('&');
        }
        let _ = write!(
            body,
            "{name}={}",
            utf8_percent_encode(value, NON_ALPHANUMERIC)
        );
    }
    body
}

/// Assumes a role.
pub async fn assume<T: Transport>(
    lookup: &Lookup<'_, T>,
    region: &str,
    role: &Role,
    proof: Proof,
) -> Result<Credentials> {
    let source = format!("role {}", role.arn);
    let endpoint = Endpoint::https(format!("sts.{region}.{}", domain(region)));
    let action = match &proof {
        Proof::Keys(_) => "AssumeRole",
        Proof::Token(_) => "AssumeRoleWithWebIdentity",
    };
    let name = role.session.as_deref().unwrap_or("mintkey");
    let mut parameters = vec![
        ("Action", action),
        ("Version", "2011-06-15"),
        ("RoleArn", &role.arn),
        ("RoleSessionName", name),
    ];
    parameters.extend(role.external.as_deref().map(|id| ("ExternalId", id)));
    parameters.extend(
        role.duration
            .as_deref()
            .map(|time| ("DurationSeconds", time)),
    );
    if let Proof::Token(token) = &proof {
        parameters.push(("WebIdentityToken", token.trim()));
    }
    let body = form(&parameters);
    let authority = endpoint.authority();
    let stamp = time::basic(time::now());
    let mut headers = vec![
        ("content-type", "application/x-www-form-urlencoded"),
        ("host", authority.as_str()),
        ("x-amz-date", &stamp),
    ];
    let mut authorization = String::new();
    let identity = match proof {
        Proof::Keys(keys) => Some(Identity::new(keys)),
        Proof::Token(_) => None,
    };
    if let Some(identity) = &identity {
        headers.extend(
            identity
                .token()
                .map(|token| ("x-amz-security-token", token)),
        );
        identity.authorize(
            &Signing {
                method: "POST",
                path: "/",
                query: "",
                headers: &headers,
                body: body.as_bytes(),
                time: &stamp,
                region,
                service: "sts",
            },
            &mut authorization,
        );
        headers.push(("authorization", &authorization));
    }
    let request = http::request("POST", "/", &headers, &body);
    let response = send(lookup, &source, &endpoint, request, lookup.deadline).await?;
    let text = text(&response, &source)?;
    let tag = |name: &str| {
        let (_, rest) = text.split_once(&format!("<{name}>"))?;
        Some(rest.split_once("</")?.0.trim().to_owned())
    };
    let keys = (tag("AccessKeyId"), tag("SecretAccessKey"));
    let (Some(access_key), Some(secret)) = keys else {
        return Err(failed(&source, "the response contains no credentials"));
    };
    Ok(Credentials {
        access_key,
        secret,
        token: tag("SessionToken"),
        expires: tag("Expiration").as_deref().and_then(time::parse_iso),
    })
}

/// The credentials of a profile with single sign-on, by the token that `aws sso login` has stored.
pub async fn sign_on<T: Transport>(
    lookup: &Lookup<'_, T>,
    sources: &Sources,
    files: &Files,
    profile: &Profile,
) -> Result<Credentials> {
    const SOURCE: &str = "single sign-on";
    let named = profile.get("sso_session");
    let shared = named.as_ref().and_then(|name| files.session(name));
    let get = |name: &str| {
        let own = profile.get(name);
        own.or_else(|| shared.as_ref().and_then(|shared| shared.get(name)))
            .ok_or_else(|| failed(SOURCE, &format!("the profile has no {name}")))
    };
    let (account, role) = (get("sso_account_id")?, get("sso_role_name")?);
    let region = get("sso_region")?;
    let start = get("sso_start_url")?;
    let hashed = named.unwrap_or(start);
    let mut file = "~/.aws/sso/cache/".to_owned();
    let hash = digest::digest(&digest::SHA1_FOR_LEGACY_USE_ONLY, hashed.as_bytes());
    push_hex(hash.as_ref(), &mut file);
    file.push_str(".json");
    let expired = || failed(SOURCE, "there is no valid login: run aws sso login");
    let cached = sources.file(&file)?.ok_or_else(expired)?;
    let (mut token, mut until) = (None, None);
    Parser::new(&cached)
        .object(|parser, name| {
            match &*name {
                "accessToken" => token = Some(parser.string()?.into_owned()),
                "expiresAt" => until = time::parse_iso(&parser.string()?),
                _ => parser.skip()?,
            }
            Some(())
        })
        .ok_or_else(expired)?;
    let (Some(token), Some(until)) = (token, until) else {
        return Err(expired());
    };
    if until <= time::now() {
        return Err(expired());
    }
    let endpoint = Endpoint::https(format!("portal.sso.{region}.{}", domain(&region)));
    let authority = endpoint.authority();
    let headers = [
        ("host", authority.as_str()),
        ("x-amz-sso_bearer_token", one_line(&token, SOURCE)?),
    ];
    let query = form(&[("account_id", &account), ("role_name", &role)]);
    let path = format!("/federation/credentials?{query}");
    let request = http::request("GET", &path, &headers, "");
    let response = send(lookup, SOURCE, &endpoint, request, lookup.deadline).await?;
    let (mut keys, mut end) = ([const { None }; 3], None);
    let parsed = Parser::new(text(&response, SOURCE)?).object(|parser, name| {
        if name != "roleCredentials" {
            return parser.skip();
        }
        parser.object(|parser, name| {
            match &*name {
                "accessKeyId" => keys[0] = Some(parser.string()?.into_owned()),
                "secretAccessKey" => keys[1] = Some(parser.string()?.into_owned()),
                "sessionToken" => keys[2] = Some(parser.string()?.into_owned()),
                // In milliseconds.
                "expiration" => end = i64::try_from(parser.count()? / 1000).ok(),
                _ => parser.skip()?,
            }
            Some(())
        })
    });
    let ([Some(access_key), Some(secret), token], Some(())) = (keys, parsed) else {
        return Err(failed(SOURCE, "the response contains no credentials"));
    };
    Ok(Credentials {
        access_key,
        secret,
        token,
        expires: end,
    })
}
