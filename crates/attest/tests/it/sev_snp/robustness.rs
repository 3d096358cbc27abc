//! Foreign bytes never panic, and no damage is accepted.

use std::num::NonZeroUsize;
use std::sync::OnceLock;

use attest::sev_snp::{
    Accepted, AcceptedLine, AcceptedLines, IdKeyDigests, LaunchMeasurements, ProductLine, Report,
    Requirements, RevocationDemand, Roots, Tcb, VekExtensions, VekKind,
};
use attest::x509::{Crl, PathCache};
use proptest::prelude::*;

use super::{Input, evidence, time};

/// A real Milan with its revocation list; whole, it is accepted.
fn real() -> Input {
    const ID: &str = "snp-vcek/steward/milan-v2-with-crls";
    let report = evidence(&format!("{ID}/report.bin"));
    let fields = Report::parse(&report).unwrap().fields().clone();
    let minimum = Tcb::milan_genoa(2, 0, 6, 93);
    let line = AcceptedLine::new(ProductLine::Milan, minimum, minimum).unwrap();
    Input {
        requirements: Requirements::new(
            AcceptedLines::new([line]).unwrap(),
            LaunchMeasurements::Enforce(Accepted::new(vec![fields.measurement]).unwrap()),
            IdKeyDigests::NotDemanded,
        )
        .allow_smt()
        .platform_info(attest::sev_snp::PlatformInfo::NONE),
        report_data: fields.report_data,
        report,
        vek: evidence(&format!("{ID}/vek.der")),
        signing: vec![],
        crls: vec![Crl::parse(&evidence(&format!("{ID}/crl-milan.der"))).unwrap()],
        roots: Roots::amd(),
        now: time("2022-11-15T00:00:00Z"),
    }
}

/// As a verifier keeps one; what is damaged must not get in.
fn cache() -> &'static PathCache {
    static CACHE: OnceLock<PathCache> = OnceLock::new();
    CACHE.get_or_init(|| PathCache::new(NonZeroUsize::new(16).unwrap()))
}

fn flips() -> impl Strategy<Value = Vec<(usize, u8)>> {
    prop::collection::vec((any::<usize>(), 1..=u8::MAX), 0..6)
}

fn damaged(bytes: &[u8], cut: usize, flips: &[(usize, u8)]) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    for (at, value) in flips {
        let at = at % bytes.len();
        bytes[at] ^= value;
    }
    bytes.truncate(bytes.len() - cut % bytes.len());
    bytes
}

#[test]
fn whole_evidence_is_accepted() {
    let output = real().appraise();
    assert!(output.appraised.is_some(), "{}", output.findings);
}

proptest! {
    #[test]
    fn random_reports(bytes in prop::collection::vec(any::<u8>(), 1180..1190)) {
        drop(Report::parse(&bytes));
        let mut input = real();
        input.report = bytes;
        prop_assert!(input.appraise_with(cache()).appraised.is_none());
    }

    #[test]
    fn random_certificates(bytes in prop::collection::vec(any::<u8>(), 0..600)) {
        let mut input = real();
        input.vek = bytes;
        prop_assert!(input.appraise_with(cache()).appraised.is_none());
    }

    #[test]
    fn random_extensions(values in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..70), 13)) {
        for kind in [VekKind::Vcek, VekKind::Vlek] {
            for line in ProductLine::ALL {
                let mut next = values.iter();
                let next = std::cell::RefCell::new(&mut next);
                drop(VekExtensions::read(kind, line, |_| next.borrow_mut().next().map(Vec::as_slice)));
            }
        }
    }

    #[test]
    fn damaged_reports(cut in 0_usize..4, flips in flips()) {
        let whole = real();
        let mut input = real();
        input.report = damaged(&whole.report, cut, &flips);
        let is_same = input.report == whole.report;
        prop_assert_eq!(input.appraise_with(cache()).appraised.is_some(), is_same);
    }

    #[test]
    fn damaged_certificates(cut in 0_usize..4, flips in flips()) {
        let whole = real();
        let mut input = real();
        input.vek = damaged(&whole.vek, cut, &flips);
        let is_same = input.vek == whole.vek;
        prop_assert_eq!(input.appraise_with(cache()).appraised.is_some(), is_same);
    }

    #[test]
    fn damaged_lists(cut in 0_usize..4, flips in flips()) {
        let whole = evidence("snp-vcek/steward/milan-v2-with-crls/crl-milan.der");
        let bytes = damaged(&whole, cut, &flips);
        let is_same = bytes == whole;
        let mut input = real();
        input.crls = Crl::parse(&bytes).into_iter().collect();
        prop_assert_eq!(input.appraise_with(cache()).appraised.is_some(), is_same);
        // a damaged list may be missing, and no more
        input.requirements = input.requirements.clone().revocation(RevocationDemand::Warn);
        prop_assert!(input.appraise_with(cache()).appraised.is_some());
    }
}
