//! Names each step of a long command and its time as it goes.

use std::time::Instant;

use anyhow::{Context, Result};

/// Runs `body` as the step `name`, printing its begin, end and time on standard error.
pub(crate) fn step<T>(name: &str, body: impl FnOnce() -> Result<T>) -> Result<T> {
    eprintln!("==> {name}");
    let start = Instant::now();
    let result = body().with_context(|| format!("step \"{name}\" failed"));
    let outcome = if result.is_ok() { "done" } else { "FAILED" };
    eprintln!(
        "<== {name}: {outcome} in {:.1} s",
        start.elapsed().as_secs_f64()
    );
    result
}
