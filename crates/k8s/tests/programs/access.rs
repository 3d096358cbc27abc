//! Who reaches what: nobody without credentials, a bootstrap token its one purpose, the admin by RBAC, nodes their peers' records.

use anyhow::{Context as _, Result};
use cluster::{NodeName, Role, identity::NodeIdentity, network::AddressPlan};
use jiff::Timestamp;
use k8s::{
    addons, api,
    pki::{Credential, IssuedLeaf, Lifetime},
};
use k8s_openapi::api::{
    certificates::v1::CertificateSigningRequest,
    core::v1::{ConfigMap, Namespace, Node, Pod, Secret},
};
use kube::{
    Api, Client,
    api::{ListParams, PostParams},
};
use testkit::{kubelet, kubernetes::ControlPlane};

pub(crate) fn identity(name: &str, index: u16, role: Role) -> NodeIdentity {
    let addresses = AddressPlan::default().node(index).unwrap();
    NodeIdentity {
        name: name.parse().unwrap(),
        role,
        disk_uuid: "0b5c9e7e-6d2f-4f0e-9c3a-2f1d8b7a6c54".parse().unwrap(),
        attestation_variant: "qemu-vtpm".into(),
        attestation_key_id: "ab".repeat(32),
        measurements: [(4, "00".repeat(32))].into(),
        index,
        mesh_ip: addresses.mesh_ip,
        pod_cidr: addresses.pod_cidr,
        node_ip: std::net::Ipv4Addr::new(10, 42, 2, 10),
        wireguard_public_key: cluster::identity::WireGuardPublicKey::new([7; 32]),
        admitted_at: "2026-11-22T06:00:00Z".into(),
        reset_count: None,
    }
}

/// Prepares a new cluster as init does: roles and definitions.
pub(crate) async fn with_roles(control_plane: &ControlPlane) -> Result<Client> {
    let client = api::client(&control_plane.agent_kubeconfig()).await?;
    let applier = api::Applier::new(client.clone());
    applier.manifest(addons::ROLES).await?;
    // a second time changes nothing and fails nothing
    applier.manifest(addons::ROLES).await?;
    Ok(client)
}

pub(crate) async fn as_leaf(control_plane: &ControlPlane, leaf: &IssuedLeaf) -> Result<Client> {
    Ok(api::client_from(&control_plane.kubeconfig(Credential::Embedded(leaf))).await?)
}

pub(crate) fn status(result: Result<impl Sized, kube::Error>) -> Option<u16> {
    match result {
        Ok(_) => None,
        Err(kube::Error::Api(status)) => Some(status.code),
        Err(error) => panic!("unexpected error {error}"),
    }
}

/// One control plane for all of them: its start is most of the time.
#[tokio::test]
async fn who_reaches_what() -> Result<()> {
    let control_plane = ControlPlane::start().await?;
    nobody_gets_in_without_credentials(&control_plane)
        .await
        .context("without credentials")?;
    the_admin_rules_by_a_binding_that_can_be_removed(&control_plane)
        .await
        .context("the admin")?;
    node_identities_are_kept_and_read_by_nodes_only(&control_plane)
        .await
        .context("node identities")?;
    a_bootstrap_token_asks_for_a_certificate_and_nothing_else(&control_plane)
        .await
        .context("bootstrap token")?;
    a_bootstrap_token_of_a_clock_a_year_back_is_refused(&control_plane)
        .await
        .context("bootstrap token of another clock")
}

/// One that was made under a clock a year ahead lives a year longer: nothing but the record and its deletion after use ends it.
async fn a_bootstrap_token_of_a_clock_a_year_back_is_refused(
    control_plane: &ControlPlane,
) -> Result<()> {
    let client = with_roles(control_plane).await?;
    let year = jiff::SignedDuration::from_hours(365 * 24);
    for (now, expected) in [
        (Timestamp::now() - year, Some(401)),
        (Timestamp::now(), None),
        (Timestamp::now() + year, None),
    ] {
        let token = api::tokens::create(&client, &"worker-0".parse()?, now).await?;
        let config = control_plane.kubeconfig(Credential::Token(token.text()));
        let version = api::client_from(&config).await?.apiserver_version().await;
        assert_eq!(status(version), expected, "{now}");
    }
    Ok(())
}

async fn nobody_gets_in_without_credentials(control_plane: &ControlPlane) -> Result<()> {
    let leaf = control_plane
        .pki()
        .authorities()
        .issue_admin("nobody", Timestamp::now())?;
    let mut config: serde_json::Value = serde_json::from_str(
        control_plane
            .kubeconfig(Credential::Embedded(&leaf))
            .expose(),
    )?;
    config["users"][0]["user"] = serde_json::json!({});
    let anonymous = api::client_from(&k8s::files::SecretText::new(config.to_string())).await?;
    for path in [
        "/api",
        "/apis",
        "/version",
        "/api/v1/namespaces/kube-system/secrets",
        "/metrics",
        "/debug/pprof/",
        "/logs",
    ] {
        let answer = anonymous
            .request_text(http::Request::get(path).body(Vec::new())?)
            .await;
        assert!(matches!(status(answer), Some(401 | 403)), "{path}");
    }

    // a stranger's certificate of another authority is nobody
    let stranger = k8s::pki::Authorities::generate("other", Timestamp::now())?
        .issue_admin("admin", Timestamp::now())?;
    let stranger = as_leaf(control_plane, &stranger).await?;
    let namespaces: Api<Namespace> = Api::all(stranger);
    assert_eq!(
        status(namespaces.list(&ListParams::default()).await),
        Some(401)
    );

    // profiling is off even for the one who may do everything
    let agent = api::client(&control_plane.agent_kubeconfig()).await?;
    let request = http::Request::get("/debug/pprof/").body(kube::client::Body::empty())?;
    assert_eq!(agent.send(request).await?.status(), 404);
    Ok(())
}

async fn the_admin_rules_by_a_binding_that_can_be_removed(
    control_plane: &ControlPlane,
) -> Result<()> {
    let leaf = control_plane
        .pki()
        .authorities()
        .issue_admin("test-admin", Timestamp::now())?;
    let secrets: Api<Secret> = Api::namespaced(as_leaf(control_plane, &leaf).await?, "kube-system");
    assert_eq!(
        status(secrets.list(&ListParams::default()).await),
        Some(403),
        "before the roles are there"
    );
    with_roles(control_plane).await?;
    assert_eq!(status(secrets.list(&ListParams::default()).await), None);
    Ok(())
}

async fn node_identities_are_kept_and_read_by_nodes_only(
    control_plane: &ControlPlane,
) -> Result<()> {
    let client = with_roles(control_plane).await?;
    let worker = identity("worker-0", 2, Role::Worker);
    api::records::put_node_identity(&client, &worker)
        .await
        .with_context(|| control_plane.log(k8s::control_plane::Service::ApiServer))?;
    api::records::put_node_identity(&client, &identity("control-plane-0", 1, Role::ControlPlane))
        .await?;

    let name: NodeName = "worker-0".parse()?;
    assert_eq!(
        api::records::node_identity(&client, &name).await?,
        Some(worker.clone())
    );
    assert_eq!(
        api::records::node_identity(&client, &"nobody".parse()?).await?,
        None
    );

    let kubelet = control_plane.pki().authorities().issue_kubelet_client(
        &name,
        Timestamp::now(),
        Lifetime::DAY,
    )?;
    let kubelet = as_leaf(control_plane, &kubelet).await?;
    assert_eq!(api::records::node_identities(&kubelet).await?.len(), 2);
    let refused = api::records::put_node_identity(&kubelet, &worker)
        .await
        .unwrap_err();
    assert_eq!(
        refused.status().map(|status| status.as_u16()),
        Some(403),
        "a node does not write its own record"
    );

    // an edited record takes no other with it
    let records = k8s::identities::api(client.clone());
    let edit = serde_json::json!({ "data": { "identity": "{}" } });
    records
        .patch(
            "control-plane-0",
            &kube::api::PatchParams::default(),
            &kube::api::Patch::Merge(edit),
        )
        .await?;
    assert_eq!(api::records::node_identities(&client).await?, [worker]);
    Ok(())
}

async fn a_bootstrap_token_asks_for_a_certificate_and_nothing_else(
    control_plane: &ControlPlane,
) -> Result<()> {
    let client = with_roles(control_plane).await?;
    let token = api::tokens::create(&client, &"worker-0".parse()?, Timestamp::now()).await?;
    let joining =
        api::client_from(&control_plane.kubeconfig(Credential::Token(token.text()))).await?;

    let (csr, _key) = kubelet::certificate_request("first", "worker-0", kubelet::CLIENT, &[])?;
    let csrs: Api<CertificateSigningRequest> = Api::all(joining.clone());
    let created = csrs.create(&PostParams::default(), &csr).await?;
    assert_eq!(
        created.spec.username.as_deref(),
        Some(format!("system:bootstrap:{}", token.id()).as_str())
    );
    assert!(
        created
            .spec
            .groups
            .unwrap()
            .contains(&api::tokens::GROUP.to_owned())
    );

    let all = ListParams::default();
    assert_eq!(
        status(Api::<Secret>::all(joining.clone()).list(&all).await),
        Some(403)
    );
    assert_eq!(
        status(Api::<ConfigMap>::all(joining.clone()).list(&all).await),
        Some(403)
    );
    assert_eq!(
        status(Api::<Node>::all(joining.clone()).list(&all).await),
        Some(403)
    );
    assert_eq!(
        status(Api::<Pod>::all(joining.clone()).list(&all).await),
        Some(403)
    );
    assert_eq!(
        status(k8s::identities::api(joining.clone()).list(&all).await),
        Some(403)
    );
    let name = created.metadata.name.unwrap();
    let approve = serde_json::json!({ "status": { "conditions": [{ "type": "Approved", "status": "True", "reason": "Self", "message": "" }] } });
    let patch = kube::api::Patch::Merge(approve);
    assert_eq!(
        status(
            csrs.patch_approval(&name, &kube::api::PatchParams::default(), &patch)
                .await
        ),
        Some(403)
    );

    // gone with its owner's joining
    api::tokens::delete(&client, token.id()).await?;
    // a second time is as good
    api::tokens::delete(&client, token.id()).await?;
    // the API server remembers for ten seconds whom it knew
    tokio::time::sleep(std::time::Duration::from_secs(12)).await;
    assert_eq!(status(csrs.list(&all).await), Some(401));

    // and when its time is over
    let old = Timestamp::now() - cluster::plan::DEADLINE - jiff::SignedDuration::from_mins(1);
    let expired = api::tokens::create(&client, &"worker-1".parse()?, old).await?;
    let expired =
        api::client_from(&control_plane.kubeconfig(Credential::Token(expired.text()))).await?;
    assert_eq!(
        status(
            Api::<CertificateSigningRequest>::all(expired)
                .list(&all)
                .await
        ),
        Some(401)
    );
    Ok(())
}
