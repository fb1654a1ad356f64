//! Encrypted streams.

use std::io;
use std::net::TcpStream;
use std::sync::Arc;

use mintkey_store::{Error, Result};
use rustls::pki_types::ServerName;
use rustls::{CertificateError, ClientConfig, ClientConnection, StreamOwned};

/// An encrypted stream.
pub type Encrypted = Box<StreamOwned<ClientConnection, TcpStream>>;

/// Why the server is not trusted, if that is what broke the connection.
pub fn distrust(cause: &io::Error) -> Option<String> {
    let Some(rustls::Error::InvalidCertificate(why)) = cause.get_ref()?.downcast_ref() else {
        return None;
    };
    let way_out = match why {
        CertificateError::UnknownIssuer => {
            return Some(
                "no authority that is known here vouches for its certificate: name one with ?ca=/path/of/ca.pem"
                    .to_owned(),
            );
        }
        CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
            "connect to a name that it carries"
        }
        _ => "look at the certificate, at ?ca= and at the clock of this machine",
    };
    Some(format!("its certificate does not do ({why}): {way_out}"))
}

/// Encrypts a connection; the two sides greet each other with the first bytes.
pub fn encrypt(
    address: &str,
    client: &Arc<ClientConfig>,
    host: &str,
    socket: TcpStream,
) -> Result<Encrypted> {
    let wrong =
        |reason: String| Error::configuration(format!("{address} cannot be encrypted: {reason}"));
    let name = ServerName::try_from(host.to_owned()).map_err(|error| wrong(error.to_string()))?;
    let connection = ClientConnection::new(Arc::clone(client), name)
        .map_err(|error| wrong(error.to_string()))?;
    Ok(Box::new(StreamOwned::new(connection, socket)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_distrusted_certificate_comes_with_a_way_out() {
        for (why, way_out) in [
            (CertificateError::UnknownIssuer, "?ca="),
            (CertificateError::NotValidForName, "a name that it carries"),
            (CertificateError::Expired, "the clock"),
        ] {
            let broken = io::Error::other(rustls::Error::InvalidCertificate(why));
            assert!(distrust(&broken).unwrap().contains(way_out));
        }
        assert_eq!(distrust(&io::Error::other("broken")), None);
        assert_eq!(distrust(&io::ErrorKind::BrokenPipe.into()), None);
    }
}
