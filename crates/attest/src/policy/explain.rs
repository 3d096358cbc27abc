//! A policy in words: what it accepts, which known attacks it closes, which it does not, and why.

use std::collections::BTreeSet;
use std::fmt;

use jiff::Timestamp;
use serde::Serialize;

use super::demands::{Demands, minimum_words};
use super::document::PolicyDocument;
use super::flags::{Flag, names};
use super::generation::{Accepted384, Generation};
use super::machine::Hardware;
use super::preset::{Attack, Control, Unknown, within};
use super::snp::{Permission, ProductLine, SigningKeys, SnpPolicy, bits};
use super::tdx::TdxPolicy;

/// A policy in words.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Explanation {
    /// The kind of machine.
    pub variant: &'static str,
    /// The generations, the newest first.
    pub generations: Vec<Accepts>,
    /// What is demanded of the platform, a sentence each.
    pub platform: Vec<String>,
    /// The presets by name.
    pub presets: Vec<String>,
    /// Those of them that were given beside the policy: they are not in it, so no cluster demands them.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub beside: Vec<String>,
    /// The attacks of the presets.
    pub attacks: Vec<Answer>,
}

/// What one generation accepts.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Accepts {
    /// The image's name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub image: Option<String>,
    /// When it ends.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub expires: Option<String>,
    /// Registers of which another value is a refusal.
    pub enforced: Vec<String>,
    /// Registers of which another value is a warning.
    pub warn_only: Vec<String>,
}

/// What a policy makes of one attack.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Answer {
    /// The preset that knows it.
    pub preset: String,
    /// Its short name.
    pub id: String,
    /// Its name.
    pub name: String,
    /// Advisories, CVEs, papers.
    pub references: Vec<String>,
    /// What becomes of it.
    pub state: State,
    /// Why.
    pub why: String,
    /// What else must be known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
}

/// What becomes of an attack.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum State {
    /// No machine that is open to it is accepted.
    Closed,
    /// The policy could close it and does not.
    Open,
    /// A number is missing that is not public.
    Unknown,
    /// No report shows it; it is met elsewhere.
    Elsewhere,
    /// It does not work against anything that is accepted.
    NotAffected,
}

impl State {
    /// In a word.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Closed => "closed",
            Self::Open => "OPEN",
            Self::Unknown => "unknown",
            Self::Elsewhere => "elsewhere",
            Self::NotAffected => "not affected",
        }
    }
}

/// For a person.
impl fmt::Display for Explanation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "Policy for {} machines\n\nGenerations", self.variant)?;
        for generation in &self.generations {
            f.write_str("  ")?;
            match &generation.image {
                Some(image) => write!(f, "image {image}")?,
                None => f.write_str("an image without a name")?,
            }
            match &generation.expires {
                Some(end) => writeln!(f, ", accepted until {end}")?,
                None => writeln!(f)?,
            }
            for (what, registers) in [
                ("enforced", &generation.enforced),
                ("only a warning", &generation.warn_only),
            ] {
                if !registers.is_empty() {
                    writeln!(f, "    {what}: {}", registers.join(", "))?;
                }
            }
        }
        writeln!(f, "\nPlatform")?;
        for line in &self.platform {
            writeln!(f, "  {line}")?;
        }
        if self.presets.is_empty() {
            return writeln!(f, "\nKnown attacks: no preset is named");
        }
        writeln!(f, "\nKnown attacks, by {}", self.presets.join(", "))?;
        if !self.beside.is_empty() {
            writeln!(
                f,
                "  given beside the policy and not in it, so no cluster demands it: {}",
                self.beside.join(", ")
            )?;
        }
        for answer in &self.attacks {
            fmt::Display::fmt(answer, f)?;
        }
        let count = |state| {
            self.attacks
                .iter()
                .filter(|answer| answer.state == state)
                .count()
        };
        writeln!(
            f,
            "\n{} closed, {} open, {} unknown, {} met elsewhere, {} not affected",
            count(State::Closed),
            count(State::Open),
            count(State::Unknown),
            count(State::Elsewhere),
            count(State::NotAffected),
        )
    }
}

impl fmt::Display for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "  {:<12}  {}", self.state.as_str(), self.name)?;
        if !self.references.is_empty() {
            write!(f, " ({})", self.references.join(", "))?;
        }
        writeln!(f, "\n                {}", self.why)?;
        // what closes an attack needs no more words
        let is_closed = matches!(self.state, State::Closed | State::NotAffected);
        match &self.note {
            Some(note) if !is_closed => writeln!(f, "                {note}"),
            _ => Ok(()),
        }
    }
}

/// Puts a policy into words.
#[must_use]
pub fn explain(policy: &PolicyDocument) -> Explanation {
    let (snp, tdx) = (policy.snp(), policy.tdx());
    let judge = Judge {
        snp: snp.as_ref(),
        tdx: tdx.as_ref(),
    };
    let attacks = policy.presets().flat_map(|preset| {
        preset
            .attacks()
            .iter()
            .map(|attack| judge.answer(preset.name(), attack))
    });
    Explanation {
        variant: policy.machine().as_str(),
        generations: std::iter::once(policy.newest())
            .chain(policy.older())
            .map(accepts)
            .collect(),
        platform: platform(policy.machine().hardware(), &judge),
        presets: policy
            .presets()
            .map(|preset| preset.name().to_owned())
            .collect(),
        beside: policy
            .added()
            .iter()
            .map(|preset| preset.name().to_owned())
            .collect(),
        attacks: attacks.collect(),
    }
}

fn accepts(generation: &Generation) -> Accepts {
    let registers = |warn_only: bool| -> Vec<String> {
        let pcrs = generation.pcr_measurements().names(warn_only);
        let wide = |name: &str, register: Option<&Accepted384>| {
            register
                .filter(|register| register.warn_only == warn_only)
                .map(|register| match register.accepted.len() {
                    1 => name.to_owned(),
                    n => format!("{name} (one of {n})"),
                })
        };
        let launch = wide("launch measurement", generation.launch());
        let mrtd = wide("MRTD", generation.mrtd());
        let rtmrs = generation
            .rtmrs()
            .iter()
            .filter_map(|(n, register)| wide(&format!("RTMR {n}"), Some(register)));
        let pcrs = pcrs.into_iter();
        pcrs.chain(launch).chain(mrtd).chain(rtmrs).collect()
    };
    Accepts {
        image: generation.image_name().map(str::to_owned),
        expires: generation.expires().map(|end| end.to_string()),
        enforced: registers(false),
        warn_only: registers(true),
    }
}

fn platform(hardware: Hardware, judge: &Judge<'_>) -> Vec<String> {
    let mut lines = Vec::new();
    if hardware == Hardware::None {
        lines.push("nothing is demanded of the hardware".to_owned());
    }
    if let Some(snp) = judge.snp {
        for (line, minimum) in snp.products() {
            if minimum.mitigations != 0 {
                let bits: Vec<String> = bits(minimum.mitigations)
                    .iter()
                    .map(u32::to_string)
                    .collect();
                lines.push(format!("{line}: mitigations {}", bits.join(", ")));
            }
            let reported = minimum.reported.words();
            lines.push(if minimum.launch == minimum.reported {
                format!("{line}: at least {reported}, reported and at launch")
            } else {
                format!(
                    "{line}: at least {reported} reported, {} at launch",
                    minimum.launch.words()
                )
            });
        }
        for line in ProductLine::ALL {
            if !snp.products().contains_key(&line) {
                lines.push(format!("{line}: not accepted"));
            }
        }
        lines.push("guestPolicy: no debugging, no migration agent; VMPL 0".to_owned());
        for permission in Permission::ALL {
            let rule = if snp.permitted().contains(permission) {
                "permitted"
            } else {
                "not permitted"
            };
            lines.push(format!("guestPolicy: {} {rule}", permission.as_str()));
        }
        lines.extend(
            names(snp.guest())
                .iter()
                .map(|name| format!("guestPolicy: {name} demanded")),
        );
        lines.extend(
            names(snp.platform())
                .iter()
                .map(|name| format!("platformInfo: {name} demanded")),
        );
        lines.extend(snp.id_keys().map(|keys| {
            let rule = if keys.warn_only { ", or a warning" } else { "" };
            format!("identity key: one of {}{rule}", keys.accepted.len())
        }));
        // it is the identity key's releases that the number tells apart
        match (snp.minimum_guest_svn(), snp.id_keys()) {
            (0, None) => {}
            (0, Some(_)) => lines.push("guest SVN: every release of the identity key".to_owned()),
            (least, _) => lines.push(format!("guest SVN: at least {least}")),
        }
        lines.extend(
            snp.host_data()
                .map(|data| format!("host data: {}", hex::encode(data))),
        );
        lines.push(match snp.chips().len() {
            0 => "chip: any genuine one".to_owned(),
            n => format!("chip: one of {n}"),
        });
        lines.push(match snp.keys() {
            SigningKeys::Vcek => "signed by the chip's own key (VCEK)".to_owned(),
            SigningKeys::Vlek => "signed by a provider's key (VLEK)".to_owned(),
            SigningKeys::Either => "signed by the chip's own or a provider's key".to_owned(),
        });
        if snp.keys() != SigningKeys::Vcek {
            lines.push(if snp.vlek_providers().is_empty() {
                "VLEK: of any provider, and a warning that names it".to_owned()
            } else {
                let names: Vec<&str> = snp.vlek_providers().iter().map(String::as_str).collect();
                format!("VLEK: of {}", names.join(" or "))
            });
        }
        if !snp.demands_crl() {
            lines.push("without a revocation list only a warning".to_owned());
        }
        lines.extend(snp.revocation_lists_from().map(lists_from));
        if snp.permits_provisional() {
            lines.push("firmware that the host can take back is accepted".to_owned());
        }
    }
    if let Some(tdx) = judge.tdx {
        let statuses: Vec<&str> = tdx
            .statuses()
            .iter()
            .map(|status| status.as_str())
            .collect();
        lines.push(format!("TCB status: {}", statuses.join(", ")));
        lines.push(match tdx.advisories().len() {
            0 => "advisories: none is tolerated".to_owned(),
            _ => {
                let names: Vec<&str> = tdx.advisories().iter().map(String::as_str).collect();
                format!("advisories tolerated: {}", names.join(", "))
            }
        });
        if !tdx.refused_advisories().is_empty() {
            let names: Vec<&str> = tdx
                .refused_advisories()
                .iter()
                .map(String::as_str)
                .collect();
            lines.push(format!(
                "advisories refused, whatever the status: {}",
                names.join(", ")
            ));
        }
        lines.push("attributes: no debugging, no migration".to_owned());
        lines.push(
            if tdx.demands_sept_ve_disable() {
                "attributes: septVeDisable demanded"
            } else {
                "attributes: septVeDisable not demanded"
            }
            .to_owned(),
        );
        let permitted = names(tdx.permitted());
        if !permitted.is_empty() {
            lines.push(format!("attributes: {} permitted", permitted.join(", ")));
        }
        lines.push(match tdx.mr_seam().len() {
            0 => "TDX module: any that Intel's TCB info knows".to_owned(),
            n => format!("TDX module: one of {n}"),
        });
        match tdx.xfam().len() {
            0 => {}
            n => lines.push(format!("XFAM: one of {n}")),
        }
        lines.extend(minimum_words(tdx.minimums()));
        lines.extend(tdx.revocation_lists_from().map(lists_from));
    }
    lines
}

fn lists_from(from: Timestamp) -> String {
    format!("revocation lists: made at {from} or later, and an older one counts as none")
}

/// The policy's demands, with all presets.
struct Judge<'p> {
    snp: Option<&'p SnpPolicy>,
    tdx: Option<&'p TdxPolicy>,
}

impl Judge<'_> {
    /// Whether the policy is at least as strict as these demands: then adding them changes nothing.
    fn implies(&self, demands: &Demands) -> bool {
        let snp = self.snp.is_none_or(|snp| snp.with(demands) == *snp);
        let tdx = self.tdx.is_none_or(|tdx| tdx.with(demands) == *tdx);
        snp && tdx
    }

    fn answer(&self, preset: &str, attack: &Attack) -> Answer {
        let (state, why) = self.state(attack);
        Answer {
            preset: preset.to_owned(),
            id: attack.id.clone(),
            name: attack.name.clone(),
            references: attack.references.clone(),
            state,
            why,
            note: attack.note.clone(),
        }
    }

    /// Each kind of machine that is accepted and open to the attack is judged by itself: it is closed where one way to close
    /// it is demanded.
    fn state(&self, attack: &Attack) -> (State, String) {
        let targets = self.targets(attack);
        if targets.is_empty() {
            let why = "nothing that it works against is accepted";
            return (State::NotAffected, why.to_owned());
        }
        if let Some(control) = attack.control {
            let state = match control {
                Control::AlwaysChecked => State::Closed,
                Control::Hosting | Control::GuestImage | Control::Channel => State::Elsewhere,
            };
            return (state, control.to_string());
        }
        let (mut closed, mut open, mut unknown) = (Vec::new(), Vec::new(), Vec::new());
        for target in targets {
            let ways = target.ways(attack);
            let demanded = ways.iter().find(|way| self.implies(way));
            let missing = target.missing(attack);
            match (demanded, missing) {
                (Some(way), _) => add(&mut closed, way.words()),
                (None, Some(what)) if ways.is_empty() => {
                    add(&mut unknown, vec![format!("{target}: {what}")]);
                }
                (None, _) if ways.is_empty() => {
                    add(
                        &mut open,
                        vec![format!("{target}: the preset knows nothing that closes it")],
                    );
                }
                (None, _) => {
                    let ways: Vec<String> =
                        ways.iter().map(|way| way.words().join(" and ")).collect();
                    add(&mut open, vec![ways.join(", or ")]);
                }
            }
        }
        if !open.is_empty() {
            return (State::Open, format!("not demanded: {}", open.join("; ")));
        }
        if !unknown.is_empty() {
            let why = format!("not public: {}", unknown.join("; "));
            return (State::Unknown, why);
        }
        (State::Closed, closed.join("; "))
    }

    /// The accepted machines that the attack works against.
    fn targets(&self, attack: &Attack) -> Vec<Target> {
        let lines = self
            .snp
            .into_iter()
            .flat_map(|snp| snp.products().keys())
            .filter(|line| attack.affects.products.contains(line))
            .map(|line| Target::Line(*line));
        let tdx = self.tdx.filter(|_| attack.affects.tdx).map(|_| Target::Tdx);
        lines.chain(tdx).collect()
    }
}

/// Adds what is not there yet: what is demanded of all lines is said once.
fn add(words: &mut Vec<String>, more: Vec<String>) {
    for word in more {
        if !words.contains(&word) {
            words.push(word);
        }
    }
}

/// A kind of machine an attack works against.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Target {
    Line(ProductLine),
    Tdx,
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Line(line) => line.fmt(f),
            Self::Tdx => f.pad("TDX"),
        }
    }
}

impl Target {
    /// Each set of demands that closes the attack here. What the preset demands does not, where a number is missing.
    fn ways(self, attack: &Attack) -> Vec<Demands> {
        let demands = self.missing(attack).is_none().then_some(&attack.demands);
        demands
            .into_iter()
            .chain(&attack.alternatives)
            .map(|way| self.part_of(way))
            .filter(|way| !way.is_empty())
            .collect()
    }

    /// What demands say about this kind of machine. Demands that name product lines say nothing about the others.
    fn part_of(self, demands: &Demands) -> Demands {
        match self {
            Self::Line(line) => {
                let lines = BTreeSet::from([line]);
                let names_lines = !demands.minimum_tcb.is_empty()
                    || !demands.excluded.is_empty()
                    || !demands.mitigations.is_empty();
                let part = within(&demands.of_snp(), &lines);
                let is_named = !part.minimum_tcb.is_empty()
                    || !part.excluded.is_empty()
                    || !part.mitigations.is_empty();
                if names_lines && !is_named {
                    Demands::default()
                } else {
                    part
                }
            }
            Self::Tdx => demands.of_tdx(),
        }
    }

    /// The number that is missing here.
    fn missing(self, attack: &Attack) -> Option<&str> {
        let is_meant = |unknown: &&Unknown| match self {
            Self::Line(line) => unknown.targets.products.contains(&line),
            Self::Tdx => unknown.targets.tdx,
        };
        attack
            .unknown
            .iter()
            .find(is_meant)
            .map(|unknown| unknown.what.as_str())
    }
}
