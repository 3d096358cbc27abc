//! Parts of real machines in documents, under the roots that are built in. Their quotes are over the nonces of those who recorded them, and
//! no binding has such a digest: so a real machine gets as far as that check, over all before it, and no further.
//!
//! Where a sample has no public area of its key, the area is made here from the key that the processor or the certificate names: it is what
//! a TPM of this kind says of its key.

use attest::azure::{SevSnpDocument, TdxDocument};
use attest::tpm::PublicKey;
use attest::vtpm::TpmEvidence;
use attest::x509::PathCache;
use attest::{
    ClusterMark, Digest, Endorsements, Evidence, Findings, MAX_EVIDENCE, PcrValues, Policy,
    Refusal, RefusalCode, Roots, Trust, Variant, appraise, gcp, tdx,
};
use jiff::Timestamp;
use testkit::boot::Image;
use testkit::cloud::public_area;
use testkit::tee::{AK_ATTRIBUTES, tpm2b};

use super::{OWN, generation, refused};
use crate::binding;
use crate::vtpm::{appraise_snp, at, evidence, hcl, snp_measurement, values};

const SNP: &str = "azure-snp-vtpm/trustee/milan-v3";
const TDX: &str = "azure-tdx-vtpm/flashbots/tdx-2026-06";
const TDX_STATEMENTS: &str = "tdx-collateral/90c06f-2026-06-flashbots";
const GOOGLE: &str = "gcp-vtpm/go-tpm-tools/gce-cos-85-sha256";

fn pcrs(id: &str) -> PcrValues {
    let mut pcrs = PcrValues::at_reset();
    for (index, value) in values(id).iter() {
        let bytes: [u8; 32] = value.as_bytes().try_into().unwrap();
        pcrs.set(index, Digest::from_bytes(bytes));
    }
    pcrs
}

/// What the TPM of a sample stated.
fn statement(id: &str, ak_public: Vec<u8>) -> TpmEvidence {
    let signature = evidence(format!("{id}/quote.sig"));
    TpmEvidence {
        ak_public,
        quote: tpm2b(&evidence(format!("{id}/quote.msg"))),
        // tools write the number alone, or the whole structure
        signature: if signature.len() == 256 {
            [vec![0x00, 0x14, 0x00, 0x0b], tpm2b(&signature)].concat()
        } else {
            signature
        },
        pcrs: pcrs(id),
        event_log: Image::default().event_log(),
        command_line: None,
    }
}

fn area_of(key: &PublicKey) -> Vec<u8> {
    match key {
        PublicKey::Rsa { modulus, .. } => public_area(modulus, AK_ATTRIBUTES),
        PublicKey::P256(_) | PublicKey::P384(_) => panic!("{}", key.describe()),
    }
}

fn judge(
    variant: Variant,
    document: Vec<u8>,
    platform: &str,
    endorsements: &Endorsements,
    now: Timestamp,
) -> Result<attest::Verified, Refusal> {
    let pinned = match platform.split_once('|') {
        Some((measurements, _)) => measurements,
        None => "",
    };
    let section = platform.rsplit('|').next().unwrap();
    let generation = generation(Variant::QemuVtpm, &Image::default(), OWN, None);
    let text = format!(
        "version: 2\nvariant: {variant}\nmeasurements:\n  generations:\n{generation}{pinned}{section}"
    );
    let policy = Policy::from_yaml(&text).unwrap_or_else(|error| panic!("{error:?}\n{text}"));
    assert!(document.len() < MAX_EVIDENCE / 4, "{}", document.len());
    let trust = Trust {
        roots: Roots::vendors(),
        endorsements,
        cache: &PathCache::default(),
        now,
    };
    appraise(
        &Evidence::new(variant, document).unwrap(),
        &binding(),
        &policy,
        &ClusterMark::NotJoined,
        &trust,
    )
}

const BOUND: &[&str] = &["bound to this session"];

#[test]
fn a_real_confidential_vm_of_azure_is_believed_up_to_its_nonce() {
    let report = hcl(SNP);
    let vek = evidence(format!("{SNP}/vek.der"));
    let vm = appraise_snp(&report, &vek, at(SNP), &mut Findings::new()).unwrap();
    let mut document = SevSnpDocument {
        tpm: statement(SNP, area_of(vm.into_ak().key())),
        certificates: vec![vek],
        hcl_report: report.clone(),
    };
    let platform = format!(
        "      launch: {{ accepted: [{}], warnOnly: false }}\n|snp:\n  products:\n    Milan:\n      minimumTcb: {{ bootloader: 3, tee: 0, snp: 8, microcode: 115 }}\n  guestPolicy: {{ permitted: [smt] }}\n  platformInfo: {{ required: [], aliasCheckComplete: optional }}\n  revocationList: warnOnly\n",
        hex::encode(snp_measurement(&report))
    );
    let run = |document: &SevSnpDocument| {
        judge(
            Variant::AzureSevSnp,
            document.to_json(),
            &platform,
            &Endorsements::new(),
            at(SNP),
        )
    };
    refused(SNP, run(&document), BOUND, RefusalCode::WrongBinding);
    // which is after its signature
    let last = document.tpm.signature.len() - 1;
    document.tpm.signature[last] ^= 1;
    refused(
        SNP,
        run(&document),
        &["signature"],
        RefusalCode::NotAuthentic,
    );
}

#[test]
fn a_real_trust_domain_of_azure_is_believed_up_to_its_nonce() {
    let file = |file: &str| evidence(format!("{TDX_STATEMENTS}/{file}"));
    let statements = tdx::Endorsements::parse(&tdx::Collateral {
        tcb_info: &file("tcb_info.json"),
        tcb_info_chain: &file("tcb_signing_chain.pem"),
        qe_identity: &file("qe_identity.json"),
        qe_identity_chain: &file("tcb_signing_chain.pem"),
        crls: &[&file("pck_crl.der"), &file("root_ca_crl.der")],
    })
    .unwrap();
    let mut endorsements = Endorsements::new();
    endorsements.add_intel(statements).unwrap();
    let td_quote = evidence(format!("{TDX}/quote.bin"));
    let mrtd = tdx::Quote::parse(&td_quote).unwrap().body().mrtd;
    let pem = evidence(format!("{TDX}/akcert.pem"));
    let certified = attest::x509::Certificate::chain_from_pem(&pem, 1)
        .unwrap()
        .remove(0);
    let key = PublicKey::try_from(certified.public_key()).unwrap();
    let document = TdxDocument {
        tpm: statement(TDX, area_of(&key)),
        hcl_report: hcl(TDX),
        td_quote,
    };
    let platform = format!(
        "      mrtd: {{ accepted: [{}], warnOnly: false }}\n|tdx:\n  tcbStatuses: [UpToDate]\n  attributes: {{ permitted: [pks, perfmon], septVeDisable: optional }}\n",
        hex::encode(mrtd.as_bytes())
    );
    refused(
        TDX,
        judge(
            Variant::AzureTdx,
            document.to_json(),
            &platform,
            &endorsements,
            at(TDX_STATEMENTS),
        ),
        BOUND,
        RefusalCode::WrongBinding,
    );
}

#[test]
fn a_real_instance_of_google_is_believed_up_to_its_nonce() {
    let document = gcp::SevEsDocument {
        tpm: statement(GOOGLE, tpm2b(&evidence(format!("{GOOGLE}/ak.tpmt_public")))),
        ak_certificate: evidence(format!("{GOOGLE}/akcert.der")),
        certificates: Vec::new(),
    };
    refused(
        GOOGLE,
        judge(
            Variant::GcpSevEs,
            document.to_json(),
            "",
            &Endorsements::new(),
            at(GOOGLE),
        ),
        BOUND,
        RefusalCode::WrongBinding,
    );
}
