//! The form of documents: what is written is read, and nothing else.

use std::sync::LazyLock;

use attest::azure::{SevSnpDocument, TdxDocument, TrustedLaunchDocument};
use attest::vtpm::{DocumentError, MAX_CERTIFICATES};
use attest::{Evidence, MAX_EVIDENCE, RefusalCode, Variant, gcp};
use proptest::prelude::*;
use serde_json::{Value, json};
use testkit::cloud::Machine;

use super::{MAKERS, Setup, VOUCHED, document, machine, refused};
use crate::binding;

/// One key for all of them.
static MACHINE: LazyLock<Machine> = LazyLock::new(machine);

/// The document with a change in its JSON.
fn changed(variant: Variant, change: impl FnOnce(&mut serde_json::Map<String, Value>)) -> Vec<u8> {
    let bytes = document(variant, &MACHINE, &binding());
    let mut json: Value = serde_json::from_slice(&bytes).unwrap();
    change(json.as_object_mut().unwrap());
    json.to_string().into_bytes()
}

/// The fields that a document has beside those of its TPM.
const fn own_fields(variant: Variant) -> &'static [&'static str] {
    match variant {
        Variant::QemuVtpm => &[],
        Variant::AzureSevSnp => &["hclReport", "certificates"],
        Variant::AzureTdx => &["hclReport", "tdQuote"],
        Variant::AzureTrustedLaunch | Variant::GcpSevEs => &["akCertificate", "certificates"],
        Variant::GcpSevSnp => &[
            "akCertificate",
            "certificates",
            "snpReport",
            "snpCertificates",
        ],
        Variant::GcpTdx => &["akCertificate", "certificates", "tdQuote"],
    }
}

#[track_caller]
fn malformed(what: &str, variant: Variant, bytes: Vec<u8>) {
    refused(
        &format!("{variant}: {what}"),
        Setup::new(variant).judge(bytes),
        &["document format"],
        RefusalCode::Malformed,
    );
}

#[test]
fn what_is_written_is_read() {
    let (machine, binding) = (machine(), binding());
    let snp = machine.azure_sev_snp(&binding);
    assert_eq!(SevSnpDocument::parse(&snp.to_json()).unwrap(), snp);
    let tdx = machine.azure_tdx(&MAKERS, &binding);
    assert_eq!(TdxDocument::parse(&tdx.to_json()).unwrap(), tdx);
    let trusted = machine.azure_trusted_launch(&MAKERS, &binding);
    assert_eq!(
        TrustedLaunchDocument::parse(&trusted.to_json()).unwrap(),
        trusted
    );
    let es = machine.gcp_sev_es(&MAKERS, &binding);
    assert_eq!(gcp::SevEsDocument::parse(&es.to_json()).unwrap(), es);
    let snp = machine.gcp_sev_snp(&MAKERS, &binding);
    assert_eq!(gcp::SevSnpDocument::parse(&snp.to_json()).unwrap(), snp);
    let tdx = machine.gcp_tdx(&MAKERS, &binding);
    assert_eq!(gcp::TdxDocument::parse(&tdx.to_json()).unwrap(), tdx);
}

#[test]
fn each_document_has_its_fields_and_no_other() {
    for variant in VOUCHED {
        let bytes = document(variant, &MACHINE, &binding());
        let json: Value = serde_json::from_slice(&bytes).unwrap();
        let mut fields: Vec<&str> = json
            .as_object()
            .unwrap()
            .keys()
            .map(String::as_str)
            .collect();
        let common = [
            "akPublic",
            "commandLine",
            "eventLog",
            "pcrs",
            "quote",
            "signature",
        ];
        let mut expected = [&common[..], own_fields(variant)].concat();
        fields.sort_unstable();
        expected.sort_unstable();
        assert_eq!(fields, expected);

        for missing in own_fields(variant) {
            let without = changed(variant, |json| {
                json.remove(*missing).unwrap();
            });
            malformed(missing, variant, without);
        }
        for (what, value) in [
            ("unknown", json!("AA==")),
            ("certificate", json!([])),
            ("sha384", json!({})),
        ] {
            let with = changed(variant, |json| {
                json.insert(what.into(), value);
            });
            malformed(what, variant, with);
        }
    }
}

#[test]
fn a_field_of_another_variant_is_an_unknown_field() {
    for variant in VOUCHED {
        for foreign in [
            "hclReport",
            "certificates",
            "tdQuote",
            "akCertificate",
            "snpReport",
        ] {
            if own_fields(variant).contains(&foreign) {
                continue;
            }
            let value = if foreign == "certificates" {
                json!([])
            } else {
                json!("AA==")
            };
            let with = changed(variant, |json| {
                json.insert(foreign.into(), value);
            });
            malformed(foreign, variant, with);
        }
    }
}

#[test]
fn fields_have_one_type_one_form_and_a_bound() {
    for variant in VOUCHED {
        for field in own_fields(variant) {
            for value in [json!(null), json!(1), json!({}), json!("AA"), json!("A A=")] {
                malformed(
                    &format!("{field}: {value}"),
                    variant,
                    changed(variant, |json| {
                        json.insert((*field).into(), value.clone());
                    }),
                );
            }
            let long = "A".repeat(90_000);
            let too_long = match *field {
                "certificates" | "snpCertificates" => json!([long]),
                _ => json!(long),
            };
            malformed(
                &format!("a long {field}"),
                variant,
                changed(variant, |json| {
                    json.insert((*field).into(), too_long);
                }),
            );
        }
        let bytes = document(variant, &MACHINE, &binding());
        let text = String::from_utf8(bytes).unwrap();
        let field = own_fields(variant)[0];
        let twice = text.replacen('{', &format!("{{\"{field}\":\"AA==\","), 1);
        malformed("a field twice", variant, twice.into_bytes());
    }
}

#[test]
fn certificates_are_few_and_can_be_read() {
    for variant in VOUCHED {
        if !own_fields(variant).contains(&"certificates") {
            continue;
        }
        let with = |certificates: Value| {
            changed(variant, |json| {
                json.insert("certificates".into(), certificates);
            })
        };
        malformed("no certificate", variant, with(json!(["AAAA"])));
        malformed("no list", variant, with(json!("AAAA")));
        let many = vec!["AAAA"; MAX_CERTIFICATES + 1];
        malformed("many", variant, with(json!(many)));
    }
    let mut document = machine().azure_sev_snp(&binding());
    document.certificates = vec![vec![0; 8]; MAX_CERTIFICATES + 1];
    let error = SevSnpDocument::parse(&document.to_json()).unwrap_err();
    assert!(
        matches!(&error, DocumentError::Json { variant: "azure-sev-snp", reason } if reason.contains("a list of at most 4 texts")),
        "{error}"
    );
}

/// The largest event log of a machine that is known, beside everything else at its usual size.
#[test]
fn a_document_with_a_large_log_fits() {
    let mut machine = machine();
    machine.event_log = vec![0xab; attest::event_log::MAX_LOG];
    for variant in VOUCHED {
        let bytes = document(variant, &machine, &binding());
        assert!(bytes.len() <= MAX_EVIDENCE, "{variant}: {}", bytes.len());
        assert!(Evidence::new(variant, bytes).is_ok());
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Whatever happens to a document on its way, it ends in a verdict, and never in a better one.
    #[test]
    fn damaged_documents_are_refused(
        which in 0..VOUCHED.len(),
        at in any::<prop::sample::Index>(),
        flip in 1_u8..,
        cut in any::<bool>(),
    ) {
        static WHOLE: LazyLock<Vec<Vec<u8>>> = LazyLock::new(|| {
            VOUCHED.iter().map(|variant| document(*variant, &MACHINE, &binding())).collect()
        });
        let mut bytes = WHOLE[which].clone();
        let at = at.index(bytes.len());
        bytes[at] ^= flip;
        if cut {
            bytes.truncate(at + 1);
        }
        let verdict = Setup::new(VOUCHED[which]).judge(bytes);
        // the command line and the padding of structures are covered by nothing
        if let Ok(verified) = verdict {
            prop_assert_eq!(verified.measurements(), &MACHINE.pcrs);
            prop_assert!(!cut);
        }
    }
}
