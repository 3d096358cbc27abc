//! Who may certify attestation keys.

use crate::x509::{Certificate, Crl, Revocation};

/// Roots that certificates of attestation keys must lead to, and the authorities below that are known beforehand. Never a peer's.
#[derive(Clone, Debug)]
pub struct AkAuthorities {
    roots: Vec<Certificate>,
    intermediates: Vec<Certificate>,
}

impl AkAuthorities {
    /// Another vendor's, or a test's.
    #[must_use]
    pub const fn of(roots: Vec<Certificate>) -> Self {
        Self {
            roots,
            intermediates: Vec::new(),
        }
    }

    pub(crate) fn built_in(roots: &[&[u8]], intermediates: &[&[u8]]) -> Self {
        // a file that does not parse would be an authority less, and nothing is believed without one; tests hold all of them
        let parsed = |files: &[&[u8]]| {
            files
                .iter()
                .filter_map(|der| Certificate::parse(der).ok())
                .collect()
        };
        Self {
            roots: parsed(roots),
            intermediates: parsed(intermediates),
        }
    }

    /// The roots.
    #[must_use]
    pub fn roots(&self) -> &[Certificate] {
        &self.roots
    }

    /// Authorities below the roots. They count only under a root.
    #[must_use]
    pub fn intermediates(&self) -> &[Certificate] {
        &self.intermediates
    }

    /// All lists are demanded once one is of an authority here. Otherwise none is, and a verdict warns: the vendors publish few. One that was
    /// given and revokes is heeded either way.
    #[must_use]
    pub fn revocation<'a>(&self, crls: &'a [Crl]) -> Revocation<'a> {
        let mut names = self
            .roots
            .iter()
            .chain(&self.intermediates)
            .map(Certificate::subject);
        if names.any(|name| crls.iter().any(|crl| crl.issuer() == name)) {
            Revocation::Demand(crls)
        } else {
            Revocation::IfGiven(crls)
        }
    }
}
