//! One lie per row, signed all the way up to the root of a test, and the one check it must fail. A check without a row here or in
//! `samples` is not done.

use attest::sev_snp::{
    Abi, Accepted, AcceptedKeys, AcceptedLine, AcceptedLines, Chips, GuestPolicy, HostData,
    IdKeyDigests, LaunchMeasurements, LineRoot, PlatformInfo, ProductLine, ProviderNames,
    Providers, RawTcb, Report, ReportData, ReportDataSize, Requirements, RevocationDemand, Roots,
    VekKind, VekOwner, oid,
};
use attest::x509::{Certificate, Crl, PathCache};
use attest::{Check, Outcome, RefusalCode};
use testkit::amd::{self, Amd, ReportBytes, VALIDITY, VekParts, offset};

use super::{Input, Output, evidence, time};

const NOW: &str = "2026-06-01T00:00:00Z";
const NONE: [&str; 0] = [];

/// Evidence before it is signed, and what is demanded of it.
struct Case {
    line: ProductLine,
    report: ReportBytes,
    /// Bytes changed after the report was signed.
    after: Vec<(usize, u8)>,
    is_other_key: bool,
    vek: VekParts,
    /// Serial numbers and validity of the root's list.
    crl: Option<(Vec<Vec<u8>>, [&'static str; 2])>,
    requirements: Requirements,
    report_data: [u8; 64],
    roots: Roots,
    now: &'static str,
}

fn lines(line: ProductLine, mitigations: u64) -> AcceptedLines {
    let tcb = amd::tcb(line);
    let accepted = AcceptedLine::new(line, tcb, tcb).unwrap();
    AcceptedLines::new([accepted.mitigations(mitigations)]).unwrap()
}

/// Whose the VLEKs of the test authority are.
const PROVIDER: &str = "CN=cc-test-1.example.com";

fn providers(names: &[&str]) -> Providers {
    let names = names.iter().map(|name| (*name).to_owned());
    Providers::Listed(ProviderNames::new(names.collect()).unwrap())
}

/// Every demand there is.
fn careful(line: ProductLine, mitigations: u64) -> Requirements {
    Requirements::new(
        lines(line, mitigations),
        LaunchMeasurements::Enforce(Accepted::new(vec![[1; 48], [0x3e; 48]]).unwrap()),
        IdKeyDigests::Enforce(Accepted::new(vec![[1; 48], [0x1d; 48]]).unwrap()),
    )
    .host_data(HostData::Exactly([0x40; 32]))
    .chips(Chips::Listed(
        Accepted::new(vec![amd::chip_id(line)]).unwrap(),
    ))
    .minimum_abi(Abi {
        major: 1,
        minor: 55,
    })
}

impl Case {
    fn new(line: ProductLine, kind: VekKind, version: u32) -> Self {
        let authorities = Amd::new(line);
        let mut report = ReportBytes::new(line, version);
        let mut requirements = careful(line, if version >= 5 { 0x0b } else { 0 });
        if kind == VekKind::Vlek {
            report.set(offset::KEY_INFO, &[1 << 2]);
            report.set(offset::CHIP_ID, &[0; 64]);
            requirements = requirements
                .keys(AcceptedKeys::Vlek)
                .vlek_providers(providers(&["CN=other", PROVIDER]))
                .chips(Chips::Any);
        }
        Self {
            line,
            report,
            after: vec![],
            is_other_key: false,
            vek: authorities.vek(kind),
            crl: Some((vec![], VALIDITY)),
            requirements,
            report_data: [0xda; 64],
            roots: authorities.roots(),
            now: NOW,
        }
    }

    fn milan() -> Self {
        Self::new(ProductLine::Milan, VekKind::Vcek, 5)
    }

    fn turin() -> Self {
        Self::new(ProductLine::Turin, VekKind::Vcek, 5)
    }

    fn vlek() -> Self {
        Self::new(ProductLine::Milan, VekKind::Vlek, 5)
    }

    fn with(mut self, change: impl FnOnce(&mut Self)) -> Self {
        change(&mut self);
        self
    }

    fn field(self, at: usize, bytes: &[u8]) -> Self {
        self.with(|case| case.report.set(at, bytes))
    }

    fn policy(self, bits: u64) -> Self {
        self.field(offset::POLICY, &bits.to_le_bytes())
    }

    fn demand(self, change: impl FnOnce(Requirements) -> Requirements) -> Self {
        self.with(|case| case.requirements = change(case.requirements.clone()))
    }

    fn extension(self, oid: &'static str, value: Vec<u8>) -> Self {
        self.with(|case| case.vek.set(oid, value))
    }

    fn input(mut self) -> Input {
        self.report.sign(if self.is_other_key {
            amd::other_key()
        } else {
            amd::vek_key()
        });
        for (at, value) in &self.after {
            self.report.0[*at] = *value;
        }
        let authorities = Amd::new(self.line);
        let crls = self.crl.iter().map(|(revoked, validity)| {
            let serials: Vec<&[u8]> = revoked.iter().map(Vec::as_slice).collect();
            Crl::parse(&authorities.crl(&serials, *validity)).unwrap()
        });
        Input {
            report: self.report.0.to_vec(),
            vek: authorities.issue(&self.vek),
            signing: vec![],
            crls: crls.collect(),
            requirements: self.requirements,
            report_data: self.report_data,
            roots: self.roots,
            now: time(self.now),
        }
    }
}

#[test]
fn true_evidence_of_every_line_version_and_key_is_accepted() {
    for line in ProductLine::ALL {
        for kind in [VekKind::Vcek, VekKind::Vlek] {
            for version in 2..=5 {
                let output = Case::new(line, kind, version).input().appraise();
                assert_eq!(
                    output.failed(),
                    NONE,
                    "{line} {kind} v{version}: {}",
                    output.findings
                );
                assert_eq!(output.warnings(), NONE, "{line} {kind} v{version}");
                let appraised = output.appraised.unwrap();
                assert_eq!(appraised.product_line(), line);
                assert_eq!(appraised.reported_tcb(), amd::tcb(line));
                assert_eq!(appraised.report().report_data, [0xda; 64]);
                match (kind, appraised.owner()) {
                    (VekKind::Vcek, VekOwner::Chip(chip)) => {
                        assert_eq!(chip.chip_id(), amd::chip_id(line));
                    }
                    (VekKind::Vlek, VekOwner::Provider(provider)) => {
                        assert_eq!(provider, PROVIDER);
                    }
                    (kind, owner) => panic!("{kind}: {owner:?}"),
                }
            }
        }
    }
}

#[test]
fn a_newer_version_is_read_as_the_newest_known_and_said() {
    for version in [6, 7, 0xffff_ffff] {
        let output = Case::new(ProductLine::Turin, VekKind::Vcek, version)
            .input()
            .appraise();
        assert_eq!(output.failed(), NONE, "{}", output.findings);
        assert_eq!(output.warnings(), ["SNP report version"]);
        let appraised = output.appraised.unwrap();
        let report = appraised.report();
        assert!(!report.version.is_known());
        assert!(report.cpu_id.is_some() && report.mitigations.is_some());
    }
}

/// A report of a real machine under the keys of a test: what the production roots must not be told apart by.
#[test]
fn the_built_in_roots_refuse_all_of_it() {
    for line in ProductLine::ALL {
        for kind in [VekKind::Vcek, VekKind::Vlek] {
            let mut input = Case::new(line, kind, 5).input();
            assert!(input.appraise().appraised.is_some());
            input.roots = Roots::amd();
            let output = input.appraise();
            assert_eq!(output.failed(), ["AMD certificate chain"], "{line} {kind}");
            // nor if the peer brings its authorities along
            let root = Amd::new(line).root();
            input.signing = root.signing;
            input.signing.push(root.ark);
            assert_eq!(
                input.appraise().failed(),
                ["AMD certificate chain"],
                "{line} {kind}"
            );
        }
    }
}

#[test]
fn each_malformed_report_is_refused_before_anything_is_believed() {
    let rows: Vec<(&str, Case)> = vec![
        ("version 1", Case::milan().field(offset::VERSION, &[1])),
        ("version 0", Case::milan().field(offset::VERSION, &[0])),
        (
            "no signature algorithm",
            Case::milan().field(offset::SIGNATURE_ALGO, &[0]),
        ),
        (
            "another signature algorithm",
            Case::milan().field(offset::SIGNATURE_ALGO, &[2]),
        ),
        ("reserved bit of the policy", Case::milan().policy(0x137)),
        (
            "high byte of r",
            Case::milan().with(|c| c.after.push((offset::SIGNATURE + 48, 1))),
        ),
        (
            "highest byte of r",
            Case::milan().with(|c| c.after.push((offset::SIGNATURE + 71, 1))),
        ),
        (
            "high byte of s",
            Case::milan().with(|c| c.after.push((offset::SIGNATURE + 72 + 48, 1))),
        ),
        (
            "byte after s",
            Case::milan().with(|c| c.after.push((offset::SIGNATURE + 144, 1))),
        ),
        ("last byte", Case::milan().with(|c| c.after.push((1183, 1)))),
    ];
    for (what, case) in rows {
        let output = case.input().appraise();
        assert_eq!(output.failed(), ["SNP report format"], "{what}");
        assert_eq!(output.code(), Some(RefusalCode::Malformed), "{what}");
        assert_eq!(output.findings.checks().len(), 1, "{what}");
    }
    let mut input = Case::milan().input();
    input.report.push(0);
    assert_eq!(input.appraise().failed(), ["SNP report format"]);
    input.report.truncate(1183);
    assert_eq!(input.appraise().failed(), ["SNP report format"]);
}

#[test]
fn each_lie_of_a_certificate_fails_its_own_check() {
    let rows: Vec<(&str, Case, &str)> = vec![
        (
            "of an authority",
            Case::milan().with(|c| c.vek.subject = "SEV-Milan".into()),
            "VEK certificate names",
        ),
        (
            "VCEK by the signing key for VLEKs",
            Case::milan().with(|c| {
                c.vek.kind = VekKind::Vlek;
                c.vek.issuer = "SEV-VLEK-Milan".into();
            }),
            "VEK certificate names",
        ),
        (
            "of no known line",
            Case::milan().with(|c| c.vek.issuer = "SEV-Venice".into()),
            "VEK certificate names",
        ),
        (
            "without a level",
            Case::milan().with(|c| c.vek.remove(oid::SNP)),
            "VEK certificate extensions",
        ),
        (
            "a level that is no integer",
            Case::milan().extension(oid::SNP, vec![2, 2, 0, 24]),
            "VEK certificate extensions",
        ),
        (
            "VCEK of a provider",
            Case::milan().extension(oid::CSP_ID, amd::ia5("CN=x")),
            "VEK certificate extensions",
        ),
        (
            "VLEK of a chip",
            Case::vlek().extension(oid::HARDWARE_ID, vec![1; 64]),
            "VEK certificate extensions",
        ),
        (
            "a long hardware id on Turin",
            Case::turin().extension(oid::HARDWARE_ID, vec![0xc1; 64]),
            "VEK certificate extensions",
        ),
        (
            "no root for the line",
            Case::milan().with(|c| c.roots = Amd::new(ProductLine::Genoa).roots()),
            "AMD root of the product line",
        ),
        (
            "signed by another key of the issuer's name",
            Case::milan().with(|c| c.vek.kind = VekKind::Vlek),
            "AMD certificate chain",
        ),
        (
            "not begun",
            Case::milan().with(|c| c.vek.validity[0] = "260601000001Z".into()),
            "AMD certificate chain",
        ),
        (
            "run out",
            Case::milan().with(|c| c.vek.validity[1] = "260531235959Z".into()),
            "AMD certificate chain",
        ),
        (
            "signing key revoked",
            Case::milan().with(|c| c.crl = Some((vec![amd::ASK_SERIAL.to_vec()], VALIDITY))),
            "AMD certificate chain",
        ),
        (
            "signing key revoked, where a list is not demanded",
            Case::milan()
                .with(|c| c.crl = Some((vec![amd::ASK_SERIAL.to_vec()], VALIDITY)))
                .demand(|r| r.revocation(RevocationDemand::Warn)),
            "AMD certificate chain",
        ),
        (
            "signing key of providers revoked",
            Case::vlek().with(|c| c.crl = Some((vec![amd::ASVK_SERIAL.to_vec()], VALIDITY))),
            "AMD certificate chain",
        ),
        (
            "no list",
            Case::milan().with(|c| c.crl = None),
            "AMD revocation list",
        ),
        (
            "a list that has run out",
            Case::milan().with(|c| c.crl = Some((vec![], ["250101000000Z", "260501000000Z"]))),
            "AMD revocation list",
        ),
        (
            "a list from the future",
            Case::milan().with(|c| c.crl = Some((vec![], ["260701000000Z", "270501000000Z"]))),
            "AMD revocation list",
        ),
        (
            "a product of another line",
            Case::milan().extension(oid::PRODUCT_NAME, amd::ia5("Genoa-B1")),
            "product in the VEK certificate",
        ),
        (
            "a P-256 key",
            Case::milan().with(|c| c.vek.spki = amd::p256_spki()),
            "key in the VEK certificate",
        ),
    ];
    for (what, case, check) in rows {
        let output = case.input().appraise();
        assert_eq!(output.failed(), [check], "{what}: {}", output.findings);
        let code = if check == "VEK certificate extensions" {
            RefusalCode::Malformed
        } else {
            RefusalCode::NotAuthentic
        };
        assert_eq!(output.code(), Some(code), "{what}");
    }
    let mut input = Case::milan().input();
    input.vek.push(0);
    assert_eq!(input.appraise().failed(), ["VEK certificate format"]);
    // the list is about the ASK alone
    let spared = Case::vlek().with(|c| c.crl = Some((vec![amd::ASK_SERIAL.to_vec()], VALIDITY)));
    assert_eq!(spared.input().appraise().failed(), NONE);
}

#[test]
fn each_disagreement_of_report_and_certificate_fails_its_own_check() {
    let rows: Vec<(&str, Case, &str)> = vec![
        (
            "a processor of another line",
            Case::milan().field(offset::CPUID, &[0x19, 0x11, 1]),
            "processor in the SNP report",
        ),
        (
            "an unknown processor",
            Case::turin().field(offset::CPUID, &[0x1a, 0x50, 0]),
            "processor in the SNP report",
        ),
        (
            "says VLEK",
            Case::milan().field(offset::KEY_INFO, &[1 << 2]),
            "signing key of the SNP report",
        ),
        (
            "says unsigned",
            Case::milan().field(offset::KEY_INFO, &[7 << 2]),
            "signing key of the SNP report",
        ),
        (
            "says an unknown key",
            Case::milan().field(offset::KEY_INFO, &[3 << 2]),
            "signing key of the SNP report",
        ),
        (
            "VLEK's says VCEK",
            Case::vlek().field(offset::KEY_INFO, &[0]),
            "signing key of the SNP report",
        ),
        (
            "a certificate for a higher level",
            Case::milan().extension(oid::SNP, amd::integer(25)),
            "TCB of the VEK certificate",
        ),
        (
            "a certificate for a lower level",
            Case::turin().extension(oid::FMC, amd::integer(1)),
            "TCB of the VEK certificate",
        ),
        (
            "a certificate for a reserved level",
            Case::milan().extension(oid::SPL6, amd::integer(1)),
            "TCB of the VEK certificate",
        ),
        (
            "another chip",
            Case::milan().field(offset::CHIP_ID + 63, &[0]),
            "chip id",
        ),
        (
            "another chip of Turin",
            Case::turin().field(offset::CHIP_ID, &[0]),
            "chip id",
        ),
        (
            "bytes after a chip of Turin",
            Case::turin().field(offset::CHIP_ID + 8, &[1]),
            "chip id",
        ),
        (
            "signed by another key",
            Case::milan().with(|c| c.is_other_key = true),
            "SNP report signature",
        ),
        (
            "changed after it was signed",
            Case::milan().with(|c| c.after.push((offset::GUEST_SVN, 8))),
            "SNP report signature",
        ),
    ];
    for (what, case, check) in rows {
        let output = case.input().appraise();
        assert_eq!(output.failed(), [check], "{what}: {}", output.findings);
        assert_eq!(output.code(), Some(RefusalCode::NotAuthentic), "{what}");
    }
    let output = Case::milan()
        .with(|c| c.report_data[63] ^= 1)
        .input()
        .appraise();
    assert_eq!(output.failed(), ["SNP report data"]);
    assert_eq!(output.code(), Some(RefusalCode::WrongBinding));
}

#[test]
fn report_data_has_64_bytes_and_nothing_fills_them_up() {
    for size in [0, 1, 32, 48, 63, 65, 128] {
        assert_eq!(
            ReportData::try_from(vec![1; size].as_slice()),
            Err(ReportDataSize(size))
        );
    }
    assert_eq!(
        ReportData::try_from([1; 64].as_slice()),
        Ok(ReportData::new([1; 64]))
    );
}

#[test]
fn a_masked_chip_is_said_and_still_proved_by_its_key() {
    let masked = |case: Case| case.field(offset::CHIP_ID, &[0; 64]);
    let output = masked(Case::milan()).input().appraise();
    assert_eq!(output.failed(), NONE);
    assert_eq!(output.warnings(), ["chip id"]);
    // a provider's key proves no chip, so only the firmware's word can name one
    let listed = |case: Case| {
        case.demand(|r| {
            r.chips(Chips::Listed(
                Accepted::new(vec![amd::chip_id(ProductLine::Milan)]).unwrap(),
            ))
        })
    };
    let output = listed(Case::vlek()).input().appraise();
    assert_eq!(output.failed(), ["listed chip"]);
    let named = Case::vlek().field(offset::CHIP_ID, &amd::chip_id(ProductLine::Milan));
    assert_eq!(listed(named).input().appraise().failed(), NONE);
}

#[test]
fn each_unwelcome_platform_fails_its_own_check() {
    let genoa = |case: Case| {
        case.with(|c| {
            c.requirements = Requirements::new(
                lines(ProductLine::Genoa, 0),
                LaunchMeasurements::Enforce(Accepted::new(vec![[0x3e; 48]]).unwrap()),
                IdKeyDigests::NotDemanded,
            );
        })
    };
    // minor and major of the interface, and the reserved bit
    const POLICY: u64 = 0x0002_0137;
    let provisional = |case: Case| case.demand(Requirements::allow_provisional_firmware);
    let lower = amd::tcb(ProductLine::Milan).encode();
    let lower = |at: usize| {
        let RawTcb(mut levels) = lower;
        levels[at] -= 1;
        levels
    };
    let rows: Vec<(&str, Case, &str)> = vec![
        ("line not named", genoa(Case::milan()), "AMD product line"),
        (
            "VCEK where VLEK is demanded",
            Case::milan().demand(|r| r.keys(AcceptedKeys::Vlek)),
            "kind of AMD key",
        ),
        (
            "VLEK where VCEK is demanded",
            Case::vlek().demand(|r| r.keys(AcceptedKeys::Vcek)),
            "kind of AMD key",
        ),
        (
            "VLEK of another provider",
            Case::vlek().demand(|r| r.vlek_providers(providers(&["CN=other"]))),
            "provider of the VLEK",
        ),
        (
            "VLEK of a provider of a like name",
            Case::vlek().demand(|r| {
                r.vlek_providers(providers(&[
                    "CN=cc-test-1",
                    "cc-test-1.example.com",
                    "CN=cc-test-1.example.com.",
                    "CN=CC-TEST-1.EXAMPLE.COM",
                ]))
            }),
            "provider of the VLEK",
        ),
        (
            "chip not listed",
            Case::milan().demand(|r| r.chips(Chips::Listed(Accepted::new(vec![[9; 64]]).unwrap()))),
            "listed chip",
        ),
        ("debug", Case::milan().policy(POLICY | 1 << 19), "debug off"),
        (
            "migration agent",
            Case::milan().policy(POLICY | 1 << 18),
            "no migration agent",
        ),
        (
            "SMT by policy",
            Case::milan().policy(POLICY | 1 << 16),
            "simultaneous multithreading",
        ),
        (
            "SMT by platform",
            Case::milan().field(offset::PLATFORM_INFO, &[0x25]),
            "simultaneous multithreading",
        ),
        ("CXL", Case::milan().policy(POLICY | 1 << 21), "CXL"),
        (
            "no ciphertext hiding",
            Case::milan().demand(|r| r.guest_policy(GuestPolicy::CIPHERTEXT_HIDING_DRAM)),
            "guest policy demands",
        ),
        (
            "one of two demands",
            Case::milan().policy(POLICY | 1 << 24).demand(|r| {
                r.guest_policy(
                    GuestPolicy::CIPHERTEXT_HIDING_DRAM.with(GuestPolicy::PAGE_SWAP_DISABLE),
                )
            }),
            "guest policy demands",
        ),
        (
            "older interface",
            Case::milan().policy(POLICY - 1),
            "guest ABI",
        ),
        (
            "older major interface",
            Case::milan().policy(0x0002_00ff),
            "guest ABI",
        ),
        ("VMPL 1", Case::milan().field(offset::VMPL, &[1]), "VMPL"),
        (
            "VMPL above a byte",
            Case::milan().field(offset::VMPL, &[0, 1]),
            "VMPL",
        ),
        (
            "asked by the host",
            Case::milan().field(offset::VMPL, &[0xff; 4]),
            "VMPL",
        ),
        (
            "no alias check",
            Case::milan().field(offset::PLATFORM_INFO, &[0x04]),
            "platform info",
        ),
        (
            "one of two settings",
            Case::milan().demand(|r| {
                r.platform_info(
                    PlatformInfo::ALIAS_CHECK_COMPLETE
                        .with(PlatformInfo::CIPHERTEXT_HIDING_DRAM_EN),
                )
            }),
            "platform info",
        ),
        (
            "mitigation missing at launch",
            Case::milan().field(offset::LAUNCH_MITIGATIONS, &[0x03]),
            "mitigations",
        ),
        (
            "mitigation missing now",
            Case::milan().field(offset::CURRENT_MITIGATIONS, &[0x03]),
            "mitigations",
        ),
        (
            "mitigations of an old report",
            Case::new(ProductLine::Milan, VekKind::Vcek, 4)
                .demand(|_| careful(ProductLine::Milan, 1)),
            "mitigations",
        ),
        (
            "launched on older boot loader",
            Case::milan().field(offset::LAUNCH_TCB, &lower(0)),
            "launch TCB",
        ),
        (
            "launched on older TEE",
            Case::milan().field(offset::LAUNCH_TCB, &lower(1)),
            "launch TCB",
        ),
        (
            "launched on older SNP",
            Case::milan().field(offset::LAUNCH_TCB, &lower(6)),
            "launch TCB",
        ),
        (
            "launched on older microcode",
            Case::milan().field(offset::LAUNCH_TCB, &lower(7)),
            "launch TCB",
        ),
        (
            "committed below reported",
            provisional(Case::milan().field(offset::COMMITTED_TCB, &lower(7))),
            "committed TCB",
        ),
        (
            "levels not committed",
            Case::milan().field(offset::CURRENT_TCB, &[4, 1, 0, 0, 0, 0, 24, 220]),
            "committed firmware",
        ),
        (
            "version not committed",
            Case::milan().field(offset::CURRENT_VERSION, &[0x1e]),
            "committed firmware",
        ),
        (
            "levels below what is committed",
            provisional(Case::milan().field(offset::CURRENT_TCB, &lower(6))),
            "committed firmware",
        ),
        (
            "version below what is committed",
            provisional(Case::milan().field(offset::CURRENT_VERSION + 1, &[54])),
            "committed firmware",
        ),
        (
            "another identity key",
            Case::milan().field(offset::ID_KEY_DIGEST, &[2; 48]),
            "id key digest",
        ),
        (
            "no identity key",
            Case::milan().field(offset::ID_KEY_DIGEST, &[0; 48]),
            "id key digest",
        ),
        (
            "older release by the identity key",
            Case::milan()
                .field(offset::GUEST_SVN, &[6, 1])
                .demand(|r| r.minimum_guest_svn(0x0107)),
            "guest SVN",
        ),
        (
            "other host data",
            Case::milan().field(offset::HOST_DATA + 31, &[0]),
            "host data",
        ),
    ];
    for (what, case, check) in rows {
        let output = case.input().appraise();
        assert_eq!(output.failed(), [check], "{what}: {}", output.findings);
        assert_eq!(output.code(), Some(RefusalCode::Platform), "{what}");
    }

    let output = Case::milan()
        .field(offset::MEASUREMENT, &[2; 48])
        .input()
        .appraise();
    assert_eq!(output.failed(), ["launch measurement"]);
    assert_eq!(output.code(), Some(RefusalCode::Measurements));
}

/// An identity key signs old releases as well: who demands nothing else of the launch is told.
#[test]
fn an_identity_key_alone_leaves_old_releases_open() {
    let id_key = || IdKeyDigests::Enforce(Accepted::new(vec![[0x1d; 48]]).unwrap());
    let run = |launch, id_key, least| {
        let requirements = Requirements::new(lines(ProductLine::Milan, 0), launch, id_key)
            .minimum_guest_svn(least);
        let case = Case::milan().field(offset::GUEST_SVN, &[7, 1, 0, 0]);
        let output = case.demand(|_| requirements).input().appraise();
        assert_eq!(output.failed(), NONE, "{}", output.findings);
        output.warnings()
    };
    let measured = |digest| Accepted::new(vec![[digest; 48]]).unwrap();
    let open = "launch measurement";
    for (launch, least, warnings) in [
        (LaunchMeasurements::NotChecked, 0, &["guest SVN", open][..]),
        (LaunchMeasurements::NotChecked, 1, &[open]),
        (LaunchMeasurements::NotChecked, 0x0107, &[open]),
        (
            LaunchMeasurements::Warn(measured(2)),
            0,
            &["guest SVN", open],
        ),
        (LaunchMeasurements::Warn(measured(0x3e)), 0, &[]),
        (LaunchMeasurements::Enforce(measured(0x3e)), 0, &[]),
    ] {
        assert_eq!(
            run(launch.clone(), id_key(), least),
            warnings,
            "{launch:?} {least}"
        );
    }
    let none = IdKeyDigests::NotDemanded;
    assert_eq!(run(LaunchMeasurements::NotChecked, none, 0), [open]);
}

#[test]
fn a_provider_that_nobody_listed_is_named() {
    let output = Case::vlek()
        .demand(|r| r.vlek_providers(Providers::Any))
        .input()
        .appraise();
    assert_eq!(output.failed(), NONE, "{}", output.findings);
    assert_eq!(output.warnings(), ["provider of the VLEK"]);
    assert!(output.findings.to_string().contains(PROVIDER));
    // a chip's own key is nobody's but AMD's
    let own = Case::milan().demand(|r| r.vlek_providers(providers(&["CN=other"])));
    assert_eq!(own.input().appraise().failed(), NONE);
}

/// A bit means something else on each line, and older reports have none: what one line needs is not asked of another.
#[test]
fn mitigations_are_demanded_of_their_own_line() {
    let line = |line, bits| {
        let tcb = amd::tcb(line);
        AcceptedLine::new(line, tcb, tcb).unwrap().mitigations(bits)
    };
    let run = |case: Case, milan, genoa| {
        let lines = [
            line(ProductLine::Milan, milan),
            line(ProductLine::Genoa, genoa),
        ];
        let requirements = Requirements::new(
            AcceptedLines::new(lines).unwrap(),
            LaunchMeasurements::Enforce(Accepted::new(vec![[0x3e; 48]]).unwrap()),
            IdKeyDigests::NotDemanded,
        );
        case.demand(|_| requirements).input().appraise()
    };
    let genoa = |version| Case::new(ProductLine::Genoa, VekKind::Vcek, version);
    let output = run(genoa(3), 0x02, 0);
    assert_eq!(output.failed(), NONE, "{}", output.findings);
    assert_eq!(run(genoa(5), 0x40, 0x08).failed(), NONE);
    assert_eq!(run(genoa(3), 0, 0x02).failed(), ["mitigations"]);
    assert_eq!(run(genoa(5), 0, 0x40).failed(), ["mitigations"]);
    assert_eq!(run(Case::milan(), 0x40, 0).failed(), ["mitigations"]);
}

/// The reported levels must reach the minimum by a certificate for exactly them.
#[test]
fn a_machine_with_older_firmware_is_refused_in_each_level() {
    for (line, levels) in [
        (ProductLine::Milan, &[0, 1, 6, 7][..]),
        (ProductLine::Genoa, &[0, 1, 6, 7]),
        (ProductLine::Turin, &[0, 1, 2, 3, 7]),
    ] {
        for at in levels {
            let RawTcb(mut tcb) = amd::tcb(line).encode();
            tcb[*at] -= 1;
            let oid = match (line, at) {
                (ProductLine::Milan | ProductLine::Genoa, 0) | (ProductLine::Turin, 1) => {
                    oid::BOOT_LOADER
                }
                (ProductLine::Milan | ProductLine::Genoa, 1) | (ProductLine::Turin, 2) => oid::TEE,
                (ProductLine::Milan | ProductLine::Genoa, 6) | (ProductLine::Turin, 3) => oid::SNP,
                (ProductLine::Turin, 0) => oid::FMC,
                _ => oid::MICROCODE,
            };
            let output = Case::new(line, VekKind::Vcek, 5)
                .field(offset::REPORTED_TCB, &tcb)
                .extension(oid, amd::integer(tcb[*at]))
                .input()
                .appraise();
            assert_eq!(output.failed(), ["reported TCB"], "{line} {at}");
        }
    }
}

#[test]
fn what_the_policy_allows_is_accepted() {
    let smt = Case::milan()
        .policy(0x0003_0137)
        .field(offset::PLATFORM_INFO, &[0x25])
        .demand(Requirements::allow_smt);
    let cxl = Case::milan()
        .policy(0x0022_0137)
        .demand(Requirements::allow_cxl);
    let provisional = Case::milan()
        .field(offset::CURRENT_TCB, &[4, 1, 0, 0, 0, 0, 25, 220])
        .field(offset::CURRENT_VERSION, &[0x1e])
        .demand(Requirements::allow_provisional_firmware);
    let newer = Case::milan().policy(0x0002_0200);
    let hidden = Case::milan()
        .policy(0x0302_0137)
        .demand(|r| r.guest_policy(GuestPolicy::CIPHERTEXT_HIDING_DRAM));
    let either = Case::vlek().demand(|r| r.keys(AcceptedKeys::Either));
    let wrapped = Case::milan().extension(oid::HARDWARE_ID, {
        let mut der = vec![4, 64];
        der.extend_from_slice(&amd::chip_id(ProductLine::Milan));
        der
    });
    for case in [smt, cxl, provisional, newer, hidden, either, wrapped] {
        let output = case.input().appraise();
        assert_eq!(output.failed(), NONE, "{}", output.findings);
        assert_eq!(output.warnings(), NONE);
    }
}

#[test]
fn what_is_unknown_is_carried_and_means_nothing() {
    // a bit of the platform, of the flags, and reserved bytes
    let case = Case::milan()
        .field(offset::PLATFORM_INFO, &[0x64, 0xff])
        .field(offset::KEY_INFO, &[0x20, 0x80])
        .field(offset::KEY_INFO + 4, &[0xff; 4])
        .field(offset::CPUID + 3, &[0xff; 21])
        .field(0x208, &[0xff; 0x98]);
    let output = case.input().appraise();
    assert_eq!(output.failed(), NONE, "{}", output.findings);
    assert_eq!(output.warnings(), NONE);
    assert_eq!(
        output.appraised.unwrap().report().platform_info.bits(),
        0xff64
    );
    // in the guest's policy it may be a permission, so a person is told
    let output = Case::milan().policy(0x0402_0137).input().appraise();
    assert_eq!(output.failed(), NONE);
    assert_eq!(output.warnings(), ["unknown guest policy bits"]);
}

#[test]
fn everything_wrong_with_a_platform_is_in_one_verdict() {
    let output = Case::milan()
        .policy(0x002f_0000)
        .field(offset::VMPL, &[2])
        .field(offset::PLATFORM_INFO, &[0])
        .field(offset::LAUNCH_TCB, &[0; 8])
        .field(offset::MEASUREMENT, &[2; 48])
        .input()
        .appraise();
    assert_eq!(
        output.failed(),
        [
            "debug off",
            "no migration agent",
            "simultaneous multithreading",
            "CXL",
            "guest ABI",
            "VMPL",
            "platform info",
            "launch TCB",
            "launch measurement"
        ]
    );
    assert_eq!(output.code(), Some(RefusalCode::Platform));
}

#[test]
fn without_a_list_the_verdict_warns_where_it_need_not_refuse() {
    for crl in [
        None,
        Some((vec![], ["250101000000Z", "260501000000Z"])),
        Some((vec![], ["260701000000Z", "270501000000Z"])),
    ] {
        let output = Case::milan()
            .with(|c| c.crl = crl)
            .demand(|r| r.revocation(RevocationDemand::Warn))
            .input()
            .appraise();
        assert_eq!(output.failed(), NONE, "{}", output.findings);
        assert_eq!(output.named(Outcome::Warning), ["AMD revocation list"]);
    }
    // a list of the past that revokes goes on to do so
    let revoked = Some((
        vec![amd::ASK_SERIAL.to_vec()],
        ["250101000000Z", "260501000000Z"],
    ));
    let output = Case::milan()
        .with(|c| c.crl = revoked)
        .demand(|r| r.revocation(RevocationDemand::Warn))
        .input()
        .appraise();
    assert_eq!(output.failed(), ["AMD certificate chain"]);
}

/// A list of a year that was made before a revocation.
#[test]
fn a_list_older_than_demanded_counts_as_none() {
    let list = |revoked| Some((revoked, ["260101000000Z", "270101000000Z"]));
    let from = |text: &str| {
        let from = text.parse().unwrap();
        move |r: Requirements| r.revocation_lists_from(from)
    };
    let case = || Case::milan().with(|c| c.crl = list(vec![]));
    let output = case()
        .demand(from("2026-01-01T00:00:00Z"))
        .input()
        .appraise();
    assert_eq!(output.failed(), NONE, "{}", output.findings);
    let newer = from("2026-01-02T00:00:00Z");
    let output = case().demand(newer).input().appraise();
    assert_eq!(output.failed(), ["AMD revocation list"]);
    let output = case()
        .demand(|r| newer(r).revocation(RevocationDemand::Warn))
        .input()
        .appraise();
    assert_eq!(output.failed(), NONE, "{}", output.findings);
    assert_eq!(output.named(Outcome::Warning), ["AMD revocation list"]);
    // what it revokes stays revoked
    let output = Case::milan()
        .with(|c| c.crl = list(vec![amd::ASK_SERIAL.to_vec()]))
        .demand(|r| newer(r).revocation(RevocationDemand::Warn))
        .input()
        .appraise();
    assert_eq!(output.failed(), ["AMD certificate chain"]);
}

/// What a peer sends in the name of others must not switch off the list that revokes it, nor refuse a good machine.
#[test]
fn stray_lists_neither_hide_a_revocation_nor_refuse_a_good_machine() {
    let authority = Amd::new(ProductLine::Milan);
    // one that the ASK itself could have signed, and one of nobody
    let stray = |issuer| Crl::parse(&authority.stray_crl(issuer, &[], VALIDITY)).unwrap();
    let forged =
        |serial: u8| Crl::parse(&authority.stray_crl("ARK-Milan", &[&[serial]], VALIDITY)).unwrap();
    let serial = vec![amd::ASK_SERIAL.to_vec()];
    for demand in [RevocationDemand::Warn, RevocationDemand::Enforce] {
        let run = |revoked: Vec<Vec<u8>>, before: Vec<Crl>| {
            let mut input = Case::milan()
                .with(|c| c.crl = Some((revoked, VALIDITY)))
                .demand(|r| r.revocation(demand))
                .input();
            input.crls.splice(0..0, before);
            input.appraise()
        };
        let several = || vec![stray("SEV-Milan"), forged(1), forged(1), forged(2)];
        let output = run(serial.clone(), several());
        assert_eq!(
            output.failed(),
            ["AMD certificate chain"],
            "{demand:?}: {}",
            output.findings
        );
        let output = run(vec![], several());
        assert_eq!(output.failed(), NONE, "{demand:?}: {}", output.findings);
        assert_eq!(output.warnings(), NONE, "{demand:?}");
        // of other issuers there may be any number
        let many: Vec<Crl> = (0..60).map(|_| stray("SEV-Milan")).collect();
        assert_eq!(run(vec![], many).failed(), NONE, "{demand:?}");
        // a year of them, in the name of the root, and the genuine one at the end
        let year = || (1..=15).map(forged).collect::<Vec<_>>();
        assert_eq!(run(vec![], year()).failed(), NONE, "{demand:?}");
        let output = run(serial.clone(), year());
        let failed = output.failed();
        assert_eq!(failed, ["AMD certificate chain"], "{demand:?}");
        let output = run(vec![], (1..=16).map(forged).collect());
        let failed = output.failed();
        assert_eq!(failed, ["AMD revocation list"], "{demand:?}");
        // so many that the signatures of the search would not do for the one that revokes
        let many: Vec<Crl> = (1..=60).map(forged).collect();
        let output = run(serial.clone(), many);
        assert_eq!(
            output.failed(),
            ["AMD revocation list"],
            "{demand:?}: {}",
            output.findings
        );
    }
}

/// AMD may issue its signing keys anew; a peer may bring them, and they count only under the built-in root.
#[test]
fn a_signing_key_that_is_not_built_in_counts_under_the_root() {
    let mut input = Case::milan().input();
    let LineRoot { line, ark, signing } = Amd::new(ProductLine::Milan).root();
    input.roots = Roots::of([LineRoot {
        line,
        ark,
        signing: vec![],
    }]);
    assert_eq!(input.appraise().failed(), ["AMD certificate chain"]);
    input.signing = signing;
    assert_eq!(input.appraise().failed(), NONE);
}

#[test]
fn a_cached_chain_costs_no_signature_and_is_not_believed_for_longer() {
    let cache = PathCache::default();
    let mut input = Case::milan().input();
    let first = input.appraise_with(&cache);
    // the list, the signing key, the chip's key
    assert_eq!(cache.len(), 3);
    let second = input.appraise_with(&cache);
    assert_eq!(cache.len(), 3);
    assert_eq!(first.findings.checks(), second.findings.checks());
    input.now = time("2048-01-01T00:00:01Z");
    assert_eq!(
        input.appraise_with(&cache).failed(),
        ["AMD certificate chain"]
    );
    input.now = time(NOW);
    let revoking = Amd::new(ProductLine::Milan).crl(&[&amd::ASK_SERIAL], VALIDITY);
    input.crls.push(Crl::parse(&revoking).unwrap());
    assert_eq!(
        input.appraise_with(&cache).failed(),
        ["AMD certificate chain"]
    );
}

/// What an attacker with a key of its own makes of a real machine's evidence.
#[test]
fn a_real_report_under_another_root_is_refused_by_the_built_in_ones() {
    let id = "snp-vcek/tav/turin-v5";
    let bytes = evidence(&format!("{id}/report.bin"));
    let real = Report::parse(&bytes).unwrap();
    let mut case = Case::turin();
    case.report = ReportBytes(bytes.try_into().unwrap());
    case.report_data = real.fields().report_data;
    let tcb = real.fields().reported_tcb;
    let levels = [oid::FMC, oid::BOOT_LOADER, oid::TEE, oid::SNP];
    for (oid, level) in levels.into_iter().zip(tcb.0) {
        case.vek.set(oid, amd::integer(level));
    }
    case.vek
        .set(oid::HARDWARE_ID, real.fields().chip_id[..8].to_vec());
    let minimum = tcb.decode(ProductLine::Turin.tcb_layout());
    case.requirements = Requirements::new(
        AcceptedLines::new([AcceptedLine::new(ProductLine::Turin, minimum, minimum).unwrap()])
            .unwrap(),
        LaunchMeasurements::Enforce(Accepted::new(vec![real.fields().measurement]).unwrap()),
        IdKeyDigests::NotDemanded,
    )
    .allow_smt();
    let mut input = case.input();
    let output = input.appraise();
    assert_eq!(output.failed(), NONE, "{}", output.findings);
    input.roots = Roots::amd();
    assert_eq!(input.appraise().failed(), ["AMD certificate chain"]);
    // the real certificate does not help it
    input.vek = evidence(&format!("{id}/vek.der"));
    input.requirements = input.requirements.revocation(RevocationDemand::Warn);
    assert_eq!(input.appraise().failed(), ["SNP report signature"]);
    assert!(Certificate::parse(&input.vek).is_ok());
}

/// What was looked at, in its order. A check that is missing here was not made, or is not told.
#[test]
fn a_verdict_names_every_check_that_was_made() {
    let output = Case::milan().input().appraise();
    let checks: Vec<String> = output
        .findings
        .checks()
        .iter()
        .map(|check| format!("{}: {}", check.step, check.name))
        .collect();
    assert_eq!(
        checks,
        [
            "evidence document: SNP report format",
            "endorsements: VEK certificate format",
            "endorsements: VEK certificate names",
            "endorsements: VEK certificate extensions",
            "endorsements: AMD certificate chain",
            "endorsements: AMD revocation list",
            "endorsements: product in the VEK certificate",
            "endorsements: key in the VEK certificate",
            "hardware report: processor in the SNP report",
            "hardware report: signing key of the SNP report",
            "hardware report: TCB of the VEK certificate",
            "hardware report: chip id",
            "hardware report: SNP report signature",
            "hardware report: SNP report data",
            "platform: kind of AMD key",
            "platform: listed chip",
            "platform: debug off",
            "platform: no migration agent",
            "platform: simultaneous multithreading",
            "platform: CXL",
            "platform: guest policy demands",
            "platform: guest ABI",
            "platform: VMPL",
            "platform: platform info",
            "platform: AMD product line",
            "platform: reported TCB",
            "platform: launch TCB",
            "platform: mitigations",
            "platform: committed TCB",
            "platform: committed firmware",
            "platform: id key digest",
            "platform: host data",
            "boot measurements: launch measurement"
        ]
    );
    assert_eq!(output.named(Outcome::Passed).len(), checks.len());
}

#[test]
fn an_identity_key_that_need_not_be_known_passes_or_warns() {
    for (accepted, outcome) in [([0x1d; 48], Outcome::Passed), ([1; 48], Outcome::Warning)] {
        let output = Case::milan()
            .demand(|_| {
                Requirements::new(
                    lines(ProductLine::Milan, 0),
                    LaunchMeasurements::Enforce(Accepted::new(vec![[0x3e; 48]]).unwrap()),
                    IdKeyDigests::Warn(Accepted::new(vec![accepted]).unwrap()),
                )
            })
            .input()
            .appraise();
        assert_eq!(output.failed(), NONE, "{}", output.findings);
        let name = "id key digest";
        assert!(
            output.named(outcome).contains(&name.to_owned()),
            "{}",
            output.findings
        );
    }
}

/// The same list may come from the verifier, the evidence and a cache: it counts once.
#[test]
fn one_list_given_many_times_is_one_list() {
    let mut input = Case::milan().input();
    let list = input.crls[0].clone();
    input.crls = vec![list; 9];
    let output = input.appraise();
    assert_eq!(output.failed(), NONE, "{}", output.findings);
    assert_eq!(output.warnings(), NONE);
}

/// A refusal says what was demanded, what was found, and what to do.
#[test]
fn a_refusal_says_what_was_demanded_and_what_was_found() {
    let words = |output: &Output| {
        let checks = output.findings.checks();
        let failed = checks.iter().find(|check| check.outcome == Outcome::Failed);
        let Check {
            expected,
            actual,
            next_step,
            ..
        } = failed.unwrap();
        assert!(next_step.is_some(), "{}", output.findings);
        [expected, actual].map(|text| text.as_ref().unwrap().to_string())
    };
    let output = Case::milan().field(0xc0, &[0x41; 32]).input().appraise();
    assert_eq!(output.failed(), ["host data"]);
    assert_eq!(words(&output), ["40".repeat(32), "41".repeat(32)]);

    // an error comes with what caused it
    let output = Case::milan()
        .with(|c| c.vek.kind = VekKind::Vlek)
        .input()
        .appraise();
    assert_eq!(output.failed(), ["AMD certificate chain"]);
    let [expected, actual] = words(&output);
    assert!(expected.contains("ARK-Milan"), "{expected}");
    assert!(actual.contains("is not signed by"), "{actual}");
}
