//! Azure: machines whose TPM is a program that Microsoft runs.
//!
//! On a confidential VM that program is the paravisor, inside the guest's own protection: an [`HclReport`] holds a report of the
//! processor over the TPM's attestation key, so the hardware vouches for the key, as far as the paravisor is one that is accepted
//! ([`Paravisor`]). With Trusted Launch it runs outside the guest, and Microsoft's word in a certificate is all there is
//! ([`trusted_launch_ak`]).
//!
//! Steps for a confidential VM, in this order, each believed only if the ones before it hold:
//! 1. the HCL report and its runtime data have their one form,
//! 2. the processor's report is genuine, of an accepted platform, and made over exactly the digest of the runtime data,
//! 3. what made it is an accepted paravisor, at the highest privilege,
//! 4. the machine is configured as demanded,
//! 5. the TPM's quote is signed by the key in the runtime data ([`crate::tpm`]).
//!
//! What it does not show: that the paravisor, which is Microsoft's, keeps the TPM's keys to itself. It is part of what is trusted.
//!
//! Specification: Microsoft, "Guest attestation for confidential VMs: design", and the structures of OpenHCL's attestation protocol.

mod check;
mod confidential_vm;
mod configuration;
mod document;
mod hcl;
mod runtime;
mod trusted_launch;
mod variants;

pub use check::CheckName;
pub use confidential_vm::{ConfidentialVm, SnpRequirements, TdxEvidence, TdxRequirements};
pub use configuration::{Paravisor, ParavisorError, SecureBoot, VmRequirements};
pub use document::{SevSnpDocument, TdxDocument, TrustedLaunchDocument};
pub use hcl::{BindError, BoundAk, Hardware, HclError, HclReport, MAX_HCL_REPORT};
pub use runtime::{RuntimeClaims, RuntimeError, VmConfiguration};
pub use trusted_launch::{authorities, trusted_launch_ak};
pub(crate) use variants::{appraise_sev_snp, appraise_tdx, appraise_trusted_launch};
