//! What a path must fulfil beyond what every path must.

use jiff::Timestamp;

use crate::x509::Crl;

/// Where the word on revoked certificates comes from.
#[derive(Clone, Copy, Debug)]
pub enum Revocation<'a> {
    /// From these CRLs. For every issuer that [`PathRules`] says, one must be here, signed by it, begun and not run out.
    Demand(&'a [Crl]),
    /// From these CRLs as far as they can be used. One that is missing, is not the issuer's or is not of this time is passed over; one
    /// that would do under [`Self::Demand`], or has only run out, and says "revoked" refuses.
    IfGiven(&'a [Crl]),
    /// From nowhere: a revoked certificate passes. For issuers that publish no CRL, and for those whose vendor is asked otherwise.
    DangerousNotLookedAt,
}

/// Which certificates need a CRL of their issuer. One that is given is used in either case, and must then be good.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CrlScope {
    /// All below the root.
    EveryCertificate,
    /// All authorities below the root, but not the leaf: AMD's ASK has no CRL for the keys of chips.
    Authorities,
}

/// How strict a path is. Without a word more: the leaf is no authority, no critical extension is understood but basic constraints and
/// key usage, and every certificate needs a CRL.
#[derive(Clone, Debug)]
pub struct PathRules {
    pub(super) leaf_is_authority: bool,
    pub(super) understood: &'static [&'static str],
    pub(super) crl_scope: CrlScope,
    pub(super) crls_from: Timestamp,
}

impl PathRules {
    /// For a leaf that issues nothing.
    #[must_use]
    pub const fn end_entity() -> Self {
        Self {
            leaf_is_authority: false,
            understood: &[],
            crl_scope: CrlScope::EveryCertificate,
            crls_from: Timestamp::MIN,
        }
    }

    /// For an authority's certificate looked at by itself.
    #[must_use]
    pub const fn authority() -> Self {
        Self {
            leaf_is_authority: true,
            ..Self::end_entity()
        }
    }

    /// Critical extensions, by dotted object identifier, that the caller reads and judges itself.
    #[must_use]
    pub const fn understanding(self, understood: &'static [&'static str]) -> Self {
        Self { understood, ..self }
    }

    /// Which certificates need a CRL.
    #[must_use]
    pub const fn crls_for(self, crl_scope: CrlScope) -> Self {
        Self { crl_scope, ..self }
    }

    /// The earliest time at which a CRL may have been made. One of a year holds long after a newer one has revoked something; who
    /// knows of the newer one says so here. An older one cannot show that a certificate is not revoked, but what it revokes stays so.
    #[must_use]
    pub const fn crls_from(self, crls_from: Timestamp) -> Self {
        Self { crls_from, ..self }
    }
}
