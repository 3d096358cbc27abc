//! What a piece of evidence needs to be judged. Reads only what names an item: what is wrong here is fetched in vain, and
//! `attest` judges the evidence itself.

mod certificate;
mod document;
mod snp;
mod tdx;

use std::collections::BTreeSet;

use attest::sev_snp::SigningKey;
use attest::tdx::{PckError, QuoteError};
use attest::x509::{Certificate, X509Error};

use crate::item::{CrlUrl, Item, PckCa, Product, Signer, Update, Vcek};
use crate::shape;

pub use document::needs_of;
pub use snp::SnpReport;
pub use tdx::TdxQuote;

/// The most certificates of one file.
const MAX_CERTIFICATES: usize = 16;

/// A file of evidence, known by its content.
#[derive(Debug, Clone, PartialEq)]
pub enum Piece {
    /// An attestation report of AMD SEV-SNP, alone or in the report of Azure's paravisor.
    SnpReport(SnpReport),
    /// An Intel TDX quote.
    TdxQuote(TdxQuote),
    /// Certificates, DER or PEM. The lists that they name are needed.
    Certificates(Vec<Certificate>),
    /// Certificates that came with a report. The lists about them are AMD's, whatever they name.
    SnpCertificates(Vec<Certificate>),
}

/// Why evidence does not say what it needs.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NeedsError {
    /// A document of a machine that can not be read.
    #[error("the evidence can not be read: {0}")]
    Document(String),
    /// A quote that can not be read.
    #[error("the TDX quote can not be read")]
    Quote(#[source] QuoteError),
    /// The chain in a quote can not be read.
    #[error("the certificates in the TDX quote can not be read")]
    Certificates(#[source] X509Error),
    /// A chain of others than Intel.
    #[error("no certificate in the TDX quote is from a CA of Intel's")]
    NoPck,
    /// A PCK certificate that does not name its platform.
    #[error("the PCK certificate in the TDX quote can not be read")]
    Pck(#[source] PckError),
    /// The report does not say of which product line its processor is, and nothing else does.
    #[error("the report (version {version}) does not name the processor's product line")]
    Product {
        /// The report's version.
        version: u32,
    },
    /// The caller and the report say different product lines.
    #[error("the report is of {report}, and {other} was named")]
    OtherProduct {
        /// What the report says.
        report: Product,
        /// What the caller says.
        other: Product,
    },
}

/// What evidence needs.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Needs {
    /// What can be fetched.
    pub items: BTreeSet<Item>,
    /// What can not, for a person.
    pub unmet: BTreeSet<String>,
}

impl Piece {
    /// Knows a file by its content; `None` for anything else.
    pub fn recognise(bytes: &[u8]) -> Result<Option<Self>, NeedsError> {
        if let Some(report) = SnpReport::find(bytes) {
            return Ok(Some(Self::SnpReport(report)));
        }
        if TdxQuote::is_one(bytes) {
            return TdxQuote::parse(bytes).map(|quote| Some(Self::TdxQuote(quote)));
        }
        let certificates = match Certificate::parse(bytes) {
            Ok(certificate) => vec![certificate],
            Err(_) => Certificate::chain_from_pem(bytes, MAX_CERTIFICATES).unwrap_or_default(),
        };
        Ok((!certificates.is_empty()).then_some(Self::Certificates(certificates)))
    }
}

/// What all pieces of one machine's evidence need together.
///
/// `product` is what the caller knows of the processor; a report of version 3 or later says it itself, and a VCEK or VLEK for one that does
/// not. `update` chooses between Intel's two statements.
///
/// # Errors
/// [`NeedsError::Product`] and [`NeedsError::OtherProduct`].
pub fn needs(
    pieces: &[Piece],
    product: Option<Product>,
    update: Update,
) -> Result<Needs, NeedsError> {
    let mut needs = Needs::default();
    let certificates = || {
        pieces.iter().flat_map(|piece| match piece {
            Piece::Certificates(certificates) | Piece::SnpCertificates(certificates) => {
                certificates.as_slice()
            }
            Piece::SnpReport(_) | Piece::TdxQuote(_) => &[],
        })
    };
    let certified = certificates().find_map(certificate::product_of);
    for piece in pieces {
        match piece {
            Piece::SnpReport(report) => {
                let product = product_of(report, product, certified)?;
                needs.of_report(report, product, certificates());
            }
            Piece::TdxQuote(quote) => needs.of_quote(quote, update),
            Piece::Certificates(certificates) => needs.of_certificates(certificates),
            Piece::SnpCertificates(_) => {}
        }
    }
    Ok(needs)
}

fn product_of(
    report: &SnpReport,
    named: Option<Product>,
    certified: Option<Product>,
) -> Result<Product, NeedsError> {
    match (report.product, named) {
        (Some(report), Some(other)) if report != other => {
            Err(NeedsError::OtherProduct { report, other })
        }
        (said, named) => said.or(named).or(certified).ok_or(NeedsError::Product {
            version: report.version,
        }),
    }
}

impl Needs {
    fn of_report<'a>(
        &mut self,
        report: &SnpReport,
        product: Product,
        mut certificates: impl Iterator<Item = &'a Certificate>,
    ) {
        let signer = match report.key {
            SigningKey::Vcek => {
                match Vcek::new(product, report.chip(product), report.tcb(product)) {
                    Ok(vcek) => {
                        let vcek = Item::AmdVcek(vcek);
                        if !certificates.any(|c| shape::check(&vcek, c.der(), None).is_ok()) {
                            self.items.insert(vcek);
                        }
                    }
                    // a host may hide it, and pass the certificate on
                    Err(error) => {
                        if !certificates.any(|c| certificate::product_of(c) == Some(product)) {
                            self.unmet.insert(format!("the VCEK that signed the report: {error}; the machine can pass it on beside its report"));
                        }
                    }
                }
                Signer::Vcek
            }
            SigningKey::Vlek => {
                if !certificates.any(|c| certificate::is_named(c, "SEV-VLEK")) {
                    self.unmet.insert("the VLEK that signed the report: AMD gives it to the cloud provider only, and a machine passes it on beside its report".to_owned());
                }
                Signer::Vlek
            }
            other @ (SigningKey::Unsigned | SigningKey::Unknown(_)) => {
                self.unmet
                    .insert(format!("a certificate of what signed the report: {other}"));
                return;
            }
        };
        self.items.insert(Item::AmdChain { product, signer });
        self.items.insert(Item::AmdCrl { product, signer });
    }

    fn of_quote(&mut self, quote: &TdxQuote, update: Update) {
        self.items.extend([
            Item::IntelTcbInfo {
                fmspc: quote.fmspc,
                update,
            },
            Item::IntelQeIdentity { update },
            Item::IntelPckCrl { ca: quote.ca },
            Item::IntelRootCrl,
        ]);
    }

    fn of_certificates(&mut self, certificates: &[Certificate]) {
        for url in certificates
            .iter()
            .flat_map(certificate::distribution_points)
        {
            match CrlUrl::parse(&url) {
                // these are asked for as what they are, by who needs them
                Ok(url) if is_vendors_own(&url) => {}
                Ok(url) => {
                    self.items.insert(Item::Crl(url));
                }
                Err(error) => {
                    self.unmet
                        .insert(format!("the revocation list at {url:?}: {error}"));
                }
            }
        }
    }
}

fn is_vendors_own(url: &CrlUrl) -> bool {
    [
        "https://kdsintf.amd.com/",
        "https://certificates.trustedservices.intel.com/",
        "https://api.trustedservices.intel.com/",
    ]
    .iter()
    .any(|vendor| url.as_str().starts_with(vendor))
}

/// The CA of a PCK certificate.
fn ca_of(certificate: &Certificate) -> Option<PckCa> {
    let issuer = certificate.issuer().common_name()?;
    [PckCa::Platform, PckCa::Processor]
        .into_iter()
        .find(|ca| ca.common_name() == issuer)
}
