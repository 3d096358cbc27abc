//! The node program: disk-mapper in the initrd, bootstrapper in the root.
//!
//! Two subcommands of one measured file, with the same privilege. This crate acts: it runs programs, writes files, talks to the
//! API. What is to be done is decided in `cluster`, what it looks like is rendered in `k8s`. Walk through: `docs/life-of-a-join.md`.

pub mod agent;
pub mod api_proxy;
pub mod bootstrapper;
pub mod console;
pub mod departed;
pub mod disk_mapper;
pub mod exec;
pub mod host;
pub mod join_services;
pub mod membership;
pub mod mesh;
pub mod network;
pub mod progress;
pub mod provider;
pub mod renewal;
pub mod report;
pub mod state_disk;
pub mod systemd;

use bootstrapper::machine::MeasuredMachine;
use host::Host;

/// What is asked of the program.
#[derive(Debug, clap::Parser)]
#[command(name = "constellation-node", version, about)]
pub struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// In the initrd: makes the state disk, or asks the cluster for its key, and mounts it.
    DiskMapper,
    /// In the root: waits for init or joins a cluster, then keeps the node.
    Bootstrapper,
    /// Prints what the TPM holds, what this machine has to prove itself with and what it lacks, and what it is.
    Report {
        /// How.
        #[arg(short, long, value_enum, default_value = "table")]
        output: ReportForm,
    },
}

/// For a person or for a program.
#[derive(Clone, Copy, Debug, clap::ValueEnum)]
enum ReportForm {
    Table,
    Json,
}

/// Runs a subcommand.
pub async fn run(arguments: Arguments, context: runtime::Context) -> anyhow::Result<()> {
    match arguments.command {
        Command::DiskMapper => tokio::task::spawn_blocking(disk_mapper::run).await??,
        Command::Bootstrapper => {
            bootstrapper::run(
                Host::this_machine(),
                MeasuredMachine::this_machine(),
                context.shutdown,
            )
            .await?;
        }
        Command::Report { output } => {
            let host = Host::this_machine();
            let report = tokio::task::spawn_blocking(move || report::BootReport::of(&host)).await?;
            match output {
                ReportForm::Table => println!("{report}"),
                ReportForm::Json => println!("{}", serde_json::to_string_pretty(&report)?),
            }
        }
    }
    Ok(())
}
