//! An authority of its own and a certificate for each server, for loopback only.

use std::fs::{self, File};
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa,
    KeyPair, KeyUsagePurpose,
};

use crate::failure::{Result, While as _};

/// Writes `ca.pem` below `root`, and `cert.pem` and `key.pem` into each server's directory. The authority's own key is
/// kept nowhere: a cluster that comes up again gets a new one.
pub(super) fn make(root: &Path, servers: &[PathBuf]) -> Result<()> {
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::DigitalSignature];
    params.distinguished_name.push(DnType::CommonName, "forebay on loopback");
    let key = KeyPair::generate().when("a key")?;
    let authority = CertifiedIssuer::self_signed(params, key).when("an authority")?;
    fs::write(root.join("ca.pem"), authority.pem()).when("ca.pem")?;
    for directory in servers {
        let names = ["localhost".to_owned(), "127.0.0.1".to_owned()];
        let mut params = CertificateParams::new(names).when("a certificate")?;
        params.distinguished_name.push(DnType::CommonName, "nats");
        params.extended_key_usages =
            vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        let key = KeyPair::generate().when("a key")?;
        let certificate = params.signed_by(&key, &authority).when("a certificate")?;
        fs::write(directory.join("cert.pem"), certificate.pem()).when("cert.pem")?;
        let mut options = File::options();
        let file = options.write(true).create(true).truncate(true).mode(0o600);
        let mut file = file.open(directory.join("key.pem")).when("key.pem")?;
        file.write_all(key.serialize_pem().as_bytes()).when("key.pem")?;
    }
    Ok(())
}
