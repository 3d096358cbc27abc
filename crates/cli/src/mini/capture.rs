//! `mini capture`: what crosses the network between the machines, as a pcap file.

use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::UnixStream;

use crate::arguments::CaptureArguments;
use crate::failure::Failure;
use crate::output::Terminal;
use crate::workspace::Workspace;

use super::Plan;
use super::serve::CAPTURE;

pub(crate) async fn run(
    workspace: &Workspace,
    terminal: &Terminal,
    arguments: &CaptureArguments,
) -> Result<(), Failure> {
    let not_running = || {
        Failure::infrastructure("no local cluster of this workspace is running")
            .hint("`constellation mini up` starts it")
    };
    let plan = Plan::read(workspace)?.ok_or_else(not_running)?;
    let mut stream = UnixStream::connect(plan.run_directory.join(CAPTURE))
        .await
        .map_err(|error| not_running().because(error))?;
    let failed = |error| {
        Failure::infrastructure(format!("write {}", arguments.write.display())).because(error)
    };
    let mut out: Box<dyn AsyncWrite + Unpin> = if arguments.write == Path::new("-") {
        Box::new(tokio::io::stdout())
    } else {
        let file = std::fs::OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(&arguments.write);
        Box::new(tokio::fs::File::from_std(file.map_err(failed)?))
    };
    let stop = async {
        match arguments.duration {
            Some(seconds) => tokio::time::sleep(Duration::from_secs(seconds)).await,
            None => std::future::pending().await,
        }
    };
    tokio::pin!(stop);
    let mut interrupt = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::interrupt())
        .map_err(|error| Failure::internal("listen for Ctrl-C").because(error))?;
    let mut chunk = vec![0; 64 * 1024];
    let mut total: u64 = 0;
    loop {
        let read = tokio::select! {
            read = stream.read(&mut chunk) => read.map_err(|error| Failure::infrastructure("read the capture").because(error))?,
            () = &mut stop => 0,
            _ = interrupt.recv() => 0,
        };
        let Some(bytes) = chunk.get(..read).filter(|bytes| !bytes.is_empty()) else {
            break;
        };
        out.write_all(bytes).await.map_err(failed)?;
        // whoever reads a pipe wants to see frames now
        out.flush().await.map_err(failed)?;
        total += read as u64;
    }
    out.flush().await.map_err(failed)?;
    terminal.debug(format_args!("{total} bytes captured"));
    Ok(())
}
