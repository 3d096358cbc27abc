//! The checks of a TD quote, in the order of [`super::appraise`].

use std::fmt::{self, Display};

use crate::verdict::{Check, CheckName as AnyCheck, Findings, Outcome, RefusalCode, Step, Stop};

/// One check.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CheckName {
    /// The bytes are one quote of a trust domain.
    QuoteFormat,
    /// Intel's statements and revocation lists can be read.
    EndorsementsFormat,
    /// The PCK certificate leads to Intel's root through a CA for platforms, and is not revoked.
    PckChain,
    /// The PCK certificate names its platform.
    PckPlatform,
    /// A TCB signing certificate of Intel's signed the TCB info.
    TcbInfoSignature,
    /// The TCB info holds now.
    TcbInfoTime,
    /// The TCB info is about the platform of the PCK certificate.
    TcbInfoPlatform,
    /// A TCB signing certificate of Intel's signed the QE identity.
    QeIdentitySignature,
    /// The QE identity holds now.
    QeIdentityTime,
    /// The statements are of a set of weaknesses that is not too old.
    EvaluationNumber,
    /// The PCK signed the QE report.
    QeReportSignature,
    /// The quoting enclave vouches for the attestation key.
    AttestationKey,
    /// The attestation key signed the quote.
    QuoteSignature,
    /// The quote was made over what is expected.
    ReportData,
    /// The quoting enclave is Intel's.
    QuotingEnclave,
    /// The TDX module is Intel's.
    TdxModule,
    /// The platform, its TDX module and quoting enclave reach a level that Intel lists.
    TcbLevel,
    /// That level has an accepted status.
    TcbStatus,
    /// The weaknesses of that level are tolerated.
    Advisories,
    /// The quoting enclave is not older than demanded.
    MinimumQeSvn,
    /// The provisioning certification enclave is not older than demanded.
    MinimumPceSvn,
    /// The TDX module and its surroundings are not older than demanded.
    MinimumTeeTcbSvn,
    /// The host cannot look into the trust domain.
    Debug,
    /// The host cannot provoke exceptions by removing pages.
    SeptVeDisable,
    /// No attribute is set that is not accepted.
    Attributes,
    /// No processor state is in use that is not accepted.
    Xfam,
    /// No service domain is bound to the trust domain that is not accepted.
    ServiceTd,
    /// The measurement of the TDX module.
    MrSeam,
    /// The signer of the TDX module.
    MrSignerSeam,
    /// The initial content of the trust domain.
    Mrtd,
    /// What the trust domain measured.
    Rtmr(u8),
    /// The identity of the configuration.
    MrConfigId,
    /// The identity of the owner.
    MrOwner,
    /// The configuration by the owner.
    MrOwnerConfig,
}

impl Display for CheckName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::QuoteFormat => "TD quote format",
            Self::EndorsementsFormat => "Intel's statements: format",
            Self::PckChain => "PCK certificate",
            Self::PckPlatform => "platform in the PCK certificate",
            Self::TcbInfoSignature => "TCB info: signature",
            Self::TcbInfoTime => "TCB info: time",
            Self::TcbInfoPlatform => "TCB info: platform",
            Self::QeIdentitySignature => "QE identity: signature",
            Self::QeIdentityTime => "QE identity: time",
            Self::EvaluationNumber => "TCB evaluation number",
            Self::QeReportSignature => "QE report signature",
            Self::AttestationKey => "attestation key of the quoting enclave",
            Self::QuoteSignature => "TD quote signature",
            Self::ReportData => "report data",
            Self::QuotingEnclave => "quoting enclave",
            Self::TdxModule => "TDX module",
            Self::TcbLevel => "TCB level",
            Self::TcbStatus => "TCB status",
            Self::Advisories => "security advisories",
            Self::MinimumQeSvn => "minimum QE SVN",
            Self::MinimumPceSvn => "minimum PCE SVN",
            Self::MinimumTeeTcbSvn => "minimum TEE TCB SVN",
            Self::Debug => "debug off",
            Self::SeptVeDisable => "SEPT_VE_DISABLE",
            Self::Attributes => "TD attributes",
            Self::Xfam => "XFAM",
            Self::ServiceTd => "service domains",
            Self::MrSeam => "MRSEAM",
            Self::MrSignerSeam => "MRSIGNERSEAM",
            Self::Mrtd => "MRTD",
            Self::Rtmr(index) => return f.pad(&format!("RTMR{index}")),
            Self::MrConfigId => "MRCONFIGID",
            Self::MrOwner => "MROWNER",
            Self::MrOwnerConfig => "MROWNERCONFIG",
        })
    }
}

impl CheckName {
    /// The part of the appraisal it belongs to.
    pub(super) const fn step(self) -> Step {
        match self {
            Self::QuoteFormat => Step::Document,
            Self::EndorsementsFormat
            | Self::PckChain
            | Self::PckPlatform
            | Self::TcbInfoSignature
            | Self::TcbInfoTime
            | Self::TcbInfoPlatform
            | Self::QeIdentitySignature
            | Self::QeIdentityTime => Step::Endorsements,
            Self::QeReportSignature
            | Self::AttestationKey
            | Self::QuotingEnclave
            | Self::QuoteSignature
            | Self::ReportData
            | Self::TdxModule => Step::Report,
            Self::EvaluationNumber
            | Self::TcbLevel
            | Self::TcbStatus
            | Self::Advisories
            | Self::MinimumQeSvn
            | Self::MinimumPceSvn
            | Self::MinimumTeeTcbSvn
            | Self::Debug
            | Self::SeptVeDisable
            | Self::Attributes
            | Self::Xfam
            | Self::ServiceTd
            | Self::MrSeam
            | Self::MrSignerSeam => Step::Platform,
            Self::Mrtd | Self::Rtmr(_) | Self::MrConfigId | Self::MrOwner | Self::MrOwnerConfig => {
                Step::Measurements
            }
        }
    }

    /// What the peer learns when it fails.
    const fn code(self) -> RefusalCode {
        match self.step() {
            Step::Document => RefusalCode::Malformed,
            Step::Platform => RefusalCode::Platform,
            Step::Measurements => RefusalCode::Measurements,
            Step::Endorsements
            | Step::Report
            | Step::Key
            | Step::Quote
            | Step::EventLog
            | Step::ClusterMark => {
                if matches!(self, Self::ReportData) {
                    RefusalCode::WrongBinding
                } else {
                    RefusalCode::NotAuthentic
                }
            }
        }
    }

    /// What holds.
    pub(super) fn pass(self, findings: &mut Findings) {
        findings.pass(self.step(), AnyCheck::Tdx(self));
    }

    /// What must hold: expected, actual, and what to do if it does not. The words are put together only then.
    pub(super) fn demand(
        self,
        findings: &mut Findings,
        holds: bool,
        words: [&dyn Display; 2],
        next_step: &str,
    ) -> Result<(), Stop> {
        if holds {
            self.pass(findings);
            return Ok(());
        }
        Err(self.refuse(findings, words, next_step))
    }

    /// What does not hold.
    pub(super) fn refuse(
        self,
        findings: &mut Findings,
        words: [&dyn Display; 2],
        next_step: &str,
    ) -> Stop {
        let check = self.with(Outcome::Failed, words, next_step);
        findings.fail(self.code(), check)
    }

    /// What must be known, and does not refuse.
    pub(super) fn warn(self, findings: &mut Findings, words: [&dyn Display; 2], next_step: &str) {
        let check = self.with(Outcome::Warning, words, next_step);
        findings.push(self.code(), check);
    }

    fn with(
        self,
        outcome: Outcome,
        [expected, actual]: [&dyn Display; 2],
        next_step: &str,
    ) -> Check {
        Check {
            expected: Some(expected.to_string().into()),
            actual: Some(actual.to_string().into()),
            next_step: Some(next_step.into()),
            ..Check::new(self.step(), AnyCheck::Tdx(self), outcome)
        }
    }
}
