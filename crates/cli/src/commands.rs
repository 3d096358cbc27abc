//! The commands, one file each.

pub(crate) mod apply;
pub(crate) mod completion;
pub(crate) mod config;
pub(crate) mod man;
pub(crate) mod status;
pub(crate) mod verify;
pub(crate) mod version;

use crate::failure::Failure;
use crate::kubeconfig;
use crate::output::Terminal;
use crate::workspace::Workspace;

/// How kubectl finds the cluster that was made.
pub(crate) fn tell_kubeconfig(
    workspace: &Workspace,
    terminal: &Terminal,
    merge: bool,
) -> Result<(), Failure> {
    if merge {
        let path = kubeconfig::merge_into_default(workspace)?;
        terminal.line(format_args!(
            "  kubectl uses the cluster by {}.",
            path.display()
        ));
    } else {
        terminal.line(format_args!(
            "  export KUBECONFIG={}",
            workspace.kubeconfig_path().display()
        ));
    }
    Ok(())
}
