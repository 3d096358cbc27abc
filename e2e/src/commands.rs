//! Runs the real programs and keeps what they print.

use std::path::PathBuf;
use std::process::{Command, Output};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

/// What a program printed and how it ended.
pub struct Ran {
    /// Exit code; -1 when a signal ended it.
    pub code: i32,
    /// Standard output.
    pub stdout: String,
    /// Standard error.
    pub stderr: String,
}

/// Runs to the end; any exit code is a result.
///
/// # Errors
/// When the program cannot be started.
pub fn run(command: &mut Command) -> Result<Ran> {
    let name = command.get_program().to_string_lossy().into_owned();
    let Output {
        status,
        stdout,
        stderr,
    } = command
        .output()
        .with_context(|| format!("cannot start {name}"))?;
    Ok(Ran {
        code: status.code().unwrap_or(-1),
        stdout: String::from_utf8_lossy(&stdout).into_owned(),
        stderr: String::from_utf8_lossy(&stderr).into_owned(),
    })
}

/// Runs to the end and gives standard output.
///
/// # Errors
/// When the program cannot be started or its exit code is not zero; the text has what it printed.
pub fn succeed(command: &mut Command) -> Result<String> {
    let ran = run(command)?;
    if ran.code != 0 {
        bail!(
            "{command:?} ended with {}:\n{}{}",
            ran.code,
            ran.stdout,
            ran.stderr
        );
    }
    Ok(ran.stdout)
}

/// Calls `probe` until it gives a value, at most for `limit`.
///
/// # Errors
/// The last error of `probe` when the time is over.
pub fn wait<T>(what: &str, limit: Duration, mut probe: impl FnMut() -> Result<T>) -> Result<T> {
    let end = Instant::now() + limit;
    loop {
        match probe() {
            Ok(value) => return Ok(value),
            Err(error) if Instant::now() > end => {
                return Err(error.context(format!("{what}: not within {} s", limit.as_secs())));
            }
            Err(_) => std::thread::sleep(Duration::from_secs(2)),
        }
    }
}

/// A directory named by an environment variable that `cargo xtask test --layer 3` sets.
///
/// # Errors
/// When it is not set, with the command that sets it.
pub fn directory(variable: &str) -> Result<PathBuf> {
    std::env::var_os(variable)
        .map(PathBuf::from)
        .with_context(|| format!("${variable} is not set: run `cargo xtask test --layer 3`, which builds and sets all of it"))
}
