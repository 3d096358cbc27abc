//! What vendors state about machines, from whoever has fetched it: certificates, revocation lists, Intel's statements.
//!
//! Nothing here is believed by itself: an appraisal follows it to a root. Where it comes from is `collateral`'s matter.

use thiserror::Error;

use crate::tdx;
use crate::x509::{Certificate, Crl};

/// More certificates and lists than there are machines and authorities at any site.
const MAX_ITEMS: usize = 65_536;
/// More statements of Intel's than there are platforms at any site, for a year of months.
const MAX_SETS: usize = 256;

/// Statements of any vendor. Empty at first: machines that need one are refused then.
#[derive(Debug, Default)]
pub struct Endorsements {
    certificates: Vec<Certificate>,
    crls: Vec<Crl>,
    sets: Vec<tdx::Endorsements>,
}

/// More than any site has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("more than {most} {what} are given")]
pub struct TooManyEndorsements {
    what: &'static str,
    most: usize,
}

impl Endorsements {
    /// Nothing yet.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            certificates: Vec::new(),
            crls: Vec::new(),
            sets: Vec::new(),
        }
    }

    /// Adds a certificate: of a processor's key, or of an authority.
    ///
    /// # Errors
    /// When there are more than any site has.
    pub fn add_certificate(&mut self, certificate: Certificate) -> Result<(), TooManyEndorsements> {
        add(
            &mut self.certificates,
            certificate,
            "certificates",
            MAX_ITEMS,
        )
    }

    /// Adds a revocation list.
    ///
    /// # Errors
    /// When there are more than any site has.
    pub fn add_crl(&mut self, crl: Crl) -> Result<(), TooManyEndorsements> {
        add(&mut self.crls, crl, "revocation lists", MAX_ITEMS)
    }

    /// Adds Intel's statements about one family of platforms.
    ///
    /// # Errors
    /// When there are more than any site has.
    pub fn add_intel(&mut self, set: tdx::Endorsements) -> Result<(), TooManyEndorsements> {
        add(&mut self.sets, set, "sets of Intel's statements", MAX_SETS)
    }

    /// Certificates of any vendor.
    #[must_use]
    pub fn certificates(&self) -> &[Certificate] {
        &self.certificates
    }

    /// Revocation lists of any vendor.
    #[must_use]
    pub fn crls(&self) -> &[Crl] {
        &self.crls
    }

    /// Takes the revocation lists out, for who puts those of several places together.
    pub fn take_crls(&mut self) -> Vec<Crl> {
        std::mem::take(&mut self.crls)
    }

    /// Intel's statements.
    #[must_use]
    pub fn intel(&self) -> &[tdx::Endorsements] {
        &self.sets
    }

    /// How many there are.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.certificates.len() + self.crls.len() + self.sets.len()
    }

    /// Whether there is nothing.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

fn add<T>(
    to: &mut Vec<T>,
    item: T,
    what: &'static str,
    most: usize,
) -> Result<(), TooManyEndorsements> {
    if to.len() == most {
        return Err(TooManyEndorsements { what, most });
    }
    to.push(item);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everything_that_is_there_is_counted_and_lists_can_be_taken_out() {
        let roots = crate::sev_snp::Roots::amd();
        let milan = roots.line(crate::sev_snp::ProductLine::Milan).unwrap();
        let list = include_bytes!("../testdata/evidence/roots/amd-crl/crl-milan-2022-05-09.der");
        let mut endorsements = Endorsements::new();
        assert!(endorsements.is_empty());
        endorsements.add_certificate(milan.ark.clone()).unwrap();
        endorsements.add_certificate(milan.ark.clone()).unwrap();
        endorsements.add_crl(Crl::parse(list).unwrap()).unwrap();
        assert_eq!((endorsements.len(), endorsements.is_empty()), (3, false));
        assert_eq!(endorsements.take_crls().len(), 1);
        assert_eq!((endorsements.len(), endorsements.crls().len()), (2, 0));
    }

    #[test]
    fn the_statements_of_a_year_fit_and_not_more() {
        macro_rules! file {
            ($name:literal) => {
                include_bytes!(concat!(
                    "../testdata/evidence/tdx-collateral/90c06f-2026-06-flashbots/",
                    $name
                ))
            };
        }
        let set = tdx::Endorsements::parse(&tdx::Collateral {
            tcb_info: file!("tcb_info.json"),
            tcb_info_chain: file!("tcb_signing_chain.pem"),
            qe_identity: file!("qe_identity.json"),
            qe_identity_chain: file!("tcb_signing_chain.pem"),
            crls: &[],
        })
        .unwrap();
        let mut endorsements = Endorsements::new();
        for _ in 0..256 {
            endorsements.add_intel(set.clone()).unwrap();
        }
        let error = endorsements.add_intel(set).unwrap_err().to_string();
        assert_eq!(error, "more than 256 sets of Intel's statements are given");
    }
}
