//! TLS: which servers are trusted, and the client certificate.

use std::io;
use std::path::Path;
use std::sync::{Arc, OnceLock};

use mintkey_store::{Error, Result};
use rustls::crypto::ring::default_provider;
use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls::{AlertDescription, CertificateError, ClientConfig, ClientConnection, RootCertStore};

use crate::parameters::Parameters;

/// How a store encrypts its connections.
///
/// Without parameters it trusts the certificate authorities of the system, which are read when the first connection needs
/// them.
#[derive(Debug, Default)]
pub struct Tls {
    roots: OnceLock<Arc<RootCertStore>>,
    /// The client certificate with its key.
    own: Option<Arc<SingleCertAndKey>>,
    config: OnceLock<Arc<ClientConfig>>,
}

impl Tls {
    /// Takes `ca=` (a PEM file with the certificate authorities to trust) and `cert=` with `key=` (PEM files with the
    /// client certificate and its key), and reads these files. Without `ca=` it trusts the authorities in the file `ca`.
    ///
    /// # Errors
    ///
    /// `Configuration` if a file cannot be used.
    pub fn take(parameters: &mut Parameters, ca: Option<String>) -> Result<Self> {
        let mut tls = Self::default();
        if let Some(path) = parameters.take("ca").or(ca) {
            tls.roots = trusted(certificates(&path)?)?.into();
        }
        tls.own = match (parameters.take("cert"), parameters.take("key")) {
            (None, None) => None,
            (Some(certificate), Some(key)) => Some(Arc::new(identity(&certificate, &key)?)),
            _ => {
                return Err(Error::configuration(
                    "a client certificate needs its key: give both ?cert= and &key=, or neither",
                ));
            }
        };
        Ok(tls)
    }

    /// The same for a child of a fork, without the locks that other threads of the parent may have held.
    #[must_use]
    pub fn in_child(&self) -> Self {
        Self {
            roots: self.roots.clone(),
            own: self.own.clone(),
            config: OnceLock::new(),
        }
    }

    /// The configuration of all connections of this process.
    ///
    /// # Errors
    ///
    /// `Configuration` if the system has no certificate authorities.
    pub fn config(&self) -> Result<Arc<ClientConfig>> {
        if let Some(config) = self.config.get() {
            return Ok(Arc::clone(config));
        }
        let roots = if let Some(roots) = self.roots.get() {
            Arc::clone(roots)
        } else {
            let found = trusted(rustls_native_certs::load_native_certs().certs)?;
            Arc::clone(self.roots.get_or_init(|| found))
        };
        let builder = ClientConfig::builder_with_provider(Arc::new(default_provider()))
            .with_safe_default_protocol_versions()
            .map_err(|error| Error::configuration(format!("TLS cannot be used: {error}")))?
            .with_root_certificates(roots);
        let config = match &self.own {
            Some(own) => builder.with_client_cert_resolver(Arc::clone(own) as _),
            None => builder.with_no_client_auth(),
        };
        Ok(Arc::clone(self.config.get_or_init(|| Arc::new(config))))
    }

    /// A connection to a host, before the handshake.
    ///
    /// # Errors
    ///
    /// `Configuration` if the name cannot be in a certificate, and as [`config`](Self::config).
    pub fn connection(&self, host: &str) -> Result<ClientConnection> {
        let name = ServerName::try_from(host.to_owned()).map_err(|error| {
            Error::configuration(format!(
                "the host {host:?} cannot be the name in a certificate ({error}): use a DNS name or an IP address"
            ))
        })?;
        ClientConnection::new(self.config()?, name)
            .map_err(|error| Error::configuration(format!("TLS cannot be used: {error}")))
    }
}

fn unreadable(path: &str, error: &pem::Error) -> Error {
    Error::configuration(format!(
        "{path:?} cannot be read as PEM ({error}): give the path of a readable PEM file"
    ))
}

fn certificates(path: &str) -> Result<Vec<CertificateDer<'static>>> {
    let found = CertificateDer::pem_file_iter(Path::new(path))
        .and_then(Iterator::collect::<std::result::Result<Vec<_>, _>>)
        .map_err(|error| unreadable(path, &error))?;
    if found.is_empty() {
        return Err(Error::configuration(format!(
            "{path:?} has no certificate in it: give a PEM file with one"
        )));
    }
    Ok(found)
}

fn trusted(certificates: Vec<CertificateDer<'static>>) -> Result<Arc<RootCertStore>> {
    let mut roots = RootCertStore::empty();
    let (added, _) = roots.add_parsable_certificates(certificates);
    if added == 0 {
        return Err(Error::configuration(
            "there is no certificate authority that can verify the server: install those of the system (package \
             ca-certificates), or give a PEM file with ?ca=/path/of/ca.pem",
        ));
    }
    Ok(Arc::new(roots))
}

fn identity(certificate: &str, key: &str) -> Result<SingleCertAndKey> {
    let chain = certificates(certificate)?;
    let own =
        PrivateKeyDer::from_pem_file(Path::new(key)).map_err(|error| unreadable(key, &error))?;
    let certified = CertifiedKey::from_der(chain, own, &default_provider()).map_err(|error| {
        Error::configuration(format!(
            "the certificate {certificate:?} cannot be used with the key {key:?}: {error}"
        ))
    })?;
    Ok(SingleCertAndKey::from(certified))
}

/// Why one side does not trust the other and what to do, if that is what broke the connection. Nothing that was sent on it
/// was carried out then.
#[must_use]
pub fn untrusted_reason(cause: &io::Error) -> Option<String> {
    match cause.get_ref()?.downcast_ref()? {
        rustls::Error::InvalidCertificate(why) => Some(server_problem(why)),
        rustls::Error::AlertReceived(alert) => client_problem(*alert),
        _ => None,
    }
}

/// The error for a server that is not trusted, or refuses this client, for this reason.
#[must_use]
pub fn untrusted(address: &str, reason: &str) -> Error {
    Error::configuration(format!("{address}: no trusted connection: {reason}"))
}

fn server_problem(why: &CertificateError) -> String {
    let way_out = match why {
        CertificateError::UnknownIssuer => {
            return "its certificate is signed by an unknown authority: give its certificate with \
                    ?ca=/path/of/ca.pem"
                .to_owned();
        }
        CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
            "connect to a name that is in the certificate"
        }
        _ => "check the certificate, ?ca= and the clock of this machine",
    };
    format!("its certificate is not valid ({why}): {way_out}")
}

fn client_problem(alert: AlertDescription) -> Option<String> {
    let way_out = match alert {
        AlertDescription::CertificateRequired | AlertDescription::HandshakeFailure => {
            "give a client certificate with ?cert= and &key=, if the server requires one"
        }
        AlertDescription::AccessDenied
        | AlertDescription::BadCertificate
        | AlertDescription::CertificateExpired
        | AlertDescription::CertificateRevoked
        | AlertDescription::CertificateUnknown
        | AlertDescription::DecryptError
        | AlertDescription::UnknownCA
        | AlertDescription::UnsupportedCertificate => {
            "give a client certificate that the server accepts with ?cert= and &key="
        }
        _ => return None,
    };
    Some(format!(
        "the server refuses this client ({alert:?}): {way_out}"
    ))
}
