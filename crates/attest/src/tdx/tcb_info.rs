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

/// What the statement says of one trust domain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct PlatformAssessment {
    /// Converged with the module's status.
    pub(super) status: TcbStatus,
    /// The platform's own.
    pub(super) platform: TcbStatus,
    /// The TDX module's; a module of TDX 1.0 is part of the platform.
    pub(super) module: TcbStatus,
    /// When the platform's level was published.
    pub(super) tcb_date: Timestamp,
    /// Weaknesses of this level, by Intel's advisory ids.
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

    /// The level of a platform and a trust domain on it, if it reaches any. `qe` is what Intel says about the quoting
    /// enclave, because it decides whether a new start would help.
    pub(super) fn assess(
        &self,
        pck: &PckExtensions,
        report: &TdReport,
        qe: TcbStatus,
    ) -> Option<PlatformAssessment> {
        // a level of the platform alone comes first and may be a better one than that of the trust domain
        let sgx = self.tcb_levels.iter().find(|level| level.is_reached(pck))?;
        let level = self
            .tcb_levels
            .iter()
            .find(|level| level.is_reached(pck) && level.is_reached_by_td(report.tee_tcb_svn))?;

        let version = report.tee_tcb_svn.module_version();
        let mut advisories = level.advisories.clone();
        let module = if version == 0 {
            TcbStatus::UpToDate
        } else {
            let svn = report.tee_tcb_svn.module_svn();
            let module = level_of(&self.module(version)?.tcb_levels, svn.into())?;
            advisories.extend(module.advisories.iter().cloned());
            module.tcb_status
        };
        let mut status = level.tcb_status.lowered_by(module);
        if sgx.tcb_status == TcbStatus::Revoked {
            status = TcbStatus::Revoked;
        }
        if self.would_a_relaunch_help(report, sgx.tcb_status, status, module, qe) {
            status = if sgx.tcb_status.needs_configuration() || status.needs_configuration() {
                TcbStatus::TdRelaunchAdvisedConfigurationNeeded
            } else {
                TcbStatus::TdRelaunchAdvised
            };
        }
        Some(PlatformAssessment {
            status,
            platform: level.tcb_status,
            module,
            tcb_date: level.tcb_date,
            advisories,
        })
    }

    /// Whether the trust domain was started under an old TDX module, and what runs now is the newest (Quote Verification
    /// Library, 4.1.2.4.17.4.3).
    fn would_a_relaunch_help(
        &self,
        report: &TdReport,
        sgx: TcbStatus,
        status: TcbStatus,
        module: TcbStatus,
        qe: TcbStatus,
    ) -> bool {
        let Some(td_1_5) = &report.td_1_5 else {
            return false;
        };
        let is_platform_fine = matches!(
            sgx,
            TcbStatus::UpToDate
                | TcbStatus::SwHardeningNeeded
                | TcbStatus::ConfigurationNeeded
                | TcbStatus::ConfigurationAndSwHardeningNeeded
        );
        let is_td_old = matches!(
            status,
            TcbStatus::OutOfDate | TcbStatus::OutOfDateConfigurationNeeded
        );
        if !is_platform_fine
            || !is_td_old
            || module != TcbStatus::OutOfDate
            || qe != TcbStatus::UpToDate
        {
            return false;
        }
        let Some(latest) = self.tcb_levels.first() else {
            return false;
        };
        let now = td_1_5.tee_tcb_svn_2;
        let [latest_module, _, latest_microcode, ..] = latest.tcb.tdx;
        let [_, _, microcode, ..] = now.0;
        let is_module_new = if now.module_version() == 0 {
            u32::from(now.module_svn()) >= latest_module.svn
        } else {
            self.module(now.module_version())
                .and_then(|module| module.tcb_levels.first())
                .is_some_and(|newest| u16::from(now.module_svn()) >= newest.tcb.isv_svn)
        };
        is_module_new && u32::from(microcode) >= latest_microcode.svn
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
