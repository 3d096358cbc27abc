//! From machines that wait to a cluster whose API answers: what `apply` and `mini up` have in common.

use std::time::{Duration, Instant};

use cluster::config::Config;
use cluster::state::{ClusterValues, Infrastructure, State};

use crate::backup::Restore;
use crate::components::Source;
use crate::failure::Failure;
use crate::init::{Init, Progress};
use crate::kubernetes;
use crate::output::Terminal;
use crate::workspace::Workspace;

/// A cluster whose API server answers.
pub(crate) struct Up {
    pub cluster_values: ClusterValues,
    pub client: kube::Client,
    /// The phases of the init, if it was run now.
    pub fresh: Option<Fresh>,
}

/// The times of an init that was run now.
pub(crate) struct Fresh {
    pub reached: Instant,
    /// The node said that its API server answers.
    pub api_ready: Instant,
    /// The node's control plane and services are there, and the API answers this host.
    pub complete: Instant,
    pub progress: Vec<Progress>,
}

/// What there is to bring up.
pub(crate) struct Cluster<'a> {
    pub workspace: &'a Workspace,
    pub config: &'a Config,
    pub infrastructure: &'a Infrastructure,
    pub source: &'a Source,
    /// Base URL from which nodes fetch components of a local directory.
    pub local_mirror: Option<&'a str>,
    /// How long the API server may take.
    pub patience: Duration,
    /// The backup that the cluster is made of, if it is not new.
    pub restore: Option<&'a Restore>,
}

impl Cluster<'_> {
    /// Makes the cluster, or finds it made. `reached` is called when the node has proved itself.
    pub(crate) async fn up(
        &self,
        state: &State,
        terminal: &Terminal,
        reached: impl Fn(),
    ) -> Result<Up, Failure> {
        let mut fresh = None;
        let cluster_values = match &state.cluster_values {
            Some(values) => {
                terminal.debug(format_args!(
                    "cluster {} was initialised before",
                    values.cluster_id
                ));
                values.clone()
            }
            None => {
                let (values, times) = self.init(state, terminal, reached).await?;
                fresh = Some(times);
                values
            }
        };
        let client = kubernetes::client(&self.workspace.kubeconfig_path()).await?;
        k8s::api::wait_ready(&client, self.patience)
            .await
            .map_err(|error| {
                Failure::cluster("the API server does not answer")
                    .because(error)
                    .hint("`constellation mini logs` shows what the control plane says")
            })?;
        if let Some(fresh) = &mut fresh {
            fresh.complete = Instant::now();
        }
        Ok(Up {
            cluster_values,
            client,
            fresh,
        })
    }

    async fn init(
        &self,
        state: &State,
        terminal: &Terminal,
        reached: impl Fn(),
    ) -> Result<(ClusterValues, Fresh), Failure> {
        let components = self
            .source
            .catalogue(self.config.kubernetes_version, terminal)
            .await?;
        let mirror = match (self.source, self.local_mirror) {
            (Source::Directory(_), Some(mirror)) => mirror.to_owned(),
            (Source::Directory(path), None) => {
                return Err(Failure::config(format!(
                    "nodes can not fetch components from {}",
                    path.display()
                ))
                .hint("name a URL that the machines reach: --components https://..."));
            }
            (Source::Url(url), _) if url == cluster::catalogue::UPSTREAM => String::new(),
            (Source::Url(url), _) => url.clone(),
        };
        let init = Init {
            workspace: self.workspace,
            config: self.config,
            infrastructure: self.infrastructure,
            components: &components,
            mirror,
            restore: self.restore,
        };
        let done = init.run(terminal, reached).await?;
        // in this order: whatever stops us in between, the next run finds what it needs to go on
        kubernetes::save_kubeconfig(
            self.workspace,
            &done.kubeconfig,
            &self.infrastructure.cluster_endpoint,
        )?;
        let state = State {
            cluster_values: Some(done.cluster_values.clone()),
            ..state.clone()
        };
        self.workspace.save_state(&state)?;
        init.forget()?;
        let now = Instant::now();
        let api_ready = done.progress.iter().find(|told| told.is_api_ready());
        let fresh = Fresh {
            reached: done.reached,
            api_ready: api_ready.map_or(now, |told| told.heard),
            complete: now,
            progress: done.progress,
        };
        Ok((done.cluster_values, fresh))
    }
}
