//! Certificates that carry no trust: the one place in the project that replaces rustls' certificate verification.
//!
//! A peer's certificate is a container for a fresh public key. What TLS has to show is that the peer holds the private half
//! (`CertificateVerify`, checked by rustls' own code below) and nothing else; who the peer is comes from evidence bound to that
//! key and to the session, which the crate demands before a stream can be used (`exchange`). So there is no issuer, no name and
//! no validity time to check. TLS 1.2 signatures are refused outright, chains too, and any key but ECDSA P-256.
//!
//! Model: step 1 (`docs/attested-channel.md`).

use std::sync::Arc;

use rustls::{
    CertificateError, ConfigBuilder, DigitallySignedStruct, DistinguishedName, Error,
    PeerMisbehaved, SignatureScheme,
    client::{
        WantsClientCert,
        danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    },
    crypto::{CryptoProvider, verify_tls13_signature},
    pki_types::{CertificateDer, ServerName, UnixTime},
    server::{
        ParsedCertificate, WantsServerCert,
        danger::{ClientCertVerified, ClientCertVerifier},
    },
};

/// A certificate of this crate has about 300 bytes.
const MAX_CERTIFICATE: usize = 4096;
const SCHEME: SignatureScheme = SignatureScheme::ECDSA_NISTP256_SHA256;

/// Checks possession of the certificate's key and nothing else.
#[derive(Debug)]
struct PossessionOnly {
    provider: Arc<CryptoProvider>,
}

/// The next stage of a client configuration, whose server has to show possession of its certificate's key.
pub(crate) fn expect_possession_by_server(
    builder: ConfigBuilder<rustls::ClientConfig, rustls::WantsVerifier>,
    provider: Arc<CryptoProvider>,
) -> ConfigBuilder<rustls::ClientConfig, WantsClientCert> {
    builder
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(PossessionOnly { provider }))
}

/// The next stage of a server configuration, whose client must have a certificate and show possession of its key.
pub(crate) fn expect_possession_by_client(
    builder: ConfigBuilder<rustls::ServerConfig, rustls::WantsVerifier>,
    provider: Arc<CryptoProvider>,
) -> ConfigBuilder<rustls::ServerConfig, WantsServerCert> {
    builder.with_client_cert_verifier(Arc::new(PossessionOnly { provider }))
}

/// The public key of a certificate, as DER, found by the same parser that finds it for the signature check.
pub(crate) fn public_key(certificate: &CertificateDer<'_>) -> Result<Vec<u8>, Error> {
    if certificate.len() > MAX_CERTIFICATE {
        return Err(Error::InvalidCertificate(CertificateError::BadEncoding));
    }
    let parsed = ParsedCertificate::try_from(certificate)?;
    Ok(parsed.subject_public_key_info().as_ref().to_vec())
}

impl PossessionOnly {
    /// The form is checked here so that the handshake stops before a signature over a strange certificate is looked at.
    fn check_form(
        certificate: &CertificateDer<'_>,
        chain: &[CertificateDer<'_>],
    ) -> Result<(), Error> {
        if !chain.is_empty() {
            return Err(Error::InvalidCertificate(CertificateError::BadEncoding));
        }
        public_key(certificate).map(|_| ())
    }

    fn check_possession(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        if signature.scheme != SCHEME {
            return Err(PeerMisbehaved::SignedHandshakeWithUnadvertisedSigScheme.into());
        }
        verify_tls13_signature(
            message,
            certificate,
            signature,
            &self.provider.signature_verification_algorithms,
        )
    }
}

impl ServerCertVerifier for PossessionOnly {
    fn verify_server_cert(
        &self,
        certificate: &CertificateDer<'_>,
        chain: &[CertificateDer<'_>],
        _name: &ServerName<'_>,
        _ocsp: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Self::check_form(certificate, chain)?;
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _certificate: &CertificateDer<'_>,
        _signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Err(PeerMisbehaved::SignedHandshakeWithUnadvertisedSigScheme.into())
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.check_possession(message, certificate, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        vec![SCHEME]
    }
}

impl ClientCertVerifier for PossessionOnly {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        certificate: &CertificateDer<'_>,
        chain: &[CertificateDer<'_>],
        _now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        Self::check_form(certificate, chain)?;
        Ok(ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _certificate: &CertificateDer<'_>,
        _signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Err(PeerMisbehaved::SignedHandshakeWithUnadvertisedSigScheme.into())
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.check_possession(message, certificate, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        vec![SCHEME]
    }
}
