//! What a policy demands of an SEV-SNP machine, as validated data.
//!
//! Names and bits: SEV Secure Nested Paging Firmware ABI Specification (AMD 56860), tables "TCB_VERSION", "Guest Policy"
//! and "PLATFORM_INFO". Nothing here reads a report.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use serde_json::json;

use super::demands::Demands;
use super::flags;
use super::generation::{self, Accepted384, Generation};
use super::machine::Machine;
use crate::sev_snp::{self, RequirementsError, TcbLayout};
use crate::yaml::Value;

mod names;

pub use self::names::{GuestFlag, Permission, PlatformFlag};
pub use crate::sev_snp::ProductLine;

/// The most chips a policy lists.
const MAX_CHIPS: usize = 1024;

/// The most providers a policy lists.
const MAX_PROVIDERS: usize = 64;

/// Whether the TCB of a line has a part for the first mutable code (FMC).
fn has_fmc(line: ProductLine) -> bool {
    match line.tcb_layout() {
        TcbLayout::MilanGenoa => false,
        TcbLayout::Turin => true,
    }
}

/// Security version numbers of the firmware. `fmc` is 0 on lines that have none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Tcb {
    /// First mutable code.
    pub fmc: u8,
    /// The secure processor's boot loader.
    pub bootloader: u8,
    /// The secure processor's operating system.
    pub tee: u8,
    /// The SNP firmware.
    pub snp: u8,
    /// The lowest microcode of all cores.
    pub microcode: u8,
}

impl Tcb {
    /// Names and values of its parts.
    #[must_use]
    pub const fn parts(&self) -> [(&'static str, u8); 5] {
        [
            ("fmc", self.fmc),
            ("bootloader", self.bootloader),
            ("tee", self.tee),
            ("snp", self.snp),
            ("microcode", self.microcode),
        ]
    }

    /// The higher of each part.
    #[must_use]
    pub fn raised_to(&self, other: &Self) -> Self {
        Self {
            fmc: self.fmc.max(other.fmc),
            bootloader: self.bootloader.max(other.bootloader),
            tee: self.tee.max(other.tee),
            snp: self.snp.max(other.snp),
            microcode: self.microcode.max(other.microcode),
        }
    }

    /// The parts that are below a minimum: name, what is there, what is demanded.
    pub fn below(&self, minimum: &Self) -> impl Iterator<Item = (&'static str, u8, u8)> {
        self.parts()
            .into_iter()
            .zip(minimum.parts())
            .filter(|((_, is), (_, least))| is < least)
            .map(|((name, is), (_, least))| (name, is, least))
    }

    /// The same numbers as those of a line's report.
    const fn of(self, line: ProductLine) -> sev_snp::Tcb {
        let Self {
            fmc,
            bootloader,
            tee,
            snp,
            microcode,
        } = self;
        match line.tcb_layout() {
            TcbLayout::MilanGenoa => sev_snp::Tcb::milan_genoa(bootloader, tee, snp, microcode),
            TcbLayout::Turin => sev_snp::Tcb::turin(fmc, bootloader, tee, snp, microcode),
        }
    }

    /// The parts that say something, such as `snp 27, microcode 219`.
    pub(crate) fn words(&self) -> String {
        let parts: Vec<String> = self
            .parts()
            .into_iter()
            .filter(|(_, value)| *value > 0)
            .map(|(name, value)| format!("{name} {value}"))
            .collect();
        if parts.is_empty() {
            return "nothing".to_owned();
        }
        parts.join(", ")
    }

    fn to_json(self, line: ProductLine) -> serde_json::Value {
        let parts = self
            .parts()
            .into_iter()
            .filter(|(name, _)| *name != "fmc" || has_fmc(line));
        parts
            .map(|(name, value)| (name.to_owned(), json!(value)))
            .collect::<serde_json::Map<_, _>>()
            .into()
    }

    /// Reads the parts. `complete`: each of them must be there, because a policy that says nothing about a part accepts
    /// every version of it.
    pub(crate) fn read(value: &Value<'_>, line: ProductLine, complete: bool) -> Option<Self> {
        const RULE: &str = "a whole number from 0 to 255";
        let mut section = value.section()?;
        if !has_fmc(line) {
            section.refuse(
                "fmc",
                || format!("{line} has no fmc"),
                "bootloader, tee, snp, microcode",
            );
        }
        let mut part = |name: &'static str| {
            let value = if complete {
                section.required(name, RULE)?
            } else {
                match section.optional(name) {
                    None => return Some(0),
                    Some(value) => value,
                }
            };
            u8::try_from(value.number(0, 255)?).ok()
        };
        let fmc = if has_fmc(line) { part("fmc") } else { Some(0) };
        let (bootloader, tee, snp, microcode) = (
            part("bootloader"),
            part("tee"),
            part("snp"),
            part("microcode"),
        );
        section.finish();
        Some(Self {
            fmc: fmc?,
            bootloader: bootloader?,
            tee: tee?,
            snp: snp?,
            microcode: microcode?,
        })
    }
}

/// What is demanded of a product line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LineRules {
    /// The oldest firmware that the platform may report (and its certificate be issued for).
    pub reported: Tcb,
    /// The oldest firmware that the machine may have been launched under.
    pub launch: Tcb,
    /// Bits of the mitigation vector that must be set, at launch and now. Which bit is which differs between the lines.
    pub mitigations: u64,
}

/// Which kinds of key may sign a report.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SigningKeys {
    /// The chip's own (VCEK).
    Vcek,
    /// A cloud provider's (VLEK): it does not say which chip.
    Vlek,
    /// Either.
    Either,
}

impl SigningKeys {
    const ALL: [Self; 3] = [Self::Vcek, Self::Vlek, Self::Either];

    /// What signs the reports of these machines where a policy does not say.
    #[must_use]
    pub const fn usual(machine: Machine) -> Self {
        match machine {
            // the one cloud whose reports are signed by a key of its own
            Machine::AwsSevSnp => Self::Vlek,
            Machine::QemuVtpm
            | Machine::AzureSevSnp
            | Machine::AzureTdx
            | Machine::AzureTrustedLaunch
            | Machine::GcpSevEs
            | Machine::GcpSevSnp
            | Machine::GcpTdx
            | Machine::AwsNitroTpm
            | Machine::SevSnp
            | Machine::Tdx => Self::Vcek,
        }
    }

    /// Its name in documents.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Vcek => "vcek",
            Self::Vlek => "vlek",
            Self::Either => "either",
        }
    }
}

/// What a policy demands of an SEV-SNP machine. That it runs at VMPL 0, allows no debugging and no migration agent is
/// not in it: it is always demanded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SnpPolicy {
    pub(crate) products: BTreeMap<ProductLine, LineRules>,
    pub(crate) permitted: BTreeSet<Permission>,
    pub(crate) guest: BTreeSet<GuestFlag>,
    pub(crate) platform: BTreeSet<PlatformFlag>,
    pub(crate) id_keys: Option<Accepted384>,
    pub(crate) minimum_guest_svn: u32,
    pub(crate) host_data: Option<[u8; 32]>,
    pub(crate) chips: BTreeSet<[u8; 64]>,
    pub(crate) keys: SigningKeys,
    pub(crate) vlek_providers: BTreeSet<String>,
    pub(crate) demands_crl: bool,
    pub(crate) lists_from: Option<Timestamp>,
    pub(crate) permits_provisional: bool,
}

impl SnpPolicy {
    /// The accepted product lines, each with its rules. A line that is not here is not accepted.
    #[must_use]
    pub const fn products(&self) -> &BTreeMap<ProductLine, LineRules> {
        &self.products
    }

    /// What the guest policy may permit. What is not here it must not.
    #[must_use]
    pub const fn permitted(&self) -> &BTreeSet<Permission> {
        &self.permitted
    }

    /// What the guest policy must demand.
    #[must_use]
    pub const fn guest(&self) -> &BTreeSet<GuestFlag> {
        &self.guest
    }

    /// What the platform must say about itself.
    #[must_use]
    pub const fn platform(&self) -> &BTreeSet<PlatformFlag> {
        &self.platform
    }

    /// Accepted identity keys (SHA-384 of the key that signed the launch's ID block).
    #[must_use]
    pub const fn id_keys(&self) -> Option<&Accepted384> {
        self.id_keys.as_ref()
    }

    /// The lowest security version of what the identity key signed; 0: any.
    #[must_use]
    pub const fn minimum_guest_svn(&self) -> u32 {
        self.minimum_guest_svn
    }

    /// What the host must have passed at launch.
    #[must_use]
    pub const fn host_data(&self) -> Option<&[u8; 32]> {
        self.host_data.as_ref()
    }

    /// The chips that may make reports. Empty: any genuine one.
    #[must_use]
    pub const fn chips(&self) -> &BTreeSet<[u8; 64]> {
        &self.chips
    }

    /// Which kinds of key may sign a report.
    #[must_use]
    pub const fn keys(&self) -> SigningKeys {
        self.keys
    }

    /// The cloud providers whose VLEKs may sign a report, by the names in their certificates. Empty: any, with a warning.
    #[must_use]
    pub const fn vlek_providers(&self) -> &BTreeSet<String> {
        &self.vlek_providers
    }

    /// Whether a revocation list that is valid now is demanded; without, its absence is a warning.
    #[must_use]
    pub const fn demands_crl(&self) -> bool {
        self.demands_crl
    }

    /// The earliest time at which a revocation list may have been made. One that is older counts as none; without a time
    /// each list counts until its own end.
    #[must_use]
    pub const fn revocation_lists_from(&self) -> Option<Timestamp> {
        self.lists_from
    }

    /// Whether firmware is accepted that the host can still take back.
    #[must_use]
    pub const fn permits_provisional(&self) -> bool {
        self.permits_provisional
    }

    /// The same policy with more demands. It accepts nothing that this one does not.
    #[must_use]
    pub fn with(&self, demands: &Demands) -> Self {
        let raised = |(line, rules): (&ProductLine, &LineRules)| {
            let least = demands.minimum_tcb.get(line).copied().unwrap_or_default();
            let rules = LineRules {
                reported: rules.reported.raised_to(&least),
                launch: rules.launch.raised_to(&least),
                mitigations: rules.mitigations | demands.mitigations.get(line).unwrap_or(&0),
            };
            (*line, rules)
        };
        Self {
            products: self
                .products
                .iter()
                .filter(|(line, _)| !demands.excluded.contains(line))
                .map(raised)
                .collect(),
            permitted: &self.permitted - &demands.forbidden,
            guest: &self.guest | &demands.guest,
            platform: &self.platform | &demands.platform,
            ..self.clone()
        }
    }

    /// What is demanded of the report of a machine of this generation.
    ///
    /// # Errors
    /// None for a policy that was read from a document.
    pub fn requirements(
        &self,
        generation: &Generation,
    ) -> Result<sev_snp::Requirements, RequirementsError> {
        use sev_snp::{
            Accepted, AcceptedKeys, AcceptedLine, AcceptedLines, Chips, GuestPolicy, HostData,
            IdKeyDigests, LaunchMeasurements, PlatformInfo, ProviderNames, Providers,
            RevocationDemand,
        };

        let accepted = |register: &Accepted384| {
            let values = register.accepted.iter().map(|digest| *digest.as_bytes());
            Accepted::new(values.collect())
        };
        let lines = self
            .products
            .iter()
            .map(|(line, rules)| {
                AcceptedLine::new(*line, rules.reported.of(*line), rules.launch.of(*line))
                    .map(|accepted| accepted.mitigations(rules.mitigations))
            })
            .collect::<Result<Vec<_>, _>>()?;
        let launch = match generation.launch() {
            None => LaunchMeasurements::NotChecked,
            Some(launch) if launch.warn_only => LaunchMeasurements::Warn(accepted(launch)?),
            Some(launch) => LaunchMeasurements::Enforce(accepted(launch)?),
        };
        let id_keys = match &self.id_keys {
            None => IdKeyDigests::NotDemanded,
            Some(keys) if keys.warn_only => IdKeyDigests::Warn(accepted(keys)?),
            Some(keys) => IdKeyDigests::Enforce(accepted(keys)?),
        };
        let mut requirements =
            sev_snp::Requirements::new(AcceptedLines::new(lines)?, launch, id_keys)
                .guest_policy(GuestPolicy::from_bits(flags::mask(&self.guest)))
                .platform_info(PlatformInfo::from_bits(flags::mask(&self.platform)))
                .minimum_guest_svn(self.minimum_guest_svn)
                .keys(match self.keys {
                    SigningKeys::Vcek => AcceptedKeys::Vcek,
                    SigningKeys::Vlek => AcceptedKeys::Vlek,
                    SigningKeys::Either => AcceptedKeys::Either,
                })
                .revocation(if self.demands_crl {
                    RevocationDemand::Enforce
                } else {
                    RevocationDemand::Warn
                });
        for permission in &self.permitted {
            requirements = match permission {
                Permission::Smt => requirements.allow_smt(),
                Permission::Cxl => requirements.allow_cxl(),
            };
        }
        if let Some(data) = self.host_data {
            requirements = requirements.host_data(HostData::Exactly(data));
        }
        if !self.chips.is_empty() {
            let chips = Accepted::new(self.chips.iter().copied().collect())?;
            requirements = requirements.chips(Chips::Listed(chips));
        }
        if !self.vlek_providers.is_empty() {
            let names = ProviderNames::new(self.vlek_providers.iter().cloned().collect())?;
            requirements = requirements.vlek_providers(Providers::Listed(names));
        }
        if let Some(from) = self.lists_from {
            requirements = requirements.revocation_lists_from(from);
        }
        if self.permits_provisional {
            requirements = requirements.allow_provisional_firmware();
        }
        Ok(requirements)
    }

    /// Why no machine at all could follow it, if that is so.
    pub(crate) fn accepts_nothing(&self) -> Option<String> {
        self.products
            .is_empty()
            .then(|| "no product line is left".to_owned())
    }

    pub(crate) fn read(value: &Value<'_>, usual: SigningKeys) -> Option<Self> {
        let mut section = value.section()?;
        let products = section
            .required("products", PRODUCTS)
            .and_then(|value| products(&value));
        let guest = section.optional("guestPolicy").map_or_else(
            || Some((BTreeSet::new(), BTreeSet::new())),
            |value| {
                let mut section = value.section()?;
                let permitted = flags::list(&mut section, "permitted");
                let required = flags::list(&mut section, "required");
                section.finish();
                permitted.zip(required)
            },
        );
        let platform = section.optional("platformInfo").map_or_else(
            || Some(BTreeSet::from([PlatformFlag::AliasCheckComplete])),
            |value| platform_info(&value),
        );
        let id_keys = section
            .optional("idKeyDigests")
            .map_or(Some(None), |value| generation::accepted(&value).map(Some));
        let minimum_guest_svn = section
            .optional("minimumGuestSvn")
            .map_or(Some(0), |value| value.number(0, u32::MAX));
        let host_data = section.optional("hostData").map_or(Some(None), |value| {
            value.word("64 hex digits", hex_of::<32>).map(Some)
        });
        let chips = section
            .optional("chipIds")
            .map_or_else(|| Some(BTreeSet::new()), |value| chips(&value));
        let keys = section.optional("signingKey").map_or(Some(usual), |value| {
            let rule = SigningKeys::ALL.map(SigningKeys::as_str).join(", ");
            value.parse(&rule, |text| {
                SigningKeys::ALL
                    .into_iter()
                    .find(|keys| keys.as_str() == text)
                    .ok_or_else(|| format!("{text:?} is no kind of key"))
            })
        });
        let vlek_providers = section
            .optional("vlekProviders")
            .map_or_else(|| Some(BTreeSet::new()), |value| providers(&value));
        let crl = section
            .optional("revocationList")
            .map_or(Some(true), |value| {
                value.parse("enforced, warnOnly", |text| match text {
                    "enforced" => Ok(true),
                    "warnOnly" => Ok(false),
                    _ => Err(format!("{text:?} is not known")),
                })
            });
        let lists_from = section
            .optional(LISTS_FROM)
            .map_or(Some(None), |value| generation::time(&value).map(Some));
        let provisional = section
            .optional("provisionalFirmware")
            .map_or(Some(false), |value| value.boolean());
        let vmpl = section
            .optional("vmpl")
            .map_or(Some(0), |value| value.number(0, 0));
        section.finish();
        vmpl?;
        let (permitted, guest) = guest?;
        Some(Self {
            products: products?,
            permitted,
            guest,
            platform: platform?,
            id_keys: id_keys?,
            minimum_guest_svn: minimum_guest_svn?,
            host_data: host_data?,
            chips: chips?,
            keys: keys?,
            vlek_providers: vlek_providers?,
            demands_crl: crl?,
            lists_from: lists_from?,
            permits_provisional: provisional?,
        })
    }

    pub(crate) fn to_json(&self) -> serde_json::Value {
        let products: serde_json::Map<String, serde_json::Value> = self
            .products
            .iter()
            .map(|(line, rules)| {
                let value = json!({
                    "minimumTcb": rules.reported.to_json(*line),
                    "minimumLaunchTcb": rules.launch.to_json(*line),
                    "mitigations": bits(rules.mitigations),
                });
                (line.to_string(), value)
            })
            .collect();
        let mut platform = json!({ "required": flags::names(&self.platform) });
        if let Some(platform) = platform.as_object_mut()
            && !self.platform.contains(&PlatformFlag::AliasCheckComplete)
        {
            platform.insert(ALIAS_CHECK.to_owned(), json!("optional"));
        }
        let mut json = json!({
            "products": products,
            "guestPolicy": {
                "permitted": flags::names(&self.permitted),
                "required": flags::names(&self.guest),
            },
            "platformInfo": platform,
            "signingKey": self.keys.as_str(),
            "revocationList": if self.demands_crl { "enforced" } else { "warnOnly" },
            "provisionalFirmware": self.permits_provisional,
            "vmpl": 0,
        });
        if let Some(json) = json.as_object_mut() {
            if let Some(keys) = &self.id_keys {
                json.insert("idKeyDigests".to_owned(), keys.to_json());
            }
            if self.minimum_guest_svn > 0 {
                json.insert("minimumGuestSvn".to_owned(), json!(self.minimum_guest_svn));
            }
            if let Some(from) = self.lists_from {
                json.insert(LISTS_FROM.to_owned(), json!(from));
            }
            if let Some(data) = &self.host_data {
                json.insert("hostData".to_owned(), json!(hex::encode(data)));
            }
            if !self.vlek_providers.is_empty() {
                json.insert("vlekProviders".to_owned(), json!(self.vlek_providers));
            }
            if !self.chips.is_empty() {
                let chips: Vec<String> = self.chips.iter().map(hex::encode).collect();
                json.insert("chipIds".to_owned(), json!(chips));
            }
        }
        json
    }
}

/// The name of the field, here and for TDX.
pub(super) const LISTS_FROM: &str = "revocationListsFrom";
const ALIAS_CHECK: &str = "aliasCheckComplete";

/// Reads `platformInfo`. The check for aliases is the one mitigation of BadRAM that a report shows: it is demanded whatever
/// the list says, and who leaves it open says so by its name.
fn platform_info(value: &Value<'_>) -> Option<BTreeSet<PlatformFlag>> {
    let mut section = value.section()?;
    let required = flags::list(&mut section, "required");
    let alias_check = section.optional(ALIAS_CHECK).map_or(Some(true), |value| {
        value.parse("required, optional", |text| match text {
            "required" => Ok(true),
            "optional" => Ok(false),
            _ => Err(format!("{text:?} is not known")),
        })
    });
    section.finish();
    let (mut required, alias_check) = required.zip(alias_check)?;
    if alias_check {
        required.insert(PlatformFlag::AliasCheckComplete);
    } else if required.contains(&PlatformFlag::AliasCheckComplete) {
        value.problem(
            format!("{ALIAS_CHECK} is both required and optional"),
            "one of them",
        );
        return None;
    }
    Some(required)
}

const PRODUCTS: &str = "a section with Milan, Genoa or Turin, each with minimumTcb; a line that is not listed is not accepted";

fn products(value: &Value<'_>) -> Option<BTreeMap<ProductLine, LineRules>> {
    let mut section = value.section()?;
    let mut products = BTreeMap::new();
    let mut complete = true;
    for line in ProductLine::ALL {
        if let Some(value) = section.optional(line.name()) {
            match line_rules(&value, line) {
                Some(rules) => {
                    products.insert(line, rules);
                }
                None => complete = false,
            }
        }
    }
    section.finish();
    if complete && products.is_empty() {
        value.problem("no product line is accepted", PRODUCTS);
        return None;
    }
    complete.then_some(products)
}

fn line_rules(value: &Value<'_>, line: ProductLine) -> Option<LineRules> {
    const RULE: &str = "bootloader, tee, snp, microcode; of Turin also fmc";
    let mut section = value.section()?;
    let some = |value: &Value<'_>| {
        let tcb = Tcb::read(value, line, true)?;
        if tcb == Tcb::default() {
            value.problem("is zero, which any firmware reaches", RULE);
            return None;
        }
        Some(tcb)
    };
    let reported = section
        .required("minimumTcb", RULE)
        .and_then(|value| some(&value));
    let launch = match section.optional("minimumLaunchTcb") {
        None => reported,
        Some(value) => some(&value),
    };
    let mitigations = section
        .optional("mitigations")
        .map_or(Some(0), |value| mitigations(&value));
    section.finish();
    Some(LineRules {
        reported: reported?,
        launch: launch?,
        mitigations: mitigations?,
    })
}

/// Reads a list of the numbers of bits.
pub(crate) fn mitigations(value: &Value<'_>) -> Option<u64> {
    let items = value.list("a list of numbers of bits, 0 to 63")?;
    let mut mask = Some(0_u64);
    for item in &items {
        let bit = item.number(0, 63).and_then(|bit| 1_u64.checked_shl(bit));
        mask = mask.zip(bit).map(|(mask, bit)| mask | bit);
    }
    mask
}

/// The numbers of the bits that are set.
pub(crate) fn bits(mask: u64) -> Vec<u32> {
    (0..64)
        .filter(|bit| mask.checked_shr(*bit).unwrap_or(0) & 1 == 1)
        .collect()
}

fn chips(value: &Value<'_>) -> Option<BTreeSet<[u8; 64]>> {
    const RULE: &str = "a list of 1 to 1024 chip ids, 128 hex digits each, none of them zero";
    let chips = flags::set(value, RULE, |text| match hex_of::<64>(text) {
        Ok(chip) if chip == [0; 64] => Err("is the id of no chip".to_owned()),
        chip => chip,
    })?;
    if chips.is_empty() || chips.len() > MAX_CHIPS {
        value.problem(format!("{} chips are listed", chips.len()), RULE);
        return None;
    }
    Some(chips)
}

fn providers(value: &Value<'_>) -> Option<BTreeSet<String>> {
    const RULE: &str = "a list of 1 to 64 names of providers as in their certificates, such as CN=cc-us-east-2.amazonaws.com";
    // a number is no name, though it could be written as one
    for item in value.list(RULE)? {
        item.text(RULE)?;
    }
    let providers = flags::set(value, RULE, |text| {
        let is_name =
            (1..=64).contains(&text.len()) && text.bytes().all(|it| matches!(it, b' '..=b'~'));
        if is_name {
            Ok(text.to_owned())
        } else {
            Err("is not 1 to 64 printable characters of ASCII".to_owned())
        }
    })?;
    if providers.is_empty() || providers.len() > MAX_PROVIDERS {
        value.problem(format!("{} providers are listed", providers.len()), RULE);
        return None;
    }
    Some(providers)
}

fn hex_of<const N: usize>(text: &str) -> Result<[u8; N], String> {
    let mut bytes = [0; N];
    hex::decode_to_slice(text, &mut bytes)
        .map(|()| bytes)
        .map_err(|_| {
            format!(
                "{} characters are not {} hex digits",
                text.chars().count(),
                2 * N
            )
        })
}
