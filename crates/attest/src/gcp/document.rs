//! The evidence documents of Google's machines.

use crate::tdx::MAX_QUOTE;
use crate::vtpm::document::documents;
use crate::x509::MAX_CERTIFICATE;

/// A page, which is what the processor's firmware answers in; a report of today has a third of it.
const MAX_SNP_REPORT: usize = 4096;

documents! {
    /// The parts of a `gcp-sev-es` document.
    pub struct SevEsDocument of GcpSevEs {
        /// Of the attestation key, DER; the padding of its NV index (0x01C10000 or 0x01C10002) may follow.
        ak_certificate ("akCertificate", MAX_CERTIFICATE): Vec<u8>,
        /// What lies between it and Google's root, as far as the machine has it. DER.
        certificates ("certificates", MAX_CERTIFICATE): Vec<Vec<u8>>
    }

    /// The parts of a `gcp-sev-snp` document.
    pub struct SevSnpDocument of GcpSevSnp {
        /// Of the attestation key, DER; the padding of its NV index may follow.
        ak_certificate ("akCertificate", MAX_CERTIFICATE): Vec<u8>,
        /// What lies between it and Google's root, as far as the machine has it. DER.
        certificates ("certificates", MAX_CERTIFICATE): Vec<Vec<u8>>,
        /// The processor's report, over [`super::report_data`].
        snp_report ("snpReport", MAX_SNP_REPORT): Vec<u8>,
        /// AMD's, as far as the machine has them: of the key that signed the report, and of its authorities. DER.
        snp_certificates ("snpCertificates", MAX_CERTIFICATE): Vec<Vec<u8>>
    }

    /// The parts of a `gcp-tdx` document.
    pub struct TdxDocument of GcpTdx {
        /// Of the attestation key, DER; the padding of its NV index may follow.
        ak_certificate ("akCertificate", MAX_CERTIFICATE): Vec<u8>,
        /// What lies between it and Google's root, as far as the machine has it. DER.
        certificates ("certificates", MAX_CERTIFICATE): Vec<Vec<u8>>,
        /// The quote of the trust domain, over [`super::report_data`].
        td_quote ("tdQuote", MAX_QUOTE): Vec<u8>
    }
}
