//! TLS: whom we trust.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use rustls::{ClientConfig, RootCertStore};

/// Why TLS cannot be set up.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// Certificates that are to be trusted cannot be read.
    #[error("{path}: {reason}")]
    Roots {
        /// The file.
        path: PathBuf,
        /// Why not.
        reason: String,
    },
    /// There is no TLS to be had.
    #[error("TLS: {0}")]
    Unavailable(String),
}

/// Trusts the machine's certificates and these.
///
/// # Errors
/// [`TlsError`]: these cannot be read.
pub fn client(roots: Option<&Path>) -> Result<ClientConfig, TlsError> {
    let mut store = RootCertStore::empty();
    for certificate in rustls_native_certs::load_native_certs().certs {
        // One that cannot be read trusts nobody.
        store.add(certificate).ok();
    }
    if let Some(path) = roots {
        let failed = |reason: String| TlsError::Roots { path: path.to_owned(), reason };
        let read =
            CertificateDer::pem_file_iter(path).map_err(|error| failed(error.to_string()))?;
        for certificate in read {
            let certificate = certificate.map_err(|error| failed(error.to_string()))?;
            store.add(certificate).map_err(|error| failed(error.to_string()))?;
        }
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder =
        ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    let builder = builder.map_err(|error| TlsError::Unavailable(error.to_string()))?;
    Ok(builder.with_root_certificates(store).with_no_client_auth())
}
