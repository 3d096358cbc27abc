//! Holds a pod's namespaces until it is told to stop; as process 1 of a shared process namespace it also reaps orphans.
//!
//! It does nothing else: no arguments, no logs, no files. Every pod has one, so it waits on one thread without a timer.

use std::process::ExitCode;

use rustix::process::{WaitOptions, wait};
use tokio::signal::unix::{SignalKind, signal};

fn main() -> ExitCode {
    match tokio::runtime::Builder::new_current_thread()
        .enable_io()
        .build()
    {
        Ok(runtime) => runtime
            .block_on(until_told_to_stop())
            .map_or(ExitCode::FAILURE, |()| ExitCode::SUCCESS),
        Err(_) => ExitCode::FAILURE,
    }
}

async fn until_told_to_stop() -> std::io::Result<()> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut child = signal(SignalKind::child())?;
    loop {
        // One SIGCHLD may stand for many children, and some may have ended before the handler was there.
        while let Ok(Some(_)) = wait(WaitOptions::NOHANG) {}
        tokio::select! {
            _ = terminate.recv() => return Ok(()),
            _ = interrupt.recv() => return Ok(()),
            _ = child.recv() => {}
        }
    }
}
