//! Presets: known attacks and what closes them, as data. The files of this release are in `presets/`; a site can write its
//! own in the same form, to see what shutting out a firmware or a product line would change.
//!
//! A number that is not public stands as `unknown` in the data and is never made up: who has it sets it in the policy.

use std::collections::BTreeSet;
use std::fmt;

use serde::Serialize;

use super::demands::Demands;
use super::machine::Hardware;
use super::snp::ProductLine;
use super::tdx::Minimums;
use crate::yaml::{self, Null, Problem, Problems, Section, Value};

/// The version of the form.
const VERSION: u32 = 1;
/// The most attacks of one preset.
const MAX_ATTACKS: usize = 256;
/// The longest text.
const MAX_TEXT: usize = 1000;
/// The largest preset that is read.
const MAX_PRESET: usize = 64 * 1024;

/// The presets of this release.
const BUILT_IN: [(&str, &str); 3] = [
    ("amd-2026-10", include_str!("presets/amd-2026-10.yaml")),
    (
        "amd-strict-2026-10",
        include_str!("presets/amd-strict-2026-10.yaml"),
    ),
    ("intel-2026-10", include_str!("presets/intel-2026-10.yaml")),
];

/// Known attacks, and demands that close them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Preset {
    name: String,
    about: String,
    demands: Demands,
    attacks: Vec<Attack>,
}

/// What an attack works against.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Targets {
    /// SEV-SNP machines of these product lines.
    pub products: BTreeSet<ProductLine>,
    /// TDX machines.
    pub tdx: bool,
}

/// Where an attack is met that no report shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Control {
    /// By whoever runs the building: who may touch the machine, and what else runs on it.
    Hosting,
    /// By the image that the measurements pin.
    GuestImage,
    /// By the attested channel.
    Channel,
    /// By every appraisal, whatever the policy says.
    AlwaysChecked,
}

impl Control {
    const ALL: [Self; 4] = [
        Self::Hosting,
        Self::GuestImage,
        Self::Channel,
        Self::AlwaysChecked,
    ];

    const fn as_str(self) -> &'static str {
        match self {
            Self::Hosting => "hosting",
            Self::GuestImage => "guest-image",
            Self::Channel => "channel",
            Self::AlwaysChecked => "always-checked",
        }
    }
}

impl fmt::Display for Control {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Hosting => "not visible in a report: a matter of hosting",
            Self::GuestImage => "met by the image that the measurements pin",
            Self::Channel => "met by the attested channel",
            Self::AlwaysChecked => "checked in every appraisal",
        })
    }
}

/// A number that is not public.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unknown {
    /// For which machines.
    pub targets: Targets,
    /// What is not known.
    pub what: String,
}

/// One known attack.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attack {
    /// Its short name, unique in its preset.
    pub id: String,
    /// The name it is known by.
    pub name: String,
    /// Advisories, CVEs, papers.
    pub references: Vec<String>,
    /// What it works against.
    pub affects: Targets,
    /// What closes it, and is demanded by the preset.
    pub demands: Demands,
    /// What would close it as well, and is not demanded: it would refuse machines that many have.
    pub alternatives: Vec<Demands>,
    /// Numbers that are not public.
    pub unknown: Vec<Unknown>,
    /// Where it is met instead.
    pub control: Option<Control>,
    /// What else must be known.
    pub note: Option<String>,
}

impl Preset {
    /// The names of the presets of this release.
    pub fn names() -> impl Iterator<Item = &'static str> {
        BUILT_IN.iter().map(|(name, _)| *name)
    }

    /// A preset of this release.
    #[must_use]
    pub fn built_in(name: &str) -> Option<Self> {
        let (name, text) = BUILT_IN.iter().find(|(known, _)| *known == name)?;
        Self::parse(name, text).ok()
    }

    /// Reads a preset; `file` is its name for messages.
    ///
    /// # Errors
    /// With everything that is wrong with it.
    pub fn parse(file: &str, text: &str) -> Result<Self, Problems> {
        too_long(file, text, MAX_PRESET)?;
        yaml::document(file, text, Null::IsWrong, read)
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// What it is for.
    #[must_use]
    pub fn about(&self) -> &str {
        &self.about
    }

    /// The attacks.
    #[must_use]
    pub fn attacks(&self) -> &[Attack] {
        &self.attacks
    }

    /// Everything it demands.
    #[must_use]
    pub fn demands(&self) -> Demands {
        self.attacks
            .iter()
            .fold(self.demands.clone(), |all, attack| all.and(&attack.demands))
    }

    /// Whether it says anything about machines with this hardware.
    pub(crate) fn is_about(&self, hardware: Hardware) -> bool {
        let demands = self.demands();
        let affects = |is_affected: fn(&Targets) -> bool| {
            self.attacks
                .iter()
                .any(|attack| is_affected(&attack.affects))
        };
        match hardware {
            Hardware::None => false,
            Hardware::Snp => {
                affects(|targets| !targets.products.is_empty())
                    || !demands.minimum_tcb.is_empty()
                    || !demands.excluded.is_empty()
                    || !demands.mitigations.is_empty()
                    || !demands.forbidden.is_empty()
                    || !demands.guest.is_empty()
                    || !demands.platform.is_empty()
            }
            Hardware::Tdx => {
                affects(|targets| targets.tdx)
                    || !demands.refused_statuses.is_empty()
                    || !demands.refused_advisories.is_empty()
                    || !demands.forbidden_attributes.is_empty()
                    || demands.demands_sept_ve_disable
                    || demands.minimums != Minimums::default()
            }
        }
    }
}

/// Refuses a document that is longer than any of its kind.
pub(crate) fn too_long(file: &str, text: &str, most: usize) -> Result<(), Problems> {
    if text.len() <= most {
        return Ok(());
    }
    let problem = Problem {
        at: yaml::Position { line: 1, column: 1 },
        field: String::new(),
        what: format!("the document has {} bytes, more than {most}", text.len()),
        allowed: String::new(),
    };
    Err(Problems::new(file, vec![problem]))
}

const NAME: &str = "1 to 64 of a-z, 0-9, '-' and '.'";
const TEXT: &str = "1 to 1000 printable characters";

fn read(root: &mut Section<'_>) -> Option<Preset> {
    let version = root
        .required("version", "1")
        .and_then(|value| value.number(VERSION, VERSION));
    let name = root
        .required("name", NAME)
        .and_then(|value| value.parse(NAME, slug));
    let about = root
        .required("about", TEXT)
        .and_then(|value| value.parse(TEXT, printable));
    let demands = demands_of(root, "demands");
    let attacks = root
        .optional("attacks")
        .map_or_else(|| Some(Vec::new()), |value| attacks(&value));
    version?;
    Some(Preset {
        name: name?,
        about: about?,
        demands: demands?,
        attacks: attacks?,
    })
}

fn demands_of(section: &mut Section<'_>, field: &'static str) -> Option<Demands> {
    section
        .optional(field)
        .map_or_else(|| Some(Demands::default()), |value| Demands::read(&value))
}

fn attacks(value: &Value<'_>) -> Option<Vec<Attack>> {
    let rule = "a list of at most 256 attacks";
    let items = value.list(rule)?;
    if items.len() > MAX_ATTACKS {
        value.problem(format!("{} attacks are listed", items.len()), rule);
        return None;
    }
    let mut ids = BTreeSet::new();
    let mut attacks = Some(Vec::new());
    for item in &items {
        match (attack(item), &mut attacks) {
            (Some(attack), Some(list)) => {
                if !ids.insert(attack.id.clone()) {
                    item.problem(format!("id {} is used twice", attack.id), "ids that differ");
                }
                list.push(attack);
            }
            _ => attacks = None,
        }
    }
    attacks
}

fn attack(value: &Value<'_>) -> Option<Attack> {
    let mut section = value.section()?;
    let id = section
        .required("id", NAME)
        .and_then(|value| value.parse(NAME, slug));
    let name = section
        .required("name", TEXT)
        .and_then(|value| value.parse(TEXT, printable));
    let references = section
        .required("references", "a list of texts")
        .and_then(|value| texts(&value));
    let affects = section
        .required("affects", TARGETS)
        .and_then(|value| targets(&value));
    let demands = demands_of(&mut section, "demands");
    let alternatives = section.optional("alternatives").map_or_else(
        || Some(Vec::new()),
        |value| {
            let items = value.list("a list of demands")?;
            let read: Vec<_> = items.iter().map(Demands::read).collect();
            read.into_iter().collect()
        },
    );
    let unknown = section
        .optional("unknown")
        .map_or_else(|| Some(Vec::new()), |value| unknown(&value));
    let control = section.optional("control").map_or(Some(None), |value| {
        let rule = Control::ALL.map(Control::as_str).join(", ");
        value
            .parse(&rule, |text| {
                Control::ALL
                    .into_iter()
                    .find(|control| control.as_str() == text)
                    .ok_or_else(|| format!("{text:?} is no control"))
            })
            .map(Some)
    });
    let note = section
        .optional("note")
        .map_or(Some(None), |value| value.parse(TEXT, printable).map(Some));
    section.finish();
    let attack = Attack {
        id: id?,
        name: name?,
        references: references?,
        affects: affects?,
        demands: demands?,
        alternatives: alternatives?,
        unknown: unknown?,
        control: control?,
        note: note?,
    };
    let says_nothing = attack.demands.is_empty()
        && attack.alternatives.is_empty()
        && attack.unknown.is_empty()
        && attack.control.is_none();
    if says_nothing {
        value.problem(
            "says nothing about what closes it",
            "demands, alternatives, unknown or control",
        );
        return None;
    }
    Some(attack)
}

const TARGETS: &str = "a list of at least one of Milan, Genoa, Turin, TDX";

fn targets(value: &Value<'_>) -> Option<Targets> {
    let names = super::flags::set(value, TARGETS, |text| {
        if text == "TDX" || ProductLine::from_name(text).is_some() {
            Ok(text.to_owned())
        } else {
            Err(format!("{text:?} is no kind of machine"))
        }
    })?;
    if names.is_empty() {
        value.problem("nothing is listed", TARGETS);
        return None;
    }
    Some(Targets {
        products: names
            .iter()
            .filter_map(|name| ProductLine::from_name(name))
            .collect(),
        tdx: names.contains("TDX"),
    })
}

fn unknown(value: &Value<'_>) -> Option<Vec<Unknown>> {
    let items = value.list("a list of affects and what")?;
    let mut unknown = Some(Vec::new());
    for item in &items {
        let Some(mut section) = item.section() else {
            unknown = None;
            continue;
        };
        let targets = section
            .required("affects", TARGETS)
            .and_then(|value| targets(&value));
        let what = section
            .required("what", TEXT)
            .and_then(|value| value.parse(TEXT, printable));
        section.finish();
        match (targets, what, &mut unknown) {
            (Some(targets), Some(what), Some(list)) => list.push(Unknown { targets, what }),
            _ => unknown = None,
        }
    }
    unknown
}

fn texts(value: &Value<'_>) -> Option<Vec<String>> {
    let items = value.list("a list of texts")?;
    let read: Vec<_> = items
        .iter()
        .map(|item| item.parse(TEXT, printable))
        .collect();
    read.into_iter().collect()
}

/// A short name.
pub(crate) fn slug(text: &str) -> Result<String, String> {
    let allowed = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '-' | '.');
    if text.is_empty() || text.len() > 64 || !text.chars().all(allowed) {
        let shown: String = text.chars().take(64).collect();
        return Err(format!("{shown:?} is no short name"));
    }
    Ok(text.to_owned())
}

fn printable(text: &str) -> Result<String, String> {
    if text.is_empty() || text.len() > MAX_TEXT || text.chars().any(char::is_control) {
        return Err("empty, too long or not printable".to_owned());
    }
    Ok(text.to_owned())
}

/// The demands that matter where only `lines` are accepted.
pub(crate) fn within(demands: &Demands, lines: &BTreeSet<ProductLine>) -> Demands {
    let mut demands = demands.clone();
    demands.minimum_tcb.retain(|line, _| lines.contains(line));
    demands.excluded.retain(|line| lines.contains(line));
    demands.mitigations.retain(|line, _| lines.contains(line));
    demands
}
