//! Both ends of TLS, each new connection with what lies on the disk at that moment, and chains checked at the time of the clock.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::{Arc, Mutex};

use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::rustls::pki_types::pem::PemObject as _;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use tokio_rustls::rustls::server::WebPkiClientVerifier;
use tokio_rustls::rustls::{ClientConfig, RootCertStore, ServerConfig};
use tokio_rustls::{TlsAcceptor, TlsConnector};

/// Certificates that were shown.
pub(super) type Seen = Arc<Mutex<BTreeSet<Vec<u8>>>>;

fn roots(authority: &Path) -> RootCertStore {
    let mut roots = RootCertStore::empty();
    roots
        .add(CertificateDer::from_pem_file(authority).unwrap())
        .unwrap();
    roots
}

/// A certificate and its key; read once more if a renewal was caught between its two renamings.
fn pair(stem: &Path) -> (Vec<CertificateDer<'static>>, PrivateKeyDer<'static>) {
    (
        vec![CertificateDer::from_pem_file(stem.with_extension("crt")).unwrap()],
        PrivateKeyDer::from_pem_file(stem.with_extension("key")).unwrap(),
    )
}

/// A new connection: the server's certificate must be of the authority and of now, and the answer to `GET path` a good one.
/// `identity` is the client's certificate without its extension.
pub(super) async fn get(
    address: SocketAddr,
    authority: &Path,
    identity: Option<&Path>,
    path: Option<&str>,
) -> Result<Vec<u8>, String> {
    let config = ClientConfig::builder().with_root_certificates(roots(authority));
    let config = match identity {
        Some(stem) => {
            let (chain, key) = pair(stem);
            config
                .with_client_auth_cert(chain, key)
                .map_err(|error| error.to_string())?
        }
        None => config.with_no_client_auth(),
    };
    let stream = TcpStream::connect(address)
        .await
        .map_err(|error| error.to_string())?;
    let name = ServerName::from(address.ip());
    let mut stream = TlsConnector::from(Arc::new(config))
        .connect(name, stream)
        .await
        .map_err(|error| format!("handshake with {address}: {error}"))?;
    let shown = stream.get_ref().1.peer_certificates().unwrap()[0].to_vec();
    if let Some(path) = path {
        let request = format!("GET {path} HTTP/1.1\r\nhost: test\r\nconnection: close\r\n\r\n");
        stream
            .write_all(request.as_bytes())
            .await
            .map_err(|error| error.to_string())?;
        let head = head(&mut stream)
            .await
            .map_err(|error| format!("{address}{path}: {error}"))?;
        if !head.starts_with("HTTP/1.1 200") {
            return Err(format!("{address}{path}: {head}"));
        }
    }
    Ok(shown)
}

/// Until the end of the header.
async fn head(stream: &mut (impl AsyncRead + Unpin)) -> std::io::Result<String> {
    let mut text = Vec::new();
    while !text.windows(4).any(|end| end == b"\r\n\r\n") {
        let mut bytes = [0; 1024];
        let count = stream.read(&mut bytes).await?;
        if count == 0 {
            break;
        }
        text.extend_from_slice(&bytes[..count]);
    }
    Ok(String::from_utf8_lossy(&text).into_owned())
}

/// What the API server connects to: takes clients of `authority` whose certificate is valid now, answers everything with 200, and
/// ends each connection, so that each request shows a certificate anew.
pub(super) async fn serve(
    authority: &Path,
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
) -> (SocketAddr, Seen) {
    let verifier = WebPkiClientVerifier::builder(Arc::new(roots(authority)))
        .build()
        .unwrap();
    let config = ServerConfig::builder()
        .with_client_cert_verifier(verifier)
        .with_single_cert(chain, key)
        .unwrap();
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let seen = Seen::default();
    let record = Arc::clone(&seen);
    tokio::spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            let (acceptor, record) = (acceptor.clone(), Arc::clone(&record));
            tokio::spawn(async move {
                // who is refused gets no answer, which the API server reports to whoever asked it
                if let Ok(mut stream) = acceptor.accept(stream).await {
                    let shown = stream.get_ref().1.peer_certificates().unwrap()[0].to_vec();
                    record.lock().unwrap().insert(shown);
                    let _hung_up = answer(&mut stream).await;
                }
            });
        }
    });
    (address, seen)
}

async fn answer(stream: &mut (impl AsyncRead + AsyncWrite + Unpin)) -> std::io::Result<()> {
    head(stream).await?;
    let answer = "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 2\r\nconnection: close\r\n\r\n{}";
    stream.write_all(answer.as_bytes()).await?;
    stream.shutdown().await
}
