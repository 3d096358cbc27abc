//! The TPM of this machine, shared by everything that needs it; blocking calls go to threads of their own.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use attest::tpm::PublicArea;
use attest::{Digest, Issue, PcrIndex, Policy, PolicyError, Variant};
use cluster::boot_lock::Mark;
use keys::ClusterId;
use tee::{QuoteError, Tpm, TpmAddress, TpmError, TpmIssuer};
use tokio::task::JoinError;

/// A machine that can prove what it runs.
#[derive(Clone)]
pub struct MeasuredMachine {
    address: TpmAddress,
    issuer: Arc<TpmIssuer>,
}

/// By what a machine is recognised, as its record in the cluster has it.
#[derive(Debug)]
pub struct MachineIdentity {
    /// Variant of its evidence.
    pub variant: String,
    /// Its attestation key.
    pub key_id: String,
    /// Its registers.
    pub measurements: BTreeMap<u32, String>,
}

/// The TPM did not do what it must.
#[derive(Debug, thiserror::Error)]
pub enum MachineError {
    /// A command.
    #[error("asking the TPM")]
    Tpm(#[source] TpmError),
    /// Its measurements.
    #[error("reading this machine's own measurements")]
    Measurements(#[source] QuoteError),
    /// Its thread.
    #[error("waiting for the TPM")]
    Thread(#[source] JoinError),
    /// The attestation key's form.
    #[error("reading this machine's attestation key")]
    Key(#[source] attest::tpm::ParseError),
    /// What the registers hold makes no policy.
    #[error("making a policy of this machine's own measurements")]
    Policy(#[source] PolicyError),
}

impl MeasuredMachine {
    /// This machine.
    pub fn this_machine() -> Self {
        let address = TpmAddress::of_this_machine();
        Self {
            address,
            issuer: Arc::new(TpmIssuer::of_this_machine()),
        }
    }

    /// A machine with another TPM, for tests.
    pub fn new(address: TpmAddress, event_log: PathBuf) -> Self {
        Self {
            issuer: Arc::new(TpmIssuer::new(address.clone(), event_log)),
            address,
        }
    }

    /// What makes evidence of this machine.
    pub fn issuer(&self) -> Arc<dyn Issue> {
        Arc::clone(&self.issuer) as Arc<dyn Issue>
    }

    /// What PCR 15 holds.
    pub async fn pcr15(&self) -> Result<[u8; 32], MachineError> {
        self.blocking(read_pcr15).await
    }

    /// What PCR 15 says about this boot.
    pub async fn mark(&self) -> Result<Mark, MachineError> {
        self.pcr15().await.map(|value| Mark::of(&value))
    }

    /// Extends PCR 15 with the cluster ID, unless it is marked already, and returns what it holds then.
    pub async fn extend_mark(&self, cluster_id: &ClusterId) -> Result<[u8; 32], MachineError> {
        let id = *cluster_id.as_bytes();
        self.blocking(move |tpm| {
            // a second extend would make a mark of no cluster; whether the first is the right one is the caller's to see
            if read_pcr15(tpm)? == *Digest::ZERO.as_bytes() {
                tpm.extend_event(PcrIndex::CLUSTER_MARK, &id)?;
            }
            read_pcr15(tpm)
        })
        .await
    }

    /// The policy that another machine meets if it booted what this one booted.
    pub async fn own_policy(&self) -> Result<Policy, MachineError> {
        let issuer = Arc::clone(&self.issuer);
        let (pcrs, event_log) = tokio::task::spawn_blocking(move || issuer.own_measurements())
            .await
            .map_err(MachineError::Thread)?
            .map_err(MachineError::Measurements)?;
        Policy::from_own_measurements(Variant::QemuVtpm, &pcrs, &event_log)
            .map_err(MachineError::Policy)
    }

    /// By what this machine is recognised.
    pub async fn identity(&self) -> Result<MachineIdentity, MachineError> {
        let (key, pcrs) = self
            .blocking(|tpm| {
                let key = tpm.create_attestation_key()?;
                let public = key.public.clone();
                tpm.flush_key(key)?;
                Ok((public, tpm.read_pcrs()?))
            })
            .await?;
        let key = PublicArea::parse(&key).map_err(MachineError::Key)?;
        Ok(MachineIdentity {
            variant: Variant::QemuVtpm.to_string(),
            key_id: key.id().to_string(),
            measurements: pcrs
                .iter()
                .map(|(index, value)| (u32::from(index.number()), value.to_string()))
                .collect(),
        })
    }

    async fn blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut Tpm) -> Result<T, TpmError> + Send + 'static,
    ) -> Result<T, MachineError> {
        let address = self.address.clone();
        tokio::task::spawn_blocking(move || work(&mut Tpm::open(&address)?))
            .await
            .map_err(MachineError::Thread)?
            .map_err(MachineError::Tpm)
    }
}

fn read_pcr15(tpm: &mut Tpm) -> Result<[u8; 32], TpmError> {
    Ok(*tpm.read_pcrs()?.get(PcrIndex::CLUSTER_MARK).as_bytes())
}
