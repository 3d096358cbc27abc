//! What a TPM's certificate says of itself, field by field (TCG EK Credential Profile), in certificates of a test authority.

use attest::tpm::ek::{Purpose, Roots, TpmCertificate, appraise_certificate};
use attest::x509::Revocation;
use attest::{Findings, Outcome};

use crate::x509::ca::{
    Authority, Extension, Template, basic_constraints, key_usage, now, oid, seq, tlv,
};

const FORMAT: &str = "TPM certificate format";
/// `keyEncipherment`.
const ENCRYPTS: u8 = 0x20;

/// What the appraisal made of a certificate with these extensions besides, and of what stands behind it in its NV index.
fn verdict(extensions: &[Extension], behind: &[u8]) -> (Option<TpmCertificate>, Findings) {
    let root = Authority::root("maker");
    let mut all = vec![basic_constraints(false, None), key_usage(ENCRYPTS)];
    all.extend_from_slice(extensions);
    let template = Template {
        extensions: all,
        ..Template::leaf("")
    };
    let area = [root.leaf_der(&template), behind.to_vec()].concat();
    let mut findings = Findings::new();
    let verdict = appraise_certificate(
        &area,
        &[],
        &Roots::new(vec![root.certificate]),
        &Revocation::DangerousNotLookedAt,
        Purpose::Endorsement,
        now(),
        &mut findings,
    );
    (verdict.ok(), findings)
}

fn accepted(extensions: &[Extension]) -> TpmCertificate {
    let (certificate, findings) = verdict(extensions, &[]);
    certificate.unwrap_or_else(|| panic!("{findings}"))
}

#[track_caller]
fn refused(extensions: &[Extension], by: &str) {
    let (certificate, findings) = verdict(extensions, &[]);
    assert!(certificate.is_none(), "{findings}");
    assert_eq!(crate::named(findings.checks(), Outcome::Failed), [by]);
}

fn extension(oid: &'static str, value: Vec<u8>) -> Extension {
    Extension {
        oid,
        critical: false,
        value,
    }
}

/// Extended key usage: an endorsement key, with this behind the list.
fn usage(behind: &[u8]) -> Extension {
    let list = seq(&[&oid("2.23.133.8.1")]);
    extension("2.5.29.37", [&list[..], behind].concat())
}

fn attribute(kind: &str, text: &str) -> Vec<u8> {
    tlv(0x31, &seq(&[&oid(kind), &tlv(0x0c, text.as_bytes())]))
}

const IDENTITY: [(&str, &str); 3] = [
    ("2.23.133.2.1", "id:54455354"),
    ("2.23.133.2.2", "model"),
    ("2.23.133.2.3", "id:1"),
];

/// A directory name with these attributes.
fn directory(attributes: &[(&str, &str)]) -> Vec<u8> {
    let sets: Vec<u8> = attributes
        .iter()
        .flat_map(|(kind, text)| attribute(kind, text))
        .collect();
    seq(&[&sets])
}

fn names(members: &[&[u8]]) -> Extension {
    extension("2.5.29.17", seq(members))
}

fn specification(family: &str) -> Vec<u8> {
    let fields = seq(&[
        &tlv(0x0c, family.as_bytes()),
        &tlv(2, &[0]),
        &tlv(2, &[116]),
    ]);
    seq(&[&oid("2.23.133.2.16"), &tlv(0x31, &fields)])
}

#[test]
fn nothing_stands_behind_an_extension() {
    accepted(&[usage(&[])]);
    refused(&[usage(&[5, 0])], FORMAT);

    let identity = tlv(0xa4, &directory(&IDENTITY));
    assert!(accepted(&[names(&[&identity])]).identity().is_some());
    let mut longer = names(&[&identity]);
    longer.value.extend([5, 0]);
    refused(&[longer], FORMAT);
    // nor behind the name inside
    let inside = [directory(&IDENTITY), vec![5, 0]].concat();
    refused(&[names(&[&tlv(0xa4, &inside)])], FORMAT);

    let attributes = seq(&[&specification("2.0")]);
    accepted(&[extension("2.5.29.9", attributes.clone())]);
    refused(
        &[extension("2.5.29.9", [attributes, vec![5, 0]].concat())],
        FORMAT,
    );
    refused(
        &[extension("2.5.29.9", seq(&[&specification("1.2")]))],
        "TPM specification",
    );
}

#[test]
fn only_directory_names_name_a_tpm() {
    // a name of the DNS, which is no sequence
    let dns = tlv(0x82, b"tpm.example.com");
    let identity = tlv(0xa4, &directory(&IDENTITY));
    assert!(accepted(&[names(&[&dns])]).identity().is_none());
    for members in [[&dns[..], &identity], [&identity, &dns]] {
        let certificate = accepted(&[names(&members)]);
        assert_eq!(
            certificate.identity().unwrap().to_string(),
            "TEST (id:54455354) model version id:1"
        );
    }
    // names for something else say nothing of a TPM
    let other = tlv(0xa4, &directory(&[("2.5.4.3", "a machine")]));
    assert!(accepted(&[names(&[&other])]).identity().is_none());
}

#[test]
fn what_names_a_tpm_is_whole_and_short() {
    let with = |text: &str| {
        let mut attributes = IDENTITY;
        attributes[1].1 = text;
        let name = tlv(0xa4, &directory(&attributes));
        verdict(&[names(&[&name])], &[])
    };
    for (length, is_read) in [
        (0, false),
        (1, true),
        (256, true),
        (257, false),
        (1000, false),
    ] {
        let (certificate, findings) = with(&"m".repeat(length));
        assert_eq!(certificate.is_some(), is_read, "{length}: {findings}");
    }
}

#[test]
fn an_nv_index_has_a_bound() {
    const MOST: usize = 8 * 1024;
    let root = Authority::root("maker");
    let template = Template {
        extensions: vec![basic_constraints(false, None), key_usage(ENCRYPTS)],
        ..Template::leaf("TPM")
    };
    let der = root.leaf_der(&template);
    for (size, is_read) in [(MOST - 1, true), (MOST, true), (MOST + 1, false)] {
        let mut area = der.clone();
        area.resize(size, 0xff);
        let mut findings = Findings::new();
        let verdict = appraise_certificate(
            &area,
            &[],
            &Roots::new(vec![root.certificate.clone()]),
            &Revocation::DangerousNotLookedAt,
            Purpose::Endorsement,
            now(),
            &mut findings,
        );
        assert_eq!(verdict.is_ok(), is_read, "{size}: {findings}");
    }
}

/// A check that is missing here was not made, or is not told.
#[test]
fn a_verdict_names_every_check_that_was_made() {
    let (certificate, findings) = verdict(&[usage(&[])], &[]);
    assert!(certificate.is_some(), "{findings}");
    let checks: Vec<String> = findings
        .checks()
        .iter()
        .map(|check| format!("{}: {}", check.step, check.name))
        .collect();
    assert_eq!(
        checks,
        [
            "endorsements: TPM certificate format",
            "endorsements: TPM certificate chain",
            "endorsements: TPM certificate revocation",
            "endorsements: TPM certificate key usage",
            "endorsements: TPM certificate extended key usage",
            "endorsements: TPM specification",
            "endorsements: TPM identity"
        ]
    );
}
