//! What real evidence needs.

use std::collections::BTreeSet;

use collateral::needs::{NeedsError, Piece, needs};
use collateral::{Item, Product, Update};
use serde_json::Value;

use crate::lab::{evidence, evidence_path};

fn piece(name: &str) -> Piece {
    Piece::recognise(&evidence(name)).unwrap().unwrap()
}

fn names(items: &BTreeSet<Item>) -> Vec<String> {
    items.iter().map(Item::to_string).collect()
}

fn samples() -> Vec<Value> {
    let manifest = std::fs::read(evidence_path("manifest.json")).unwrap();
    let manifest: Value = serde_json::from_slice(&manifest).unwrap();
    manifest["samples"].as_array().unwrap().clone()
}

#[test]
fn every_real_report_asks_for_the_certificate_that_signed_it() {
    let mut count = 0;
    for sample in samples() {
        let id = sample["id"].as_str().unwrap();
        let measured = &sample["measured"];
        // what independent tools found to belong together
        if measured["chip_match"] != true || measured["tcb_match"] != true {
            continue;
        }
        let product = match measured["chain"][2].as_str() {
            Some("ARK-Milan") => Product::Milan,
            Some("ARK-Genoa") => Product::Genoa,
            Some("ARK-Turin") => Product::Turin,
            other => panic!("{id}: {other:?}"),
        };
        let report = piece(&format!("{id}/report.bin"));
        let alone = needs(
            std::slice::from_ref(&report),
            Some(product),
            Update::Standard,
        )
        .unwrap();
        let vcek = alone
            .items
            .iter()
            .find(|item| matches!(item, Item::AmdVcek(_)))
            .unwrap();
        let der = evidence(&format!("{id}/vek.der"));
        let at = "2026-01-01T00:00:00Z".parse().unwrap();
        collateral::Entry::new(vcek.clone(), at, &der, None).unwrap();
        assert_eq!(alone.items.len(), 3, "{id}");
        // with the certificate beside it, it says its product line itself and does not need the certificate
        let with = needs(
            &[report, piece(&format!("{id}/vek.der"))],
            None,
            Update::Standard,
        )
        .unwrap();
        assert_eq!(
            names(&with.items),
            [
                format!("amd-chain/{product}/vcek"),
                format!("amd-crl/{product}/vcek")
            ],
            "{id}"
        );
        count += 1;
    }
    assert_eq!(count, 14);
}

#[test]
fn a_report_signed_by_a_vlek_needs_its_chain_and_says_what_cannot_be_had() {
    let folder = "snp-vlek/trustee/aws-us-east-2-v3";
    let report = piece(&format!("{folder}/report.bin"));
    let alone = needs(
        std::slice::from_ref(&report),
        Some(Product::Milan),
        Update::Standard,
    )
    .unwrap();
    assert_eq!(
        names(&alone.items),
        ["amd-chain/milan/vlek", "amd-crl/milan/vlek"]
    );
    assert_eq!(alone.unmet.len(), 1);
    let with = [report, piece(&format!("{folder}/vek.der"))];
    assert!(
        needs(&with, None, Update::Standard)
            .unwrap()
            .unmet
            .is_empty()
    );
}

#[test]
fn a_report_within_a_paravisors_report_is_found() {
    let folder = "azure-snp-vtpm/trustee/genoa-v3";
    let found = needs(
        &[piece(&format!("{folder}/hcl-report.bin"))],
        None,
        Update::Standard,
    )
    .unwrap();
    let vcek = found
        .items
        .iter()
        .find(|item| matches!(item, Item::AmdVcek(_)))
        .unwrap();
    let der = evidence(&format!("{folder}/vek.der"));
    let at = "2026-01-01T00:00:00Z".parse().unwrap();
    collateral::Entry::new(vcek.clone(), at, &der, None).unwrap();
}

#[test]
fn a_report_without_a_product_line_asks_for_one() {
    let old = piece("snp-vcek/virtee-sev/milan-v2/report.bin");
    assert_eq!(
        needs(&[old], None, Update::Standard),
        Err(NeedsError::Product { version: 2 })
    );
    let new = piece("snp-vcek/tav/turin-v5/report.bin");
    assert_eq!(
        needs(&[new], Some(Product::Milan), Update::Standard),
        Err(NeedsError::OtherProduct {
            report: Product::Turin,
            other: Product::Milan
        })
    );
}

#[test]
fn every_real_quote_asks_for_its_platforms_statements() {
    let mut count = 0;
    for sample in samples() {
        let id = sample["id"].as_str().unwrap();
        let measured = &sample["measured"];
        if !id.starts_with("tdx/") || measured["pck_chain"].is_null() {
            continue;
        }
        let fmspc = measured["fmspc"].as_str().unwrap();
        let found = needs(&[piece(&format!("{id}/quote.bin"))], None, Update::Early).unwrap();
        assert_eq!(
            names(&found.items),
            [
                format!("intel-tdx-tcb-info/{fmspc}/early"),
                "intel-td-qe-identity/early".to_owned(),
                "intel-pck-crl/platform".to_owned(),
                "intel-root-crl".to_owned(),
            ],
            "{id}"
        );
        count += 1;
    }
    assert_eq!(count, 20);
}

#[test]
fn certificates_of_vtpms_need_the_lists_that_they_name() {
    for (name, expected) in [
        (
            "gcp-vtpm/go-tpm-tools/gce-cos-85-sha256/akcert.der",
            "crl/https://pki.goog/cloud_integrity/tpm_ek_intermediate_2.crl",
        ),
        (
            "azure-vtpm/aicert/trusted-launch-2024/ak-intermediate.pem",
            "crl/http://www.microsoft.com/pkiops/crl/Azure%20Virtual%20TPM%20Root%20Certificate%20Authority%202023.crl",
        ),
    ] {
        let found = needs(&[piece(name)], None, Update::Standard).unwrap();
        assert!(
            names(&found.items).contains(&expected.to_owned()),
            "{name}: {found:?}"
        );
    }
}

#[test]
fn no_cut_of_evidence_panics_and_what_is_none_is_nothing() {
    for name in [
        "tdx/go-tdx-guest/v5-90c06f/quote.bin",
        "tdx/go-tdx-guest/v4-50806f/quote.bin",
        "azure-snp-vtpm/trustee/genoa-v3/hcl-report.bin",
        "snp-vcek/tav/turin-v5/report.bin",
    ] {
        let whole = evidence(name);
        for length in 0..whole.len() {
            if let Ok(Some(Piece::SnpReport(_) | Piece::TdxQuote(_))) =
                Piece::recognise(&whole[..length])
            {
                // the padding behind a quote or a paravisor's report is not needed
                assert!(length > 1184, "{name}: {length}");
            }
        }
    }
    for bytes in [&b""[..], b"{}", b"-----BEGIN CERTIFICATE-----"] {
        assert_eq!(Piece::recognise(bytes), Ok(None));
    }
}

/// A host decides whether a report names its chip. What else is needed is needed all the same.
#[test]
fn a_masked_report_needs_all_but_its_key() {
    let folder = "snp-vcek/tav/turin-v5";
    let mut masked = evidence(&format!("{folder}/report.bin"));
    masked[0x1a0..0x1e0].fill(0);
    let masked = Piece::recognise(&masked).unwrap().unwrap();
    let above = ["amd-chain/turin/vcek", "amd-crl/turin/vcek"];
    let alone = needs(std::slice::from_ref(&masked), None, Update::Standard).unwrap();
    assert_eq!(names(&alone.items), above);
    assert_eq!(alone.unmet.len(), 1);
    let other = piece("snp-vcek/virtee-sev/milan-v2/vek.der");
    let foreign = needs(&[masked.clone(), other], None, Update::Standard).unwrap();
    assert_eq!(foreign.unmet, alone.unmet);
    let with = [masked, piece(&format!("{folder}/vek.der"))];
    let with = needs(&with, None, Update::Standard).unwrap();
    assert_eq!(names(&with.items), above);
    assert!(with.unmet.is_empty(), "{:?}", with.unmet);
}

/// Nor does a certificate of another product line that lies beside it change what a report says of itself.
#[test]
fn a_certificate_of_another_line_is_no_word_about_a_report() {
    let report = piece("snp-vcek/tav/turin-v5/report.bin");
    let alone = needs(std::slice::from_ref(&report), None, Update::Standard).unwrap();
    let other = piece("snp-vcek/virtee-sev/milan-v2/vek.der");
    let with = needs(&[report, other], None, Update::Standard).unwrap();
    assert_eq!(alone.items.len(), 3);
    assert_eq!(with.items, alone.items);
}
