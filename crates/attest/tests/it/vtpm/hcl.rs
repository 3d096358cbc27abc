//! HCL reports: real ones with one change, and ones that no paravisor makes.

use attest::azure::{Hardware, HclError, HclReport, MAX_HCL_REPORT, RuntimeError};
use attest::tpm::{HashAlgorithm, PublicKey};
use serde_json::{Value, json};
use testkit::cloud::{CloudTpm, HclParts, RuntimeParts, snp_report_over};

use super::{RUNTIME, hcl, hcl_report_data, manifest};

const SNP: &str = "azure-snp-vtpm/trustee/milan-v3-userdata";
const TDX: &str = "azure-tdx-vtpm/flashbots/tdx-2026-06";

/// Where the fields behind the processor's report begin.
const DATA: usize = 1216;

fn samples() -> Vec<String> {
    let ids = manifest().into_iter().filter_map(|sample| {
        let id = sample["id"].as_str().unwrap();
        id.contains("-vtpm/").then(|| id.to_owned())
    });
    ids.filter(|id| super::has(id, "hcl-report.bin")).collect()
}

#[test]
fn every_sample_reads_as_measured_and_binds_its_runtime_data() {
    let mut reports = 0;
    for id in samples() {
        reports += 1;
        let measured = &super::sample(&id)["measured"];
        let bytes = hcl(&id);
        let report = HclReport::parse(&bytes).unwrap_or_else(|error| panic!("{id}: {error}"));
        let kind = match report.hardware() {
            Hardware::Snp(_) => "snp",
            Hardware::TdReport(_) => "tdx",
        };
        assert_eq!(measured["hcl_kind"], kind, "{id}");
        let claims = report.claims();
        let keys = if claims.ek().is_some() {
            json!(["HCLAkPub", "HCLEkPub"])
        } else {
            json!(["HCLAkPub"])
        };
        assert_eq!(measured["hcl_keys"], keys, "{id}");
        if let Some(user_data) = measured["hcl_user_data"].as_str() {
            let read = claims.user_data().map(hex::encode_upper);
            assert_eq!(read.as_deref(), Some(user_data), "{id}");
        }
        let configuration = claims.configuration().unwrap();
        let said = &measured["vm_config"];
        assert_eq!(
            said["secure-boot"],
            json!(configuration.secure_boot),
            "{id}"
        );
        assert_eq!(
            said["tpm-enabled"],
            json!(configuration.tpm_enabled),
            "{id}"
        );
        assert_eq!(
            said["vmUniqueId"],
            json!(configuration.vm_unique_id),
            "{id}"
        );

        let bound = report.bind(&hcl_report_data(&bytes)).unwrap();
        assert_eq!(bound.key(), claims.ak());
    }
    assert_eq!(reports, 10);
}

/// The padding of the NV index is no part of a report; everything before it is.
#[test]
fn a_report_ends_where_it_says() {
    for id in [SNP, TDX] {
        let bytes = hcl(id);
        let size = u32::from_le_bytes(bytes[8..12].try_into().unwrap());
        let size = usize::try_from(size).unwrap();
        let whole = HclReport::parse(&bytes).unwrap();
        assert_eq!(HclReport::parse(&bytes[..size]).unwrap(), whole);
        for length in 0..size {
            assert!(HclReport::parse(&bytes[..length]).is_err(), "{length}");
        }
        let mut other_padding = bytes.clone();
        other_padding[size..].fill(0xff);
        assert_eq!(HclReport::parse(&other_padding).unwrap(), whole);
        let long = [bytes, vec![0; MAX_HCL_REPORT]].concat();
        assert!(matches!(HclReport::parse(&long), Err(HclError::TooLong(_))));
    }
}

fn parse_with(change: impl FnOnce(&mut Vec<u8>)) -> HclError {
    let mut bytes = hcl(SNP);
    change(&mut bytes);
    HclReport::parse(&bytes).unwrap_err()
}

fn number(bytes: &mut [u8], at: usize, number: u32) {
    bytes[at..at + 4].copy_from_slice(&number.to_le_bytes());
}

#[test]
fn each_change_of_a_real_header_is_refused_by_its_name() {
    assert!(matches!(parse_with(|it| it[3] = b'B'), HclError::Signature));
    for (at, name) in [
        (8, "report size"),
        (DATA, "data size"),
        (DATA + 16, "runtime data size"),
    ] {
        for value in [3000, u32::MAX] {
            let error = parse_with(|it| number(it, at, value));
            let HclError::Size {
                field, value: said, ..
            } = error
            else {
                panic!("{name}: {error}");
            };
            assert_eq!((field, said), (name, value));
        }
    }
    // VBS, an unknown one, and nothing
    for kind in [0, 1, 3, 5] {
        let error = parse_with(|it| number(it, DATA + 8, kind));
        assert!(matches!(error, HclError::ReportType(it) if it == kind));
    }
    for hash in [0, 4] {
        let error = parse_with(|it| number(it, DATA + 12, hash));
        assert!(matches!(error, HclError::HashType(it) if it == hash));
    }
    let error = parse_with(|it| number(it, DATA + 16, 400));
    assert!(matches!(error, HclError::Runtime(RuntimeError::Json(_))));
    let error = parse_with(|it| number(it, DATA, 19));
    assert!(matches!(error, HclError::Field(_)));
    let error = parse_with(|it| number(it, 8, 1000));
    assert!(matches!(error, HclError::Field(_)));
    // nothing depends on a version, so a newer one is read
    let mut newer = hcl(SNP);
    number(&mut newer, 4, 99);
    number(&mut newer, DATA + 4, 99);
    assert_eq!(HclReport::parse(&newer).unwrap().version(), 99);
}

#[test]
fn no_byte_of_real_runtime_data_can_be_changed() {
    for id in [SNP, TDX] {
        let bytes = hcl(id);
        let report_data = hcl_report_data(&bytes);
        let length = HclReport::parse(&bytes).unwrap().runtime_data().len();
        let mut read = 0;
        for at in RUNTIME..RUNTIME + length {
            let mut changed = bytes.clone();
            changed[at] ^= 1;
            if let Ok(report) = HclReport::parse(&changed) {
                read += 1;
                assert!(report.bind(&report_data).is_err(), "{id}: byte {at}");
            }
        }
        assert!(read > 500, "{id}: most bytes are those of numbers");
    }
}

/// Report data are compared whole: no padding, no prefix.
#[test]
fn every_byte_of_the_report_data_counts() {
    for id in [SNP, TDX] {
        let bytes = hcl(id);
        let report = HclReport::parse(&bytes).unwrap();
        let truth = hcl_report_data(&bytes);
        assert!(report.bind(&truth).is_ok());
        for at in 0..64 {
            let mut other = truth;
            other[at] ^= 1;
            assert!(report.bind(&other).is_err(), "{at}");
        }
        assert!(report.bind(&[0; 64]).is_err());
    }
}

/// The header says which hash was used, and nobody signs the header.
#[test]
fn a_real_binding_holds_with_its_own_hash_only() {
    for hash in [2, 3] {
        let mut bytes = hcl(SNP);
        number(&mut bytes, DATA + 12, hash);
        let report = HclReport::parse(&bytes).unwrap();
        assert!(report.bind(&hcl_report_data(&bytes)).is_err());
    }
}

fn runtime() -> Value {
    RuntimeParts::of(vec![0xff; 256]).to_value()
}

#[test]
fn longer_hashes_bind_as_well() {
    for (hash_type, hash) in [
        (1, HashAlgorithm::Sha256),
        (2, HashAlgorithm::Sha384),
        (3, HashAlgorithm::Sha512),
    ] {
        let json = runtime().to_string().into_bytes();
        let mut parts = HclParts::snp(Vec::new(), json.clone());
        parts.hash_type = hash_type;
        let data = parts.report_data();
        assert_eq!(data[..hash.length()], hash.digest(&[&json]));
        parts.report = snp_report_over(&data);
        let bytes = parts.to_bytes();
        let report = HclReport::parse(&bytes).unwrap();
        assert!(report.bind(&data).is_ok());
        assert_eq!(report.expected_report_data(), data);
        let mut longer = data;
        longer[63] ^= 1;
        assert!(report.bind(&longer).is_err());
    }
}

fn parse_json(json: &str) -> Result<PublicKey, RuntimeError> {
    attest::azure::RuntimeClaims::parse(json.as_bytes()).map(|claims| claims.ak().clone())
}

fn edited(edit: impl FnOnce(&mut Value)) -> Result<PublicKey, RuntimeError> {
    let mut value = runtime();
    edit(&mut value);
    parse_json(&value.to_string())
}

#[test]
fn unknown_fields_of_runtime_data_are_passed_over() {
    let key = edited(|_| ()).unwrap();
    for edit in [
        (|it| it["new"] = json!({"a": [1, null]})) as fn(&mut Value),
        |it| it["keys"][0]["alg"] = json!("RS256"),
        |it| it["vm-configuration"]["new"] = json!(1),
        |it| {
            let other = json!({"kid": "HCLVbsPub", "kty": "EC", "crv": "P-384", "x": "", "y": ""});
            it["keys"].as_array_mut().unwrap().insert(0, other);
        },
        |it| {
            it.as_object_mut().unwrap().remove("user-data");
        },
        |it| {
            it.as_object_mut().unwrap().remove("vm-configuration");
        },
    ] {
        assert_eq!(edited(edit).unwrap(), key);
    }
    // one that is not read may even be there twice
    let text = runtime()
        .to_string()
        .replacen('{', r#"{"new":1,"new":2,"#, 1);
    assert_eq!(parse_json(&text).unwrap(), key);
}

#[test]
fn runtime_data_have_one_reading() {
    let text = runtime().to_string();
    for (from, to) in [
        (r#"{"keys":"#, r#"{"keys":[],"keys":"#),
        (
            r#""kid":"HCLAkPub""#,
            r#""kid":"HCLEkPub","kid":"HCLAkPub""#,
        ),
        (r#""kty":"RSA""#, r#""kty":"RSA","kty":"RSA""#),
        (r#""e":"AQAB""#, r#""e":"AQAB","e":"AQAB""#),
        (r#""n":"#, r#""n":"AQAB","n":"#),
        (
            r#""secure-boot":true"#,
            r#""secure-boot":false,"secure-boot":true"#,
        ),
        (
            r#""tpm-enabled":true"#,
            r#""tpm-enabled":true,"tpm-enabled":true"#,
        ),
        (
            r#""vm-configuration":"#,
            r#""vm-configuration":{},"vm-configuration":"#,
        ),
        (r#""user-data":"#, r#""user-data":"","user-data":"#),
    ] {
        let twice = text.replacen(from, to, 1);
        assert_ne!(twice, text, "{from}");
        let error = parse_json(&twice).unwrap_err();
        assert!(matches!(error, RuntimeError::Json(_)), "{from}: {error}");
        assert!(error.to_string().contains("duplicate field"), "{error}");
    }
    let null = text.replacen(r#""secure-boot":true"#, r#""secure-boot":null"#, 1);
    assert!(matches!(parse_json(&null), Err(RuntimeError::Json(_))));
    let trailing = format!("{text} {{}}");
    assert!(matches!(parse_json(&trailing), Err(RuntimeError::Json(_))));
}

#[test]
fn there_is_one_attestation_key() {
    let error = edited(|it| it["keys"][0]["kid"] = json!("HCLAkPub2")).unwrap_err();
    assert!(matches!(error, RuntimeError::Missing("HCLAkPub")));
    let again = |it: &mut Value| {
        let other = RuntimeParts::of(vec![0xfe; 256]).to_value()["keys"][0].clone();
        it["keys"].as_array_mut().unwrap().push(other);
    };
    assert!(matches!(
        edited(again),
        Err(RuntimeError::Twice("HCLAkPub"))
    ));
    let second = |it: &mut Value| {
        for _ in 0..2 {
            let mut other = RuntimeParts::of(vec![0xfe; 256]).to_value()["keys"][0].clone();
            other["kid"] = json!("HCLEkPub");
            it["keys"].as_array_mut().unwrap().push(other);
        }
    };
    assert!(matches!(
        edited(second),
        Err(RuntimeError::Twice("HCLEkPub"))
    ));
    let many = |it: &mut Value| {
        let other = json!({"kid": "other", "kty": "RSA"});
        it["keys"].as_array_mut().unwrap().extend(vec![other; 8]);
    };
    assert!(matches!(edited(many), Err(RuntimeError::TooManyKeys(9))));
}

#[test]
fn a_key_is_an_rsa_key_of_a_tpm() {
    let modulus = CloudTpm::new().modulus();
    let of = |n: &[u8], e: &str| {
        let mut value = RuntimeParts::of(n.to_vec()).to_value();
        value["keys"][0]["e"] = json!(e);
        parse_json(&value.to_string())
    };
    let truth = PublicKey::rsa(&modulus, 65_537).unwrap();
    assert_eq!(of(&modulus, "AQAB").unwrap(), truth);
    // a TPM writes its default exponent as zero
    assert_eq!(of(&modulus, "AAAAAA").unwrap(), truth);
    assert_eq!(of(&modulus, "AAEAAQ").unwrap(), truth);
    for (n, e) in [
        (&modulus[..], "Aw"),
        (&modulus[..], "AQ"),
        (&modulus[1..], "AQAB"),
        (&modulus[..128], "AQAB"),
        (&[&[0], &modulus[..255]].concat(), "AQAB"),
    ] {
        assert!(matches!(of(n, e), Err(RuntimeError::Key { .. })));
    }
    for e in ["", "AQAB=", "A+AB", "AQABAQAB"] {
        assert!(matches!(
            of(&modulus, e),
            Err(RuntimeError::Jwk { field: "e", .. })
        ));
    }
    for (field, value) in [
        ("kty", json!("EC")),
        ("n", json!("not base64")),
        ("e", json!("~~~")),
    ] {
        let error = edited(|it| it["keys"][0][field] = value).unwrap_err();
        assert!(matches!(error, RuntimeError::Jwk { field: it, .. } if it == field));
    }
    let error = edited(|it| {
        it["keys"][0].as_object_mut().unwrap().remove("n");
    });
    assert!(matches!(error, Err(RuntimeError::Jwk { field: "n", .. })));
}

#[test]
fn user_data_are_64_bytes() {
    for text in ["", "00", &"00".repeat(65), &"0x".repeat(64)] {
        let error = edited(|it| it["user-data"] = json!(text)).unwrap_err();
        assert!(matches!(error, RuntimeError::UserData), "{text}");
    }
}

#[test]
fn a_report_has_a_bound() {
    for id in [SNP, TDX] {
        for (size, is_read) in [
            (MAX_HCL_REPORT - 1, true),
            (MAX_HCL_REPORT, true),
            (MAX_HCL_REPORT + 1, false),
        ] {
            let mut bytes = hcl(id);
            bytes.resize(size, 0);
            assert_eq!(HclReport::parse(&bytes).is_ok(), is_read, "{id} {size}");
        }
    }
}

#[test]
fn keys_have_a_bound() {
    use attest::azure::RuntimeClaims;
    const MAX_KEYS: usize = 8;
    let bytes = hcl(SNP);
    let truth: Value =
        serde_json::from_slice(HclReport::parse(&bytes).unwrap().runtime_data()).unwrap();
    for (count, is_read) in [
        (MAX_KEYS - 1, true),
        (MAX_KEYS, true),
        (MAX_KEYS + 1, false),
    ] {
        let mut json = truth.clone();
        let keys = json["keys"].as_array_mut().unwrap();
        for number in keys.len()..count {
            keys.push(json!({ "kid": format!("key {number}"), "kty": "RSA" }));
        }
        let parsed = RuntimeClaims::parse(json.to_string().as_bytes());
        assert_eq!(parsed.is_ok(), is_read, "{count}: {parsed:?}");
    }
}
