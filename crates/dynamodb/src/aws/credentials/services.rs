//! Connections to the services of AWS that give credentials, for AWS's libraries.

use std::fmt;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use aws_smithy_runtime_api::client::connector_metadata::ConnectorMetadata;
use aws_smithy_runtime_api::client::dns::{DnsFuture, ResolveDns, ResolveDnsError};
use aws_smithy_runtime_api::client::http::{
    HttpClient, HttpConnector, HttpConnectorFuture, HttpConnectorSettings, SharedHttpConnector,
};
use aws_smithy_runtime_api::client::orchestrator::{HttpRequest, HttpResponse};
use aws_smithy_runtime_api::client::result::ConnectorError;
use aws_smithy_runtime_api::client::runtime_components::RuntimeComponents;
use aws_smithy_types::body::SdkBody;
use mintkey_runtime::locked;
use percent_encoding::percent_decode_str;

use crate::config::Endpoint;
use crate::transport::Transport as _;
use crate::transport::error::TransportError;
use crate::transport::http::{Request, Response};
use crate::transport::http_transport::HttpTransport;
use crate::transport::nonblocking::Nonblocking;
use crate::transport::reactor::Reactor as _;

/// The time limit of a request for which the library names none. The deadline of the caller is shorter.
const LONGEST: Duration = Duration::from_secs(300);

/// The last request to a service, and how it ended.
pub struct LastRequest {
    /// The endpoint, with the role that was to be assumed there.
    pub source: String,
    /// `None` before it has ended.
    pub result: Option<Result<u16, TransportError>>,
}

/// Sends requests to the services.
#[derive(Clone)]
pub struct Services {
    transport: Arc<HttpTransport<Nonblocking>>,
    last: Arc<Mutex<Option<LastRequest>>>,
}

impl fmt::Debug for Services {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Services")
    }
}

impl Services {
    /// Sends requests with this transport.
    pub fn new(transport: HttpTransport<Nonblocking>) -> Self {
        Self {
            transport: Arc::new(transport),
            last: Arc::default(),
        }
    }

    pub fn last(&self) -> Option<LastRequest> {
        locked(&self.last).take()
    }

    async fn send(
        self,
        request: HttpRequest,
        limit: Duration,
    ) -> Result<HttpResponse, ConnectorError> {
        let uri = request.uri().to_owned();
        let start = uri.find("://").map_or(0, |scheme| scheme + 3);
        let path = uri[start..]
            .find(['/', '?'])
            .map_or(uri.len(), |path| start + path);
        let (server, path) = uri.split_at(path);
        let endpoint =
            Endpoint::parse(server).map_err(|error| ConnectorError::user(error.message.into()))?;
        let path = match path {
            "" => "/".to_owned(),
            query if query.starts_with('?') => format!("/{query}"),
            path => path.to_owned(),
        };
        let body = request.body().bytes().unwrap_or_default();
        let body = std::str::from_utf8(body).map_err(|error| ConnectorError::user(error.into()))?;
        let source = match role(body) {
            Some(role) => format!("role {role} at {endpoint}"),
            None => endpoint.to_string(),
        };
        *locked(&self.last) = Some(LastRequest {
            source: source.clone(),
            result: None,
        });
        let authority = endpoint.authority();
        let mut headers = vec![("host", authority.as_str())];
        let others = request.headers().iter();
        headers.extend(others.filter(|(name, _)| !matches!(*name, "host" | "content-length")));
        let request = Request::new(request.method(), &path, &headers, body)
            .map_err(|invalid| ConnectorError::user(invalid.0.into()))?;
        let deadline = Instant::now() + limit;
        let exchanged = self.transport.exchange(&endpoint, request, deadline).await;
        let (result, response) = match exchanged {
            Ok(response) => (Ok(response.status), answer(response)),
            Err(error) => {
                let text = format!("{:?}", error.cause).into();
                let failed = if error.cause.is_timeout() {
                    ConnectorError::timeout(text)
                } else {
                    ConnectorError::io(text)
                };
                (Err(error), Err(failed))
            }
        };
        *locked(&self.last) = Some(LastRequest {
            source,
            result: Some(result),
        });
        response
    }
}

/// The role that a request is about.
fn role(body: &str) -> Option<String> {
    let (_, rest) = body.split_once("RoleArn=")?;
    let role = rest.split('&').next()?;
    Some(percent_decode_str(role).decode_utf8_lossy().into_owned())
}

fn answer(response: Response) -> Result<HttpResponse, ConnectorError> {
    let status = response.status.try_into();
    let status = status.map_err(|_| ConnectorError::io("the status is not valid".into()))?;
    let mut answer = HttpResponse::new(status, SdkBody::from(response.body));
    for (name, value) in response.of_services {
        let added = answer.headers_mut().try_insert(name, value);
        added.map_err(|error| ConnectorError::io(error.into()))?;
    }
    Ok(answer)
}

/// Sends requests with a time limit.
#[derive(Debug)]
struct Limited {
    services: Services,
    limit: Duration,
}

impl HttpConnector for Limited {
    fn call(&self, request: HttpRequest) -> HttpConnectorFuture {
        HttpConnectorFuture::new(self.services.clone().send(request, self.limit))
    }
}

impl HttpClient for Services {
    fn http_connector(
        &self,
        settings: &HttpConnectorSettings,
        _: &RuntimeComponents,
    ) -> SharedHttpConnector {
        SharedHttpConnector::new(Limited {
            services: self.clone(),
            limit: settings.read_timeout().unwrap_or(LONGEST),
        })
    }

    fn connector_metadata(&self) -> Option<ConnectorMetadata> {
        None
    }
}

impl ResolveDns for Services {
    fn resolve_dns<'a>(&'a self, name: &'a str) -> DnsFuture<'a> {
        DnsFuture::new(async move {
            let until = Instant::now() + LONGEST;
            let found = self.transport.reactor().look_up(name, 0, until).await;
            let addresses = found.map_err(|cause| ResolveDnsError::new(format!("{cause:?}")))?;
            Ok(addresses.iter().map(SocketAddr::ip).collect())
        })
    }
}
