//! Google Cloud: virtual TPMs of Compute Engine, and the certificates Google issues for their keys.
//!
//! The TPM runs in the hypervisor, so Google is trusted with it, also on confidential VMs: there a report of the processor says what keeps
//! the host out, and [`report_data`] ties that report to the TPM's key. The certificate names the instance, which may be held against
//! what is expected ([`InstanceRequirements`]).
//!
//! Two hierarchies are in use: "tpm_ek_v1_cloud_host" of 2018, and "EK/AK CA" of 2022. Both issue for endorsement and attestation keys;
//! only the usage of the key tells them apart.

mod ak;
mod check;
mod confidential;
mod document;
mod instance;
mod requirements;
mod variants;

pub use ak::{CertifiedInstance, ak, authorities, report_data};
pub use check::CheckName;
pub use confidential::ConfidentialInstance;
pub use document::{SevEsDocument, SevSnpDocument, TdxDocument};
pub use instance::{INSTANCE_INFO_OID, InstanceInfo, InstanceInfoError};
pub use requirements::{Accepted, InstanceRequirements, NothingAccepted};
pub(crate) use variants::{appraise_sev_es, appraise_sev_snp, appraise_tdx};
