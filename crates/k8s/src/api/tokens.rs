//! Bootstrap tokens: the short-lived credential with which a joining kubelet asks for its certificate.
//!
//! A token belongs to one node, named in an annotation: a request by it for another node is refused. It lives a quarter of an hour,
//! lets its bearer ask for a certificate and nothing else, and is deleted once the node uses its certificate (`csr`).

use std::collections::BTreeMap;

use aws_lc_rs::rand;
use cluster::NodeName;
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::{ByteString, api::core::v1::Secret};
use kube::{
    Api, Client,
    api::{DeleteParams, ListParams, ObjectMeta, PostParams},
};

use super::{ApiError, FIELD_MANAGER, NAMESPACE, request};
use crate::files::SecretText;

/// Life of a token.
pub const LIFETIME: SignedDuration = SignedDuration::from_mins(15);
/// The group its bearer is in.
pub const GROUP: &str = "system:bootstrappers:constellation";
/// Its bearer's user name is this and the token's id.
pub const USER_PREFIX: &str = "system:bootstrap:";
/// Names the node that a token is for.
pub const NODE_ANNOTATION: &str = "constellation.edgeless.systems/node-name";
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

/// Makes a token for one node.
pub async fn create(client: &Client, node: &NodeName, now: Timestamp) -> Result<Token, ApiError> {
    let token = Token::generate()?;
    let secret_part = token
        .text
        .expose()
        .split_once('.')
        .map_or("", |(_, secret)| secret);
    let expiration = now
        .saturating_add(LIFETIME)
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
            annotations: Some([(NODE_ANNOTATION.to_owned(), node.to_string())].into()),
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

/// The nodes of all tokens, by the tokens' ids.
pub async fn nodes_by_id(client: &Client) -> Result<BTreeMap<String, NodeName>, ApiError> {
    let params = ListParams::default().fields(&format!("type={TYPE}"));
    let secrets = api(client)
        .list(&params)
        .await
        .map_err(request("list bootstrap tokens"))?;
    let entry = |secret: Secret| {
        let id = secret
            .metadata
            .name?
            .strip_prefix(OBJECT_PREFIX)?
            .to_owned();
        let node = secret
            .metadata
            .annotations?
            .remove(NODE_ANNOTATION)?
            .parse()
            .ok()?;
        Some((id, node))
    };
    Ok(secrets.into_iter().filter_map(entry).collect())
}

/// Deletes the tokens of a node: the one it joined with, and any it never used.
pub async fn delete_for(client: &Client, node: &NodeName) -> Result<(), ApiError> {
    for (id, owner) in nodes_by_id(client).await? {
        if &owner == node {
            match api(client)
                .delete(&object_name(&id), &DeleteParams::default())
                .await
            {
                Ok(_) => {}
                Err(kube::Error::Api(status)) if status.code == 404 => {}
                Err(source) => {
                    return Err(request(format!("delete the bootstrap token of {node}"))(
                        source,
                    ));
                }
            }
        }
    }
    Ok(())
}

const OBJECT_PREFIX: &str = "bootstrap-token-";

fn object_name(id: &str) -> String {
    format!("{OBJECT_PREFIX}{id}")
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
