//! `completion`: scripts for shells.

use clap::CommandFactory;

use crate::arguments::{Arguments, CompletionArguments};
use crate::failure::Failure;
use crate::output;

pub(crate) fn run(arguments: &CompletionArguments) -> Result<(), Failure> {
    let mut script = Vec::new();
    clap_complete::generate(
        arguments.shell,
        &mut Arguments::command(),
        "constellation",
        &mut script,
    );
    output::data(&String::from_utf8_lossy(&script))
}
