//! The times of the phases of `mini up`, also as a file for whoever compares runs.

use std::time::{Duration, Instant};

use cloud::qemu::accelerator::Accelerator;
use serde::Serialize;

use crate::failure::Failure;
use crate::init::Progress;
use crate::output::Terminal;
use crate::workspace::{self, Workspace};

/// `constellation-mini/phases.json`.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Phases {
    begun: String,
    accelerator: String,
    host_processors: usize,
    machines: usize,
    /// Whether an earlier run had begun: then the times are not those of a whole run.
    resumed: bool,
    phases: Vec<Phase>,
    /// The first node's own account of its init.
    init: Vec<Progress>,
    #[serde(skip)]
    started: Instant,
}

#[derive(Debug, Serialize)]
struct Phase {
    name: &'static str,
    seconds: f64,
}

impl Phases {
    pub(crate) fn begin(accelerator: Accelerator, machines: usize, resumed: bool) -> Self {
        Self {
            begun: jiff::Timestamp::now().to_string(),
            accelerator: accelerator.to_string(),
            host_processors: std::thread::available_parallelism().map_or(1, usize::from),
            machines,
            resumed,
            phases: Vec::new(),
            init: Vec::new(),
            started: Instant::now(),
        }
    }

    /// Records a phase that ended and shows it.
    pub(crate) fn ended(
        &mut self,
        terminal: &Terminal,
        name: &'static str,
        begun: Instant,
        detail: &str,
    ) {
        terminal.end(name, begun, detail);
        self.took(name, begun.elapsed());
    }

    /// Records a phase.
    pub(crate) fn took(&mut self, name: &'static str, took: Duration) {
        self.phases.push(Phase {
            name,
            seconds: took.as_secs_f64(),
        });
    }

    pub(crate) fn node_progress(&mut self, progress: Vec<Progress>) {
        self.init = progress;
    }

    pub(crate) fn total(&self) -> Duration {
        self.started.elapsed()
    }

    /// Writes the file.
    pub(crate) fn write(&mut self, workspace: &Workspace) -> Result<(), Failure> {
        self.took("total", self.started.elapsed());
        let text = serde_json::to_string_pretty(self)
            .map_err(|error| Failure::internal("write the phases").because(error))?;
        workspace::replace(
            &workspace.mini().join("phases.json"),
            text.as_bytes(),
            0o644,
        )
    }
}
