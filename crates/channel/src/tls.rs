//! The TLS 1.3 session below the exchange: what is offered, with which key, and what must have come out of it.
//!
//! Only full handshakes: no ticket is made or kept, no PSK, no early data. Trust is not decided here (`exchange`), certificates
//! are looked at in `danger`. Model: steps 1 and 2 (`docs/attested-channel.md`).

use std::sync::Arc;

use rcgen::{CertificateParams, KeyPair, PKCS_ECDSA_P256_SHA256};
use rustls::{
    ClientConfig, CommonState, HandshakeKind, ProtocolVersion, ServerConfig,
    client::Resumption,
    crypto::{
        CryptoProvider,
        aws_lc_rs::{cipher_suite, default_provider, kx_group},
    },
    pki_types::{CertificateDer, PrivateKeyDer, ServerName},
    server::NoServerSessionStorage,
};
use thiserror::Error;
use tokio_rustls::TlsStream;

use crate::danger;

/// The protocol and its version, demanded on both sides.
pub(crate) const ALPN: &[u8] = b"constellation-attest/1";
const EXPORTER_LABEL: &[u8] = b"EXPORTER-constellation-attestation";

/// This process cannot make a TLS configuration.
#[derive(Debug, Error)]
pub enum SetupError {
    /// The key or its certificate could not be made.
    #[error("cannot make a key and certificate")]
    Certificate(#[source] rcgen::Error),
    /// rustls does not take the configuration.
    #[error("cannot make a TLS configuration")]
    Tls(#[source] rustls::Error),
}

/// A session that TLS itself accepted, but not this protocol.
#[derive(Debug, Error)]
pub enum SessionError {
    /// Something older, or nothing.
    #[error("the session is not TLS 1.3")]
    Version,
    /// The peer does not speak the attested channel, or another version of it.
    #[error("the peer did not agree on {}", String::from_utf8_lossy(ALPN))]
    Protocol,
    /// Keys of an earlier session went into this one.
    #[error("the session was resumed")]
    Resumed,
    /// A side that proves itself must have a certificate, another must not.
    #[error("the peer's certificate is missing or not wanted")]
    Certificate,
    /// The certificate holds no readable key.
    #[error("the peer's certificate cannot be read")]
    PublicKey(#[source] rustls::Error),
    /// TLS gives no keying material.
    #[error("cannot export keying material")]
    Exporter(#[source] rustls::Error),
}

/// A fresh key with its self-signed certificate. A server has one per start, an attesting client one per connection.
pub(crate) struct Identity {
    certificate: CertificateDer<'static>,
    key: PrivateKeyDer<'static>,
    public_key: Vec<u8>,
}

impl Identity {
    pub(crate) fn fresh() -> Result<Self, SetupError> {
        let key =
            KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).map_err(SetupError::Certificate)?;
        let certificate = CertificateParams::default()
            .self_signed(&key)
            .map_err(SetupError::Certificate)?;
        let certificate = certificate.der().clone();
        let public_key = danger::public_key(&certificate).map_err(SetupError::Tls)?;
        Ok(Self {
            certificate,
            key: PrivateKeyDer::Pkcs8(key.serialize_der().into()),
            public_key,
        })
    }

    /// `SubjectPublicKeyInfo`, DER.
    pub(crate) fn public_key(&self) -> &[u8] {
        &self.public_key
    }
}

/// One crypto library, TLS 1.3 suites only, the post-quantum hybrid first.
fn provider() -> Arc<CryptoProvider> {
    Arc::new(CryptoProvider {
        cipher_suites: vec![
            cipher_suite::TLS13_AES_256_GCM_SHA384,
            cipher_suite::TLS13_AES_128_GCM_SHA256,
            cipher_suite::TLS13_CHACHA20_POLY1305_SHA256,
        ],
        kx_groups: vec![
            kx_group::X25519MLKEM768,
            kx_group::X25519,
            kx_group::SECP256R1,
        ],
        ..default_provider()
    })
}

/// Whether the client of a session shows a certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ClientCertificate {
    Demanded,
    NotAsked,
}

pub(crate) fn server_config(
    identity: &Identity,
    client: ClientCertificate,
) -> Result<ServerConfig, SetupError> {
    let provider = provider();
    let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
        .with_protocol_versions(&[&rustls::version::TLS13])
        .map_err(SetupError::Tls)?;
    let builder = match client {
        ClientCertificate::Demanded => danger::expect_possession_by_client(builder, provider),
        ClientCertificate::NotAsked => builder.with_no_client_auth(),
    };
    let mut config = builder
        .with_single_cert(vec![identity.certificate.clone()], identity.key.clone_key())
        .map_err(SetupError::Tls)?;
    config.alpn_protocols = vec![ALPN.to_vec()];
    config.send_tls13_tickets = 0;
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.max_early_data_size = 0;
    Ok(config)
}

pub(crate) fn client_config(identity: Option<&Identity>) -> Result<ClientConfig, SetupError> {
    let provider = provider();
    let builder = ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_protocol_versions(&[&rustls::version::TLS13])
        .map_err(SetupError::Tls)?;
    let builder = danger::expect_possession_by_server(builder, provider);
    let mut config = match identity {
        Some(identity) => builder
            .with_client_auth_cert(vec![identity.certificate.clone()], identity.key.clone_key())
            .map_err(SetupError::Tls)?,
        None => builder.with_no_client_auth(),
    };
    config.alpn_protocols = vec![ALPN.to_vec()];
    config.resumption = Resumption::disabled();
    config.enable_early_data = false;
    // The name below is nobody's.
    config.enable_sni = false;
    Ok(config)
}

/// rustls wants a name; evidence decides who the server is.
pub(crate) fn server_name() -> ServerName<'static> {
    ServerName::IpAddress(std::net::Ipv4Addr::UNSPECIFIED.into())
}

/// What is demanded of every session after its handshake, whatever the configuration says. Gives the peer's public key, which
/// is there exactly if `certificate` says so.
pub(crate) fn check_session(
    state: &CommonState,
    certificate: ClientCertificate,
) -> Result<Option<Vec<u8>>, SessionError> {
    if state.protocol_version() != Some(ProtocolVersion::TLSv1_3) {
        return Err(SessionError::Version);
    }
    if state.alpn_protocol() != Some(ALPN) {
        return Err(SessionError::Protocol);
    }
    match state.handshake_kind() {
        Some(HandshakeKind::Full | HandshakeKind::FullWithHelloRetryRequest) => {}
        Some(HandshakeKind::Resumed) | None => return Err(SessionError::Resumed),
    }
    match (certificate, state.peer_certificates()) {
        (ClientCertificate::Demanded, Some([certificate])) => danger::public_key(certificate)
            .map(Some)
            .map_err(SessionError::PublicKey),
        (ClientCertificate::NotAsked, None) => Ok(None),
        _ => Err(SessionError::Certificate),
    }
}

/// 64 bytes that only the two ends of this session can compute; `transcript` is the context.
pub(crate) fn export<S>(
    stream: &TlsStream<S>,
    transcript: &[u8; 32],
) -> Result<[u8; 64], SessionError> {
    let exported = match stream {
        TlsStream::Client(stream) => {
            stream
                .get_ref()
                .1
                .export_keying_material([0; 64], EXPORTER_LABEL, Some(transcript))
        }
        TlsStream::Server(stream) => {
            stream
                .get_ref()
                .1
                .export_keying_material([0; 64], EXPORTER_LABEL, Some(transcript))
        }
    };
    exported.map_err(SessionError::Exporter)
}
