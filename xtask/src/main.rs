//! Every developer command of the project: `cargo xtask help`.

mod bench;
mod codegen;
mod components;
mod dist;
mod faults;
mod fuzz;
mod image;
mod mini;
mod model;
mod oci;
mod packages;
mod step;
mod test;
mod tidy;
mod workspace;

use std::process::ExitCode;

use anyhow::Result;
use clap::{Parser, Subcommand};

/// Developer commands of Constellation.
#[derive(Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask")]
struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// From nothing to a verified cluster of measured machines on this host.
    Mini(mini::Args),
    /// Sets up like `mini`, then runs every test of every layer.
    Test(test::Args),
    /// Checks layout, dependency direction, documents, formatting and lints.
    Tidy,
    /// Installs the host packages that are missing (or prints the line to run).
    Packages,
    /// Builds the static release programs and prints their sizes.
    Dist,
    /// Builds the OS image with its measurements.
    Image(image::Args),
    /// Gets the Kubernetes programs that tests and `mini` run, and prints where they are.
    Components,
    /// Regenerates the code of `proto` (`--check` only compares).
    Codegen {
        /// Fails if the checked-in code is not what the .proto files give.
        #[arg(long)]
        check: bool,
    },
    /// Checks the symbolic model of the attested channel (needs Verifpal).
    Model,
    /// Runs a benchmark, which prints a table for `docs/performance.md`.
    #[command(subcommand)]
    Bench(bench::Benchmark),
    /// Kills real programs and cuts the flows at random moments, and prints the table of `docs/reliability.md`.
    Faults(faults::Args),
    /// Runs every fuzz target for some seconds.
    Fuzz(fuzz::Args),
}

fn main() -> Result<ExitCode> {
    let done = match Args::parse().command {
        // the code of `constellation mini up`, which has said what went wrong
        Command::Mini(args) => return mini::run(&args),
        Command::Test(args) => test::run(&args),
        Command::Tidy => tidy::run(),
        Command::Packages => packages::run(packages::Purpose::All),
        Command::Dist => dist::run().map(drop),
        Command::Image(args) => image::run(&args).map(drop),
        Command::Components => components::run().map(|dir| println!("{}", dir.display())),
        Command::Codegen { check } => codegen::run(check),
        Command::Model => model::run(),
        Command::Bench(benchmark) => bench::run(&benchmark),
        Command::Faults(args) => faults::run(&args),
        Command::Fuzz(args) => fuzz::run(&args),
    };
    done.map(|()| ExitCode::SUCCESS)
}
