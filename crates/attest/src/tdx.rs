//! Intel TDX: quotes of trust domains.
//!
//! What an accepted quote shows: a trust domain with these attributes and measurements ran on a processor of Intel's, under a TDX
//! module and firmware of an accepted level, and said these 64 bytes. What it does not show: what its RTMRs mean (that is the event
//! log's matter), and where the machine stands.
//!
//! Steps, in this order, each believed only if the ones before it hold:
//! 1. the quote is of a trust domain, with an ECDSA P-256 key and a PCK certificate chain,
//! 2. the PCK certificate leads to the root over a CA for platforms, and neither is revoked,
//! 3. TCB info and QE identity are signed by a TCB signing certificate under the same root, hold now, and are about this platform,
//! 4. the PCK signed the QE report, the report names the attestation key, the enclave is Intel's, and the key signed the quote,
//! 5. the report data are the expected ones,
//! 6. the TDX module is Intel's, and platform, module and enclave reach an accepted TCB level,
//! 7. the trust domain has accepted attributes and measurements.
//!
//! 1 to 5 and the identity of the module stop at the first failure; the rest of 6 and 7 is collected, so that a person sees all of it.
//! Sources: Intel TDX DCAP quoting library API (quote format), PCS API v4, and the order of checks of Intel's Quote Verification
//! Library (4.1.2.4).

mod attributes;
mod authenticity;
mod body;
mod check;
mod endorsements;
mod pck;
mod platform;
mod qe_identity;
mod qe_report;
mod quote;
mod requirements;
mod roots;
mod signed;
mod status;
mod tcb_info;
mod trust_domain;

pub use attributes::TdAttributes;
pub use body::{Register, ReportData, Td15, TdReport, TeeTcbSvn};
pub use check::CheckName;
pub use endorsements::{ChainError, Collateral, Endorsements, EndorsementsError};
pub use pck::{PckError, PckExtensions, PlatformFlags, SgxType};
pub use qe_identity::QeIdentity;
pub use qe_report::QeReport;
pub use quote::{Header, MAX_QUOTE, Quote, QuoteError, QuoteVersion};
pub use requirements::{
    AcceptableStatus, Accepted, Advisories, Launch, Requirements, SeptVe, Td15Rule,
};
pub use roots::Roots;
pub use signed::{MAX_STATEMENT, StatementError};
pub use status::TcbStatus;
pub use tcb_info::TcbInfo;

use jiff::Timestamp;

use crate::verdict::{CheckName as AnyCheck, Findings, Step, Stop};
use crate::x509::{PathCache, PathRules};

/// What an appraisal trusts, and when it is.
#[derive(Clone, Copy, Debug)]
pub struct Trust<'a> {
    /// Where all chains must end.
    pub roots: &'a Roots,
    /// Signatures of certificates and CRLs that were verified before. A new one costs four verifications more.
    pub cache: &'a PathCache,
    /// The time at which everything must hold.
    pub now: Timestamp,
}

/// A trust domain that fulfils all requirements. Only [`appraise`] makes one.
#[derive(Debug)]
pub struct Appraised {
    report: TdReport,
    pck: PckExtensions,
    status: TcbStatus,
    advisories: Vec<String>,
}

impl Appraised {
    /// What the TDX module says about it.
    #[must_use]
    pub const fn report(&self) -> &TdReport {
        &self.report
    }

    /// The measurement of its initial content.
    #[must_use]
    pub const fn mrtd(&self) -> &Register {
        &self.report.mrtd
    }

    /// Its runtime measurements: what an event log must lead to.
    #[must_use]
    pub const fn rtmrs(&self) -> &[Register; 4] {
        &self.report.rtmrs
    }

    /// The platform it ran on.
    #[must_use]
    pub const fn platform(&self) -> &PckExtensions {
        &self.pck
    }

    /// The TCB status that the requirements accepted.
    #[must_use]
    pub const fn tcb_status(&self) -> TcbStatus {
        self.status
    }

    /// The advisories of that level.
    #[must_use]
    pub fn advisories(&self) -> &[String] {
        &self.advisories
    }
}

/// Appraises a quote, as the head of the module says.
///
/// # Errors
/// After the last check that could be made, if any failed; `findings` has all of them.
pub fn appraise(
    quote: &[u8],
    endorsements: &Endorsements,
    requirements: &Requirements,
    report_data: &ReportData,
    trust: &Trust<'_>,
    findings: &mut Findings,
) -> Result<Appraised, Stop> {
    let quote = findings.parse(
        Step::Document,
        AnyCheck::Tdx(CheckName::QuoteFormat),
        Quote::parse(quote),
    )?;
    let rules = PathRules::end_entity().crls_from(requirements.crls_from);
    let platform = authenticity::platform(&quote, endorsements, trust, &rules, findings)?;
    let statements =
        authenticity::statements(endorsements, &platform.pck, trust, &rules, findings)?;
    let qe_report = authenticity::qe_report(&quote, &platform, &statements, findings)?;
    let report = authenticity::report(&quote, qe_report, &statements, report_data, findings)?;

    let judged = platform::judge(
        report,
        qe_report,
        &platform.pck,
        &statements,
        requirements,
        findings,
    );
    let trust_domain = trust_domain::judge(report, requirements, findings);
    let judged = judged?;
    trust_domain?;
    Ok(Appraised {
        report: report.clone(),
        pck: platform.pck,
        status: judged.status,
        advisories: judged.advisories,
    })
}
