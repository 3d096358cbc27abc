//! The checks of an appraisal of SEV-SNP, by name.

use std::fmt;

/// One check.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CheckName {
    /// The report has its one size, a supported version and signature form.
    ReportFormat,
    /// All fields of the report's version are known.
    ReportVersion,
    /// The certificate of the signing key is one certificate.
    VekFormat,
    /// Subject and issuer are those of a VCEK or VLEK of a known product line.
    VekName,
    /// AMD's extensions are those of the kind and line.
    VekExtensions,
    /// There is a root for the product line.
    LineRoot,
    /// Signatures, validity, constraints and revocation lead to that root.
    Chain,
    /// A revocation list of the root is there and valid.
    RevocationList,
    /// The product in the certificate is of the chain's line.
    VekProduct,
    /// The certified key is of the one kind that signs reports.
    VekKey,
    /// The processor in the report is of the chain's line.
    ReportProduct,
    /// The report says it was signed by a key of the certificate's kind.
    SigningKey,
    /// The certificate is for the levels the report states.
    VekTcb,
    /// The certificate is for the chip the report states.
    ChipId,
    /// The certificate's key signed the report.
    Signature,
    /// The report was made over the demanded data.
    ReportData,
    /// The policy names the product line.
    AcceptedLine,
    /// The policy accepts the kind of key.
    AcceptedKey,
    /// The policy names the cloud provider of a VLEK.
    VlekProvider,
    /// The policy names the chip.
    AcceptedChip,
    /// The host cannot decrypt the guest.
    Debug,
    /// Nobody can move the guest.
    MigrationAgent,
    /// No multithreading, if the policy refuses it.
    Smt,
    /// No CXL, if the policy refuses it.
    Cxl,
    /// The guest's policy makes the demands it must make.
    GuestPolicy,
    /// Bits of the guest's policy whose meaning is not known.
    GuestPolicyUnknown,
    /// The guest demands at least this interface.
    GuestAbi,
    /// The demanded level of the guest asked.
    Vmpl,
    /// The platform is set as demanded.
    PlatformInfo,
    /// The demanded mitigations are verified.
    Mitigations,
    /// The reported levels reach the minimum.
    ReportedTcb,
    /// The levels at launch reach the minimum.
    LaunchTcb,
    /// Committed levels are not below the reported ones.
    CommittedTcb,
    /// Firmware that runs is committed, or at least not older than what is.
    Firmware,
    /// The identity key is accepted.
    IdKeyDigest,
    /// The guest's security version reaches the minimum.
    GuestSvn,
    /// The host passed what it must pass.
    HostData,
    /// The launch measurement is accepted.
    Measurement,
}

impl fmt::Display for CheckName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::ReportFormat => "SNP report format",
            Self::ReportVersion => "SNP report version",
            Self::VekFormat => "VEK certificate format",
            Self::VekName => "VEK certificate names",
            Self::VekExtensions => "VEK certificate extensions",
            Self::LineRoot => "AMD root of the product line",
            Self::Chain => "AMD certificate chain",
            Self::RevocationList => "AMD revocation list",
            Self::VekProduct => "product in the VEK certificate",
            Self::VekKey => "key in the VEK certificate",
            Self::ReportProduct => "processor in the SNP report",
            Self::SigningKey => "signing key of the SNP report",
            Self::VekTcb => "TCB of the VEK certificate",
            Self::ChipId => "chip id",
            Self::Signature => "SNP report signature",
            Self::ReportData => "SNP report data",
            Self::AcceptedLine => "AMD product line",
            Self::AcceptedKey => "kind of AMD key",
            Self::VlekProvider => "provider of the VLEK",
            Self::AcceptedChip => "listed chip",
            Self::Debug => "debug off",
            Self::MigrationAgent => "no migration agent",
            Self::Smt => "simultaneous multithreading",
            Self::Cxl => "CXL",
            Self::GuestPolicy => "guest policy demands",
            Self::GuestPolicyUnknown => "unknown guest policy bits",
            Self::GuestAbi => "guest ABI",
            Self::Vmpl => "VMPL",
            Self::PlatformInfo => "platform info",
            Self::Mitigations => "mitigations",
            Self::ReportedTcb => "reported TCB",
            Self::LaunchTcb => "launch TCB",
            Self::CommittedTcb => "committed TCB",
            Self::Firmware => "committed firmware",
            Self::IdKeyDigest => "id key digest",
            Self::GuestSvn => "guest SVN",
            Self::HostData => "host data",
            Self::Measurement => "launch measurement",
        })
    }
}
