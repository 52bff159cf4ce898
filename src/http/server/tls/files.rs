//! The server's certificate and private key, from PEM files.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::ServerConfig;
use rustls::crypto::ring;
use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use x509_parser::time::ASN1Time;

use super::certificate::Certificate;

/// Why a server cannot use TLS.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TlsError {
    /// A file cannot be read.
    #[error("TLS: {}: {reason}; give a PEM file that this user may read", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// Why not.
        reason: io::Error,
    },
    /// A file has an incomplete section, or is not PEM.
    #[error(
        "TLS: {} is damaged, incomplete or encrypted; copy it again from where it was created, \
         or decrypt it with `openssl pkey -in FILE -out NEW`",
        path.display()
    )]
    Damaged {
        /// The file.
        path: PathBuf,
    },
    /// The certificate file has no certificate.
    #[error(
        "TLS: {} has no certificate; it must have the server's, then its issuers', each between \
         BEGIN CERTIFICATE and END CERTIFICATE",
        path.display()
    )]
    NoCertificate {
        /// The certificate file.
        path: PathBuf,
    },
    /// The key file has no private key, or an encrypted one.
    #[error(
        "TLS: {} has no unencrypted private key; decrypt a key with \
         `openssl pkey -in FILE -out NEW`",
        path.display()
    )]
    NoKey {
        /// The key file.
        path: PathBuf,
    },
    /// The key belongs to another certificate.
    #[error(
        "TLS: the key in {} does not belong to the first certificate in {}; give the certificate's \
         key, and put the server's certificate before its issuers'",
        key.display(),
        certificate.display()
    )]
    Mismatch {
        /// The certificate file.
        certificate: PathBuf,
        /// The key file.
        key: PathBuf,
    },
    /// A certificate or key that is damaged or of an unsupported type.
    #[error(
        "TLS: {} with {}: {reason}; use an X.509 certificate with an RSA, ECDSA (P-256, P-384) or \
         Ed25519 key",
        certificate.display(),
        key.display()
    )]
    Unusable {
        /// The certificate file.
        certificate: PathBuf,
        /// The key file.
        key: PathBuf,
        /// What is wrong with them.
        reason: rustls::Error,
    },
    /// A new certificate is not valid now, but the one in use is.
    #[error(
        "TLS: the certificate in {} is valid only from {not_before} to {not_after}, and the one in use is \
         valid now; renew it, or set the clock",
        path.display()
    )]
    NotValidNow {
        /// The certificate file.
        path: PathBuf,
        /// When it begins to be valid.
        not_before: ASN1Time,
        /// When it expires.
        not_after: ASN1Time,
    },
}

/// The files of a certificate chain and of its private key.
#[derive(Clone, Debug)]
pub struct TlsFiles {
    /// Certificates (PEM): the server's, then its issuers'.
    pub certificate: PathBuf,
    /// Private key (PEM), not encrypted.
    pub key: PathBuf,
}

impl TlsFiles {
    /// Configures TLS 1.2 and 1.3 with the certificate chain and the private key, each in a PEM file
    /// (RFC 7468). Prefers HTTP/2 to HTTP/1.1 (ALPN, RFC 7301).
    ///
    /// # Errors
    ///
    /// If a file cannot be used, or the key belongs to another certificate.
    pub fn read(&self) -> Result<(ServerConfig, Certificate), TlsError> {
        let (certificate, key) = (&self.certificate, &self.key);
        let chain = CertificateDer::pem_file_iter(certificate)
            .and_then(Iterator::collect::<Result<Vec<_>, _>>)
            .map_err(|reason| unusable_file(certificate, reason))?;
        if chain.is_empty() {
            return Err(TlsError::NoCertificate { path: certificate.clone() });
        }
        let private_key = PrivateKeyDer::from_pem_file(key).map_err(|reason| match reason {
            pem::Error::NoItemsFound => TlsError::NoKey { path: key.clone() },
            reason => unusable_file(key, reason),
        })?;
        let mut config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .expect("ring has cipher suites for TLS 1.2 and 1.3")
            .with_no_client_auth()
            .with_single_cert(chain.clone(), private_key)
            .map_err(|reason| {
                let (certificate, key) = (certificate.clone(), key.clone());
                match reason {
                    rustls::Error::InconsistentKeys(_) => TlsError::Mismatch { certificate, key },
                    reason => TlsError::Unusable { certificate, key, reason },
                }
            })?;
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        let damaged = || TlsError::Damaged { path: certificate.clone() };
        Ok((config, Certificate::of(chain).ok_or_else(damaged)?))
    }
}

fn unusable_file(path: &Path, reason: pem::Error) -> TlsError {
    let path = path.to_owned();
    match reason {
        pem::Error::Io(reason) => TlsError::Unreadable { path, reason },
        _ => TlsError::Damaged { path },
    }
}
