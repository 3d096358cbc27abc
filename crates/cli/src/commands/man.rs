//! `man`: a page for each command, for packagers.

use clap::CommandFactory;

use crate::arguments::{Arguments, ManArguments};
use crate::failure::Failure;

pub(crate) fn run(arguments: &ManArguments) -> Result<(), Failure> {
    let directory = &arguments.directory;
    let failed = |error| {
        Failure::infrastructure(format!("write man pages to {}", directory.display()))
            .because(error)
    };
    std::fs::create_dir_all(directory).map_err(failed)?;
    clap_mangen::generate_to(Arguments::command(), directory).map_err(failed)
}
