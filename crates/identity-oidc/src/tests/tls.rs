//! Issuers behind TLS, with certificates made on the spot.

use rustls::ServerConfig;
use rustls::pki_types::PrivateKeyDer;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

use super::*;

struct Authority {
    issuer: rcgen::CertifiedIssuer<'static, rcgen::KeyPair>,
    file: tempfile::NamedTempFile,
}

fn authority() -> Authority {
    let mut params = rcgen::CertificateParams::default();
    params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    let key = rcgen::KeyPair::generate().expect("a key");
    let issuer = rcgen::CertifiedIssuer::self_signed(params, key).expect("an authority");
    let file = tempfile::NamedTempFile::new().expect("a file");
    std::fs::write(file.path(), issuer.pem()).expect("written");
    Authority { issuer, file }
}

/// Serves one body at every path, under a certificate for `name`. Its address is that of `localhost`.
async fn serve(
    authority: &Authority,
    name: &str,
    body: impl Fn(&str) -> Value + Send + Sync + 'static,
) -> String {
    let key = rcgen::KeyPair::generate().expect("a key");
    let params = rcgen::CertificateParams::new(vec![name.to_owned()]).expect("a name");
    let certificate = params.signed_by(&key, &authority.issuer).expect("a certificate");
    let key = PrivateKeyDer::try_from(key.serialize_der()).expect("a key");
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_no_client_auth()
        .with_single_cert(vec![certificate.der().clone()], key)
        .expect("a certificate");
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = format!("https://localhost:{}", listener.local_addr().expect("an address").port());
    let own = address.clone();
    tokio::spawn(async move {
        while let Ok((socket, _)) = listener.accept().await {
            let Ok(mut stream) = acceptor.accept(socket).await else { continue };
            let mut head = vec![0; 4096];
            let read = stream.read(&mut head).await.unwrap_or(0);
            let discovers = String::from_utf8_lossy(&head[..read]).contains("openid-configuration");
            let body = if discovers {
                json!({"issuer": own, "jwks_uri": format!("{own}/keys")})
            } else {
                body(&own)
            };
            let body = body.to_string();
            let answer = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{body}", body.len());
            let _ = stream.write_all(answer.as_bytes()).await;
            let _ = stream.shutdown().await;
        }
    });
    address
}

async fn fetched(address: &str, authority: Option<&Authority>) -> Result<usize, String> {
    let ca_file = authority.map(|authority| authority.file.path().to_owned());
    probe(&OidcIssuer { ca_file, ..settings(address) }).await
}

#[tokio::test]
async fn keys_come_over_tls_from_whom_the_operator_trusts_and_from_nobody_else() {
    let (good, other, signer) = (authority(), authority(), Signer::p256());
    let keys = json!({"keys": [signer.jwk()]});
    let (of_good, misnamed) = (keys.clone(), keys);
    let address = serve(&good, "localhost", move |_| of_good.clone()).await;
    assert_eq!(fetched(&address, Some(&good)).await, Ok(1));
    for stranger in [Some(&other), None] {
        let why = fetched(&address, stranger).await.expect_err("not trusted");
        assert!(why.contains("TLS failed"), "{why}");
    }
    let address = serve(&good, "elsewhere.example", move |_| misnamed.clone()).await;
    let why = fetched(&address, Some(&good)).await.expect_err("another name");
    assert!(why.contains("TLS failed"), "{why}");
}
