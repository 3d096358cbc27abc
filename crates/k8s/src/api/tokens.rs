//! Bootstrap tokens: the short-lived credential with which a joining kubelet asks for its certificate.
//!
//! A token belongs to one node, whose record names it: a request by it for another node is refused. It lets its bearer ask for a
//! certificate and nothing else, lives as long as a join may take, and is deleted once the node uses its certificate.

use aws_lc_rs::rand;
use cluster::{NodeName, plan::DEADLINE};
use jiff::Timestamp;
use k8s_openapi::{ByteString, api::core::v1::Secret};
use kube::{
    Api, Client,
    api::{DeleteParams, ObjectMeta, PostParams},
};

use super::{ApiError, FIELD_MANAGER, NAMESPACE, request};
use crate::files::SecretText;

/// The group its bearer is in.
pub const GROUP: &str = "system:bootstrappers:constellation";
/// Its bearer's user name is this and the token's id.
pub const USER_PREFIX: &str = "system:bootstrap:";
const TYPE: &str = "bootstrap.kubernetes.io/token";
const ALPHABET: &[u8; 36] = b"0123456789abcdefghijklmnopqrstuvwxyz";

/// A token: a public id, and a secret.
pub struct Token {
    id: String,
    text: SecretText,
}

impl Token {
    fn generate() -> Result<Self, ApiError> {
        let (id, secret) = (random_text(6)?, random_text(16)?);
        let text = SecretText::new(format!("{id}.{secret}"));
        Ok(Self { id, text })
    }

    /// The public part, which names it.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// `id.secret`, for the ticket.
    pub const fn text(&self) -> &SecretText {
        &self.text
    }
}

impl std::fmt::Debug for Token {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Token")
            .field("id", &self.id)
            .finish_non_exhaustive()
    }
}

/// Characters of the alphabet, each as likely as any other.
fn random_text(length: usize) -> Result<String, ApiError> {
    let mut text = String::with_capacity(length);
    while text.len() < length {
        let mut byte = [0];
        rand::fill(&mut byte).map_err(|_| ApiError::Random)?;
        // 252 is the largest multiple of 36 in a byte
        if byte[0] < 252 {
            text.push(char::from(ALPHABET[usize::from(byte[0]) % ALPHABET.len()]));
        }
    }
    Ok(text)
}

/// Makes a token for one node. What binds it to the node is the node's record, which the caller writes.
pub async fn create(client: &Client, node: &NodeName, now: Timestamp) -> Result<Token, ApiError> {
    let token = Token::generate()?;
    let secret_part = token
        .text
        .expose()
        .split_once('.')
        .map_or("", |(_, secret)| secret);
    let expiration = now
        .saturating_add(DEADLINE)
        .unwrap_or(now)
        .strftime("%Y-%m-%dT%H:%M:%SZ")
        .to_string();
    let data = [
        ("token-id", token.id.as_str()),
        ("token-secret", secret_part),
        ("expiration", expiration.as_str()),
        ("usage-bootstrap-authentication", "true"),
        ("auth-extra-groups", GROUP),
    ];
    let secret = Secret {
        metadata: ObjectMeta {
            name: Some(object_name(&token.id)),
            namespace: Some(NAMESPACE.to_owned()),
            ..ObjectMeta::default()
        },
        type_: Some(TYPE.to_owned()),
        data: Some(
            data.map(|(key, value)| (key.to_owned(), ByteString(value.as_bytes().to_vec())))
                .into(),
        ),
        ..Secret::default()
    };
    let params = PostParams {
        field_manager: Some(FIELD_MANAGER.to_owned()),
        ..PostParams::default()
    };
    api(client)
        .create(&params, &secret)
        .await
        .map_err(request(format!("create the bootstrap token of {node}")))?;
    Ok(token)
}

/// Deletes a token; one that is gone already is as good.
pub async fn delete(client: &Client, id: &str) -> Result<(), ApiError> {
    match api(client)
        .delete(&object_name(id), &DeleteParams::default())
        .await
    {
        Ok(_) => Ok(()),
        Err(kube::Error::Api(status)) if status.is_not_found() => Ok(()),
        Err(source) => Err(request(format!("delete the bootstrap token {id}"))(source)),
    }
}

fn object_name(id: &str) -> String {
    format!("bootstrap-token-{id}")
}

fn api(client: &Client) -> Api<Secret> {
    Api::namespaced(client.clone(), NAMESPACE)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_have_kubernetes_form_and_do_not_print() {
        let token = Token::generate().unwrap();
        let (id, secret) = token.text().expose().split_once('.').unwrap();
        assert_eq!((id, id.len(), secret.len()), (token.id(), 6, 16));
        assert!(
            format!("{id}{secret}")
                .bytes()
                .all(|byte| ALPHABET.contains(&byte))
        );
        assert!(!format!("{token:?}").contains(secret));
        assert_ne!(
            Token::generate().unwrap().text().expose(),
            token.text().expose()
        );
    }
}
