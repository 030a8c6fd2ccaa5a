//! Certificates that an operator made, in PEM files, read again when the files change.

use std::path::{Path, PathBuf};
use std::time::SystemTime;

use cos_platform::tls::{Certificate, Credentials, Trust};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

/// Where an operator's files are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GivenFiles {
    /// Whom to believe.
    pub ca: PathBuf,
    /// The own certificate and those between it and a root.
    pub certificate: PathBuf,
    /// Its key.
    pub key: PathBuf,
}

/// A file that cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("{}: {why}", path.display())]
pub struct FileError {
    path: PathBuf,
    why: String,
}

impl GivenFiles {
    /// Reads all three.
    pub fn read(&self) -> Result<Credentials, FileError> {
        Ok(Credentials {
            own: Some(self.certificate()?),
            trust: Trust::Roots(read_certificates(&self.ca)?),
            introduction: None,
        })
    }

    /// Reads the certificate with its key.
    pub fn certificate(&self) -> Result<Certificate, FileError> {
        let chain = read_certificates(&self.certificate)?;
        let key = PrivateKeyDer::from_pem_file(&self.key)
            .map_err(|error| FileError { path: self.key.clone(), why: error.to_string() })?;
        Ok(Certificate { chain, key })
    }

    /// When the files were last changed; two answers differ if one of them was.
    pub fn modified(&self) -> Vec<Option<SystemTime>> {
        let modified = |path: &PathBuf| std::fs::metadata(path).and_then(|m| m.modified()).ok();
        [&self.ca, &self.certificate, &self.key].map(modified).to_vec()
    }
}

/// Reads all certificates of a file.
pub fn read_certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, FileError> {
    let failed = |why: String| FileError { path: path.to_owned(), why };
    let read = CertificateDer::pem_file_iter(path).map_err(|error| failed(error.to_string()))?;
    let certificates: Vec<CertificateDer<'static>> =
        read.collect::<Result<_, _>>().map_err(|error| failed(error.to_string()))?;
    if certificates.is_empty() {
        return Err(failed("no certificate is in it".to_owned()));
    }
    Ok(certificates)
}
