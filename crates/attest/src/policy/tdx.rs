//! What a policy demands of a TDX machine, as validated data.
//!
//! Names: Intel TDX Module ABI specification ("ATTRIBUTES", "XFAM", "TEE_TCB_SVN") and the provisioning certification
//! service's TCB info. Nothing here reads a quote.

use std::collections::BTreeSet;
use std::fmt;

use jiff::Timestamp;
use serde_json::json;

use super::demands::Demands;
use super::flags::{self, Flag, set};
use super::generation::{self, Accepted384, Generation};
use super::snp::LISTS_FROM;
use crate::yaml::Value;
use crate::{Digest384, tdx};

/// The most entries of a list.
const MAX_LIST: usize = 64;

/// What Intel says about a platform's TCB, without `Revoked`, which is never accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum TcbStatus {
    /// Nothing is known against it.
    UpToDate,
    /// The software in the machine must help itself.
    SwHardeningNeeded,
    /// The platform's settings must be changed.
    ConfigurationNeeded,
    /// Both.
    ConfigurationAndSwHardeningNeeded,
    /// Updates are missing.
    OutOfDate,
    /// Updates are missing, and settings must be changed.
    OutOfDateConfigurationNeeded,
    /// The platform was updated after the machine was started.
    TdRelaunchAdvised,
    /// The same, and settings must be changed.
    TdRelaunchAdvisedConfigurationNeeded,
}

impl TcbStatus {
    /// Every status that a policy can accept.
    pub const ALL: [Self; 8] = [
        Self::UpToDate,
        Self::SwHardeningNeeded,
        Self::ConfigurationNeeded,
        Self::ConfigurationAndSwHardeningNeeded,
        Self::OutOfDate,
        Self::OutOfDateConfigurationNeeded,
        Self::TdRelaunchAdvised,
        Self::TdRelaunchAdvisedConfigurationNeeded,
    ];

    /// Intel's name.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::UpToDate => "UpToDate",
            Self::SwHardeningNeeded => "SWHardeningNeeded",
            Self::ConfigurationNeeded => "ConfigurationNeeded",
            Self::ConfigurationAndSwHardeningNeeded => "ConfigurationAndSWHardeningNeeded",
            Self::OutOfDate => "OutOfDate",
            Self::OutOfDateConfigurationNeeded => "OutOfDateConfigurationNeeded",
            Self::TdRelaunchAdvised => "TDRelaunchAdvised",
            Self::TdRelaunchAdvisedConfigurationNeeded => "TDRelaunchAdvisedConfigurationNeeded",
        }
    }

    const fn into_intel(self) -> tdx::TcbStatus {
        match self {
            Self::UpToDate => tdx::TcbStatus::UpToDate,
            Self::SwHardeningNeeded => tdx::TcbStatus::SwHardeningNeeded,
            Self::ConfigurationNeeded => tdx::TcbStatus::ConfigurationNeeded,
            Self::ConfigurationAndSwHardeningNeeded => {
                tdx::TcbStatus::ConfigurationAndSwHardeningNeeded
            }
            Self::OutOfDate => tdx::TcbStatus::OutOfDate,
            Self::OutOfDateConfigurationNeeded => tdx::TcbStatus::OutOfDateConfigurationNeeded,
            Self::TdRelaunchAdvised => tdx::TcbStatus::TdRelaunchAdvised,
            Self::TdRelaunchAdvisedConfigurationNeeded => {
                tdx::TcbStatus::TdRelaunchAdvisedConfigurationNeeded
            }
        }
    }

    /// Whether updates are missing.
    #[must_use]
    pub const fn is_out_of_date(self) -> bool {
        matches!(self, Self::OutOfDate | Self::OutOfDateConfigurationNeeded)
    }

    fn of(name: &str) -> Result<Self, String> {
        Self::ALL
            .into_iter()
            .find(|status| status.as_str() == name)
            .ok_or_else(|| match name {
                "Revoked" => "Revoked is never accepted".to_owned(),
                _ => format!("{name:?} is no TCB status"),
            })
    }

    /// Reads a list of statuses.
    pub(crate) fn list(value: &Value<'_>) -> Option<BTreeSet<Self>> {
        set(value, &Self::ALL.map(Self::as_str).join(", "), Self::of)
    }
}

impl fmt::Display for TcbStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// Attributes that a TD may have. Debugging and migration are never accepted, so they have no name here.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum TdAttribute {
    /// Linear address space separation.
    Lass,
    /// Supervisor protection keys.
    Pks,
    /// Key Locker.
    KeyLocker,
    /// Performance monitoring.
    Perfmon,
}

impl Flag for TdAttribute {
    const ALL: &'static [Self] = &[Self::Lass, Self::Pks, Self::KeyLocker, Self::Perfmon];

    fn as_str(self) -> &'static str {
        match self {
            Self::Lass => "lass",
            Self::Pks => "pks",
            Self::KeyLocker => "keyLocker",
            Self::Perfmon => "perfmon",
        }
    }

    fn bit(self) -> u32 {
        match self {
            Self::Lass => 27,
            Self::Pks => 30,
            Self::KeyLocker => 31,
            Self::Perfmon => 63,
        }
    }
}

/// Version numbers that must be reached. Zero: any.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Minimums {
    /// TEE_TCB_SVN, by byte.
    pub tee_tcb_svn: [u8; 16],
    /// Of the quoting enclave.
    pub qe_svn: u16,
    /// Of the provisioning certification enclave.
    pub pce_svn: u16,
    /// Of the TCB info: which of Intel's recoveries the platform is judged by.
    pub tcb_evaluation_data_number: u32,
}

impl Minimums {
    pub(crate) fn raised_to(&self, other: &Self) -> Self {
        let mut tee_tcb_svn = self.tee_tcb_svn;
        for (mine, theirs) in tee_tcb_svn.iter_mut().zip(other.tee_tcb_svn) {
            *mine = (*mine).max(theirs);
        }
        Self {
            tee_tcb_svn,
            qe_svn: self.qe_svn.max(other.qe_svn),
            pce_svn: self.pce_svn.max(other.pce_svn),
            tcb_evaluation_data_number: self
                .tcb_evaluation_data_number
                .max(other.tcb_evaluation_data_number),
        }
    }
}

/// What a policy demands of a TDX machine. That it is not debugged and does not migrate is not in it: it is always
/// demanded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TdxPolicy {
    pub(crate) statuses: BTreeSet<TcbStatus>,
    pub(crate) advisories: BTreeSet<String>,
    pub(crate) refused_advisories: BTreeSet<String>,
    pub(crate) mr_seam: BTreeSet<Digest384>,
    pub(crate) permitted: BTreeSet<TdAttribute>,
    pub(crate) demands_sept_ve_disable: bool,
    pub(crate) xfam: BTreeSet<u64>,
    pub(crate) minimums: Minimums,
    pub(crate) lists_from: Option<Timestamp>,
}

impl TdxPolicy {
    /// Accepted statuses of the TCB.
    #[must_use]
    pub const fn statuses(&self) -> &BTreeSet<TcbStatus> {
        &self.statuses
    }

    /// Advisories that an accepted level may be open to.
    #[must_use]
    pub const fn advisories(&self) -> &BTreeSet<String> {
        &self.advisories
    }

    /// Advisories that a level must not have, whatever its status is.
    #[must_use]
    pub const fn refused_advisories(&self) -> &BTreeSet<String> {
        &self.refused_advisories
    }

    /// Accepted TDX modules. Empty: every module that Intel's TCB info knows.
    #[must_use]
    pub const fn mr_seam(&self) -> &BTreeSet<Digest384> {
        &self.mr_seam
    }

    /// Attributes that may be set. What is not here must not.
    #[must_use]
    pub const fn permitted(&self) -> &BTreeSet<TdAttribute> {
        &self.permitted
    }

    /// Whether SEPT_VE_DISABLE must be set: pages that the host takes away then stop the TD instead of raising an
    /// exception in it. What runs first can guard itself instead, as a paravisor does.
    #[must_use]
    pub const fn demands_sept_ve_disable(&self) -> bool {
        self.demands_sept_ve_disable
    }

    /// Accepted values of XFAM. Empty: any.
    #[must_use]
    pub const fn xfam(&self) -> &BTreeSet<u64> {
        &self.xfam
    }

    /// Version numbers that must be reached.
    #[must_use]
    pub const fn minimums(&self) -> &Minimums {
        &self.minimums
    }

    /// The earliest time at which a revocation list may have been made. One that is older counts as none; without a time
    /// each list counts until its own end.
    #[must_use]
    pub const fn revocation_lists_from(&self) -> Option<Timestamp> {
        self.lists_from
    }

    /// The same policy with more demands. It accepts nothing that this one does not.
    #[must_use]
    pub fn with(&self, demands: &Demands) -> Self {
        Self {
            statuses: &self.statuses - &demands.refused_statuses,
            advisories: &self.advisories - &demands.refused_advisories,
            refused_advisories: &self.refused_advisories | &demands.refused_advisories,
            permitted: &self.permitted - &demands.forbidden_attributes,
            demands_sept_ve_disable: self.demands_sept_ve_disable
                || demands.demands_sept_ve_disable,
            minimums: self.minimums.raised_to(&demands.minimums),
            ..self.clone()
        }
    }

    /// What is demanded of the quote of a machine of this generation. A register that the policy does not name is left open.
    #[must_use]
    pub fn requirements(&self, generation: &Generation) -> tdx::Requirements {
        use tdx::{Accepted, Advisories, Launch, Register, SeptVe, TdAttributes, TeeTcbSvn};

        let register = |register: Option<&Accepted384>| {
            let Some(register) = register else {
                return Accepted::Open;
            };
            let values = register
                .accepted
                .iter()
                .map(|digest| Register::from_bytes(*digest.as_bytes()))
                .collect();
            if register.warn_only {
                Accepted::Warn(values)
            } else {
                Accepted::AnyOf(values)
            }
        };
        let rtmr = |number: u8| register(generation.rtmrs().get(&number));
        let launch = Launch {
            mrtd: register(generation.mrtd()),
            rtmrs: [rtmr(0), rtmr(1), rtmr(2), Accepted::Open],
        };
        let statuses = self
            .statuses
            .iter()
            .filter_map(|status| tdx::AcceptableStatus::new(status.into_intel()));
        let attributes = TdAttributes::from_bits(flags::mask(&self.permitted));
        tdx::Requirements {
            statuses: statuses.collect(),
            advisories: Advisories::Tolerated(self.advisories.iter().cloned().collect()),
            refused_advisories: self.refused_advisories.iter().cloned().collect(),
            minimum_evaluation_number: self.minimums.tcb_evaluation_data_number,
            minimum_qe_svn: self.minimums.qe_svn,
            minimum_pce_svn: self.minimums.pce_svn,
            minimum_tee_tcb_svn: TeeTcbSvn(self.minimums.tee_tcb_svn),
            crls_from: self.lists_from.unwrap_or(Timestamp::MIN),
            sept_ve: if self.demands_sept_ve_disable {
                SeptVe::MustBeDisabled
            } else {
                SeptVe::GuestGuardsItself
            },
            attributes,
            xfam: if self.xfam.is_empty() {
                Accepted::Open
            } else {
                Accepted::AnyOf(self.xfam.iter().copied().collect())
            },
            mr_seam: if self.mr_seam.is_empty() {
                Accepted::Open
            } else {
                let modules = self
                    .mr_seam
                    .iter()
                    .map(|digest| Register::from_bytes(*digest.as_bytes()));
                Accepted::AnyOf(modules.collect())
            },
            ..tdx::Requirements::new(launch)
        }
    }

    /// Why no machine at all could follow it, if that is so.
    pub(crate) fn accepts_nothing(&self) -> Option<String> {
        self.statuses
            .is_empty()
            .then(|| "no TCB status is left".to_owned())
    }

    pub(crate) fn read(value: &Value<'_>) -> Option<Self> {
        const STATUSES: &str =
            "a list of at least one of Intel's statuses, such as UpToDate, SWHardeningNeeded";
        let mut section = value.section()?;
        let statuses = section
            .required("tcbStatuses", STATUSES)
            .and_then(|value| not_empty(TcbStatus::list(&value)?, &value, STATUSES));
        let advisories = section
            .optional("advisories")
            .map_or_else(|| Some(BTreeSet::new()), |value| advisories(&value));
        let refused_advisories = section.optional("refusedAdvisories").map_or_else(
            || Some(BTreeSet::new()),
            |value| {
                let refused = self::advisories(&value)?;
                match advisories.iter().flatten().find(|id| refused.contains(*id)) {
                    None => Some(refused),
                    Some(id) => {
                        value.problem(format!("{id} is both tolerated and refused"), "one of them");
                        None
                    }
                }
            },
        );
        let mr_seam = section.optional("mrSeam").map_or_else(
            || Some(BTreeSet::new()),
            |value| {
                const RULE: &str = "a list of SHA-384 digests, 96 hex digits each";
                let modules = set(&value, RULE, |text| {
                    text.parse::<Digest384>().map_err(|error| error.to_string())
                })?;
                not_empty(modules, &value, RULE)
            },
        );
        let attributes = section
            .optional("attributes")
            .map_or_else(|| Some((BTreeSet::new(), true)), |value| attributes(&value));
        let xfam = section.optional("xfam").map_or_else(
            || Some(BTreeSet::new()),
            |value| {
                const RULE: &str = "a list of values of 16 hex digits each";
                not_empty(set(&value, RULE, hex_u64)?, &value, RULE)
            },
        );
        let minimums = section
            .optional("minimums")
            .map_or_else(|| Some(Minimums::default()), |value| minimums(&value));
        let lists_from = section
            .optional(LISTS_FROM)
            .map_or(Some(None), |value| generation::time(&value).map(Some));
        section.finish();
        let (permitted, demands_sept_ve_disable) = attributes?;
        Some(Self {
            statuses: statuses?,
            advisories: advisories?,
            refused_advisories: refused_advisories?,
            mr_seam: mr_seam?,
            permitted,
            demands_sept_ve_disable,
            xfam: xfam?,
            minimums: minimums?,
            lists_from: lists_from?,
        })
    }

    pub(crate) fn to_json(&self) -> serde_json::Value {
        let statuses: Vec<&str> = self.statuses.iter().map(|status| status.as_str()).collect();
        let mut json = json!({
            "tcbStatuses": statuses,
            "advisories": self.advisories,
            "attributes": {
                "permitted": flags::names(&self.permitted),
                "septVeDisable": if self.demands_sept_ve_disable { "required" } else { "optional" },
            },
            "minimums": {
                "teeTcbSvn": hex::encode(self.minimums.tee_tcb_svn),
                "qeSvn": self.minimums.qe_svn,
                "pceSvn": self.minimums.pce_svn,
                "tcbEvaluationDataNumber": self.minimums.tcb_evaluation_data_number,
            },
        });
        if let Some(json) = json.as_object_mut() {
            if !self.refused_advisories.is_empty() {
                json.insert(
                    "refusedAdvisories".to_owned(),
                    json!(self.refused_advisories),
                );
            }
            if let Some(from) = self.lists_from {
                json.insert(LISTS_FROM.to_owned(), json!(from));
            }
            if !self.mr_seam.is_empty() {
                json.insert("mrSeam".to_owned(), json!(self.mr_seam));
            }
            if !self.xfam.is_empty() {
                let values: Vec<String> = self.xfam.iter().map(|v| format!("{v:016x}")).collect();
                json.insert("xfam".to_owned(), json!(values));
            }
        }
        json
    }
}

fn attributes(value: &Value<'_>) -> Option<(BTreeSet<TdAttribute>, bool)> {
    let mut section = value.section()?;
    let permitted = flags::list(&mut section, "permitted");
    let sept_ve = section
        .optional("septVeDisable")
        .map_or(Some(true), |value| {
            value.parse("required, optional", |text| match text {
                "required" => Ok(true),
                "optional" => Ok(false),
                _ => Err(format!("{text:?} is not known")),
            })
        });
    section.finish();
    permitted.zip(sept_ve)
}

/// Reads `minimums`.
pub(crate) fn minimums(value: &Value<'_>) -> Option<Minimums> {
    let mut section = value.section()?;
    let tee_tcb_svn = section
        .optional("teeTcbSvn")
        .map_or(Some([0; 16]), |value| {
            value.word("32 hex digits: 16 numbers, byte by byte", |text| {
                let mut bytes = [0; 16];
                hex::decode_to_slice(text, &mut bytes)
                    .map(|()| bytes)
                    .map_err(|_| {
                        format!("{} characters are not 32 hex digits", text.chars().count())
                    })
            })
        });
    let mut small = |name: &'static str| {
        section.optional(name).map_or(Some(0), |value| {
            u16::try_from(value.number(0, u16::MAX.into())?).ok()
        })
    };
    let (qe_svn, pce_svn) = (small("qeSvn"), small("pceSvn"));
    let number = section
        .optional("tcbEvaluationDataNumber")
        .map_or(Some(0), |value| value.number(0, u32::MAX));
    section.finish();
    Some(Minimums {
        tee_tcb_svn: tee_tcb_svn?,
        qe_svn: qe_svn?,
        pce_svn: pce_svn?,
        tcb_evaluation_data_number: number?,
    })
}

/// Reads a list of advisories.
pub(crate) fn advisories(value: &Value<'_>) -> Option<BTreeSet<String>> {
    const RULE: &str = "a list of at most 64 of Intel's names, such as INTEL-SA-00837";
    let advisories = set(value, RULE, |text| {
        let number = text
            .strip_prefix("INTEL-SA-")
            .or_else(|| text.strip_prefix("INTEL-DOC-"));
        let is_number =
            |n: &str| (1..=8).contains(&n.len()) && n.bytes().all(|byte| byte.is_ascii_digit());
        match number {
            Some(n) if is_number(n) => Ok(text.to_owned()),
            _ => Err(format!("{text:?} is no advisory of Intel's")),
        }
    })?;
    if advisories.len() > MAX_LIST {
        value.problem(format!("{} advisories are listed", advisories.len()), RULE);
        return None;
    }
    Some(advisories)
}

fn not_empty<T>(set: BTreeSet<T>, value: &Value<'_>, rule: &str) -> Option<BTreeSet<T>> {
    if set.is_empty() || set.len() > MAX_LIST {
        value.problem(format!("{} entries are listed", set.len()), rule);
        return None;
    }
    Some(set)
}

fn hex_u64(text: &str) -> Result<u64, String> {
    let wrong = || format!("{text:?} is not 16 hex digits");
    if text.len() != 16 || !text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return Err(wrong());
    }
    u64::from_str_radix(text, 16).map_err(|_| wrong())
}
