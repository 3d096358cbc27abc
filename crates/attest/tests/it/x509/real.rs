//! Certificates and CRLs of the vendors, as they stand in the samples.

use attest::x509::{
    Certificate, CrlFault, CrlScope, Path, PathError, PathRules, PublicKey, Revocation, X509Error,
};
use jiff::Timestamp;
use serde_json::Value;

use super::{at, certificate, chain, crl, sample};

const NO_CRLS: Revocation<'_> = Revocation::DangerousNotLookedAt;
/// `subjectAltName`: critical in certificates of endorsement keys, whose subject is empty. `certificatePolicies`: critical in an
/// intermediate of ST.
const EK: PathRules = PathRules::end_entity().understanding(&["2.5.29.17", "2.5.29.32"]);
const ROOTS: &str = "evidence/roots";

fn manifest() -> Vec<Value> {
    let manifest: Value = serde_json::from_slice(&sample("evidence/manifest.json")).unwrap();
    manifest["samples"].as_array().unwrap().clone()
}

/// The window in a `measured` block of the manifest, which another library read.
fn window(value: &Value) -> (Timestamp, Timestamp) {
    let time = |index: usize| match value[index].as_str().unwrap() {
        // beyond what a timestamp holds
        "9999-12-31T23:59:59Z" => Timestamp::MAX,
        text => at(text),
    };
    (time(0), time(1))
}

#[test]
fn every_root_and_intermediate_reads_as_another_library_reads_it() {
    let mut seen = 0;
    for sample in manifest() {
        let Some(folder) = sample["id"].as_str().filter(|id| id.starts_with("roots/")) else {
            continue;
        };
        for file in sample["files"].as_object().unwrap().keys() {
            let measured = &sample["measured"][file];
            let Some(serial) = measured["serial"].as_str() else {
                continue;
            };
            let certificate = certificate(&format!("evidence/{folder}/{file}"));
            let digits = hex::encode(certificate.serial());
            assert_eq!(
                digits.trim_start_matches('0'),
                &serial[2..],
                "{folder}/{file}"
            );
            assert_eq!(
                certificate.subject().common_name(),
                measured["subject"].as_str(),
                "{folder}/{file}"
            );
            assert!(certificate.is_ca() || file.starts_with("tcb-signing"));
            if measured["chain"].as_array().unwrap().len() == 1 {
                let (not_before, not_after) = window(&measured["window"]);
                assert_eq!(certificate.not_before(), not_before, "{folder}/{file}");
                assert_eq!(certificate.not_after(), not_after, "{folder}/{file}");
            }
            seen += 1;
        }
    }
    assert!(seen >= 28, "{seen} certificates");
}

#[test]
fn amd_chains_lead_from_the_chip_to_the_ark() {
    let mut accepted = 0;
    let roots =
        ["milan", "genoa", "turin"].map(|line| certificate(&format!("{ROOTS}/amd/ark-{line}.der")));
    let intermediates: Vec<_> = ["ask", "asvk"]
        .iter()
        .flat_map(|kind| {
            ["milan", "genoa", "turin"].map(|line| format!("{ROOTS}/amd/{kind}-{line}.der"))
        })
        .map(|file| certificate(&file))
        .collect();
    for sample in manifest() {
        let id = sample["id"].as_str().unwrap();
        let measured = &sample["measured"]["chain"];
        if !id.starts_with("snp-v") || !sample["files"].as_object().unwrap().contains_key("vek.der")
        {
            continue;
        }
        let vek = certificate(&format!("evidence/{id}/vek.der"));
        let now = sample["at"].as_str().map_or_else(|| vek.not_before(), at);
        let path = Path::build(
            &vek,
            &intermediates,
            &roots,
            &NO_CRLS,
            now,
            &PathRules::end_entity(),
        );
        // the manifest's chain of an altered certificate has the leaf alone
        if measured.as_array().is_some_and(|names| names.len() == 3) {
            let path = path.unwrap_or_else(|error| panic!("{id}: {error}"));
            let names: Vec<_> = path
                .certificates()
                .iter()
                .map(|certificate| certificate.subject().common_name().unwrap())
                .collect();
            assert_eq!(measured, &serde_json::json!(names), "{id}");
            assert_eq!(path.leaf(), &vek);
            assert_eq!(path.issuer().subject(), vek.issuer());
            assert!(roots.contains(path.root()));
            accepted += 1;
        } else {
            assert!(
                matches!(
                    path,
                    Err(PathError::Signature { .. } | PathError::NoIssuer { .. })
                ),
                "{id}: {path:?}"
            );
        }
    }
    assert!(accepted >= 19, "{accepted} chains");
}

#[test]
fn a_vcek_that_was_altered_is_not_signed_by_its_ask() {
    let ark = [certificate(&format!("{ROOTS}/amd/ark-milan.der"))];
    let ask = [certificate(&format!("{ROOTS}/amd/ask-milan.der"))];
    for name in ["milan-v2-bad-vcek-legacy", "milan-v2-bad-vcek-new"] {
        let vcek = certificate(&format!("evidence/snp-vcek/trustee/{name}/vek.der"));
        let now = vcek.not_before();
        let error =
            Path::build(&vcek, &ask, &ark, &NO_CRLS, now, &PathRules::end_entity()).unwrap_err();
        assert!(
            matches!(error, PathError::Signature { .. }),
            "{name}: {error}"
        );
    }
}

/// The first Genoa ASK, and the one that took its place.
#[test]
fn the_revoked_genoa_ask_is_refused_and_its_successor_passes() {
    let ark = [certificate(&format!("{ROOTS}/amd/ark-genoa.der"))];
    let crls = [crl(&format!("{ROOTS}/amd-crl/crl-genoa-2022-10-31.der"))];
    let revocation = Revocation::Demand(&crls);
    let now = at("2022-12-01T00:00:00Z");
    let check = |file: &str, revocation: &Revocation<'_>| {
        let ask = certificate(&format!("{ROOTS}/{file}"));
        Path::build(&ask, &[], &ark, revocation, now, &PathRules::authority())
    };
    let error = check("amd-crl/ask-genoa-revoked-0x20001.der", &revocation).unwrap_err();
    assert!(
        matches!(&error, PathError::Revoked { serial, .. } if serial == "020001"),
        "{error}"
    );
    check("amd/ask-genoa.der", &revocation).unwrap();
    // nothing else is wrong with it
    check("amd-crl/ask-genoa-revoked-0x20001.der", &NO_CRLS).unwrap();

    // and in the middle of a path
    let vcek = certificate("evidence/snp-vcek/tav/genoa-v3/vek.der");
    let now = at("2026-02-07T00:00:00Z");
    let revoked = [certificate(&format!(
        "{ROOTS}/amd-crl/ask-genoa-revoked-0x20001.der"
    ))];
    let rules = PathRules::end_entity().crls_for(CrlScope::Authorities);
    let error = Path::build(&vcek, &revoked, &ark, &revocation, now, &rules).unwrap_err();
    assert!(
        matches!(
            error,
            PathError::Revoked { .. } | PathError::Signature { .. }
        ),
        "{error}"
    );
}

#[test]
fn the_milan_crl_holds_for_its_year() {
    let ark = [certificate(&format!("{ROOTS}/amd/ark-milan.der"))];
    let ask = certificate(&format!("{ROOTS}/amd/ask-milan.der"));
    let crls = [crl(&format!("{ROOTS}/amd-crl/crl-milan-2022-05-09.der"))];
    let check = |now: &str| {
        let revocation = Revocation::Demand(&crls);
        Path::build(
            &ask,
            &[],
            &ark,
            &revocation,
            at(now),
            &PathRules::authority(),
        )
    };
    check("2022-05-10T00:00:00Z").unwrap();
    let fault = |now: &str| match check(now) {
        Err(PathError::Crl { fault, .. }) => fault,
        other => panic!("{other:?}"),
    };
    assert!(matches!(
        fault("2022-05-01T00:00:00Z"),
        CrlFault::NotYetValid { .. }
    ));
    assert!(matches!(
        fault("2023-06-01T00:00:00Z"),
        CrlFault::Stale { .. }
    ));
    // the CRL of another line says nothing about this one
    let genoa = [crl(&format!("{ROOTS}/amd-crl/crl-genoa-2022-10-31.der"))];
    let revocation = Revocation::Demand(&genoa);
    let now = at("2022-12-01T00:00:00Z");
    let error =
        Path::build(&ask, &[], &ark, &revocation, now, &PathRules::authority()).unwrap_err();
    assert!(
        matches!(
            error,
            PathError::Crl {
                fault: CrlFault::Missing,
                ..
            }
        ),
        "{error}"
    );
}

#[test]
fn intel_authorities_lead_to_the_sgx_root() {
    let root = [certificate(&format!("{ROOTS}/intel/sgx-root-ca.der"))];
    let now = at("2026-01-01T00:00:00Z");
    for (file, rules) in [
        ("pck-platform-ca", PathRules::authority()),
        ("pck-processor-ca", PathRules::authority()),
        ("tcb-signing-2025", PathRules::end_entity()),
    ] {
        let certificate = certificate(&format!("{ROOTS}/intel/{file}.der"));
        assert!(matches!(certificate.public_key(), PublicKey::P256(_)));
        Path::build(&certificate, &[], &root, &NO_CRLS, now, &rules).unwrap();
    }
    let old = certificate(&format!("{ROOTS}/intel/tcb-signing-2018.der"));
    let error = Path::build(&old, &[], &root, &NO_CRLS, now, &PathRules::end_entity()).unwrap_err();
    assert!(matches!(error, PathError::Expired { .. }), "{error}");
}

/// Intel's own reference set, under a root of its tests: a leaf, an authority, a root, and the CRLs of both issuers.
#[test]
fn the_intel_reference_set_passes_with_its_crls() {
    let folder = "evidence/tdx/intel-qvl/reference-set-test-root";
    let roots = chain(&format!("{folder}/trustedRootCaCert.pem"));
    let pck = chain(&format!("{folder}/pckCert.pem"));
    let signers = chain(&format!("{folder}/pckSignChain.pem"));
    let crls = [
        crl(&format!("{folder}/rootCaCrl.der")),
        crl(&format!("{folder}/intermediateCaCrl.der")),
    ];
    let now = crls
        .iter()
        .map(attest::x509::Crl::this_update)
        .max()
        .unwrap()
        .max(pck[0].not_before());
    let build = |crls: &[_], now| {
        Path::build(
            &pck[0],
            &signers,
            &roots,
            &Revocation::Demand(crls),
            now,
            &PathRules::end_entity(),
        )
    };
    let path = build(&crls, now).unwrap();
    assert_eq!(path.certificates().len(), 3);
    for present in &crls {
        let alone = std::slice::from_ref(present);
        let error = build(alone, now).unwrap_err();
        assert!(
            matches!(
                error,
                PathError::Crl {
                    fault: CrlFault::Missing,
                    ..
                }
            ),
            "{error}"
        );
    }
}

#[test]
fn google_authorities_and_keys_lead_to_googles_roots() {
    let ek_ak = [certificate(&format!(
        "{ROOTS}/google/gcp-ek-ak-ca-root.der"
    ))];
    let now = at("2024-05-10T00:00:00Z");
    let v3 = certificate(&format!("{ROOTS}/google/gcp-ek-ak-ca-intermediate-v3.der"));
    let crls = [crl(&format!(
        "{ROOTS}/google/gcp-ek-ak-ca-intermediate.crl"
    ))];
    let revocation = Revocation::Demand(&crls);
    Path::build(&v3, &[], &ek_ak, &revocation, now, &PathRules::authority()).unwrap();
    let error = Path::build(
        &v3,
        &[],
        &ek_ak,
        &revocation,
        at("2024-05-15T00:00:00Z"),
        &PathRules::authority(),
    )
    .unwrap_err();
    assert!(
        matches!(
            error,
            PathError::Crl {
                fault: CrlFault::Stale { .. },
                ..
            }
        ),
        "{error}"
    );

    let leaf = certificate("evidence/tpm-ek/gcp/core-eso-ak/cert.der");
    let intermediate = [
        // another authority of the same name, newer than the leaf
        certificate("evidence/tpm-ek/gcp/core-eso-ak/intermediate.der"),
        v3,
    ];
    Path::build(
        &leaf,
        &intermediate,
        &ek_ak,
        &NO_CRLS,
        now,
        &PathRules::end_entity(),
    )
    .unwrap();

    let old_root = [certificate(&format!("{ROOTS}/google/tpm-ek-v1-root.der"))];
    let old = ["2", "3"].map(|number| {
        certificate(&format!(
            "{ROOTS}/google/tpm-ek-v1-intermediate-{number}.der"
        ))
    });
    let ek = certificate("evidence/tpm-ek/gcp/uca-rsa-enc/cert.der");
    let path = Path::build(&ek, &old, &old_root, &NO_CRLS, now, &EK).unwrap();
    assert_eq!(path.certificates().len(), 3);
    let error = Path::build(&ek, &old, &ek_ak, &NO_CRLS, now, &EK).unwrap_err();
    assert!(matches!(error, PathError::NoIssuer { .. }), "{error}");
}

#[test]
fn azure_authorities_lead_to_the_virtual_tpm_root() {
    let root = [certificate(&format!(
        "{ROOTS}/azure/azure-vtpm-root-2023.der"
    ))];
    let cloud = [certificate(&format!(
        "{ROOTS}/azure/azure-cloud-vtpm-ca-2025.der"
    ))];
    let rules = PathRules::authority();
    for (file, now, length) in [
        ("global-vtpm-ca-01", "2025-06-01T00:00:00Z", 2),
        ("global-vtpm-ca-03", "2026-06-01T00:00:00Z", 2),
        ("azure-cloud-vtpm-ca-24", "2026-06-01T00:00:00Z", 3),
        ("azure-cloud-vtpm-ca-11", "2026-06-01T00:00:00Z", 3),
    ] {
        let certificate = certificate(&format!("{ROOTS}/azure/{file}.der"));
        let path = Path::build(&certificate, &cloud, &root, &NO_CRLS, at(now), &rules).unwrap();
        assert_eq!(path.certificates().len(), length, "{file}");
    }
}

#[test]
fn the_aws_root_is_a_p384_authority() {
    let root = certificate(&format!("{ROOTS}/aws/aws-nitro-root-g1.der"));
    assert!(matches!(root.public_key(), PublicKey::P384(_)));
    assert!(root.is_ca() && root.key_usage().is_some_and(|usage| usage.crl_sign()));
    assert_eq!(root.subject().common_name(), Some("aws.nitro-enclaves"));
    assert_eq!(root.subject().attribute("2.5.4.10"), Some("Amazon"));
}

#[test]
fn nvidia_chains_of_five_lead_to_the_device_root() {
    let root = [certificate(&format!("{ROOTS}/nvidia/device-root.der"))];
    for sample in [
        "attestation-sdk/hopper",
        "nvtrust/hopper-sample",
        "trustee/hopper-coco",
    ] {
        let chain = chain(&format!("evidence/nvidia-gpu/{sample}/chain.pem"));
        let (leaf, above) = chain.split_first().unwrap();
        let now = at("2026-01-01T00:00:00Z");
        let path =
            Path::build(leaf, above, &root, &NO_CRLS, now, &PathRules::end_entity()).unwrap();
        assert_eq!(path.certificates().len(), 5, "{sample}");
        assert_eq!(path.root(), &root[0]);
    }
}

#[test]
fn endorsement_keys_of_tpm_makers_lead_to_their_roots() {
    let infineon = "evidence/tpm-ek/infineon/rsa-ek-035";
    let stm = "evidence/tpm-ek/stm/rsa-ek";
    let swtpm = "evidence/tpm-ek/swtpm/rsa-ek";
    for (leaf, above, root, now) in [
        (
            infineon,
            vec![certificate(&format!("{infineon}/intermediate.der"))],
            "root.pem",
            "2023-02-09T15:28:15Z",
        ),
        (
            stm,
            [
                chain(&format!("{stm}/intermediate.pem")),
                chain(&format!("{stm}/intermediate-2.pem")),
            ]
            .concat(),
            "root.pem",
            "2018-07-12T00:00:00Z",
        ),
        (
            swtpm,
            chain(&format!("{swtpm}/issuer.pem")),
            "root.pem",
            "2026-04-02T00:30:55Z",
        ),
    ] {
        let ek = certificate(&format!("{leaf}/cert.der"));
        let roots = chain(&format!("{leaf}/{root}"));
        let path = Path::build(&ek, &above, &roots, &NO_CRLS, at(now), &EK);
        let path = path.unwrap_or_else(|error| panic!("{leaf}: {error}"));
        assert_eq!(path.root(), &roots[0]);
        // the critical name of the chip is not passed over in silence
        let error = Path::build(
            &ek,
            &above,
            &roots,
            &NO_CRLS,
            at(now),
            &PathRules::end_entity(),
        )
        .unwrap_err();
        assert!(
            matches!(&error, PathError::CriticalExtension { oid, .. } if oid == "2.5.29.17"),
            "{leaf}: {error}"
        );
    }
}

#[test]
fn padding_behind_a_certificate_in_nv_is_given_back() {
    let padded = sample("evidence/tpm-ek/stm/rsa-ek-nv-padded/cert.der");
    let (certificate, padding) = Certificate::parse_prefix(&padded).unwrap();
    assert_eq!(padding.len(), 431);
    assert_eq!(certificate.der().len() + padding.len(), padded.len());
    let error = Certificate::parse(&padded).unwrap_err();
    assert!(matches!(error, X509Error::Der(_)), "{error}");
    assert!(error.to_string().contains("431 bytes follow"), "{error}");
}

#[test]
fn a_set_out_of_order_reads() {
    let root = certificate("evidence/tpm-ek/nuvoton/root-2110-bad-set-order/cert.der");
    assert_eq!(
        root.subject().common_name(),
        Some("Nuvoton TPM Root CA 2110")
    );
    assert_eq!(root.subject().attribute("2.5.4.6"), Some("TW"));
    assert!(root.is_self_issued());
}

/// Every bit of a real leaf is under the signature, the key or the structure: no change of one leaves the path standing.
#[test]
fn no_bit_of_a_certificate_can_be_flipped() {
    let root = [certificate(&format!("{ROOTS}/intel/sgx-root-ca.der"))];
    let der = sample(&format!("{ROOTS}/intel/pck-platform-ca.der"));
    let now = at("2026-01-01T00:00:00Z");
    for at in 0..der.len() {
        let mut flipped = der.clone();
        flipped[at] ^= 1 << (at % 8);
        let Ok(certificate) = Certificate::parse(&flipped) else {
            continue;
        };
        let path = Path::build(
            &certificate,
            &[],
            &root,
            &NO_CRLS,
            now,
            &PathRules::authority(),
        );
        assert!(path.is_err(), "byte {at}");
    }
}
