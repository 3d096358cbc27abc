//! No secret is anywhere on the host but in the files that are there to keep it.

use anyhow::{Context, Result, ensure};
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD_NO_PAD, URL_SAFE_NO_PAD};
use cluster::state::State;
use keys::{MasterSecretFile, MeasurementSecret};

use crate::cluster_tests::{contains, items};
use crate::world::World;

/// A secret in the forms in which a program might write it.
struct Secret {
    name: &'static str,
    forms: Vec<Vec<u8>>,
}

impl Secret {
    fn new(name: &'static str, bytes: &[u8]) -> Self {
        let forms = vec![
            bytes.to_vec(),
            hex::encode(bytes).into_bytes(),
            hex::encode_upper(bytes).into_bytes(),
            // without padding: the last characters of an encoding differ with what follows
            STANDARD_NO_PAD.encode(bytes).into_bytes(),
            URL_SAFE_NO_PAD.encode(bytes).into_bytes(),
        ];
        Self { name, forms }
    }

    fn is_in(&self, text: &[u8]) -> bool {
        self.forms.iter().any(|form| contains(text, form))
    }
}

pub(crate) fn no_secret_is_in_a_log_an_argument_or_an_environment(world: &mut World) -> Result<()> {
    let read = |name: &str| {
        let path = world.workspace.join(name);
        std::fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))
    };
    let master = MasterSecretFile::parse(read("constellation-mastersecret.json")?.as_bytes())?;
    let measurement = MeasurementSecret::derive(&master.master_secret, &master.salt);
    let state = State::parse(
        "constellation-state.yaml",
        &read("constellation-state.yaml")?,
    )?;
    let init = state
        .infrastructure
        .context("the state has no infrastructure")?
        .init_secret;
    let secrets = [
        Secret::new("master secret", master.master_secret.expose_bytes()),
        Secret::new("measurement secret", measurement.expose_bytes()),
        Secret::new("init secret", init.expose_bytes()),
    ];
    // they would be found
    let file = read("constellation-mastersecret.json")?;
    ensure!(
        secrets[0].is_in(file.as_bytes()),
        "the master secret is not found in its own file"
    );

    let mut places: Vec<(String, Vec<u8>)> = vec![];
    for path in world.texts()? {
        places.push((path.display().to_string(), std::fs::read(&path)?));
    }
    for process in std::fs::read_dir("/proc")?.flatten() {
        for name in ["cmdline", "environ"] {
            let path = process.path().join(name);
            // a process that has ended, or is not ours
            if let Ok(bytes) = std::fs::read(&path) {
                places.push((path.display().to_string(), bytes));
            }
        }
    }
    let pods = world.get(&["pods", "--namespace", "kube-system"])?;
    let before = places.len();
    for pod in items(&pods).filter_map(|pod| pod["metadata"]["name"].as_str()) {
        let log = world.answer(&["logs", "--namespace", "kube-system", pod])?;
        places.push((format!("log of {pod}"), log.into_bytes()));
    }
    ensure!(
        places.len() >= before + 4,
        "pods of the cluster's services are missing: {pods}"
    );
    for (place, bytes) in &places {
        for secret in &secrets {
            ensure!(!secret.is_in(bytes), "the {} is in {place}", secret.name);
        }
    }
    Ok(())
}
