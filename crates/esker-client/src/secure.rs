//! Who the client is, and whom it trusts.

use std::{fmt, sync::Arc};

use esker_wire::binary::{Header, Options, TOKEN_LEN_MAX, Verb};
use hyper::header::HeaderValue;
use tokio_rustls::rustls::{
    ClientConfig, RootCertStore,
    crypto::ring,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
    version::{TLS12, TLS13},
};

use crate::{Error, Result};

/// What a client shows to servers.
#[derive(Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Credentials {
    /// A token.
    Token(String),
    /// A user's name and its password.
    Password {
        /// The name.
        user: String,
        /// The password.
        password: String,
    },
}

impl fmt::Debug for Credentials {
    /// Without what is secret.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Token(_) => f.write_str("Token(***)"),
            Self::Password { user, .. } => write!(f, "Password {{ user: {user:?}, password: *** }}"),
        }
    }
}

impl Credentials {
    /// What the header `Authorization` says of them over HTTP.
    pub fn authorization(&self) -> String {
        match self {
            Self::Token(token) => format!("Bearer {token}"),
            Self::Password { user, password } => {
                format!("Basic {}", esker_wire::encode_base64(format!("{user}:{password}").as_bytes()))
            }
        }
    }

    /// The header that shows them.
    pub(crate) fn header(&self) -> Result<HeaderValue> {
        let mut value = HeaderValue::try_from(self.authorization())
            .map_err(|_| Error::invalid("the token has characters that no header can carry"))?;
        value.set_sensitive(true);
        Ok(value)
    }

    /// The request `AUTH` of the binary protocol that shows them.
    ///
    /// Errors: `InvalidRequest` where it cannot be said there.
    pub fn auth(&self) -> Result<Vec<u8>> {
        let shown = match self {
            Self::Token(token) => token.clone(),
            Self::Password { user, password } => format!("{user}:{password}"),
        };
        if shown.len() > TOKEN_LEN_MAX {
            let message = format!(
                "over the binary protocol a token, or a user and its password, have at most {TOKEN_LEN_MAX} bytes"
            );
            return Err(Error::invalid(message));
        }
        let mut request = Vec::with_capacity(16 + shown.len());
        Header::new(Verb::Auth, shown.len(), 0, Options::default()).write(&mut request);
        request.extend_from_slice(shown.as_bytes());
        Ok(request)
    }
}

/// TLS with servers whose endpoints begin with `https://`, `eskers://` or `grpcs://`.
#[derive(Clone, Default)]
pub struct TlsSettings {
    /// The authorities of the servers' certificates, in PEM. Default: those of the system.
    pub ca: Option<Vec<u8>>,
    /// The client's certificate with those between it and its authority, and its private key, both in PEM. Default: none.
    pub identity: Option<(Vec<u8>, Vec<u8>)>,
}

impl fmt::Debug for TlsSettings {
    /// Without the key.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (ca, identity) = (self.ca.is_some(), self.identity.is_some());
        f.debug_struct("TlsSettings").field("ca", &ca).field("identity", &identity).finish()
    }
}

fn unusable(part: &str, why: impl fmt::Display) -> Error {
    Error::invalid(format!("the {part} cannot be used: {why}"))
}

fn certificates(pem: &[u8], part: &str) -> Result<Vec<CertificateDer<'static>>> {
    let all: std::result::Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
    match all {
        Ok(all) if all.is_empty() => Err(unusable(part, "there is no certificate in it")),
        all => all.map_err(|e| unusable(part, e)),
    }
}

impl TlsSettings {
    /// TLS as it is spoken; `is_used`: whether any endpoint asks for it.
    pub(crate) fn config(&self, is_used: bool) -> Result<ClientConfig> {
        let builder = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_protocol_versions(&[&TLS13, &TLS12])
            .map_err(|e| unusable("version of TLS", e))?
            .with_root_certificates(self.roots(is_used)?);
        let Some((certificate, key)) = &self.identity else { return Ok(builder.with_no_client_auth()) };
        let chain = certificates(certificate, "client's certificate")?;
        let key = PrivateKeyDer::from_pem_slice(key).map_err(|e| unusable("client's key", e))?;
        builder.with_client_auth_cert(chain, key).map_err(|e| unusable("client's certificate or key", e))
    }

    fn roots(&self, is_used: bool) -> Result<RootCertStore> {
        let mut roots = RootCertStore::empty();
        match &self.ca {
            Some(ca) => {
                for certificate in certificates(ca, "authority")? {
                    roots.add(certificate).map_err(|e| unusable("authority", e))?;
                }
            }
            // Some of a system's may be unusable, which is no reason to trust none.
            None if is_used => {
                let (_taken, _unusable) =
                    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
            }
            None => {}
        }
        Ok(roots)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_secret_is_not_told() {
        let token = Credentials::Token("sesame-token".into());
        let password = Credentials::Password { user: "app".into(), password: "sesame-word".into() };
        let identity = Some((b"sesame-certificate".to_vec(), b"sesame-key".to_vec()));
        let tls = TlsSettings { ca: None, identity };
        let mut settings = crate::Settings { tls, ..crate::Settings::default() };
        for credentials in [token, password] {
            let header = credentials.header().unwrap();
            settings.credentials = Some(credentials);
            let told = format!("{settings:?} {header:?}");
            assert!(!told.contains("sesame"), "{told}");
        }
    }

    #[test]
    fn what_cannot_be_used_is_named() {
        let identity =
            |certificate: &[u8]| TlsSettings { ca: None, identity: Some((certificate.into(), b"".into())) };
        for (settings, part) in [
            (TlsSettings { ca: Some(b"".into()), identity: None }, "authority"),
            (identity(b"no certificate"), "client's certificate"),
        ] {
            assert!(settings.config(true).unwrap_err().to_string().contains(part));
        }
        assert!(Credentials::Token("two\nlines".into()).header().is_err());
    }
}
