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
/// Words of the command line without which there is a way in.
const WORDS: [&str; 10] = [
    "systemd.import_credentials=no",
    "systemd.gpt_auto=no",
    "systemd.ssh_auto=no",
    "systemd.getty_auto=no",
    "module_blacklist=qemu_fw_cfg",
    "rd.shell=0",
    "rd.emergency=reboot",
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

/// Refuses a command line that lacks a word, or that sets the same thing once more: of two values the last counts, and a repetition is
/// one that somebody may change.
pub(super) fn command_line(line: &str) -> Result<()> {
    for word in WORDS {
        let same = line.split(' ').filter(|has| setting(has) == setting(word));
        match same.collect::<Vec<_>>().as_slice() {
            [only] if *only == word => {}
            [] => bail!("the command line lacks {word}"),
            found => bail!("the command line has {found:?} where only {word} may be"),
        }
    }
    Ok(())
}

/// What a word sets, by the name that everything which reads it would take it for: dashes are underscores, what begins with `rd.` counts
/// in the initrd like the same without, and `rw` undoes `ro`.
fn setting(word: &str) -> String {
    let name = word.split('=').next().unwrap_or(word).replace('-', "_");
    match name.strip_prefix("rd.").unwrap_or(&name) {
        "rw" => "ro".to_owned(),
        name => name.to_owned(),
    }
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

    #[test]
    fn the_command_line_says_nothing_twice() {
        let line = WORDS.join(" ");
        command_line(&line).unwrap();
        let contradictions = WORDS.map(|word| {
            let (name, _) = word.split_once('=').unwrap_or((word, ""));
            format!("{name}=other")
        });
        let spelled_differently = [
            "systemd.import-credentials=yes",
            "rd.systemd.import_credentials",
            "module-blacklist=",
            "emergency",
            "rw",
        ];
        for more in contradictions
            .iter()
            .map(String::as_str)
            .chain(spelled_differently)
            .chain(WORDS)
        {
            for line in [format!("{line} {more}"), format!("{more} {line}")] {
                assert!(command_line(&line).is_err(), "{more}");
            }
        }
    }
}
