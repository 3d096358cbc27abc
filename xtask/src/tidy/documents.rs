//! Documents name files, types and tests that exist.

use std::path::Path;

use anyhow::Result;

use super::{Violation, read, tracked};
use crate::workspace;

/// Where a backticked path may start.
const ROOTS: &[&str] = &[
    "crates/", "docs/", "deploy/", "xtask/", "e2e/", "fuzz/", ".ci/",
];

pub(super) fn check() -> Result<Vec<Violation>> {
    let mut sources = String::new();
    for path in tracked("rs")? {
        sources.push_str(&read(&path)?);
        sources.push('\n');
    }
    let mut violations = Vec::new();
    for path in tracked("md")? {
        let name = path.to_string_lossy().into_owned();
        for (number, line) in read(&path)?.lines().enumerate() {
            for word in backticked(line) {
                if let Some(problem) = problem(word, &path, &sources) {
                    violations.push(Violation::new(format!("{name}:{}", number + 1), problem));
                }
            }
        }
    }
    Ok(violations)
}

/// The words between single backticks of a line.
fn backticked(line: &str) -> impl Iterator<Item = &str> {
    line.split('`').skip(1).step_by(2)
}

fn problem(word: &str, document: &Path, sources: &str) -> Option<String> {
    if ROOTS.iter().any(|root| word.starts_with(root)) {
        let path = word.split([':', '#', ' ']).next().unwrap_or(word);
        let missing =
            !path.contains(['*', '<', '{', '…']) && !workspace::root().join(path).exists();
        return missing.then(|| format!("`{word}`: there is no such path"));
    }
    // life-of documents and the threat table name types and tests: `Type`, `module::Type`, `a_test_name`
    let strict = document.file_name().is_some_and(|name| {
        let name = name.to_string_lossy();
        name.starts_with("life-of-") || name == "threats.md"
    });
    let item = word.rsplit("::").next().unwrap_or(word);
    let is_type = item.len() > 2
        && item.starts_with(|c: char| c.is_ascii_uppercase())
        && item.contains(|c: char| c.is_ascii_lowercase())
        && item.chars().all(|c| c.is_ascii_alphanumeric());
    if strict
        && is_type
        && !["struct", "enum", "trait", "type", "message", ""]
            .iter()
            .any(|kind| defines(sources, kind, item))
    {
        return Some(format!("`{word}`: no such type in the sources"));
    }
    let is_test = word.matches('_').count() >= 2
        && word
            .chars()
            .all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_');
    if strict
        && is_test
        && !defines(sources, "fn", word)
        && !sources.contains(&format!("{word}:"))
        && !sources.contains(&format!("\"{word}\""))
    {
        return Some(format!("`{word}`: no such function or test in the sources"));
    }
    None
}

/// `kind name` as a definition; with no kind, an enum variant or other use followed by a delimiter at a line's start.
fn defines(sources: &str, kind: &str, name: &str) -> bool {
    if kind.is_empty() {
        return ["", " {", "(", ","].iter().any(|end| {
            sources.contains(&format!("    {name}{end}\n"))
                || (!end.is_empty() && sources.contains(&format!("    {name}{end}")))
        });
    }
    let definition = format!("{kind} {name}");
    sources.match_indices(&definition).any(|(at, _)| {
        !sources[at + definition.len()..].starts_with(|c: char| c.is_alphanumeric() || c == '_')
    })
}
