//! Whether bytes are the item they came as: they parse, they are no longer than they may be, and what they say about
//! themselves is what was asked for. No signature is looked at: that is `attest`'s, whenever evidence is judged.

use attest::x509::{Certificate, Crl, Name, X509Error};
use jiff::Timestamp;
use serde::Deserialize;

use crate::item::{Item, MAX_CHAIN, PckCa, Product, Signer, Vcek};

/// Certificates in a chain of Intel's at most: a signer or CA, and the root.
const LONGEST_CHAIN: usize = 4;
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

/// Checks an item's parts. Returns until when its publisher vouches for it, if it says so.
pub(crate) fn check(
    item: &Item,
    body: &[u8],
    issuer_chain: Option<&[u8]>,
) -> Result<Option<Timestamp>, ShapeError> {
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
        Item::AmdVcek(vcek) => check_vcek(vcek, body).map(Some),
        Item::AmdChain { product, signer } => check_amd_chain(*product, *signer, body).map(Some),
        Item::AmdCrl { product, .. } => check_crl(body, Some(&ark_name(*product))),
        Item::IntelTcbInfo { fmspc, .. } => {
            check_tcb_info(&fmspc.to_string().to_uppercase(), body).map(Some)
        }
        Item::IntelQeIdentity { .. } => check_qe_identity(body).map(Some),
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

/// Object identifiers of AMD's extensions. AMD publication 57230, table 8.
mod oid {
    pub(super) const PRODUCT: &str = "1.3.6.1.4.1.3704.1.2";
    pub(super) const BOOT_LOADER: &str = "1.3.6.1.4.1.3704.1.3.1";
    pub(super) const TEE: &str = "1.3.6.1.4.1.3704.1.3.2";
    pub(super) const SNP: &str = "1.3.6.1.4.1.3704.1.3.3";
    pub(super) const MICROCODE: &str = "1.3.6.1.4.1.3704.1.3.8";
    pub(super) const FMC: &str = "1.3.6.1.4.1.3704.1.3.9";
    pub(super) const HARDWARE_ID: &str = "1.3.6.1.4.1.3704.1.4";
}

fn check_vcek(vcek: &Vcek, der: &[u8]) -> Result<Timestamp, ShapeError> {
    let certificate = Certificate::parse(der).map_err(ShapeError::Certificate)?;
    same(
        "the subject",
        "SEV-VCEK",
        common_name(certificate.subject()),
    )?;
    // with a stepping behind it, such as Milan-B0, or without
    let product = certificate
        .extension(oid::PRODUCT)
        .and_then(ia5_string)
        .unwrap_or_default();
    let line = product.split('-').next().unwrap_or_default();
    same("the product line", vcek.product().vendor_name(), line)?;
    let chip = certificate.extension(oid::HARDWARE_ID).unwrap_or_default();
    same("the chip", vcek.chip().to_string(), hex::encode(chip))?;
    let tcb = vcek.tcb();
    for (what, oid, expected) in [
        ("the FMC's version", oid::FMC, tcb.fmc),
        (
            "the boot loader's version",
            oid::BOOT_LOADER,
            Some(tcb.boot_loader),
        ),
        ("the TEE's version", oid::TEE, Some(tcb.tee)),
        ("the SNP firmware's version", oid::SNP, Some(tcb.snp)),
        (
            "the microcode's version",
            oid::MICROCODE,
            Some(tcb.microcode),
        ),
    ] {
        let text = |version: Option<u8>| match version {
            Some(version) => version.to_string(),
            None => "not stated".to_owned(),
        };
        let actual = certificate.extension(oid).and_then(small_integer);
        same(what, text(expected), text(actual))?;
    }
    Ok(certificate.not_after())
}

/// DER `IA5String` of less than 128 bytes.
fn ia5_string(value: &[u8]) -> Option<&str> {
    match value {
        [0x16, length, text @ ..] if usize::from(*length) == text.len() && *length < 0x80 => {
            std::str::from_utf8(text).ok()
        }
        _ => None,
    }
}

/// DER `INTEGER` in `0..=255`.
fn small_integer(value: &[u8]) -> Option<u8> {
    match value {
        [0x02, 1, number @ 0..=0x7f] | [0x02, 2, 0, number @ 0x80..=0xff] => Some(*number),
        _ => None,
    }
}

fn check_amd_chain(product: Product, signer: Signer, pem: &[u8]) -> Result<Timestamp, ShapeError> {
    let chain = chain(pem)?;
    let [signing, root] = chain.as_slice() else {
        return Err(ShapeError::Chain {
            expected: 2,
            actual: chain.len(),
        });
    };
    let name = match signer {
        Signer::Vcek => format!("SEV-{}", product.vendor_name()),
        Signer::Vlek => format!("SEV-VLEK-{}", product.vendor_name()),
    };
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

fn check_crl(der: &[u8], issuer: Option<&str>) -> Result<Option<Timestamp>, ShapeError> {
    let crl = Crl::parse(der).map_err(ShapeError::Crl)?;
    if let Some(issuer) = issuer {
        same("the list's issuer", issuer, common_name(crl.issuer()))?;
    }
    Ok(crl.next_update())
}

/// What of Intel's TCB info names it. The rest is `attest`'s to read.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct TcbInfoDocument {
    tcb_info: TcbInfoHead,
    signature: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct TcbInfoHead {
    id: String,
    fmspc: String,
    next_update: Timestamp,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct QeIdentityDocument {
    enclave_identity: QeIdentityHead,
    signature: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct QeIdentityHead {
    id: String,
    next_update: Timestamp,
}

fn document<'a, T: Deserialize<'a>>(json: &'a [u8]) -> Result<T, ShapeError> {
    serde_json::from_slice(json)
        .map_err(|error| ShapeError::Document(printable(&error.to_string())))
}

fn check_signature(hexadecimal: &str) -> Result<(), ShapeError> {
    let mut signature = [0; 64];
    hex::decode_to_slice(hexadecimal, &mut signature).map_err(|_| ShapeError::Signature)
}

fn check_tcb_info(fmspc: &str, json: &[u8]) -> Result<Timestamp, ShapeError> {
    let document: TcbInfoDocument = document(json)?;
    check_signature(&document.signature)?;
    same("the kind of TCB info", "TDX", document.tcb_info.id)?;
    same("the FMSPC", fmspc, document.tcb_info.fmspc.to_uppercase())?;
    Ok(document.tcb_info.next_update)
}

fn check_qe_identity(json: &[u8]) -> Result<Timestamp, ShapeError> {
    let document: QeIdentityDocument = document(json)?;
    check_signature(&document.signature)?;
    same("the enclave", "TD_QE", document.enclave_identity.id)?;
    Ok(document.enclave_identity.next_update)
}
