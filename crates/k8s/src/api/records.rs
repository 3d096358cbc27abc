//! Objects in which the cluster keeps what it is made of: component list, node identities, labels.

use cluster::{
    NodeName, Role,
    catalogue::{COMPONENTS_KEY, Components, VERSION_KEY},
    identity,
    kubernetes::Version,
};
use k8s_openapi::{
    ByteString,
    api::core::v1::{ConfigMap, Node, Pod, Secret},
};
use keys::backup::BackupKeyVerifier;
use kube::{
    Api, Client, ResourceExt as _,
    api::{DeleteParams, ListParams, ObjectMeta, Patch, PatchParams, PostParams, Preconditions},
};
use serde_json::json;

use super::{ApiError, FIELD_MANAGER, NAMESPACE, request};
use crate::identities::{self, NodeIdentity};

/// The Secret with the hash of the key of backups.
const BACKUP_SECRET: &str = "constellation-backup";
const BACKUP_HASH: &str = "sha256";

/// Writes the component list, immutable and named by its digest. Returns the ConfigMap's name.
pub async fn put_components(
    client: &Client,
    components: &Components,
    version: Version,
) -> Result<String, ApiError> {
    let name = components.config_map_name();
    let list = serde_json::to_string(components).map_err(|source| ApiError::Encode {
        what: "the component list",
        source,
    })?;
    let map = ConfigMap {
        metadata: meta(&name),
        immutable: Some(true),
        data: Some(
            [
                (COMPONENTS_KEY.to_owned(), list),
                (VERSION_KEY.to_owned(), version.to_string()),
            ]
            .into(),
        ),
        ..ConfigMap::default()
    };
    match config_maps(client)
        .create(&PostParams::default(), &map)
        .await
    {
        Ok(_) => Ok(name),
        // named by content: what is there is the same
        Err(kube::Error::Api(status)) if status.code == 409 => Ok(name),
        Err(source) => Err(request("write the component list")(source)),
    }
}

/// Records a node. Replaces what was recorded under this name.
pub async fn put_node_identity(
    client: &Client,
    identity: &identity::NodeIdentity,
) -> Result<(), ApiError> {
    let record = NodeIdentity::from_identity(identity);
    let params = PatchParams::apply(FIELD_MANAGER).force();
    let api: Api<NodeIdentity> = identities::api(client.clone());
    api.patch(identity.name.as_str(), &params, &Patch::Apply(&record))
        .await
        .map_err(request(format!("record node {}", identity.name)))?;
    Ok(())
}

/// The record of one node.
pub async fn node_identity(
    client: &Client,
    name: &NodeName,
) -> Result<Option<identity::NodeIdentity>, ApiError> {
    let api: Api<NodeIdentity> = identities::api(client.clone());
    let record = api
        .get_opt(name.as_str())
        .await
        .map_err(request(format!("read the record of node {name}")))?;
    Ok(record.map(|record| record.to_identity()).transpose()?)
}

/// The records of all nodes. One that cannot be used is left out and logged: it must not take the others down.
pub async fn node_identities(client: &Client) -> Result<Vec<identity::NodeIdentity>, ApiError> {
    let api: Api<NodeIdentity> = identities::api(client.clone());
    let records = api
        .list(&identities::list_params())
        .await
        .map_err(request("list node identities"))?;
    let usable = |record: NodeIdentity| match record.to_identity() {
        Ok(identity) => Some(identity),
        Err(error) => {
            tracing::error!(%error, "node identity left out");
            None
        }
    };
    Ok(records.into_iter().filter_map(usable).collect())
}

/// A record of a node, and which one: another one under the same name has another UID.
#[derive(Clone, Debug)]
pub struct Recorded {
    /// What it says.
    pub identity: identity::NodeIdentity,
    /// The API's number of it.
    pub uid: Option<String>,
    /// The API's number of the Node object that its node has, once it was seen.
    pub node_uid: Option<String>,
}

/// The records of all nodes, none left out: an error if one cannot be used.
pub async fn all_records(client: &Client) -> Result<Vec<Recorded>, ApiError> {
    let api: Api<NodeIdentity> = identities::api(client.clone());
    let records = api
        .list(&identities::list_params())
        .await
        .map_err(request("list node identities"))?;
    let recorded = |record: NodeIdentity| {
        Ok(Recorded {
            identity: record.to_identity()?,
            node_uid: record.annotations().get(NODE_UID).cloned(),
            uid: record.metadata.uid,
        })
    };
    records.into_iter().map(recorded).collect()
}

/// What all records say, none left out: an error if one cannot be used.
pub async fn all_node_identities(client: &Client) -> Result<Vec<identity::NodeIdentity>, ApiError> {
    let records = all_records(client).await?;
    Ok(records.into_iter().map(|record| record.identity).collect())
}

/// Holds a Node object's deletion until a control plane has removed all of the node.
pub const FINALIZER: &str = "constellation.edgeless.systems/node";

/// Annotation of a record: the UID of its node's Node object. A kubelet may take the finalizer off its own Node object, and does not
/// reach this.
const NODE_UID: &str = "constellation.edgeless.systems/node-uid";

/// A Node object, as far as its removal goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FoundNode {
    /// Its name.
    pub name: NodeName,
    /// The API's number of it.
    pub uid: String,
    /// Whether somebody deleted it.
    pub deleted: bool,
    /// Whether its deletion waits for [`FINALIZER`].
    pub marked: bool,
    /// Whether it has the label by which the services of control planes are placed.
    pub control_plane: bool,
    /// The API's number of this state of it.
    pub version: Option<String>,
}

/// All Node objects whose name is one that a node of this cluster can have.
pub async fn nodes(client: &Client) -> Result<Vec<FoundNode>, ApiError> {
    let api: Api<Node> = Api::all(client.clone());
    let nodes = api
        .list(&ListParams::default())
        .await
        .map_err(request("list nodes"))?;
    let found = |node: Node| {
        Some(FoundNode {
            name: NodeName::new(node.metadata.name.as_deref()?).ok()?,
            uid: node.uid()?,
            deleted: node.metadata.deletion_timestamp.is_some(),
            marked: node.finalizers().iter().any(|name| name == FINALIZER),
            control_plane: node.labels().contains_key(&role_label(Role::ControlPlane)),
            version: node.resource_version(),
        })
    };
    Ok(nodes.into_iter().filter_map(found).collect())
}

/// Puts [`FINALIZER`] on a Node object.
pub async fn mark_node(client: &Client, node: &FoundNode) -> Result<(), ApiError> {
    edit_finalizers(client, node, |finalizers| {
        if !finalizers.iter().any(|name| name == FINALIZER) {
            finalizers.push(FINALIZER.to_owned());
        }
    })
    .await
}

/// Takes down on a record which Node object its node has.
pub async fn note_node(client: &Client, record: &Recorded, node_uid: &str) -> Result<(), ApiError> {
    let api: Api<NodeIdentity> = identities::api(client.clone());
    let name = &record.identity.name;
    // a record that was written since under its name has another UID, and is left alone
    let patch = json!({ "metadata": { "uid": record.uid, "annotations": { NODE_UID: node_uid } } });
    match api
        .patch(name.as_str(), &PatchParams::default(), &Patch::Merge(patch))
        .await
    {
        Err(kube::Error::Api(status)) if matches!(status.code, 404 | 409) => Ok(()),
        noted => noted
            .map(drop)
            .map_err(request(format!("change the record of node {name}"))),
    }
}

/// Takes [`FINALIZER`] off a Node object: its deletion goes on.
pub async fn release_node(client: &Client, node: &FoundNode) -> Result<(), ApiError> {
    edit_finalizers(client, node, |finalizers| {
        finalizers.retain(|name| name != FINALIZER);
    })
    .await
}

/// Changes the list as it was read and no other; a node that is gone needs no change, and another one of its name stays as it is.
async fn edit_finalizers(
    client: &Client,
    found: &FoundNode,
    edit: impl FnOnce(&mut Vec<String>),
) -> Result<(), ApiError> {
    let name = &found.name;
    let api: Api<Node> = Api::all(client.clone());
    let failed = || request(format!("change the finalizers of node {name}"));
    let Some(mut node) = api.get_opt(name.as_str()).await.map_err(failed())? else {
        return Ok(());
    };
    if node.uid().as_ref() != Some(&found.uid) {
        return Ok(());
    }
    edit(node.finalizers_mut());
    let patch = json!({ "metadata": {
        "resourceVersion": node.metadata.resource_version,
        "finalizers": node.metadata.finalizers,
    } });
    api.patch(name.as_str(), &PatchParams::default(), &Patch::Merge(patch))
        .await
        .map(drop)
        .map_err(failed())
}

/// Deletes this record of a node. One that is not there is none, and one that was written since under its name stays.
pub async fn delete_record(client: &Client, record: &Recorded) -> Result<(), ApiError> {
    let api: Api<NodeIdentity> = identities::api(client.clone());
    let name = &record.identity.name;
    let params = DeleteParams {
        preconditions: Some(Preconditions {
            uid: record.uid.clone(),
            resource_version: None,
        }),
        ..DeleteParams::default()
    };
    match api.delete(name.as_str(), &params).await {
        Err(kube::Error::Api(status)) if matches!(status.code, 404 | 409) => Ok(()),
        deleted => deleted
            .map(drop)
            .map_err(request(format!("delete the record of node {name}"))),
    }
}

/// Keeps who may have backups of the cluster. In a Secret, beside the master secret: whoever may change it has every key anyway.
pub async fn put_backup_key_verifier(
    client: &Client,
    verifier: &BackupKeyVerifier,
) -> Result<(), ApiError> {
    let secret = Secret {
        metadata: meta(BACKUP_SECRET),
        immutable: Some(true),
        data: Some(
            [(
                BACKUP_HASH.to_owned(),
                ByteString(verifier.as_bytes().to_vec()),
            )]
            .into(),
        ),
        ..Secret::default()
    };
    let api: Api<Secret> = Api::namespaced(client.clone(), NAMESPACE);
    match api.create(&PostParams::default(), &secret).await {
        // a cluster that was made of a backup has the same master secret, and so the same key
        Err(kube::Error::Api(status)) if status.code == 409 => Ok(()),
        created => created
            .map(drop)
            .map_err(request("keep who may have backups")),
    }
}

/// Who may have backups of the cluster; nobody if that was never written.
pub async fn backup_key_verifier(client: &Client) -> Result<Option<BackupKeyVerifier>, ApiError> {
    let api: Api<Secret> = Api::namespaced(client.clone(), NAMESPACE);
    let secret = api
        .get_opt(BACKUP_SECRET)
        .await
        .map_err(request("read who may have backups"))?;
    let hash = secret
        .and_then(|secret| secret.data)
        .and_then(|mut data| data.remove(BACKUP_HASH));
    Ok(hash
        .and_then(|hash| hash.0.try_into().ok())
        .map(BackupKeyVerifier::from_bytes))
}

/// Labels a node with its role; a kubelet may not do so for itself.
pub async fn label_node(client: &Client, name: &NodeName, role: Role) -> Result<(), ApiError> {
    let api: Api<Node> = Api::all(client.clone());
    let patch = json!({ "metadata": { "labels": { role_label(role): "" } } });
    api.patch(name.as_str(), &PatchParams::default(), &Patch::Merge(patch))
        .await
        .map_err(request(format!("label node {name}")))?;
    Ok(())
}

/// Takes the label of control planes off this Node object, and every pod that is bound to it: whoever has the node's name reads their
/// secrets, and a kubelet that is gone ends none. Another Node object that was made since under its name is left alone, and one that has
/// changed since is for the next look: its machine may be another one by now, which is on record.
pub async fn dismiss_control_plane(client: &Client, node: &FoundNode) -> Result<(), ApiError> {
    let name = &node.name;
    let nodes: Api<Node> = Api::all(client.clone());
    // before the label, which is what this is done again for; and after it, since until then others take their place
    delete_pods(client, name).await?;
    let label = role_label(Role::ControlPlane);
    let patch = json!({ "metadata": {
        "uid": node.uid,
        "resourceVersion": node.version,
        "labels": { label: null },
    } });
    match nodes
        .patch(name.as_str(), &PatchParams::default(), &Patch::Merge(patch))
        .await
    {
        Err(kube::Error::Api(status)) if matches!(status.code, 404 | 409) => return Ok(()),
        patched => patched
            .map(drop)
            .map_err(request(format!("take its role off node {name}")))?,
    }
    delete_pods(client, name).await
}

/// Deletes what is bound to a node, without waiting for its kubelet.
async fn delete_pods(client: &Client, node: &NodeName) -> Result<(), ApiError> {
    let bound = ListParams::default().fields(&format!("spec.nodeName={node}"));
    let pods: Api<Pod> = Api::all(client.clone());
    let pods = pods
        .list(&bound)
        .await
        .map_err(request(format!("list the pods of node {node}")))?;
    let at_once = DeleteParams {
        grace_period_seconds: Some(0),
        ..DeleteParams::default()
    };
    for pod in pods {
        let api: Api<Pod> = Api::namespaced(client.clone(), &pod.namespace().unwrap_or_default());
        match api.delete(&pod.name_any(), &at_once).await {
            Err(kube::Error::Api(status)) if status.is_not_found() => {}
            deleted => deleted
                .map(drop)
                .map_err(request(format!("delete a pod of node {node}")))?,
        }
    }
    Ok(())
}

fn role_label(role: Role) -> String {
    format!("node-role.kubernetes.io/{role}")
}

fn config_maps(client: &Client) -> Api<ConfigMap> {
    Api::namespaced(client.clone(), NAMESPACE)
}

fn meta(name: &str) -> ObjectMeta {
    ObjectMeta {
        name: Some(name.to_owned()),
        namespace: Some(NAMESPACE.to_owned()),
        ..ObjectMeta::default()
    }
}
