//! What the tests on machines share: directories, the programs, and the cluster's workspace.

use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use e2e::commands::{Ran, directory, run};
use serde_json::Value;

/// How long the API of emulated machines may not answer, or their firmware take to a cluster that does.
pub(crate) const PATIENCE: Duration = Duration::from_secs(1800);

/// What kubectl says when it has no answer: the API of a machine whose processors are busy, or one that starts, as a user of slow machines
/// sees it. An answer, whatever it says, is none of these.
const NO_ANSWER: [&str; 9] = [
    "Timeout",
    "timeout",
    "INTERNAL_ERROR",
    "connection refused",
    "connection reset",
    "EOF",
    "etcdserver:",
    "unexpected error when reading response body",
    // a kubelet has no serving certificate in the first seconds of its node
    "tls: internal error",
];

/// Directories of one run. Dropping it takes the cluster down.
pub(crate) struct World {
    programs: PathBuf,
    /// Directory of the image.
    pub(crate) image: PathBuf,
    /// Components with the image of test pods beside them.
    components: PathBuf,
    /// The cluster's workspace.
    pub(crate) workspace: PathBuf,
    /// Sockets, by `XDG_RUNTIME_DIR`.
    pub(crate) runtime: PathBuf,
    base: PathBuf,
}

impl World {
    /// Makes empty directories; nothing runs yet.
    pub(crate) fn new() -> Result<Self> {
        let base = std::env::temp_dir().join(format!("cst-e2e-{}", std::process::id()));
        let world = Self {
            programs: directory("CONSTELLATION_PROGRAMS")?,
            image: directory("CONSTELLATION_IMAGE")?,
            components: base.join("components"),
            workspace: base.join("workspace"),
            runtime: base.join("run"),
            base,
        };
        for path in [
            &world.components.join("images"),
            &world.workspace,
            &world.runtime,
        ] {
            std::fs::create_dir_all(path)
                .with_context(|| format!("cannot make {}", path.display()))?;
        }
        let given = directory("CONSTELLATION_COMPONENTS")?;
        for entry in
            std::fs::read_dir(&given).with_context(|| format!("cannot list {}", given.display()))?
        {
            let entry = entry?;
            if entry.file_name().to_string_lossy().starts_with('v') {
                symlink(entry.path(), world.components.join(entry.file_name()))?;
            }
        }
        e2e::pod_image::write(&world.components.join("images/busybox.tar"))?;
        Ok(world)
    }

    /// `constellation` in the cluster's workspace.
    pub(crate) fn constellation(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(self.programs.join("constellation"));
        command
            .arg("-C")
            .arg(&self.workspace)
            .args(arguments)
            .env("CONSTELLATION_COMPONENTS", &self.components)
            .env("XDG_RUNTIME_DIR", &self.runtime)
            .env("NO_COLOR", "1");
        command
    }

    /// `constellation mini up` with this run's image.
    pub(crate) fn mini_up(&self) -> Command {
        let mut command = self.constellation(&["mini", "up", "--workers", "1", "--image-dir"]);
        command.arg(&self.image);
        command
    }

    /// Verifies one machine, as JSON.
    pub(crate) fn verify(&self, endpoint: &str) -> Result<(i32, Value)> {
        let arguments = ["verify", "-o", "json", "--node-endpoint", endpoint];
        let Ran {
            code,
            stdout,
            stderr,
        } = run(&mut self.constellation(&arguments))?;
        let report = serde_json::from_str(&stdout)
            .with_context(|| format!("verify printed:\n{stdout}{stderr}"))?;
        Ok((code, report))
    }

    /// Verifies every node until all have answered and are accepted. Any other end counts at once: only an answer that is missing, of
    /// the API or of a node, is asked for again.
    pub(crate) fn every_node_verified(&self) -> Result<Value> {
        let end = Instant::now() + PATIENCE;
        loop {
            let Ran {
                code,
                stdout,
                stderr,
            } = run(&mut self.constellation(&["verify", "-o", "json"]))?;
            if code == 0 {
                return serde_json::from_str(&stdout)
                    .with_context(|| format!("verify printed:\n{stdout}{stderr}"));
            }
            // 6: the API does not answer
            let is_unanswered = code == 6 || code == 3 && says_unreachable_only(&stdout);
            ensure!(
                is_unanswered && Instant::now() < end,
                "verify ended with {code}: {stdout}{stderr}"
            );
            std::thread::sleep(Duration::from_secs(5));
        }
    }

    /// `kubectl` with the cluster's kubeconfig.
    pub(crate) fn kubectl(&self, arguments: &[&str]) -> Command {
        let program = std::fs::read_dir(&self.components)
            .into_iter()
            .flatten()
            .flatten()
            .map(|entry| entry.path().join("bin/linux/amd64/kubectl"))
            .find(|path| path.is_file())
            .unwrap_or_else(|| "kubectl".into());
        let mut command = Command::new(program);
        command
            .arg("--kubeconfig")
            .arg(self.workspace.join("constellation-admin.conf"))
            .args(arguments);
        command
    }

    /// Runs `kubectl` until the API answers, whatever the answer is. So `arguments` must mean the same the second time.
    pub(crate) fn ask(&self, arguments: &[&str]) -> Result<Ran> {
        let end = Instant::now() + PATIENCE;
        let mut told = false;
        loop {
            let ran = run(&mut self.kubectl(arguments))?;
            let is_answered =
                ran.code == 0 || !NO_ANSWER.iter().any(|words| ran.stderr.contains(words));
            if is_answered || Instant::now() > end {
                return Ok(ran);
            }
            if !std::mem::replace(&mut told, true) {
                eprintln!("asked again: kubectl {arguments:?}: {}", ran.stderr.trim());
            }
            std::thread::sleep(Duration::from_secs(5));
        }
    }

    /// The same; gives what it prints when it succeeds.
    pub(crate) fn answer(&self, arguments: &[&str]) -> Result<String> {
        let Ran {
            code,
            stdout,
            stderr,
        } = self.ask(arguments)?;
        ensure!(
            code == 0,
            "kubectl {arguments:?} ended with {code}: {stdout}{stderr}"
        );
        Ok(stdout)
    }

    /// What `kubectl get ... -o json` prints.
    pub(crate) fn get(&self, arguments: &[&str]) -> Result<Value> {
        let text = self.answer(&[&["get", "-o", "json"], arguments].concat())?;
        Ok(serde_json::from_str(&text)?)
    }

    /// Writes an object that the API acknowledges.
    pub(crate) fn apply(&self, object: &Value) -> Result<()> {
        let name = object["metadata"]["name"].as_str().context("no name")?;
        let file = self.scratch("manifests")?.join(format!("{name}.json"));
        std::fs::write(&file, serde_json::to_vec(object)?)?;
        let file = file.to_str().context("a path that is no text")?;
        self.answer(&["apply", "-f", file]).map(drop)
    }

    /// The directory of sockets that `mini up` made.
    pub(crate) fn run_directory(&self) -> Result<PathBuf> {
        let mut entries = std::fs::read_dir(&self.runtime)?;
        Ok(entries
            .next()
            .context("mini up made no run directory")??
            .path())
    }

    /// A directory for a test's own files.
    pub(crate) fn scratch(&self, name: &str) -> Result<PathBuf> {
        let path = self.base.join(name);
        std::fs::create_dir_all(&path)?;
        Ok(path)
    }

    /// Every file of the workspace that a person or a log collector would read.
    pub(crate) fn texts(&self) -> Result<Vec<PathBuf>> {
        let mut texts = vec![];
        collect(&self.workspace.join("constellation-mini"), &mut texts)?;
        Ok(texts
            .into_iter()
            .filter(|path| path.extension().is_some_and(|e| e == "log" || e == "json"))
            .collect())
    }
}

/// Whether a report of `verify` has nothing against a node but that it does not answer.
fn says_unreachable_only(report: &str) -> bool {
    let report: Value = serde_json::from_str(report).unwrap_or(Value::Null);
    let nodes = || report["nodes"].as_array().into_iter().flatten();
    let is_wrong = |node: &Value| {
        let mut checks = node["identity"].as_array().into_iter().flatten();
        node["verdict"] == "verified" && checks.any(|check| check["outcome"] == "failed")
    };
    nodes().any(|node| node["verdict"] == "unreachable")
        && !nodes().any(|node| node["verdict"] == "refused" || is_wrong(node))
}

fn collect(directory: &Path, out: &mut Vec<PathBuf>) -> Result<()> {
    for entry in std::fs::read_dir(directory)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            collect(&entry.path(), out)?;
        } else {
            out.push(entry.path());
        }
    }
    Ok(())
}

impl Drop for World {
    fn drop(&mut self) {
        if let Err(error) = run(&mut self.constellation(&["mini", "down", "--yes"])) {
            eprintln!("mini down: {error:#}");
        }
        if std::thread::panicking() || std::env::var_os("CONSTELLATION_KEEP").is_some() {
            eprintln!("kept: {}", self.base.display());
        } else if let Err(error) = std::fs::remove_dir_all(&self.base) {
            eprintln!("cannot remove {}: {error}", self.base.display());
        }
    }
}
