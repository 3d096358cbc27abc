//! What reaches the disk: secrets encrypted, every request in the audit log.

use std::{fs, path::Path};

use anyhow::Result;
use k8s_openapi::{
    ByteString,
    api::core::v1::{ConfigMap, Secret},
};
use kube::{
    Api,
    api::{ObjectMeta, PostParams},
};
use testkit::kubernetes::ControlPlane;

fn meta(name: &str) -> ObjectMeta {
    ObjectMeta {
        name: Some(name.into()),
        ..ObjectMeta::default()
    }
}

/// Whether any file below a directory holds these bytes.
fn holds(directory: &Path, needle: &[u8]) -> bool {
    fs::read_dir(directory).unwrap().any(|entry| {
        let path = entry.unwrap().path();
        if path.is_dir() {
            return holds(&path, needle);
        }
        fs::read(&path)
            .unwrap()
            .windows(needle.len())
            .any(|window| window == needle)
    })
}

pub(crate) async fn secrets_are_encrypted_in_etcd_and_requests_are_audited(
    control_plane: &ControlPlane,
) -> Result<()> {
    let client = k8s::api::client(&control_plane.agent_kubeconfig()).await?;

    let secrets: Api<Secret> = Api::namespaced(client.clone(), "default");
    let value = b"value that must not be found on the disk";
    let secret = Secret {
        metadata: meta("probe-secret"),
        data: Some([("key".into(), ByteString(value.to_vec()))].into()),
        ..Secret::default()
    };
    secrets.create(&PostParams::default(), &secret).await?;
    let maps: Api<ConfigMap> = Api::namespaced(client.clone(), "default");
    let plain = "value that is found, which shows that the search works";
    let map = ConfigMap {
        metadata: meta("probe-map"),
        data: Some([("key".into(), plain.into())].into()),
        ..ConfigMap::default()
    };
    maps.create(&PostParams::default(), &map).await?;

    assert_eq!(
        secrets.get("probe-secret").await?.data.unwrap()["key"].0,
        value,
        "the API still reads it"
    );
    let etcd = &control_plane.node().paths().etcd_data;
    assert!(
        holds(etcd, plain.as_bytes()),
        "a ConfigMap lies in etcd as it is"
    );
    assert!(
        holds(etcd, b"k8s:enc:secretbox:v1:key1:"),
        "a secret lies in etcd encrypted"
    );
    assert!(!holds(etcd, value), "and nowhere in the clear");

    let audit = fs::read_to_string(control_plane.node().paths().audit_log())?;
    let entry = audit
        .lines()
        .map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap())
        .find(|entry| entry["objectRef"]["name"] == "probe-secret" && entry["verb"] == "create")
        .expect("the creation of the secret is in the audit log");
    assert_eq!(entry["user"]["username"], "constellation:node-agent");
    assert_eq!(entry["level"], "Metadata");
    assert!(
        entry.get("requestObject").is_none() && !audit.contains("must not be found"),
        "without its contents"
    );
    Ok(())
}
