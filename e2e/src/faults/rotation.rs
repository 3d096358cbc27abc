//! Certificates that are issued while something is killed, and the process that issues them killed.

use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context as _, Result};
use jiff::Timestamp;
use k8s::pki::{Leaf, NodeNames, Pki};
use testkit::kubernetes::ControlPlane;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::random::Random;
use super::table::Row;

/// The first argument of a process that issues certificates in the directory that is the second, until it is killed.
pub const ISSUE: &str = "issue";

/// Renews a control plane's certificates as they get due, until it is stopped.
pub struct Renewals {
    stop: CancellationToken,
    task: JoinHandle<()>,
}

impl Renewals {
    /// Begins.
    pub fn start(control_plane: &ControlPlane) -> Self {
        let node = control_plane.node();
        let (directory, lifetime) = (node.paths().pki(), node.lifetime());
        let names = node.names(Ipv4Addr::LOCALHOST, Vec::new());
        let stop = CancellationToken::new();
        let stopped = stop.clone();
        let task = tokio::spawn(async move {
            while !stopped.is_cancelled() {
                // read anew, as a node does
                let renewed = Pki::open(names.clone(), &directory).and_then(|pki| {
                    pki.with_lifetime(lifetime)
                        .renew(Timestamp::now())
                        .map(drop)
                });
                if let Err(error) = renewed {
                    eprintln!("renewing certificates: {error}");
                }
                tokio::select! {
                    () = stopped.cancelled() => {}
                    () = tokio::time::sleep(Duration::from_secs(1)) => {}
                }
            }
        });
        Self { stop, task }
    }

    /// Ends. Nobody else may issue certificates before.
    ///
    /// # Errors
    /// When it had ended in a panic.
    pub async fn stop(self) -> Result<()> {
        self.stop.cancel();
        self.task.await.context("the renewal of certificates")
    }
}

/// A process that issues a control plane's certificates again and again, as fast as it can.
pub struct Rotation {
    child: Child,
    directory: PathBuf,
}

impl Rotation {
    /// Starts it: this program, with other arguments.
    ///
    /// # Errors
    /// When it does not start.
    pub fn start(directory: &Path) -> Result<Self> {
        let child = Command::new(program()?)
            .arg(ISSUE)
            .arg(directory)
            .stdin(Stdio::null())
            .spawn()
            .context("start the process that issues certificates")?;
        Ok(Self {
            child,
            directory: directory.to_owned(),
        })
    }

    /// Kills it, and looks at what it left: at most one pair may be mixed, and nothing may be there in part.
    ///
    /// # Errors
    /// When it had ended by itself.
    pub fn kill(mut self, run: u64) -> Result<Vec<String>> {
        let ended = self.child.try_wait().context("look after the process")?;
        anyhow::ensure!(ended.is_none(), "it stopped by itself: {ended:?}");
        self.child.kill().context("kill it")?;
        self.child.wait().context("wait for its end")?;
        let mut mixed = Vec::new();
        let mut losses = Vec::new();
        for leaf in Leaf::ALL {
            match belong_together(&self.directory, leaf) {
                Ok(true) => {}
                Ok(false) => mixed.push(leaf),
                Err(error) => losses.push(format!("run {run}: {leaf:?}: {error:#}")),
            }
        }
        if mixed.len() > 1 {
            losses.push(format!("run {run}: mixed pairs: {mixed:?}"));
        }
        Ok(losses)
    }
}

/// The program with the `main` that knows [`ISSUE`]: this one, or beside the tests of this package.
fn program() -> Result<PathBuf> {
    let own = std::env::current_exe().context("find this program")?;
    if own.file_stem().is_some_and(|name| name == "faults") {
        return Ok(own);
    }
    let target = own.ancestors().nth(2).context("find the programs")?;
    Ok(target.join("faults"))
}

fn belong_together(directory: &Path, leaf: Leaf) -> Result<bool> {
    let read = |path: PathBuf| {
        let path = directory.join(path);
        std::fs::read_to_string(&path).with_context(|| format!("read {}", path.display()))
    };
    let key = rcgen::KeyPair::from_pem(&read(leaf.key())?).context("the key")?;
    let certificate = read(leaf.certificate())?;
    let (_, block) = x509_parser::pem::parse_x509_pem(certificate.as_bytes())
        .context("the certificate's text")?;
    let certificate = block.parse_x509().context("the certificate")?;
    let public = &certificate.public_key().subject_public_key.data;
    Ok(public.as_ref() == rcgen::PublicKeyData::der_bytes(&key))
}

fn names() -> Result<NodeNames> {
    Ok(NodeNames {
        node_name: "control-plane-0".parse()?,
        mesh_ip: Ipv4Addr::LOCALHOST,
        node_ip: Ipv4Addr::LOCALHOST,
        api_service_ip: cluster::network::AddressPlan::default().api_service_ip(),
        api_sans: Vec::new(),
    })
}

/// What the process does.
///
/// # Errors
/// When a certificate can not be issued; else it goes on until it is killed.
pub fn issue_for_ever(directory: &Path) -> Result<()> {
    let pki = Pki::open(names()?, directory)?;
    loop {
        for leaf in Leaf::ALL {
            pki.issue(leaf, Timestamp::now())?;
        }
    }
}

/// Kills a process that issues certificates at random moments, where nothing else runs.
///
/// # Errors
/// When a certificate can not be issued at all. What was not whole is in the row.
pub fn run(runs: u64, seed: u64) -> Result<Row> {
    let mut random = Random::new(seed);
    let directory = tempfile::tempdir()?;
    let now = Timestamp::now();
    let pki = Pki::open_or_generate("test", names()?, directory.path(), now)?;
    pki.write(now)?;
    let mut row = Row {
        fault: "kill -9 of the process that issues certificates".to_owned(),
        window: "every file operation of a rotation".to_owned(),
        ..Row::default()
    };
    for run in 1..=runs {
        let rotation = Rotation::start(directory.path())?;
        // it takes some milliseconds to begin
        std::thread::sleep(
            Duration::from_millis(20) + random.time_below(Duration::from_millis(100)),
        );
        row.losses.extend(rotation.kill(run)?);
        pki.renew(Timestamp::now())?;
        for leaf in Leaf::ALL {
            if !belong_together(directory.path(), leaf).unwrap_or_default() {
                row.losses.push(format!("run {run}: {leaf:?} is not whole"));
            }
        }
        row.runs = run;
    }
    Ok(row)
}
