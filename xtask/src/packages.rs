//! `cargo xtask packages`: the host's packages that building, running and testing need, each only where it is needed.

use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::workspace;

/// C of the crypto library, static programs.
const BUILD: &[&str] = &["gcc", "make", "cmake", "musl-tools"];
/// The OS image.
const IMAGE: &[&str] = &["mkosi", "debian-archive-keyring", "python3", "uidmap"];
/// Machines, and the pods of the tests on them.
const MACHINES: &[&str] = &[
    "qemu-system-x86",
    "ovmf",
    "swtpm",
    "swtpm-tools",
    "curl",
    "busybox-static",
];
/// What the tests of layer 2 run.
const PROGRAMS: &[&str] = &[
    "swtpm",
    "swtpm-tools",
    "etcd-client",
    "etcd-server",
    "cryptsetup-bin",
    "e2fsprogs",
    "iproute2",
    "nftables",
    "iputils-ping",
    "containernetworking-plugins",
    "curl",
    "openssl",
    "xz-utils",
    // its tests look for QEMU and firmware, and start neither
    "qemu-system-x86",
    "ovmf",
];

/// What packages are wanted for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Purpose {
    /// Building, and the tests that need no outside program.
    Units,
    /// The tests with real programs.
    Programs,
    /// The OS image and the machines that run it.
    Machines,
    /// Everything.
    All,
}

impl Purpose {
    fn packages(self) -> BTreeSet<&'static str> {
        let lists: &[&[&str]] = match self {
            Self::Units => &[BUILD],
            Self::Programs => &[BUILD, PROGRAMS],
            Self::Machines => &[BUILD, IMAGE, MACHINES],
            Self::All => &[BUILD, IMAGE, MACHINES, PROGRAMS],
        };
        lists.iter().copied().flatten().copied().collect()
    }
}

/// Too old in Debian 12 itself: mkosi 14 knows no UKI, QEMU 7.2 can not emulate what a 6.12 kernel needs.
const BACKPORTED: [&str; 2] = ["mkosi", "qemu-system-x86"];
const BACKPORTS: &str = "/etc/apt/sources.list.d/constellation-backports.sources";
const BACKPORTS_SOURCE: &str = "Types: deb\nURIs: http://deb.debian.org/debian\nSuites: bookworm-backports\n\
    Components: main\nSigned-By: /usr/share/keyrings/debian-archive-keyring.gpg\n";
/// The oldest mkosi that knows the options of the image.
const MKOSI_LEAST: u32 = 24;
const MKOSI_PACKAGE: &str = "https://deb.debian.org/debian/pool/main/m/mkosi/mkosi_25.3-7_all.deb";
/// As Debian 13's signed index has it: the package is installed by root, and no archive of the host's vouches for it.
const MKOSI_SHA256: &str = "ef56c81324fd47d65490e944ec4697bb3f6fb21326d0d071bfc2fb5ba5383252";
const RUST_TARGET: &str = "x86_64-unknown-linux-musl";

/// Installs what is missing, or says how.
pub(crate) fn run(purpose: Purpose) -> Result<()> {
    let release = Release::read()?;
    let missing = missing(&release, &purpose.packages())?;
    if !missing.is_empty() {
        let script = script(&release, &missing);
        if !is_root()? {
            bail!(
                "packages are missing; run this line, then start again:\n\n    sudo sh -c \"{script}\"\n"
            );
        }
        eprintln!("installing {}", missing.join(" "));
        install(&release, &missing)?;
    }
    if purpose.packages().contains("mkosi") {
        check_mkosi()?;
    }
    rust_target()
}

/// Ubuntu 24.04 has a mkosi that does not know our options; there are no backports to ask for.
fn check_mkosi() -> Result<()> {
    let output = Command::new("mkosi")
        .arg("--version")
        .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
        .output()
        .context("cannot start mkosi")?;
    let said = String::from_utf8_lossy(&output.stdout);
    match mkosi_major(&said) {
        Some(major) if major >= MKOSI_LEAST => Ok(()),
        _ => {
            let file = MKOSI_PACKAGE.rsplit('/').next().unwrap_or_default();
            bail!(
                "{} is too old: {MKOSI_LEAST} or newer is needed. Debian's package installs elsewhere as well; as root:\n\n    \
                 curl -fLO {MKOSI_PACKAGE} && echo '{MKOSI_SHA256}  {file}' | sha256sum -c && apt-get install -y ./{file}\n",
                said.trim(),
            )
        }
    }
}

/// `mkosi 24.3` or `mkosi 25~devel`: 24, 25.
fn mkosi_major(said: &str) -> Option<u32> {
    let version = said.trim().strip_prefix("mkosi ")?;
    let digits = version.split(|c: char| !c.is_ascii_digit()).next()?;
    digits.parse().ok()
}

#[derive(PartialEq, Eq)]
enum Release {
    /// Debian 12, whose backports are needed.
    Bookworm,
    /// Debian 13, Ubuntu 24.04, or something newer or derived that has the same names.
    Newer,
}

impl Release {
    fn read() -> Result<Self> {
        let text =
            std::fs::read_to_string("/etc/os-release").context("cannot read /etc/os-release")?;
        let value = |key: &str| {
            text.lines()
                .find_map(|line| line.strip_prefix(key))
                .map(|value| value.trim_matches('"').to_owned())
        };
        match (
            value("ID=").unwrap_or_default().as_str(),
            value("VERSION_ID=").unwrap_or_default().as_str(),
        ) {
            ("debian", "12") => Ok(Self::Bookworm),
            ("debian" | "ubuntu", _) => Ok(Self::Newer),
            (id, version) => bail!(
                "packages are known for Debian 12, 13 and Ubuntu 24.04, not for {id} {version}"
            ),
        }
    }
}

/// Packages that are not there, or too old.
fn missing(release: &Release, wanted: &BTreeSet<&'static str>) -> Result<Vec<&'static str>> {
    let output = Command::new("dpkg-query")
        .args(["-W", "-f", "${db:Status-Status} ${Package} ${Version}\n"])
        .args(wanted)
        .output()
        .context("cannot start dpkg-query")?;
    let text = String::from_utf8_lossy(&output.stdout);
    let installed: BTreeSet<&str> = text
        .lines()
        .filter_map(|line| {
            let mut words = line.strip_prefix("installed ")?.split(' ');
            let (name, version) = (words.next()?, words.next()?);
            let old = *release == Release::Bookworm
                && BACKPORTED.contains(&name)
                && !version.contains("bpo");
            (!old).then_some(name)
        })
        .collect();
    Ok(wanted
        .iter()
        .copied()
        .filter(|name| !installed.contains(name))
        .collect())
}

/// What apt is asked for, in up to two goes: backports have to be asked for.
fn goes<'a>(release: &Release, missing: &[&'a str]) -> Vec<(Vec<&'static str>, Vec<&'a str>)> {
    let (backported, plain): (Vec<&str>, Vec<&str>) = missing
        .iter()
        .copied()
        .partition(|name| *release == Release::Bookworm && BACKPORTED.contains(name));
    [
        (vec![], plain),
        (vec!["-t", "bookworm-backports"], backported),
    ]
    .into_iter()
    .filter(|(_, names)| !names.is_empty())
    .collect()
}

/// The same as [`install`], for a person: a script without double quotes and dollar signs, as it stands between such quotes.
fn script(release: &Release, missing: &[&str]) -> String {
    let goes = goes(release, missing);
    let mut parts = Vec::new();
    if goes.iter().any(|(options, _)| !options.is_empty()) && !Path::new(BACKPORTS).exists() {
        parts.push(format!(
            "printf '{}' > {BACKPORTS}",
            BACKPORTS_SOURCE.replace('\n', "\\n")
        ));
    }
    parts.push("apt-get update".to_owned());
    for (options, names) in goes {
        parts.push(
            [
                &["apt-get", "install", "-y", "--no-install-recommends"],
                &options[..],
                &names[..],
            ]
            .concat()
            .join(" "),
        );
    }
    // Debian starts what it installs; nothing here needs a system-wide etcd.
    if missing.contains(&"etcd-server") {
        parts.push("{ systemctl disable --now etcd || true; }".to_owned());
    }
    parts.join(" && ")
}

fn install(release: &Release, missing: &[&str]) -> Result<()> {
    let goes = goes(release, missing);
    if goes.iter().any(|(options, _)| !options.is_empty()) && !Path::new(BACKPORTS).exists() {
        std::fs::write(BACKPORTS, BACKPORTS_SOURCE)
            .with_context(|| format!("cannot write {BACKPORTS}"))?;
    }
    // Without this file's say Debian starts every daemon it installs. An existing one is somebody else's choice.
    let policy = Policy::new()?;
    let apt = || {
        let mut command = Command::new("apt-get");
        command
            .args(["-q", "-y", "-o", "DPkg::Lock::Timeout=600"])
            .env("DEBIAN_FRONTEND", "noninteractive");
        command
    };
    workspace::run(apt().arg("update"))?;
    for (options, names) in goes {
        workspace::run(
            apt()
                .args(["install", "--no-install-recommends"])
                .args(options)
                .args(names),
        )?;
    }
    drop(policy);
    Ok(())
}

/// While it lives no installed package starts a daemon.
struct Policy {
    created: bool,
}

impl Policy {
    const PATH: &str = "/usr/sbin/policy-rc.d";

    fn new() -> Result<Self> {
        use std::os::unix::fs::PermissionsExt;
        let created = !Path::new(Self::PATH).exists();
        if created {
            std::fs::write(Self::PATH, "#!/bin/sh\nexit 101\n")?;
            std::fs::set_permissions(Self::PATH, PermissionsExt::from_mode(0o755))?;
        }
        Ok(Self { created })
    }
}

impl Drop for Policy {
    fn drop(&mut self) {
        if self.created
            && let Err(error) = std::fs::remove_file(Self::PATH)
        {
            eprintln!("cannot remove {}: {error}", Self::PATH);
        }
    }
}

fn is_root() -> Result<bool> {
    let status =
        std::fs::read_to_string("/proc/self/status").context("cannot read /proc/self/status")?;
    Ok(status
        .lines()
        .any(|line| line.starts_with("Uid:") && line.split_whitespace().nth(2) == Some("0")))
}

/// The Rust target of the static programs, where rustup is what manages them.
fn rust_target() -> Result<()> {
    let output = Command::new("rustc")
        .args(["--print", "target-libdir", "--target", RUST_TARGET])
        .output();
    let directory = output
        .ok()
        .filter(|output| output.status.success())
        .map(|output| output.stdout);
    if directory.is_some_and(|path| Path::new(String::from_utf8_lossy(&path).trim()).exists()) {
        return Ok(());
    }
    workspace::run(Command::new("rustup").args(["target", "add", RUST_TARGET]))
        .with_context(|| format!("the Rust target {RUST_TARGET} is missing"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_debian_12_asks_backports() {
        let missing = ["mkosi", "swtpm", "qemu-system-x86"];
        let bookworm = goes(&Release::Bookworm, &missing);
        let backports = vec!["-t", "bookworm-backports"];
        assert_eq!(
            bookworm,
            [
                (vec![], vec!["swtpm"]),
                (backports, vec!["mkosi", "qemu-system-x86"])
            ]
        );
        assert_eq!(
            goes(&Release::Newer, &missing),
            [(vec![], missing.to_vec())]
        );
        assert!(goes(&Release::Newer, &[]).is_empty());
    }

    #[test]
    fn a_version_of_mkosi_is_its_first_number() {
        for (said, major) in [
            ("mkosi 24.3\n", Some(24)),
            ("mkosi 25~devel", Some(25)),
            ("mkosi 20.2", Some(20)),
            ("25", None),
            ("mkosi x", None),
        ] {
            assert_eq!(mkosi_major(said), major, "{said}");
        }
    }

    #[test]
    fn the_line_to_run_is_one_line_and_stops_etcd() {
        let line = script(&Release::Newer, &["etcd-server", "swtpm"]);
        let install = "apt-get install -y --no-install-recommends etcd-server swtpm";
        assert_eq!(
            line,
            format!("apt-get update && {install} && {{ systemctl disable --now etcd || true; }}")
        );
        let all: Vec<_> = Purpose::All.packages().into_iter().collect();
        let line = script(&Release::Bookworm, &all);
        assert!(!line.contains(['"', '$', '`']), "{line}");
    }
}
