//! A certification authority, and the certificates that it issues.

use std::fs;
use std::path::PathBuf;

use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, date_time_ymd};
use tempfile::TempDir;

/// An authority that no system knows.
pub struct Authority {
    issuer: Issuer<'static, KeyPair>,
    folder: TempDir,
}

/// The files of a certificate, which exist as long as its authority.
#[derive(Clone, Debug)]
pub struct Issued {
    /// The certificate.
    pub certificate: String,
    /// Its key.
    pub key: String,
}

impl Authority {
    /// Creates an authority with a name.
    ///
    /// # Panics
    ///
    /// If that fails.
    pub fn new(name: &str) -> Authority {
        let mut params = CertificateParams::new(Vec::new()).expect("no names");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(DnType::CommonName, name);
        let key = KeyPair::generate().expect("a key");
        let certificate = params.self_signed(&key).expect("a certificate");
        let folder = tempfile::tempdir().expect("a folder");
        fs::write(folder.path().join(FILE), certificate.pem()).expect("a file");
        Authority { issuer: Issuer::new(params, key), folder }
    }

    /// Returns the file with its certificate.
    pub fn file(&self) -> String {
        shown(self.folder.path().join(FILE))
    }

    /// Issues a certificate for these names and addresses.
    ///
    /// # Panics
    ///
    /// If that fails.
    pub fn issue(&self, names: &[&str]) -> Issued {
        self.write(params(names))
    }

    /// Issues a certificate that has expired.
    ///
    /// # Panics
    ///
    /// If that fails.
    pub fn issue_expired(&self, names: &[&str]) -> Issued {
        let mut params = params(names);
        (params.not_before, params.not_after) = (date_time_ymd(2020, 1, 1), date_time_ymd(2021, 1, 1));
        self.write(params)
    }

    fn write(&self, params: CertificateParams) -> Issued {
        let key = KeyPair::generate().expect("a key");
        let certificate = params.signed_by(&key, &self.issuer).expect("a certificate");
        // The name of the files is as unique as the key.
        let name: String = key.public_key_raw().iter().take(12).map(|byte| format!("{byte:02x}")).collect();
        let write = |ending: &str, text: String| {
            let path = self.folder.path().join(format!("{name}.{ending}"));
            fs::write(&path, text).expect("a file");
            shown(path)
        };
        Issued { certificate: write("crt", certificate.pem()), key: write("key", key.serialize_pem()) }
    }
}

impl std::fmt::Debug for Authority {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Authority").field("folder", &self.folder).finish_non_exhaustive()
    }
}

fn params(names: &[&str]) -> CertificateParams {
    CertificateParams::new(names.iter().map(|&name| name.to_owned()).collect::<Vec<_>>()).expect("names")
}

fn shown(path: PathBuf) -> String {
    path.to_str().expect("a path in UTF-8").to_owned()
}

const FILE: &str = "authority.crt";
