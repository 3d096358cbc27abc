//! A running join service with everything around it, and machines that meet it.

use std::{
    net::SocketAddr,
    path::PathBuf,
    process::{Child, Command, Stdio},
    sync::{Arc, Weak},
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result};
use attest::{Issue, PcrIndex, Policy, Variant};
use channel::{Client, Verifier};
use cluster::network::AddressPlan;
use k8s::identities;
use k8s_openapi::api::core::v1::ConfigMap;
use keys::{ClusterId, MasterSecret, MeasurementSalt, MeasurementSecret, Salt};
use kube::{Api, api::PostParams};
use proto::join::{IssueJoinTicketRequest, IssueJoinTicketResponse, api_client::ApiClient};
use tee::{TpmAddress, TpmIssuer};
use testkit::{
    boot::Image,
    harness::{self, CONTROL_PLANE, Cluster},
    swtpm::Swtpm,
};
use tonic::Status;

/// The inputs of one of the original's vectors: a disk's key.
pub(crate) const SECRET: [u8; 32] = [0xff; 32];
pub(crate) const VECTOR_DISK: &str = "ffffffff-ffff-ffff-ffff-ffffffffffff";
pub(crate) const VECTOR_KEY: &str =
    "1484aa39d3415e906e07940ff215d8b1eee705d3027dba93306af4abff4f70be";
pub(crate) const MEASUREMENT_SALT: [u8; 32] = [5; 32];

/// A TPM that booted an image, and an issuer on it.
pub(crate) struct Machine {
    pub(crate) tpm: Swtpm,
    pub(crate) issuer: Arc<TpmIssuer>,
    log: PathBuf,
}

impl Machine {
    pub(crate) fn boot(image: &Image) -> Self {
        let tpm = Swtpm::boot(image).expect("swtpm runs (packages swtpm, swtpm-tools)");
        let log = tpm.write_event_log(image).unwrap();
        let issuer = Arc::new(TpmIssuer::new(TpmAddress::Unix(tpm.socket()), log.clone()));
        Self { tpm, issuer, log }
    }

    /// Extends PCR 15 as a member of the cluster does.
    pub(crate) fn mark(&self) {
        let mark = attest::Digest::from_bytes(cluster_id().mark_digest());
        self.tpm.extend(PcrIndex::CLUSTER_MARK, &mark).unwrap();
    }

    /// What a joining node demands of the service: the same boot as its own.
    pub(crate) fn verifier(&self) -> Verifier {
        let (pcrs, log) = self.issuer.own_measurements().unwrap();
        Verifier::same_as_self(
            Policy::from_own_measurements(Variant::QemuVtpm, &pcrs, &log).unwrap(),
        )
    }
}

/// The ID of the cluster of these tests.
pub(crate) fn cluster_id() -> ClusterId {
    let (secret, salt) = root();
    let salt_of_id = MeasurementSalt::from_slice(&MEASUREMENT_SALT).unwrap();
    ClusterId::derive(&MeasurementSecret::derive(&secret, &salt), &salt_of_id)
}

pub(crate) fn root() -> (MasterSecret, Salt) {
    (
        MasterSecret::from_vec(SECRET.to_vec()).unwrap(),
        Salt::from_vec(SECRET.to_vec()).unwrap(),
    )
}

/// A join service and all that it works with. Each has a cluster of its own: they write records.
pub(crate) struct Service {
    pub(crate) cluster: Cluster,
    pub(crate) machine: Machine,
    pub(crate) address: SocketAddr,
    pub(crate) operations: SocketAddr,
    process: Child,
    log: PathBuf,
    audit: PathBuf,
    key_service: runtime::Context,
}

impl Service {
    /// The service of the tests that run now and admit nobody; a new one when there is none.
    pub(crate) async fn shared() -> Arc<Self> {
        static SHARED: tokio::sync::Mutex<Weak<Service>> =
            tokio::sync::Mutex::const_new(Weak::new());
        let mut shared = SHARED.lock().await;
        if let Some(service) = shared.upgrade() {
            return service;
        }
        let service = Arc::new(Self::start(&Image::default()).await.unwrap());
        *shared = Arc::downgrade(&service);
        service
    }

    pub(crate) async fn start(image: &Image) -> Result<Self> {
        let cluster = Cluster::start().await?;
        cluster
            .initialise(&image.policy(), AddressPlan::default(), MEASUREMENT_SALT)
            .await?;
        let (key_service, key_address) = start_key_service(&cluster).await?;

        let machine = Machine::boot(image);
        machine.mark();
        let (address, operations) = (harness::free_address()?, harness::free_address()?);
        let directory = cluster.directory.path();
        let (log, audit) = (
            directory.join("join-service.log"),
            directory.join("join-service.audit"),
        );
        let token = directory.join("token");
        std::fs::write(
            &token,
            cluster
                .token("kube-system", "join-service", Some("key-service"))
                .await?,
        )?;
        let process = Command::new(env!("CARGO_BIN_EXE_join-service"))
            .arg(format!("--listen={address}"))
            .arg(format!("--operations={operations}"))
            .arg(format!("--key-service={key_address}"))
            .arg(format!("--key-service-token={}", token.display()))
            .arg(format!(
                "--cluster-ca={}",
                cluster.pki().join("ca.crt").display()
            ))
            .arg(format!(
                "--kubernetes={}",
                cluster.pki().join("..").display()
            ))
            .arg(format!(
                "--kubeconfig={}",
                cluster.kubeconfig("join-service").await?.display()
            ))
            .arg(format!("--swtpm={}", machine.tpm.socket().display()))
            .arg(format!("--event-log={}", machine.log.display()))
            .stdin(Stdio::null())
            .stdout(std::fs::File::create(&audit)?)
            .stderr(std::fs::File::create(&log)?)
            .spawn()
            .context("start the join service")?;
        let service = Self {
            cluster,
            machine,
            address,
            operations,
            process,
            log,
            audit,
            key_service,
        };
        harness::wait_ready(operations)
            .await
            .with_context(|| service.log())?;
        Ok(service)
    }

    /// The log of the process so far.
    pub(crate) fn log(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// The most memory that the process had at any time, in MiB.
    pub(crate) fn peak_memory(&self) -> u64 {
        let path = format!("/proc/{}/status", self.process.id());
        let status = std::fs::read_to_string(path).unwrap();
        let line = status.lines().find(|line| line.starts_with("VmHWM:"));
        let kib = line.and_then(|line| line.split_whitespace().nth(1));
        kib.unwrap().parse::<u64>().unwrap() / 1024
    }

    /// The audit events so far.
    pub(crate) fn audit(&self) -> Vec<serde_json::Value> {
        let text = std::fs::read_to_string(&self.audit).unwrap();
        text.lines()
            .map(|line| serde_json::from_str(line).unwrap())
            .collect()
    }

    /// Connects as a joining node on `machine`.
    pub(crate) async fn connect(
        &self,
        machine: &Machine,
    ) -> Result<tonic::transport::Channel, channel::Error> {
        self.connect_with(machine.issuer.clone(), machine.verifier())
            .await
    }

    /// Connects with evidence from `issuer`.
    pub(crate) async fn connect_with(
        &self,
        issuer: Arc<dyn Issue>,
        verifier: Verifier,
    ) -> Result<tonic::transport::Channel, channel::Error> {
        let client = Client::joining_node(issuer, verifier);
        Ok(channel::tonic::connect(&client, self.address).await?.0)
    }

    /// Asks for a ticket as `machine`.
    pub(crate) async fn join(
        &self,
        machine: &Machine,
        request: IssueJoinTicketRequest,
    ) -> Result<IssueJoinTicketResponse, Status> {
        let channel = self
            .connect(machine)
            .await
            .expect("the machine is attested");
        Ok(ApiClient::new(channel)
            .issue_join_ticket(request)
            .await?
            .into_inner())
    }

    /// The records of the cluster but the control plane's.
    pub(crate) async fn workers(&self) -> Vec<identities::NodeIdentity> {
        let api = identities::api(self.cluster.agent().await.unwrap());
        let all = api.list(&identities::list_params()).await.unwrap().items;
        all.into_iter()
            .filter(|record| record.metadata.name.as_deref() != Some(CONTROL_PLANE))
            .collect()
    }

    /// Waits until `condition` gives something.
    pub(crate) async fn eventually<T, F: Future<Output = Option<T>>>(
        &self,
        what: &str,
        mut condition: impl FnMut() -> F,
    ) -> T {
        let begun = Instant::now();
        loop {
            if let Some(value) = condition().await {
                return value;
            }
            assert!(
                begun.elapsed() < Duration::from_secs(60),
                "never happened: {what}\n{}",
                self.log()
            );
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    }

    /// Replaces the policy in `join-config` and waits until the service has it.
    pub(crate) async fn set_policy(&self, policy: &Policy) {
        let before = self.log().matches("join-config changed").count();
        let maps = Api::<ConfigMap>::namespaced(self.cluster.agent().await.unwrap(), "kube-system");
        let mut map = maps.get(cluster::join_config::CONFIG_MAP).await.unwrap();
        map.data.as_mut().unwrap().insert(
            cluster::join_config::ATTESTATION_CONFIG.to_owned(),
            policy.to_json(),
        );
        maps.replace(
            cluster::join_config::CONFIG_MAP,
            &PostParams::default(),
            &map,
        )
        .await
        .unwrap();
        self.eventually("the new policy holds", || async {
            (self.log().matches("join-config changed").count() > before).then_some(())
        })
        .await;
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        self.key_service.shutdown.cancel();
        // It may have ended by itself.
        let _ended = self.process.kill();
        let _reaped = self.process.wait();
    }
}

/// The real key service, in this process.
async fn start_key_service(cluster: &Cluster) -> Result<(runtime::Context, SocketAddr)> {
    let directory = cluster.directory.path().join("mastersecret");
    harness::write_secret(&directory, &SECRET, &SECRET)?;
    let (listen, operations) = (harness::free_address()?, harness::free_address()?);
    let arguments = key_service::Arguments {
        listen,
        operations,
        secret: directory,
        tls: cluster.pki().join("key-service"),
        kubeconfig: Some(cluster.kubeconfig("key-service").await?),
    };
    let context = runtime::Context::new("key-service");
    let running = key_service::run(arguments, context.clone());
    // A runtime of its own: the test that starts it may end before others that share it.
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        // Its end, good or bad, shows in the tickets.
        let _ended = runtime.block_on(running);
    });
    harness::wait_ready(operations).await?;
    Ok((context, listen))
}

/// The request of worker number `number`, whose disk is that number.
pub(crate) fn request(number: u8) -> IssueJoinTicketRequest {
    IssueJoinTicketRequest {
        disk_uuid: format!("00000000-0000-4000-8000-0000000000{number:02x}"),
        node_name: format!("worker-{number}"),
        node_ip: format!("10.42.2.{number}"),
        wireguard_public_key: vec![number; 32],
        ..IssueJoinTicketRequest::default()
    }
}
