//! The root that everything must lead to.

use crate::x509::Certificate;

/// Intel SGX Root CA, SHA-256 44a0196b2b99f889b8e149e95b807a350e7424964399e885a7cbb8ccfab674d3.
const INTEL_SGX_ROOT_CA: &[u8] = include_bytes!("../roots/intel-sgx-root-ca.der");

/// Roots that PCK certificates, TCB infos and QE identities may lead to. Never taken from a peer.
#[derive(Clone, Debug)]
pub struct Roots(Vec<Certificate>);

impl Roots {
    /// Intel's production root, which is built in.
    #[must_use]
    pub fn intel() -> Self {
        // a root that could not be read would leave none, and nothing is believed without one
        Self(Certificate::parse(INTEL_SGX_ROOT_CA).into_iter().collect())
    }

    /// Roots of somebody else: of Intel's machines before production, or of a test.
    #[must_use]
    pub const fn of_another_vendor(roots: Vec<Certificate>) -> Self {
        Self(roots)
    }

    /// The certificates.
    #[must_use]
    pub fn certificates(&self) -> &[Certificate] {
        &self.0
    }
}
