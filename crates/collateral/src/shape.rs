//! Whether bytes are the item they came as: they parse, they are no longer than they may be, and what they say about
//! themselves is what was asked for. Signatures are not looked at here.

use std::sync::Arc;

use attest::sev_snp::{HardwareId, ProductLine, VekError, VekExtensions, VekKind, VekOwner};
use attest::x509::{Certificate, Crl, Name, X509Error};
use jiff::Timestamp;
use serde::Deserialize;
use serde_json::value::RawValue;

use crate::item::{Item, MAX_CHAIN, PckCa, Product, Signer, TcbVersion, Vcek};

/// Certificates in a chain of Intel's at most: a signer or CA, and the root.
pub(crate) const LONGEST_CHAIN: usize = 4;
/// Common name of Intel's root.
const INTEL_ROOT: &str = "Intel SGX Root CA";
/// Common name of whoever signs Intel's statements.
const INTEL_TCB_SIGNER: &str = "Intel SGX TCB Signing";

/// What is wrong with bytes that came as an item.
#[derive(Debug, Clone, thiserror::Error)]
pub enum ShapeError {
    /// Too long.
    #[error("more than {0} bytes")]
    TooLong(usize),
    /// No certificate, or not as many as there must be.
    #[error("the certificate does not parse")]
    Certificate(#[source] X509Error),
    /// No certificate of a chip's key of the product line.
    #[error("the certificate is not one of a chip of the product line")]
    Vek(#[source] VekError),
    /// A chain of another length.
    #[error("{actual} certificates in place of {expected}")]
    Chain {
        /// How many there must be.
        expected: usize,
        /// How many there are.
        actual: usize,
    },
    /// No revocation list.
    #[error("the revocation list does not parse")]
    Crl(#[source] X509Error),
    /// No document of the kind.
    #[error("the document does not parse: {0}")]
    Document(String),
    /// A signature that is none.
    #[error("the document's signature is not 64 bytes in hexadecimal")]
    Signature,
    /// It is something else.
    #[error("{what} is {actual}, not {expected}")]
    Other {
        /// What differs.
        what: &'static str,
        /// What it had to be.
        expected: String,
        /// What it is.
        actual: String,
    },
    /// The signer's chain is not there, or is there and must not be.
    #[error("the signer's chain is missing, or there is one where there is none")]
    IssuerChain,
}

/// What an item says about itself.
pub(crate) struct Claims {
    /// Until when its publisher vouches for it, if it says so.
    pub(crate) valid_until: Option<Timestamp>,
    /// Of a list or statement.
    pub(crate) edition: Option<Edition>,
}

/// Which of several lists or statements of one item its publisher made later: the greater one.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Edition {
    /// `tcbEvaluationDataNumber`; 0 of a list.
    evaluation: u32,
    /// `issueDate` or `thisUpdate`.
    pub(crate) issued_at: Timestamp,
    /// A list's number, if it has one: its length, and its bytes without leading zeros. After the time, because a time is
    /// held against the clock, and of a list whose signature can not be checked a number could be as great as anybody likes.
    number: Option<(usize, Arc<[u8]>)>,
}

impl Claims {
    fn of_certificate(valid_until: Timestamp) -> Self {
        Self {
            valid_until: Some(valid_until),
            edition: None,
        }
    }
}

/// Checks an item's parts. Returns what they say about themselves.
pub(crate) fn check(
    item: &Item,
    body: &[u8],
    issuer_chain: Option<&[u8]>,
) -> Result<Claims, ShapeError> {
    if body.len() > item.limit() {
        return Err(ShapeError::TooLong(item.limit()));
    }
    if issuer_chain.is_some() != item.has_issuer_chain() {
        return Err(ShapeError::IssuerChain);
    }
    if let Some(chain) = issuer_chain {
        check_issuer_chain(item, chain)?;
    }
    match item {
        Item::AmdVcek(vcek) => check_vcek(vcek, body).map(Claims::of_certificate),
        Item::AmdChain { product, signer } => {
            check_amd_chain(*product, *signer, body).map(Claims::of_certificate)
        }
        Item::AmdCrl { product, .. } => check_crl(body, Some(&ark_name(*product))),
        Item::IntelTcbInfo { fmspc, .. } => check_tcb_info(&fmspc.to_string().to_uppercase(), body),
        Item::IntelQeIdentity { .. } => check_qe_identity(body),
        Item::IntelPckCrl { ca } => check_crl(body, Some(ca.common_name())),
        Item::IntelRootCrl => check_crl(body, Some(INTEL_ROOT)),
        Item::Crl(_) => check_crl(body, None),
    }
}

fn same(
    what: &'static str,
    expected: impl Into<String>,
    actual: impl Into<String>,
) -> Result<(), ShapeError> {
    let (expected, actual) = (expected.into(), actual.into());
    if expected == actual {
        return Ok(());
    }
    let actual = printable(&actual);
    Err(ShapeError::Other {
        what,
        expected,
        actual,
    })
}

/// Foreign text for a message: short, and nothing that a terminal obeys.
pub(crate) fn printable(text: &str) -> String {
    text.chars()
        .map(|c| if c.is_control() { ' ' } else { c })
        .take(200)
        .collect()
}

fn common_name(name: &Name) -> &str {
    name.common_name().unwrap_or_default()
}

fn ark_name(product: Product) -> String {
    format!("ARK-{}", product.vendor_name())
}

fn check_vcek(vcek: &Vcek, der: &[u8]) -> Result<Timestamp, ShapeError> {
    let certificate = Certificate::parse(der).map_err(ShapeError::Certificate)?;
    let kind = VekKind::Vcek;
    let subject = common_name(certificate.subject());
    same("the subject", kind.common_name(), subject)?;
    let line = vcek.product().line();
    let issuer = common_name(certificate.issuer());
    same("the issuer", kind.issuer_name(line), issuer)?;
    let extensions = VekExtensions::read(kind, line, |oid| certificate.extension(oid))
        .map_err(ShapeError::Vek)?;
    let product = extensions.product_line().map(ProductLine::name);
    let product = product.unwrap_or(&extensions.product_name);
    same("the product line", line.name(), product)?;
    let chip = match &extensions.owner {
        VekOwner::Chip(HardwareId::Long(id)) => hex::encode(id),
        VekOwner::Chip(HardwareId::Short(id)) => hex::encode(id),
        VekOwner::Provider(name) => name.clone(),
    };
    same("the chip", vcek.chip().to_string(), chip)?;
    let raw = u64::from_le_bytes(extensions.tcb.0);
    let actual = TcbVersion::from_raw(vcek.product(), raw);
    same(
        "the TCB version",
        vcek.tcb().to_string(),
        actual.to_string(),
    )?;
    Ok(certificate.not_after())
}

fn check_amd_chain(product: Product, signer: Signer, pem: &[u8]) -> Result<Timestamp, ShapeError> {
    let chain = chain(pem)?;
    let [signing, root] = chain.as_slice() else {
        return Err(ShapeError::Chain {
            expected: 2,
            actual: chain.len(),
        });
    };
    let kind = match signer {
        Signer::Vcek => VekKind::Vcek,
        Signer::Vlek => VekKind::Vlek,
    };
    let name = kind.issuer_name(product.line());
    same("the first subject", name, common_name(signing.subject()))?;
    same(
        "the second subject",
        ark_name(product),
        common_name(root.subject()),
    )?;
    Ok(signing.not_after().min(root.not_after()))
}

fn chain(pem: &[u8]) -> Result<Vec<Certificate>, ShapeError> {
    if pem.len() > MAX_CHAIN {
        return Err(ShapeError::TooLong(MAX_CHAIN));
    }
    Certificate::chain_from_pem(pem, LONGEST_CHAIN).map_err(ShapeError::Certificate)
}

fn check_issuer_chain(item: &Item, pem: &[u8]) -> Result<(), ShapeError> {
    let chain = chain(pem)?;
    let [signer, root] = chain.as_slice() else {
        return Err(ShapeError::Chain {
            expected: 2,
            actual: chain.len(),
        });
    };
    let name = match item {
        Item::IntelPckCrl {
            ca: PckCa::Platform,
        } => PckCa::Platform.common_name(),
        Item::IntelPckCrl {
            ca: PckCa::Processor,
        } => PckCa::Processor.common_name(),
        Item::IntelTcbInfo { .. }
        | Item::IntelQeIdentity { .. }
        | Item::AmdVcek(_)
        | Item::AmdChain { .. }
        | Item::AmdCrl { .. }
        | Item::IntelRootCrl
        | Item::Crl(_) => INTEL_TCB_SIGNER,
    };
    same("the signer", name, common_name(signer.subject()))?;
    same("the signer's root", INTEL_ROOT, common_name(root.subject()))
}

fn check_crl(der: &[u8], issuer: Option<&str>) -> Result<Claims, ShapeError> {
    let crl = Crl::parse(der).map_err(ShapeError::Crl)?;
    if let Some(issuer) = issuer {
        same("the list's issuer", issuer, common_name(crl.issuer()))?;
    }
    let number = crl.number().map(|number| {
        let zeros = number.iter().take_while(|byte| **byte == 0).count();
        let number = number.get(zeros..).unwrap_or_default();
        (number.len(), number.into())
    });
    Ok(Claims {
        valid_until: crl.next_update(),
        edition: Some(Edition {
            evaluation: 0,
            issued_at: crl.this_update(),
            number,
        }),
    })
}

/// What of Intel's TCB info names it. The rest is `attest`'s to read.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct TcbInfoHead {
    id: String,
    fmspc: String,
    issue_date: Timestamp,
    next_update: Timestamp,
    tcb_evaluation_data_number: u32,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct QeIdentityHead {
    id: String,
    issue_date: Timestamp,
    next_update: Timestamp,
    tcb_evaluation_data_number: u32,
}

/// The body as it was sent, which is what is signed.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct TcbInfoDocument<'a> {
    #[serde(borrow, rename = "tcbInfo")]
    body: &'a RawValue,
    signature: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct QeIdentityDocument<'a> {
    #[serde(borrow, rename = "enclaveIdentity")]
    body: &'a RawValue,
    signature: String,
}

fn document<'a, T: Deserialize<'a>>(json: &'a [u8]) -> Result<T, ShapeError> {
    serde_json::from_slice(json)
        .map_err(|error| ShapeError::Document(printable(&error.to_string())))
}

/// The bytes of a statement that are signed, and the signature.
pub(crate) type Signed<'a> = (&'a [u8], [u8; 64]);

fn signed<'a>(body: &'a RawValue, hexadecimal: &str) -> Result<Signed<'a>, ShapeError> {
    let mut signature = [0; 64];
    hex::decode_to_slice(hexadecimal, &mut signature).map_err(|_| ShapeError::Signature)?;
    Ok((body.get().as_bytes(), signature))
}

pub(crate) fn tcb_info(json: &[u8]) -> Result<Signed<'_>, ShapeError> {
    let document: TcbInfoDocument<'_> = document(json)?;
    signed(document.body, &document.signature)
}

pub(crate) fn qe_identity(json: &[u8]) -> Result<Signed<'_>, ShapeError> {
    let document: QeIdentityDocument<'_> = document(json)?;
    signed(document.body, &document.signature)
}

fn statement(valid_until: Timestamp, issued_at: Timestamp, evaluation: u32) -> Claims {
    Claims {
        valid_until: Some(valid_until),
        edition: Some(Edition {
            evaluation,
            issued_at,
            number: None,
        }),
    }
}

fn check_tcb_info(fmspc: &str, json: &[u8]) -> Result<Claims, ShapeError> {
    let (body, _) = tcb_info(json)?;
    let head: TcbInfoHead = document(body)?;
    same("the kind of TCB info", "TDX", head.id)?;
    same("the FMSPC", fmspc, head.fmspc.to_uppercase())?;
    let evaluation = head.tcb_evaluation_data_number;
    Ok(statement(head.next_update, head.issue_date, evaluation))
}

fn check_qe_identity(json: &[u8]) -> Result<Claims, ShapeError> {
    let (body, _) = qe_identity(json)?;
    let head: QeIdentityHead = document(body)?;
    same("the enclave", "TD_QE", head.id)?;
    let evaluation = head.tcb_evaluation_data_number;
    Ok(statement(head.next_update, head.issue_date, evaluation))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::item::{CrlUrl, Fmspc, Update};

    #[test]
    fn a_list_is_older_by_its_time_and_then_by_its_number() {
        let file = std::path::Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("../attest/testdata/evidence/roots/google/gcp-ek-ak-ca-intermediate.crl");
        let real = std::fs::read(file).unwrap();
        let find = |what: &[u8]| real.windows(what.len()).position(|w| w == what).unwrap();
        // CRL number 669: the extension's identifier, an OCTET STRING, an INTEGER
        let number = find(&[0x55, 0x1d, 0x14, 4, 4, 2, 2, 0x02, 0x9d]) + 7;
        let this_update = find(b"240507005104Z");
        let item = Item::Crl(CrlUrl::parse("http://pki.goog/cloud_integrity/a.crl").unwrap());
        let edition = |change: &dyn Fn(&mut [u8])| {
            let mut der = real.clone();
            change(&mut der);
            check(&item, &der, None).unwrap().edition
        };
        let real = edition(&|_| {});
        let earlier = edition(&|der| {
            der[this_update + 5] = b'6';
            der[number] = 0x7f;
        });
        assert!(earlier < real, "a number can be anything");
        assert!(edition(&|der| der[number] = 0x01) < real);
        assert!(edition(&|der| der[number] = 0x03) > real);
    }

    /// While Intel judges by a new number, statements by the one before go on being issued.
    #[test]
    fn a_statement_of_a_smaller_evaluation_number_is_older_whatever_its_date() {
        let set = std::path::Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("../attest/testdata/evidence/tdx-collateral/90c06f-2026-06-flashbots");
        let read = |name| std::fs::read_to_string(set.join(name)).unwrap();
        let update = Update::Standard;
        let fmspc = Fmspc::new([0x90, 0xc0, 0x6f, 0, 0, 0]);
        for (item, file) in [
            (Item::IntelTcbInfo { fmspc, update }, "tcb_info.json"),
            (Item::IntelQeIdentity { update }, "qe_identity.json"),
        ] {
            let text = read(file);
            let chain = read("tcb_signing_chain.pem");
            let edition = |number: &str, date: &str| {
                let text = text
                    .replace("DataNumber\":19", &format!("DataNumber\":{number}"))
                    .replace("issueDate\":\"2026-06-08", &format!("issueDate\":\"{date}"));
                check(&item, text.as_bytes(), Some(chain.as_bytes()))
                    .unwrap()
                    .edition
            };
            let real = edition("19", "2026-06-08");
            assert!(edition("18", "2026-06-25") < real, "{item}");
            assert!(edition("20", "2026-06-01") > real, "{item}");
            assert!(edition("19", "2026-06-07") < real, "{item}");
            assert!(edition("19", "2026-06-09") > real, "{item}");
        }
    }
}
