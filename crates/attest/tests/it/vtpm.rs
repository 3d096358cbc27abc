//! Virtual TPMs of clouds: samples of real machines, and one named lie at a time.

mod authorities;
mod certificates;
mod confidential;
mod hcl;
mod quotes;
mod robustness;
mod samples;

use std::path::{Path, PathBuf};

use attest::azure::{ConfidentialVm, HclReport, SnpRequirements, VmRequirements};
use attest::sev_snp::{self, AcceptedLine, AcceptedLines, PlatformInfo, ProductLine, Tcb};
use attest::tpm::{
    BankValues, HashAlgorithm, PcrValue, PublicKey, QualifyingData, Signature, Statement,
};
use attest::x509::{self, PathCache};
use attest::{Findings, Outcome, PcrIndex, Stop, azure};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use jiff::Timestamp;
use serde_json::Value;

use crate::named;

pub(crate) fn evidence(path: impl AsRef<Path>) -> Vec<u8> {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR"))
        .join("testdata/evidence")
        .join(path);
    std::fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn has(id: &str, file: &str) -> bool {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
        .join("testdata/evidence")
        .join(id)
        .join(file)
        .exists()
}

fn manifest() -> Vec<Value> {
    let manifest: Value = serde_json::from_slice(&evidence("manifest.json")).unwrap();
    manifest["samples"].as_array().unwrap().clone()
}

fn sample(id: &str) -> Value {
    let found = manifest().into_iter().find(|sample| sample["id"] == id);
    found.unwrap_or_else(|| panic!("no sample {id}"))
}

/// A time at which everything in the sample is valid.
pub(crate) fn at(id: &str) -> Timestamp {
    time(sample(id)["at"].as_str().unwrap())
}

fn time(text: &str) -> Timestamp {
    text.parse().unwrap()
}

/// The names of the checks that failed.
fn failed(findings: &Findings) -> Vec<String> {
    named(findings.checks(), Outcome::Failed)
}

/// Refused, for these reasons and no other.
#[track_caller]
fn assert_refused<T>(result: &Result<T, Stop>, findings: &Findings, names: &[&str]) {
    assert_eq!(failed(findings), names, "{findings}");
    assert!(result.is_err(), "{findings}");
}

#[track_caller]
fn accepted<T>(result: Result<T, Stop>, findings: &Findings) -> T {
    assert_eq!(failed(findings), [""; 0], "{findings}");
    result.unwrap_or_else(|_| panic!("{findings}"))
}

/// The one bank of a sample's `pcrs.json`.
pub(crate) fn values(id: &str) -> BankValues {
    let json: Value = serde_json::from_slice(&evidence(format!("{id}/pcrs.json"))).unwrap();
    let (bank, pcrs) = json.as_object().unwrap().iter().next().unwrap();
    let bank = HashAlgorithm::from_name(bank).unwrap();
    let values = pcrs.as_object().unwrap().iter().map(|(index, value)| {
        let index = PcrIndex::new(index.parse().unwrap()).unwrap();
        (
            index,
            PcrValue::from_hex(bank, value.as_str().unwrap()).unwrap(),
        )
    });
    BankValues::new(bank, values).unwrap()
}

/// What the sample was quoted over, as other tools read it.
fn nonce(id: &str) -> Vec<u8> {
    fn find(value: &Value) -> Option<&str> {
        match value {
            Value::Object(fields) => fields
                .get("extra_data")
                .and_then(Value::as_str)
                .or_else(|| fields.values().find_map(find)),
            _ => None,
        }
    }
    let sample = sample(id);
    hex::decode(find(&sample["measured"]).unwrap_or_else(|| panic!("{id}: no nonce"))).unwrap()
}

/// A `SubjectPublicKeyInfo`, in PEM or DER.
fn public_key(bytes: &[u8]) -> PublicKey {
    let der = match bytes.strip_prefix(b"-----BEGIN PUBLIC KEY-----") {
        None => bytes.to_vec(),
        Some(rest) => {
            let base64: Vec<u8> = rest
                .iter()
                .copied()
                .take_while(|byte| *byte != b'-')
                .filter(|byte| !byte.is_ascii_whitespace())
                .collect();
            STANDARD.decode(base64).unwrap()
        }
    };
    let key = x509::PublicKey::from_spki(&der).unwrap();
    PublicKey::try_from(&key).unwrap()
}

/// A statement and its signature, to be changed.
#[derive(Clone)]
struct Quote {
    statement: Vec<u8>,
    signature: Vec<u8>,
    nonce: Vec<u8>,
}

impl Quote {
    fn of(id: &str) -> Self {
        Self {
            statement: evidence(format!("{id}/quote.msg")),
            signature: evidence(format!("{id}/quote.sig")),
            nonce: nonce(id),
        }
    }

    fn verify<'a>(
        &'a self,
        ak: &attest::tpm::TrustedAk,
        findings: &mut Findings,
    ) -> Result<attest::tpm::SignedQuote<'a>, Stop> {
        ak.signed_quote(
            Statement::parse_bare(&self.statement),
            Signature::parse_any_form(ak.key(), &self.signature),
            &QualifyingData::of_nonce(&self.nonce).unwrap(),
            findings,
        )
    }
}

/// Any machine of AMD's that is not for debugging: what these tests are about is the TPM.
fn any_snp() -> sev_snp::Requirements {
    let lines = [
        (ProductLine::Milan, Tcb::milan_genoa(1, 0, 1, 1)),
        (ProductLine::Genoa, Tcb::milan_genoa(1, 0, 1, 1)),
        (ProductLine::Turin, Tcb::turin(0, 1, 0, 1, 1)),
    ];
    let lines = lines.map(|(line, tcb)| AcceptedLine::new(line, tcb, tcb).unwrap());
    sev_snp::Requirements::new(
        AcceptedLines::new(lines).unwrap(),
        sev_snp::LaunchMeasurements::NotChecked,
        sev_snp::IdKeyDigests::NotDemanded,
    )
    .revocation(sev_snp::RevocationDemand::Warn)
    .platform_info(PlatformInfo::from_bits(0))
    .allow_smt()
    .allow_cxl()
    .allow_provisional_firmware()
}

/// The paravisor that made a report: this one, and no other.
fn paravisor_of(measurement: [u8; 48]) -> azure::Paravisor {
    azure::Paravisor::new([measurement], []).unwrap()
}

/// The launch measurement in the SEV-SNP report of an HCL report.
pub(crate) fn snp_measurement(hcl: &[u8]) -> [u8; 48] {
    hcl[32 + 0x90..32 + 0xc0].try_into().unwrap()
}

pub(crate) fn appraise_snp(
    hcl: &[u8],
    vek: &[u8],
    now: Timestamp,
    findings: &mut Findings,
) -> Result<ConfidentialVm<sev_snp::Appraised>, Stop> {
    ConfidentialVm::appraise_snp(
        hcl,
        &sev_snp::Endorsements {
            vek,
            signing: &[],
            crls: &[],
        },
        &SnpRequirements {
            hardware: any_snp(),
            paravisor: paravisor_of(snp_measurement(hcl)),
            vm: VmRequirements::default(),
        },
        &sev_snp::Trust {
            roots: &sev_snp::Roots::amd(),
            cache: &PathCache::default(),
            now,
        },
        findings,
    )
}

pub(crate) fn hcl(id: &str) -> Vec<u8> {
    evidence(format!("{id}/hcl-report.bin"))
}

/// The runtime data begin here.
const RUNTIME: usize = 1236;

/// Report data of the processor's report inside.
fn hcl_report_data(bytes: &[u8]) -> [u8; 64] {
    let at = match HclReport::parse(bytes).unwrap().hardware() {
        azure::Hardware::Snp(_) => 32 + 0x50,
        azure::Hardware::TdReport(_) => 32 + 128,
    };
    bytes[at..at + 64].try_into().unwrap()
}
