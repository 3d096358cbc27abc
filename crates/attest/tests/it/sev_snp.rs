//! SEV-SNP: reports of real machines, and one named lie at a time under the keys of a test.

mod candidates;
mod mutations;
mod robustness;
mod samples;

use std::num::NonZeroUsize;
use std::path::PathBuf;

use attest::sev_snp::{Appraised, Endorsements, ReportData, Requirements, Roots, Trust, appraise};
use attest::x509::{Certificate, Crl, PathCache};
use attest::{Findings, Outcome, RefusalCode};
use jiff::Timestamp;

/// All that goes into an appraisal.
struct Input {
    report: Vec<u8>,
    vek: Vec<u8>,
    signing: Vec<Certificate>,
    crls: Vec<Crl>,
    requirements: Requirements,
    report_data: [u8; 64],
    roots: Roots,
    now: Timestamp,
}

/// What comes out, in the words of the verdict.
struct Output {
    appraised: Option<Appraised>,
    findings: Findings,
}

impl Input {
    fn appraise(&self) -> Output {
        self.appraise_with(&PathCache::new(NonZeroUsize::new(64).unwrap()))
    }

    fn appraise_with(&self, cache: &PathCache) -> Output {
        let mut findings = Findings::new();
        let appraised = appraise(
            &self.report,
            &Endorsements {
                vek: &self.vek,
                signing: &self.signing,
                crls: &self.crls,
            },
            &self.requirements,
            &ReportData::new(self.report_data),
            &Trust {
                roots: &self.roots,
                cache,
                now: self.now,
            },
            &mut findings,
        )
        .ok();
        // the verdict and its checks never disagree
        assert_eq!(
            appraised.is_some(),
            findings.refusal_code().is_none(),
            "{findings}"
        );
        Output {
            appraised,
            findings,
        }
    }
}

impl Output {
    fn named(&self, outcome: Outcome) -> Vec<String> {
        crate::named(self.findings.checks(), outcome)
    }

    fn failed(&self) -> Vec<String> {
        self.named(Outcome::Failed)
    }

    fn warnings(&self) -> Vec<String> {
        self.named(Outcome::Warning)
    }

    fn code(&self) -> Option<RefusalCode> {
        self.findings.refusal_code()
    }
}

fn evidence(path: &str) -> Vec<u8> {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR"))
        .join("testdata/evidence")
        .join(path);
    std::fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn time(text: &str) -> Timestamp {
    text.parse().unwrap()
}
