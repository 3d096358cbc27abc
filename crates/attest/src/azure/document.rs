//! The evidence documents of Azure's machines.

use super::MAX_HCL_REPORT;
use crate::tdx::MAX_QUOTE;
use crate::vtpm::document::documents;
use crate::x509::MAX_CERTIFICATE;

documents! {
    /// The parts of an `azure-sev-snp` document.
    pub struct SevSnpDocument of AzureSevSnp {
        /// The paravisor's report, with the processor's in it (NV index 0x01400001).
        hcl_report ("hclReport", MAX_HCL_REPORT): Vec<u8>,
        /// AMD's, as far as the machine has them: of the key that signed the report, and of its authorities. DER.
        certificates ("certificates", MAX_CERTIFICATE): Vec<Vec<u8>>
    }

    /// The parts of an `azure-tdx` document.
    pub struct TdxDocument of AzureTdx {
        /// The paravisor's report (NV index 0x01400001).
        hcl_report ("hclReport", MAX_HCL_REPORT): Vec<u8>,
        /// The quote that Azure's host made of the `TDREPORT` in it.
        td_quote ("tdQuote", MAX_QUOTE): Vec<u8>
    }

    /// The parts of an `azure-trustedlaunch` document.
    pub struct TrustedLaunchDocument of AzureTrustedLaunch {
        /// Of the attestation key, DER; the padding of its NV index (0x01C101D0) may follow.
        ak_certificate ("akCertificate", MAX_CERTIFICATE): Vec<u8>,
        /// What lies between it and Microsoft's root, as far as the machine has it. DER.
        certificates ("certificates", MAX_CERTIFICATE): Vec<Vec<u8>>
    }
}
