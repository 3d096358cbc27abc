//! TPMs whose key a vendor certifies, and those whose key somebody else vouches for.

use attest::azure::{self, trusted_launch_ak};
use attest::gcp::{self, InstanceRequirements};
use attest::policy::Generation;
use attest::tpm::{EndorsedAk, PublicArea, PublicKey, TrustedAk};
use attest::x509::{self, Certificate, MAX_INTERMEDIATES};
use attest::{CheckName, Findings, RefusalCode, Step};

use super::{End, Question, quote};
use crate::failure::Failure;

const KEY: &[&str] = &["ak.pem", "ak.der"];

pub(super) fn verify_azure(
    question: &Question,
    generation: Option<&Generation>,
    findings: &mut Findings,
) -> Result<(), End> {
    let certified = Certified::of(question, findings)?;
    let authorities = azure::authorities();
    let ak = trusted_launch_ak(
        &certified.certificate,
        &certified.intermediates,
        &authorities,
        &authorities.revocation(&question.crls),
        question.now,
        findings,
    )?;
    let ak = claimed(question, ak, findings)?;
    quote::verify(question, &ak, generation, findings)
}

pub(super) fn verify_google(
    question: &Question,
    generation: Option<&Generation>,
    findings: &mut Findings,
) -> Result<(), End> {
    let certified = Certified::of(question, findings)?;
    let authorities = gcp::authorities();
    let instance = gcp::ak(
        &certified.certificate,
        &certified.intermediates,
        &authorities,
        &authorities.revocation(&question.crls),
        &InstanceRequirements::of_any_tenant(),
        question.now,
        findings,
    )?;
    let ak = claimed(question, instance.into_ak(), findings)?;
    quote::verify(question, &ak, generation, findings)
}

pub(super) fn verify_enrolled(
    question: &Question,
    generation: Option<&Generation>,
    findings: &mut Findings,
) -> Result<(), End> {
    let key = public_key(question.files.need(KEY)?)?;
    findings.warn(
        Step::Key,
        CheckName::HardwareRoot,
        "somebody who vouches for the key",
        &format!("{}, by nobody but who put it there", key.describe()),
        "the verdict is worth what you know of this key: compare it with the one of your machine",
    );
    let ak = TrustedAk::enrolled_by_operator(key);
    quote::verify(question, &ak, generation, findings)
}

/// The certificate of an attestation key.
struct Certified {
    certificate: Vec<u8>,
    intermediates: Vec<Certificate>,
}

impl Certified {
    fn of(question: &Question, findings: &mut Findings) -> Result<Self, End> {
        const NAMES: &[&str] = &["akcert.der", "akcert.pem", "ak-chain.pem"];
        if question.files.get(NAMES).is_none() && question.files.get(KEY).is_some() {
            // it says which key signs, and nothing of who holds it
            findings.demand(
                Step::Key,
                CheckName::HardwareRoot,
                RefusalCode::NotAuthentic,
                false,
                "a certificate of the attestation key, by the vendor of the TPM",
                "a key without one",
                "ask the machine for the certificate of its attestation key: akcert.der",
            )?;
        }
        let bytes = question.files.need(NAMES)?;
        let given = question.given.certificates().iter();
        let others = given.chain(question.beside.certificates());
        let (certificate, others): (_, Vec<&Certificate>) =
            match Certificate::chain_from_pem(bytes, MAX_INTERMEDIATES) {
                Ok(chain) => {
                    // DER has no certificate in PEM; what is wrong with it the appraisal says
                    let first = chain.first().map_or(bytes, Certificate::der);
                    (first.to_vec(), others.collect())
                }
                Err(_) => (bytes.to_vec(), others.collect()),
            };
        let intermediates = others
            .into_iter()
            .filter(|it| it.is_ca() && !it.is_self_issued())
            .take(MAX_INTERMEDIATES / 2)
            .cloned()
            .collect();
        Ok(Self {
            certificate,
            intermediates,
        })
    }
}

/// The key that the machine says it signs with must be the certified one.
fn claimed(question: &Question, ak: EndorsedAk, findings: &mut Findings) -> Result<TrustedAk, End> {
    if let Some(area) = question.files.get(&["ak.tpmt_public"]) {
        // without the size that a TPM puts before it
        let mut sized = u16::try_from(area.len())
            .map_err(|_| Failure::usage("ak.tpmt_public is too long"))?
            .to_be_bytes()
            .to_vec();
        sized.extend_from_slice(area);
        let area = findings.parse(Step::Key, CheckName::KeyFormat, PublicArea::parse(&sized))?;
        return Ok(ak.with_public_area(&area, findings)?);
    }
    if let Some(key) = question.files.get(KEY) {
        let key = public_key(key)?;
        return Ok(ak.is(&key, findings)?.trusted());
    }
    Ok(ak.trusted())
}

/// A `SubjectPublicKeyInfo`, in PEM or DER.
pub(super) fn public_key(bytes: &[u8]) -> Result<PublicKey, Failure> {
    let wrong = |why: String| Failure::usage(format!("the attestation key can not be read: {why}"));
    let der = match bytes.strip_prefix(b"-----BEGIN PUBLIC KEY-----") {
        None => bytes.to_vec(),
        Some(rest) => {
            let text: Vec<u8> = rest
                .iter()
                .copied()
                .take_while(|byte| *byte != b'-')
                .filter(|byte| !byte.is_ascii_whitespace())
                .collect();
            base64(&text).ok_or_else(|| wrong("it is no PEM".to_owned()))?
        }
    };
    let key = x509::PublicKey::from_spki(&der).map_err(|error| wrong(error.to_string()))?;
    PublicKey::try_from(&key).map_err(|error| wrong(error.to_string()))
}

fn base64(text: &[u8]) -> Option<Vec<u8>> {
    use base64::Engine as _;
    base64::engine::general_purpose::STANDARD.decode(text).ok()
}
