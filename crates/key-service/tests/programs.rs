//! Layer 2: the key service as a process against a real API server, called as its callers do and as they must not.
//!
//! Needs `etcd` (Debian: etcd-server) and the programs of Kubernetes, see `testkit::kubernetes`.
#![expect(clippy::unwrap_used, reason = "a test may panic")]

#[path = "programs/jwt.rs"]
mod jwt;

use std::{
    net::SocketAddr,
    process::{Child, Command, Stdio},
    sync::{Arc, Weak},
};

use anyhow::Result;
use hyper_util::rt::TokioIo;
use k8s_openapi::api::core::v1::ServiceAccount;
use kube::{Api, ResourceExt as _, api::PostParams};
use proto::kms::{GetDataKeyRequest, api_client::ApiClient};
use rustls::{
    ClientConfig, RootCertStore,
    pki_types::{CertificateDer, ServerName, pem::PemObject as _},
};
use testkit::harness::{self, Cluster};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tonic::{
    Code, Request, Status,
    transport::{Channel, Endpoint},
};

/// The inputs of two of the original's vectors.
const SECRET: std::ops::RangeInclusive<u8> = 0x40..=0x5f;
const SALT: std::ops::RangeInclusive<u8> = 0x60..=0x7f;
const MEASUREMENT_SECRET: &str = "4790578891f3fe6cc22cb661ecdc1b7e33121b1287546a52ba33a9136719c213";

const STATE_DISK: &str = "0b5c9e7e-6d2f-4f0e-9c3a-2f1d8b7a6c54";
const VOLUME: &str = "4ae66293-57aa-4821-b99c-ebc598a6e5a8";
const AUDIENCE: Option<&str> = Some("key-service");

/// The cluster of the tests that run now; a new one when there is none.
async fn shared_cluster() -> Result<Arc<Cluster>> {
    static SHARED: tokio::sync::Mutex<Weak<Cluster>> = tokio::sync::Mutex::const_new(Weak::new());
    let mut shared = SHARED.lock().await;
    if let Some(cluster) = shared.upgrade() {
        return Ok(cluster);
    }
    let cluster = Arc::new(Cluster::start().await?);
    *shared = Arc::downgrade(&cluster);
    Ok(cluster)
}

/// A running key service.
struct Service {
    cluster: Arc<Cluster>,
    process: Child,
    address: SocketAddr,
    _directory: tempfile::TempDir,
    audit: std::path::PathBuf,
    log: std::path::PathBuf,
}

impl Service {
    async fn start() -> Result<Self> {
        let cluster = shared_cluster().await?;
        let directory = tempfile::tempdir()?;
        harness::write_secret(
            directory.path(),
            &SECRET.collect::<Vec<_>>(),
            &SALT.collect::<Vec<_>>(),
        )?;
        let (address, operations) = (harness::free_address()?, harness::free_address()?);
        let (audit, log) = (directory.path().join("audit"), directory.path().join("log"));
        let process = Command::new(env!("CARGO_BIN_EXE_key-service"))
            .arg(format!("--listen={address}"))
            .arg(format!("--operations={operations}"))
            .arg(format!("--secret={}", directory.path().display()))
            .arg(format!(
                "--tls={}",
                cluster.pki().join("key-service").display()
            ))
            .arg(format!(
                "--kubeconfig={}",
                cluster.kubeconfig("key-service").await?.display()
            ))
            .stdout(std::fs::File::create(&audit)?)
            .stderr(std::fs::File::create(&log)?)
            .stdin(Stdio::null())
            .spawn()?;
        let service = Self {
            cluster,
            process,
            address,
            _directory: directory,
            audit,
            log,
        };
        if let Err(error) = harness::wait_ready(operations).await {
            anyhow::bail!("{error}\n{}", std::fs::read_to_string(&service.log)?);
        }
        Ok(service)
    }

    /// Asks as a service account with a token for `audience`.
    async fn ask_as(
        &self,
        namespace: &str,
        account: &str,
        audience: Option<&str>,
        id: &str,
    ) -> Result<Vec<u8>, Status> {
        let token = self
            .cluster
            .token(namespace, account, audience)
            .await
            .unwrap();
        self.ask(Some(&token), id, 32).await
    }

    async fn ask(&self, token: Option<&str>, id: &str, length: u32) -> Result<Vec<u8>, Status> {
        let channel = tls_channel(self.address, &self.cluster.pki().join("ca.crt"))
            .await
            .unwrap();
        let mut request = Request::new(GetDataKeyRequest {
            data_key_id: id.to_owned(),
            length,
        });
        if let Some(token) = token {
            request
                .metadata_mut()
                .insert("authorization", format!("Bearer {token}").parse().unwrap());
        }
        Ok(ApiClient::new(channel)
            .get_data_key(request)
            .await?
            .into_inner()
            .data_key)
    }

    fn audit_events(&self) -> Vec<serde_json::Value> {
        let text = std::fs::read_to_string(&self.audit).unwrap();
        text.lines()
            .map(|line| serde_json::from_str(line).unwrap())
            .collect()
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ended = self.process.kill();
        let _reaped = self.process.wait();
    }
}

async fn tls_channel(address: SocketAddr, authority: &std::path::Path) -> Result<Channel> {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(authority)?)?;
    let mut config = ClientConfig::builder()
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = vec![b"h2".to_vec()];
    let connector = TlsConnector::from(Arc::new(config));
    let connect = tower::service_fn(move |_| {
        let connector = connector.clone();
        async move {
            let stream = TcpStream::connect(address).await?;
            let name = ServerName::try_from("key-service.kube-system.svc")
                .map_err(std::io::Error::other)?;
            connector.connect(name, stream).await.map(TokioIo::new)
        }
    });
    Ok(
        Endpoint::from_static("http://key-service.kube-system.svc:9000")
            .connect_with_connector(connect)
            .await?,
    )
}

#[track_caller]
fn refused(outcome: Result<Vec<u8>, Status>, code: Code) {
    match outcome {
        Ok(_) => panic!("a key was given out"),
        Err(status) => assert_eq!(status.code(), code, "{status}"),
    }
}

#[tokio::test]
async fn the_join_service_gets_the_keys_of_its_row() {
    let service = Service::start().await.unwrap();
    let ask = |id| service.ask_as("kube-system", "join-service", AUDIENCE, id);
    assert_eq!(
        hex::encode(ask("measurementSecret").await.unwrap()),
        MEASUREMENT_SECRET
    );
    let root = |bytes: std::ops::RangeInclusive<u8>| bytes.collect::<Vec<_>>();
    let (secret, salt) = (
        keys::MasterSecret::from_vec(root(SECRET)).unwrap(),
        keys::Salt::from_vec(root(SALT)).unwrap(),
    );
    for id in [STATE_DISK, "ca_emergency_ssh"] {
        let expected = keys::derive(&secret, &salt, &id.parse().unwrap());
        assert_eq!(ask(id).await.unwrap(), expected.expose_bytes());
    }

    // Every answer is an audit event that names who, which and the verdict, and holds no key; the log holds none either.
    let events = service.audit_events();
    assert_eq!(events.len(), 3, "{events:?}");
    for (event, id) in events
        .iter()
        .zip(["measurementSecret", STATE_DISK, "ca_emergency_ssh"])
    {
        assert_eq!(event["verdict"], "granted");
        assert_eq!(event["key_id"], id);
        assert_eq!(
            event["user"],
            "system:serviceaccount:kube-system:join-service"
        );
        assert!(event["peer"].as_str().unwrap().starts_with("127.0.0.1:"));
    }
    let key: Vec<u8> = hex::decode(MEASUREMENT_SECRET).unwrap();
    for file in [&service.audit, &service.log] {
        let text = std::fs::read_to_string(file).unwrap();
        let shown = [
            MEASUREMENT_SECRET.to_owned(),
            format!("{key:?}"),
            "vnBXiJHz/mzCLLZh7Nwb".to_owned(),
        ];
        assert!(
            shown.iter().all(|key| !text.contains(key)),
            "{} shows a key",
            file.display()
        );
    }
}

#[tokio::test]
async fn a_caller_without_a_token_gets_nothing() {
    let service = Service::start().await.unwrap();
    refused(
        service.ask(None, "measurementSecret", 32).await,
        Code::Unauthenticated,
    );
    refused(
        service.ask(Some(""), "measurementSecret", 32).await,
        Code::Unauthenticated,
    );
    refused(
        service
            .ask(Some("not.a.token"), "measurementSecret", 32)
            .await,
        Code::Unauthenticated,
    );
    let events = service.audit_events();
    assert_eq!(events.len(), 3);
    assert!(
        events
            .iter()
            .all(|event| event["verdict"] == "refused" && event["user"].is_null()),
        "{events:?}"
    );
}

#[tokio::test]
async fn a_token_for_another_audience_gets_nothing() {
    let service = Service::start().await.unwrap();
    for audience in [None, Some("vault"), Some("key-service2")] {
        let outcome = service
            .ask_as("kube-system", "join-service", audience, "measurementSecret")
            .await;
        refused(outcome, Code::Unauthenticated);
    }
}

#[tokio::test]
async fn an_expired_token_gets_nothing() {
    let service = Service::start().await.unwrap();
    let accounts =
        Api::<ServiceAccount>::namespaced(service.cluster.agent().await.unwrap(), "kube-system");
    let uid = accounts.get("join-service").await.unwrap().uid().unwrap();
    let key = std::fs::read_to_string(service.cluster.pki().join("sa.key")).unwrap();
    let now = jiff::Timestamp::now().as_second();
    // The same token that has not expired is good, so what is refused is that it has.
    let good = jwt::sign(&key, "join-service", &uid, now - 7200, now + 600).unwrap();
    assert_eq!(
        hex::encode(
            service
                .ask(Some(&good), "measurementSecret", 32)
                .await
                .unwrap()
        ),
        MEASUREMENT_SECRET
    );
    // The API server forgives a minute, this service nothing; after two minutes both refuse.
    for seconds in [1, 120] {
        let expired = jwt::sign(&key, "join-service", &uid, now - 7200, now - seconds).unwrap();
        refused(
            service.ask(Some(&expired), "measurementSecret", 32).await,
            Code::Unauthenticated,
        );
    }
}

#[tokio::test]
async fn a_token_that_the_api_server_did_not_sign_gets_nothing() {
    let service = Service::start().await.unwrap();
    let accounts =
        Api::<ServiceAccount>::namespaced(service.cluster.agent().await.unwrap(), "kube-system");
    let uid = accounts.get("join-service").await.unwrap().uid().unwrap();
    let key = rcgen::KeyPair::generate().unwrap().serialize_pem();
    let now = jiff::Timestamp::now().as_second();
    let forged = jwt::sign(&key, "join-service", &uid, now - 60, now + 600).unwrap();
    refused(
        service.ask(Some(&forged), "measurementSecret", 32).await,
        Code::Unauthenticated,
    );
}

#[tokio::test]
async fn an_unknown_service_account_gets_nothing() {
    let service = Service::start().await.unwrap();
    for (namespace, account) in [
        ("kube-system", "verification-service"),
        ("default", "join-service"),
    ] {
        for id in ["measurementSecret", VOLUME, "s3proxy-kek"] {
            let outcome = service.ask_as(namespace, account, AUDIENCE, id).await;
            refused(outcome, Code::PermissionDenied);
        }
    }
}

#[tokio::test]
async fn a_key_outside_the_callers_row_is_not_given() {
    let service = Service::start().await.unwrap();
    let identity = k8s::identities::NodeIdentity::from_identity(&cluster::identity::NodeIdentity {
        name: "worker-0".parse().unwrap(),
        role: cluster::Role::Worker,
        disk_uuid: STATE_DISK.parse().unwrap(),
        attestation_variant: "qemu-vtpm".to_owned(),
        attestation_key_id: "ab".repeat(32),
        measurements: std::collections::BTreeMap::new(),
        index: 2,
        mesh_ip: "10.45.0.2".parse().unwrap(),
        pod_cidr: "10.244.2.0/24".parse().unwrap(),
        node_ip: "10.42.2.10".parse().unwrap(),
        wireguard_public_key: cluster::identity::WireGuardPublicKey::new([7; 32]),
        admitted_at: "2026-11-22T06:00:00Z".to_owned(),
        reset_count: None,
    });
    let records = k8s::identities::api(service.cluster.agent().await.unwrap());
    match records.create(&PostParams::default(), &identity).await {
        Ok(_) => {}
        // Another test of the same cluster made it.
        Err(kube::Error::Api(status)) if status.is_already_exists() => {}
        Err(error) => panic!("{error}"),
    }
    // What is in the row, so that the refusals are about the key.
    assert_eq!(
        service
            .ask_as("kube-system", "csi-node", AUDIENCE, VOLUME)
            .await
            .unwrap()
            .len(),
        32
    );
    assert_eq!(
        service
            .ask_as("kube-system", "s3proxy", AUDIENCE, "s3proxy-kek")
            .await
            .unwrap()
            .len(),
        32
    );
    for (account, id) in [
        ("csi-node", STATE_DISK),
        ("csi-node", "measurementSecret"),
        ("csi-node", "ca_emergency_ssh"),
        ("csi-node", "s3proxy-kek"),
        ("s3proxy", VOLUME),
        ("s3proxy", "measurementSecret"),
        ("join-service", "s3proxy-kek"),
    ] {
        let outcome = service.ask_as("kube-system", account, AUDIENCE, id).await;
        refused(outcome, Code::PermissionDenied);
    }
}

#[tokio::test]
async fn what_is_no_key_id_or_no_length_is_refused() {
    let service = Service::start().await.unwrap();
    let token = service
        .cluster
        .token("kube-system", "join-service", AUDIENCE)
        .await
        .unwrap();
    for id in [
        "",
        "key-measurementSecret",
        "clusterID",
        &VOLUME.to_uppercase(),
        &"a".repeat(500),
    ] {
        refused(
            service.ask(Some(&token), id, 32).await,
            Code::InvalidArgument,
        );
    }
    for length in [0, 16, 31, 33, u32::MAX] {
        refused(
            service.ask(Some(&token), "measurementSecret", length).await,
            Code::InvalidArgument,
        );
    }
    refused(
        service.ask(Some(&token), &"a".repeat(4000), 32).await,
        Code::OutOfRange,
    );
}

#[tokio::test]
async fn nothing_is_served_in_plaintext() {
    let service = Service::start().await.unwrap();
    let token = service
        .cluster
        .token("kube-system", "join-service", AUDIENCE)
        .await
        .unwrap();
    let address = service.address;
    let connect =
        tower::service_fn(
            move |_| async move { TcpStream::connect(address).await.map(TokioIo::new) },
        );
    let channel =
        Endpoint::from_static("http://key-service:9000").connect_with_connector_lazy(connect);
    let mut request = Request::new(GetDataKeyRequest {
        data_key_id: "measurementSecret".to_owned(),
        length: 32,
    });
    request
        .metadata_mut()
        .insert("authorization", format!("Bearer {token}").parse().unwrap());
    let status = ApiClient::new(channel)
        .get_data_key(request)
        .await
        .unwrap_err();
    assert!(
        matches!(
            status.code(),
            Code::Unavailable | Code::Unknown | Code::Internal
        ),
        "{status}"
    );
    assert_eq!(
        service.audit_events().len(),
        0,
        "the request came through to the API"
    );
}

#[tokio::test]
async fn a_sigterm_ends_it_in_time() {
    let mut service = Service::start().await.unwrap();
    let pid = rustix::process::Pid::from_child(&service.process);
    rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
    let begun = std::time::Instant::now();
    let status = loop {
        if let Some(status) = service.process.try_wait().unwrap() {
            break status;
        }
        assert!(
            begun.elapsed() < std::time::Duration::from_secs(25),
            "it did not stop"
        );
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    };
    assert!(status.success(), "{status}");
}
