//! `cargo xtask dist`: the static release programs.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

use crate::workspace;

const TARGET: &str = "x86_64-unknown-linux-musl";

/// Packages and the programs they build.
pub(crate) const PROGRAMS: [(&str, &str); 6] = [
    ("cli", "constellation"),
    ("node", "constellation-node"),
    ("join-service", "join-service"),
    ("key-service", "key-service"),
    ("verification-service", "verification-service"),
    ("pause", "pause"),
];

/// Builds every program, checks that it is static, prints sizes, and gives their directory.
pub(crate) fn run() -> Result<PathBuf> {
    let mut command = workspace::cargo();
    command.args(["build", "--release", "--locked", "--target", TARGET]);
    for (package, _) in PROGRAMS {
        command.args(["--package", package]);
    }
    // The same bytes wherever the checkout and cargo's home are.
    let home = std::env::var("CARGO_HOME")
        .or_else(|_| std::env::var("HOME").map(|home| format!("{home}/.cargo")))?;
    let flags = [
        format!(
            "--remap-path-prefix={}=/constellation",
            workspace::root().display()
        ),
        format!("--remap-path-prefix={home}=/cargo"),
    ];
    command
        .env("CARGO_ENCODED_RUSTFLAGS", flags.join("\x1f"))
        .env("SOURCE_DATE_EPOCH", "0");
    command.env(
        "CFLAGS_x86_64_unknown_linux_musl",
        format!("-ffile-prefix-map={home}=/cargo"),
    );
    workspace::run(&mut command)?;
    let directory = workspace::target().join(TARGET).join("release");
    for (_, program) in PROGRAMS {
        let path = directory.join(program);
        check_static(&path)?;
        eprintln!(
            "{:>8.1} MiB  {program}",
            std::fs::metadata(&path)?.len() as f64 / f64::from(1 << 20)
        );
    }
    Ok(directory)
}

/// A static program asks for no interpreter.
fn check_static(path: &Path) -> Result<()> {
    const INTERPRETER: u64 = 3;
    let elf = std::fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
    let number = |at: usize, len: usize| {
        let bytes = elf.get(at..at + len).context("the program is cut off")?;
        Ok::<_, anyhow::Error>(
            bytes
                .iter()
                .rev()
                .fold(0_u64, |value, &byte| value << 8 | u64::from(byte)),
        )
    };
    if elf.get(..5) != Some(b"\x7fELF\x02") {
        bail!("{} is no 64-bit ELF program", path.display());
    }
    let (table, len, count) = (number(32, 8)?, number(54, 2)?, number(56, 2)?);
    for index in 0..count {
        if number(usize::try_from(table + index * len)?, 4)? == INTERPRETER {
            bail!("{} is linked dynamically", path.display());
        }
    }
    Ok(())
}
