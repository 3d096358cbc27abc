//! Path building and validation (RFC 5280, 6), narrowed to what attestation needs.
//!
//! Differences from the RFC, each on the strict side: roots are whole certificates, valid and marked as authorities like any other; names
//! match byte by byte; name constraints are refused rather than processed; a CRL must be complete, timely and signed by the issuer's own
//! key; policies and purposes are not processed, so where they are critical the rules must name them.

use jiff::Timestamp;

use super::cache::PathCache;
use super::certificate::{Certificate, Signed};
use super::crl::Crl;
use super::extension::{BASIC_CONSTRAINTS, KEY_USAGE, NAME_CONSTRAINTS};
use crate::Digest;

mod error;
mod rules;

pub use error::{CrlFault, PathError};
pub use rules::{CrlScope, PathRules, Revocation};

/// Certificates of the longest path, leaf and root included. NVIDIA's has five.
pub const MAX_PATH: usize = 8;
/// Intermediates that may be offered for one path.
pub const MAX_INTERMEDIATES: usize = 16;
/// Links between two certificates that one search may look at. Without a bound, sixteen certificates of one name and key make millions
/// of paths.
const MAX_LINKS: usize = 64;
/// Signatures of certificates and CRLs that one search may cost.
const MAX_SIGNATURES: usize = 48;

/// Proof that a leaf leads to a root of ours: names chained, every signature verified, every certificate valid at the time given, every
/// issuer an authority that may issue it, and none revoked as far as the rules look.
///
/// Only [`Path::build`] makes one, and it cannot be copied.
#[derive(Debug)]
pub struct Path {
    /// Leaf first, root last.
    certificates: Vec<Certificate>,
    leaf: Certificate,
    issuer: Certificate,
    root: Certificate,
}

impl Path {
    /// Finds a path from `leaf` over `intermediates` (in any order, the peer's) to one of `roots` (ours), and checks all of it at `now`.
    ///
    /// The leaf's purpose, names and own extensions are not looked at beyond `rules`. A root among the intermediates is passed over.
    ///
    /// # Errors
    ///
    /// The reason why the longest attempt failed.
    pub fn build(
        leaf: &Certificate,
        intermediates: &[Certificate],
        roots: &[Certificate],
        crls: &Revocation<'_>,
        now: Timestamp,
        rules: &PathRules,
    ) -> Result<Self, PathError> {
        build(leaf, intermediates, roots, crls, now, rules, None)
    }

    /// The certificate that is proved.
    #[must_use]
    pub const fn leaf(&self) -> &Certificate {
        &self.leaf
    }

    /// The certificate that issued the leaf: the root, if there is no intermediate.
    #[must_use]
    pub const fn issuer(&self) -> &Certificate {
        &self.issuer
    }

    /// The root of ours at the end.
    #[must_use]
    pub const fn root(&self) -> &Certificate {
        &self.root
    }

    /// All of them, leaf first, root last.
    #[must_use]
    pub fn certificates(&self) -> &[Certificate] {
        &self.certificates
    }
}

pub(super) fn build(
    leaf: &Certificate,
    intermediates: &[Certificate],
    roots: &[Certificate],
    revocation: &Revocation<'_>,
    now: Timestamp,
    rules: &PathRules,
    cache: Option<&PathCache>,
) -> Result<Path, PathError> {
    if intermediates.len() > MAX_INTERMEDIATES {
        return Err(PathError::TooManyIntermediates {
            most: MAX_INTERMEDIATES,
        });
    }
    let mut search = Search {
        intermediates,
        roots,
        revocation,
        now,
        rules,
        cache,
        verified: Vec::new(),
        links_left: MAX_LINKS,
        signatures_left: MAX_SIGNATURES,
        deepest: None,
    };
    check_leaf(leaf, rules)?;
    search.check_alone(leaf)?;
    let mut path = vec![leaf.clone()];
    if !search.climb(leaf, &mut path) {
        let error = search.deepest.map(|(_, error)| error);
        return Err(error.unwrap_or_else(|| PathError::no_issuer(leaf)));
    }
    let (Some(issuer), Some(root)) = (path.get(1).cloned(), path.last().cloned()) else {
        return Err(PathError::no_issuer(leaf));
    };
    // only now: what leads to no root of ours must not push out what does
    if let Some(cache) = cache {
        cache.remember(&search.verified);
    }
    Ok(Path {
        certificates: path,
        leaf: leaf.clone(),
        issuer,
        root,
    })
}

fn check_leaf(leaf: &Certificate, rules: &PathRules) -> Result<(), PathError> {
    if leaf.is_ca() != rules.leaf_is_authority {
        return Err(PathError::LeafKind {
            subject: error::named(leaf),
            expected: if rules.leaf_is_authority {
                "an authority's"
            } else {
                "an end entity's"
            },
        });
    }
    Ok(())
}

struct Search<'a> {
    intermediates: &'a [Certificate],
    roots: &'a [Certificate],
    revocation: &'a Revocation<'a>,
    now: Timestamp,
    rules: &'a PathRules,
    cache: Option<&'a PathCache>,
    /// Signatures that hold, by their [`PathCache`] key.
    verified: Vec<Digest>,
    links_left: usize,
    signatures_left: usize,
    /// Why the longest attempt failed, and its length.
    deepest: Option<(usize, PathError)>,
}

impl Search<'_> {
    /// Extends `path`, whose last certificate is `top`, to a root. Leaves it as it was if there is no way.
    fn climb(&mut self, top: &Certificate, path: &mut Vec<Certificate>) -> bool {
        let (roots, intermediates) = (self.roots, self.intermediates);
        let mut is_orphan = true;
        for root in roots.iter().filter(|root| root.subject() == top.issuer()) {
            is_orphan = false;
            // a root is no leaf of itself
            if path.contains(root) {
                self.failed(path, PathError::no_issuer(top));
                continue;
            }
            match self.check_link(root, top, path) {
                Ok(()) => {
                    path.push(root.clone());
                    return true;
                }
                Err(error) => self.failed(path, error),
            }
        }
        for issuer in intermediates {
            if issuer.subject() != top.issuer() || path.contains(issuer) || roots.contains(issuer) {
                continue;
            }
            is_orphan = false;
            // one place is left for the root
            if path.len() + 2 > MAX_PATH {
                self.failed(path, PathError::TooLong { most: MAX_PATH });
                continue;
            }
            if let Err(error) = self.check_link(issuer, top, path) {
                self.failed(path, error);
                continue;
            }
            path.push(issuer.clone());
            if self.climb(issuer, path) {
                return true;
            }
            path.pop();
        }
        if is_orphan {
            self.failed(path, PathError::no_issuer(top));
        }
        false
    }

    fn failed(&mut self, path: &[Certificate], error: PathError) {
        let is_deeper = self
            .deepest
            .as_ref()
            .is_none_or(|(length, _)| path.len() > *length);
        if is_deeper {
            self.deepest = Some((path.len(), error));
        }
    }

    /// What can be said of a certificate without its issuer.
    fn check_alone(&self, certificate: &Certificate) -> Result<(), PathError> {
        let subject = || error::named(certificate);
        if self.now < certificate.not_before() {
            return Err(PathError::NotYetValid {
                subject: subject(),
                not_before: certificate.not_before(),
                now: self.now,
            });
        }
        if self.now > certificate.not_after() {
            return Err(PathError::Expired {
                subject: subject(),
                not_after: certificate.not_after(),
                now: self.now,
            });
        }
        if certificate.extension_of(&NAME_CONSTRAINTS).is_some() {
            return Err(PathError::NameConstraints { subject: subject() });
        }
        let unknown = certificate.critical_extensions().find(|extension| {
            let ours = [BASIC_CONSTRAINTS, KEY_USAGE];
            !ours.iter().any(|oid| *extension.oid == *oid)
                && !self.rules.understood.contains(&extension.dotted().as_str())
        });
        match unknown {
            None => Ok(()),
            Some(extension) => Err(PathError::CriticalExtension {
                subject: subject(),
                oid: extension.dotted(),
            }),
        }
    }

    /// Whether `issuer` is an authority that may have issued `top`, did so, and does not revoke it.
    fn check_link(
        &mut self,
        issuer: &Certificate,
        top: &Certificate,
        path: &[Certificate],
    ) -> Result<(), PathError> {
        self.links_left = self
            .links_left
            .checked_sub(1)
            .ok_or(PathError::TooMuchWork)?;
        self.check_alone(issuer)?;
        let constraints = issuer.basic_constraints();
        if !constraints.is_ca {
            return Err(PathError::NotAuthority {
                subject: error::named(issuer),
            });
        }
        if issuer
            .key_usage()
            .is_some_and(|usage| !usage.key_cert_sign())
        {
            return Err(PathError::MayNotIssue {
                subject: error::named(issuer),
            });
        }
        // RFC 5280, 4.2.1.9: the leaf does not count, nor does an authority that renews itself
        let below = path
            .iter()
            .skip(1)
            .filter(|it| !it.is_self_issued())
            .count();
        let allowed = constraints.path_length.map(usize::try_from);
        if let Some(Ok(allowed)) = allowed
            && below > allowed
        {
            return Err(PathError::PathLength {
                subject: error::named(issuer),
                allowed,
                below,
            });
        }
        match self.check_signature(issuer, top.signed(), top.digest()) {
            Ok(()) => {}
            Err(Unverified::Algorithm) => {
                return Err(PathError::Algorithm {
                    subject: error::named(top),
                    algorithm: top.signed().algorithm.to_string(),
                    issuer: error::named(issuer),
                });
            }
            Err(Unverified::Signature) => {
                return Err(PathError::Signature {
                    subject: error::named(top),
                    issuer: error::named(issuer),
                });
            }
            Err(Unverified::TooMuch) => return Err(PathError::TooMuchWork),
        }
        self.check_revocation(issuer, top)
    }

    fn check_signature(
        &mut self,
        issuer: &Certificate,
        signed: &Signed,
        digest: Digest,
    ) -> Result<(), Unverified> {
        let key = PathCache::key(issuer.spki(), &digest);
        if self.verified.contains(&key) || self.cache.is_some_and(|cache| cache.knows(&key)) {
            return Ok(());
        }
        let Some(scheme) = signed.algorithm.scheme(issuer.public_key()) else {
            return Err(Unverified::Algorithm);
        };
        self.signatures_left = self
            .signatures_left
            .checked_sub(1)
            .ok_or(Unverified::TooMuch)?;
        issuer
            .public_key()
            .verify(scheme, &signed.message, &signed.signature)
            .map_err(|_| Unverified::Signature)?;
        self.verified.push(key);
        Ok(())
    }

    /// Every CRL of the issuer's name is held against `top`. If CRLs are demanded, one that is missing where the rules want it, or that is
    /// there and cannot be used, refuses.
    fn check_revocation(
        &mut self,
        issuer: &Certificate,
        top: &Certificate,
    ) -> Result<(), PathError> {
        let (crls, tolerates_faults) = match self.revocation {
            Revocation::Demand(crls) => (*crls, false),
            Revocation::IfGiven(crls) => (*crls, true),
            Revocation::DangerousNotLookedAt => return Ok(()),
        };
        let is_demanded = match self.rules.crl_scope {
            CrlScope::EveryCertificate => true,
            CrlScope::Authorities => top.is_ca(),
        };
        let refused = |fault| PathError::Crl {
            issuer: error::named(issuer),
            subject: error::named(top),
            fault,
        };
        let mut found = Err(CrlFault::Missing);
        for crl in crls.iter().filter(|crl| crl.issuer() == issuer.subject()) {
            let usable = self.check_crl(issuer, crl);
            // one that was not looked at may say "revoked", whatever the others say
            if usable == Err(CrlFault::TooMuchWork) {
                return Err(refused(CrlFault::TooMuchWork));
            }
            // a list that has run out revokes what it revoked
            let speaks = matches!(
                usable,
                Ok(())
                    | Err(CrlFault::Stale { .. }
                        | CrlFault::TooOld { .. }
                        | CrlFault::NoNextUpdate)
            );
            if speaks && crl.revokes(top.serial()) {
                return Err(PathError::Revoked {
                    subject: error::named(top),
                    serial: hex::encode(top.serial()),
                    issuer: error::named(issuer),
                });
            }
            found = match found {
                Ok(()) => Ok(()),
                Err(CrlFault::Missing) => usable,
                Err(first) => usable.map_err(|_| first),
            };
        }
        match found {
            Ok(()) => Ok(()),
            Err(CrlFault::Missing) if !is_demanded => Ok(()),
            Err(_) if tolerates_faults => Ok(()),
            Err(fault) => Err(refused(fault)),
        }
    }

    fn check_crl(&mut self, issuer: &Certificate, crl: &Crl) -> Result<(), CrlFault> {
        if issuer.key_usage().is_some_and(|usage| !usage.crl_sign()) {
            return Err(CrlFault::MayNotSign);
        }
        match self.check_signature(issuer, crl.signed(), crl.digest()) {
            Ok(()) => {}
            Err(Unverified::Algorithm) => return Err(CrlFault::Algorithm),
            Err(Unverified::Signature) => return Err(CrlFault::Signature),
            Err(Unverified::TooMuch) => return Err(CrlFault::TooMuchWork),
        }
        if self.now < crl.this_update() {
            return Err(CrlFault::NotYetValid {
                this_update: crl.this_update(),
                now: self.now,
            });
        }
        if crl.this_update() < self.rules.crls_from {
            return Err(CrlFault::TooOld {
                this_update: crl.this_update(),
                demanded: self.rules.crls_from,
            });
        }
        match crl.next_update() {
            None => Err(CrlFault::NoNextUpdate),
            Some(next_update) if self.now > next_update => Err(CrlFault::Stale {
                next_update,
                now: self.now,
            }),
            Some(_) => Ok(()),
        }
    }
}

enum Unverified {
    Algorithm,
    Signature,
    TooMuch,
}
