//! One lie in real evidence, or in what is asked of it.

use super::*;

#[test]
fn a_report_of_another_version_or_operation_does_not_parse() {
    // version and code of request and response, signature requested, all measurements, specification of the first block
    for (at, value) in [
        (0, 0x12),
        (1, 0xe1),
        (2, 0x00),
        (3, 0x01),
        (37, 0x12),
        (38, 0x61),
        (46, 0x02),
    ] {
        let mut case = Case::sample(1);
        case.report[at] = value;
        assert_eq!(
            case.refused(),
            (CheckName::ReportFormat, RefusalCode::Malformed),
            "byte {at}"
        );
    }
}

#[test]
fn a_report_that_is_cut_off_or_goes_on_does_not_parse() {
    let whole = Case::sample(1);
    for end in [0, 36, 45, 100, 3500, whole.report.len() - 1] {
        let mut case = whole.clone();
        case.report.truncate(end);
        assert_eq!(case.refused().0, CheckName::ReportFormat, "{end}");
    }
    let mut case = whole.clone();
    case.report.push(1);
    assert_eq!(case.refused().0, CheckName::ReportFormat);
    assert_eq!(
        Report::parse(&case.report).unwrap_err(),
        ReportError::Trailing { left: 1 }
    );
    // padding
    let mut case = whole.clone();
    case.report.extend([0; 3]);
    case.accepted();
    let mut case = whole;
    case.report.resize(attest::nvidia::MAX_REPORT + 1, 0);
    assert_eq!(case.refused().0, CheckName::ReportFormat);
}

#[test]
fn blocks_and_fields_are_counted_and_stand_once() {
    let report = Case::sample(1).report;
    let with = |at: usize, value: u8| {
        let mut report = report.clone();
        report[at] = value;
        Report::parse(&report).unwrap_err()
    };
    // fewer and more blocks than the record holds
    assert!(matches!(with(41, 63), ReportError::Parse(_)));
    assert!(matches!(with(41, 65), ReportError::Parse(_)));
    // a longer record than there is
    assert!(matches!(with(44, 0x10), ReportError::Parse(_)));
    // the second block with the index of the first
    assert_eq!(
        with(45 + 55, 1),
        ReportError::Twice {
            what: "measurement",
            number: 1
        }
    );
    // a block whose value is shorter than the block
    assert!(matches!(with(45 + 5, 47), ReportError::Parse(_)));
    // the second opaque field (type 14) with the type of the first (6)
    let opaque = 45 + 64 * 55 + 32 + 2;
    assert_eq!(report[opaque..opaque + 2], [6, 0]);
    assert_eq!(report[opaque + 12..opaque + 14], [14, 0]);
    assert_eq!(
        with(opaque + 12, 6),
        ReportError::Twice {
            what: "opaque field",
            number: 6
        }
    );
    // a field longer than the data
    assert!(matches!(with(opaque + 3, 9), ReportError::Parse(_)));
}

#[test]
fn a_chain_that_is_no_pem_does_not_parse() {
    let mut case = Case::sample(1);
    case.chain[100] = b'!';
    assert_eq!(
        case.refused(),
        (CheckName::ChainFormat, RefusalCode::Malformed)
    );
}

#[test]
fn a_chain_must_lead_to_the_root() {
    let expected = (CheckName::Chain, RefusalCode::NotAuthentic);
    let mut case = Case::sample(1);
    case.chain.clear();
    assert_eq!(case.refused(), expected);
    // another vendor's root
    let mut case = Case::sample(1);
    let intel = sample("evidence/roots/intel/sgx-root-ca.der");
    case.roots = Roots::new(vec![Certificate::parse(&intel).unwrap()]);
    assert_eq!(case.refused(), expected);
    // no root
    case.roots = Roots::new(vec![]);
    assert_eq!(case.refused(), expected);
    // before NVIDIA issued the provisioner's certificate
    let mut case = Case::sample(1);
    case.now = at("2022-02-01T00:00:00Z");
    assert_eq!(case.refused(), expected);
    // the device alone
    let mut case = Case::sample(1);
    let text = String::from_utf8(case.chain.clone()).unwrap();
    let end = "-----END CERTIFICATE-----";
    let first = text.find(end).unwrap() + end.len();
    case.chain.truncate(first);
    assert_eq!(case.refused(), expected);
    // the ROM's certificate, which is an authority's, in the place of the device's
    let mut case = Case::sample(1);
    case.chain.drain(..first);
    assert_eq!(case.refused(), expected);
}

#[test]
fn revocation_that_is_demanded_is_not_left_out() {
    let case = Case::sample(1);
    let mut findings = Findings::new();
    let evidence = Evidence {
        report: &case.report,
        chain: &case.chain,
    };
    appraise(
        &evidence,
        &case.roots,
        &Revocation::Demand(&[]),
        &case.requirements,
        &case.nonce,
        case.now,
        &mut findings,
    )
    .unwrap_err();
    assert!(
        findings.to_string().contains("there is no CRL"),
        "{findings}"
    );
}

#[test]
fn the_report_of_one_device_with_the_chain_of_another_is_not_signed() {
    let case = Case {
        chain: Case::sample(0).chain,
        ..Case::sample(1)
    };
    assert_eq!(
        case.refused(),
        (CheckName::Signature, RefusalCode::NotAuthentic)
    );
}

#[test]
fn a_report_that_was_altered_is_not_signed() {
    let length = Case::sample(1).report.len();
    // the request's nonce and slot, a measurement, the response's nonce, an opaque value, the signature
    for at in [
        4,
        36,
        60,
        45 + 64 * 55 + 1,
        45 + 64 * 55 + 34 + 5,
        length - 1,
    ] {
        let mut case = Case::sample(1);
        case.report[at] ^= 1;
        assert_eq!(
            case.refused(),
            (CheckName::Signature, RefusalCode::NotAuthentic),
            "byte {at}"
        );
    }
}

#[test]
fn a_report_for_another_nonce_is_refused() {
    let mut case = Case::sample(1);
    case.nonce[31] ^= 1;
    assert_eq!(
        case.refused(),
        (CheckName::Nonce, RefusalCode::WrongBinding)
    );
}

#[test]
fn versions_and_measurements_must_be_accepted_and_all_are_looked_at() {
    let case = Case::sample(1);
    let report = Report::parse(&case.report).unwrap();
    let value: Sha384 = report.measurement(2).unwrap().try_into().unwrap();
    let build = |index: u8, value: Sha384, driver: &str, vbios: &str| Case {
        requirements: Requirements::new(
            BTreeMap::from([(index, BTreeSet::from([value]))]),
            BTreeSet::from([driver.to_owned()]),
            BTreeSet::from([vbios.to_owned()]),
        )
        .unwrap(),
        ..case.clone()
    };
    let (driver, vbios) = ("550.90.07", "96.00.9F.00.01");
    build(2, value, driver, vbios).accepted();
    assert_eq!(
        build(2, value, "550.90", vbios).refused(),
        (CheckName::Driver, RefusalCode::Platform)
    );
    assert_eq!(
        build(2, value, driver, "96.00.9F.00.02").refused(),
        (CheckName::Vbios, RefusalCode::Platform)
    );
    let mut other = value;
    other[47] ^= 1;
    for (index, value) in [(2, other), (3, value), (65, value)] {
        assert_eq!(
            build(index, value, driver, vbios).refused(),
            (CheckName::Measurement(index), RefusalCode::Measurements)
        );
    }
    let (_, findings) = build(2, other, "1", "2").appraise();
    let failed = findings
        .checks()
        .iter()
        .filter(|check| check.outcome == Outcome::Failed);
    assert_eq!(failed.count(), 3, "{findings}");
}

#[test]
fn requirements_that_require_nothing_cannot_be_made() {
    let measurements = || BTreeMap::from([(1, BTreeSet::from([[0; 48]]))]);
    let text = || BTreeSet::from(["1".to_owned()]);
    Requirements::new(measurements(), text(), text()).unwrap();
    let refused = |result: Result<Requirements, RequirementsError>| result.unwrap_err();
    assert_eq!(
        refused(Requirements::new(BTreeMap::new(), text(), text())),
        RequirementsError::NoMeasurements
    );
    assert_eq!(
        refused(Requirements::new(
            BTreeMap::from([(7, BTreeSet::new())]),
            text(),
            text()
        )),
        RequirementsError::NoValue { index: 7 }
    );
    assert_eq!(
        refused(Requirements::new(measurements(), BTreeSet::new(), text())),
        RequirementsError::NoDriver
    );
    assert_eq!(
        refused(Requirements::new(measurements(), text(), BTreeSet::new())),
        RequirementsError::NoVbios
    );
}

#[test]
fn the_firmware_of_the_certificate_is_that_of_the_report() {
    let report = Report::parse(&Case::sample(1).report).unwrap();
    let firmware = report.opaque(OpaqueField::FIRMWARE_ID).unwrap();
    assert_eq!(firmware.len(), 48);
    assert_eq!(report.opaque(OpaqueField(999)), None);
}

#[test]
fn a_verdict_names_every_check_that_was_made() {
    let case = Case::sample(1);
    let (appraised, findings) = case.appraise();
    assert!(appraised.is_ok(), "{findings}");
    let checks: Vec<String> = findings
        .checks()
        .iter()
        .map(|check| format!("{}: {}", check.step, check.name))
        .collect();
    let (all, measurements): (Vec<_>, Vec<_>) = checks
        .into_iter()
        .partition(|check| !check.contains("measurement "));
    assert_eq!(
        all,
        [
            "evidence document: GPU report format",
            "evidence document: GPU certificate chain format",
            "endorsements: GPU certificate chain",
            "hardware report: GPU report signature",
            "hardware report: GPU report bound to this session",
            "hardware report: firmware in the GPU's certificate",
            "hardware report: GPU firmware identity",
            "platform: GPU driver version",
            "platform: GPU VBIOS version"
        ]
    );
    // those that the requirements of the samples name
    assert_eq!(measurements.len(), 12);
}

/// A device's own certificate, and as many above it as a path is searched among.
#[test]
fn a_chain_has_a_bound() {
    let case = Case::sample(1);
    let text = String::from_utf8(case.chain.clone()).unwrap();
    let end = "-----END CERTIFICATE-----";
    let (head, last) = text
        .trim_end()
        .trim_end_matches(end)
        .rsplit_once("-----BEGIN")
        .unwrap();
    let last = format!("-----BEGIN{last}{end}\n");
    let given = text.matches(end).count();
    for (count, is_read) in [
        (attest::x509::MAX_INTERMEDIATES, true),
        (attest::x509::MAX_INTERMEDIATES + 1, true),
        (attest::x509::MAX_INTERMEDIATES + 2, false),
    ] {
        let case = Case {
            chain: format!("{head}{}", last.repeat(1 + count - given)).into_bytes(),
            ..case.clone()
        };
        if is_read {
            case.accepted();
        } else {
            assert_eq!(
                case.refused(),
                (CheckName::ChainFormat, RefusalCode::Malformed)
            );
        }
    }
}

#[test]
fn a_report_has_a_bound() {
    use attest::nvidia::MAX_REPORT;
    for (size, is_read) in [
        (MAX_REPORT - 1, true),
        (MAX_REPORT, true),
        (MAX_REPORT + 1, false),
    ] {
        let mut report = Case::sample(1).report;
        report.resize(size, 0);
        assert_eq!(Report::parse(&report).is_ok(), is_read, "{size}");
    }
}
