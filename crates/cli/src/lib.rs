//! The command line of Constellation: reads what a person wants, calls the parts that do it, and says what happened.
//!
//! Data goes to stdout, everything else to stderr. Each kind of failure has its exit code ([`failure::Kind`]).
//! Decides nothing about trust: it hands evidence and policy to `attest` and prints the verdict.

mod arguments;
mod backup;
mod bring_up;
mod commands;
mod components;
mod evidence;
mod failure;
mod init;
mod kubeconfig;
mod kubernetes;
mod mini;
mod output;
mod recover;
mod text;
mod vendors;
mod verify;
mod workspace;

use std::ffi::OsString;
use std::process::ExitCode;

use clap::Parser;
use futures::FutureExt;
use tokio::signal::unix::{Signal, SignalKind, signal};

use arguments::{
    Arguments, BackupCommand, CollateralCommand, Command, ConfigCommand, EvidenceCommand,
    MiniCommand, PolicyCommand,
};
use failure::{Failure, Kind};
use output::Terminal;
use workspace::Workspace;

/// Runs the program with its arguments.
pub fn run(arguments: impl IntoIterator<Item = OsString>) -> ExitCode {
    let arguments = match Arguments::try_parse_from(arguments) {
        Ok(arguments) => arguments,
        Err(error) => {
            // help and version are not failures
            let code = if error.use_stderr() {
                Kind::Usage.exit_code()
            } else {
                0
            };
            return match error.print() {
                Ok(()) => ExitCode::from(code),
                Err(_) => ExitCode::from(Kind::Internal.exit_code()),
            };
        }
    };
    let terminal = Terminal::detect(arguments.global.debug);
    let ended = start(arguments, &terminal);
    for missing in vendors::missing() {
        terminal.note(format_args!("not had from a vendor: {missing}"));
    }
    match ended {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            terminal.failure(&failure);
            ExitCode::from(failure.kind().exit_code())
        }
    }
}

fn start(arguments: Arguments, terminal: &Terminal) -> Result<(), Failure> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::internal("start the runtime").because(error))?;
    // these end with the signal, and that is their usual end
    let until_stopped = matches!(
        arguments.command,
        Command::Mini(MiniCommand::Serve | MiniCommand::Capture(_) | MiniCommand::Logs(_))
    );
    let outcome = runtime.block_on(async {
        if until_stopped {
            return dispatch(arguments, terminal).await;
        }
        // before the command's first step, so that no signal falls between a handler that is there and nobody who asks
        let mut signals = Signals::listen()?;
        let outcome = tokio::select! {
            biased;
            failure = signals.interrupted() => Err(failure),
            outcome = dispatch(arguments, terminal) => outcome,
        };
        // what the user stopped may fail before it is looked at again, as a child that got the signal as well
        match (outcome, signals.interrupted().now_or_never()) {
            (Err(_), Some(failure)) => Err(failure),
            (outcome, _) => outcome,
        }
    });
    // a blocking call that still runs must not hold up the end
    runtime.shutdown_background();
    outcome
}

async fn dispatch(
    Arguments { global, command }: Arguments,
    terminal: &Terminal,
) -> Result<(), Failure> {
    match &command {
        Command::Version(arguments) => return commands::version::run(arguments),
        Command::Completion(arguments) => return commands::completion::run(arguments),
        Command::Man(arguments) => return commands::man::run(arguments),
        Command::Collateral(command) => return collateral(command, terminal).await,
        Command::Evidence(EvidenceCommand::Verify(arguments)) => {
            return commands::evidence::verify(arguments);
        }
        Command::Evidence(EvidenceCommand::Inspect(arguments)) => {
            return commands::evidence::inspect(arguments);
        }
        Command::Policy(PolicyCommand::Check(arguments)) => {
            return commands::policy::check(terminal, arguments);
        }
        Command::Policy(PolicyCommand::Explain(arguments)) => {
            return commands::policy::explain(&global.workspace, arguments);
        }
        _ => {}
    }
    let workspace = Workspace::open(&global.workspace)?;
    match command {
        Command::Version(_)
        | Command::Completion(_)
        | Command::Man(_)
        | Command::Collateral(_)
        | Command::Evidence(_)
        | Command::Policy(_) => Ok(()),
        Command::Config(ConfigCommand::Generate(arguments)) => {
            commands::config::generate(&workspace, terminal, &arguments)
        }
        Command::Config(ConfigCommand::FetchMeasurements(arguments)) => {
            commands::config::fetch_measurements(&workspace, terminal, &arguments)
        }
        Command::Config(ConfigCommand::Check) => commands::config::check(&workspace, terminal),
        Command::Config(ConfigCommand::KubernetesVersions) => {
            commands::config::kubernetes_versions()
        }
        Command::Apply(arguments) => commands::apply::run(&workspace, terminal, &arguments).await,
        Command::Verify(arguments) => commands::verify::run(&workspace, terminal, &arguments).await,
        Command::Recover(arguments) => {
            commands::recover::run(&workspace, terminal, &arguments).await
        }
        Command::Backup(BackupCommand::Create(arguments)) => {
            commands::backup::create(&workspace, terminal, &arguments).await
        }
        Command::Backup(BackupCommand::Inspect(arguments)) => {
            commands::backup::inspect(&workspace, &arguments)
        }
        Command::Backup(BackupCommand::Restore(arguments)) => {
            commands::backup::restore(&workspace, terminal, arguments).await
        }
        Command::Status(arguments) => commands::status::run(&workspace, &arguments).await,
        Command::Mini(MiniCommand::Up(arguments)) => {
            mini::up::run(&workspace, terminal, &arguments).await
        }
        Command::Mini(MiniCommand::Down(arguments)) => {
            mini::down::run(&workspace, terminal, &arguments).await
        }
        Command::Mini(MiniCommand::Status(arguments)) => {
            mini::status::run(&workspace, &arguments).await
        }
        Command::Mini(MiniCommand::Logs(arguments)) => {
            mini::logs::run(&workspace, &arguments).await
        }
        Command::Mini(MiniCommand::Capture(arguments)) => {
            mini::capture::run(&workspace, terminal, &arguments).await
        }
        Command::Mini(MiniCommand::Serve) => mini::serve::run(&workspace).await,
    }
}

/// Needs no workspace: collateral is of vendors, not of a cluster.
async fn collateral(command: &CollateralCommand, terminal: &Terminal) -> Result<(), Failure> {
    match command {
        CollateralCommand::Fetch(arguments) => {
            commands::collateral::fetch(terminal, arguments).await
        }
        CollateralCommand::List(arguments) => commands::collateral::list(terminal, arguments),
        CollateralCommand::Export(arguments) => commands::collateral::export(terminal, arguments),
        CollateralCommand::Import(arguments) => commands::collateral::import(terminal, arguments),
    }
}

/// What the user or the system asks a program to stop with.
struct Signals {
    interrupt: Signal,
    terminate: Signal,
}

impl Signals {
    /// From here on the signals no longer end the program by themselves.
    fn listen() -> Result<Self, Failure> {
        let failed = |error: std::io::Error| Failure::internal("listen for signals").because(error);
        Ok(Self {
            interrupt: signal(SignalKind::interrupt()).map_err(failed)?,
            terminate: signal(SignalKind::terminate()).map_err(failed)?,
        })
    }

    /// Resolves with the next of them.
    async fn interrupted(&mut self) -> Failure {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
        }
        Failure::new(Kind::Interrupted, "interrupted")
            .hint("the same command continues where it stopped")
    }
}
