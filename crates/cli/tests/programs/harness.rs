//! A workspace, an image that nobody boots, components that nobody runs, and the binary.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output};
use std::time::{Duration, Instant};

use keys::{ClusterId, MasterSecretFile, MeasurementSalt, MeasurementSecret};
use tempfile::TempDir;
use testkit::boot::Image;

/// A local cluster has fixed ports: tests that use or occupy them take turns.
pub(crate) static HOST_PORTS: tokio::sync::Mutex<()> = tokio::sync::Mutex::const_new(());

pub(crate) struct Lab {
    directory: TempDir,
    pub image: Image,
}

/// What a run of the binary left.
#[derive(Debug)]
pub(crate) struct Ran {
    pub code: Option<i32>,
    pub stdout: String,
    pub stderr: String,
}

impl Drop for Lab {
    /// A test that fails must not leave machines that are in the way of the next.
    fn drop(&mut self) {
        if std::thread::panicking() && self.file("constellation-mini").exists() {
            let down = self.command(&["mini", "down", "--yes"]).output();
            eprintln!("taken down after a failure: {down:?}");
        }
    }
}

/// Waits for the end of a command that has one; kills a command that has none, and fails.
pub(crate) fn await_end(child: &mut Child) -> ExitStatus {
    let deadline = Instant::now() + Duration::from_secs(180);
    loop {
        if let Some(status) = child.try_wait().unwrap() {
            return status;
        }
        if Instant::now() > deadline {
            child.kill().unwrap();
            panic!("the command does not end");
        }
        std::thread::sleep(Duration::from_millis(50));
    }
}

impl From<Output> for Ran {
    fn from(output: Output) -> Self {
        Self {
            code: output.status.code(),
            stdout: String::from_utf8(output.stdout).unwrap(),
            stderr: String::from_utf8(output.stderr).unwrap(),
        }
    }
}

/// The measurement salt of every cluster in these tests.
const SALT: [u8; 32] = [3; 32];

impl Lab {
    /// Puts a new master secret into the workspace, and says which cluster it makes with [`SALT`].
    pub(crate) fn with_master_secret(&self) -> (MasterSecretFile, ClusterId) {
        let master = MasterSecretFile::generate().unwrap();
        let path = self.file("constellation-mastersecret.json");
        std::fs::write(path, master.expose_json().as_bytes()).unwrap();
        let secret = MeasurementSecret::derive(&master.master_secret, &master.salt);
        let salt = MeasurementSalt::from_slice(&SALT).unwrap();
        let cluster_id = ClusterId::derive(&secret, &salt);
        (master, cluster_id)
    }

    pub(crate) fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let lab = Self {
            directory,
            image: Image::default(),
        };
        for path in [lab.workspace(), lab.image_dir(), lab.runtime_dir()] {
            std::fs::create_dir(path).unwrap();
        }
        let measurements = serde_json::to_vec(&lab.image.measurements()).unwrap();
        std::fs::write(lab.image_dir().join("measurements.json"), measurements).unwrap();
        let info = serde_json::json!({
            "ref": "-", "stream": "stable", "version": lab.image.version,
            "list": [{ "csp": "qemu", "attestationVariant": "qemu-vtpm", "reference": "image.raw" }],
        });
        std::fs::write(lab.image_dir().join("info.json"), info.to_string()).unwrap();
        std::fs::write(lab.image_dir().join("image.raw"), "not bootable").unwrap();
        let bin = lab.components().join("v1.20.2/bin/linux/amd64");
        std::fs::create_dir_all(&bin).unwrap();
        for program in [
            "kube-apiserver",
            "kube-controller-manager",
            "kube-scheduler",
            "kubelet",
            "kube-proxy",
        ] {
            std::fs::write(bin.join(program), format!("{program}\n").repeat(1000)).unwrap();
        }
        lab
    }

    /// With a generated config file, and state disks that any test host has room for.
    pub(crate) fn configured() -> Self {
        let lab = Self::new();
        let ran = lab.run(&[
            "config",
            "generate",
            "qemu",
            "--kubernetes",
            "v1.20.2",
            "--image-dir",
            lab.image_dir().to_str().unwrap(),
        ]);
        assert_eq!(ran.code, Some(0), "{ran:?}");
        lab.change_config("stateDiskSizeGB: 8", "stateDiskSizeGB: 2");
        lab
    }

    /// Replaces a text of the config file wherever it stands.
    pub(crate) fn change_config(&self, from: &str, to: &str) {
        let path = self.file("constellation-conf.yaml");
        let text = std::fs::read_to_string(&path).unwrap();
        assert!(text.contains(from), "{text}");
        std::fs::write(&path, text.replace(from, to)).unwrap();
    }

    pub(crate) fn path(&self) -> &Path {
        self.directory.path()
    }

    pub(crate) fn workspace(&self) -> PathBuf {
        self.path().join("workspace")
    }

    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.workspace().join(name)
    }

    pub(crate) fn image_dir(&self) -> PathBuf {
        self.path().join("image")
    }

    pub(crate) fn components(&self) -> PathBuf {
        self.path().join("components")
    }

    pub(crate) fn runtime_dir(&self) -> PathBuf {
        self.path().join("run")
    }

    pub(crate) fn binary() -> &'static str {
        env!("CARGO_BIN_EXE_constellation")
    }

    /// The binary in this workspace, nothing of the caller's environment but the path.
    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(Self::binary());
        self.dress(&mut command);
        command.arg("-C").arg(self.workspace()).args(arguments);
        command
    }

    /// Gives a command the environment of this workspace.
    pub(crate) fn dress(&self, command: &mut Command) {
        command
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap())
            .env("HOME", self.path())
            .env("XDG_RUNTIME_DIR", self.runtime_dir())
            .env("CONSTELLATION_COMPONENTS", self.components())
            .current_dir(self.path());
    }

    pub(crate) fn run(&self, arguments: &[&str]) -> Ran {
        self.command(arguments).output().unwrap().into()
    }

    pub(crate) fn up(&self) -> Vec<String> {
        ["mini", "up", "--image-dir"]
            .map(str::to_owned)
            .into_iter()
            .chain([self.image_dir().display().to_string()])
            .collect()
    }
}
