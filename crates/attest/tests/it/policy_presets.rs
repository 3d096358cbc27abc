//! Presets: each row closes what it says and at the number it says; merges only ever add up; what a policy makes of them.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::LazyLock;

use attest::policy::demands::Demands;
use attest::policy::explain::{State, explain};
use attest::policy::flags::{Flag, mask};
use attest::policy::preset::{Attack, Preset};
use attest::policy::snp::{GuestFlag, Permission, PlatformFlag, ProductLine, SnpPolicy, Tcb};
use attest::policy::tdx::{Minimums, TcbStatus, TdAttribute, TdxPolicy};
use attest::{Policy, PolicyDocument, PolicyError};
use proptest::prelude::*;
use proptest::sample::subsequence;

use crate::policy_document::{azure, snp, tdx};

fn built_in() -> Vec<Preset> {
    Preset::names()
        .map(|name| Preset::built_in(name).unwrap_or_else(|| panic!("{name} cannot be read")))
        .collect()
}

/// What an SEV-SNP machine shows.
#[derive(Clone, Debug)]
struct Machine {
    line: ProductLine,
    reported: Tcb,
    launch: Tcb,
    mitigations: u64,
    guest: u64,
    platform: u64,
}

impl Machine {
    /// One that nothing can be said against.
    fn best(line: ProductLine) -> Self {
        let tcb = Tcb {
            fmc: 255,
            bootloader: 255,
            tee: 255,
            snp: 255,
            microcode: 255,
        };
        Self {
            line,
            reported: tcb,
            launch: tcb,
            mitigations: u64::MAX,
            guest: mask(&GuestFlag::ALL.iter().copied().collect()),
            platform: mask(&PlatformFlag::ALL.iter().copied().collect()),
        }
    }

    fn is_accepted(&self, policy: &SnpPolicy) -> bool {
        let Some(rules) = policy.products().get(&self.line) else {
            return false;
        };
        let all = |field: u64, bits: u64| field & bits == bits;
        let refused: BTreeSet<Permission> = Permission::ALL
            .iter()
            .filter(|permission| !policy.permitted().contains(permission))
            .copied()
            .collect();
        self.reported.below(&rules.reported).next().is_none()
            && self.launch.below(&rules.launch).next().is_none()
            && all(self.mitigations, rules.mitigations)
            && all(self.guest, mask(policy.guest()))
            && self.guest & mask(&refused) == 0
            && all(self.platform, mask(policy.platform()))
    }
}

/// A policy that accepts every line and demands next to nothing.
fn open() -> &'static SnpPolicy {
    static OPEN: LazyLock<SnpPolicy> = LazyLock::new(read_open);
    &OPEN
}

fn read_open() -> SnpPolicy {
    let line = |line: ProductLine| {
        let fmc = if line == ProductLine::Turin {
            "fmc: 0, "
        } else {
            ""
        };
        format!(
            "    {line}:\n      minimumTcb: {{ {fmc}bootloader: 1, tee: 0, snp: 0, microcode: 0 }}\n"
        )
    };
    let lines = ProductLine::ALL.map(line).concat();
    let text = snp();
    let start = text.find("    Genoa:").unwrap();
    let text = format!(
        "{}{lines}  guestPolicy: {{ permitted: [smt, cxl] }}\n  platformInfo: {{ aliasCheckComplete: optional }}\n",
        &text[..start]
    );
    PolicyDocument::parse("open", &text).unwrap().snp().unwrap()
}

#[test]
fn every_preset_is_read_and_names_its_attacks() {
    for (name, preset) in Preset::names().zip(built_in()) {
        assert_eq!(preset.name(), name);
        assert!(!preset.attacks().is_empty());
        assert!(
            name.ends_with(|c: char| c.is_ascii_digit()),
            "{name} has no date"
        );
    }
    assert!(Preset::built_in("amd").is_none());
}

/// Each number of each row: one below is refused, and the number itself is accepted.
#[test]
fn every_minimum_of_every_row_is_the_edge() {
    let mut edges = 0;
    for preset in built_in() {
        for attack in preset.attacks() {
            for demands in std::iter::once(&attack.demands).chain(&attack.alternatives) {
                for (line, tcb) in &demands.minimum_tcb {
                    edges += edge(&preset, attack, demands, *line, *tcb);
                }
            }
        }
    }
    assert!(edges >= 10, "{edges}");
}

fn edge(preset: &Preset, attack: &Attack, demands: &Demands, line: ProductLine, tcb: Tcb) -> usize {
    let policy = open().with(demands);
    let at = Machine {
        reported: tcb.raised_to(&Tcb {
            bootloader: 1,
            ..Tcb::default()
        }),
        launch: tcb.raised_to(&Tcb {
            bootloader: 1,
            ..Tcb::default()
        }),
        ..Machine::best(line)
    };
    let what = format!("{} {} {line}", preset.name(), attack.id);
    assert!(at.is_accepted(&policy), "{what}");
    let lowered = |tcb: Tcb| {
        [
            Tcb {
                snp: tcb.snp.saturating_sub(1),
                ..tcb
            },
            Tcb {
                microcode: tcb.microcode.saturating_sub(1),
                ..tcb
            },
        ]
    };
    let mut edges = 0;
    for below in lowered(at.reported)
        .into_iter()
        .filter(|below| *below != at.reported)
    {
        for machine in [
            Machine {
                reported: below,
                ..at.clone()
            },
            Machine {
                launch: below,
                ..at.clone()
            },
        ] {
            assert!(!machine.is_accepted(&policy), "{what}: {below:?}");
            assert!(
                machine.is_accepted(open()),
                "{what}: only this row refuses it"
            );
            edges += 1;
        }
    }
    edges
}

/// Each bit of each row: without it a machine is refused.
#[test]
fn every_bit_of_every_row_is_demanded() {
    let mut bits = 0;
    for preset in built_in() {
        for attack in preset.attacks() {
            for demands in std::iter::once(&attack.demands).chain(&attack.alternatives) {
                let policy = open().with(demands);
                for line in &attack.affects.products {
                    let best = Machine::best(*line);
                    let what = format!("{} {} {line}", preset.name(), attack.id);
                    assert_eq!(
                        best.is_accepted(&policy),
                        !demands.excluded.contains(line),
                        "{what}"
                    );
                    let without = [
                        demands
                            .guest
                            .iter()
                            .map(|flag| Machine {
                                guest: best.guest & !(1 << flag.bit()),
                                ..best.clone()
                            })
                            .collect::<Vec<_>>(),
                        demands
                            .platform
                            .iter()
                            .map(|flag| Machine {
                                platform: best.platform & !(1 << flag.bit()),
                                ..best.clone()
                            })
                            .collect(),
                        demands
                            .forbidden
                            .iter()
                            .map(|flag| Machine {
                                guest: best.guest | 1 << flag.bit(),
                                ..best.clone()
                            })
                            .collect(),
                        demands
                            .mitigations
                            .get(line)
                            .map(|mask| Machine {
                                mitigations: !mask,
                                ..best.clone()
                            })
                            .into_iter()
                            .collect(),
                    ];
                    for machine in without.concat() {
                        assert!(!machine.is_accepted(&policy), "{what}: {machine:?}");
                        assert!(
                            machine.is_accepted(open()),
                            "{what}: only this row refuses it"
                        );
                        bits += 1;
                    }
                }
            }
        }
    }
    assert!(bits >= 15, "{bits}");
}

#[test]
fn a_number_that_is_not_public_is_not_made_up() {
    for preset in built_in() {
        for attack in preset.attacks() {
            for unknown in &attack.unknown {
                for line in &unknown.targets.products {
                    let known = attack.demands.minimum_tcb.contains_key(line);
                    assert!(
                        !known,
                        "{} {}: {line} is both known and not",
                        preset.name(),
                        attack.id
                    );
                }
            }
        }
    }
}

fn states(document: &PolicyDocument) -> Vec<(String, State)> {
    explain(document)
        .attacks
        .into_iter()
        .map(|answer| (answer.id, answer.state))
        .collect()
}

fn with(text: &str, presets: &str) -> PolicyDocument {
    let text = text.replacen(
        "measurements:",
        &format!("presets: [{presets}]\nmeasurements:"),
        1,
    );
    PolicyDocument::parse("p", &text).unwrap_or_else(|problems| panic!("{problems}"))
}

#[test]
fn what_a_genoa_policy_closes_and_what_not() {
    let document = with(&snp(), "amd-2026-10");
    let expected = [
        ("badram", State::Closed),
        ("entrysign", State::Closed),
        ("rmpocalypse", State::Closed),
        ("sev-firmware-2026-02", State::Unknown),
        ("breakfast", State::Unknown),
        ("fabricked", State::Unknown),
        ("staleus", State::Unknown),
        ("cachewarp", State::NotAffected),
        // multithreading is not permitted by this policy
        ("stackwarp", State::Closed),
        ("heracles", State::Open),
        ("cipherleaks", State::Open),
        ("milanlaunchy", State::NotAffected),
        ("badaml", State::Elsewhere),
        ("heckler-wesee", State::Elsewhere),
        ("relay", State::Elsewhere),
        ("host-requested", State::Closed),
        ("debug-and-migration", State::Closed),
        ("interposers", State::Elsewhere),
        ("sidechannels", State::Elsewhere),
    ];
    let expected: Vec<_> = expected.map(|(id, state)| (id.to_owned(), state)).into();
    assert_eq!(states(&document), expected);
    let strict = with(&snp(), "amd-strict-2026-10");
    for (id, state) in states(&strict) {
        let expected = if id == "milanlaunchy" {
            State::NotAffected
        } else {
            State::Closed
        };
        assert_eq!(state, expected, "{id}");
    }
}

/// What `constellation policy explain` prints of the example in `docs/attestation.md`.
#[test]
fn an_explanation_is_for_a_person() {
    let document = include_str!("../../../../docs/attestation.md");
    let example = document
        .split("```yaml\n")
        .find(|block| block.contains("variant: azure-sev-snp\n"))
        .unwrap();
    let example = example.split("```").next().unwrap();
    let policy = PolicyDocument::parse("example", example).unwrap();
    let text = explain(&policy).to_string();
    let golden = include_str!("../../testdata/policy/azure-sev-snp.txt");
    assert_eq!(text, golden, "{text}");
}

#[test]
fn one_line_that_is_open_leaves_the_policy_open() {
    let of = |document: &PolicyDocument, id: &str| {
        states(document)
            .into_iter()
            .find(|(known, _)| known == id)
            .unwrap()
            .1
    };
    // accepts Milan and Turin, with multithreading and with mitigation 1 of Milan
    let document = PolicyDocument::parse("p", &azure()).unwrap();
    assert_eq!(of(&document, "stackwarp"), State::Open);
    assert_eq!(of(&document, "milanlaunchy"), State::Open);
    assert_eq!(of(&document, "rmpocalypse"), State::Closed);
    assert_eq!(
        of(&document, "entrysign"),
        State::Unknown,
        "Turin's number is not public"
    );
    assert_eq!(
        of(&document, "cachewarp"),
        State::Closed,
        "Milan's microcode is 219"
    );
    let without = azure().replace("      mitigations: [1]\n", "");
    let document = PolicyDocument::parse("p", &without).unwrap();
    assert_eq!(of(&document, "rmpocalypse"), State::Open);
    let document = PolicyDocument::parse("p", &tdx()).unwrap();
    assert_eq!(of(&document, "out-of-date"), State::Closed);
    assert_eq!(of(&document, "tdx-module-2026-02"), State::Unknown);
    assert_eq!(of(&document, "heckler-ve"), State::Open);
    let set = tdx().replace("septVeDisable: optional", "septVeDisable: required");
    assert_eq!(
        of(&PolicyDocument::parse("p", &set).unwrap(), "heckler-ve"),
        State::Closed
    );
}

#[test]
fn an_advisory_that_a_preset_refuses_is_refused_in_the_appraisal() {
    let document = PolicyDocument::parse("p", &tdx()).unwrap();
    let own =
        "version: 1\nname: site\nabout: ours\ndemands: { refusedAdvisories: [INTEL-SA-00837] }\n";
    let document = document
        .with_preset(Preset::parse("site", own).unwrap())
        .unwrap();
    let requirements = document.tdx().unwrap().requirements(document.newest());
    assert_eq!(
        requirements.refused_advisories,
        ["INTEL-SA-00828", "INTEL-SA-00837", "INTEL-SA-01397"]
    );
    let text = explain(&document).to_string();
    assert!(
        text.contains("advisories refused, whatever the status: INTEL-SA-00828, INTEL-SA-00837, INTEL-SA-01397\n"),
        "{text}"
    );
}

/// An alternative that is not demanded is no answer: only a refusal closes an advisory.
#[test]
fn an_advisory_is_closed_where_it_is_refused_and_not_where_it_is_not_tolerated() {
    let own = "version: 1\nname: site\nabout: ours\nattacks:\n  - id: a\n    name: A\n    references: []\n    affects: [TDX]\n    alternatives: [{ refusedAdvisories: [INTEL-SA-00999] }]\n";
    let document = PolicyDocument::parse("p", &tdx())
        .unwrap()
        .with_preset(Preset::parse("site", own).unwrap())
        .unwrap();
    let answer = explain(&document).attacks.pop().unwrap();
    assert_eq!(
        (answer.state, answer.why.as_str()),
        (State::Open, "not demanded: INTEL-SA-00999 refused")
    );
}

#[test]
fn demands_are_told_apart_by_vendor() {
    let all = Demands {
        minimum_tcb: BTreeMap::from([(ProductLine::Milan, Tcb::default())]),
        excluded: BTreeSet::from([ProductLine::Genoa]),
        mitigations: BTreeMap::from([(ProductLine::Turin, 1)]),
        forbidden: BTreeSet::from([Permission::Smt]),
        guest: BTreeSet::from([GuestFlag::SingleSocket]),
        platform: BTreeSet::from([PlatformFlag::EccEnabled]),
        refused_statuses: BTreeSet::from([TcbStatus::OutOfDate]),
        refused_advisories: BTreeSet::from(["INTEL-SA-00001".to_owned()]),
        forbidden_attributes: BTreeSet::from([TdAttribute::Pks]),
        demands_sept_ve_disable: true,
        minimums: Minimums {
            qe_svn: 8,
            ..Minimums::default()
        },
    };
    let (snp, tdx) = (all.of_snp(), all.of_tdx());
    assert_eq!(snp.and(&tdx), all);
    assert!(snp.of_tdx().is_empty());
    assert!(tdx.of_snp().is_empty());
}

/// Demands on the other vendor's machines change nothing of a policy, and close nothing.
#[test]
fn a_mixed_attack_is_judged_by_the_half_that_is_about_the_machine() {
    let state = |document: &str, demands: &str| {
        let preset = format!(
            "version: 1\nname: site\nabout: ours\nattacks:\n  - id: mixed\n    name: A\n    references: []\n    affects: [Genoa, TDX]\n    alternatives: [{demands}]\n"
        );
        let document = PolicyDocument::parse("p", document)
            .unwrap()
            .with_preset(Preset::parse("site", &preset).unwrap())
            .unwrap();
        let answer = explain(&document).attacks.pop().unwrap();
        assert_eq!(answer.id, "mixed");
        (answer.state, answer.why)
    };
    // the policies demand this much already
    let (amd, intel) = (
        "minimumTcb: { Genoa: { snp: 27 } }",
        "minimums: { qeSvn: 8 }",
    );
    let both = format!("{{ {amd}, {intel} }}");
    assert_eq!(
        state(&snp(), &both),
        (State::Closed, "Genoa: at least snp 27".to_owned())
    );
    assert_eq!(
        state(&tdx(), &both),
        (State::Closed, "QE SVN at least 8".to_owned())
    );
    let open = |line| {
        let why = format!("not demanded: {line}: the preset knows nothing that closes it");
        (State::Open, why)
    };
    assert_eq!(state(&snp(), &format!("{{ {intel} }}")), open("Genoa"));
    assert_eq!(state(&tdx(), &format!("{{ {amd} }}")), open("TDX"));
    let platform = "{ platformInfo: { required: [eccEnabled] } }";
    assert_eq!(state(&tdx(), platform), open("TDX"));
}

#[test]
fn a_site_sees_what_shutting_out_a_firmware_changes() {
    let own = "version: 1\nname: site\nabout: no Milan, and newer firmware of Genoa\ndemands:\n  acceptedProducts: [Genoa, Turin]\n  minimumTcb: { Genoa: { snp: 30 } }\n";
    let preset = Preset::parse("site.yaml", own).unwrap();
    let document = PolicyDocument::parse("p", &snp()).unwrap();
    let before = document.snp().unwrap();
    let after = document.clone().with_preset(preset).unwrap().snp().unwrap();
    let machine = Machine {
        reported: Tcb {
            snp: 29,
            ..Machine::best(ProductLine::Genoa).reported
        },
        ..Machine::best(ProductLine::Genoa)
    };
    assert!(machine.is_accepted(&before) && !machine.is_accepted(&after));
    let none = Preset::parse("none.yaml", &own.replace("[Genoa, Turin]", "[Turin]")).unwrap();
    let why = document.with_preset(none).unwrap_err();
    assert!(why.contains("no product line is left"), "{why}");
    let intel = PolicyDocument::parse("p", &tdx()).unwrap();
    let why = intel
        .with_preset(Preset::parse("site.yaml", own).unwrap())
        .unwrap_err();
    assert_eq!(why, "site says nothing about tdx machines");
}

/// A line that is shut out twice is shut out, and a bit that is named twice is demanded.
#[test]
fn what_is_said_twice_holds() {
    let own = "version: 1\nname: site\nabout: twice\ndemands:\n  excludedProducts: [Genoa]\n  acceptedProducts: [Milan, Turin]\n  mitigations: { Milan: [1, 1], Turin: [3] }\n";
    let preset = Preset::parse("site.yaml", own).unwrap();
    let after = open().with(&preset.demands());
    let lines: Vec<_> = after.products().keys().copied().collect();
    assert_eq!(lines, [ProductLine::Milan, ProductLine::Turin]);
    let milan = preset.demands().mitigations[&ProductLine::Milan];
    assert_eq!(milan, 0b10);
}

#[test]
fn what_a_preset_demands_of_a_quote_is_in_the_policy() {
    let before = PolicyDocument::parse("p", &tdx()).unwrap().tdx().unwrap();
    let demands = Demands {
        refused_advisories: BTreeSet::from(["INTEL-SA-00837".to_owned()]),
        forbidden_attributes: BTreeSet::from([TdAttribute::Pks]),
        minimums: Minimums {
            qe_svn: 9,
            ..Minimums::default()
        },
        ..Demands::default()
    };
    assert!(before.advisories().contains("INTEL-SA-00837"));
    assert!(before.permitted().contains(&TdAttribute::Pks));
    let after = before.with(&demands);
    assert!(after.advisories().is_empty());
    assert!(after.refused_advisories().contains("INTEL-SA-00837"));
    assert!(after.permitted().is_empty());
    assert_eq!((before.minimums().qe_svn, after.minimums().qe_svn), (8, 9));
    assert_eq!(after.minimums().pce_svn, before.minimums().pce_svn);
}

/// What is handed on must demand what was looked at.
#[test]
fn a_policy_with_a_preset_beside_it_is_not_handed_on() {
    let own = "version: 1\nname: site\nabout: ours\nattacks:\n  - id: own\n    name: A\n    references: []\n    affects: [Genoa]\n    demands: { minimumTcb: { Genoa: { snp: 30 } } }\n";
    let document = PolicyDocument::parse("p", &snp()).unwrap();
    assert!(document.to_json().is_ok());
    assert!(matches!(
        Policy::try_from(document.clone()),
        Err(PolicyError::Variant(_))
    ));
    assert!(!explain(&document).to_string().contains("beside"));

    let looked_at = document
        .with_preset(Preset::parse("site", own).unwrap())
        .unwrap();
    assert_eq!(states(&looked_at), [("own".to_owned(), State::Closed)]);
    let error = looked_at.to_json().unwrap_err();
    assert_eq!(
        error.to_string(),
        "preset site is given beside the policy and not in it, so it cannot be handed on"
    );
    assert!(matches!(
        Policy::try_from(looked_at.clone()),
        Err(PolicyError::NotInDocument(_))
    ));
    let text = explain(&looked_at).to_string();
    assert!(
        text.contains(
            "\n  given beside the policy and not in it, so no cluster demands it: site\n"
        ),
        "{text}"
    );
    let warnings = looked_at.warnings(jiff::Timestamp::UNIX_EPOCH);
    assert!(
        warnings
            .iter()
            .any(|warning| warning.field == "presets"
                && warning.what.contains("no cluster demands it")),
        "{warnings:?}"
    );
}

/// So a site that has looked at a preset of its own can demand it.
#[test]
fn a_document_can_say_what_a_preset_can() {
    let refused = tdx()
        .replace("presets: [intel-2026-10]\n", "")
        .replace("INTEL-SA-00828", "INTEL-SA-00999");
    let document = PolicyDocument::parse("p", &refused).unwrap();
    let demands = |own: &str| {
        let text = format!("version: 1\nname: site\nabout: ours\ndemands: {own}\n");
        Preset::parse("site", &text).unwrap().demands()
    };
    let tdx = document.tdx().unwrap();
    assert_eq!(
        tdx.with(&demands("{ refusedAdvisories: [INTEL-SA-00999] }")),
        tdx
    );
    assert_ne!(
        tdx.with(&demands("{ refusedAdvisories: [INTEL-SA-00998] }")),
        tdx
    );
}

#[test]
fn no_section_of_a_preset_has_a_field_that_nobody_reads() {
    let good = serde_json::json!({
        "version": 1,
        "name": "site",
        "about": "ours",
        "attacks": [{
            "id": "a",
            "name": "A",
            "references": [],
            "affects": ["Milan", "TDX"],
            "demands": {
                "minimumTcb": { "Milan": { "snp": 1 } },
                "mitigations": { "Milan": [1] },
                "guestPolicy": { "forbidden": ["smt"] },
                "platformInfo": { "required": ["eccEnabled"] },
                "attributes": { "forbidden": ["pks"], "septVeDisable": "required" },
                "minimums": { "qeSvn": 8 },
            },
            "alternatives": [{ "acceptedProducts": ["Milan"] }],
            "unknown": [{ "affects": ["TDX"], "what": "the module" }],
        }],
    });
    Preset::parse("s", &good.to_string()).unwrap();
    let sections = crate::policy_document::sections(&good);
    assert_eq!(sections.len(), 12, "{sections:?}");
    for section in sections {
        let mut more = good.clone();
        let fields = more.pointer_mut(&section).unwrap().as_object_mut().unwrap();
        fields.insert("surplus".to_owned(), true.into());
        let problems = Preset::parse("s", &more.to_string()).expect_err(&section);
        let problems = problems.to_string();
        assert!(
            problems.contains("surplus: unknown field"),
            "{section}: {problems}"
        );
    }
}

#[test]
fn bad_presets_are_told_with_the_place() {
    let good = "version: 1\nname: site\nabout: ours\nattacks:\n  - id: a\n    name: A\n    references: []\n    affects: [Milan]\n    demands:\n      minimumTcb: { Milan: { snp: 1 } }\n";
    Preset::parse("s", good).unwrap();
    for (from, to, expected) in [
        (
            "version: 1",
            "version: 2",
            "s:1:10: version: the number 2 is not allowed here",
        ),
        (
            "name: site",
            "name: A site",
            "s:2:7: name: \"A site\" is no short name",
        ),
        ("about: ours\n", "", "about: missing"),
        (
            "id: a",
            "ids: a",
            "attacks[0].ids: unknown field; did you mean id?",
        ),
        (
            "affects: [Milan]",
            "affects: []",
            "attacks[0].affects: nothing is listed",
        ),
        (
            "affects: [Milan]",
            "affects: [Rome]",
            "\"Rome\" is no kind of machine",
        ),
        (
            "snp: 1",
            "snp: unknown",
            "attacks[0].demands.minimumTcb.Milan.snp: \"unknown\" is not allowed here",
        ),
        (
            "    demands:\n      minimumTcb: { Milan: { snp: 1 } }\n",
            "",
            "says nothing about what closes it",
        ),
        (
            "    demands:",
            "    control: prayer\n    demands:",
            "attacks[0].control: \"prayer\" is no control",
        ),
        (
            "    demands:\n",
            "    unknown: [{ affects: [Milan] }]\n    demands:\n",
            "attacks[0].unknown[0].what: missing",
        ),
        (
            "  - id: a\n",
            "  - { id: a, name: B, references: [], affects: [TDX], control: hosting }\n  - id: a\n",
            "attacks[1]: id a is used twice",
        ),
        ("snp: 1", "fmc: 1", "Milan has no fmc"),
        (
            "minimumTcb:",
            "acceptedProducts: [Milan, Milan]\n      minimumTcb:",
            "acceptedProducts[1]: is listed twice",
        ),
        (
            "minimumTcb:",
            "guestPolicy: { permitted: [smt] }\n      minimumTcb:",
            "demands.guestPolicy.permitted: unknown field",
        ),
    ] {
        let bad = good.replacen(from, to, 1);
        assert_ne!(bad, good, "{from}");
        let problems = Preset::parse("s", &bad).expect_err(expected).to_string();
        assert!(problems.contains(expected), "{expected}: {problems}");
    }
}

fn some<T: Ord + Clone + std::fmt::Debug + 'static>(
    all: Vec<T>,
) -> impl Strategy<Value = BTreeSet<T>> {
    let most = all.len();
    subsequence(all, 0..=most).prop_map(|some| some.into_iter().collect())
}

fn tcbs() -> impl Strategy<Value = Tcb> {
    (0..4_u8, 0..4_u8, 0..4_u8, 0..4_u8, 0..4_u8).prop_map(
        |(fmc, bootloader, tee, snp, microcode)| Tcb {
            fmc,
            bootloader,
            tee,
            snp,
            microcode,
        },
    )
}

fn demands() -> impl Strategy<Value = Demands> {
    let lines = || ProductLine::ALL.to_vec();
    let amd = (
        some(lines()),
        [tcbs(), tcbs(), tcbs()],
        some(lines()),
        some(lines()),
        0..8_u64,
        some(Permission::ALL.to_vec()),
        some(GuestFlag::ALL.to_vec()),
        some(PlatformFlag::ALL.to_vec()),
    );
    let intel = (
        some(TcbStatus::ALL.to_vec()),
        some(vec![
            "INTEL-SA-00001".to_owned(),
            "INTEL-SA-00002".to_owned(),
        ]),
        some(TdAttribute::ALL.to_vec()),
        any::<bool>(),
        (any::<[u8; 16]>(), 0..4_u16, 0..4_u16, 0..4_u32),
    );
    (amd, intel).prop_map(|(amd, intel)| Demands {
        minimum_tcb: amd.0.into_iter().zip(amd.1).collect(),
        excluded: amd.2,
        mitigations: amd.3.into_iter().map(|line| (line, amd.4)).collect(),
        forbidden: amd.5,
        guest: amd.6,
        platform: amd.7,
        refused_statuses: intel.0,
        refused_advisories: intel.1,
        forbidden_attributes: intel.2,
        demands_sept_ve_disable: intel.3,
        minimums: Minimums {
            tee_tcb_svn: intel.4.0,
            qe_svn: intel.4.1,
            pce_svn: intel.4.2,
            tcb_evaluation_data_number: intel.4.3,
        },
    })
}

fn machines() -> impl Strategy<Value = Machine> {
    let line = prop::sample::select(ProductLine::ALL.to_vec());
    let flags = (
        some(Permission::ALL.to_vec()),
        some(GuestFlag::ALL.to_vec()),
        some(PlatformFlag::ALL.to_vec()),
    );
    (line, tcbs(), tcbs(), 0..8_u64, flags).prop_map(
        |(line, reported, launch, mitigations, flags)| Machine {
            line,
            reported,
            launch,
            mitigations,
            guest: mask(&flags.0) | mask(&flags.1),
            platform: mask(&flags.2),
        },
    )
}

fn open_tdx() -> &'static TdxPolicy {
    static OPEN: LazyLock<TdxPolicy> = LazyLock::new(read_open_tdx);
    &OPEN
}

fn read_open_tdx() -> TdxPolicy {
    let text = tdx()
        .replace("presets: [intel-2026-10]\n", "")
        .replace(
            "[UpToDate, SWHardeningNeeded]",
            &format!("[{}]", TcbStatus::ALL.map(TcbStatus::as_str).join(", ")),
        )
        .replace("[INTEL-SA-00837]", "[INTEL-SA-00001, INTEL-SA-00002]");
    PolicyDocument::parse("p", &text).unwrap().tdx().unwrap()
}

/// Whether `stricter` accepts no more than `other`.
fn accepts_no_more(stricter: &TdxPolicy, other: &TdxPolicy) -> bool {
    let (a, b) = (stricter.minimums(), other.minimums());
    stricter.statuses().is_subset(other.statuses())
        && stricter.advisories().is_subset(other.advisories())
        && stricter
            .refused_advisories()
            .is_superset(other.refused_advisories())
        && stricter.permitted().is_subset(other.permitted())
        && (stricter.demands_sept_ve_disable() || !other.demands_sept_ve_disable())
        && a.tee_tcb_svn
            .iter()
            .zip(b.tee_tcb_svn)
            .all(|(a, b)| *a >= b)
        && a.qe_svn >= b.qe_svn
        && a.pce_svn >= b.pce_svn
        && a.tcb_evaluation_data_number >= b.tcb_evaluation_data_number
}

proptest! {
    #[test]
    fn merges_add_up(a in demands(), b in demands(), c in demands()) {
        prop_assert_eq!(a.and(&b), b.and(&a), "commutative");
        prop_assert_eq!(a.and(&b).and(&c), a.and(&b.and(&c)), "associative");
        prop_assert_eq!(a.and(&a), a.clone(), "idempotent");
        prop_assert_eq!(a.and(&Demands::default()), a.clone(), "nothing added");
        prop_assert_eq!(open().with(&a).with(&b), open().with(&a.and(&b)), "one by one or at once");
        prop_assert_eq!(open_tdx().with(&a).with(&b), open_tdx().with(&a.and(&b)));
    }

    #[test]
    fn a_merge_never_accepts_more(a in demands(), b in demands(), machine in machines()) {
        let both = machine.is_accepted(&open().with(&a.and(&b)));
        let each = machine.is_accepted(&open().with(&a)) && machine.is_accepted(&open().with(&b));
        prop_assert_eq!(both, each);
        prop_assert!(!both || machine.is_accepted(open()));
        let tdx = open_tdx().with(&a);
        prop_assert!(accepts_no_more(&tdx, open_tdx()));
        prop_assert!(accepts_no_more(&tdx.with(&b), &tdx));
    }
}
