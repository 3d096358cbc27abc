//! The document: version 1, for `qemu-vtpm`, and version 2, for every kind of machine.

use jiff::{SignedDuration, Timestamp};
use serde_json::json;

use super::demands::Demands;
use super::generation::{self, Generation};
use super::machine::{Hardware, Machine};
use super::pcrs::PcrMeasurements;
use super::preset::{self, Preset};
use super::snp::{PlatformFlag, SigningKeys, SnpPolicy};
use super::tdx::TdxPolicy;
use super::{MAX_DOCUMENT, Measurements};
use crate::ComponentDigest;
use crate::yaml::{self, Null, Problems, Section, Value};

/// The versions this release reads.
const VERSIONS: &str = "1, 2";
/// The most presets of one document.
const MAX_PRESETS: usize = 16;
/// How long before its end an older generation is warned of.
const SOON: SignedDuration = SignedDuration::from_hours(14 * 24);

/// A policy for any kind of machine, validated.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PolicyDocument {
    machine: Machine,
    newest: Generation,
    older: Option<Generation>,
    snp: Option<SnpPolicy>,
    tdx: Option<TdxPolicy>,
    /// Those of this release that the document names.
    presets: Vec<Preset>,
    /// Those that were given beside it.
    added: Vec<Preset>,
}

/// What a document demands is not all in the document.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("preset {0} is given beside the policy and not in it, so it cannot be handed on")]
pub struct NotInDocument(pub String);

/// Something about a valid policy that a person should know.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Warning {
    /// The field it is about.
    pub field: String,
    /// What it is.
    pub what: String,
}

impl PolicyDocument {
    /// Reads a document, YAML or JSON; `file` is its name for messages.
    ///
    /// # Errors
    /// With everything that is wrong with it.
    pub fn parse(file: &str, text: &str) -> Result<Self, Problems> {
        preset::too_long(file, text, MAX_DOCUMENT)?;
        yaml::document(file, text, Null::IsWrong, read)
    }

    /// The document of a machine that is judged by its PCRs alone.
    pub(super) fn of_pcrs(
        machine: Machine,
        image: Option<String>,
        pcrs: Measurements,
        components: Vec<ComponentDigest>,
    ) -> Self {
        Self {
            machine,
            newest: Generation {
                image,
                pcrs: PcrMeasurements::Sha256(pcrs),
                components,
                ..Generation::default()
            },
            older: None,
            snp: None,
            tdx: None,
            presets: Vec::new(),
            added: Vec::new(),
        }
    }

    pub(super) fn with_older(self, older: &Generation, expires: Timestamp) -> Self {
        Self {
            older: Some(Generation {
                expires: Some(expires),
                ..older.clone()
            }),
            ..self
        }
    }

    /// The document with one more preset, such as a site's own: to look at what it would change. A document with such
    /// a preset is not handed on and appraises nothing, because the preset is not in it.
    ///
    /// # Errors
    /// When no machine at all could follow both.
    pub fn with_preset(mut self, preset: Preset) -> Result<Self, String> {
        if !preset.is_about(self.machine.hardware()) {
            return Err(nothing_to_say(&preset, self.machine));
        }
        self.added.push(preset);
        match self.accepts_nothing() {
            Some(why) => Err(why),
            None => Ok(self),
        }
    }

    /// The kind of machine.
    #[must_use]
    pub const fn machine(&self) -> Machine {
        self.machine
    }

    /// The generation that machines should be of.
    #[must_use]
    pub const fn newest(&self) -> &Generation {
        &self.newest
    }

    /// The generation that is accepted as well, until its end.
    #[must_use]
    pub const fn older(&self) -> Option<&Generation> {
        self.older.as_ref()
    }

    /// What is accepted at a time, the newest first.
    pub fn generations_at(&self, now: Timestamp) -> impl Iterator<Item = &Generation> {
        let older = self.older.iter().filter(move |older| older.is_alive(now));
        std::iter::once(&self.newest).chain(older)
    }

    /// What is demanded of an SEV-SNP machine, with all presets.
    #[must_use]
    pub fn snp(&self) -> Option<SnpPolicy> {
        self.snp.as_ref().map(|snp| snp.with(&self.demands()))
    }

    /// What is demanded of a TDX machine, with all presets.
    #[must_use]
    pub fn tdx(&self) -> Option<TdxPolicy> {
        self.tdx.as_ref().map(|tdx| tdx.with(&self.demands()))
    }

    /// The presets: those the document names, then those that were given beside it.
    pub fn presets(&self) -> impl Iterator<Item = &Preset> {
        self.presets.iter().chain(&self.added)
    }

    /// The presets that were given beside the document.
    #[must_use]
    pub fn added(&self) -> &[Preset] {
        &self.added
    }

    /// What all presets demand.
    #[must_use]
    pub fn demands(&self) -> Demands {
        self.presets()
            .fold(Demands::default(), |all, preset| all.and(&preset.demands()))
    }

    /// What a person should know although the document is valid.
    #[must_use]
    pub fn warnings(&self, now: Timestamp) -> Vec<Warning> {
        let mut warnings = Vec::new();
        let mut warn = |field: &str, what: String| {
            warnings.push(Warning {
                field: field.to_owned(),
                what,
            });
        };
        if let Some(end) = self.older.as_ref().and_then(Generation::expires) {
            let field = "measurements.generations[1].expires";
            if end <= now {
                warn(
                    field,
                    format!("the older generation ended at {end} and is not accepted: remove it"),
                );
            } else if end.duration_since(now) <= SOON {
                warn(
                    field,
                    format!(
                        "the older generation ends soon, at {end}: machines of it will be refused"
                    ),
                );
            }
        }
        if self.machine == Machine::GcpTdx {
            let generations = std::iter::once(&self.newest).chain(&self.older);
            for (place, _) in generations
                .enumerate()
                .filter(|(_, generation)| !generation.pins_trust_domain())
            {
                warn(
                    &format!("measurements.generations[{place}]"),
                    "does not enforce MRTD, RTMR 1 and RTMR 2: what was booted is known only by a TPM of the hypervisor"
                        .to_owned(),
                );
            }
        }
        if self.machine == Machine::GcpSevSnp {
            warn(
                "measurements",
                "pins what was booted by a TPM of the hypervisor only: the launch measurement is that of Google's firmware"
                    .to_owned(),
            );
            let generations = std::iter::once(&self.newest).chain(&self.older);
            for (place, _) in generations
                .enumerate()
                .filter(|(_, generation)| generation.launch().is_none_or(|it| it.warn_only))
            {
                warn(
                    &format!("measurements.generations[{place}]"),
                    "does not enforce a launch measurement: the report may be of any SEV-SNP machine"
                        .to_owned(),
                );
            }
        }
        if let Some(snp) = self.snp() {
            if snp.minimum_guest_svn() > 0 && snp.id_keys().is_none_or(|keys| keys.warn_only) {
                warn(
                    "snp.minimumGuestSvn",
                    "demands nothing without enforced idKeyDigests: any key signs any number"
                        .to_owned(),
                );
            }
            if snp.revocation_lists_from().is_some() && !snp.demands_crl() {
                warn(
                    "snp.revocationListsFrom",
                    "only warns, because revocationList does: an older list is held back as easily as a new one".to_owned(),
                );
            }
            for (line, minimum) in snp.products() {
                if minimum.reported.snp == 0 || minimum.launch.snp == 0 {
                    warn(
                        &format!("snp.products.{line}"),
                        "accepts every version of the SNP firmware".to_owned(),
                    );
                }
            }
            if !snp.platform().contains(&PlatformFlag::AliasCheckComplete) {
                warn(
                    "snp.platformInfo.aliasCheckComplete",
                    "accepts platforms that did not look for aliases of memory, by which a host reads and changes machines (BadRAM)".to_owned(),
                );
            }
        }
        if let Some(tdx) = self.tdx() {
            for status in tdx
                .statuses()
                .iter()
                .filter(|status| status.is_out_of_date())
            {
                warn(
                    "tdx.tcbStatuses",
                    format!(
                        "{status} accepts platforms that miss updates, whatever the advisories are"
                    ),
                );
            }
        }
        let lists_from = [
            (
                "snp.revocationListsFrom",
                self.snp.as_ref().and_then(SnpPolicy::revocation_lists_from),
            ),
            (
                "tdx.revocationListsFrom",
                self.tdx.as_ref().and_then(TdxPolicy::revocation_lists_from),
            ),
        ];
        for (field, _) in lists_from
            .iter()
            .filter(|(_, from)| from.is_some_and(|from| from > now))
        {
            warn(
                field,
                "lies in the future: until a vendor makes a list after it, none counts".to_owned(),
            );
        }
        for preset in &self.added {
            warn(
                "presets",
                format!(
                    "{} is given beside the document: it is looked at here only, and no cluster demands it",
                    preset.name()
                ),
            );
        }
        if self.machine.hardware() != Hardware::None && self.presets().next().is_none() {
            let names: Vec<&str> = Preset::names()
                .filter(|name| {
                    Preset::built_in(name)
                        .is_some_and(|preset| preset.is_about(self.machine.hardware()))
                })
                .collect();
            warn(
                "presets",
                format!(
                    "no known attack is looked at; for this machine there are {}",
                    names.join(", ")
                ),
            );
        }
        warnings
    }

    /// Writes the document: version 1 where that can say it, because older releases read it as well.
    ///
    /// # Errors
    /// When presets were given beside the document: whoever reads what is written would demand less than this does.
    pub fn to_json(&self) -> Result<String, NotInDocument> {
        self.is_whole().map(|()| self.json())
    }

    /// Whether it demands nothing beyond the document.
    pub(super) fn is_whole(&self) -> Result<(), NotInDocument> {
        match self.added.first() {
            None => Ok(()),
            Some(preset) => Err(NotInDocument(preset.name().to_owned())),
        }
    }

    /// The document without presets that were given beside it.
    pub(super) fn json(&self) -> String {
        let is_old = self.machine == Machine::QemuVtpm && self.older.is_none();
        let mut json = json!({ "variant": self.machine.as_str() });
        if let Some(json) = json.as_object_mut() {
            if is_old {
                json.insert("version".to_owned(), json!(1));
                if let Some(image) = &self.newest.image {
                    json.insert("image".to_owned(), json!(image));
                }
                json.insert("measurements".to_owned(), json!(self.newest.pcrs.to_json()));
                if !self.newest.components.is_empty() {
                    json.insert("components".to_owned(), json!(self.newest.components));
                }
            } else {
                json.insert("version".to_owned(), json!(2));
                let generations: Vec<_> = std::iter::once(&self.newest)
                    .chain(&self.older)
                    .map(Generation::to_json)
                    .collect();
                json.insert(
                    "measurements".to_owned(),
                    json!({ "generations": generations }),
                );
                if let Some(snp) = &self.snp {
                    json.insert("snp".to_owned(), snp.to_json());
                }
                if let Some(tdx) = &self.tdx {
                    json.insert("tdx".to_owned(), tdx.to_json());
                }
                if !self.presets.is_empty() {
                    let names: Vec<&str> = self.presets.iter().map(Preset::name).collect();
                    json.insert("presets".to_owned(), json!(names));
                }
            }
        }
        // text keys and no type that JSON cannot hold
        serde_json::to_string_pretty(&json).unwrap_or_default()
    }

    fn pins_launch(&self) -> bool {
        std::iter::once(&self.newest)
            .chain(&self.older)
            .all(|generation| generation.launch().is_some_and(|launch| !launch.warn_only))
    }

    fn accepts_nothing(&self) -> Option<String> {
        let snp = self.snp().and_then(|snp| snp.accepts_nothing());
        let tdx = self.tdx().and_then(|tdx| tdx.accepts_nothing());
        snp.or(tdx)
            .map(|why| format!("with these presets no machine is accepted: {why}"))
    }
}

fn read(root: &mut Section<'_>) -> Option<PolicyDocument> {
    let version = root
        .required("version", VERSIONS)
        .and_then(|value| value.number(1, 2));
    // without a version that is known the rest is read as the newest one, for the sake of its own mistakes
    let is_new = version != Some(1);
    let names = Machine::names();
    let machine = root.required("variant", &names).and_then(|value| {
        let machine = value.parse(&names, str::parse::<Machine>)?;
        if !is_new && machine != Machine::QemuVtpm {
            value.problem(
                format!("{machine} needs version 2 of the document"),
                "qemu-vtpm",
            );
            return None;
        }
        Some(machine)
    });
    let image = root
        .optional("image")
        .map_or(Some(None), |value| generation::image(&value).map(Some));
    let components = root
        .optional("components")
        .map_or_else(|| Some(Vec::new()), |value| generation::components(&value));
    const MEASUREMENTS: &str = "PCRs, each with expected and warnOnly; or generations";
    let outside = image.zip(components);
    let measurements = root
        .required("measurements", MEASUREMENTS)
        .and_then(|value| {
            // what stands beside them has been reported where it is wrong
            let (outside, is_right) = match outside {
                Some(outside) => (outside, true),
                None => ((None, Vec::new()), false),
            };
            let read = generation::read(&value, machine, outside)?;
            if !is_new && read.iter().any(|generation| generation.expires.is_some()) {
                value.problem("two generations need version 2 of the document", "PCRs");
            }
            is_right.then_some(read)
        });
    let (snp, tdx, presets) = if is_new {
        platform(root, machine)
    } else {
        (Some(None), Some(None), Some(Vec::new()))
    };
    version?;
    let mut generations = measurements?.into_iter();
    let document = PolicyDocument {
        machine: machine?,
        newest: generations.next()?,
        older: generations.next(),
        snp: snp?,
        tdx: tdx?,
        presets: presets?,
        added: Vec::new(),
    };
    if let Some(snp) = &document.snp
        && document.machine == Machine::AzureSevSnp
        && snp.id_keys().is_none_or(|keys| keys.warn_only)
        && !document.pins_launch()
    {
        root.problem(
            "an azure-sev-snp policy with neither identity keys nor an enforced launch measurement accepts every paravisor",
            "snp.idKeyDigests, or launch in each generation",
        );
        return None;
    }
    if let Some(why) = document.accepts_nothing() {
        root.problem(why, "presets that leave something to accept");
        return None;
    }
    Some(document)
}

type Platform = (
    Option<Option<SnpPolicy>>,
    Option<Option<TdxPolicy>>,
    Option<Vec<Preset>>,
);

/// The sections that depend on the hardware: each is there exactly where the machine has it.
fn platform(root: &mut Section<'_>, machine: Option<Machine>) -> Platform {
    let hardware = machine.map(Machine::hardware);
    let mut section = |name: &'static str, of: Hardware, rule: &str| match hardware {
        Some(hardware) if hardware == of => Some(root.required(name, rule)),
        _ => {
            let value = root.optional(name);
            if let (Some(value), Some(machine)) = (&value, machine) {
                value.problem(format!("a {machine} machine has no such hardware"), "");
            }
            None
        }
    };
    let snp = section("snp", Hardware::Snp, "a section with products");
    let tdx = section("tdx", Hardware::Tdx, "a section with tcbStatuses");
    let usual = machine.map_or(SigningKeys::Vcek, SigningKeys::usual);
    let snp = snp.map_or(Some(None), |value| {
        SnpPolicy::read(&value?, usual).map(Some)
    });
    let tdx = tdx.map_or(Some(None), |value| TdxPolicy::read(&value?).map(Some));
    let presets = root
        .optional("presets")
        .map_or_else(|| Some(Vec::new()), |value| presets(&value, machine));
    (snp, tdx, presets)
}

fn presets(value: &Value<'_>, machine: Option<Machine>) -> Option<Vec<Preset>> {
    let names = Preset::names().collect::<Vec<_>>().join(", ");
    let items = value.list(&names)?;
    if items.len() > MAX_PRESETS {
        value.problem(format!("{} presets are listed", items.len()), names);
        return None;
    }
    let mut presets: Option<Vec<Preset>> = Some(Vec::new());
    for item in &items {
        let preset = item.parse(&names, |text| {
            let shown: String = text.chars().take(64).collect();
            Preset::built_in(text).ok_or_else(|| format!("{shown:?} is no preset of this release"))
        });
        match (preset, &mut presets) {
            (Some(preset), Some(list)) => {
                if list.iter().any(|known| known.name() == preset.name()) {
                    item.problem("is listed twice", &*names);
                }
                if let Some(machine) = machine
                    && !preset.is_about(machine.hardware())
                {
                    item.problem(nothing_to_say(&preset, machine), "");
                }
                list.push(preset);
            }
            _ => presets = None,
        }
    }
    presets
}

fn nothing_to_say(preset: &Preset, machine: Machine) -> String {
    format!("{} says nothing about {machine} machines", preset.name())
}
