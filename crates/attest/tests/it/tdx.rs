//! Quotes of trust domains: samples of real machines, and one named lie at a time.

mod endorsements;
mod forged;
mod levels;
mod policy;
mod robustness;
mod samples;
mod verdict;

use attest::tdx::{
    Accepted, Appraised, Collateral, Endorsements, Launch, Register, ReportData, Requirements,
    Roots, Trust, appraise,
};
use attest::x509::{Certificate, PathCache};
use attest::{Check, Findings, Outcome};
use jiff::Timestamp;
use serde_json::Value;
use testkit::intel::{self, PckParts, Platform, QuoteParts, Vendor};

use crate::named;

/// Everything of one appraisal under a vendor of our own: true and up to date until a test changes one part.
struct Case {
    vendor: Vendor,
    platform: Platform,
    quote: QuoteParts,
    tcb_info: Value,
    qe_identity: Value,
    requirements: Requirements,
    report_data: [u8; 64],
    now: Timestamp,
}

/// A named lie about some part.
type Lie<T> = (&'static str, fn(&mut T));

/// What came of it.
struct Outcomes {
    findings: Findings,
    appraised: Option<Appraised>,
}

impl Outcomes {
    fn failed(&self) -> Vec<String> {
        named(self.findings.checks(), Outcome::Failed)
    }

    fn warned(&self) -> Vec<String> {
        named(self.findings.checks(), Outcome::Warning)
    }

    /// Refused, for these reasons and no other.
    #[track_caller]
    fn refused_by(&self, names: &[&str]) {
        assert_eq!(self.failed(), names, "{}", self.findings);
        assert!(self.appraised.is_none(), "{}", self.findings);
    }

    #[track_caller]
    fn accepted(&self) -> &Appraised {
        self.appraised
            .as_ref()
            .unwrap_or_else(|| panic!("{}", self.findings))
    }

    #[track_caller]
    fn check(&self, name: &str) -> &Check {
        self.findings
            .checks()
            .iter()
            .find(|check| check.name.to_string() == name)
            .unwrap_or_else(|| panic!("no check {name}: {}", self.findings))
    }

    /// What the check with this name found.
    #[track_caller]
    fn actual(&self, name: &str) -> String {
        let actual = self.check(name).actual.as_ref();
        actual.map(ToString::to_string).unwrap_or_default()
    }

    /// What the check with this name demands.
    #[track_caller]
    fn expected(&self, name: &str) -> String {
        let expected = self.check(name).expected.as_ref();
        expected.map(ToString::to_string).unwrap_or_default()
    }
}

fn launch_of(mrtd: [u8; 48], rtmrs: [[u8; 48]; 4]) -> Launch {
    let one = |bytes| Accepted::AnyOf(vec![Register::from_bytes(bytes)]);
    Launch {
        mrtd: one(mrtd),
        rtmrs: rtmrs.map(one),
    }
}

fn open_launch() -> Launch {
    Launch {
        mrtd: Accepted::Open,
        rtmrs: [const { Accepted::Open }; 4],
    }
}

fn time(text: &str) -> Timestamp {
    text.parse().unwrap()
}

impl Case {
    fn new() -> Self {
        let vendor = Vendor::new();
        let platform = vendor.platform(&PckParts::default());
        let quote = QuoteParts::default();
        Self {
            requirements: Requirements::new(launch_of(quote.td.mrtd, quote.td.rtmrs)),
            report_data: quote.td.report_data,
            vendor,
            platform,
            quote,
            tcb_info: intel::tcb_info(),
            qe_identity: intel::qe_identity(),
            now: time(intel::NOW),
        }
    }

    fn collateral(&self) -> intel::Collateral {
        self.vendor.collateral_of(&self.tcb_info, &self.qe_identity)
    }

    fn roots(&self) -> Roots {
        Roots::of_another_vendor(vec![Certificate::parse(&self.vendor.root.der).unwrap()])
    }

    fn appraise(&self) -> Outcomes {
        self.appraise_with(&self.platform.quote(&self.quote), &self.collateral())
    }

    fn appraise_with(&self, quote: &[u8], collateral: &intel::Collateral) -> Outcomes {
        self.appraise_under(&self.roots(), quote, collateral)
    }

    fn appraise_under(
        &self,
        roots: &Roots,
        quote: &[u8],
        collateral: &intel::Collateral,
    ) -> Outcomes {
        appraise_raw(
            quote,
            &endorsements(collateral),
            &self.requirements,
            self.report_data,
            roots,
            self.now,
        )
    }
}

fn endorsements(collateral: &intel::Collateral) -> Endorsements {
    Endorsements::parse(&Collateral {
        tcb_info: &collateral.tcb_info,
        tcb_info_chain: &collateral.tcb_info_chain,
        qe_identity: &collateral.qe_identity,
        qe_identity_chain: &collateral.qe_identity_chain,
        crls: &[&collateral.pck_crl, &collateral.root_ca_crl],
    })
    .unwrap()
}

fn appraise_raw(
    quote: &[u8],
    endorsements: &Endorsements,
    requirements: &Requirements,
    report_data: [u8; 64],
    roots: &Roots,
    now: Timestamp,
) -> Outcomes {
    let mut findings = Findings::new();
    let trust = Trust {
        roots,
        cache: &PathCache::default(),
        now,
    };
    let appraised = appraise(
        quote,
        endorsements,
        requirements,
        &ReportData::new(report_data),
        &trust,
        &mut findings,
    );
    let outcomes = Outcomes {
        findings,
        appraised: appraised.ok(),
    };
    assert_eq!(
        outcomes.failed().is_empty(),
        outcomes.appraised.is_some(),
        "{}",
        outcomes.findings
    );
    outcomes
}
