//! Certificates of attestation keys: real ones in a wrong place, and ones of an authority of our own.

use attest::azure::{self, trusted_launch_ak};
use attest::gcp::{
    self, Accepted, CertifiedInstance, InstanceInfo, InstanceInfoError, InstanceRequirements,
    NothingAccepted,
};
use attest::tpm::{
    AkAuthorities, BankValues, EndorsedAk, HashAlgorithm, PcrValue, PublicArea, PublicKey,
    Selection,
};
use attest::x509::{Certificate, Crl, Revocation};
use attest::{Binding, Findings, PcrIndex, RefusalCode, Stop};
use jiff::Timestamp;
use testkit::cloud::{AkCertificate, Authority, CloudTpm, InstanceParts};
use testkit::tee::{SoftTpm, tpm2b};

use super::{Quote, accepted, assert_refused, at, evidence, has, time};

const TRUSTED_LAUNCH: &str = "azure-vtpm/aicert/trusted-launch-2024";
/// Under "EK/AK CA".
const NEW: &str = "tpm-ek/gcp/core-eso-ak";
/// Under "tpm_ek_v1_cloud_host".
const OLD: &str = "gcp-vtpm/go-tpm-tools/gce-cos-85-sha256";

fn azure_ak(
    certificate: &[u8],
    now: Timestamp,
    authorities: &AkAuthorities,
) -> (Result<EndorsedAk, Stop>, Findings) {
    let mut findings = Findings::new();
    let result = trusted_launch_ak(
        certificate,
        &[],
        authorities,
        &Revocation::DangerousNotLookedAt,
        now,
        &mut findings,
    );
    (result, findings)
}

fn gcp_ak(
    certificate: &[u8],
    now: Timestamp,
    authorities: &AkAuthorities,
    requirements: &InstanceRequirements,
) -> (Result<CertifiedInstance, Stop>, Findings) {
    let mut findings = Findings::new();
    let result = gcp::ak(
        certificate,
        &[],
        authorities,
        &Revocation::DangerousNotLookedAt,
        requirements,
        now,
        &mut findings,
    );
    (result, findings)
}

fn trusted_launch() -> Vec<u8> {
    evidence(format!("{TRUSTED_LAUNCH}/akcert.der"))
}

fn any() -> InstanceRequirements {
    InstanceRequirements::of_any_tenant()
}

#[test]
fn a_real_certificate_is_good_in_its_time_and_at_its_vendor_only() {
    let azure = azure::authorities();
    let (result, findings) = azure_ak(&trusted_launch(), at(TRUSTED_LAUNCH), &azure);
    accepted(result, &findings);
    for now in ["2024-04-19T23:59:59Z", "2025-10-30T00:00:01Z"] {
        let (result, findings) = azure_ak(&trusted_launch(), time(now), &azure);
        assert_refused(&result, &findings, &["AK certificate chain"]);
        assert_eq!(findings.refusal_code(), Some(RefusalCode::NotAuthentic));
    }
    let google = gcp::authorities();
    let (result, findings) = azure_ak(&trusted_launch(), at(TRUSTED_LAUNCH), &google);
    assert_refused(&result, &findings, &["AK certificate chain"]);
    let (result, findings) = gcp_ak(&trusted_launch(), at(TRUSTED_LAUNCH), &google, &any());
    assert_refused(&result, &findings, &["AK certificate chain"]);
    // the root that a peer sends along is nobody's
    let pem = evidence(format!("{TRUSTED_LAUNCH}/ak-root.pem"));
    let mut chain = Certificate::chain_from_pem(&pem, 1).unwrap();
    let pem = evidence(format!("{TRUSTED_LAUNCH}/ak-intermediate.pem"));
    chain.extend(Certificate::chain_from_pem(&pem, 1).unwrap());
    let mut findings = Findings::new();
    let result = trusted_launch_ak(
        &trusted_launch(),
        &chain,
        &google,
        &Revocation::DangerousNotLookedAt,
        at(TRUSTED_LAUNCH),
        &mut findings,
    );
    assert_refused(&result, &findings, &["AK certificate chain"]);
}

#[test]
fn a_changed_real_certificate_is_refused() {
    let truth = trusted_launch();
    // in the key, and in the signature
    for from_end in [600, 10] {
        let mut changed = truth.clone();
        let at_byte = changed.len() - from_end;
        changed[at_byte] ^= 1;
        let (result, findings) = azure_ak(&changed, at(TRUSTED_LAUNCH), &azure::authorities());
        assert_refused(&result, &findings, &["AK certificate chain"]);
    }
    let (result, findings) = azure_ak(&truth[1..], at(TRUSTED_LAUNCH), &azure::authorities());
    assert_refused(&result, &findings, &["AK certificate format"]);
    assert_eq!(findings.refusal_code(), Some(RefusalCode::Malformed));
}

#[test]
fn a_certificate_may_have_the_padding_of_its_nv_index() {
    let azure = azure::authorities();
    let padded = [trusted_launch(), vec![0; 3000]].concat();
    let (result, findings) = azure_ak(&padded, at(TRUSTED_LAUNCH), &azure);
    accepted(result, &findings);
    let mut other = padded;
    *other.last_mut().unwrap() = 1;
    let (result, findings) = azure_ak(&other, at(TRUSTED_LAUNCH), &azure);
    assert_refused(&result, &findings, &["AK certificate padding"]);
}

/// Real certificates of endorsement keys, under the same authorities.
#[test]
fn an_endorsement_key_is_no_attestation_key() {
    for id in ["tpm-ek/gcp/pca-rsa-enc", "tpm-ek/gcp/uca-rsa-enc"] {
        let certificate = evidence(format!("{id}/cert.der"));
        let (result, findings) = gcp_ak(&certificate, at(id), &gcp::authorities(), &any());
        assert_refused(&result, &findings, &["AK certificate purpose"]);
    }
}

/// A key that decrypts as well, or agrees on secrets, is no key for statements only.
#[test]
fn an_attestation_key_signs_and_does_nothing_else() {
    use crate::x509::ca;

    let root = ca::Authority::root("Azure");
    let authorities = AkAuthorities::of(vec![root.certificate.clone()]);
    let purpose = ca::seq(&[&ca::oid("2.23.133.8.3")]);
    // digitalSignature, keyEncipherment, keyAgreement
    for (usage, is_good) in [
        (Some(0x80), true),
        (Some(0xa0), false),
        (Some(0x88), false),
        (Some(0xa8), false),
        (Some(0x20), false),
        (Some(0x40), false),
        (None, false),
    ] {
        let mut extensions = vec![
            ca::basic_constraints(false, None),
            ca::Extension {
                oid: "2.5.29.37",
                critical: false,
                value: purpose.clone(),
            },
        ];
        extensions.extend(usage.map(ca::key_usage));
        let template = ca::Template {
            extensions,
            ..ca::Template::leaf("")
        };
        let (result, findings) = azure_ak(&root.leaf_der(&template), ca::now(), &authorities);
        if is_good {
            accepted(result, &findings);
        } else {
            assert_refused(&result, &findings, &["AK certificate purpose"]);
        }
    }
}

/// A real certificate that leads to the root that is asked for, and is not of the kind that Azure issues.
#[test]
fn azures_certificates_have_a_purpose() {
    let id = "tpm-ek/gcp/pca-ecc-sign";
    let certificate = evidence(format!("{id}/cert.der"));
    let (result, findings) = azure_ak(&certificate, at(id), &gcp::authorities());
    assert_refused(&result, &findings, &["AK certificate purpose"]);
}

#[test]
fn real_certificates_name_their_instances() {
    let google = gcp::authorities();
    let rows = [
        (
            "tpm-ek/gcp/core-eso-ak",
            "us-central1-a",
            "core-eso",
            995_081_019_036_u64,
            "instance-1",
        ),
        (
            "tpm-ek/gcp/pca-ecc-sign",
            "us-central1-a",
            "google.com:wuale-gcp-testing",
            117_478_743_145,
            "cs-debug-pca",
        ),
        (
            OLD,
            "us-central1-a",
            "google.com:wuale-gcp-testing",
            117_478_743_145,
            "cos-test",
        ),
    ];
    for (id, zone, project, number, instance) in rows {
        let file = if has(id, "cert.der") {
            "cert.der"
        } else {
            "akcert.der"
        };
        let certificate = evidence(format!("{id}/{file}"));
        let (result, findings) = gcp_ak(&certificate, at(id), &google, &any());
        let info = accepted(result, &findings).info().clone();
        assert_eq!(
            (&*info.zone, &*info.project_id, &*info.instance_name),
            (zone, project, instance),
            "{id}"
        );
        assert_eq!(info.project_number, number, "{id}");
        // the newer hierarchy has the id in the subject too
        let certificate = Certificate::parse(&certificate).unwrap();
        if let Some(name) = certificate.subject().common_name() {
            assert_eq!(info.instance_id.to_string(), name, "{id}");
        }
        assert!(info.is_production, "{id}");
    }
}

#[test]
fn a_real_instance_must_be_the_demanded_one() {
    let google = gcp::authorities();
    let certificate = evidence(format!("{NEW}/cert.der"));
    let run =
        |requirements: &InstanceRequirements| gcp_ak(&certificate, at(NEW), &google, requirements);
    let text = |value: &str| Accepted::new([value.to_owned()]).unwrap();
    let number = |value: u64| Accepted::new([value]).unwrap();
    let truth = || {
        InstanceRequirements::of_projects(text("core-eso"))
            .numbered(number(995_081_019_036))
            .in_zones(text("us-central1-a"))
            .instances(number(6_524_697_943_022_743_941))
    };
    let (result, findings) = run(&truth());
    accepted(result, &findings);
    let several = Accepted::new(["another".to_owned(), "core-eso".to_owned()]).unwrap();
    let (result, findings) = run(&InstanceRequirements::of_projects(several));
    accepted(result, &findings);

    for (requirements, name) in [
        (
            InstanceRequirements::of_projects(text("core-es")),
            "Google Cloud project",
        ),
        (truth().numbered(number(1)), "Google Cloud project"),
        (any().numbered(number(1)), "Google Cloud project"),
        (truth().in_zones(text("us-central1-b")), "Google Cloud zone"),
        (truth().instances(number(1)), "Compute Engine instance"),
    ] {
        let (result, findings) = run(&requirements);
        assert_refused(&result, &findings, &[name]);
        assert_eq!(findings.refusal_code(), Some(RefusalCode::Platform));
    }
    // all at once
    let elsewhere = InstanceRequirements::of_projects(text("mine"))
        .in_zones(text("here"))
        .instances(number(1));
    let (result, findings) = run(&elsewhere);
    assert_refused(
        &result,
        &findings,
        &[
            "Google Cloud project",
            "Google Cloud zone",
            "Compute Engine instance",
        ],
    );
    assert_eq!(Accepted::<u64>::new([]), Err(NothingAccepted));
    // whoever accepts any project is told so
    let (_, findings) = run(&any());
    let warned = crate::named(findings.checks(), attest::Outcome::Warning);
    assert!(warned.contains(&"Google Cloud project".to_owned()));
}

fn ours(authority: &Authority) -> AkAuthorities {
    AkAuthorities::of(vec![authority.root()])
}

const NOW: &str = "2026-06-01T00:00:00Z";

/// Under an authority of our own; with its intermediate, or without.
fn certified(
    authority: &Authority,
    certificate: &[u8],
    revocation: &Revocation<'_>,
    requirements: &InstanceRequirements,
) -> (Result<CertifiedInstance, Stop>, Findings) {
    let mut findings = Findings::new();
    let result = gcp::ak(
        certificate,
        &[authority.intermediate()],
        &ours(authority),
        revocation,
        requirements,
        time(NOW),
        &mut findings,
    );
    (result, findings)
}

#[test]
fn certificates_of_test_roots_are_good_under_them_only() {
    let tpm = CloudTpm::new();
    let azure = Authority::new("Azure Virtual TPM Root Certificate Authority 2023");
    let certificate = azure.certify(&tpm, &AkCertificate::azure());
    let verify = |authorities: &AkAuthorities, intermediates: &[Certificate]| {
        let mut findings = Findings::new();
        let result = trusted_launch_ak(
            &certificate,
            intermediates,
            authorities,
            &Revocation::DangerousNotLookedAt,
            time(NOW),
            &mut findings,
        );
        (result, findings)
    };
    let chain = [azure.intermediate()];
    let (result, findings) = verify(&ours(&azure), &chain);
    let ak = accepted(result, &findings);
    assert_eq!(ak.key(), &PublicKey::rsa(&tpm.modulus(), 0).unwrap());
    let (result, findings) = verify(&ours(&azure), &[]);
    assert_refused(&result, &findings, &["AK certificate chain"]);
    let with_root = [azure.intermediate(), azure.root()];
    let (result, findings) = verify(&azure::authorities(), &with_root);
    assert_refused(&result, &findings, &["AK certificate chain"]);

    let google = Authority::new("EK/AK CA Root");
    let parts = AkCertificate::google(&InstanceParts::default());
    let certificate = google.certify(&tpm, &parts);
    let revocation = Revocation::DangerousNotLookedAt;
    let (result, findings) = certified(&google, &certificate, &revocation, &any());
    let instance = accepted(result, &findings);
    assert_eq!(instance.info().instance_id, 0xf123_4567_89ab_cdef);
    assert_eq!(instance.key(), ak.key());
    let mut findings = Findings::new();
    let result = gcp::ak(
        &certificate,
        &[google.intermediate(), google.root()],
        &gcp::authorities(),
        &revocation,
        &any(),
        time(NOW),
        &mut findings,
    );
    assert_refused(&result, &findings, &["AK certificate chain"]);
}

#[test]
fn certificates_that_google_does_not_make_are_refused() {
    let tpm = CloudTpm::new();
    let google = Authority::new("a test's EK/AK CA");
    let truth = || AkCertificate::google(&InstanceParts::default());
    let run = |parts: &AkCertificate| {
        let certificate = google.certify(&tpm, parts);
        certified(
            &google,
            &certificate,
            &Revocation::DangerousNotLookedAt,
            &any(),
        )
    };
    let environment = |is_production| {
        AkCertificate::google(&InstanceParts {
            is_production,
            ..InstanceParts::default()
        })
    };
    let rows = [
        (
            AkCertificate {
                is_signing: false,
                ..truth()
            },
            "AK certificate purpose",
        ),
        (
            AkCertificate {
                exponent: [1, 0, 3],
                ..truth()
            },
            "certified key",
        ),
        (
            AkCertificate {
                instance: None,
                ..truth()
            },
            "instance information",
        ),
        (
            AkCertificate {
                instance: Some(vec![0x30, 0]),
                ..truth()
            },
            "instance information",
        ),
        (environment(Some(false)), "production environment"),
        (environment(None), "production environment"),
        (
            AkCertificate {
                from_year: 2027,
                ..truth()
            },
            "AK certificate chain",
        ),
    ];
    for (parts, name) in rows {
        let (result, findings) = run(&parts);
        assert_refused(&result, &findings, &[name]);
    }
}

#[test]
fn a_revoked_authority_certifies_nothing() {
    let tpm = CloudTpm::new();
    let google = Authority::new("a test's EK/AK CA");
    let certificate = google.certify(&tpm, &AkCertificate::google(&InstanceParts::default()));
    let run = |lists: &[Crl]| certified(&google, &certificate, &Revocation::Demand(lists), &any());
    let list = |revoked: &[&[u8]]| Crl::parse(&google.crl(revoked)).unwrap();
    let (result, findings) = run(&[list(&[])]);
    accepted(result, &findings);
    let warned = crate::named(findings.checks(), attest::Outcome::Warning);
    assert_eq!(warned, ["Google Cloud project"]);
    let intermediate = google.intermediate();
    let (result, findings) = run(&[list(&[intermediate.serial()])]);
    assert_refused(&result, &findings, &["AK certificate chain"]);
    let (result, findings) = run(&[]);
    assert_refused(&result, &findings, &["AK certificate chain"]);
    // who looks at no list is told so
    let (result, findings) = certified(
        &google,
        &certificate,
        &Revocation::DangerousNotLookedAt,
        &any(),
    );
    accepted(result, &findings);
    let warned = crate::named(findings.checks(), attest::Outcome::Warning);
    assert!(warned.contains(&"AK certificate revocation".to_owned()));
}

/// Whether every list that a certificate names is published is not known, so the one about the key itself is not demanded. That it is not there is said.
#[test]
fn a_list_of_keys_that_is_named_and_not_there_is_told() {
    let tpm = CloudTpm::new();
    let google = Authority::new("a test's EK/AK CA");
    let parts = AkCertificate {
        crl_url: Some("http://example.com/keys.crl".to_owned()),
        ..AkCertificate::google(&InstanceParts::default())
    };
    let certificate = google.certify(&tpm, &parts);
    let (parsed, _) = Certificate::parse_prefix(&certificate).unwrap();
    let list = |der: &[u8]| Crl::parse(der).unwrap();
    let of_authorities = list(&google.crl(&[]));
    let run = |lists: &[Crl]| certified(&google, &certificate, &Revocation::Demand(lists), &any());
    let told = |lists: &[Crl]| {
        let (result, findings) = run(lists);
        accepted(result, &findings);
        crate::named(findings.checks(), attest::Outcome::Warning)
            .contains(&"AK certificate revocation".to_owned())
    };
    assert!(told(&[of_authorities.clone()]));
    assert!(!told(&[
        of_authorities.clone(),
        list(&google.crl_of_keys(&[]))
    ]));
    let revoking = list(&google.crl_of_keys(&[parsed.serial()]));
    let (result, findings) = run(&[of_authorities, revoking]);
    assert_refused(&result, &findings, &["AK certificate chain"]);
}

/// Google's own list, in the week in which it held.
#[test]
fn the_real_list_of_google_is_read() {
    let list = Crl::parse(&evidence("roots/google/gcp-ek-ak-ca-intermediate.crl")).unwrap();
    let lists = [list];
    let certificate = evidence(format!("{NEW}/cert.der"));
    let run = |now: &str| {
        let mut findings = Findings::new();
        let result = gcp::ak(
            &certificate,
            &[Certificate::parse(&evidence(format!("{NEW}/intermediate.der"))).unwrap()],
            &gcp::authorities(),
            &Revocation::Demand(&lists),
            &any(),
            time(now),
            &mut findings,
        );
        (result, findings)
    };
    let (result, findings) = run("2024-05-09T00:00:00Z");
    accepted(result, &findings);
    let (result, findings) = run("2024-07-01T00:00:00Z");
    assert_refused(&result, &findings, &["AK certificate chain"]);
}

/// A key that is vouched for, and the public area that comes along.
#[test]
fn a_public_area_is_of_the_key_that_is_vouched_for() {
    let area = tpm2b(&evidence(format!("{OLD}/ak.tpmt_public")));
    let run = |area: &[u8]| {
        let certificate = evidence(format!("{OLD}/akcert.der"));
        let (instance, mut findings) = gcp_ak(&certificate, at(OLD), &gcp::authorities(), &any());
        let ak = accepted(instance, &findings).into_ak();
        let area = PublicArea::parse(area).unwrap();
        let result = ak.with_public_area(&area, &mut findings);
        (result, findings)
    };
    let (result, findings) = run(&area);
    let trusted = accepted(result, &findings);
    assert_eq!(trusted.id(), PublicArea::parse(&area).unwrap().id());
    // restricted, which is what keeps it from signing a made-up quote
    let mut unrestricted = area.clone();
    unrestricted[2 + 4 + 1] ^= 1;
    let (result, findings) = run(&unrestricted);
    assert_refused(&result, &findings, &["key attributes"]);
    let mut other = area;
    *other.last_mut().unwrap() ^= 1;
    let (result, findings) = run(&other);
    assert_refused(&result, &findings, &["key that is vouched for"]);
}

/// The scheme is that of the public area, where there is one.
#[test]
fn a_public_area_fixes_the_scheme() {
    let mut area = tpm2b(&evidence(format!("{OLD}/ak.tpmt_public")));
    // type, name algorithm, attributes, an empty policy, no symmetric algorithm; then RSASSA
    let scheme = area
        .windows(4)
        .position(|it| it == [0x00, 0x14, 0x00, 0x0b])
        .unwrap();
    area[scheme + 1] = 0x16;
    let certificate = evidence(format!("{OLD}/akcert.der"));
    let (instance, mut findings) = gcp_ak(&certificate, at(OLD), &gcp::authorities(), &any());
    let ak = accepted(instance, &findings).into_ak();
    let area = PublicArea::parse(&area).unwrap();
    let trusted = accepted(ak.with_public_area(&area, &mut findings), &findings);
    let quote = Quote::of(OLD);
    let result = quote.verify(&trusted, &mut findings);
    assert_refused(&result, &findings, &["signature"]);
}

/// From a certificate of a test's authority to PCR values.
#[test]
fn a_certified_tpm_quotes() {
    let tpm = CloudTpm::new();
    let google = Authority::new("a test's EK/AK CA");
    let certificate = google.certify(&tpm, &AkCertificate::google(&InstanceParts::default()));
    let (instance, mut findings) = certified(
        &google,
        &certificate,
        &Revocation::DangerousNotLookedAt,
        &any(),
    );
    let ak = accepted(instance, &findings).into_ak().trusted();
    let bank = HashAlgorithm::Sha384;
    let four = PcrIndex::new(4).unwrap();
    let values = BankValues::new(bank, [(four, PcrValue::new(bank, &[4; 48]).unwrap())]).unwrap();
    let quoted = tpm.quote(b"nonce", &values);
    let quote = Quote {
        statement: quoted.statement,
        signature: quoted.signature,
        nonce: b"nonce".to_vec(),
    };
    let signed = accepted(quote.verify(&ak, &mut findings), &findings);
    let selection = Selection::Including([four].into());
    let result = signed.with_values(&mut findings, &values, bank, &selection);
    assert_eq!(accepted(result, &findings).get(four), values.get(four));
}

#[test]
fn instance_information_has_one_form() {
    let truth = InstanceParts::default().to_der();
    let info = InstanceInfo::parse(&truth).unwrap();
    assert_eq!(info.project_number, 1_234_567_890_123);
    for length in 0..truth.len() {
        assert!(InstanceInfo::parse(&truth[..length]).is_err(), "{length}");
    }
    assert!(InstanceInfo::parse(&[&truth[..], &[0]].concat()).is_err());
    let with = |change: fn(&mut InstanceParts)| {
        let mut parts = InstanceParts::default();
        change(&mut parts);
        InstanceInfo::parse(&parts.to_der())
    };
    for (refused, name) in [
        (with(|it| it.zone.clear()), "the zone"),
        (with(|it| it.zone = "a b".into()), "the zone"),
        (with(|it| it.project_id = "x".repeat(257)), "the project id"),
        (
            with(|it| it.instance_name = "\u{1b}[2J".into()),
            "the instance name",
        ),
    ] {
        assert_eq!(refused, Err(InstanceInfoError::Name(name)));
    }
    assert!(with(|it| it.project_number = 0).is_err());

    let edited = |from: &[u8], at: usize, to: u8| {
        let mut bytes = truth.clone();
        let found = bytes.windows(from.len()).position(|it| it == from).unwrap();
        bytes[found + at] = to;
        InstanceInfo::parse(&bytes)
    };
    // an id of 65 bits
    assert_eq!(
        edited(&[0x02, 0x09, 0x00, 0xf1], 2, 1),
        Err(InstanceInfoError::Number("the instance id"))
    );
    // a property that is not read may be anything but one that is, again
    let property = [0xa2, 0x03, 0x01, 0x01, 0xff];
    assert!(edited(&property, 0, 0xa7).is_ok());
    for again in [0xa0, 0xa1] {
        assert!(edited(&property, 0, again).is_err());
    }
    // true is ff in DER
    assert!(edited(&[0xa1, 0x03, 0x01, 0x01, 0xff], 4, 1).is_err());
}

/// What ties a confidential VM's report to its TPM changes with each part.
#[test]
fn report_data_of_an_instance_name_session_and_key() {
    let keys =
        [CloudTpm::new(), CloudTpm::new()].map(|tpm| PublicKey::rsa(&tpm.modulus(), 0).unwrap());
    let point = SoftTpm::boot(&testkit::boot::Image::default()).public_parts();
    let ecc = PublicArea::parse(&point.to_tpm2b()).unwrap().key().clone();
    let bindings = [[1; 32], [2; 32]].map(|nonce| Binding::for_verification(&nonce));
    let mut all = Vec::new();
    for binding in &bindings {
        all.push(*binding.as_bytes());
        for key in keys.iter().chain([&ecc]) {
            assert_eq!(
                gcp::report_data(binding, key),
                gcp::report_data(binding, key)
            );
            all.push(gcp::report_data(binding, key));
        }
    }
    let count = all.len();
    all.sort_unstable();
    all.dedup();
    assert_eq!(all.len(), count);
}

/// Each part with its length in front, so that no part can reach into the next one.
#[test]
fn report_data_of_an_instance_are_those_of_the_description() {
    let key = PublicKey::rsa(&CloudTpm::new().modulus(), 0).unwrap();
    let binding = Binding::for_verification(&[7; 32]);
    let label: &[u8] = b"constellation gcp report v1";
    let mut bytes = Vec::new();
    for part in [
        label,
        &binding.as_bytes()[..],
        &key.fingerprint().as_bytes()[..],
    ] {
        bytes.extend((part.len() as u64).to_be_bytes());
        bytes.extend(part);
    }
    let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA512, &bytes);
    assert_eq!(gcp::report_data(&binding, &key)[..], *digest.as_ref());
}

#[test]
fn nothing_stands_behind_a_part_of_instance_information() {
    use crate::x509::ca::{seq, tlv};
    let info = |behind_property: &[u8], behind_properties: &[u8], behind_all: &[u8]| {
        let production = [&tlv(1, &[0xff])[..], behind_property].concat();
        let properties = [
            &seq(&[&tlv(0xa0, &tlv(2, &[0])), &tlv(0xa1, &production)])[..],
            behind_properties,
        ]
        .concat();
        let der = seq(&[
            &tlv(0x0c, b"zone"),
            &tlv(2, &[1]),
            &tlv(0x0c, b"project"),
            &tlv(2, &[2]),
            &tlv(0x0c, b"instance"),
            &tlv(0xa0, &properties),
            behind_all,
        ]);
        InstanceInfo::parse(&der)
    };
    assert!(info(&[], &[], &[]).unwrap().is_production);
    for parsed in [
        info(&[5, 0], &[], &[]),
        info(&[], &[5, 0], &[]),
        info(&[], &[], &[5, 0]),
    ] {
        assert!(
            matches!(parsed, Err(InstanceInfoError::Der(_))),
            "{parsed:?}"
        );
    }
}
