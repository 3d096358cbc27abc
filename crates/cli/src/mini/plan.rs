//! The record of a local cluster, `constellation-mini/plan.json`: what `up` decided and every later command must know.

use std::path::PathBuf;

use cloud::qemu::Seat;
use cloud::qemu::machine::Machine;
use serde::{Deserialize, Serialize};

use crate::failure::Failure;
use crate::workspace::{self, Workspace};

/// The record.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct Plan {
    pub control_planes: usize,
    pub workers: usize,
    /// Directory of the sockets. Recorded, because the environment it was chosen by is another one after a logout.
    pub run_directory: PathBuf,
    /// bcrypt hash of the init secret, for the metadata server.
    pub init_secret_hash: String,
    /// Directory that the component mirror serves.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub components: Option<PathBuf>,
}

impl Plan {
    fn path(workspace: &Workspace) -> PathBuf {
        workspace.mini().join("plan.json")
    }

    /// Reads the record, if there is one.
    pub(crate) fn read(workspace: &Workspace) -> Result<Option<Self>, Failure> {
        let path = Self::path(workspace);
        let Some(text) = workspace::read_text(&path)? else {
            return Ok(None);
        };
        serde_json::from_str(&text).map(Some).map_err(|error| {
            Failure::config(format!("read {}", path.display()))
                .because(error)
                .hint("`constellation mini down` removes what there is")
        })
    }

    /// Writes the record.
    pub(crate) fn write(&self, workspace: &Workspace) -> Result<(), Failure> {
        let text = serde_json::to_string_pretty(self)
            .map_err(|error| Failure::internal("write the plan").because(error))?;
        workspace::replace(&Self::path(workspace), text.as_bytes(), 0o600)
    }

    /// A machine with its files.
    pub(crate) fn machine(&self, workspace: &Workspace, seat: Seat) -> Machine {
        Machine::new(seat, &workspace.mini(), &self.run_directory)
    }

    /// Whether a load balancer stands before the control planes: one needs none.
    pub(crate) fn has_balancer(&self) -> bool {
        self.control_planes > 1
    }

    /// The places of the machines.
    pub(crate) fn seats(&self) -> Result<Vec<Seat>, Failure> {
        Seat::plan(self.control_planes, self.workers)
            .map_err(|error| Failure::config("the number of machines").because(error))
    }
}
