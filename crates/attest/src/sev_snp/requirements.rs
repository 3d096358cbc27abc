//! What a verifier demands of a SEV-SNP machine. Nothing here has a value that accepts everything: the product lines with their
//! minimum levels, the launch measurements and the identity key must be named, the rest starts at its strictest useful setting.

use std::fmt;

use jiff::Timestamp;
use thiserror::Error;

use super::bits::{Abi, GuestPolicy, PlatformInfo};
use super::product::ProductLine;
use super::tcb::Tcb;

/// Why something is not a requirement.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum RequirementsError {
    /// No product line would be accepted.
    #[error("no product line is named")]
    NoLine,
    /// Two minimums for one line.
    #[error("product line {0} is named twice")]
    LineTwice(ProductLine),
    /// Levels of another product line.
    #[error("the minimum TCB of {0} has the layout of another product line")]
    Layout(ProductLine),
    /// A minimum that any firmware reaches.
    #[error("the minimum TCB of {0} is zero, which any firmware reaches")]
    ZeroTcb(ProductLine),
    /// A list that accepts nothing, or was meant to accept anything.
    #[error("a list of accepted values is empty")]
    EmptyList,
    /// All zeros stand for "not there".
    #[error("an accepted value is all zeros, which stands for none")]
    ZeroValue,
    /// Privilege levels are 0 to 3.
    #[error("{0} is not a virtual machine privilege level (0 to 3)")]
    Vmpl(u8),
}

/// A product line that is accepted, from certain levels on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AcceptedLine {
    line: ProductLine,
    reported: Tcb,
    launch: Tcb,
    mitigations: u64,
}

impl AcceptedLine {
    /// Accepts `line` if the reported levels reach `reported` and those at the guest's launch reach `launch`.
    ///
    /// # Errors
    /// If a minimum has another layout than the line, or demands nothing.
    pub fn new(line: ProductLine, reported: Tcb, launch: Tcb) -> Result<Self, RequirementsError> {
        for minimum in [&reported, &launch] {
            if minimum.layout() != line.tcb_layout() {
                return Err(RequirementsError::Layout(line));
            }
            if minimum.is_zero() {
                return Err(RequirementsError::ZeroTcb(line));
            }
        }
        Ok(Self {
            line,
            reported,
            launch,
            mitigations: 0,
        })
    }

    /// Mitigations that must be verified, at launch and now. Which bit is which depends on the line; reports have them from version 5 on.
    #[must_use]
    pub const fn mitigations(mut self, bits: u64) -> Self {
        self.mitigations = bits;
        self
    }

    pub(super) const fn demanded_mitigations(&self) -> u64 {
        self.mitigations
    }

    pub(super) const fn reported(&self) -> &Tcb {
        &self.reported
    }

    pub(super) const fn launch(&self) -> &Tcb {
        &self.launch
    }
}

/// The accepted product lines. One that is not named is not accepted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AcceptedLines(Vec<AcceptedLine>);

impl AcceptedLines {
    /// At least one line, each named once.
    ///
    /// # Errors
    /// If there is none, or one twice.
    pub fn new(lines: impl IntoIterator<Item = AcceptedLine>) -> Result<Self, RequirementsError> {
        let mut accepted: Vec<AcceptedLine> = Vec::new();
        for line in lines {
            if accepted.iter().any(|other| other.line == line.line) {
                return Err(RequirementsError::LineTwice(line.line));
            }
            accepted.push(line);
        }
        if accepted.is_empty() {
            return Err(RequirementsError::NoLine);
        }
        Ok(Self(accepted))
    }

    pub(super) fn get(&self, line: ProductLine) -> Option<&AcceptedLine> {
        self.0.iter().find(|accepted| accepted.line == line)
    }
}

impl fmt::Display for AcceptedLines {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<&str> = self.0.iter().map(|accepted| accepted.line.name()).collect();
        f.write_str(&names.join(", "))
    }
}

/// Values one of which must be there. Never empty, and none of them is the "not there" of all zeros.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Accepted<const N: usize>(Vec<[u8; N]>);

impl<const N: usize> Accepted<N> {
    /// At least one value.
    ///
    /// # Errors
    /// If there is none, or one is all zeros.
    pub fn new(values: Vec<[u8; N]>) -> Result<Self, RequirementsError> {
        if values.is_empty() {
            return Err(RequirementsError::EmptyList);
        }
        if values.contains(&[0; N]) {
            return Err(RequirementsError::ZeroValue);
        }
        Ok(Self(values))
    }

    pub(super) fn contains(&self, value: &[u8; N]) -> bool {
        self.0.contains(value)
    }
}

impl<const N: usize> fmt::Display for Accepted<N> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let values: Vec<String> = self.0.iter().map(hex::encode).collect();
        f.write_str(&values.join(" or "))
    }
}

/// What the guest may have been launched with: SHA-384 digests of the firmware that computes the measurement.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LaunchMeasurements {
    /// One of these, or the machine is refused.
    Enforce(Accepted<48>),
    /// One of these, or the verdict warns.
    Warn(Accepted<48>),
    /// Anything: what runs must be proven by other means, for example a vTPM whose key the report binds. The verdict
    /// always warns.
    NotChecked,
}

/// Whose identity block the guest was launched with: SHA-384 digests of accepted identity keys.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum IdKeyDigests {
    /// One of these, or the machine is refused.
    Enforce(Accepted<48>),
    /// One of these, or the verdict warns.
    Warn(Accepted<48>),
    /// The launch needs no identity block, because the measurement says what runs.
    NotDemanded,
}

/// What the host must have passed at launch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HostData {
    /// Exactly this.
    Exactly([u8; 32]),
    /// Anything: nothing is derived from it.
    NotDemanded,
}

/// Which chips may make reports.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Chips {
    /// These: by the certificate of a VCEK, or by the firmware's word under a VLEK. Milan and Genoa have 64 bytes, Turin 8 and
    /// zeros.
    Listed(Accepted<64>),
    /// Any genuine chip.
    Any,
}

/// Which kinds of key may sign a report.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AcceptedKeys {
    /// The chip's own.
    Vcek,
    /// A cloud provider's: proves a genuine chip of the provider, but not which.
    Vlek,
    /// Either.
    Either,
}

impl fmt::Display for AcceptedKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Vcek => "VCEK",
            Self::Vlek => "VLEK",
            Self::Either => "VCEK or VLEK",
        })
    }
}

/// Cloud providers, by the names in the certificates of their VLEKs, for example `CN=cc-us-east-2.amazonaws.com`. Never empty.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProviderNames(Vec<String>);

impl ProviderNames {
    /// At least one name. Each is compared as a whole.
    ///
    /// # Errors
    /// If there is none.
    pub fn new(names: Vec<String>) -> Result<Self, RequirementsError> {
        if names.is_empty() {
            return Err(RequirementsError::EmptyList);
        }
        Ok(Self(names))
    }

    pub(super) fn contains(&self, name: &str) -> bool {
        self.0.iter().any(|accepted| accepted == name)
    }
}

impl fmt::Display for ProviderNames {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.join(" or "))
    }
}

/// Whose VLEKs may sign reports. That they may at all is said by [`AcceptedKeys`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Providers {
    /// Those of these.
    Listed(ProviderNames),
    /// Those of any provider that AMD gave one. The verdict names it and warns.
    Any,
}

/// What must be known of the revocation of AMD's signing keys. A list that is given and that says "revoked" always refuses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RevocationDemand {
    /// A list of the product line's root, valid now.
    Enforce,
    /// Without a valid list the verdict warns.
    Warn,
}

/// Privilege level of a part of a guest: 0 is the highest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Vmpl(u8);

impl Vmpl {
    /// The highest.
    pub const ZERO: Self = Self(0);

    /// A level of a guest.
    ///
    /// # Errors
    /// If it is above 3.
    pub const fn new(level: u8) -> Result<Self, RequirementsError> {
        match level {
            0..=3 => Ok(Self(level)),
            _ => Err(RequirementsError::Vmpl(level)),
        }
    }

    pub(super) const fn number(self) -> u32 {
        self.0 as u32
    }
}

/// All demands. Debug and migration agents have no setting: they are never accepted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Requirements {
    pub(super) lines: AcceptedLines,
    pub(super) measurements: LaunchMeasurements,
    pub(super) id_key: IdKeyDigests,
    /// Zero: any.
    pub(super) guest_svn: u32,
    pub(super) host_data: HostData,
    pub(super) chips: Chips,
    pub(super) keys: AcceptedKeys,
    pub(super) vlek_providers: Providers,
    pub(super) revocation: RevocationDemand,
    pub(super) lists_from: Timestamp,
    pub(super) vmpl: Vmpl,
    /// Permissions of the guest's policy that are accepted.
    pub(super) permitted: GuestPolicy,
    /// Demands that the guest's policy must make.
    pub(super) policy: GuestPolicy,
    pub(super) abi: Abi,
    pub(super) platform: PlatformInfo,
    pub(super) provisional: bool,
}

impl Requirements {
    /// The strictest demands beside the three that must be named: VCEK only, privilege level 0, no multithreading, no CXL, the alias
    /// check complete, committed firmware, a valid revocation list. No host data, chip or further bit is demanded.
    #[must_use]
    pub const fn new(
        lines: AcceptedLines,
        measurements: LaunchMeasurements,
        id_key: IdKeyDigests,
    ) -> Self {
        Self {
            lines,
            measurements,
            id_key,
            guest_svn: 0,
            host_data: HostData::NotDemanded,
            chips: Chips::Any,
            keys: AcceptedKeys::Vcek,
            vlek_providers: Providers::Any,
            revocation: RevocationDemand::Enforce,
            lists_from: Timestamp::MIN,
            vmpl: Vmpl::ZERO,
            permitted: GuestPolicy::NONE,
            policy: GuestPolicy::NONE,
            abi: Abi { major: 0, minor: 0 },
            platform: PlatformInfo::ALIAS_CHECK_COMPLETE,
            provisional: false,
        }
    }

    /// The lowest security version that the guest's identity block may state, 0 for any. The owner of the identity key raises it with each
    /// repaired release; without it, and without a launch measurement, every release that was ever signed is accepted.
    #[must_use]
    pub const fn minimum_guest_svn(mut self, least: u32) -> Self {
        self.guest_svn = least;
        self
    }

    /// Demands host data.
    #[must_use]
    pub const fn host_data(mut self, host_data: HostData) -> Self {
        self.host_data = host_data;
        self
    }

    /// Names the chips.
    #[must_use]
    pub fn chips(mut self, chips: Chips) -> Self {
        self.chips = chips;
        self
    }

    /// Names the kinds of signing key.
    #[must_use]
    pub const fn keys(mut self, keys: AcceptedKeys) -> Self {
        self.keys = keys;
        self
    }

    /// Names the providers whose VLEKs are accepted.
    #[must_use]
    pub fn vlek_providers(mut self, providers: Providers) -> Self {
        self.vlek_providers = providers;
        self
    }

    /// Says what must be known of revocation.
    #[must_use]
    pub const fn revocation(mut self, revocation: RevocationDemand) -> Self {
        self.revocation = revocation;
        self
    }

    /// The earliest time at which a revocation list may have been made. AMD's hold for a year, so one from before a revocation would
    /// pass long after it. One that is older counts as none, but what it revokes stays revoked.
    #[must_use]
    pub const fn revocation_lists_from(mut self, lists_from: Timestamp) -> Self {
        self.lists_from = lists_from;
        self
    }

    /// The level that must have asked for the report.
    #[must_use]
    pub const fn vmpl(mut self, vmpl: Vmpl) -> Self {
        self.vmpl = vmpl;
        self
    }

    /// Accepts a guest whose policy permits simultaneous multithreading (AMD-SB-3027, StackWarp, needs it).
    #[must_use]
    pub const fn allow_smt(mut self) -> Self {
        self.permitted = self.permitted.with(GuestPolicy::SMT);
        self
    }

    /// Accepts a guest whose policy permits CXL devices and memory.
    #[must_use]
    pub const fn allow_cxl(mut self) -> Self {
        self.permitted = self.permitted.with(GuestPolicy::CXL_ALLOW);
        self
    }

    /// Bits that must be set in the guest's policy, for example [`GuestPolicy::CIPHERTEXT_HIDING_DRAM`].
    #[must_use]
    pub const fn guest_policy(mut self, bits: GuestPolicy) -> Self {
        self.policy = bits;
        self
    }

    /// The lowest version of the firmware's interface the guest's policy must demand.
    #[must_use]
    pub const fn minimum_abi(mut self, abi: Abi) -> Self {
        self.abi = abi;
        self
    }

    /// Bits that must be set in the platform's information; replaces the default of [`PlatformInfo::ALIAS_CHECK_COMPLETE`].
    #[must_use]
    pub const fn platform_info(mut self, bits: PlatformInfo) -> Self {
        self.platform = bits;
        self
    }

    /// Accepts firmware that the host has loaded but not committed. What is committed must still reach the reported levels, so that a
    /// roll-back cannot go below the minimum.
    #[must_use]
    pub const fn allow_provisional_firmware(mut self) -> Self {
        self.provisional = true;
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn milan(reported: Tcb, launch: Tcb) -> Result<AcceptedLine, RequirementsError> {
        AcceptedLine::new(ProductLine::Milan, reported, launch)
    }

    #[test]
    fn a_line_is_accepted_only_from_some_level_of_its_own_layout() {
        let some = Tcb::milan_genoa(1, 0, 0, 0);
        let zero = Tcb::milan_genoa(0, 0, 0, 0);
        let turin = Tcb::turin(1, 1, 1, 1, 1);
        assert!(milan(some, some).is_ok());
        for (reported, launch, error) in [
            (zero, some, RequirementsError::ZeroTcb(ProductLine::Milan)),
            (some, zero, RequirementsError::ZeroTcb(ProductLine::Milan)),
            (turin, some, RequirementsError::Layout(ProductLine::Milan)),
            (some, turin, RequirementsError::Layout(ProductLine::Milan)),
        ] {
            assert_eq!(milan(reported, launch), Err(error));
        }
    }

    #[test]
    fn an_empty_list_does_not_mean_any() {
        let some = Tcb::milan_genoa(1, 0, 0, 0);
        let line = milan(some, some).unwrap();
        assert_eq!(AcceptedLines::new([]), Err(RequirementsError::NoLine));
        assert_eq!(
            AcceptedLines::new([line, line]),
            Err(RequirementsError::LineTwice(ProductLine::Milan))
        );
        assert_eq!(
            Accepted::<48>::new(vec![]),
            Err(RequirementsError::EmptyList)
        );
        assert_eq!(
            ProviderNames::new(vec![]),
            Err(RequirementsError::EmptyList)
        );
        assert_eq!(
            Accepted::new(vec![[1; 48], [0; 48]]),
            Err(RequirementsError::ZeroValue)
        );
    }

    #[test]
    fn the_level_of_a_host_that_asks_cannot_be_demanded() {
        assert_eq!(Vmpl::new(3), Ok(Vmpl(3)));
        assert_eq!(Vmpl::new(4), Err(RequirementsError::Vmpl(4)));
        assert_eq!(Vmpl::new(255), Err(RequirementsError::Vmpl(255)));
    }
}
