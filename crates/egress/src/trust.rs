//! Whose certificates are believed.

use std::path::Path;
use std::sync::Arc;

use hyper_rustls::ConfigBuilderExt;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use rustls::{ClientConfig, ConfigBuilder, RootCertStore, WantsVerifier};

/// Those of the system's authorities.
pub(crate) fn system() -> Result<Arc<ClientConfig>, String> {
    let config = versions()?.with_native_roots();
    let config = config.map_err(|why| format!("the system's trust roots cannot be read: {why}"))?;
    Ok(Arc::new(config.with_no_client_auth()))
}

/// Those of the authorities in a PEM file, and no others.
pub(crate) fn only(file: &Path) -> Result<Arc<ClientConfig>, String> {
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_file_iter(file).map_err(|why| why.to_string())? {
        let certificate = certificate.map_err(|why| why.to_string())?;
        roots.add(certificate).map_err(|why| why.to_string())?;
    }
    if roots.is_empty() {
        return Err("there is no certificate in it".to_owned());
    }
    Ok(Arc::new(versions()?.with_root_certificates(roots).with_no_client_auth()))
}

fn versions() -> Result<ConfigBuilder<ClientConfig, WantsVerifier>, String> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider);
    builder.with_safe_default_protocol_versions().map_err(|why| why.to_string())
}
