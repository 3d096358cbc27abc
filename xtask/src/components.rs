//! Kubernetes for `mini` and the tests, from the first of four places that has it:
//! `$CONSTELLATION_COMPONENTS`, `../shared/kubernetes` beside the checkout, the Internet, a build of
//! Debian's source package. Says which it was and fails where none can be had.

mod debian;

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

use crate::workspace;

/// The version every host can get or build; see `docs/testing.md`.
pub(crate) const VERSION: &str = "v1.20.2";

/// The programs of one Kubernetes version that a node and the tests run.
pub(crate) const PROGRAMS: [&str; 6] = [
    "kube-apiserver",
    "kube-controller-manager",
    "kube-scheduler",
    "kube-proxy",
    "kubelet",
    "kubectl",
];

/// Gives a directory in the layout of dl.k8s.io: `<version>/bin/linux/amd64/<program>`.
pub(crate) fn run() -> Result<PathBuf> {
    if let Some(dir) = std::env::var_os("CONSTELLATION_COMPONENTS") {
        let dir = PathBuf::from(dir);
        let version = version_in(&dir).with_context(|| {
            format!(
                "$CONSTELLATION_COMPONENTS = {} holds no <version>/bin/linux/amd64/kube-apiserver",
                dir.display()
            )
        })?;
        eprintln!(
            "Kubernetes {version} from $CONSTELLATION_COMPONENTS, {}",
            dir.display()
        );
        return Ok(dir);
    }
    let dir = workspace::target().join("components");
    let shared = workspace::root().join("../shared/kubernetes/unpack");
    if shared.is_file() {
        eprintln!("Kubernetes {VERSION} from ../shared/kubernetes");
        workspace::run(Command::new(&shared).arg(&dir).stdout(Stdio::null()))?;
    } else if complete(&dir) {
        eprintln!(
            "Kubernetes {VERSION} from an earlier run, {}",
            dir.display()
        );
    } else if let Err(error) = download(&dir) {
        eprintln!(
            "Kubernetes {VERSION} cannot be had from the Internet ({error:#}); building Debian's source package"
        );
        debian::build(&dir).context("Kubernetes cannot be had: set $CONSTELLATION_COMPONENTS to a directory in the layout of dl.k8s.io")?;
    }
    if !complete(&dir) {
        bail!("{} lacks one of {PROGRAMS:?} for {VERSION}", dir.display());
    }
    Ok(dir)
}

fn bin(dir: &Path, version: &str) -> PathBuf {
    dir.join(version).join("bin/linux/amd64")
}

fn complete(dir: &Path) -> bool {
    PROGRAMS
        .iter()
        .all(|program| bin(dir, VERSION).join(program).is_file())
}

fn version_in(dir: &Path) -> Option<String> {
    std::fs::read_dir(dir)
        .ok()?
        .flatten()
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .find(|version| {
            version.starts_with('v') && bin(dir, version).join("kube-apiserver").is_file()
        })
}

/// Fetches each program and compares it with the checksum that dl.k8s.io publishes beside it.
fn download(dir: &Path) -> Result<()> {
    let out = bin(dir, VERSION);
    std::fs::create_dir_all(&out)?;
    for program in PROGRAMS {
        let url = format!("https://dl.k8s.io/{VERSION}/bin/linux/amd64/{program}");
        let part = out.join(format!(".{program}.part"));
        let curl = ["-fsSL", "--connect-timeout", "5", "--retry", "3"];
        let sum = Command::new("curl")
            .args(curl)
            .arg(format!("{url}.sha256"))
            .output()
            .context("cannot start curl")?;
        if !sum.status.success() {
            bail!(
                "{url}.sha256: {}",
                String::from_utf8_lossy(&sum.stderr).trim()
            );
        }
        workspace::run(
            Command::new("curl")
                .args(curl)
                .args(["-C", "-", "-o"])
                .arg(&part)
                .arg(&url),
        )?;
        let expected = String::from_utf8(sum.stdout)?;
        let actual = sha256(&part)?;
        if expected.trim() != actual {
            std::fs::remove_file(&part)?;
            bail!(
                "{url} has SHA-256 {actual}, its checksum file says {}",
                expected.trim()
            );
        }
        publish(&part, &out.join(program))?;
    }
    Ok(())
}

/// Makes a checked file executable and gives it its name.
fn publish(part: &Path, to: &Path) -> Result<()> {
    use std::os::unix::fs::PermissionsExt;
    std::fs::set_permissions(part, std::fs::Permissions::from_mode(0o755))?;
    std::fs::rename(part, to)
        .with_context(|| format!("cannot rename {} to {}", part.display(), to.display()))
}

/// SHA-256 of a file, in hex.
pub(crate) fn sha256(path: &Path) -> Result<String> {
    use std::io::Read;
    let mut file =
        std::fs::File::open(path).with_context(|| format!("cannot open {}", path.display()))?;
    let mut context = aws_lc_rs::digest::Context::new(&aws_lc_rs::digest::SHA256);
    let mut buffer = vec![0; 1 << 20];
    loop {
        match file
            .read(&mut buffer)
            .with_context(|| format!("cannot read {}", path.display()))?
        {
            0 => return Ok(hex::encode(context.finish())),
            n => context.update(&buffer[..n]),
        }
    }
}
