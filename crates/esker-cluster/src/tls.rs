//! What everybody who speaks TLS needs: certificates and keys out of PEM files.

use std::{error::Error, fmt};

use tokio_rustls::rustls::{
    RootCertStore,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
};

/// A part of the TLS configuration cannot be used.
#[derive(Debug)]
pub struct TlsError {
    part: &'static str,
    why: String,
}

impl fmt::Display for TlsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the TLS {} cannot be used: {}", self.part, self.why)
    }
}

impl Error for TlsError {}

impl TlsError {
    /// The part that cannot be used, and why.
    pub fn of(part: &'static str, why: impl fmt::Display) -> Self {
        Self { part, why: why.to_string() }
    }
}

/// All certificates of a PEM file, at least one; `part` is what they are, for the error.
pub fn certificates(pem: &[u8], part: &'static str) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let all: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
    let all = all.map_err(|error| TlsError::of(part, error))?;
    if all.is_empty() {
        return Err(TlsError::of(part, "there is no certificate in it"));
    }
    Ok(all)
}

/// The first private key of a PEM file.
pub fn private_key(pem: &[u8]) -> Result<PrivateKeyDer<'static>, TlsError> {
    PrivateKeyDer::from_pem_slice(pem).map_err(|error| TlsError::of("key", error))
}

/// The authorities of a PEM file.
pub fn roots(ca: &[u8]) -> Result<RootCertStore, TlsError> {
    let mut roots = RootCertStore::empty();
    for certificate in certificates(ca, "authority")? {
        roots.add(certificate).map_err(|error| TlsError::of("authority", error))?;
    }
    Ok(roots)
}
