//! The certificate of the key that signed a report: names, AMD's extensions, and its way to the root of its product line.

use jiff::Timestamp;

use super::check::CheckName;
use super::checks::{Checks, chain_of, not_authentic, parse};
use super::product::ProductLine;
use super::requirements::{Requirements, RevocationDemand};
use super::roots::{LineRoot, Roots};
use super::vek::{VekExtensions, VekKind};
use crate::verdict::{Findings, RefusalCode, Step, Stop};
use crate::x509::{
    Certificate, Crl, CrlFault, CrlScope, Path, PathCache, PathError, PathRules, PublicKey,
    Revocation,
};

/// What vouches for a report's key: AMD's statements, as the peer, the host or AMD's key service hand them over. None is believed by itself.
#[derive(Clone, Copy, Debug)]
pub struct Endorsements<'a> {
    /// Certificate of the VCEK or VLEK, DER.
    pub vek: &'a [u8],
    /// Signing certificates beside the built-in ones.
    pub signing: &'a [Certificate],
    /// Revocation lists of AMD's roots; those of other issuers are passed over. More than sixteen different ones of one root refuse.
    pub crls: &'a [Crl],
}

/// What an appraisal believes without evidence.
#[derive(Clone, Copy, Debug)]
pub struct Trust<'a> {
    /// The vendor's roots.
    pub roots: &'a Roots,
    /// Remembers signatures of certificates, so that the same chain costs nothing again.
    pub cache: &'a PathCache,
    /// The time certificates and lists are held against.
    pub now: Timestamp,
}

/// A key that AMD vouches for, and what it says of it. Only [`verify`] makes one.
#[derive(Debug)]
pub(super) struct EndorsedKey {
    pub(super) kind: VekKind,
    pub(super) line: ProductLine,
    pub(super) extensions: VekExtensions,
    path: Path,
}

impl EndorsedKey {
    pub(super) fn public_key(&self) -> &PublicKey {
        self.path.leaf().public_key()
    }
}

/// Follows the certificate to the built-in root of the product line its issuer names.
pub(super) fn verify(
    endorsements: &Endorsements<'_>,
    requirements: &Requirements,
    trust: &Trust<'_>,
    findings: &mut Findings,
) -> Result<EndorsedKey, Stop> {
    const STEP: Step = Step::Endorsements;
    let vek = parse(
        findings,
        STEP,
        CheckName::VekFormat,
        Certificate::parse(endorsements.vek),
    )?;
    let (kind, line) = names(&vek, findings)?;
    let extensions = parse(
        findings,
        STEP,
        CheckName::VekExtensions,
        VekExtensions::read(kind, line, |oid| vek.extension(oid)),
    )?;
    let Some(root) = trust.roots.line(line) else {
        return Err(not_authentic(
            findings,
            STEP,
            CheckName::LineRoot,
            [&"a built-in root", &format_args!("none for {line}")],
            "this product line needs a newer release",
        ));
    };
    let path = path(&vek, root, endorsements, requirements, trust, findings)?;
    let mut checks = Checks::new(findings, STEP);
    checks.demand(
        CheckName::VekProduct,
        RefusalCode::NotAuthentic,
        extensions.product_line() == Some(line),
        [&line, &extensions.product_name],
        "the certificate names a product of another line than its issuer: refuse this machine",
    );
    checks.demand(
        CheckName::VekKey,
        RefusalCode::NotAuthentic,
        matches!(path.leaf().public_key(), PublicKey::P384(_)),
        [&"P-384", &"another kind of key"],
        "AMD signs reports with P-384 only: refuse this machine",
    );
    checks.all_hold()?;
    Ok(EndorsedKey {
        kind,
        line,
        extensions,
        path,
    })
}

/// Kind by the subject, product line by the issuer. Both names are signed; whether by AMD, the path says.
fn names(vek: &Certificate, findings: &mut Findings) -> Result<(VekKind, ProductLine), Stop> {
    let subject = vek.subject().common_name();
    let issuer = vek.issuer().common_name();
    let kind = subject.and_then(VekKind::from_common_name);
    let names = kind.and_then(|kind| Some((kind, kind.line_of_issuer(issuer?)?)));
    let Some(names) = names else {
        let none = "no common name";
        return Err(not_authentic(
            findings,
            Step::Endorsements,
            CheckName::VekName,
            [
                &"SEV-VCEK by SEV-<line>, or SEV-VLEK by SEV-VLEK-<line>",
                &format_args!("{} by {}", subject.unwrap_or(none), issuer.unwrap_or(none)),
            ],
            "give the certificate of the VCEK or VLEK that signed the report",
        ));
    };
    Checks::new(findings, Step::Endorsements).pass(CheckName::VekName);
    Ok(names)
}

/// AMD's root signs lists of revoked signing keys; there are none of the keys of chips.
const RULES: PathRules = PathRules::end_entity().crls_for(CrlScope::Authorities);

/// Different lists in the name of one root that are looked at: a year of months, and some. Each costs a signature. None may be left out, because
/// it may be the one that revokes.
const MAX_LISTS: usize = 16;

/// The lists in the root's name, each once. A list in the name of another key, as the ASK, is of no use: only the root signs lists.
fn lists(root: &LineRoot, given: &[Crl], findings: &mut Findings) -> Result<Vec<Crl>, Stop> {
    let mut lists: Vec<Crl> = Vec::new();
    for list in given.iter().filter(|it| it.issuer() == root.ark.subject()) {
        if lists.iter().any(|known| known.digest() == list.digest()) {
            continue;
        }
        if lists.len() == MAX_LISTS {
            return Err(not_authentic(
                findings,
                Step::Endorsements,
                CheckName::RevocationList,
                [
                    &format_args!("at most {MAX_LISTS} lists of {}", root.ark.subject()),
                    &"more",
                ],
                "give the newest revocation list of the product line only",
            ));
        }
        lists.push(list.clone());
    }
    Ok(lists)
}

fn path(
    vek: &Certificate,
    root: &LineRoot,
    endorsements: &Endorsements<'_>,
    requirements: &Requirements,
    trust: &Trust<'_>,
    findings: &mut Findings,
) -> Result<Path, Stop> {
    let revocation = requirements.revocation;
    let rules = RULES.crls_from(requirements.lists_from);
    let build = |crls: &Revocation<'_>| {
        // the peer's come last: what is built in costs the fewest signatures
        let mut signing = root.signing.clone();
        signing.extend_from_slice(endorsements.signing);
        let roots = [root.ark.clone()];
        trust
            .cache
            .build(vek, &signing, &roots, crls, trust.now, &rules)
    };
    let lists = lists(root, endorsements.crls, findings)?;
    // a build that ends at a missing list would verify everything in vain
    let looked_at = if !lists.is_empty() || revocation == RevocationDemand::Enforce {
        match build(&Revocation::Demand(&lists)) {
            Err(PathError::Crl { fault, .. }) => Err(fault),
            path => Ok(path),
        }
    } else {
        Err(CrlFault::Missing)
    };
    let (path, fault) = match (looked_at, revocation) {
        (Ok(path), _) => (path, None),
        // a list that can be used may still say "revoked"; all else is checked anew
        (Err(fault), RevocationDemand::Warn) => (build(&Revocation::IfGiven(&lists)), Some(fault)),
        (Err(fault), RevocationDemand::Enforce) => {
            return Err(not_authentic(
                findings,
                Step::Endorsements,
                CheckName::RevocationList,
                [&format_args!("a list of {}", root.ark.subject()), &fault],
                "fetch the revocation list of the product line, or check the clock",
            ));
        }
    };
    let path = path.map_err(|error| {
        not_authentic(
            findings,
            Step::Endorsements,
            CheckName::Chain,
            [
                &format_args!("a chain to {}", root.ark.subject()),
                &chain_of(&error),
            ],
            "the certificate is not AMD's, is out of date, or belongs to a revoked signing key: fetch it again",
        )
    })?;
    let mut checks = Checks::new(findings, Step::Endorsements);
    checks.pass(CheckName::Chain);
    match fault {
        None => checks.pass(CheckName::RevocationList),
        Some(fault) => checks.warn(
            CheckName::RevocationList,
            [&format_args!("a list of {}", root.ark.subject()), &fault],
            "a signing key that AMD has revoked would not be noticed: fetch the revocation list",
        ),
    }
    Ok(path)
}
