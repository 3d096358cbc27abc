//! What can be demanded on top of a policy. Demands only ever add up: of two minimums the higher one, of two lists of what
//! is refused both. So the order in which they are merged does not matter, twice is once, and a merge accepts nothing that
//! one of its parts refuses.

use std::collections::{BTreeMap, BTreeSet};

use super::flags::{self, names};
use super::snp::{self, GuestFlag, Permission, PlatformFlag, ProductLine, Tcb};
use super::tdx::{self, Minimums, TcbStatus, TdAttribute};
use crate::yaml::Value;

/// Demands on the platform. Empty: none.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Demands {
    /// SEV-SNP: the oldest firmware of a product line, reported and at launch.
    pub minimum_tcb: BTreeMap<ProductLine, Tcb>,
    /// SEV-SNP: product lines that are not accepted.
    pub excluded: BTreeSet<ProductLine>,
    /// SEV-SNP: bits of a product line's mitigation vector that must be set.
    pub mitigations: BTreeMap<ProductLine, u64>,
    /// SEV-SNP: what the guest policy must not permit.
    pub forbidden: BTreeSet<Permission>,
    /// SEV-SNP: what the guest policy must demand.
    pub guest: BTreeSet<GuestFlag>,
    /// SEV-SNP: what the platform must say about itself.
    pub platform: BTreeSet<PlatformFlag>,
    /// TDX: statuses that are not accepted.
    pub refused_statuses: BTreeSet<TcbStatus>,
    /// TDX: advisories that a platform must not have, whatever its status is.
    pub refused_advisories: BTreeSet<String>,
    /// TDX: attributes that must not be set.
    pub forbidden_attributes: BTreeSet<TdAttribute>,
    /// TDX: SEPT_VE_DISABLE must be set.
    pub demands_sept_ve_disable: bool,
    /// TDX: version numbers that must be reached.
    pub minimums: Minimums,
}

impl Demands {
    /// Both at once.
    #[must_use]
    pub fn and(&self, other: &Self) -> Self {
        let mut minimum_tcb = self.minimum_tcb.clone();
        for (line, tcb) in &other.minimum_tcb {
            let raised = minimum_tcb
                .get(line)
                .map_or(*tcb, |minimum| minimum.raised_to(tcb));
            minimum_tcb.insert(*line, raised);
        }
        let mut mitigations = self.mitigations.clone();
        for (line, bits) in &other.mitigations {
            *mitigations.entry(*line).or_default() |= bits;
        }
        Self {
            minimum_tcb,
            excluded: &self.excluded | &other.excluded,
            mitigations,
            forbidden: &self.forbidden | &other.forbidden,
            guest: &self.guest | &other.guest,
            platform: &self.platform | &other.platform,
            refused_statuses: &self.refused_statuses | &other.refused_statuses,
            refused_advisories: &self.refused_advisories | &other.refused_advisories,
            forbidden_attributes: &self.forbidden_attributes | &other.forbidden_attributes,
            demands_sept_ve_disable: self.demands_sept_ve_disable || other.demands_sept_ve_disable,
            minimums: self.minimums.raised_to(&other.minimums),
        }
    }

    /// What they say about SEV-SNP machines.
    #[must_use]
    pub fn of_snp(&self) -> Self {
        Self {
            refused_statuses: BTreeSet::new(),
            refused_advisories: BTreeSet::new(),
            forbidden_attributes: BTreeSet::new(),
            demands_sept_ve_disable: false,
            minimums: Minimums::default(),
            ..self.clone()
        }
    }

    /// What they say about TDX machines.
    #[must_use]
    pub fn of_tdx(&self) -> Self {
        Self {
            minimum_tcb: BTreeMap::new(),
            excluded: BTreeSet::new(),
            mitigations: BTreeMap::new(),
            forbidden: BTreeSet::new(),
            guest: BTreeSet::new(),
            platform: BTreeSet::new(),
            ..self.clone()
        }
    }

    /// Whether nothing is demanded.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// Each demand in words.
    pub(crate) fn words(&self) -> Vec<String> {
        let mut words = Vec::new();
        for (line, tcb) in &self.minimum_tcb {
            words.push(format!("{line}: at least {}", tcb.words()));
        }
        for line in &self.excluded {
            words.push(format!("no {line}"));
        }
        for (line, mask) in &self.mitigations {
            let bits: Vec<String> = snp::bits(*mask).iter().map(u32::to_string).collect();
            words.push(format!("{line}: mitigation {}", bits.join(", ")));
        }
        for name in names(&self.forbidden) {
            words.push(format!("guestPolicy: no {name}"));
        }
        for name in names(&self.guest) {
            words.push(format!("guestPolicy: {name}"));
        }
        for name in names(&self.platform) {
            words.push(format!("platformInfo: {name}"));
        }
        for status in &self.refused_statuses {
            words.push(format!("TCB status {status} refused"));
        }
        for advisory in &self.refused_advisories {
            words.push(format!("{advisory} refused"));
        }
        for name in names(&self.forbidden_attributes) {
            words.push(format!("attributes: no {name}"));
        }
        if self.demands_sept_ve_disable {
            words.push("attributes: septVeDisable".to_owned());
        }
        words.extend(minimum_words(&self.minimums));
        words
    }

    pub(crate) fn read(value: &Value<'_>) -> Option<Self> {
        let mut section = value.section()?;
        let minimum_tcb = section
            .optional("minimumTcb")
            .map_or_else(|| Some(BTreeMap::new()), |value| minimum_tcb(&value));
        let excluded = section
            .optional("excludedProducts")
            .map_or_else(|| Some(BTreeSet::new()), |value| products(&value));
        let accepted = section
            .optional("acceptedProducts")
            .map_or_else(|| Some(ProductLine::ALL.into()), |value| products(&value));
        let mitigations = section
            .optional("mitigations")
            .map_or_else(|| Some(BTreeMap::new()), |value| mitigations(&value));
        let guest = section.optional("guestPolicy").map_or_else(
            || Some((BTreeSet::new(), BTreeSet::new())),
            |value| {
                let mut section = value.section()?;
                let forbidden = flags::list(&mut section, "forbidden");
                let required = flags::list(&mut section, "required");
                section.finish();
                forbidden.zip(required)
            },
        );
        let platform = section.optional("platformInfo").map_or_else(
            || Some(BTreeSet::new()),
            |value| {
                let mut section = value.section()?;
                let required = flags::list(&mut section, "required");
                section.finish();
                required
            },
        );
        let refused_statuses = section
            .optional("refusedTcbStatuses")
            .map_or_else(|| Some(BTreeSet::new()), |value| TcbStatus::list(&value));
        let refused_advisories = section
            .optional("refusedAdvisories")
            .map_or_else(|| Some(BTreeSet::new()), |value| tdx::advisories(&value));
        let attributes = section.optional("attributes").map_or_else(
            || Some((BTreeSet::new(), false)),
            |value| {
                let mut section = value.section()?;
                let forbidden = flags::list(&mut section, "forbidden");
                let sept_ve = section
                    .optional("septVeDisable")
                    .map_or(Some(false), |value| {
                        value.parse("required", |text| match text {
                            "required" => Ok(true),
                            _ => Err(format!("{text:?} is not known")),
                        })
                    });
                section.finish();
                forbidden.zip(sept_ve)
            },
        );
        let minimums = section
            .optional("minimums")
            .map_or_else(|| Some(Minimums::default()), |value| tdx::minimums(&value));
        section.finish();
        let accepted: BTreeSet<ProductLine> = accepted?;
        let not_accepted = &BTreeSet::from(ProductLine::ALL) - &accepted;
        let (forbidden, guest) = guest?;
        let (forbidden_attributes, demands_sept_ve_disable) = attributes?;
        Some(Self {
            minimum_tcb: minimum_tcb?,
            excluded: &excluded? | &not_accepted,
            mitigations: mitigations?,
            forbidden,
            guest,
            platform: platform?,
            refused_statuses: refused_statuses?,
            refused_advisories: refused_advisories?,
            forbidden_attributes,
            demands_sept_ve_disable,
            minimums: minimums?,
        })
    }
}

pub(crate) fn minimum_words(minimums: &Minimums) -> Vec<String> {
    let mut words = Vec::new();
    if minimums.tee_tcb_svn != [0; 16] {
        words.push(format!(
            "TEE_TCB_SVN at least {}",
            hex::encode(minimums.tee_tcb_svn)
        ));
    }
    let numbers = [
        ("QE SVN", u32::from(minimums.qe_svn)),
        ("PCE SVN", u32::from(minimums.pce_svn)),
        (
            "TCB evaluation data number",
            minimums.tcb_evaluation_data_number,
        ),
    ];
    for (name, least) in numbers {
        if least > 0 {
            words.push(format!("{name} at least {least}"));
        }
    }
    words
}

fn minimum_tcb(value: &Value<'_>) -> Option<BTreeMap<ProductLine, Tcb>> {
    let mut section = value.section()?;
    let mut minimum = BTreeMap::new();
    let mut complete = true;
    for line in ProductLine::ALL {
        if let Some(value) = section.optional(line.name()) {
            match Tcb::read(&value, line, false) {
                Some(tcb) => {
                    minimum.insert(line, tcb);
                }
                None => complete = false,
            }
        }
    }
    section.finish();
    complete.then_some(minimum)
}

fn mitigations(value: &Value<'_>) -> Option<BTreeMap<ProductLine, u64>> {
    let mut section = value.section()?;
    let mut all = Some(BTreeMap::new());
    for line in ProductLine::ALL {
        if let Some(value) = section.optional(line.name()) {
            match (snp::mitigations(&value), &mut all) {
                (Some(bits), Some(all)) => {
                    all.insert(line, bits);
                }
                _ => all = None,
            }
        }
    }
    section.finish();
    all
}

/// Reads a list of product lines.
pub(crate) fn products(value: &Value<'_>) -> Option<BTreeSet<ProductLine>> {
    flags::set(value, "Milan, Genoa, Turin", |text| {
        ProductLine::from_name(text).ok_or_else(|| format!("{text:?} is no product line"))
    })
}
