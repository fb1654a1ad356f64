//! The credentials and the destination of a store, looked up at the first call.

use std::sync::{Arc, Mutex, OnceLock};
use std::time::{Duration, Instant};

use mintkey_runtime::locked;
use mintkey_store::{Error, ErrorKind, Outcome, Result};

use crate::aws::credentials::chain;
use crate::aws::credentials::destination::Destination;
use crate::aws::credentials::environment::{self, Environment};
use crate::aws::credentials::fork_gate::Renewal;
use crate::aws::credentials::profiles;
use crate::aws::credentials::services::Services;
use crate::aws::signing::Identity;
use crate::config::Config;
use crate::transport::error::Cause;
use crate::transport::{Transport, handlers};
use crate::wire::errors;

/// Credentials are renewed this long before they expire.
const MARGIN: Duration = Duration::from_secs(300);
/// If that fails, the next attempt begins this much later, as long as the old ones are valid.
const RETRY_DELAY: Duration = Duration::from_secs(5);

/// How a request asks for credentials.
pub struct Lookup<'a, T> {
    pub config: &'a Config,
    pub transport: &'a T,
    pub deadline: Instant,
    /// The outcome of the request of the store, if no credentials are found.
    pub outcome: Outcome,
}

/// Keeps credentials until they expire.
#[derive(Default)]
pub struct CredentialsCache {
    known: Mutex<CacheState>,
    /// The caller that holds it renews the credentials; all others wait for it.
    renewing: tokio::sync::Mutex<()>,
    destination: OnceLock<Destination>,
    environment: Environment,
}

#[derive(Default)]
struct CacheState {
    identity: Option<Arc<Identity>>,
    /// When they were last renewed.
    renewed: Option<Instant>,
    /// The last renewal, if it failed.
    failure: Option<(Instant, Error)>,
}

impl CacheState {
    /// The credentials, unless it is time to renew them.
    fn fresh(&self) -> Option<Arc<Identity>> {
        let identity = self.identity.as_ref()?;
        let is_delayed = |(time, _): &(Instant, Error)| time.elapsed() < RETRY_DELAY;
        let margin = match &self.failure {
            Some(failure) if is_delayed(failure) => Duration::ZERO,
            _ => MARGIN,
        };
        identity.is_valid_for(margin).then(|| Arc::clone(identity))
    }
}

impl CredentialsCache {
    /// A cache of the credentials in the environment of a test.
    #[cfg(test)]
    pub fn of(environment: Environment) -> Self {
        Self {
            environment,
            ..Self::default()
        }
    }

    /// Where calls are sent.
    pub fn destination(&self, config: &Config) -> Result<&Destination> {
        if let Some(destination) = self.destination.get() {
            return Ok(destination);
        }
        let destination = Destination::find(config, &self.environment)?;
        Ok(self.destination.get_or_init(|| destination))
    }

    /// The credentials to use now: new ones if the cached ones are about to expire.
    pub async fn identity<T: Transport>(&self, lookup: &Lookup<'_, T>) -> Result<Arc<Identity>> {
        if let Some(identity) = locked(&self.known).fresh() {
            return Ok(identity);
        }
        // A profile in the address takes precedence over the environment.
        if lookup.config.profile.is_none()
            && let Some(keys) = self.environment.keys()?
        {
            return Ok(self.keep(Identity::new(keys)));
        }
        let old = locked(&self.known).identity.clone();
        let old = old.filter(|old| old.is_valid_for(Duration::ZERO));
        let mut deadline = lookup.deadline;
        if old.is_some() {
            // Leaves time for the request itself, with the old ones.
            let left = deadline.saturating_duration_since(Instant::now());
            deadline = Instant::now() + left / 2;
        }
        let services = Services::new(lookup.transport.for_services());
        let renewal = self.renewal(lookup.config, &services);
        let failure = match lookup.transport.in_runtime(renewal, deadline).await {
            Ok(Ok(identity)) => return Ok(identity),
            Ok(Err(error)) => of_outcome(error, lookup.outcome),
            Err(stopped) => {
                let is_late = stopped.cause.is_timeout();
                let mut error = match stopped.cause {
                    Cause::Stopped(stop) => stop.error(
                        &lookup.config.address,
                        "looking up credentials",
                        lookup.outcome,
                    ),
                    _ => errors::transport_error(lookup.config, &stopped, lookup.outcome),
                };
                if let Some(last) = services.last() {
                    error.message = format!("credentials from {}: {}", last.source, error.message);
                }
                if !is_late {
                    // An interrupt or a fork ends the request, whatever credentials there are.
                    return Err(error);
                }
                if old.is_some() {
                    locked(&self.known).failure = Some((Instant::now(), error.clone()));
                }
                error
            }
        };
        // Credentials that are still valid are better than none.
        old.ok_or(failure)
    }

    /// Renews the credentials, or waits until another call has done that.
    async fn renewal(&self, config: &Config, services: &Services) -> Result<Arc<Identity>> {
        let asked = Instant::now();
        // A signal handler cannot wait for the call that it has interrupted.
        let _renewing = if handlers::is_inside() {
            None
        } else {
            Some(self.renewing.lock().await)
        };
        {
            let known = locked(&self.known);
            // What was found while this call waited is used, although it may expire soon.
            if let (Some(identity), true) = (&known.identity, known.renewed >= Some(asked)) {
                return Ok(Arc::clone(identity));
            }
            if let Some(identity) = known.fresh() {
                return Ok(identity);
            }
            match &known.failure {
                Some((time, error)) if *time >= asked => return Err(error.clone()),
                _ => {}
            }
        }
        let destination = self.destination(config)?;
        let found = match profiles::load(config, &self.environment) {
            Ok(profiles) => {
                let found = chain::find(config, destination, &profiles, services);
                Renewal::new(found).await
            }
            Err(error) => Err(error),
        };
        let found =
            found.and_then(|keys| environment::check_control_characters(&keys).map(|()| keys));
        match found {
            Ok(keys) => Ok(self.keep(Identity::new(keys))),
            Err(error) => {
                locked(&self.known).failure = Some((Instant::now(), error.clone()));
                Err(error)
            }
        }
    }

    fn keep(&self, identity: Identity) -> Arc<Identity> {
        let identity = Arc::new(identity);
        *locked(&self.known) = CacheState {
            identity: Some(Arc::clone(&identity)),
            renewed: Some(Instant::now()),
            failure: None,
        };
        identity
    }

    /// Removes credentials that the server no longer accepts.
    pub fn forget(&self, refused: &Arc<Identity>) {
        let mut known = locked(&self.known);
        let is_known = |own: &Arc<Identity>| Arc::ptr_eq(own, refused);
        if known.identity.as_ref().is_some_and(is_known) {
            *known = CacheState::default();
        }
    }
}

/// The same failure for a request with this outcome.
fn of_outcome(mut error: Error, outcome: Outcome) -> Error {
    error.kind = match error.kind {
        ErrorKind::Unavailable(_) => ErrorKind::Unavailable(outcome),
        ErrorKind::Timeout(_) => ErrorKind::Timeout(outcome),
        kind => kind,
    };
    error
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;
    use std::collections::VecDeque;
    use std::future::Future;
    use std::sync::atomic::{AtomicBool, Ordering};

    use mintkey_store::RequestMetrics;
    use mintkey_store::store::Never;

    use super::*;
    use crate::client::{Client, Effect};
    use crate::config::Endpoint;
    use crate::shared::Shared;
    use crate::transport::error::TransportError;
    use crate::transport::http::{Request, Response};
    use crate::transport::http_transport::HttpTransport;
    use crate::transport::nonblocking::Nonblocking;
    use crate::transport::pool::Pool;
    use crate::wire::errors::Failure;

    /// Responds in order. A status of 0 is a connection that breaks after the request.
    struct Script(RefCell<VecDeque<(u16, &'static str)>>);

    impl Transport for Script {
        async fn exchange(
            &self,
            _: &Endpoint,
            _: Request,
            _: Instant,
        ) -> std::result::Result<Response, TransportError> {
            match self.0.borrow_mut().pop_front() {
                None => Err(Cause::ConnectTimeout.unsent()),
                Some((0, _)) => Err(Cause::closed().sent()),
                Some((status, body)) => Ok(Response {
                    status,
                    body: body.as_bytes().to_vec(),
                    ..Response::default()
                }),
            }
        }

        fn close_idle(&self) {}

        async fn pause(&self, _: Duration, _: Instant) -> std::result::Result<(), TransportError> {
            Ok(())
        }

        async fn in_runtime<F: Future>(
            &self,
            _: F,
            _: Instant,
        ) -> std::result::Result<F::Output, TransportError> {
            Err(Cause::ConnectTimeout.unsent())
        }

        fn for_services(&self) -> HttpTransport<Nonblocking> {
            let config = Arc::new(Config::parse("dynamodb://r").unwrap());
            let reactor = Nonblocking::of_calling_thread(config.timeout);
            HttpTransport::new(&config, &Arc::new(Pool::new(0)), reactor)
        }

        fn may_continue(&self, _: Instant) -> std::result::Result<(), TransportError> {
            Ok(())
        }
    }

    #[test]
    fn a_write_without_response_stays_unknown_when_there_are_no_credentials() {
        let first = AtomicBool::new(true);
        let gone = Environment::from_fn(move |name| match name {
            "AWS_ACCESS_KEY_ID" if first.swap(false, Ordering::SeqCst) => Some("KEY".to_owned()),
            "AWS_ACCESS_KEY_ID" => Some("KEY\n".to_owned()),
            "AWS_SECRET_ACCESS_KEY" => Some("hush".to_owned()),
            _ => None,
        });
        let url = "dynamodb://us-east-1?endpoint=http://localhost:1";
        let mut shared = Shared::new(Config::parse(url).unwrap());
        shared.credentials = CredentialsCache::of(gone);
        let expired = "{\"__type\":\"x#ExpiredTokenException\",\"message\":\"no\"}";
        let script = Script(RefCell::new([(0, ""), (400, expired)].into()));
        let metrics = RequestMetrics::default();
        let client = Client::new(&shared, &script, &metrics);
        let blocking = HttpTransport::of_call(&shared.config, &shared.pool, &Never);
        let error = blocking.run(async {
            match client.call("PutItem", "{}", Effect::Idempotent).await {
                Err(Failure::Failed(error)) => Ok(error),
                _ => panic!("there are no credentials"),
            }
        });
        let error = error.unwrap();
        let unknown = ErrorKind::Unavailable(Outcome::Unknown);
        assert_eq!(error.kind, unknown, "{error}");
        assert!(error.message.contains("line break"), "{error}");
        assert!(!error.message.contains("hush"), "{error}");
    }
}
