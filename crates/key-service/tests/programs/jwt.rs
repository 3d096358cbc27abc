//! Service account tokens made by hand, to have ones that the API server would never issue.

use anyhow::{Context as _, Result};
use aws_lc_rs::{
    rand::SystemRandom,
    signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair},
};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};

/// A token for the audience `key-service`, valid from `issued` to `expiry` (seconds since 1970), signed by a PEM key.
pub(crate) fn sign(
    key_pem: &str,
    account: &str,
    uid: &str,
    issued: i64,
    expiry: i64,
) -> Result<String> {
    let header = serde_json::json!({ "alg": "ES256", "typ": "JWT" });
    let claims = serde_json::json!({
        "iss": "https://kubernetes.default.svc.cluster.local",
        "aud": ["key-service"],
        "sub": format!("system:serviceaccount:kube-system:{account}"),
        "iat": issued, "nbf": issued, "exp": expiry,
        "kubernetes.io": { "namespace": "kube-system", "serviceaccount": { "name": account, "uid": uid } },
    });
    let part = |value: &serde_json::Value| URL_SAFE_NO_PAD.encode(value.to_string());
    let signed = format!("{}.{}", part(&header), part(&claims));
    let der = pem::parse(key_pem)?;
    let key = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, der.contents())
        .ok()
        .context("the key is no P-256 key")?;
    let signature = key
        .sign(&SystemRandom::new(), signed.as_bytes())
        .ok()
        .context("sign")?;
    Ok(format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature)))
}
