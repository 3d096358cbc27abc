//! Which certificates may be of the key that signed a report, where several are at hand.

use super::Endorsements;
use super::report::ReportFields;
use super::vek::{VekExtensions, VekKind, VekOwner};
use crate::verdict::Findings;
use crate::x509::{Certificate, Crl};

/// Certificates that are tried: one chip has one key at one level, and a provider few.
const MAX_VEKS: usize = 8;
/// Signing certificates that are looked at beside the built-in ones.
const MAX_SIGNING: usize = 8;

/// AMD's statements that may be about one report. None is believed.
#[derive(Debug)]
pub struct Candidates<'a> {
    /// Those that name the report's chip and levels come first.
    veks: Vec<&'a [u8]>,
    signing: Vec<Certificate>,
    crls: &'a [Crl],
}

impl<'a> Candidates<'a> {
    /// Those among `certificates` that may be of the key that signed `report`, or of any key if that could not be read.
    pub fn of_report(
        report: Option<&ReportFields>,
        certificates: impl Iterator<Item = &'a Certificate> + Clone,
        crls: &'a [Crl],
    ) -> Self {
        let mut veks: Vec<(bool, &[u8])> = certificates
            .clone()
            .filter_map(|certificate| {
                let kind = VekKind::from_common_name(certificate.subject().common_name()?)?;
                let names_it = report.is_some_and(|report| names(certificate, kind, report));
                Some((!names_it, certificate.der()))
            })
            .collect();
        veks.sort_by_key(|(is_other, _)| *is_other);
        Self {
            veks: veks
                .into_iter()
                .map(|(_, der)| der)
                .take(MAX_VEKS)
                .collect(),
            signing: signing(certificates),
            crls,
        }
    }

    /// This certificate, DER, and no other; its authorities may be among `certificates`.
    pub fn of_key(
        vek: &'a [u8],
        certificates: impl Iterator<Item = &'a Certificate>,
        crls: &'a [Crl],
    ) -> Self {
        Self {
            veks: vec![vek],
            signing: signing(certificates),
            crls,
        }
    }

    /// Appraises with each of them until one is it. The findings are those of that one, or of the first. Nothing, if there is none.
    pub fn try_each<T, E>(
        &self,
        findings: &mut Findings,
        mut appraise: impl FnMut(&Endorsements<'_>, &mut Findings) -> Result<T, E>,
    ) -> Option<Result<T, E>> {
        let mut first = None;
        for vek in &self.veks {
            let endorsements = Endorsements {
                vek,
                signing: &self.signing,
                crls: self.crls,
            };
            let mut tried = Findings::new();
            let outcome = appraise(&endorsements, &mut tried);
            if outcome.is_ok() {
                findings.append(tried);
                return Some(outcome);
            }
            first.get_or_insert((tried, outcome));
        }
        let (tried, outcome) = first?;
        findings.append(tried);
        Some(outcome)
    }
}

/// Whether the certificate says that it is of the report's chip and levels.
fn names(certificate: &Certificate, kind: VekKind, report: &ReportFields) -> bool {
    let issuer = certificate.issuer().common_name();
    let Some(line) = issuer.and_then(|name| kind.line_of_issuer(name)) else {
        return false;
    };
    let read = VekExtensions::read(kind, line, |oid| certificate.extension(oid));
    read.is_ok_and(|extensions| {
        let is_owner = match &extensions.owner {
            // a host may have the processor leave its number out
            VekOwner::Chip(id) => [id.chip_id(), [0; 64]].contains(&report.chip_id),
            VekOwner::Provider(_) => true,
        };
        is_owner && extensions.tcb == report.reported_tcb
    })
}

/// Authorities with the name of one of AMD's signing keys: those of other vendors would only take their place.
fn signing<'a>(certificates: impl Iterator<Item = &'a Certificate>) -> Vec<Certificate> {
    let is_amds = |name: &str| {
        [VekKind::Vcek, VekKind::Vlek]
            .into_iter()
            .any(|kind| kind.line_of_issuer(name).is_some())
    };
    certificates
        .filter(|it| it.is_ca() && it.subject().common_name().is_some_and(is_amds))
        .take(MAX_SIGNING)
        .cloned()
        .collect()
}
