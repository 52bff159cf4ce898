//! What a certificate says: names, serial number, and when it is valid.

use std::net::IpAddr;

use rustls::pki_types::CertificateDer;
use x509_parser::certificate::{Validity, X509Certificate};
use x509_parser::extensions::GeneralName;
use x509_parser::time::ASN1Time;

/// A certificate chain, read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Certificate {
    chain: Vec<CertificateDer<'static>>,
    /// Names and addresses that the certificate is for. If it has none, its subject.
    pub names: Vec<String>,
    /// Serial number, in hexadecimal digits.
    pub serial: String,
    /// When the server's own certificate, the first, is valid.
    own: Validity,
    /// From when on all certificates of the chain are valid.
    pub not_before: ASN1Time,
    /// When the first certificate of the chain expires.
    pub not_after: ASN1Time,
}

impl Certificate {
    /// Reads a chain, which begins with the server's certificate. `None` if one is not X.509, or there
    /// is none.
    pub(super) fn of(chain: Vec<CertificateDer<'static>>) -> Option<Self> {
        let parse = |der| x509_parser::parse_x509_certificate(der).ok();
        let parsed: Vec<X509Certificate<'_>> =
            chain.iter().map(|der| Some(parse(der)?.1)).collect::<Option<_>>()?;
        let first = parsed.first()?;
        let names = names(first);
        let serial = first.raw_serial_as_string();
        let own = first.validity().clone();
        let not_before = parsed.iter().map(|one| one.validity().not_before).max()?;
        let not_after = parsed.iter().map(|one| one.validity().not_after).min()?;
        Some(Self { names, serial, own, not_before, not_after, chain })
    }

    /// Whether all of the chain is valid now.
    pub fn is_valid(&self) -> bool {
        (self.not_before..=self.not_after).contains(&ASN1Time::now())
    }

    /// Whether the server's own certificate is valid now. Clients that know another way to an issuer accept
    /// it, even if one of the chain has expired.
    pub fn own_is_valid(&self) -> bool {
        self.own.is_valid()
    }
}

fn names(certificate: &X509Certificate<'_>) -> Vec<String> {
    let alternative = certificate.subject_alternative_name().ok().flatten();
    let names = alternative.iter().flat_map(|extension| &extension.value.general_names);
    let names: Vec<String> = names.filter_map(name).collect();
    if names.is_empty() { vec![certificate.subject().to_string()] } else { names }
}

fn name(name: &GeneralName<'_>) -> Option<String> {
    match name {
        GeneralName::DNSName(name) => Some((*name).to_owned()),
        GeneralName::IPAddress(bytes) => {
            let v4 = <[u8; 4]>::try_from(*bytes).map(IpAddr::from);
            let address = v4.or_else(|_| <[u8; 16]>::try_from(*bytes).map(IpAddr::from));
            address.ok().map(|address| address.to_string())
        }
        _ => None,
    }
}
