//! Who may vouch for machines: the vendors' roots.

use std::sync::LazyLock;

use crate::tpm::AkAuthorities;
use crate::{azure, gcp, sev_snp, tdx};

/// The roots of every vendor whose word a variant rests on. Never a peer's.
#[derive(Clone, Debug)]
pub struct Roots {
    /// Of AMD's processors.
    pub amd: sev_snp::Roots,
    /// Of Intel's processors.
    pub intel: tdx::Roots,
    /// Of the TPMs of Azure's Trusted Launch.
    pub microsoft: AkAuthorities,
    /// Of the TPMs of Google's instances.
    pub google: AkAuthorities,
}

impl Roots {
    /// The vendors' own, which are built in.
    #[must_use]
    pub fn vendors() -> &'static Self {
        static VENDORS: LazyLock<Roots> = LazyLock::new(|| Roots {
            amd: sev_snp::Roots::amd(),
            intel: tdx::Roots::intel(),
            microsoft: azure::authorities(),
            google: gcp::authorities(),
        });
        &VENDORS
    }
}
