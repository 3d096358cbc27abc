//! Size and shape of source files, and words that may stand in one place only.

use anyhow::Result;

use super::{Violation, read, tracked};

/// Longest source file without its tests; most are 100 to 400 lines.
const LONGEST: usize = 800;

/// A word and the only files that may hold it (prefixes), with the reason.
const ONLY_IN: &[(&str, &[&str], &str)] = &[
    (
        ".dangerous()",
        &["crates/channel/src/"],
        "certificate checks are replaced only in the attested channel",
    ),
    (
        "allow(unsafe_code",
        &[
            "crates/disk/src/sys.rs",
            "crates/pause/src/",
            "crates/tee/src/sys.rs",
        ],
        "unsafe code has one place",
    ),
    (
        "expect(unsafe_code",
        &[
            "crates/disk/src/sys.rs",
            "crates/pause/src/",
            "crates/tee/src/sys.rs",
        ],
        "unsafe code has one place",
    ),
    ("danger_accept_invalid", &[], "no switch skips a check"),
    ("TODO-security", &[], "no known security debt on main"),
    ("#[ignore", &[], "a test runs or is deleted"),
    (
        "#[allow(",
        &[],
        "use #[expect(..., reason = ...)] at the line",
    ),
];

pub(super) fn check() -> Result<Vec<Violation>> {
    let mut violations = Vec::new();
    for path in tracked("rs")? {
        let name = path.to_string_lossy().into_owned();
        if name.contains("/generated/") || name.starts_with("xtask/src/tidy") {
            continue;
        }
        if name.ends_with("/mod.rs") {
            violations.push(Violation::new(
                &name,
                "write foo.rs beside foo/, not foo/mod.rs",
            ));
        }
        let text = read(&path)?;
        let lines = text
            .lines()
            .take_while(|line| *line != "mod tests {")
            .count();
        let is_test = name.contains("/tests/") || name.ends_with("tests.rs");
        if lines > LONGEST && !is_test {
            violations.push(Violation::new(
                &name,
                format!("{lines} lines; split it (longest: {LONGEST})"),
            ));
        }
        if !text.starts_with("//!") && !name.contains("fuzz_targets") && !is_test {
            violations.push(Violation::new(
                &name,
                "begins without a module comment (//!) that says its purpose",
            ));
        }
        for (word, places, reason) in ONLY_IN {
            if !places.iter().any(|place| name.starts_with(place)) {
                for (number, _) in text
                    .lines()
                    .enumerate()
                    .filter(|(_, line)| line.contains(word))
                {
                    violations.push(Violation::new(
                        format!("{name}:{}", number + 1),
                        format!("`{word}`: {reason}"),
                    ));
                }
            }
        }
    }
    Ok(violations)
}
