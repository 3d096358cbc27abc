//! Google's vTPM: the attestation key's template and certificate in NV areas.

use crate::tpm::{Tpm, TpmError};

/// Which of the vTPM's two attestation keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AkKind {
    /// RSA 2048.
    Rsa,
    /// ECC P-256.
    Ecc,
}

impl AkKind {
    /// Both, the better one first.
    pub const ALL: [Self; 2] = [Self::Ecc, Self::Rsa];

    /// Where its certificate stands.
    #[must_use]
    pub const fn certificate_area(self) -> u32 {
        match self {
            Self::Rsa => 0x01c1_0000,
            Self::Ecc => 0x01c1_0002,
        }
    }

    /// Where the template stands that makes it.
    #[must_use]
    pub const fn template_area(self) -> u32 {
        match self {
            Self::Rsa => 0x01c1_0001,
            Self::Ecc => 0x01c1_0003,
        }
    }
}

/// The certificate and template of an attestation key, as they stand in the vTPM.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CertifiedAk {
    /// Which.
    pub kind: AkKind,
    /// DER, perhaps with padding behind it.
    pub certificate: Vec<u8>,
    /// `TPMT_PUBLIC`, for `TPM2_CreatePrimary` in the endorsement hierarchy.
    pub template: Vec<u8>,
}

/// What this machine's vTPM has of it: nothing, if it is not Google's or has no certificates.
///
/// # Errors
/// When the TPM fails.
pub fn certified_aks(tpm: &mut Tpm) -> Result<Vec<CertifiedAk>, TpmError> {
    let mut found = Vec::new();
    for kind in AkKind::ALL {
        let certificate = tpm.nv_read(kind.certificate_area())?;
        let template = tpm.nv_read(kind.template_area())?;
        if let (Some(certificate), Some(template)) = (certificate, template) {
            found.push(CertifiedAk {
                kind,
                certificate,
                template,
            });
        }
    }
    Ok(found)
}
