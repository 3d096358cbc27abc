//! Finds the parts behind a PCR that is not the policy's.

use super::classify::named;
use super::{Component, ComponentDigest};
use crate::event_log::EventLog;
use crate::verdict::Difference;
use crate::{Digest, PcrIndex};

/// A host can measure as much as it likes into a register; a person reads the first of it.
const MAX_DIFFERENCES: usize = 16;

/// What may help to name a part. Nothing in here was verified, except that the log leads to the quoted PCRs.
pub(crate) struct Hints<'a> {
    pub(crate) log: Option<&'a EventLog<'a>>,
    pub(crate) command_line: Option<&'a str>,
}

/// The parts of `pcr` that differ between a policy's components and the log. Empty if nothing can be said.
pub(crate) fn compare(
    pcr: PcrIndex,
    components: &[ComponentDigest],
    hints: &Hints<'_>,
) -> Vec<Difference> {
    let Some(log) = hints.log else {
        return Vec::new();
    };
    let measured: Vec<(Component, Digest)> = named(log, pcr)
        .map(|(name, event)| (name, event.digest))
        .collect();
    let expected: Vec<&ComponentDigest> = components
        .iter()
        .filter(|component| component.pcr == pcr && component.name != Component::RootFileSystem)
        .collect();
    // without a description of this PCR only a register that should be empty explains itself
    if expected.is_empty() && !matches!(pcr.number(), 8 | 12 | 13) {
        return Vec::new();
    }

    let mut unmatched: Vec<(Component, Digest)> = measured
        .into_iter()
        .filter(|(_, digest)| !expected.iter().any(|component| component.digest == *digest))
        // the firmware's own announcements are listed by some images and not by others
        .filter(|(name, _)| !matches!(name, Component::Separator | Component::BootAttempt))
        .collect();
    let is_in_log = |digest: &Digest| log.of_pcr(pcr).any(|event| event.digest == *digest);
    let mut differences = Vec::new();
    for component in expected
        .iter()
        .filter(|component| !is_in_log(&component.digest))
    {
        let found = unmatched
            .iter()
            .position(|(name, _)| *name == component.name)
            .map(|at| unmatched.remove(at).1);
        differences.push(describe(component, found, components, hints));
    }
    differences.extend(unmatched.into_iter().map(|(name, digest)| Difference {
        component: name,
        expected: None,
        actual: Some(digest.to_string().into()),
        note: Some("measured, but not part of the image".into()),
    }));
    let left_out = differences.len().saturating_sub(MAX_DIFFERENCES);
    differences.truncate(MAX_DIFFERENCES);
    if left_out > 0
        && let Some(last) = differences.last_mut()
    {
        last.note = Some(format!("and {left_out} more that are not listed").into());
    }
    differences
}

fn describe(
    component: &ComponentDigest,
    found: Option<Digest>,
    components: &[ComponentDigest],
    hints: &Hints<'_>,
) -> Difference {
    if component.name == Component::CommandLine
        && let Some(found) = found
        && let Some(line) = hints.command_line
        && let Some(encoding) = Encoding::of(line, &found)
    {
        return command_line(component, line, encoding, components);
    }
    Difference {
        component: component.name,
        expected: Some(component.digest.to_string().into()),
        actual: found.map(|digest| digest.to_string().into()),
        note: None,
    }
}

/// The command line is known: its digest is in a log that leads to the quoted PCRs. If the policy's line is the same but
/// for the root hash, the root file system is what differs.
fn command_line(
    component: &ComponentDigest,
    line: &str,
    encoding: Encoding,
    components: &[ComponentDigest],
) -> Difference {
    let root = components
        .iter()
        .find(|component| component.name == Component::RootFileSystem);
    if let Some(root) = root
        && let Some(actual) = root_hash(line)
        && encoding.digest(&with_root_hash(line, &root.digest.to_string())) == component.digest
    {
        return Difference {
            component: Component::RootFileSystem,
            expected: Some(root.digest.to_string().into()),
            actual: Some(actual.into()),
            note: Some("only the root hash in the command line differs".into()),
        };
    }
    Difference {
        component: Component::CommandLine,
        expected: Some(component.digest.to_string().into()),
        actual: Some(encoding.digest(line).to_string().into()),
        note: Some(format!("the machine was started with {line:?}").into()),
    }
}

const ROOT_HASH: &str = "roothash=";

fn root_hash(line: &str) -> Option<&str> {
    line.split_ascii_whitespace()
        .find_map(|token| token.strip_prefix(ROOT_HASH))
}

/// Replaces the value and leaves every other byte, spaces included, as it is.
fn with_root_hash(line: &str, hash: &str) -> String {
    let tokens: Vec<String> = line
        .split(' ')
        .map(|token| match token.strip_prefix(ROOT_HASH) {
            Some(_) => format!("{ROOT_HASH}{hash}"),
            None => token.to_owned(),
        })
        .collect();
    tokens.join(" ")
}

/// How a command line is measured: by the kernel's stub as it was handed over (UTF-16, PCR 9), by systemd-stub as it
/// stands in its section (PCR 11), which may end with a newline or a NUL.
#[derive(Clone, Copy)]
enum Encoding {
    Utf16WithNul,
    Utf8,
    Utf8WithNul,
    Utf8WithNewline,
}

impl Encoding {
    const ALL: [Self; 4] = [
        Self::Utf16WithNul,
        Self::Utf8,
        Self::Utf8WithNul,
        Self::Utf8WithNewline,
    ];

    /// The encoding in which the line has this digest.
    fn of(line: &str, digest: &Digest) -> Option<Self> {
        Self::ALL
            .into_iter()
            .find(|encoding| encoding.digest(line) == *digest)
    }

    fn digest(self, line: &str) -> Digest {
        match self {
            Self::Utf16WithNul => {
                let bytes: Vec<u8> = line
                    .encode_utf16()
                    .chain([0])
                    .flat_map(u16::to_le_bytes)
                    .collect();
                Digest::of(&bytes)
            }
            Self::Utf8 => Digest::of(line.as_bytes()),
            Self::Utf8WithNul => Digest::of_parts(&[line.as_bytes(), &[0]]),
            Self::Utf8WithNewline => Digest::of_parts(&[line.as_bytes(), b"\n"]),
        }
    }
}
