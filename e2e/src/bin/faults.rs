//! Kills the programs of a control plane at random moments while a checker writes and reads through the API, and prints the table of
//! `docs/reliability.md`. `cargo xtask faults` builds and names what it needs. Fails when anything that was acknowledged is lost, or
//! something does not come back.

use std::path::PathBuf;

use anyhow::{Context as _, Result, bail, ensure};
use e2e::faults::control_plane::{self, Fault};
use e2e::faults::{rotation, table};

/// Kills per row, unless the argument says another number.
const RUNS: u64 = 50;

#[tokio::main]
async fn main() -> Result<()> {
    let mut arguments = std::env::args().skip(1);
    let (runs, seed) = match arguments.next().as_deref() {
        Some(rotation::ISSUE) => {
            let directory = arguments.next().context("the directory is missing")?;
            return rotation::issue_for_ever(&PathBuf::from(directory));
        }
        Some(runs) => (
            runs.parse()
                .context("the first argument is a number of runs")?,
            arguments.next(),
        ),
        None => (RUNS, None),
    };
    let seed = match seed {
        Some(seed) => seed.parse().context("the second argument is a seed")?,
        None => u64::from(std::process::id()),
    };
    println!("{runs} runs for each fault, seed {seed}\n{}", table::HEAD);
    let mut losses = Vec::new();
    let mut tell = |row: table::Row| {
        println!("{row}");
        losses.extend(row.losses);
    };
    for fault in Fault::ALL {
        tell(control_plane::run(fault, runs, seed).await?);
    }
    tell(rotation::run(runs * 10, seed)?);
    for loss in &losses {
        eprintln!("{loss}");
    }
    ensure!(losses.is_empty(), "{} losses", losses.len());
    if runs == 0 {
        bail!("nothing was killed, so nothing was shown");
    }
    Ok(())
}
