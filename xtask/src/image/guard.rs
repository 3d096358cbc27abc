//! What must not be in an image, whatever the lists say and whatever a new version of a package brings.

use anyhow::{Result, bail};

use super::tree::{Tree, matches};

/// Neither in the initrd nor in the root file system.
const FORBIDDEN: [&str; 21] = [
    // somebody could log in or run a script
    "usr/bin/sh",
    "usr/bin/bash",
    "usr/bin/dash",
    "usr/bin/login",
    "usr/bin/su",
    "usr/bin/sudo",
    "usr/sbin/agetty",
    "usr/sbin/sulogin",
    "usr/sbin/sshd",
    "usr/lib/systemd/systemd-sulogin-shell",
    // the file system could be changed for another one
    "usr/bin/apt*",
    "usr/bin/dpkg*",
    "usr/bin/cloud-init",
    // PCR 11 and 15 could be extended by somebody else
    "usr/lib/systemd/systemd-pcr*",
    "usr/lib/systemd/system/*pcr*",
    "usr/lib/systemd/systemd-tpm2-setup",
    // the host could bring files and units
    "usr/lib/systemd/system/*sysext*",
    "usr/lib/systemd/system/*confext*",
    "usr/lib/systemd/system/debug-shell.service",
    "usr/lib/systemd/system/etcd.service",
    "usr/lib/modules/*/qemu_fw_cfg*",
];
const GENERATORS: &str = "usr/lib/systemd/system-generators/";
/// They read the command line, which is measured.
const INITRD_GENERATORS: [&str; 2] = ["systemd-fstab-generator", "systemd-veritysetup-generator"];
/// Words of the command line without which the host has a way in.
const WORDS: [&str; 9] = [
    "systemd.import_credentials=no",
    "systemd.gpt_auto=no",
    "systemd.ssh_auto=no",
    "systemd.getty_auto=no",
    "module_blacklist=qemu_fw_cfg",
    "rd.shell=0",
    "lockdown=integrity",
    "ro",
    "root=/dev/mapper/root",
];

/// Refuses a root file system that has something it must not have.
pub(super) fn root(tree: &Tree) -> Result<()> {
    check(tree, &[])
}

/// The same for an initrd.
pub(super) fn initrd(tree: &Tree) -> Result<()> {
    check(tree, &INITRD_GENERATORS)
}

/// Refuses a command line that lacks a word.
pub(super) fn command_line(line: &str) -> Result<()> {
    let missing = WORDS
        .iter()
        .find(|word| !line.split(' ').any(|has| has == **word));
    missing.map_or(Ok(()), |word| bail!("the command line lacks {word}"))
}

fn check(tree: &Tree, generators: &[&str]) -> Result<()> {
    for path in tree.0.keys() {
        let generator = path
            .strip_prefix(GENERATORS)
            .is_some_and(|name| !generators.contains(&name));
        if generator || FORBIDDEN.iter().any(|pattern| matches(pattern, path)) {
            bail!("{path} must not be in the image");
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(path: &str) -> Tree {
        let mut tree = Tree::default();
        tree.file("usr/bin/constellation-node", 0o755, *b"");
        tree.file(path, 0o755, *b"");
        tree
    }

    #[test]
    fn no_shell_no_login_no_second_way_to_measure() {
        for pattern in FORBIDDEN {
            let path = pattern.replace('*', "x");
            assert!(root(&with(&path)).is_err(), "{path} in the root");
            assert!(initrd(&with(&path)).is_err(), "{path} in the initrd");
        }
        root(&with("usr/bin/systemctl")).unwrap();
        initrd(&with("usr/bin/systemctl")).unwrap();
    }

    #[test]
    fn only_two_generators_and_only_in_the_initrd() {
        let path = format!("{GENERATORS}systemd-fstab-generator");
        initrd(&with(&path)).unwrap();
        assert!(root(&with(&path)).is_err());
        assert!(initrd(&with(&format!("{GENERATORS}systemd-gpt-auto-generator"))).is_err());
    }

    #[test]
    fn the_command_line_lets_nothing_in() {
        let config = include_str!("../../../crates/image/mkosi/cmdline");
        let line = super::super::lines(config).collect::<Vec<_>>().join(" ");
        command_line(&line).unwrap();
        for word in WORDS {
            let without: Vec<_> = line.split(' ').filter(|has| *has != word).collect();
            assert!(command_line(&without.join(" ")).is_err(), "{word}");
        }
    }
}
