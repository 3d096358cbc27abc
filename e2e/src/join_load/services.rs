//! A cluster's API with a key service and a join service, and what these processes use.

use std::net::SocketAddr;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, Result};
use attest::{Digest, PcrIndex};
use cluster::network::AddressPlan;
use k8s::identities::{self, NodeIdentity};
use keys::{ClusterId, MasterSecret, MeasurementSalt, MeasurementSecret, Salt};
use testkit::boot::Image;
use testkit::harness::{self, CONTROL_PLANE, Cluster};
use testkit::swtpm::Swtpm;
use tokio::process::{Child, Command};

const SECRET: [u8; 32] = [7; 32];
const MEASUREMENT_SALT: [u8; 32] = [5; 32];
/// Linux counts the time of processes in hundredths of a second for whoever asks, on every machine.
const TICKS_PER_SECOND: f64 = 100.0;

/// The running services. They end when it is dropped.
pub struct Services {
    /// Where nodes join.
    pub address: SocketAddr,
    join_service: Child,
    _key_service: Child,
    _tpm: Swtpm,
    cluster: Cluster,
}

impl Services {
    /// Starts all of it on loopback, with the programs in `programs`; waits until the join service is ready.
    ///
    /// # Errors
    /// When a program is missing, does not start, or is not ready in time.
    pub async fn start(programs: &Path, image: &Image) -> Result<Self> {
        let cluster = Cluster::start().await?;
        // room for 4,095 nodes; the default has it for 255
        let plan = AddressPlan::new("10.128.0.0/12".parse()?, AddressPlan::default().services())?;
        cluster
            .initialise(&image.policy(), plan, MEASUREMENT_SALT)
            .await?;
        let (key_service, key_address) = start_key_service(programs, &cluster).await?;

        let tpm = Swtpm::boot(image)?;
        let event_log = tpm.write_event_log(image)?;
        let mark = Digest::from_bytes(cluster_id()?.mark_digest());
        tpm.extend(PcrIndex::CLUSTER_MARK, &mark)?;

        let (address, operations) = (harness::free_address()?, harness::free_address()?);
        let directory = cluster.directory.path();
        let token = directory.join("token");
        let text = cluster
            .token("kube-system", "join-service", Some("key-service"))
            .await?;
        std::fs::write(&token, text)?;
        let kubeconfig = cluster.kubeconfig("join-service").await?;
        let authority = cluster.pki().join("ca.crt");
        let mut command = Command::new(programs.join("join-service"));
        command
            .arg(format!("--listen={address}"))
            .arg(format!("--operations={operations}"))
            .arg(format!("--key-service={key_address}"))
            .arg(format!("--key-service-token={}", token.display()))
            .arg(format!("--cluster-ca={}", authority.display()))
            .arg(format!("--kubeconfig={}", kubeconfig.display()))
            .arg(format!("--swtpm={}", tpm.socket().display()))
            .arg(format!("--event-log={}", event_log.display()));
        let join_service = spawn(command, &directory.join("join-service.log"))?;
        harness::wait_ready(operations).await?;
        Ok(Self {
            address,
            join_service,
            _key_service: key_service,
            _tpm: tpm,
            cluster,
        })
    }

    /// The records of all nodes but the control plane's.
    ///
    /// # Errors
    /// When they cannot be listed, or one cannot be read.
    pub async fn records(&self) -> Result<Vec<cluster::identity::NodeIdentity>> {
        let all = identities::api(self.cluster.agent().await?)
            .list(&identities::list_params())
            .await?;
        all.items
            .iter()
            .map(NodeIdentity::to_identity)
            .filter(|record| {
                record
                    .as_ref()
                    .map_or(true, |record| record.name.as_str() != CONTROL_PLANE)
            })
            .map(|record| record.context("read a record"))
            .collect()
    }

    /// The processor time of the join service since it began.
    ///
    /// # Errors
    /// When it has ended.
    pub fn processor_time(&self) -> Result<Duration> {
        let stat = self.process_file("stat")?;
        // the name in parentheses may hold anything; the state is the first field behind it, user and system time 11 further on
        let (_, fields) = stat.rsplit_once(')').context("read /proc/…/stat")?;
        let ticks: f64 = fields
            .split_whitespace()
            .skip(11)
            .take(2)
            .filter_map(|field| field.parse::<f64>().ok())
            .sum();
        Ok(Duration::from_secs_f64(ticks / TICKS_PER_SECOND))
    }

    /// The most memory the join service had resident, in MiB.
    ///
    /// # Errors
    /// When it has ended.
    pub fn peak_memory(&self) -> Result<u64> {
        let status = self.process_file("status")?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
        let kib = line.and_then(|line| line.split_whitespace().next());
        let kib: u64 = kib.context("no VmHWM in /proc/…/status")?.parse()?;
        Ok(kib / 1024)
    }

    fn process_file(&self, name: &str) -> Result<String> {
        let id = self.join_service.id().context("the join service ended")?;
        let path = format!("/proc/{id}/{name}");
        std::fs::read_to_string(&path).with_context(|| format!("read {path}"))
    }
}

fn cluster_id() -> Result<ClusterId> {
    let secret = MasterSecret::from_vec(SECRET.to_vec())?;
    let salt = Salt::from_vec(SECRET.to_vec())?;
    let salt_of_id = MeasurementSalt::from_slice(&MEASUREMENT_SALT)?;
    let secret = MeasurementSecret::derive(&secret, &salt);
    Ok(ClusterId::derive(&secret, &salt_of_id))
}

async fn start_key_service(programs: &Path, cluster: &Cluster) -> Result<(Child, SocketAddr)> {
    let directory = cluster.directory.path();
    let secret = directory.join("mastersecret");
    harness::write_secret(&secret, &SECRET, &SECRET)?;
    let (address, operations) = (harness::free_address()?, harness::free_address()?);
    let kubeconfig = cluster.kubeconfig("key-service").await?;
    let mut command = Command::new(programs.join("key-service"));
    command
        .arg(format!("--listen={address}"))
        .arg(format!("--operations={operations}"))
        .arg(format!("--secret={}", secret.display()))
        .arg(format!(
            "--tls={}",
            cluster.pki().join("key-service").display()
        ))
        .arg(format!("--kubeconfig={}", kubeconfig.display()));
    let child = spawn(command, &directory.join("key-service.log"))?;
    harness::wait_ready(operations).await?;
    Ok((child, address))
}

/// Starts a program that ends with its owner and writes to a file, so that no pipe holds it up.
fn spawn(mut command: Command, log: &Path) -> Result<Child> {
    let log = std::fs::File::create(log)?;
    command
        .stdin(Stdio::null())
        .stdout(log.try_clone()?)
        .stderr(log)
        .kill_on_drop(true)
        .spawn()
        .with_context(|| format!("cannot start {:?}", command.as_std().get_program()))
}
