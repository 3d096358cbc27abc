//! `cargo xtask model`: checks the symbolic model of the attested channel with Verifpal.
//!
//! Each model must give exactly its verdicts, and each of its weakenings (a part of the binding left out) must give the
//! attack that this part is there for: a checker that finds nothing anywhere would prove nothing. The models and what they
//! assume: `docs/attested-channel.md`. Verifpal is not in Debian and takes a while, so this is no part of `cargo xtask test`;
//! the unit tests below keep the edits in step with the models.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result, ensure};

use crate::step::step;

const INSTALL: &str = "cargo install verifpal --version 1.6.7 --locked --ignore-rust-version";

/// A model, and the verdicts of its queries: `c`onfidentiality and `a`uthentication, 0 holds, 1 is attacked.
struct Model {
    file: &'static str,
    verdicts: &'static str,
    weakenings: &'static [Weakening],
}

/// Leaves something out of the protocol.
struct Weakening {
    /// What is left out.
    without: &'static str,
    /// Each text and what stands in its place.
    edits: &'static [(&'static str, &'static str)],
    verdicts: &'static str,
}

const MODELS: [Model; 2] = [
    Model {
        file: "init.vp",
        verdicts: "c0a0a1",
        weakenings: &[
            Weakening {
                without: "the exporter",
                edits: &[(", exporter_s, ", ", "), (", exporter_c, ", ", ")],
                verdicts: "c1a0a1",
            },
            Weakening {
                without: "exporter and transcript (evidence over the certificate's key only)",
                edits: &[
                    (", exporter_s, transcript_s, ", ", "),
                    (", exporter_c, transcript_c, ", ", "),
                ],
                verdicts: "c1a0a1",
            },
        ],
    },
    Model {
        file: "join.vp",
        verdicts: "c0a0a0a0",
        weakenings: &[
            Weakening {
                without: "the exporter",
                edits: &[(", exporter_s, ", ", "), (", exporter_c, ", ", ")],
                verdicts: "c1a0a0a1",
            },
            Weakening {
                without: "the role",
                edits: &[
                    ("HASH(t_channel, t_join, ", "HASH(t_channel, "),
                    ("HASH(t_channel, t_node, ", "HASH(t_channel, "),
                ],
                verdicts: "c1a1a0a0",
            },
        ],
    },
];

/// The models at two sessions per party, their weakenings at one: there the attack needs no more.
pub(crate) fn run() -> Result<()> {
    let scratch = tempfile::tempdir().context("make a temporary folder")?;
    for model in &MODELS {
        let path = folder().join(model.file);
        step(model.file, || verify(&path, 2, model.verdicts))?;
        for (number, weakening) in model.weakenings.iter().enumerate() {
            let weak = scratch.path().join(format!("{number}-{}", model.file));
            fs::write(&weak, weaken(model, weakening)?)?;
            step(
                &format!("{} without {}", model.file, weakening.without),
                || verify(&weak, 1, weakening.verdicts),
            )?;
        }
    }
    Ok(())
}

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/model")
}

/// The model's text without the part in question. Every edit must find something to edit.
fn weaken(model: &Model, weakening: &Weakening) -> Result<String> {
    let path = folder().join(model.file);
    let mut text = fs::read_to_string(&path).with_context(|| format!("read {}", path.display()))?;
    for (old, new) in weakening.edits {
        ensure!(text.contains(old), "{} has no {old:?} any more", model.file);
        text = text.replace(old, new);
    }
    Ok(text)
}

fn verify(model: &Path, sessions: u32, expected: &str) -> Result<()> {
    let output = Command::new("verifpal")
        .args([
            "verify",
            "--result-code",
            "--sessions",
            &sessions.to_string(),
        ])
        .arg(model)
        .output()
        .with_context(|| format!("run verifpal; to install it: {INSTALL}"))?;
    let text = String::from_utf8_lossy(&output.stdout);
    let verdicts = text.lines().last().unwrap_or_default();
    ensure!(
        output.status.success() && verdicts == expected,
        "{}: expected {expected}, Verifpal says:\n{text}{}",
        model.display(),
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_weakening_still_edits_its_model() {
        for model in &MODELS {
            let whole = fs::read_to_string(folder().join(model.file)).expect("the model");
            for weakening in model.weakenings {
                let weak = weaken(model, weakening).expect("an edit finds its text");
                assert_ne!(weak, whole);
                assert_ne!(
                    weakening.verdicts, model.verdicts,
                    "{} leaves out nothing",
                    weakening.without
                );
            }
        }
    }
}
