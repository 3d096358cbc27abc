//! The certificate of the key that signed is found among others.

use attest::Findings;
use attest::sev_snp::{Candidates, ProductLine, Report, VekKind, oid};
use attest::x509::Certificate;
use testkit::amd::{Amd, ReportBytes, integer, offset, vek_key};

/// More than are tried.
const OTHERS: u8 = 12;

fn certificate(change: impl FnOnce(&mut testkit::amd::VekParts)) -> Certificate {
    let amd = Amd::new(ProductLine::Milan);
    let mut parts = amd.vek(VekKind::Vcek);
    change(&mut parts);
    Certificate::parse(&amd.issue(&parts)).unwrap()
}

/// What is tried for a report, in this order, when nothing is it.
fn tried(report: &mut ReportBytes, certificates: &[Certificate]) -> Vec<Vec<u8>> {
    report.sign(vek_key());
    let report = Report::parse(&report.0).unwrap();
    let mut tried = Vec::new();
    let outcome: Option<Result<(), ()>> =
        Candidates::of_report(Some(report.fields()), certificates.iter(), &[]).try_each(
            &mut Findings::new(),
            |endorsements, _| {
                tried.push(endorsements.vek.to_vec());
                Err(())
            },
        );
    assert_eq!(outcome, Some(Err(())));
    tried
}

#[test]
fn who_names_the_reports_chip_and_levels_is_tried_first() {
    let other_chips = |n: u8| certificate(|parts| parts.set(oid::HARDWARE_ID, vec![n; 64]));
    let other_levels = |n: u8| certificate(|parts| parts.set(oid::MICROCODE, integer(n)));
    let right = certificate(|_| {});
    let others = (1..=OTHERS).map(other_chips);
    let others = others.chain((1..=OTHERS).map(other_levels));
    let all: Vec<Certificate> = others.chain([right.clone()]).collect();
    let tried = tried(&mut ReportBytes::new(ProductLine::Milan, 2), &all);
    assert_eq!(tried[0], right.der());
    assert!(tried.len() < all.len(), "{} were tried", tried.len());
}

/// A host may have the processor leave its number out: then the levels tell.
#[test]
fn the_key_of_a_masked_chip_is_found_by_its_levels() {
    let mut masked = ReportBytes::new(ProductLine::Milan, 2);
    masked.set(offset::CHIP_ID, &[0; 64]);
    let right = certificate(|_| {});
    let other_levels = |n: u8| certificate(|parts| parts.set(oid::MICROCODE, integer(n)));
    let all: Vec<Certificate> = (1..=OTHERS)
        .map(other_levels)
        .chain([right.clone()])
        .collect();
    assert_eq!(tried(&mut masked, &all)[0], right.der());
}
