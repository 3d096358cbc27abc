//! TCB info: what Intel says about the firmware levels of a family of platforms (PCS API v4, "Get TDX TCB Info", version 3).

use jiff::Timestamp;
use serde::Deserialize;

use super::body::{TdReport, TeeTcbSvn};
use super::pck::PckExtensions;
use super::signed::{self, Signed, StatementError, bytes_of_hex};
use super::status::TcbStatus;

/// Intel publishes up to a dozen.
const MAX_LEVELS: usize = 128;
/// One for each major version of the TDX module.
const MAX_MODULES: usize = 64;
/// Of one level.
const MAX_ADVISORIES: usize = 512;

/// The signed body.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct TcbInfo {
    id: String,
    version: u32,
    /// From when on it is said.
    pub issue_date: Timestamp,
    /// Until when it is said.
    pub next_update: Timestamp,
    /// Family, model, stepping, platform type, custom SKU.
    #[serde(deserialize_with = "bytes_of_hex")]
    pub fmspc: [u8; 6],
    /// The provisioning certification enclave.
    #[serde(deserialize_with = "bytes_of_hex")]
    pub pce_id: [u8; 2],
    tcb_type: u32,
    /// Grows with each set of known weaknesses that Intel judges by.
    pub tcb_evaluation_data_number: u32,
    tdx_module: ModuleSigner,
    #[serde(default)]
    tdx_module_identities: Vec<ModuleIdentity>,
    tcb_levels: Vec<PlatformLevel>,
}

/// Who signed a TDX module, and its attributes.
#[derive(Clone, Debug, Deserialize)]
struct ModuleSigner {
    #[serde(rename = "mrsigner", deserialize_with = "bytes_of_hex")]
    mr_signer: [u8; 48],
    #[serde(deserialize_with = "bytes_of_hex")]
    attributes: [u8; 8],
    #[serde(rename = "attributesMask", deserialize_with = "bytes_of_hex")]
    attributes_mask: [u8; 8],
}

impl ModuleSigner {
    fn is_of(&self, report: &TdReport) -> bool {
        report.mr_signer_seam.as_bytes() == &self.mr_signer
            && masked(&report.seam_attributes, &self.attributes_mask)
                .eq(masked(&self.attributes, &self.attributes_mask))
    }
}

#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct ModuleIdentity {
    id: String,
    #[serde(rename = "mrsigner", deserialize_with = "bytes_of_hex")]
    mr_signer: [u8; 48],
    #[serde(deserialize_with = "bytes_of_hex")]
    attributes: [u8; 8],
    #[serde(deserialize_with = "bytes_of_hex")]
    attributes_mask: [u8; 8],
    tcb_levels: Vec<SvnLevel>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct PlatformLevel {
    tcb: PlatformTcb,
    tcb_date: Timestamp,
    tcb_status: TcbStatus,
    #[serde(rename = "advisoryIDs", default)]
    advisories: Vec<String>,
}

#[derive(Clone, Debug, Deserialize)]
struct PlatformTcb {
    #[serde(rename = "sgxtcbcomponents")]
    sgx: [ComponentSvn; 16],
    #[serde(rename = "pcesvn")]
    pce_svn: u16,
    #[serde(rename = "tdxtcbcomponents")]
    tdx: [ComponentSvn; 16],
}

/// A level may demand more than any platform can have: Intel's reference data does.
#[derive(Clone, Copy, Debug, Deserialize)]
struct ComponentSvn {
    svn: u32,
}

/// A level of something with one SVN: a TDX module or a quoting enclave.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct SvnLevel {
    tcb: SvnTcb,
    pub(super) tcb_status: TcbStatus,
    #[serde(rename = "advisoryIDs", default)]
    pub(super) advisories: Vec<String>,
}

#[derive(Clone, Copy, Debug, Deserialize)]
struct SvnTcb {
    #[serde(rename = "isvsvn")]
    isv_svn: u16,
}

/// The first level that `svn` reaches: Intel lists the newest first.
pub(super) fn level_of(levels: &[SvnLevel], svn: u16) -> Option<&SvnLevel> {
    levels.iter().find(|level| svn >= level.tcb.isv_svn)
}

/// Refuses lists that no statement of Intel's has.
pub(super) fn bounded_levels(levels: &[SvnLevel]) -> Result<(), StatementError> {
    bounded("TCB levels", levels.len(), MAX_LEVELS)?;
    levels
        .iter()
        .try_for_each(|level| bounded("advisories", level.advisories.len(), MAX_ADVISORIES))
}

fn bounded(what: &'static str, count: usize, most: usize) -> Result<(), StatementError> {
    if count > most {
        return Err(StatementError::TooMany { what, count, most });
    }
    Ok(())
}

fn masked<'a, const N: usize>(
    bytes: &'a [u8; N],
    mask: &'a [u8; N],
) -> impl Iterator<Item = u8> + 'a {
    bytes.iter().zip(mask).map(|(byte, mask)| byte & mask)
}

/// Why a trust domain runs on a TDX module that Intel does not vouch for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ModuleMismatch {
    /// Intel lists no module of this major version.
    NoIdentity { version: u8 },
    /// Another signer, or attributes of another kind of module.
    Signer,
}

/// What the statements say of one set of SVNs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Evaluation {
    /// Of platform, TDX module and quoting enclave together.
    status: TcbStatus,
    /// The platform's own.
    pub(super) platform: TcbStatus,
    /// The TDX module's; a module of TDX 1.0 is part of the platform.
    pub(super) module: TcbStatus,
    /// When the platform's level was published.
    pub(super) tcb_date: Timestamp,
    /// Weaknesses of these levels, by Intel's advisory ids.
    advisories: Vec<String>,
}

/// What the statements say of one trust domain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct PlatformAssessment {
    /// All that is judged together.
    pub(super) status: TcbStatus,
    /// When the trust domain was started.
    pub(super) launch: Evaluation,
    /// What runs now. A TD 1.0 body does not say it.
    pub(super) current: Option<Evaluation>,
    /// Weaknesses of both.
    pub(super) advisories: Vec<String>,
}

impl TcbInfo {
    pub(super) fn parse(bytes: &[u8]) -> Result<Signed<Self>, StatementError> {
        let signed: Signed<Self> = signed::tcb_info(bytes)?;
        let info = signed.claimed();
        if info.id != "TDX" || info.version != 3 {
            return Err(StatementError::Kind {
                id: info.id.clone(),
                version: info.version,
                expected: "TCB info of TDX in version 3",
            });
        }
        if info.tcb_type != 0 {
            return Err(StatementError::TcbType {
                tcb_type: info.tcb_type,
            });
        }
        bounded("TCB levels", info.tcb_levels.len(), MAX_LEVELS)?;
        bounded(
            "TDX module identities",
            info.tdx_module_identities.len(),
            MAX_MODULES,
        )?;
        for level in &info.tcb_levels {
            bounded("advisories", level.advisories.len(), MAX_ADVISORIES)?;
        }
        for module in &info.tdx_module_identities {
            bounded_levels(&module.tcb_levels)?;
        }
        Ok(signed)
    }

    /// Whether the TDX module is one of Intel's. From major version 1 on each version has an identity of its own; a module of
    /// version 0 has the one of the statement.
    pub(super) fn check_module(&self, report: &TdReport) -> Result<(), ModuleMismatch> {
        let version = report.tee_tcb_svn.module_version();
        let is_known = if version == 0 {
            self.tdx_module.is_of(report)
        } else {
            let module = self
                .module(version)
                .ok_or(ModuleMismatch::NoIdentity { version })?;
            ModuleSigner {
                mr_signer: module.mr_signer,
                attributes: module.attributes,
                attributes_mask: module.attributes_mask,
            }
            .is_of(report)
        };
        // the mask of a statement cannot permit attributes: Intel's own library demands zeros too
        if is_known && report.seam_attributes == [0; 8] {
            Ok(())
        } else {
            Err(ModuleMismatch::Signer)
        }
    }

    fn module(&self, version: u8) -> Option<&ModuleIdentity> {
        let id = format!("TDX_{version:02X}");
        self.tdx_module_identities
            .iter()
            .find(|module| module.id.eq_ignore_ascii_case(&id))
    }

    /// What all levels together say of a trust domain and its platform, if every set of SVNs in its report reaches some. `qe` is
    /// the level of the quoting enclave (Quote Verification Library, 4.1.2.5.19 and 4.1.2.5.1.20).
    pub(super) fn assess(
        &self,
        pck: &PckExtensions,
        report: &TdReport,
        qe: &SvnLevel,
    ) -> Option<PlatformAssessment> {
        let launch = self.evaluate(pck, report.tee_tcb_svn, qe)?;
        let current = match &report.td_1_5 {
            Some(td_1_5) => Some(self.evaluate(pck, td_1_5.tee_tcb_svn_2, qe)?),
            None => None,
        };
        let mut advisories = launch.advisories.clone();
        let mut status = launch.status;
        if let Some(current) = &current {
            advisories.extend(current.advisories.iter().cloned());
            status = status.while_now(current.status);
        }
        advisories.sort_unstable();
        advisories.dedup();
        Some(PlatformAssessment {
            status,
            launch,
            current,
            advisories,
        })
    }

    /// The levels that one set of SVNs reaches (Quote Verification Library, 4.1.2.5.2).
    fn evaluate(&self, pck: &PckExtensions, svn: TeeTcbSvn, qe: &SvnLevel) -> Option<Evaluation> {
        // a level of the platform alone comes first and may be another one than that of the trust domain
        let sgx = self.tcb_levels.iter().find(|level| level.is_reached(pck))?;
        let level = self
            .tcb_levels
            .iter()
            .find(|level| level.is_reached(pck) && level.is_reached_by_td(svn))?;

        let mut advisories = level.advisories.clone();
        advisories.extend(qe.advisories.iter().cloned());
        let version = svn.module_version();
        let module = if version == 0 {
            TcbStatus::UpToDate
        } else {
            let levels = &self.module(version)?.tcb_levels;
            let module = level_of(levels, svn.module_svn().into())?;
            advisories.extend(module.advisories.iter().cloned());
            module.tcb_status
        };
        let status = if sgx.tcb_status == TcbStatus::Revoked {
            TcbStatus::Revoked
        } else {
            level
                .tcb_status
                .of_platform()
                .lowered_by(module)
                .lowered_by_qe(qe.tcb_status)
        };
        Some(Evaluation {
            status,
            platform: level.tcb_status,
            module,
            tcb_date: level.tcb_date,
            advisories,
        })
    }
}

impl PlatformLevel {
    fn is_reached(&self, pck: &PckExtensions) -> bool {
        pck.pce_svn >= self.tcb.pce_svn
            && pck
                .component_svns
                .iter()
                .zip(&self.tcb.sgx)
                .all(|(actual, wanted)| u32::from(*actual) >= wanted.svn)
    }

    /// From major version 1 on the first two SVNs name the TDX module, which has an identity of its own.
    fn is_reached_by_td(&self, svn: TeeTcbSvn) -> bool {
        let judged_elsewhere = if svn.module_version() == 0 { 0 } else { 2 };
        svn.0
            .iter()
            .zip(&self.tcb.tdx)
            .skip(judged_elsewhere)
            .all(|(actual, wanted)| u32::from(*actual) >= wanted.svn)
    }
}
