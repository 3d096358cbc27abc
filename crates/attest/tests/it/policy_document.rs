//! Version 2 of the document: what it says, what it must not say, and what becomes of its two generations.

use attest::policy::{Machine, Policy};
use attest::{
    CheckName, ClusterMark, Digest384, Issue, Outcome, PolicyDocument, Refusal, Variant, Verified,
};
use jiff::Timestamp;
use testkit::appraise_at;
use testkit::boot::Image;
use testkit::tee::SoftTpm;

use crate::binding;

/// Six PCRs as a person writes them, indented.
pub(crate) fn pcrs(indent: usize) -> String {
    pcrs_of(indent, 32)
}

/// The same, of a bank with digests of this many bytes.
fn pcrs_of(indent: usize, length: usize) -> String {
    [4, 8, 9, 11, 12, 13]
        .map(|number| {
            let digit = if matches!(number, 4 | 9 | 11) {
                "a1"
            } else {
                "00"
            };
            format!(
                "{:indent$}{number}: {{ expected: {}, warnOnly: false }}\n",
                "",
                digit.repeat(length)
            )
        })
        .concat()
}

/// A whole policy for Azure's SEV-SNP machines, with everything that can be said.
pub(crate) fn azure() -> String {
    format!(
        "version: 2
variant: azure-sev-snp
presets: [amd-2026-10]
measurements:
  generations:
    - image: v0.2.0
      pcrs:
{0}      components:
        - {{ pcr: 9, name: initrd, digest: {1} }}
      launch: {{ accepted: [{2}], warnOnly: true }}
    - image: v0.1.0
      expires: 2026-12-31T00:00:00Z
      pcrs:
{0}snp:
  products:
    Milan:
      minimumTcb: {{ bootloader: 4, tee: 0, snp: 24, microcode: 219 }}
      minimumLaunchTcb: {{ bootloader: 4, tee: 0, snp: 23, microcode: 219 }}
      mitigations: [1]
    Turin:
      minimumTcb: {{ fmc: 1, bootloader: 1, tee: 1, snp: 4, microcode: 81 }}
  guestPolicy:
    permitted: [smt]
    required: [singleSocket]
  platformInfo:
    required: [eccEnabled]
  idKeyDigests: {{ accepted: [{2}], warnOnly: false }}
  hostData: {1}
  chipIds: [{3}]
  minimumGuestSvn: 4294967295
  signingKey: either
  vlekProviders: [\"CN=cc-us-east-2.amazonaws.com\", \"CN=cc-eu-west-1.amazonaws.com\"]
  revocationList: warnOnly
  revocationListsFrom: 2026-10-01T00:00:00Z
  provisionalFirmware: false
  vmpl: 0
",
        pcrs(8),
        "b2".repeat(32),
        "c3".repeat(48),
        "d4".repeat(64),
    )
}

/// A whole policy for own TDX machines.
pub(crate) fn tdx() -> String {
    format!(
        "version: 2
variant: tdx
presets: [intel-2026-10]
measurements:
  generations:
    - image: v0.2.0
      mrtd: {{ accepted: [{0}], warnOnly: false }}
      rtmrs:
        0: {{ accepted: [{0}], warnOnly: true }}
        1: {{ accepted: [{0}, {1}], warnOnly: false }}
        2: {{ accepted: [{1}], warnOnly: false }}
tdx:
  tcbStatuses: [UpToDate, SWHardeningNeeded]
  advisories: [INTEL-SA-00837]
  refusedAdvisories: [INTEL-SA-00828]
  mrSeam: [{0}]
  attributes:
    permitted: [pks]
    septVeDisable: optional
  revocationListsFrom: 2026-10-02T00:00:00Z
  xfam: [00000000000642e7]
  minimums:
    teeTcbSvn: 05010200000000000000000000000000
    qeSvn: 8
    pceSvn: 13
    tcbEvaluationDataNumber: 17
",
        "e5".repeat(48),
        "f6".repeat(48),
    )
}

/// A whole policy for own SEV-SNP machines.
pub(crate) fn snp() -> String {
    format!(
        "version: 2
variant: sev-snp
measurements:
  generations:
    - launch: {{ accepted: [{}], warnOnly: false }}
snp:
  products:
    Genoa:
      minimumTcb: {{ bootloader: 9, tee: 0, snp: 27, microcode: 84 }}
",
        "c3".repeat(48),
    )
}

/// A whole policy for development machines.
pub(crate) fn vtpm() -> String {
    format!(
        "version: 2
variant: qemu-vtpm
image: v0.2.0
measurements:
{}components:
  - {{ pcr: 9, name: initrd, digest: {} }}
",
        pcrs(2),
        "b2".repeat(32),
    )
}

/// A whole policy for machines with a NitroTPM.
pub(crate) fn nitro() -> String {
    format!(
        "version: 2
variant: aws-nitro-tpm
measurements:
  generations:
    - image: v0.2.0
      pcrs:
{0}        14: {{ expected: {1}, warnOnly: true }}
    - image: v0.1.0
      expires: 2026-12-31T00:00:00Z
      pcrs:
{0}",
        pcrs_of(8, 48),
        "b2".repeat(48),
    )
}

fn read(text: &str) -> PolicyDocument {
    PolicyDocument::parse("p.yaml", text).unwrap_or_else(|problems| panic!("{problems}\n{text}"))
}

#[test]
fn whole_documents_round_trip() {
    for text in [azure(), tdx(), snp(), vtpm(), nitro()] {
        let document = read(&text);
        let json = document.to_json().unwrap();
        assert_eq!(read(&json), document, "{json}");
    }
}

/// Where the sections of a JSON document are, as pointers, its root included.
pub(crate) fn sections(value: &serde_json::Value) -> Vec<String> {
    fn walk(value: &serde_json::Value, at: &str, into: &mut Vec<String>) {
        if let Some(section) = value.as_object() {
            into.push(at.to_owned());
            for (name, value) in section {
                walk(value, &format!("{at}/{name}"), into);
            }
        }
        for (n, value) in value.as_array().into_iter().flatten().enumerate() {
            walk(value, &format!("{at}/{n}"), into);
        }
    }
    let mut all = Vec::new();
    walk(value, "", &mut all);
    all
}

#[test]
fn no_section_has_a_field_that_nobody_reads() {
    for text in [azure(), tdx(), snp(), vtpm(), nitro()] {
        let json = read(&text).to_json().unwrap();
        let document: serde_json::Value = serde_json::from_str(&json).unwrap();
        let sections = sections(&document);
        assert!(sections.len() > 4, "{sections:?}");
        for section in sections {
            let mut more = document.clone();
            let fields = more.pointer_mut(&section).unwrap().as_object_mut().unwrap();
            fields.insert("surplus".to_owned(), true.into());
            let problems = PolicyDocument::parse("p.json", &more.to_string()).expect_err(&section);
            let problems = problems.to_string();
            let is_told = problems.contains("surplus: unknown field")
                // where every key is a register
                || problems.contains("\"surplus\" is no");
            assert!(is_told, "{section}: {problems}");
        }
    }
}

#[test]
fn every_machine_has_a_name_of_its_own() {
    for machine in Machine::ALL {
        assert_eq!(machine.as_str().parse(), Ok(machine));
    }
    assert!("dummy".parse::<Machine>().is_err());
    for variant in Variant::ALL {
        assert_eq!(Machine::from(variant).as_str(), variant.as_str());
    }
}

#[test]
fn what_is_written_is_what_is_demanded() {
    use attest::policy::flags::Flag;
    use attest::policy::snp::{Permission, PlatformFlag, ProductLine, SigningKeys, Tcb};

    let document = read(&azure());
    let snp = document.snp().unwrap();
    let lines: Vec<_> = snp.products().keys().copied().collect();
    assert_eq!(lines, [ProductLine::Milan, ProductLine::Turin]);
    let milan = snp.products()[&ProductLine::Milan];
    let tcb = |snp| Tcb {
        fmc: 0,
        bootloader: 4,
        tee: 0,
        snp,
        microcode: 219,
    };
    // the preset's BreakFAST row asks for more than the document
    assert_eq!((milan.reported, milan.launch), (tcb(29), tcb(29)));
    assert_eq!(milan.mitigations, 0b10);
    assert!(snp.permitted().contains(&Permission::Smt));
    assert!(!snp.permitted().contains(&Permission::Cxl));
    assert!(snp.platform().contains(&PlatformFlag::EccEnabled));
    assert!(snp.platform().contains(&PlatformFlag::AliasCheckComplete));
    assert_eq!(snp.keys(), SigningKeys::Either);
    assert!(!snp.demands_crl() && !snp.permits_provisional());
    let key = Digest384::from_bytes([0xc3; 48]);
    assert!(snp.id_keys().unwrap().accepted.contains(&key));
    assert_eq!(snp.host_data(), Some(&[0xb2; 32]));
    assert_eq!(snp.chips().iter().collect::<Vec<_>>(), [&[0xd4; 64]]);
    let provisional = azure().replace("provisionalFirmware: false", "provisionalFirmware: true");
    assert!(read(&provisional).snp().unwrap().permits_provisional());

    let document = read(&tdx());
    let tdx = document.tdx().unwrap();
    assert_eq!(tdx.minimums().tcb_evaluation_data_number, 17);
    assert_eq!(tdx.minimums().tee_tcb_svn[..3], [5, 1, 2]);
    assert!(!tdx.demands_sept_ve_disable());
    assert_eq!(tdx.xfam().first(), Some(&0x642e7));
    assert_eq!(
        tdx.advisories().iter().collect::<Vec<_>>(),
        ["INTEL-SA-00837"]
    );
    let module = Digest384::from_bytes([0xe5; 48]);
    assert_eq!(tdx.mr_seam().iter().collect::<Vec<_>>(), [&module]);
    let permitted = tdx.permitted().iter().map(|it| it.as_str());
    assert_eq!(permitted.collect::<Vec<_>>(), ["pks"]);
    let required = self::tdx().replace("septVeDisable: optional", "septVeDisable: required");
    assert!(read(&required).tdx().unwrap().demands_sept_ve_disable());
}

#[test]
fn an_snp_policy_is_demanded_of_a_report_as_it_is_written() {
    use attest::sev_snp::{
        Accepted, AcceptedKeys, AcceptedLine, AcceptedLines, Chips, GuestPolicy, HostData,
        IdKeyDigests, LaunchMeasurements, PlatformInfo, ProductLine, ProviderNames, Providers,
        Requirements, RevocationDemand, Tcb,
    };

    // without the preset, whose minimums are higher
    let document = read(&azure().replace("presets: [amd-2026-10]\n", ""));
    let line = |line, reported, launch| AcceptedLine::new(line, reported, launch).unwrap();
    let turin = Tcb::turin(1, 1, 1, 4, 81);
    let lines = AcceptedLines::new([
        line(
            ProductLine::Milan,
            Tcb::milan_genoa(4, 0, 24, 219),
            Tcb::milan_genoa(4, 0, 23, 219),
        )
        .mitigations(0b10),
        line(ProductLine::Turin, turin, turin),
    ]);
    let key = || Accepted::new(vec![[0xc3; 48]]).unwrap();
    let expected = Requirements::new(
        lines.unwrap(),
        LaunchMeasurements::Warn(key()),
        IdKeyDigests::Enforce(key()),
    )
    .allow_smt()
    .guest_policy(GuestPolicy::SINGLE_SOCKET)
    .platform_info(PlatformInfo::ECC_EN.with(PlatformInfo::ALIAS_CHECK_COMPLETE))
    .minimum_guest_svn(u32::MAX)
    .host_data(HostData::Exactly([0xb2; 32]))
    .chips(Chips::Listed(Accepted::new(vec![[0xd4; 64]]).unwrap()))
    .keys(AcceptedKeys::Either)
    .vlek_providers(Providers::Listed(
        ProviderNames::new(
            [
                "CN=cc-eu-west-1.amazonaws.com",
                "CN=cc-us-east-2.amazonaws.com",
            ]
            .map(str::to_owned)
            .to_vec(),
        )
        .unwrap(),
    ))
    .revocation(RevocationDemand::Warn)
    .revocation_lists_from(time("2026-10-01T00:00:00Z"));
    let snp = document.snp().unwrap();
    assert_eq!(snp.requirements(document.newest()), Ok(expected));

    // what is not written is what is strictest
    let document = read(&crate::policy_document::snp());
    let line = line(
        ProductLine::Genoa,
        Tcb::milan_genoa(9, 0, 27, 84),
        Tcb::milan_genoa(9, 0, 27, 84),
    );
    let strictest = Requirements::new(
        AcceptedLines::new([line]).unwrap(),
        LaunchMeasurements::Enforce(key()),
        IdKeyDigests::NotDemanded,
    );
    let snp = document.snp().unwrap();
    assert_eq!(snp.requirements(document.newest()), Ok(strictest));
}

#[test]
fn a_tdx_policy_is_demanded_of_a_quote_as_it_is_written() {
    use attest::tdx::{
        AcceptableStatus, Accepted, Advisories, Launch, Register, Requirements, SeptVe, TcbStatus,
        TdAttributes, TeeTcbSvn,
    };

    let document = read(&tdx());
    let (one, other) = (
        Register::from_bytes([0xe5; 48]),
        Register::from_bytes([0xf6; 48]),
    );
    let mut svns = [0; 16];
    svns[..3].copy_from_slice(&[5, 1, 2]);
    let status = |status| AcceptableStatus::new(status).unwrap();
    let expected = Requirements {
        statuses: vec![
            status(TcbStatus::UpToDate),
            status(TcbStatus::SwHardeningNeeded),
        ],
        advisories: Advisories::Tolerated(vec!["INTEL-SA-00837".to_owned()]),
        // the document's and the preset's
        refused_advisories: vec!["INTEL-SA-00828".to_owned(), "INTEL-SA-01397".to_owned()],
        minimum_evaluation_number: 17,
        minimum_qe_svn: 8,
        minimum_pce_svn: 13,
        minimum_tee_tcb_svn: TeeTcbSvn(svns),
        crls_from: time("2026-10-02T00:00:00Z"),
        sept_ve: SeptVe::GuestGuardsItself,
        attributes: TdAttributes::PKS,
        xfam: Accepted::AnyOf(vec![0x642e7]),
        mr_seam: Accepted::AnyOf(vec![one]),
        ..Requirements::new(Launch {
            mrtd: Accepted::AnyOf(vec![one]),
            // RTMR 0 is only warned about
            rtmrs: [
                Accepted::Warn(vec![one]),
                Accepted::AnyOf(vec![one, other]),
                Accepted::AnyOf(vec![other]),
                Accepted::Open,
            ],
        })
    };
    assert_eq!(
        document.tdx().unwrap().requirements(document.newest()),
        expected
    );
}

#[test]
fn a_provider_that_signs_with_its_own_key_is_known() {
    use attest::policy::snp::SigningKeys;

    assert_eq!(SigningKeys::usual(Machine::AwsSevSnp), SigningKeys::Vlek);
    let gcp = format!(
        "version: 2\nvariant: gcp-sev-snp\nmeasurements:\n{}snp:\n  products:\n    Milan:\n      minimumTcb: {{ bootloader: 4, tee: 0, snp: 24, microcode: 219 }}\n",
        pcrs(2)
    );
    assert_eq!(read(&gcp).snp().unwrap().keys(), SigningKeys::Vcek);
}

const LINE: &str = "snp:\n  products:\n    Milan:\n      minimumTcb: { bootloader: 4, tee: 0, snp: 24, microcode: 219 }\n";

#[test]
fn machines_of_aws_have_pcrs_of_sha_384_and_no_others() {
    use attest::policy::PcrMeasurements;

    for (machine, section) in [("aws-nitro-tpm", ""), ("aws-sev-snp", LINE)] {
        let text = |length| {
            format!(
                "version: 2\nvariant: {machine}\nmeasurements:\n{}{section}",
                pcrs_of(2, length)
            )
        };
        let document = read(&text(48));
        let PcrMeasurements::Sha384(pcrs) = document.newest().pcr_measurements() else {
            panic!("{document:?}");
        };
        let values: Vec<_> = pcrs.iter().map(|(i, m)| (i.number(), m.expected)).collect();
        let (code, zero) = (Digest384::from_bytes([0xa1; 48]), Digest384::ZERO);
        let expected = [
            (4, code),
            (8, zero),
            (9, code),
            (11, code),
            (12, zero),
            (13, zero),
        ];
        assert_eq!(values, expected);
        // nothing that reads values of the other bank finds any
        assert!(document.newest().pcrs().is_empty());
        // and each value of the other bank is told
        let problems = PolicyDocument::parse("p", &text(32)).unwrap_err();
        assert_eq!(problems.list().len(), 6, "{problems}");
        assert_eq!(
            problems.to_string().lines().next(),
            Some(
                "p:4:18: measurements.4.expected: expected 96 hexadecimal digits (SHA-384), got 64 characters: this is a value of SHA-256 (64 digits), and such a machine proves its PCRs in the SHA-384 bank; allowed: 96 hex digits"
            )
        );
    }
    // a name that nobody knows says nothing about the length
    for length in [32, 48] {
        let text = format!(
            "version: 2\nvariant: aws\nmeasurements:\n{}",
            pcrs_of(2, length)
        );
        let problems = PolicyDocument::parse("p", &text).unwrap_err();
        assert_eq!(problems.list().len(), 1, "{problems}");
    }
}

#[test]
fn what_holds_of_pcrs_holds_in_each_bank() {
    for (variant, length) in [("qemu-vtpm", 32), ("aws-nitro-tpm", 48)] {
        let good = format!(
            "version: 2\nvariant: {variant}\nmeasurements:\n{}",
            pcrs_of(2, length)
        );
        read(&good);
        let refused = |text: &str, why: &str| {
            assert_ne!(text, good);
            let problems = PolicyDocument::parse("p", text).unwrap_err().to_string();
            assert!(problems.contains(why), "{why}: {problems}\n{text}");
        };
        for pcr in [4, 8, 9, 11, 12, 13] {
            let line = good
                .lines()
                .find(|line| line.starts_with(&format!("  {pcr}: ")))
                .unwrap();
            let with = |new: &str| good.replace(&format!("{line}\n"), new);
            refused(&with(""), &format!("says nothing about PCR {pcr};"));
            let value = |value: String, warn_only| {
                with(&format!(
                    "  {pcr}: {{ expected: {value}, warnOnly: {warn_only} }}\n"
                ))
            };
            refused(
                &value("1234".repeat(length / 2), false),
                &format!("PCR {pcr} is a placeholder"),
            );
            if matches!(pcr, 4 | 9 | 11) {
                let zero = "00".repeat(length);
                refused(&value(zero, false), &format!("PCR {pcr} is zero"));
                let code = "a1".repeat(length);
                refused(&value(code, true), &format!("only warns about PCR {pcr},"));
            } else {
                read(&value("a1".repeat(length), true));
            }
        }
    }
}

/// No register of one bank is a value of the other, whatever its bytes.
#[test]
fn a_policy_of_one_bank_accepts_no_register_of_the_other() {
    use attest::aws::{ExpectedPcrs, ExpectedPcrsError};

    for (text, expected) in [
        (azure(), Err(ExpectedPcrsError::OtherBank)),
        (vtpm(), Err(ExpectedPcrsError::OtherBank)),
        (snp(), Err(ExpectedPcrsError::OtherBank)),
        (nitro(), Ok(())),
    ] {
        let document = read(&text);
        assert_eq!(
            ExpectedPcrs::try_from(document.newest()).map(drop),
            expected,
            "{text}"
        );
    }
}

#[test]
fn a_digest_of_digits_alone_needs_no_quotes() {
    for digest in [
        "1".repeat(64),
        format!("1e{}", "2".repeat(62)),
        format!("{}e5", "0".repeat(62)),
    ] {
        let text = vtpm().replacen(&"a1".repeat(32), &digest, 1);
        let document = read(&text);
        let pcr = document.newest().pcrs().values().next().unwrap();
        assert_eq!(pcr.expected.to_string(), digest);
    }
}

/// What a bad document is called, which good one it is made of, what is replaced, and the problem with its place.
type Row = (
    &'static str,
    fn() -> String,
    &'static str,
    &'static str,
    &'static str,
);

/// Mistakes of form: a schema finds them as well.
pub(crate) const FORM: &[Row] = &[
    (
        "no version",
        azure,
        "version: 2\n",
        "",
        "p.yaml:1:1: version: missing",
    ),
    (
        "a SHA-256 value for a machine of AWS",
        nitro,
        "a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1",
        "",
        "p.yaml:7:24: measurements.generations[0].pcrs.4.expected: expected 96 hexadecimal digits (SHA-384), got 64 characters: this is a value of SHA-256",
    ),
    (
        "a SHA-384 value for a machine that quotes SHA-256",
        vtpm,
        "a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1",
        "a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1",
        "p.yaml:5:18: measurements.4.expected: expected 64 hexadecimal digits (SHA-256), got 96 characters: this is a value of SHA-384",
    ),
    (
        "a value of no bank",
        nitro,
        "a1a1a1a1a1a1a1a1",
        "",
        "measurements.generations[0].pcrs.4.expected: expected 96 hexadecimal digits (SHA-384), got 80 characters; allowed: 96 hex digits",
    ),
    (
        "AWS: the cluster mark",
        nitro,
        "        14: ",
        "        15: ",
        "PCR 15 is the cluster mark",
    ),
    (
        "AWS: a PCR that can be reset",
        nitro,
        "        14: ",
        "        16: ",
        "PCR 16 can be reset",
    ),
    (
        "AWS: components",
        nitro,
        "      pcrs:\n",
        "      components: [{ pcr: 4, name: kernel, digest: a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1 }]\n      pcrs:\n",
        "aws-nitro-tpm machines have no components: they name parts by an event log, and documents of AWS come without one",
    ),
    (
        "another version",
        azure,
        "version: 2",
        "version: 3",
        "p.yaml:1:10: version: the number 3 is not allowed here",
    ),
    (
        "a version in quotes",
        azure,
        "version: 2",
        "version: \"2\"",
        "p.yaml:1:10: version: \"2\" is not allowed here",
    ),
    (
        "no variant",
        azure,
        "variant: azure-sev-snp\n",
        "",
        "variant: missing",
    ),
    (
        "a variant nobody knows",
        azure,
        "variant: azure-sev-snp",
        "variant: dummy",
        "p.yaml:2:10: variant: \"dummy\" is no kind of machine",
    ),
    (
        "an unknown field",
        azure,
        "presets:",
        "preset:",
        "p.yaml:3:1: preset: unknown field; did you mean presets?",
    ),
    (
        "presets that are no list",
        azure,
        "presets: [amd-2026-10]",
        "presets: amd-2026-10",
        "presets: \"amd-2026-10\" is not allowed here",
    ),
    (
        "a field without a value",
        azure,
        "signingKey: either",
        "signingKey:",
        "snp.signingKey: nothing is not allowed here",
    ),
    (
        "no generation",
        tdx,
        "  generations:\n",
        "  generations: []\n  more:\n",
        "0 generations are listed",
    ),
    (
        "no end of the older one",
        azure,
        "      expires: 2026-12-31T00:00:00Z\n",
        "",
        "measurements.generations[1].expires: missing",
    ),
    (
        "an unknown field of a generation",
        azure,
        "    - image: v0.2.0",
        "    - img: v0.2.0",
        "measurements.generations[0].img: unknown field",
    ),
    (
        "an image without a name",
        azure,
        "image: v0.2.0",
        "image: \"\"",
        "measurements.generations[0].image: the image name is empty",
    ),
    (
        "no warnOnly of a PCR",
        azure,
        ", warnOnly: false }\n        8:",
        " }\n        8:",
        "measurements.generations[0].pcrs.4.warnOnly: missing",
    ),
    (
        "no such PCR",
        azure,
        "        4: {",
        "        24: {",
        "\"24\" is not a PCR",
    ),
    (
        "a short launch measurement",
        azure,
        "launch: { accepted: [c3",
        "launch: { accepted: [",
        "expected 96 hexadecimal digits (SHA-384), got 94 characters",
    ),
    (
        "no launch measurement",
        snp,
        "    - launch: { accepted: [",
        "    - launch: { accepted: [], other: [",
        "launch.accepted: 0 digests are listed",
    ),
    (
        "an RTMR that is not of a boot",
        tdx,
        "        0: {",
        "        3: {",
        "measurements.generations[0].rtmrs.3: \"3\" is no RTMR of a boot",
    ),
    (
        "no products",
        azure,
        "  products:\n",
        "  product:\n",
        "snp.products: missing",
    ),
    (
        "a product line nobody knows",
        azure,
        "    Milan:",
        "    Rome:",
        "snp.products.Rome: unknown field",
    ),
    (
        "no minimum TCB",
        snp,
        "minimumTcb:",
        "minimumLaunchTcb:",
        "snp.products.Genoa.minimumTcb: missing",
    ),
    (
        "a part of the TCB left out",
        snp,
        "tee: 0, ",
        "",
        "snp.products.Genoa.minimumTcb.tee: missing",
    ),
    (
        "a TCB that no byte holds",
        snp,
        "snp: 27",
        "snp: 256",
        "snp.products.Genoa.minimumTcb.snp: the number 256 is not allowed here; allowed: a whole number from 0 to 255",
    ),
    (
        "fmc where there is none",
        snp,
        "bootloader: 9",
        "fmc: 1, bootloader: 9",
        "snp.products.Genoa.minimumTcb.fmc: Genoa has no fmc",
    ),
    (
        "no fmc where there is one",
        azure,
        "fmc: 1, ",
        "",
        "snp.products.Turin.minimumTcb.fmc: missing",
    ),
    (
        "a mitigation that is no bit",
        azure,
        "mitigations: [1]",
        "mitigations: [64]",
        "snp.products.Milan.mitigations[0]: the number 64 is not allowed here",
    ),
    (
        "debugging",
        azure,
        "permitted: [smt]",
        "permitted: [debug]",
        "snp.guestPolicy.permitted[0]: debug is never accepted; allowed: smt, cxl",
    ),
    (
        "a migration agent",
        azure,
        "permitted: [smt]",
        "permitted: [migrationAgent]",
        "migrationAgent is never accepted",
    ),
    (
        "a demand nobody knows",
        azure,
        "required: [singleSocket]",
        "required: [secure]",
        "\"secure\" is not known here",
    ),
    (
        "a bit nobody knows",
        azure,
        "required: [eccEnabled]",
        "required: [ecc]",
        "snp.platformInfo.required[0]: \"ecc\" is not known here",
    ),
    (
        "a bit twice",
        azure,
        "required: [eccEnabled]",
        "required: [eccEnabled, eccEnabled]",
        "snp.platformInfo.required[1]: is listed twice",
    ),
    (
        "an alias check of another kind",
        azure,
        "    required: [eccEnabled]\n",
        "    aliasCheckComplete: ignored\n",
        "snp.platformInfo.aliasCheckComplete: \"ignored\" is not known; allowed: required, optional",
    ),
    (
        "another privilege level",
        azure,
        "vmpl: 0",
        "vmpl: 1",
        "snp.vmpl: the number 1 is not allowed here",
    ),
    (
        "a security version of more than 32 bits",
        azure,
        "minimumGuestSvn: 4294967295",
        "minimumGuestSvn: 4294967296",
        "snp.minimumGuestSvn: the number 4294967296 is not allowed here",
    ),
    (
        "no provider at all",
        azure,
        "[\"CN=cc-us-east-2.amazonaws.com\", \"CN=cc-eu-west-1.amazonaws.com\"]",
        "[]",
        "snp.vlekProviders: 0 providers are listed",
    ),
    (
        "a provider twice",
        azure,
        "\"CN=cc-eu-west-1.amazonaws.com\"",
        "\"CN=cc-us-east-2.amazonaws.com\"",
        "snp.vlekProviders[1]: is listed twice",
    ),
    (
        "a provider whose name no certificate can have",
        azure,
        "CN=cc-eu-west-1.amazonaws.com",
        "CN=\u{fc}",
        "snp.vlekProviders[1]: is not 1 to 64 printable characters of ASCII",
    ),
    (
        "a key of another kind",
        azure,
        "signingKey: either",
        "signingKey: any",
        "snp.signingKey: \"any\" is no kind of key",
    ),
    (
        "no rule for revocation",
        azure,
        "revocationList: warnOnly",
        "revocationList: ignored",
        "snp.revocationList: \"ignored\" is not known",
    ),
    (
        "a truth in quotes",
        azure,
        "provisionalFirmware: false",
        "provisionalFirmware: \"no\"",
        "snp.provisionalFirmware: \"no\" is not allowed here; allowed: true, false",
    ),
    (
        "no statuses",
        tdx,
        "tcbStatuses: [UpToDate, SWHardeningNeeded]",
        "tcbStatuses: []",
        "tdx.tcbStatuses: 0 entries are listed",
    ),
    (
        "no field for statuses",
        tdx,
        "  tcbStatuses: [UpToDate, SWHardeningNeeded]\n",
        "",
        "tdx.tcbStatuses: missing",
    ),
    (
        "revoked",
        tdx,
        "SWHardeningNeeded]",
        "Revoked]",
        "tdx.tcbStatuses[1]: Revoked is never accepted",
    ),
    (
        "a status nobody knows",
        tdx,
        "SWHardeningNeeded]",
        "Fine]",
        "\"Fine\" is no TCB status",
    ),
    (
        "an advisory of another form",
        tdx,
        "INTEL-SA-00837",
        "AMD-SB-3015",
        "\"AMD-SB-3015\" is no advisory of Intel's",
    ),
    (
        "a refused advisory of another form",
        tdx,
        "INTEL-SA-00828",
        "CVE-2025-1",
        "\"CVE-2025-1\" is no advisory of Intel's",
    ),
    (
        "migration",
        tdx,
        "permitted: [pks]",
        "permitted: [migratable]",
        "migratable is never accepted",
    ),
    (
        "a list from a number",
        azure,
        "revocationListsFrom: 2026-10-01T00:00:00Z",
        "revocationListsFrom: 2026",
        "snp.revocationListsFrom: ",
    ),
    (
        "a list from a list",
        tdx,
        "revocationListsFrom: 2026-10-02T00:00:00Z",
        "revocationListsFrom: []",
        "tdx.revocationListsFrom: ",
    ),
    (
        "a short XFAM",
        tdx,
        "00000000000642e7",
        "642e7",
        "tdx.xfam[0]: \"642e7\" is not 16 hex digits",
    ),
    (
        "short SVNs",
        tdx,
        "teeTcbSvn: 0501",
        "teeTcbSvn: 05",
        "tdx.minimums.teeTcbSvn: 30 characters are not 32 hex digits",
    ),
    (
        "an SVN that nothing holds",
        tdx,
        "qeSvn: 8",
        "qeSvn: 65536",
        "tdx.minimums.qeSvn: the number 65536 is not allowed here",
    ),
];

/// Mistakes of meaning: only the reader finds them.
const MEANING: &[Row] = &[
    (
        "no such preset",
        azure,
        "[amd-2026-10]",
        "[amd-1999-01]",
        "p.yaml:3:11: presets[0]: \"amd-1999-01\" is no preset of this release; allowed: amd-2026-10, amd-strict-2026-10, intel-2026-10",
    ),
    (
        "a preset twice",
        azure,
        "[amd-2026-10]",
        "[amd-2026-10, amd-2026-10]",
        "presets[1]: is listed twice",
    ),
    (
        "a preset for other machines",
        azure,
        "[amd-2026-10]",
        "[intel-2026-10]",
        "intel-2026-10 says nothing about azure-sev-snp machines",
    ),
    (
        "a preset without hardware",
        vtpm,
        "image: v0.2.0",
        "presets: [amd-2026-10]",
        "amd-2026-10 says nothing about qemu-vtpm machines",
    ),
    (
        "an end of the newest one",
        tdx,
        "image: v0.2.0",
        "expires: 2026-12-31T00:00:00Z",
        "measurements.generations[0]: the newest generation has no end",
    ),
    (
        "an end that is no time",
        azure,
        "2026-12-31T00:00:00Z",
        "soon",
        "measurements.generations[1].expires: ",
    ),
    (
        "an image beside generations",
        azure,
        "measurements:\n",
        "image: v0.2.0\nmeasurements:\n",
        "image and components stand beside generations",
    ),
    (
        "a PCR left open",
        azure,
        "        12: {",
        "        14: {",
        "the policy says nothing about PCR 12",
    ),
    (
        "only a warning about the kernel",
        azure,
        ", warnOnly: false }\n        8:",
        ", warnOnly: true }\n        8:",
        "the policy only warns about PCR 4",
    ),
    (
        "the cluster mark",
        azure,
        "        8: {",
        "        15: {",
        "PCR 15 is the cluster mark",
    ),
    (
        "PCRs of a machine without a vTPM",
        tdx,
        "image: v0.2.0",
        "pcrs: { 4: { expected: a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1, warnOnly: false } }",
        "a tdx machine has no PCRs",
    ),
    (
        "a launch measurement of TDX",
        tdx,
        "      mrtd:",
        "      launch: { accepted: [e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5], warnOnly: true }\n      mrtd:",
        "a tdx machine has no launch measurement",
    ),
    (
        "only a warning about the launch",
        snp,
        "warnOnly: false",
        "warnOnly: true",
        "only warns about the launch measurement",
    ),
    (
        "a launch of nothing",
        snp,
        "c3c3c3c3c3c3c3c3c3c3c3c3c3c3c3c3c3c3c3c3c3c3c3c3c3c3c3c3c3c3c3c3c3c3c3c3c3c3c3c3c3c3c3c3c3c3c3c3",
        "000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000",
        "is what a register holds where nothing was measured",
    ),
    (
        "a TCB of zero",
        snp,
        "bootloader: 9, tee: 0, snp: 27, microcode: 84",
        "bootloader: 0, tee: 0, snp: 0, microcode: 0",
        "snp.products.Genoa.minimumTcb: is zero, which any firmware reaches",
    ),
    (
        "no product line",
        snp,
        "    Genoa:\n      minimumTcb: { bootloader: 9, tee: 0, snp: 27, microcode: 84 }",
        "    {}",
        "snp.products: no product line is accepted",
    ),
    (
        "an alias check that is required and optional",
        azure,
        "    required: [eccEnabled]\n",
        "    required: [aliasCheckComplete]\n    aliasCheckComplete: optional\n",
        "snp.platformInfo: aliasCheckComplete is both required and optional",
    ),
    (
        "an advisory that is tolerated and refused",
        tdx,
        "refusedAdvisories: [INTEL-SA-00828]",
        "refusedAdvisories: [INTEL-SA-00837]",
        "tdx.refusedAdvisories: INTEL-SA-00837 is both tolerated and refused",
    ),
    (
        "a chip without an id",
        azure,
        "d4d4d4d4d4d4d4d4d4d4d4d4d4d4d4d4d4d4d4d4d4d4d4d4d4d4d4d4d4d4d4d4d4d4d4d4d4d4d4d4d4d4d4d4d4d4d4d4d4d4d4d4d4d4d4d4d4d4d4d4d4d4d4d4",
        "00000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000",
        "is the id of no chip",
    ),
    (
        "no section for the hardware",
        snp,
        "snp:\n",
        "tdx:\n",
        "snp: missing",
    ),
    (
        "another hardware",
        vtpm,
        "image: v0.2.0\n",
        "tdx: { tcbStatuses: [UpToDate] }\n",
        "tdx: a qemu-vtpm machine has no such hardware",
    ),
    (
        "version 1 of a confidential machine",
        snp,
        "version: 2",
        "version: 1",
        "variant: sev-snp needs version 2 of the document",
    ),
    (
        "a key twice",
        azure,
        "  vmpl: 0\n",
        "  vmpl: 0\n  vmpl: 0\n",
        "duplicate mapping key",
    ),
    (
        "a key that is merged in",
        azure,
        "  vmpl: 0\n",
        "  <<: { vmpl: 0 }\n",
        "not readable as YAML",
    ),
    (
        "an alias",
        azure,
        "hostData: ",
        "hostData: *a # ",
        "not readable as YAML",
    ),
    (
        "not YAML",
        azure,
        "version: 2",
        "version: {",
        "not readable as YAML",
    ),
];

#[test]
fn bad_documents_are_told_with_the_place() {
    for (what, good, from, to, expected) in FORM.iter().chain(MEANING) {
        let good = good();
        let bad = good.replacen(from, to, 1);
        assert_ne!(good, bad, "{what}");
        let problems = match PolicyDocument::parse("p.yaml", &bad) {
            Ok(_) => panic!("{what}: accepted\n{bad}"),
            Err(problems) => problems.to_string(),
        };
        assert!(problems.contains(expected), "{what}: {problems}");
    }
}

#[test]
fn a_tdx_machine_is_not_judged_by_its_firmware_alone() {
    let rule = "does not enforce MRTD, RTMR 1 and RTMR 2";
    for (from, to) in [
        ("      mrtd: { accepted: [", "      launch: { accepted: ["),
        ("        1: { accepted", "        0: { accepted"),
    ] {
        let text = tdx();
        let text = text
            .replacen("        0: ", "        #", 1)
            .replacen(from, to, 1);
        let problems = PolicyDocument::parse("p", &text).unwrap_err().to_string();
        assert!(problems.contains(rule), "{problems}");
    }
    let last = tdx().replace("f6], warnOnly: false }\ntdx", "f6], warnOnly: true }\ntdx");
    assert_ne!(last, tdx());
    let problems = PolicyDocument::parse("p", &last).unwrap_err().to_string();
    assert!(problems.contains(rule), "{problems}");
}

#[test]
fn azure_needs_a_paravisor_that_is_known() {
    let text = azure();
    let start = text.find("  idKeyDigests").unwrap();
    let end = text.find("  hostData").unwrap();
    let without = format!("{}{}", &text[..start], &text[end..]);
    let rule = "accepts every paravisor";
    let problems = PolicyDocument::parse("p", &without)
        .unwrap_err()
        .to_string();
    assert!(problems.contains(rule), "{problems}");
    let warning = text.replace(
        "idKeyDigests: { accepted: [",
        "idKeyDigests: { warnOnly: true, accepted: [",
    );
    let warning = warning.replacen("], warnOnly: false }\n  hostData", "] }\n  hostData", 1);
    let problems = PolicyDocument::parse("p", &warning)
        .unwrap_err()
        .to_string();
    assert!(problems.contains(rule), "{problems}");
    // a launch measurement of each generation says which one it is as well
    let launch = format!(
        "      launch: {{ accepted: [{}], warnOnly: false }}\n",
        "c3".repeat(48)
    );
    let pinned = without.replace(
        "warnOnly: true }\n    - image: v0.1.0\n",
        &format!("warnOnly: false }}\n    - image: v0.1.0\n{launch}"),
    );
    read(&pinned);
}

#[test]
fn badram_is_left_open_by_name_only() {
    use attest::policy::snp::PlatformFlag;

    let of = |platform: &str| read(&format!("{}{platform}", snp()));
    let demands = |document: &PolicyDocument| {
        let snp = document.snp().unwrap();
        snp.platform().contains(&PlatformFlag::AliasCheckComplete)
    };
    let warned = |document: &PolicyDocument| {
        document
            .warnings(time(END))
            .iter()
            .any(|warning| warning.field == "snp.platformInfo.aliasCheckComplete")
    };
    for platform in [
        "",
        "  platformInfo: {}\n",
        "  platformInfo: { required: [] }\n",
        "  platformInfo: { required: [eccEnabled] }\n",
        "  platformInfo: { required: [aliasCheckComplete] }\n",
        "  platformInfo: { aliasCheckComplete: required }\n",
    ] {
        let document = of(platform);
        assert!(demands(&document) && !warned(&document), "{platform}");
    }
    let document = of("  platformInfo: { required: [eccEnabled], aliasCheckComplete: optional }\n");
    assert!(!demands(&document) && warned(&document));
    let json = document.to_json().unwrap();
    assert_eq!(read(&json), document, "{json}");
}

/// A policy for TDX machines of a cloud, with the registers of the newer and of the older generation.
fn cloud_tdx(machine: &str, newer: &str, older: &str) -> String {
    format!(
        "version: 2
variant: {machine}
presets: [intel-2026-10]
measurements:
  generations:
    - pcrs:
{0}{newer}    - expires: 2999-12-31T00:00:00Z
      pcrs:
{0}{older}tdx:
  tcbStatuses: [UpToDate]
",
        pcrs(8)
    )
}

fn register(name: &str, warn_only: bool) -> String {
    format!(
        "      {name}: {{ accepted: [{}], warnOnly: {warn_only} }}\n",
        "e5".repeat(48)
    )
}

#[test]
fn azure_needs_a_paravisor_that_is_known_on_tdx_as_well() {
    let (mrtd, warned) = (register("mrtd", false), register("mrtd", true));
    read(&cloud_tdx("azure-tdx", &mrtd, &mrtd));
    for (newer, older, place) in [
        ("", "", 0),
        ("", mrtd.as_str(), 0),
        (mrtd.as_str(), "", 1),
        (warned.as_str(), mrtd.as_str(), 0),
        (mrtd.as_str(), warned.as_str(), 1),
    ] {
        let text = cloud_tdx("azure-tdx", newer, older);
        let problems = PolicyDocument::parse("p", &text).unwrap_err().to_string();
        let rule = format!(
            "measurements.generations[{place}]: without an enforced MRTD a policy for azure-tdx machines accepts every paravisor"
        );
        assert!(problems.contains(&rule), "{problems}");
    }
    let flat = format!(
        "version: 2\nvariant: azure-tdx\nmeasurements:\n{}tdx: {{ tcbStatuses: [UpToDate] }}\n",
        pcrs(2)
    );
    let problems = PolicyDocument::parse("p", &flat).unwrap_err().to_string();
    assert!(problems.contains("accepts every paravisor"), "{problems}");
}

#[test]
fn a_trust_domain_of_google_that_is_not_pinned_is_warned_of() {
    let fields = |newer: &str, older: &str| -> Vec<String> {
        read(&cloud_tdx("gcp-tdx", newer, older))
            .warnings(time(END))
            .into_iter()
            .inspect(|warning| {
                assert!(warning.what.contains("RTMR 2"), "{}", warning.what);
            })
            .map(|warning| warning.field)
            .collect()
    };
    let value = |warn_only| {
        format!(
            "{{ accepted: [{}], warnOnly: {warn_only} }}",
            "f6".repeat(48)
        )
    };
    let mrtd = register("mrtd", false);
    let whole = format!("{mrtd}      rtmrs: {{ 1: {0}, 2: {0} }}\n", value(false));
    let half = format!("{mrtd}      rtmrs: {{ 1: {} }}\n", value(false));
    let warned = format!(
        "{mrtd}      rtmrs: {{ 1: {}, 2: {} }}\n",
        value(false),
        value(true)
    );
    let (newer, older) = ("measurements.generations[0]", "measurements.generations[1]");
    assert_eq!(fields(&whole, &whole), Vec::<String>::new());
    assert_eq!(fields("", &whole), [newer]);
    assert_eq!(fields(&whole, &half), [older]);
    assert_eq!(fields(&warned, &mrtd), [newer, older]);
}

#[test]
fn presets_that_leave_nothing_are_a_mistake() {
    let milan = azure().replace("[amd-2026-10]", "[amd-2026-10, amd-strict-2026-10]");
    let both = read(&milan).snp().unwrap();
    assert_eq!(both.products().len(), 1, "Milan is shut out");
    let start = milan.find("    Turin:").unwrap();
    let end = milan.find("  guestPolicy:").unwrap();
    let only = format!("{}{}", &milan[..start], &milan[end..]);
    let problems = PolicyDocument::parse("p", &only).unwrap_err().to_string();
    assert!(
        problems.contains("no machine is accepted: no product line is left"),
        "{problems}"
    );
    let tdx = tdx().replace("[UpToDate, SWHardeningNeeded]", "[OutOfDate]");
    let problems = PolicyDocument::parse("p", &tdx).unwrap_err().to_string();
    assert!(problems.contains("no TCB status is left"), "{problems}");
}

#[test]
fn a_policy_is_for_machines_this_release_appraises() {
    let policy = Policy::from_yaml(&vtpm()).unwrap();
    assert_eq!(policy.image_name(), Some("v0.2.0"));
    let error = Policy::from_yaml(&snp()).unwrap_err();
    assert_eq!(
        error.to_string(),
        "the policy is for machines that this release cannot appraise"
    );
}

fn time(text: &str) -> Timestamp {
    text.parse().unwrap()
}

const END: &str = "2026-12-31T00:00:00Z";

fn newer() -> Image {
    Image {
        version: "v0.2.0".to_owned(),
        initrd: b"the next initrd".to_vec(),
        ..Image::default()
    }
}

fn both() -> Policy {
    newer()
        .policy()
        .with_older(&Image::default().policy(), time(END))
        .unwrap()
}

fn judge(image: &Image, policy: &Policy, now: &str) -> Result<Verified, Refusal> {
    let evidence = SoftTpm::boot(image).issue(&binding()).unwrap();
    appraise_at(
        &evidence,
        &binding(),
        policy,
        &ClusterMark::NotJoined,
        time(now),
    )
}

#[test]
fn the_newest_generation_is_accepted_at_any_time() {
    for now in ["2026-01-01T00:00:00Z", "2030-01-01T00:00:00Z"] {
        let verified = judge(&newer(), &both(), now).unwrap();
        assert_eq!(verified.image_name(), Some("v0.2.0"));
        assert!(
            !verified
                .checks()
                .iter()
                .any(|check| check.name == CheckName::Generation)
        );
    }
}

#[test]
fn the_older_generation_is_accepted_until_its_end_and_not_then() {
    let verified = judge(&Image::default(), &both(), "2026-12-30T23:59:59Z").unwrap();
    assert_eq!(verified.image_name(), Some("v0.1.0"));
    let warning = verified
        .warnings()
        .find(|check| check.name == CheckName::Generation)
        .unwrap();
    assert_eq!(
        warning.actual.as_ref().unwrap().to_string(),
        format!("image v0.1.0, accepted until {END}")
    );
    for now in [END, "2030-01-01T00:00:00Z"] {
        let refusal = judge(&Image::default(), &both(), now).unwrap_err();
        let failed: Vec<_> = refusal.failed().map(|check| check.name).collect();
        assert!(
            failed.contains(&CheckName::Generation),
            "{now:?}: {refusal}"
        );
        assert!(
            failed.len() > 1,
            "what should have been booted is told: {refusal}"
        );
    }
}

#[test]
fn a_machine_of_neither_generation_is_compared_with_the_newer_one() {
    let other = Image {
        initrd: b"another initrd".to_vec(),
        ..Image::default()
    };
    let refusal = judge(&other, &both(), "2026-01-01T00:00:00Z").unwrap_err();
    assert!(refusal.to_string().contains("v0.2.0"), "{refusal}");
    assert!(
        !refusal
            .checks()
            .iter()
            .any(|check| check.name == CheckName::Generation)
    );
    assert!(
        refusal
            .failed()
            .all(|check| check.outcome == Outcome::Failed)
    );
}

#[test]
fn two_generations_round_trip_and_do_not_become_three() {
    let both = both();
    assert_eq!(Policy::from_json(both.to_json().as_bytes()).unwrap(), both);
    assert!(both.to_json().contains("\"version\": 2"));
    assert!(
        newer().policy().to_json().contains("\"version\": 1"),
        "older releases read it"
    );
    assert!(newer().policy().with_older(&both, time(END)).is_err());
    let ends: Vec<_> = [("2026-01-01T00:00:00Z", 2), (END, 1)]
        .map(|(now, alive)| (both.document().generations_at(time(now)).count(), alive))
        .into();
    assert!(ends.iter().all(|(is, must)| is == must), "{ends:?}");
}

#[test]
fn what_ends_soon_is_warned_of() {
    let document = read(&azure().replace("revocationList: warnOnly", "revocationList: enforced"));
    let fields = |now: &str| -> Vec<String> {
        document
            .warnings(time(now))
            .into_iter()
            .map(|warning| format!("{}: {}", warning.field, warning.what))
            .collect()
    };
    assert_eq!(fields("2026-12-01T00:00:00Z"), Vec::<String>::new());
    assert_eq!(
        fields("2026-12-20T00:00:00Z"),
        [format!(
            "measurements.generations[1].expires: the older generation ends soon, at {END}: machines of it will be refused"
        )]
    );
    assert_eq!(
        fields(END),
        [format!(
            "measurements.generations[1].expires: the older generation ended at {END} and is not accepted: remove it"
        )]
    );
    let none = read(&snp()).warnings(time(END));
    assert_eq!(none[0].field, "presets");
    let late = tdx()
        .replace("[UpToDate, SWHardeningNeeded]", "[UpToDate, OutOfDate]")
        .replace("presets: [intel-2026-10]\n", "");
    let late = read(&late).warnings(time(END));
    assert_eq!(late[0].field, "tdx.tcbStatuses");
}

#[test]
fn a_demand_on_lists_that_do_not_exist_yet_is_warned_of() {
    for (text, field, from) in [
        (
            azure().replace("revocationList: warnOnly", "revocationList: enforced"),
            "snp.revocationListsFrom",
            "2026-10-01T00:00:00Z",
        ),
        (tdx(), "tdx.revocationListsFrom", "2026-10-02T00:00:00Z"),
    ] {
        let document = read(&text);
        let is_warned = |now| {
            let warnings = document.warnings(now);
            warnings.iter().any(|warning| warning.field == field)
        };
        let from = time(from);
        assert!(!is_warned(from), "{field}");
        assert!(
            is_warned(from - jiff::SignedDuration::from_secs(1)),
            "{field}"
        );
    }
}

#[test]
fn a_demand_that_another_setting_makes_void_is_warned_of() {
    let is_warned = |text: &str, field: &str| {
        let warnings = read(text).warnings(time("2026-12-01T00:00:00Z"));
        warnings.iter().any(|warning| warning.field == field)
    };
    let lists = "snp.revocationListsFrom";
    assert!(is_warned(&azure(), lists));
    let enforced = azure().replace("revocationList: warnOnly", "revocationList: enforced");
    assert!(!is_warned(&enforced, lists));
    assert!(!is_warned(&snp(), lists), "nothing is demanded");

    let guest = "snp.minimumGuestSvn";
    assert!(!is_warned(&azure(), guest));
    let keys = |warn_only| format!("accepted: [{}], warnOnly: {warn_only} }}", "c3".repeat(48));
    let launch = azure()
        .replace(&format!("launch: {{ {}", keys(true)), &format!("launch: {{ {}", keys(false)))
        .replace("    - image: v0.1.0\n      expires: 2026-12-31T00:00:00Z\n", "    - image: v0.1.0\n      launch: { accepted: [LAUNCH], warnOnly: false }\n      expires: 2026-12-31T00:00:00Z\n")
        .replace("LAUNCH", &"c3".repeat(48));
    let only_warns = launch.replace(
        &format!("idKeyDigests: {{ {}", keys(false)),
        &format!("idKeyDigests: {{ {}", keys(true)),
    );
    assert_ne!(only_warns, launch);
    assert!(is_warned(&only_warns, guest));
    let none: String = launch
        .lines()
        .filter(|line| !line.contains("idKeyDigests"))
        .map(|line| format!("{line}\n"))
        .collect();
    assert!(is_warned(&none, guest));
    let no_svn = none.replace("  minimumGuestSvn: 4294967295\n", "");
    assert_ne!(no_svn, none);
    assert!(!is_warned(&no_svn, guest), "nothing is demanded");
}

#[test]
fn a_confidential_machine_of_google_that_is_not_pinned_is_warned_of() {
    let launch = |warn_only| {
        format!(
            "      launch: {{ accepted: [{}], warnOnly: {warn_only} }}\n",
            "c3".repeat(48)
        )
    };
    let fields_of = |what: &str, newer: &str, older: &str| -> Vec<String> {
        let text = format!(
            "version: 2
variant: gcp-sev-snp
measurements:
  generations:
    - pcrs:
{0}{newer}    - expires: 2999-12-31T00:00:00Z
      pcrs:
{0}{older}{LINE}",
            pcrs(8)
        );
        read(&text)
            .warnings(time(END))
            .into_iter()
            .filter(|warning| warning.what.contains(what))
            .map(|warning| warning.field)
            .collect()
    };
    let (pinned, warned) = (launch(false), launch(true));
    let [first, second] = [0, 1].map(|place| format!("measurements.generations[{place}]"));
    let fields = |newer: &str, older: &str| fields_of("any SEV-SNP machine", newer, older);
    assert_eq!(fields(&pinned, &pinned), Vec::<String>::new());
    assert_eq!(fields(&warned, &pinned), [first.clone()]);
    assert_eq!(fields("", &pinned), [first.clone()]);
    assert_eq!(fields(&pinned, &warned), [second.clone()]);
    assert_eq!(fields("", ""), [first, second]);
    // firmware of Google's starts any image
    for launch in [pinned.as_str(), ""] {
        let told = fields_of("TPM of the hypervisor", launch, launch);
        assert_eq!(told, ["measurements"]);
    }
}

#[test]
fn a_machine_without_registers_needs_its_launch_measurement() {
    let launch = format!(
        "    - launch: {{ accepted: [{}], warnOnly: false }}\n",
        "c3".repeat(48)
    );
    for (instead, rule) in [
        (
            "    - image: v0.1.0\n".to_owned(),
            "has no launch measurement, so any code would be accepted",
        ),
        (
            launch.replace("warnOnly: false", "warnOnly: true"),
            "only warns about the launch measurement, so any code would be accepted",
        ),
    ] {
        let text = snp().replace(&launch, &instead);
        assert_ne!(text, snp());
        let problems = PolicyDocument::parse("p", &text).unwrap_err().to_string();
        assert!(problems.contains(rule), "{problems}");
    }
}

#[test]
fn a_minimum_that_every_firmware_reaches_is_warned_of() {
    let is_warned = |text: &str| {
        let warnings = read(text).warnings(time("2026-12-01T00:00:00Z"));
        warnings.iter().any(|it| it.field == "snp.products.Milan")
    };
    assert!(!is_warned(&azure()));
    for (from, to) in [
        ("tee: 0, snp: 24,", "tee: 0, snp: 0,"),
        ("tee: 0, snp: 23,", "tee: 0, snp: 0,"),
    ] {
        let text = azure()
            .replace(from, to)
            .replace("presets: [amd-2026-10]\n", "");
        assert_ne!(text, azure());
        assert!(is_warned(&text), "{from}");
    }
}

/// An older generation may rest on what the older policy demands of the platform, and the newer one does not.
#[test]
fn an_older_generation_is_not_taken_over_without_what_makes_it_safe() {
    let policy = |text: &str| Policy::from_yaml(text).unwrap();
    let one = |generation: &str, snp: &str| {
        format!(
            "version: 2\nvariant: azure-sev-snp\nmeasurements:\n  generations:\n    - pcrs:\n{}{generation}{LINE}{snp}",
            pcrs(8)
        )
    };
    let value = |what: &str| {
        format!(
            "{what}: {{ accepted: [{}], warnOnly: false }}\n",
            "c3".repeat(48)
        )
    };
    let by_launch = policy(&one(&format!("      {}", value("launch")), ""));
    let by_keys = policy(&one("", &format!("  {}", value("idKeyDigests"))));
    let end = time(END);
    by_keys.clone().with_older(&by_launch, end).unwrap();
    let Err(attest::PolicyError::Document(problems)) = by_launch.with_older(&by_keys, end) else {
        panic!("a generation without launch measurement accepts every paravisor");
    };
    let problems = problems.to_string();
    assert!(problems.contains("every paravisor"), "{problems}");
}

#[test]
fn what_tells_releases_providers_and_lists_apart_is_explained() {
    use attest::policy::explain::explain;

    let lines = |text: &str| explain(&read(text)).platform;
    let (guest, vlek, lists) = (
        "guest SVN: at least 4294967295",
        "VLEK: of CN=cc-eu-west-1.amazonaws.com or CN=cc-us-east-2.amazonaws.com",
        "revocation lists: made at 2026-10-01T00:00:00Z or later, and an older one counts as none",
    );
    let all = lines(&azure());
    for line in [guest, vlek, lists] {
        assert!(all.contains(&line.to_owned()), "{line}: {all:?}");
    }
    let td_lists = lists.replace("10-01", "10-02");
    assert!(lines(&tdx()).contains(&td_lists));
    // what the policy leaves open is told as well, and a key that is not accepted needs no provider
    let open: String = azure()
        .lines()
        .filter(|line| {
            !["minimumGuestSvn", "vlekProviders", "revocationListsFrom"]
                .iter()
                .any(|field| line.contains(field))
        })
        .map(|line| format!("{line}\n"))
        .collect();
    let all = lines(&open);
    for line in [
        "guest SVN: every release of the identity key",
        "VLEK: of any provider, and a warning that names it",
    ] {
        assert!(all.contains(&line.to_owned()), "{line}: {all:?}");
    }
    assert!(!all.iter().any(|line| line.starts_with("revocation lists")));
    let vcek = lines(&azure().replace("signingKey: either", "signingKey: vcek"));
    assert!(
        !vcek.iter().any(|line| line.starts_with("VLEK")),
        "{vcek:?}"
    );
}

/// The example of the document that people read first.
#[test]
fn the_examples_of_the_document_are_policies() {
    let document = include_str!("../../../../docs/attestation.md");
    let mut read_ = 0;
    for block in document.split("```yaml\n").skip(1) {
        let text = block.split("```").next().unwrap();
        let parsed = if text.contains("attacks:") {
            attest::policy::Preset::parse("example", text).map(drop)
        } else {
            PolicyDocument::parse("example", text).map(drop)
        };
        parsed.unwrap_or_else(|problems| panic!("{problems}\n{text}"));
        read_ += 1;
    }
    assert!(read_ >= 3, "version 1, version 2, and a preset");
}
