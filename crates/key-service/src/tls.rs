//! TLS to the key service: a certificate that can be renewed under a running process, and connections as tonic wants them.
//!
//! TLS 1.3 only. The client proves itself inside, with its token; the certificate only proves the service.

use std::{
    io,
    net::SocketAddr,
    path::{Path, PathBuf},
    pin::Pin,
    sync::{Arc, PoisonError, RwLock},
    task::{Context, Poll},
    time::Duration,
};

use runtime::{BoundedListener, Condition};
use rustls::{
    ServerConfig,
    crypto::aws_lc_rs,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _},
    server::{ClientHello, ResolvesServerCert},
    sign::CertifiedKey,
};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpListener,
    sync::mpsc,
};
use tokio_rustls::{TlsAcceptor, server::TlsStream};
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::server::Connected;

/// How often the files are looked at. The node renews them hours before they end.
const LOOK_EVERY: Duration = Duration::from_secs(30);
const HANDSHAKE_DEADLINE: Duration = Duration::from_secs(10);
/// Connections in all, and from one address; unfinished handshakes included.
const CONNECTIONS: usize = 256;
const CONNECTIONS_PER_SOURCE: usize = 16;

#[derive(Debug, thiserror::Error)]
pub(crate) enum TlsError {
    #[error("read {0}")]
    Read(PathBuf, #[source] rustls::pki_types::pem::Error),
    #[error("{0} holds no certificate")]
    Empty(PathBuf),
    #[error("the certificate and the key in {0} do not belong together")]
    Pair(PathBuf, #[source] rustls::Error),
    #[error("set up TLS 1.3")]
    Config(#[source] rustls::Error),
}

/// The server's certificate and key; clones share what is current.
#[derive(Clone)]
pub(crate) struct Certificate {
    directory: PathBuf,
    current: Arc<RwLock<Arc<CertifiedKey>>>,
}

impl Certificate {
    pub(crate) fn load(directory: &Path) -> Result<Self, TlsError> {
        Ok(Self {
            directory: directory.to_owned(),
            current: Arc::new(RwLock::new(Arc::new(read(directory)?))),
        })
    }

    /// Looks for renewed files in the background. A bad pair (the renewal is half done) leaves the good one in place.
    pub(crate) fn keep_fresh(self, condition: Condition) {
        condition.met();
        tokio::spawn(async move {
            loop {
                tokio::time::sleep(LOOK_EVERY).await;
                match self.refresh() {
                    Ok(false) => condition.met(),
                    Ok(true) => {
                        condition.met();
                        tracing::info!("the server certificate was renewed");
                    }
                    Err(error) => {
                        let error = runtime::chain(&error).to_string();
                        tracing::warn!(error, "cannot read the renewed server certificate");
                        condition.missing(error);
                    }
                }
            }
        });
    }

    /// Reads the files; true when they hold another certificate than before.
    fn refresh(&self) -> Result<bool, TlsError> {
        let new = read(&self.directory)?;
        let mut current = self.current.write().unwrap_or_else(PoisonError::into_inner);
        let changed = current.cert != new.cert;
        if changed {
            *current = Arc::new(new);
        }
        Ok(changed)
    }
}

impl std::fmt::Debug for Certificate {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Certificate({})", self.directory.display())
    }
}

impl ResolvesServerCert for Certificate {
    fn resolve(&self, _hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(
            self.current
                .read()
                .unwrap_or_else(PoisonError::into_inner)
                .clone(),
        )
    }
}

fn read(directory: &Path) -> Result<CertifiedKey, TlsError> {
    let path = directory.join("tls.crt");
    let failed = |error| TlsError::Read(path.clone(), error);
    let chain = CertificateDer::pem_file_iter(&path)
        .map_err(failed)?
        .collect::<Result<Vec<_>, _>>()
        .map_err(failed)?;
    if chain.is_empty() {
        return Err(TlsError::Empty(path));
    }
    let path = directory.join("tls.key");
    let key = PrivateKeyDer::from_pem_file(&path).map_err(|error| TlsError::Read(path, error))?;
    CertifiedKey::from_der(chain, key, &aws_lc_rs::default_provider())
        .map_err(|error| TlsError::Pair(directory.to_owned(), error))
}

/// The connections whose handshake is done, until `shutdown`.
pub(crate) fn incoming(
    listener: TcpListener,
    certificate: Certificate,
    shutdown: tokio_util::sync::CancellationToken,
) -> Result<ReceiverStream<io::Result<Connection>>, TlsError> {
    let mut config = ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_protocol_versions(&[&rustls::version::TLS13])
        .map_err(TlsError::Config)?
        .with_no_client_auth()
        .with_cert_resolver(Arc::new(certificate));
    config.alpn_protocols = vec![b"h2".to_vec()];
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let (done, connections) = mpsc::channel(1);
    tokio::spawn(accept(listener, acceptor, done, shutdown));
    Ok(ReceiverStream::new(connections))
}

async fn accept(
    listener: TcpListener,
    acceptor: TlsAcceptor,
    done: mpsc::Sender<io::Result<Connection>>,
    shutdown: tokio_util::sync::CancellationToken,
) {
    let listener = BoundedListener::new(listener, CONNECTIONS, CONNECTIONS_PER_SOURCE);
    loop {
        let (stream, peer) = tokio::select! {
            accepted = listener.accept() => accepted,
            () = shutdown.cancelled() => return,
        };
        let (acceptor, done) = (acceptor.clone(), done.clone());
        tokio::spawn(async move {
            match tokio::time::timeout(HANDSHAKE_DEADLINE, acceptor.accept(stream)).await {
                Ok(Ok(stream)) => {
                    // The receiver is gone only while the server stops.
                    let _stopping = done.send(Ok(Connection { stream, peer })).await;
                }
                Ok(Err(error)) => {
                    tracing::debug!(%peer, error = %runtime::chain(&error), "TLS handshake failed")
                }
                Err(_) => tracing::debug!(%peer, "TLS handshake was too slow"),
            }
        });
    }
}

/// A connection whose TLS handshake is done.
pub(crate) struct Connection {
    stream: TlsStream<runtime::Connection>,
    peer: SocketAddr,
}

/// The other end's address, for the audit event.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Peer(pub(crate) SocketAddr);

impl Connected for Connection {
    type ConnectInfo = Peer;

    fn connect_info(&self) -> Peer {
        Peer(self.peer)
    }
}

impl AsyncRead for Connection {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl AsyncWrite for Connection {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, buffer)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn write_pair(directory: &Path) -> Vec<u8> {
        let pair = rcgen::generate_simple_self_signed(["key-service".to_owned()]).unwrap();
        std::fs::write(directory.join("tls.crt"), pair.cert.pem()).unwrap();
        std::fs::write(directory.join("tls.key"), pair.signing_key.serialize_pem()).unwrap();
        pair.cert.der().to_vec()
    }

    fn current(certificate: &Certificate) -> Vec<u8> {
        certificate
            .current
            .read()
            .unwrap()
            .cert
            .first()
            .unwrap()
            .to_vec()
    }

    #[test]
    fn takes_a_renewed_pair_and_keeps_the_old_one_while_the_new_is_half_written() {
        let directory = tempfile::tempdir().unwrap();
        let first = write_pair(directory.path());
        let certificate = Certificate::load(directory.path()).unwrap();
        assert_eq!(current(&certificate), first);
        assert!(!certificate.refresh().unwrap());

        let second = write_pair(directory.path());
        assert!(certificate.refresh().unwrap());
        assert_eq!(current(&certificate), second);

        let other = rcgen::generate_simple_self_signed(["key-service".to_owned()]).unwrap();
        std::fs::write(directory.path().join("tls.crt"), other.cert.pem()).unwrap();
        assert!(matches!(certificate.refresh(), Err(TlsError::Pair(..))));
        assert_eq!(current(&certificate), second);
    }

    #[tokio::test]
    async fn a_peer_that_holds_connections_does_not_keep_others_out() {
        let directory = tempfile::tempdir().unwrap();
        write_pair(directory.path());
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let certificate = Certificate::load(directory.path()).unwrap();
        let shutdown = tokio_util::sync::CancellationToken::new();
        let _end = shutdown.clone().drop_guard();
        let mut connections = incoming(listener, certificate, shutdown).unwrap();
        let mut silent = Vec::new();
        for _ in 0..CONNECTIONS {
            silent.push(tokio::net::TcpStream::connect(address).await.unwrap());
        }

        // Another address of this host gets its handshake before any of those comes to its deadline.
        let socket = tokio::net::TcpSocket::new_v4().unwrap();
        socket.bind("127.0.0.2:0".parse().unwrap()).unwrap();
        let stream = socket.connect(address).await.unwrap();
        let authority = CertificateDer::from_pem_file(directory.path().join("tls.crt")).unwrap();
        let mut roots = rustls::RootCertStore::empty();
        roots.add(authority).unwrap();
        let mut config = rustls::ClientConfig::builder()
            .with_root_certificates(roots)
            .with_no_client_auth();
        config.alpn_protocols = vec![b"h2".to_vec()];
        let connector = tokio_rustls::TlsConnector::from(Arc::new(config));
        let name = rustls::pki_types::ServerName::try_from("key-service").unwrap();
        let handshake = connector.connect(name, stream);
        let (client, served) = tokio::time::timeout(HANDSHAKE_DEADLINE / 2, async {
            tokio::join!(handshake, tokio_stream::StreamExt::next(&mut connections))
        })
        .await
        .unwrap();
        client.unwrap();
        let peer = served.unwrap().unwrap().peer;
        assert_eq!(peer.ip().to_string(), "127.0.0.2");
    }

    #[test]
    fn an_empty_certificate_file_is_an_error() {
        let directory = tempfile::tempdir().unwrap();
        write_pair(directory.path());
        std::fs::write(directory.path().join("tls.crt"), "").unwrap();
        assert!(matches!(
            Certificate::load(directory.path()),
            Err(TlsError::Empty(_))
        ));
    }
}
