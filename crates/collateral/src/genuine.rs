//! Whether a list or statement is its publisher's, as far as that can be told without evidence.
//!
//! `attest` judges all of it again whenever evidence is appraised. It is looked at here as well because an entry that
//! replaces another one, or keeps it out, acts before that.

use attest::x509::{
    BadSignature, Certificate, Crl, CrlFault, Path, PathError, PathRules, Revocation,
    SignatureScheme, X509Error,
};
use attest::{azure, gcp, sev_snp, tdx};
use jiff::Timestamp;

use crate::item::Item;
use crate::shape::{self, ShapeError, Signed};

/// Why bytes are not what their publisher has published by now.
#[derive(Debug, Clone, thiserror::Error)]
pub enum NotGenuine {
    /// It was made later than now, by more than clocks may differ.
    #[error("it is not yet valid: it is of {issued_at}, and it is {now}; check the clock")]
    NotYetValid {
        /// Its `thisUpdate` or `issueDate`.
        issued_at: Timestamp,
        /// The time of the check.
        now: Timestamp,
    },
    /// The revocation list is not its issuer's.
    #[error("the revocation list can not be believed")]
    Crl(#[source] CrlFault),
    /// Whoever signed it is not certified by Intel's root.
    #[error("its signer's certificate can not be believed")]
    Signer(#[source] PathError),
    /// The signer did not sign the statement.
    #[error("the statement is not its signer's")]
    Statement(#[source] BadSignature),
    /// A part can not be read.
    #[error("it can not be read")]
    Shape(#[source] ShapeError),
    /// This release has no root of the vendor.
    #[error("there is no root to hold it against")]
    NoRoot,
}

/// Whether what is not known to be forged is known to be genuine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Genuine {
    /// Its publisher signed it.
    Verified,
    /// Who could have signed it is known from evidence only.
    Unknown,
}

/// Checks the signature of a list or statement whose issuer is known: AMD's, Intel's, Google's and Microsoft's authorities are built in. A
/// certificate is not looked at, as which of two comes first changes nothing that it says.
pub(crate) fn check(
    item: &Item,
    body: &[u8],
    issuer_chain: &[u8],
    now: Timestamp,
) -> Result<Genuine, NotGenuine> {
    let verified = |result: Result<(), NotGenuine>| result.map(|()| Genuine::Verified);
    verified(match item {
        Item::AmdVcek(_) | Item::AmdChain { .. } => return Ok(Genuine::Unknown),
        Item::Crl(_) => return check_cloud_crl(body),
        Item::AmdCrl { product, .. } => {
            let roots = sev_snp::Roots::amd();
            let line = roots.line(product.line()).ok_or(NotGenuine::NoRoot)?;
            check_crl(body, &line.ark)
        }
        Item::IntelRootCrl => {
            let roots = tdx::Roots::intel();
            let root = roots.certificates().first().ok_or(NotGenuine::NoRoot)?;
            check_crl(body, root)
        }
        Item::IntelPckCrl { .. } => {
            let signer = intel_signer(issuer_chain, &PathRules::authority(), now)?;
            check_crl(body, &signer)
        }
        Item::IntelTcbInfo { .. } => check_statement(shape::tcb_info(body), issuer_chain, now),
        Item::IntelQeIdentity { .. } => {
            check_statement(shape::qe_identity(body), issuer_chain, now)
        }
    })
}

/// A list in the name of an authority that is built in must be by its key. Google has other authorities of such names, of none of which a list
/// is known; one of theirs would be refused as well.
fn check_cloud_crl(der: &[u8]) -> Result<Genuine, NotGenuine> {
    let crl = parse_crl(der)?;
    let clouds = [gcp::authorities(), azure::authorities()];
    let of_its_name: Vec<&Certificate> = clouds
        .iter()
        .flat_map(|cloud| cloud.roots().iter().chain(cloud.intermediates()))
        .filter(|authority| authority.subject() == crl.issuer())
        .collect();
    let mut outcome = Ok(Genuine::Unknown);
    for authority in of_its_name {
        match crl.check_signature(authority) {
            Ok(()) => return Ok(Genuine::Verified),
            Err(fault) => outcome = Err(NotGenuine::Crl(fault)),
        }
    }
    outcome
}

fn check_statement(
    statement: Result<Signed<'_>, ShapeError>,
    issuer_chain: &[u8],
    now: Timestamp,
) -> Result<(), NotGenuine> {
    let (body, signature) = statement.map_err(NotGenuine::Shape)?;
    intel_signer(issuer_chain, &PathRules::end_entity(), now)?
        .public_key()
        .verify(SignatureScheme::EcdsaP256Sha256Fixed, body, &signature)
        .map_err(NotGenuine::Statement)
}

fn check_crl(der: &[u8], issuer: &Certificate) -> Result<(), NotGenuine> {
    parse_crl(der)?
        .check_signature(issuer)
        .map_err(NotGenuine::Crl)
}

fn parse_crl(der: &[u8]) -> Result<Crl, NotGenuine> {
    Crl::parse(der).map_err(|error| NotGenuine::Shape(ShapeError::Crl(error)))
}

/// The first certificate of a chain, which the root itself must have issued. Whether it is revoked since is not looked at:
/// the list that says so is another item.
fn intel_signer(pem: &[u8], rules: &PathRules, now: Timestamp) -> Result<Certificate, NotGenuine> {
    let unreadable = |error: X509Error| NotGenuine::Shape(ShapeError::Certificate(error));
    let chain = Certificate::chain_from_pem(pem, shape::LONGEST_CHAIN).map_err(unreadable)?;
    let signer = chain.first().ok_or(NotGenuine::NoRoot)?;
    Path::build(
        signer,
        &[],
        tdx::Roots::intel().certificates(),
        &Revocation::DangerousNotLookedAt,
        now,
        rules,
    )
    .map(|path| path.leaf().clone())
    .map_err(NotGenuine::Signer)
}
