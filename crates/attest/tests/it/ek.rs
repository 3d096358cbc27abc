//! Certificates of TPM makers, real and of a test's own maker, and the challenges that follow from them.

use std::collections::BTreeSet;
use std::path::PathBuf;

use attest::tpm::ek::{
    Challenge, ChallengeError, EkPublic, EndorsementKey, EndorsementKeyError, Enrolled, Purpose,
    Randomness, Roots, Template, TpmCertificate, Trust, WrongAnswer, appraise_certificate,
};
use attest::tpm::{BankValues, PublicArea, QualifyingData, Signature, Statement};
use attest::x509::{Certificate, Crl, Revocation};
use attest::{Findings, Outcome, PcrValues, RefusalCode};
use jiff::Timestamp;
use testkit::cloud::CloudTpm;
use testkit::maker::{EkParts, Maker};
use testkit::tee::{AK_ATTRIBUTES, PublicParts, tpm2b};

fn sample(path: &str) -> Vec<u8> {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR"))
        .join("testdata/evidence")
        .join(path);
    std::fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// A certificate of the samples, DER or PEM.
fn certificate(path: &str) -> Certificate {
    let bytes = sample(path);
    if path.ends_with(".pem") {
        let mut chain = Certificate::chain_from_pem(&bytes, 1).unwrap();
        chain.remove(0)
    } else {
        Certificate::parse(&bytes).unwrap()
    }
}

struct Sample {
    directory: &'static str,
    /// From the manifest.
    at: &'static str,
    purpose: Purpose,
    intermediates: &'static [&'static str],
    root: &'static str,
    /// The TPM it names, if it does.
    tpm: Option<&'static str>,
}

const GCP: &[&str] = &["roots/google/gcp-ek-ak-ca-intermediate-v3.der"];
const GCP_ROOT: &str = "roots/google/gcp-ek-ak-ca-root.der";
const STM: &[&str] = &[
    "tpm-ek/stm/rsa-ek/intermediate.pem",
    "tpm-ek/stm/rsa-ek/intermediate-2.pem",
];
const STM_TPM: Option<&str> = Some("STM (id:53544D20) ST33HTPHAHB4 version id:00490004");

const SAMPLES: [Sample; 8] = [
    Sample {
        directory: "tpm-ek/gcp/pca-rsa-enc",
        at: "2022-11-24T18:33:43Z",
        purpose: Purpose::Endorsement,
        intermediates: GCP,
        root: GCP_ROOT,
        tpm: None,
    },
    Sample {
        directory: "tpm-ek/gcp/pca-ecc-sign",
        at: "2022-11-24T18:33:43Z",
        purpose: Purpose::Attestation,
        intermediates: GCP,
        root: GCP_ROOT,
        tpm: None,
    },
    Sample {
        directory: "tpm-ek/gcp/uca-rsa-enc",
        at: "2022-10-08T20:28:50Z",
        purpose: Purpose::Endorsement,
        intermediates: &["roots/google/tpm-ek-v1-intermediate-3.der"],
        root: "roots/google/tpm-ek-v1-root.der",
        tpm: Some("GOOG (id:474F4F47) vTPM version id:20160511"),
    },
    Sample {
        directory: "tpm-ek/gcp/core-eso-ak",
        at: "2024-05-08T11:24:44Z",
        purpose: Purpose::Attestation,
        // two authorities of one name, the wrong one first
        intermediates: &[
            "tpm-ek/gcp/core-eso-ak/intermediate.der",
            "roots/google/gcp-ek-ak-ca-intermediate-v3.der",
        ],
        root: GCP_ROOT,
        tpm: None,
    },
    Sample {
        directory: "tpm-ek/stm/rsa-ek",
        at: "2018-07-12T00:00:00Z",
        purpose: Purpose::Endorsement,
        intermediates: STM,
        root: "tpm-ek/stm/rsa-ek/root.pem",
        tpm: STM_TPM,
    },
    Sample {
        directory: "tpm-ek/stm/rsa-ek-nv-padded",
        at: "2018-07-12T00:00:00Z",
        purpose: Purpose::Endorsement,
        intermediates: STM,
        root: "tpm-ek/stm/rsa-ek/root.pem",
        tpm: STM_TPM,
    },
    Sample {
        directory: "tpm-ek/infineon/rsa-ek-035",
        at: "2023-02-09T15:28:15Z",
        purpose: Purpose::Endorsement,
        intermediates: &["tpm-ek/infineon/rsa-ek-035/intermediate.der"],
        root: "tpm-ek/infineon/rsa-ek-035/root.pem",
        tpm: Some("IFX (id:49465800) SLB 9670 TPM2.0 version id:073f"),
    },
    Sample {
        directory: "tpm-ek/swtpm/rsa-ek",
        at: "2026-04-02T00:30:55Z",
        purpose: Purpose::Endorsement,
        intermediates: &["tpm-ek/swtpm/rsa-ek/issuer.pem"],
        root: "tpm-ek/swtpm/rsa-ek/root.pem",
        tpm: Some("(id:00001014) swtpm version id:20240125"),
    },
];

type Refused = (Option<RefusalCode>, Vec<String>);

fn outcome_of(findings: &Findings, name: &str) -> Option<Outcome> {
    let check = findings
        .checks()
        .iter()
        .find(|check| check.name.to_string() == name);
    check.map(|check| check.outcome)
}

fn verdict(
    area: &[u8],
    intermediates: &[Certificate],
    roots: Vec<Certificate>,
    purpose: Purpose,
    now: Timestamp,
) -> Result<TpmCertificate, Refused> {
    let mut findings = Findings::new();
    appraise_certificate(
        area,
        intermediates,
        &Roots::new(roots),
        &Revocation::DangerousNotLookedAt,
        purpose,
        now,
        &mut findings,
    )
    .map_err(|_| {
        // shown when the test fails
        eprintln!("{findings}");
        let failed = findings
            .checks()
            .iter()
            .filter(|check| check.outcome == Outcome::Failed)
            .map(|check| check.name.to_string());
        (findings.refusal_code(), failed.collect())
    })
}

impl Sample {
    fn area(&self) -> Vec<u8> {
        sample(&format!("{}/cert.der", self.directory))
    }

    fn verdict_of(&self, area: &[u8], purpose: Purpose) -> Result<TpmCertificate, Refused> {
        let intermediates: Vec<Certificate> = self
            .intermediates
            .iter()
            .map(|path| certificate(path))
            .collect();
        verdict(
            area,
            &intermediates,
            vec![certificate(self.root)],
            purpose,
            self.at.parse().unwrap(),
        )
    }
}

#[test]
fn every_sample_leads_to_its_makers_root() {
    for sample in &SAMPLES {
        let area = sample.area();
        let (leaf, _) = Certificate::parse_prefix(&area).unwrap();
        assert_eq!(Purpose::claimed_by(&leaf), Some(sample.purpose));
        let checked = sample
            .verdict_of(&area, sample.purpose)
            .unwrap_or_else(|refused| panic!("{}: {refused:?}", sample.directory));
        assert_eq!(
            checked.identity().map(ToString::to_string).as_deref(),
            sample.tpm,
            "{}",
            sample.directory
        );
    }
}

/// Google's newer certificates say nothing but what the key is for.
#[test]
fn a_certificate_that_names_no_tpm_is_accepted_with_a_warning() {
    for sample in &SAMPLES {
        let intermediates: Vec<Certificate> = sample
            .intermediates
            .iter()
            .map(|path| certificate(path))
            .collect();
        let mut findings = Findings::new();
        appraise_certificate(
            &sample.area(),
            &intermediates,
            &Roots::new(vec![certificate(sample.root)]),
            &Revocation::DangerousNotLookedAt,
            sample.purpose,
            sample.at.parse().unwrap(),
            &mut findings,
        )
        .unwrap();
        let warned = outcome_of(&findings, "TPM identity") == Some(Outcome::Warning);
        assert_eq!(warned, sample.tpm.is_none(), "{}", sample.directory);
    }
}

#[test]
fn a_certificate_for_the_other_purpose_is_refused() {
    for sample in &SAMPLES {
        let other = match sample.purpose {
            Purpose::Endorsement => Purpose::Attestation,
            Purpose::Attestation => Purpose::Endorsement,
        };
        let (code, names) = sample.verdict_of(&sample.area(), other).unwrap_err();
        assert_eq!(code, Some(RefusalCode::NotAuthentic));
        assert_eq!(
            names[0], "TPM certificate key usage",
            "{}",
            sample.directory
        );
    }
}

#[test]
fn another_makers_root_or_none_is_refused() {
    for sample in &SAMPLES {
        for roots in [vec![], vec![certificate("roots/aws/aws-nitro-root-g1.der")]] {
            let intermediates: Vec<Certificate> = sample
                .intermediates
                .iter()
                .map(|path| certificate(path))
                .collect();
            let (_, names) = verdict(
                &sample.area(),
                &intermediates,
                roots,
                sample.purpose,
                sample.at.parse().unwrap(),
            )
            .unwrap_err();
            assert_eq!(names, ["TPM certificate chain"], "{}", sample.directory);
        }
    }
}

#[test]
fn a_changed_certificate_is_refused() {
    for sample in &SAMPLES {
        let area = sample.area();
        let (leaf, padding) = Certificate::parse_prefix(&area).unwrap();
        let mut changed = leaf.der().to_vec();
        *changed.last_mut().unwrap() ^= 1;
        changed.extend_from_slice(padding);
        let (_, names) = sample.verdict_of(&changed, sample.purpose).unwrap_err();
        assert_eq!(names, ["TPM certificate chain"], "{}", sample.directory);
    }
}

/// What an NV area holds behind its certificate.
#[test]
fn padding_of_an_nv_area_is_cut_and_nothing_else() {
    let stm = &SAMPLES[4];
    let with = |padding: &[u8]| [&stm.area()[..], padding].concat();
    for padding in [&[][..], &[0xff; 431], &[0; 100]] {
        assert!(stm.verdict_of(&with(padding), stm.purpose).is_ok());
    }
    for padding in [&[0xff, 0x00][..], &[0x30, 0x00], &[0xff; 8 * 1024]] {
        let (code, names) = stm.verdict_of(&with(padding), stm.purpose).unwrap_err();
        assert_eq!(code, Some(RefusalCode::Malformed));
        assert_eq!(names, ["TPM certificate format"]);
    }
}

/// The set of its name is out of DER's order. It is genuine, so it can be a root, if somebody wants it.
#[test]
fn the_root_of_nuvoton_with_its_name_out_of_order_is_read() {
    let root = certificate("tpm-ek/nuvoton/root-2110-bad-set-order/cert.der");
    assert_eq!(
        root.subject().common_name(),
        Some("Nuvoton TPM Root CA 2110")
    );
    assert!(root.is_ca());
}

// ---- a maker of this test's own

const NOW: &str = "2026-06-01T00:00:00Z";

fn issued(maker: &Maker, parts: &EkParts) -> Result<TpmCertificate, Refused> {
    verdict(
        &maker.issue(parts).unwrap(),
        &[Certificate::parse(&maker.authority).unwrap()],
        vec![Certificate::parse(&maker.root).unwrap()],
        Purpose::Endorsement,
        NOW.parse().unwrap(),
    )
}

type Change<'a> = &'a dyn Fn(&mut EkParts);

#[test]
fn what_a_certificate_says_of_itself_decides() {
    use testkit::maker::KeyUsagePurpose as Usage;
    let maker = Maker::new().unwrap();
    let with = |change: Change<'_>| {
        let mut parts = EkParts::default();
        change(&mut parts);
        issued(&maker, &parts)
    };
    assert_eq!(
        with(&|_| {}).unwrap().identity().unwrap().to_string(),
        "TEST (id:54455354) test TPM version id:00010002"
    );
    // older and simpler certificates say less
    assert!(with(&|parts| parts.extended = vec![]).is_ok());
    assert!(with(&|parts| parts.extended = vec![vec![2, 5, 29, 37, 0]]).is_ok());
    assert!(with(&|parts| parts.family = None).is_ok());
    assert!(
        with(&|parts| parts.identity = [None; 3])
            .unwrap()
            .identity()
            .is_none()
    );
    assert!(with(&|parts| parts.key_usages = vec![Usage::KeyEncipherment]).is_ok());

    let usage = "TPM certificate key usage";
    let refusals: [(Change<'_>, &str); 10] = [
        (&|parts| parts.key_usages = vec![], usage),
        (
            &|parts| parts.key_usages = vec![Usage::KeyAgreement, Usage::DigitalSignature],
            usage,
        ),
        (
            &|parts| parts.key_usages = vec![Usage::KeyAgreement, Usage::CrlSign],
            usage,
        ),
        (
            &|parts| parts.key_usages = vec![Usage::KeyAgreement, Usage::KeyCertSign],
            usage,
        ),
        (
            &|parts| parts.extended = vec![vec![2, 23, 133, 8, 3]],
            "TPM certificate extended key usage",
        ),
        (&|parts| parts.family = Some("1.2"), "TPM specification"),
        (
            &|parts| parts.identity = [Some("id:54455354"), None, Some("id:0")],
            "TPM certificate format",
        ),
        (
            &|parts| parts.identity = [None, Some("model"), Some("id:0")],
            "TPM certificate format",
        ),
        (&|parts| parts.is_ca = true, "TPM certificate chain"),
        (
            &|parts| parts.unknown_critical = true,
            "TPM certificate chain",
        ),
    ];
    for (number, (change, name)) in refusals.into_iter().enumerate() {
        let (_, names) = with(change).unwrap_err();
        assert_eq!(names, [name], "refusal {number}");
    }
}

#[test]
fn a_certificate_is_valid_at_its_time_only() {
    let maker = Maker::new().unwrap();
    let area = maker.issue(&EkParts::default()).unwrap();
    for now in ["2024-12-31T23:59:59Z", "2036-01-01T00:00:00Z"] {
        let (_, names) = verdict(
            &area,
            &[Certificate::parse(&maker.authority).unwrap()],
            vec![Certificate::parse(&maker.root).unwrap()],
            Purpose::Endorsement,
            now.parse().unwrap(),
        )
        .unwrap_err();
        assert_eq!(names, ["TPM certificate chain"]);
    }
}

/// Makers publish lists about their authorities, and few about their TPMs.
#[test]
fn lists_about_authorities_are_demanded_and_a_missing_one_about_the_tpm_warns() {
    let maker = Maker::new().unwrap();
    let area = maker.issue(&EkParts::default()).unwrap();
    let authority = Certificate::parse(&maker.authority).unwrap();
    let leaf = Certificate::parse(&area).unwrap();
    let outcome = |revocation: &Revocation<'_>| {
        let mut findings = Findings::new();
        let appraised = appraise_certificate(
            &area,
            std::slice::from_ref(&authority),
            &Roots::new(vec![Certificate::parse(&maker.root).unwrap()]),
            revocation,
            Purpose::Endorsement,
            NOW.parse().unwrap(),
            &mut findings,
        );
        assert_eq!(appraised.is_ok(), findings.refusal_code().is_none());
        if appraised.is_err() {
            return Err(findings.checks().last().unwrap().name.to_string());
        }
        Ok(outcome_of(&findings, "TPM certificate revocation"))
    };
    let root = |serials: &[&[u8]]| Crl::parse(&maker.root_crl(serials).unwrap()).unwrap();
    let below = |serials: &[&[u8]]| Crl::parse(&maker.authority_crl(serials).unwrap()).unwrap();
    let demanded = |crls: &[Crl]| outcome(&Revocation::Demand(crls));

    assert_eq!(
        outcome(&Revocation::DangerousNotLookedAt),
        Ok(Some(Outcome::Warning))
    );
    assert_eq!(demanded(&[root(&[])]), Ok(Some(Outcome::Warning)));
    assert_eq!(
        demanded(&[root(&[]), below(&[])]),
        Ok(Some(Outcome::Passed))
    );
    let refused = Err("TPM certificate chain".to_owned());
    assert_eq!(demanded(&[]), refused);
    assert_eq!(demanded(&[below(&[])]), refused);
    assert_eq!(demanded(&[root(&[authority.serial()])]), refused);
    assert_eq!(demanded(&[root(&[]), below(&[leaf.serial()])]), refused);
}

// ---- keys and challenges; against a real TPM: `crates/tee/tests/it/activation.rs`

fn ak(attributes: u32) -> PublicArea {
    let parts = PublicParts {
        attributes,
        curve: 0x0003,
        scheme: (0x0018, 0x000b),
        symmetric: 0x0010,
        point: (vec![1; 32], vec![2; 32]),
    };
    PublicArea::parse(&parts.to_tpm2b()).unwrap()
}

fn randomness() -> Randomness {
    Randomness::new([5; Randomness::LENGTH])
}

fn maker_key(template: Template) -> Result<EndorsementKey, EndorsementKeyError> {
    let checked = issued(&Maker::new().unwrap(), &EkParts::default()).unwrap();
    EndorsementKey::from_certificate(&checked, template)
}

#[test]
fn a_template_makes_the_kind_of_key_that_is_certified() {
    let rsa = SAMPLES[6]
        .verdict_of(&SAMPLES[6].area(), Purpose::Endorsement)
        .unwrap();
    for template in Template::ALL {
        let is_rsa_2048 = matches!(template, Template::L1 | Template::H1);
        let is_p256 = matches!(template, Template::L2 | Template::H2);
        assert_eq!(
            EndorsementKey::from_certificate(&rsa, template).is_ok(),
            is_rsa_2048
        );
        assert_eq!(maker_key(template).is_ok(), is_p256);
    }
    let ak = SAMPLES[3]
        .verdict_of(&SAMPLES[3].area(), Purpose::Attestation)
        .unwrap();
    assert_eq!(
        EndorsementKey::from_certificate(&ak, Template::L1).unwrap_err(),
        EndorsementKeyError::Purpose
    );
}

#[test]
fn only_the_secret_answers_a_challenge() {
    let ek = maker_key(Template::L2).unwrap();
    let challenge = || Challenge::new(&ek, ak(AK_ATTRIBUTES), randomness()).unwrap();
    let activated = challenge().answer(&[5; 32]).unwrap();
    assert_eq!(activated.public_area(), &ak(AK_ATTRIBUTES));
    assert_eq!(activated.ek_id(), ek.id());
    assert_eq!(activated.trust(), Trust::Maker);
    for wrong in [&[][..], &[5; 31], &[5; 33], &[4; 32], &[0; 32]] {
        assert_eq!(challenge().answer(wrong).unwrap_err(), WrongAnswer);
    }
}

/// A key of [`CloudTpm`], as its TPM would describe it.
fn rsa_ak(scheme: u16, modulus: &[u8]) -> PublicArea {
    let mut area = vec![0x00, 0x01, 0x00, 0x0b]; // RSA, named by SHA-256
    area.extend(AK_ATTRIBUTES.to_be_bytes());
    area.extend(tpm2b(&[])); // no policy
    for number in [0x0010, scheme, 0x000b, 2048] {
        area.extend(u16::to_be_bytes(number));
    }
    area.extend([0; 4]); // the default exponent
    area.extend(tpm2b(modulus));
    PublicArea::parse(&tpm2b(&area)).unwrap()
}

#[test]
fn an_activated_key_is_trusted_in_its_own_scheme_only() {
    let ek = maker_key(Template::L2).unwrap();
    let tpm = CloudTpm::new();
    let quoted = tpm.quote(b"nonce", &BankValues::from(&PcrValues::at_reset()));
    // the TPM signs with RSASSA
    for (scheme, holds) in [(0x0014, true), (0x0016, false)] {
        let challenge = Challenge::new(&ek, rsa_ak(scheme, &tpm.modulus()), randomness()).unwrap();
        let activated = challenge.answer(&[5; 32]).unwrap();
        let id = activated.public_area().id();
        let ak = activated.trusted();
        assert_eq!(ak.id(), id);
        assert_eq!(ak.origin(), "of a TPM that its maker certifies");
        let mut findings = Findings::new();
        let signed = ak.signed_quote(
            Statement::parse_bare(&quoted.statement),
            Signature::parse(&quoted.signature),
            &QualifyingData::of_nonce(b"nonce").unwrap(),
            &mut findings,
        );
        assert_eq!(signed.is_ok(), holds, "{findings}");
        let expected = if holds {
            Outcome::Passed
        } else {
            Outcome::Failed
        };
        assert_eq!(outcome_of(&findings, "signature"), Some(expected));
    }
}

#[test]
fn a_challenge_does_not_print_its_secret() {
    let ek = maker_key(Template::L2).unwrap();
    let challenge = Challenge::new(&ek, ak(AK_ATTRIBUTES), randomness()).unwrap();
    let printed = format!("{challenge:?} {:?}", randomness());
    assert!(!printed.contains("5, 5"), "{printed}");
    assert!(!printed.contains("0505"), "{printed}");
    assert!(printed.ends_with("Randomness(..)"), "{printed}");
}

#[test]
fn a_key_that_signs_what_others_composed_is_not_challenged() {
    let ek = maker_key(Template::L2).unwrap();
    // without fixedTPM, fixedParent, sensitiveDataOrigin, restricted; with decrypt
    for attributes in [
        AK_ATTRIBUTES & !(1 << 1),
        AK_ATTRIBUTES & !(1 << 4),
        AK_ATTRIBUTES & !(1 << 5),
        AK_ATTRIBUTES & !(1 << 16),
        AK_ATTRIBUTES | 1 << 17,
    ] {
        let refused = Challenge::new(&ek, ak(attributes), randomness()).unwrap_err();
        assert!(matches!(refused, ChallengeError::Attributes { .. }));
    }
}

#[test]
fn random_bytes_that_are_no_number_of_the_curve_are_told() {
    let ek = maker_key(Template::L2).unwrap();
    for byte in [0x00, 0xff] {
        let randomness = Randomness::new([byte; Randomness::LENGTH]);
        assert_eq!(
            Challenge::new(&ek, ak(AK_ATTRIBUTES), randomness).unwrap_err(),
            ChallengeError::Randomness
        );
    }
}

/// A public area as a TPM makes it: the template with the key in its place.
fn rsa_ek(attributes: Option<u32>) -> Vec<u8> {
    let mut area = Template::L1.public_area();
    if let Some(attributes) = attributes {
        area[4..8].copy_from_slice(&attributes.to_be_bytes());
    }
    let modulus = area.len() - 256;
    area[modulus..].fill(0xc1);
    tpm2b(&area)
}

#[test]
fn an_enrolled_key_is_admitted_and_no_other() {
    let key = || EkPublic::parse(&rsa_ek(None)).unwrap();
    let enrolled = Enrolled::new(BTreeSet::from([key().name().clone()]));
    let ek = enrolled.admit(key()).unwrap();
    assert_eq!(ek.trust(), Trust::Enrolled);
    assert!(Enrolled::default().admit(key()).is_err());
    // the same key with userWithAuth: another name
    let other = EkPublic::parse(&rsa_ek(Some(0x0003_00f2))).unwrap();
    assert_ne!(other.name(), key().name());
    assert!(enrolled.admit(other).is_err());
}

#[test]
fn a_key_that_can_leave_its_tpm_or_sign_is_no_endorsement_key() {
    let truth = 0x0003_00b2;
    assert!(EkPublic::parse(&rsa_ek(Some(truth))).is_ok());
    // fixedTPM, fixedParent, sensitiveDataOrigin, restricted, decrypt; sign
    for bit in [1, 4, 5, 16, 17, 18] {
        assert!(
            EkPublic::parse(&rsa_ek(Some(truth ^ 1 << bit))).is_err(),
            "{bit}"
        );
    }
    let whole = rsa_ek(None);
    for length in 0..whole.len() {
        assert!(EkPublic::parse(&whole[..length]).is_err(), "{length}");
    }
    assert!(EkPublic::parse(&[whole, vec![0]].concat()).is_err());
}
