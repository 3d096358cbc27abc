//! The key service as seen from here: TLS to a certificate of the cluster's CA, and this service's own token.
//!
//! Keys become the type of their role at once and are kept nowhere.

use std::{
    io,
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use cluster::DiskUuid;
use hyper_util::rt::TokioIo;
use keys::{DiskKey, KeyId, LengthError, MeasurementSecret, SshCaSeed};
use proto::kms::{GetDataKeyRequest, api_client::ApiClient};
use rustls::{
    ClientConfig, RootCertStore,
    crypto::aws_lc_rs,
    pki_types::{CertificateDer, ServerName, pem::PemObject as _},
};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tonic::{
    Code, Request, Status,
    metadata::{Ascii, MetadataValue},
    transport::{Channel, Endpoint},
};
use zeroize::Zeroizing;

/// The name in the key service's certificate, whatever its address.
const NAME: &str = "key-service.kube-system.svc";
const CALL_DEADLINE: Duration = Duration::from_secs(10);
const ATTEMPTS: u32 = 3;
const KEY_LENGTH: u32 = 32;

#[derive(Debug, thiserror::Error)]
pub(crate) enum KeysError {
    #[error("read the cluster's CA from {0}")]
    Authority(PathBuf, #[source] rustls::pki_types::pem::Error),
    #[error("use the cluster's CA in {0}")]
    Roots(PathBuf, #[source] rustls::Error),
    #[error("set up TLS 1.3")]
    Tls(#[source] rustls::Error),
    #[error("read the token for the key service from {0}")]
    Token(PathBuf, #[source] io::Error),
    #[error("the token for the key service is no header value")]
    TokenForm,
    #[error("get the key {id} from the key service")]
    Call { id: KeyId, source: Box<Status> },
    #[error("the key service's answer for {id} is no key")]
    Length { id: KeyId, source: LengthError },
}

/// Asks the key service.
#[derive(Clone)]
pub(crate) struct Keys {
    client: ApiClient<Channel>,
    token: PathBuf,
}

impl Keys {
    /// Sets up the client; it connects at the first call, and again when the connection is lost.
    pub(crate) fn new(
        address: SocketAddr,
        token: PathBuf,
        authority: &Path,
    ) -> Result<Self, KeysError> {
        let connector = TlsConnector::from(Arc::new(client_config(authority)?));
        let connect = tower::service_fn(move |_| {
            let connector = connector.clone();
            async move {
                let stream = TcpStream::connect(address).await?;
                stream.set_nodelay(true)?;
                let name = ServerName::try_from(NAME).map_err(io::Error::other)?;
                connector.connect(name, stream).await.map(TokioIo::new)
            }
        });
        // The scheme is http because TLS is the connector's.
        let channel = Endpoint::from_static("http://key-service.kube-system.svc:9000")
            .connect_timeout(CALL_DEADLINE)
            .timeout(CALL_DEADLINE)
            .http2_keep_alive_interval(Duration::from_secs(20))
            .connect_with_connector_lazy(connect);
        Ok(Self {
            client: ApiClient::new(channel).max_decoding_message_size(1024),
            token,
        })
    }

    /// The secret from which the cluster's ID comes.
    pub(crate) async fn measurement_secret(&self) -> Result<MeasurementSecret, KeysError> {
        let id = KeyId::MeasurementSecret;
        MeasurementSecret::from_vec(self.get(id).await?)
            .map_err(|source| KeysError::Length { id, source })
    }

    /// The key of a state disk.
    pub(crate) async fn disk_key(&self, disk: DiskUuid) -> Result<DiskKey, KeysError> {
        let id = KeyId::Disk(disk.uuid());
        DiskKey::from_vec(self.get(id).await?).map_err(|source| KeysError::Length { id, source })
    }

    /// The seed of the SSH authority.
    pub(crate) async fn ssh_ca(&self) -> Result<SshCaSeed, KeysError> {
        let id = KeyId::SshCa;
        SshCaSeed::from_vec(self.get(id).await?).map_err(|source| KeysError::Length { id, source })
    }

    async fn get(&self, id: KeyId) -> Result<Vec<u8>, KeysError> {
        let mut attempt = 1;
        loop {
            match self.get_once(id).await {
                // The key service restarts, or asks the API server in vain: worth a second question.
                Err(KeysError::Call { source, .. })
                    if source.code() == Code::Unavailable && attempt < ATTEMPTS =>
                {
                    tokio::time::sleep(Duration::from_millis(300) * attempt).await;
                    attempt += 1;
                }
                outcome => return outcome,
            }
        }
    }

    async fn get_once(&self, id: KeyId) -> Result<Vec<u8>, KeysError> {
        let mut request = Request::new(GetDataKeyRequest {
            data_key_id: id.to_string(),
            length: KEY_LENGTH,
        });
        request
            .metadata_mut()
            .insert("authorization", self.authorization().await?);
        let answer = self
            .client
            .clone()
            .get_data_key(request)
            .await
            .map_err(|status| KeysError::Call {
                id,
                source: Box::new(status),
            })?;
        Ok(answer.into_inner().data_key)
    }

    async fn authorization(&self) -> Result<MetadataValue<Ascii>, KeysError> {
        let token = tokio::fs::read_to_string(&self.token)
            .await
            .map(Zeroizing::new)
            .map_err(|error| KeysError::Token(self.token.clone(), error))?;
        let header = Zeroizing::new(format!("Bearer {}", token.trim_end()));
        let mut value: MetadataValue<Ascii> = header.parse().map_err(|_| KeysError::TokenForm)?;
        value.set_sensitive(true);
        Ok(value)
    }
}

fn client_config(authority: &Path) -> Result<ClientConfig, KeysError> {
    let unreadable = |error| KeysError::Authority(authority.to_owned(), error);
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_file_iter(authority).map_err(unreadable)? {
        roots
            .add(certificate.map_err(unreadable)?)
            .map_err(|error| KeysError::Roots(authority.to_owned(), error))?;
    }
    let mut config = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_protocol_versions(&[&rustls::version::TLS13])
        .map_err(KeysError::Tls)?
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = vec![b"h2".to_vec()];
    Ok(config)
}
