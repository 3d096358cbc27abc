//! What a policy demands of a trust domain and its platform.

use jiff::Timestamp;

use super::attributes::TdAttributes;
use super::body::{Register, TeeTcbSvn};
use super::status::TcbStatus;

/// What a value may be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Accepted<T> {
    /// One of these, and nothing else. An empty list accepts nothing.
    AnyOf(Vec<T>),
    /// One of these; anything else is a warning, which says what was expected.
    Warn(Vec<T>),
    /// Anything: the verdict says what it was, as a warning where it matters.
    Open,
}

/// What a trust domain must have measured. There is no default: who leaves something open says so.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Launch {
    /// The initial content, which is the firmware.
    pub mrtd: Accepted<Register>,
    /// What was measured since: 0 the firmware's configuration, 1 the boot loader and kernel, 2 what they start, 3 for applications.
    pub rtmrs: [Accepted<Register>; 4],
}

/// A TCB status that a policy may accept: not the ones that nobody may.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AcceptableStatus(TcbStatus);

impl AcceptableStatus {
    /// Nothing, for a status that no policy can accept: [`TcbStatus::Revoked`], and one that this release does not know.
    #[must_use]
    pub const fn new(status: TcbStatus) -> Option<Self> {
        match status {
            TcbStatus::Revoked | TcbStatus::Unrecognized => None,
            TcbStatus::UpToDate
            | TcbStatus::SwHardeningNeeded
            | TcbStatus::ConfigurationNeeded
            | TcbStatus::ConfigurationAndSwHardeningNeeded
            | TcbStatus::OutOfDate
            | TcbStatus::OutOfDateConfigurationNeeded
            | TcbStatus::TdRelaunchAdvised
            | TcbStatus::TdRelaunchAdvisedConfigurationNeeded => Some(Self(status)),
        }
    }

    /// The status.
    #[must_use]
    pub const fn status(self) -> TcbStatus {
        self.0
    }
}

/// Which advisories a level that is not up to date may have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Advisories {
    /// These ids (`INTEL-SA-..`); any other refuses.
    Tolerated(Vec<String>),
    /// Whatever the accepted status comes with.
    Any,
}

/// Whether the host may provoke exceptions in the trust domain by taking pages away.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SeptVe {
    /// `SEPT_VE_DISABLE` must be set.
    MustBeDisabled,
    /// It may be clear, because what runs first in the trust domain guards itself, as a paravisor does. The verdict warns.
    GuestGuardsItself,
}

/// Whether a TDX module that knows TD 1.5 may be reported on with a TD 1.0 body, as all quotes of version 4 do. Such a body does not
/// name service domains, nor the module that runs now, and it is the host that chooses the form.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Td15Rule {
    /// It may, unless a service domain is demanded. The verdict warns.
    MayBeHidden,
    /// It may not.
    Demanded,
}

/// What a policy demands. [`Requirements::new`] takes what has no safe default; everything else starts strict.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Requirements {
    /// What must have been measured.
    pub launch: Launch,
    /// Accepted TCB statuses. At first only `UpToDate`.
    pub statuses: Vec<AcceptableStatus>,
    /// Tolerated advisories. At first none.
    pub advisories: Advisories,
    /// Advisories (`INTEL-SA-..`) that a level must not have, whatever its status is. At first none.
    pub refused_advisories: Vec<String>,
    /// The smallest `tcbEvaluationDataNumber` of TCB info and QE identity. Intel serves two: "standard" and "early".
    pub minimum_evaluation_number: u32,
    /// The earliest time at which a CRL may have been made. At first any that has not run out: that of the root holds for a year.
    pub crls_from: Timestamp,
    /// The smallest SVN of the quoting enclave.
    pub minimum_qe_svn: u16,
    /// The smallest SVN of the provisioning certification enclave.
    pub minimum_pce_svn: u16,
    /// The smallest SVNs of the TDX module and its surroundings, byte by byte, at the start and now. The first byte is of modules of
    /// the major version that the second one names: a module of a later version may have any that Intel's statement accepts.
    pub minimum_tee_tcb_svn: TeeTcbSvn,
    /// Exceptions that the host could provoke. At first they must be disabled.
    pub sept_ve: SeptVe,
    /// Attributes that may be set, beside those that other fields are about. At first none.
    pub attributes: TdAttributes,
    /// Accepted processor state. At first open.
    pub xfam: Accepted<u64>,
    /// Accepted service domains. At first only zero, which is none.
    pub mr_service_td: Accepted<Register>,
    /// Bodies that leave out service domains. At first accepted with a warning, because many machines make no other quotes.
    pub td_1_5: Td15Rule,
    /// Accepted TDX modules. At first open: Intel's statement decides which module is current.
    pub mr_seam: Accepted<Register>,
    /// Accepted signers of TDX modules. At first only zero, which is Intel.
    pub mr_signer_seam: Accepted<Register>,
    /// Accepted configurations. At first open.
    pub mr_config_id: Accepted<Register>,
    /// Accepted owners. At first open.
    pub mr_owner: Accepted<Register>,
    /// Accepted configurations by the owner. At first open.
    pub mr_owner_config: Accepted<Register>,
}

impl Requirements {
    /// The same, and every TDX module that knows TD 1.5 must say all of it: no quotes of version 4 from such machines.
    #[must_use]
    pub fn demand_td_1_5(self) -> Self {
        Self {
            td_1_5: Td15Rule::Demanded,
            ..self
        }
    }

    /// The strictest requirements on a platform, for a trust domain that measured this.
    #[must_use]
    pub fn new(launch: Launch) -> Self {
        Self {
            launch,
            statuses: vec![AcceptableStatus(TcbStatus::UpToDate)],
            advisories: Advisories::Tolerated(Vec::new()),
            refused_advisories: Vec::new(),
            minimum_evaluation_number: 0,
            crls_from: Timestamp::MIN,
            minimum_qe_svn: 0,
            minimum_pce_svn: 0,
            minimum_tee_tcb_svn: TeeTcbSvn([0; 16]),
            sept_ve: SeptVe::MustBeDisabled,
            attributes: TdAttributes::NONE,
            xfam: Accepted::Open,
            mr_service_td: Accepted::AnyOf(vec![Register::ZERO]),
            td_1_5: Td15Rule::MayBeHidden,
            mr_seam: Accepted::Open,
            mr_signer_seam: Accepted::AnyOf(vec![Register::ZERO]),
            mr_config_id: Accepted::Open,
            mr_owner: Accepted::Open,
            mr_owner_config: Accepted::Open,
        }
    }
}
