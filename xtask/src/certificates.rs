//! An authority of one's own, and certificates for servers on loopback.
//!
//! Of the standard library and rcgen alone: the tests of the processor run it too.

use std::io::{Error, Result};

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa,
    KeyPair, KeyUsagePurpose,
};

/// Signs certificates. Its own key is kept nowhere.
pub(crate) struct Authority(CertifiedIssuer<'static, KeyPair>);

impl std::fmt::Debug for Authority {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Authority")
    }
}

/// What a server needs, as PEM.
pub(crate) struct Certified {
    /// Its certificate.
    pub(crate) certificate: String,
    /// The key of it, a secret.
    pub(crate) key: String,
}

impl std::fmt::Debug for Certified {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Certified")
    }
}

impl Authority {
    /// A new one of this name.
    ///
    /// # Errors
    /// No key can be made.
    pub(crate) fn new(common_name: &str) -> Result<Self> {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::DigitalSignature];
        params.distinguished_name.push(DnType::CommonName, common_name);
        let key = KeyPair::generate().map_err(Error::other)?;
        CertifiedIssuer::self_signed(params, key).map(Self).map_err(Error::other)
    }

    /// Its certificate, as PEM, for whoever is to trust it.
    pub(crate) fn pem(&self) -> String {
        self.0.pem()
    }

    /// A certificate of these host names and addresses.
    ///
    /// # Errors
    /// A name is none, or no key can be made.
    pub(crate) fn certify(&self, common_name: &str, names: &[&str]) -> Result<Certified> {
        let names: Vec<_> = names.iter().map(|name| (*name).to_owned()).collect();
        let mut params = CertificateParams::new(names).map_err(Error::other)?;
        params.distinguished_name.push(DnType::CommonName, common_name);
        params.extended_key_usages =
            vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        let key = KeyPair::generate().map_err(Error::other)?;
        let certificate = params.signed_by(&key, &self.0).map_err(Error::other)?;
        Ok(Certified { certificate: certificate.pem(), key: key.serialize_pem() })
    }
}
