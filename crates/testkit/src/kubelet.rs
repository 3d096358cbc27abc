//! What a kubelet asks the API for.

use anyhow::Result;
use k8s_openapi::ByteString;
use k8s_openapi::api::certificates::v1::{
    CertificateSigningRequest, CertificateSigningRequestSpec,
};
use kube::api::ObjectMeta;
use rcgen::{CertificateParams, DistinguishedName, DnType, KeyPair, SanType};

/// Who signs the certificate by which a kubelet is the API's client.
pub const CLIENT: &str = "kubernetes.io/kube-apiserver-client-kubelet";
/// Who signs the certificate of a kubelet's own server.
pub const SERVING: &str = "kubernetes.io/kubelet-serving";

/// A request called `name` for a certificate of `node`'s kubelet from `signer`, and the key that it is for.
///
/// # Errors
/// When the request cannot be encoded.
pub fn certificate_request(
    name: &str,
    node: &str,
    signer: &str,
    alternative_names: &[SanType],
) -> Result<(CertificateSigningRequest, KeyPair)> {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    for (kind, value) in [
        (DnType::OrganizationName, "system:nodes".to_owned()),
        (DnType::CommonName, format!("system:node:{node}")),
    ] {
        params.distinguished_name.push(kind, value);
    }
    params.subject_alt_names = alternative_names.to_vec();
    let key = KeyPair::generate()?;
    let pem = params.serialize_request(&key)?.pem()?;
    let purpose = if signer == SERVING {
        "server auth"
    } else {
        "client auth"
    };
    // the signers of old versions want all three
    let usages = ["digital signature", "key encipherment", purpose];
    let request = CertificateSigningRequest {
        metadata: ObjectMeta {
            name: Some(name.to_owned()),
            ..ObjectMeta::default()
        },
        spec: CertificateSigningRequestSpec {
            request: ByteString(pem.into_bytes()),
            signer_name: signer.to_owned(),
            usages: Some(usages.map(str::to_owned).to_vec()),
            ..CertificateSigningRequestSpec::default()
        },
        status: None,
    };
    Ok((request, key))
}
