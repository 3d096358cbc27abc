//! The units of Kubernetes on a node: written again at every start, because they lie in memory; what runs stays as it is.

use k8s::control_plane::{Node, Service};
use k8s::files::{self, File, Written};
use tokio::sync::Mutex;

use super::steps::StepError;
use crate::systemd;

/// Writes and starts a node's units.
pub struct Services {
    node: Node,
    /// Held by whoever writes units.
    turn: Mutex<()>,
}

impl Services {
    /// Of this node.
    pub fn new(node: Node) -> Self {
        Self {
            node,
            turn: Mutex::new(()),
        }
    }

    /// Writes the files of services and starts them, in this order.
    pub async fn start(&self, services: &[Service], ca_certificate: &str) -> Result<(), StepError> {
        for service in services {
            let files = self.node.files(*service, ca_certificate);
            files::write_all(&files).map_err(StepError::File)?;
        }
        self.write_units().await?;
        let units: Vec<&str> = services.iter().map(|service| service.unit_name()).collect();
        systemd::start(&units).await.map_err(StepError::Unit)
    }

    /// Writes every unit that this node will ever have, the first time that one is started: the service manager takes seconds to
    /// read them, and on the way to the API each counts.
    async fn write_units(&self) -> Result<(), StepError> {
        let _turn = self.turn.lock().await;
        let units: Vec<File> = Service::of(self.node.config().role)
            .iter()
            .map(|service| self.node.unit(*service))
            .collect();
        match files::write_all(&units).map_err(StepError::File)? {
            Written::Changed => systemd::reload().await.map_err(StepError::Unit),
            Written::Unchanged => Ok(()),
        }
    }
}
