//! Acts on decisions as the join service does, so that this crate's tests need no other program.

use anyhow::Result;
use jiff::Timestamp;
use k8s::api::{
    csr::{Decision, Facts, Purpose, decide},
    records, tokens,
};
use k8s_openapi::api::certificates::v1::CertificateSigningRequest;
use kube::{
    Api, Client,
    api::{ListParams, Patch, PatchParams},
};
use serde_json::json;

/// Decides about every open request of a kubelet, and says what became of each.
pub(crate) async fn settle(client: &Client, now: Timestamp) -> Result<Vec<(String, Decision)>> {
    let api: Api<CertificateSigningRequest> = Api::all(client.clone());
    let all = api.list(&ListParams::default()).await?.items;
    let (open, settled): (Vec<_>, Vec<_>) = all
        .into_iter()
        .partition(|csr| conditions(csr).next().is_none());
    let mut facts = Facts {
        identities: records::node_identities(client)
            .await?
            .into_iter()
            .map(|identity| (identity.name.clone(), identity))
            .collect(),
        tokens: tokens::nodes_by_id(client).await?,
        used_tokens: settled
            .iter()
            .filter(|csr| conditions(csr).any(|kind| kind == "Approved"))
            .filter_map(token_of)
            .collect(),
    };
    let mut decisions = Vec::new();
    for csr in open {
        let name = csr.metadata.name.clone().unwrap_or_default();
        let decision = decide(&csr.spec, &facts);
        let (kind, message) = match &decision {
            Decision::NotOurs => continue,
            Decision::Deny(denial) => ("Denied", denial.to_string()),
            Decision::Approve(approval) => {
                facts.used_tokens.extend(token_of(&csr));
                if approval.purpose != Purpose::FirstClient {
                    // it asks with its own certificate: the token has done its work
                    tokens::delete_for(client, &approval.node).await?;
                }
                ("Approved", approval.node.to_string())
            }
        };
        let condition = json!({
            "type": kind, "status": "True", "reason": "Test", "message": message,
            "lastUpdateTime": now.strftime("%Y-%m-%dT%H:%M:%SZ").to_string(),
        });
        let patch = Patch::Merge(json!({ "status": { "conditions": [condition] } }));
        api.patch_approval(&name, &PatchParams::default(), &patch)
            .await?;
        decisions.push((name, decision));
    }
    Ok(decisions)
}

fn conditions(csr: &CertificateSigningRequest) -> impl Iterator<Item = &str> {
    csr.status
        .iter()
        .flat_map(|status| status.conditions.iter().flatten())
        .map(|condition| condition.type_.as_str())
}

fn token_of(csr: &CertificateSigningRequest) -> Option<String> {
    csr.spec
        .username
        .as_deref()?
        .strip_prefix(tokens::USER_PREFIX)
        .map(str::to_owned)
}
