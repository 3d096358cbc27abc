//! AMD SEV-SNP: the report that the processor's firmware signs, and AMD's word for the key that signed it.
//!
//! What it shows: a genuine AMD processor of an accepted product line, with firmware of accepted levels, runs a guest with this launch
//! measurement and policy, and a part of that guest at this privilege level asked for a report over this data. What it does not show: what
//! runs in the guest beyond the measurement; where the machine stands; attacks with physical access to the memory bus.
//!
//! Steps, in this order, each believed only if the ones before it hold:
//! 1. the report has its one form ([`Report`]),
//! 2. the key's certificate has AMD's names and extensions, and leads to the built-in root of its product line ([`Roots`]), with AMD's
//!    word on revocation,
//! 3. report and certificate agree on processor, kind of key, chip and levels, and the key signed the report over the demanded data,
//! 4. platform, firmware and guest policy are those of the [`Requirements`]; here every check is made, so that a person sees all at once,
//! 5. the launch measurement is accepted.
//!
//! Specifications: AMD publications 56860 (SEV-SNP firmware ABI) and 57230 (VCEK certificates and their service).

mod authentic;
mod bits;
mod candidates;
mod chain;
mod check;
mod checks;
mod platform;
mod product;
mod report;
mod requirements;
mod roots;
mod tcb;
mod vek;

pub use authentic::{ReportData, ReportDataSize};
pub use bits::{Abi, GuestPolicy, KeyInfo, PlatformInfo, SigningKey};
pub use candidates::Candidates;
pub use chain::{Endorsements, Trust};
pub use check::CheckName;
pub use product::{CpuId, ProductLine};
pub use report::{
    FirmwareVersion, Mitigations, REPORT_SIZE, Report, ReportError, ReportFields, ReportVersion,
};
pub use requirements::{
    Accepted, AcceptedKeys, AcceptedLine, AcceptedLines, Chips, HostData, IdKeyDigests,
    LaunchMeasurements, ProviderNames, Providers, Requirements, RequirementsError,
    RevocationDemand, Vmpl,
};
pub use roots::{LineRoot, Roots};
pub use tcb::{RawTcb, Tcb, TcbLayout};
pub use vek::{HardwareId, VekError, VekExtensions, VekKind, VekOwner, oid};

use crate::verdict::{Findings, Step, Stop};
use checks::Checks;

/// A machine that passed. Only [`appraise`] makes one.
#[derive(Debug)]
pub struct Appraised {
    report: Report,
    line: ProductLine,
    vek: VekExtensions,
}

impl Appraised {
    /// What the firmware stated.
    #[must_use]
    pub const fn report(&self) -> &ReportFields {
        self.report.fields()
    }

    /// The product line, by AMD's chain.
    #[must_use]
    pub const fn product_line(&self) -> ProductLine {
        self.line
    }

    /// Levels that the signing key was derived for.
    #[must_use]
    pub const fn reported_tcb(&self) -> Tcb {
        self.vek.tcb.decode(self.line.tcb_layout())
    }

    /// Whose key signed: a chip's or a cloud provider's.
    #[must_use]
    pub const fn owner(&self) -> &VekOwner {
        &self.vek.owner
    }
}

/// Decides whether `report` is of a machine that `requirements` accept, made over `report_data`, and adds every check to `findings`.
///
/// # Errors
/// If a check failed; `findings` say which.
pub fn appraise(
    report: &[u8],
    endorsements: &Endorsements<'_>,
    requirements: &Requirements,
    report_data: &ReportData,
    trust: &Trust<'_>,
    findings: &mut Findings,
) -> Result<Appraised, Stop> {
    let report = checks::parse(
        findings,
        Step::Document,
        CheckName::ReportFormat,
        Report::parse(report),
    )?;
    let version = report.fields().version;
    if !version.is_known() {
        Checks::new(findings, Step::Document).warn(
            CheckName::ReportVersion,
            [
                &format_args!("at most {}", ReportVersion::NEWEST_KNOWN.number()),
                &version.number(),
            ],
            "newer firmware may state more than is looked at here: look for a newer release",
        );
    }
    let key = chain::verify(endorsements, requirements, trust, findings)?;
    authentic::verify(&report, &key, report_data, findings)?;
    platform::verify(report.fields(), &key, requirements, findings)?;
    Ok(Appraised {
        report,
        line: key.line,
        vek: key.extensions,
    })
}
