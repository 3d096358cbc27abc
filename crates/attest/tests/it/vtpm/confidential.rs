//! Confidential VMs of Azure: one check at a time, on samples where the change is not signed and under other roots where it is.

use attest::azure::{
    ConfidentialVm, Paravisor, ParavisorError, SecureBoot, SnpRequirements, TdxEvidence,
    TdxRequirements, VmRequirements,
};
use attest::gcp::{self, CertifiedInstance, ConfidentialInstance, InstanceRequirements};
use attest::sev_snp::{self, ProductLine, VekKind};
use attest::tdx::{self, Accepted, Launch, SeptVe};
use attest::tpm::{AkAuthorities, PublicKey};
use attest::x509::{Certificate, PathCache, Revocation};
use attest::{Binding, Findings, RefusalCode, Stop};
use testkit::amd::{self, Amd, ReportBytes, offset};
use testkit::cloud::{
    AkCertificate, Authority, CloudTpm, HclParts, InstanceParts, RuntimeParts, snp_report_over,
};
use testkit::intel::{self, PckParts, QuoteParts, TdParts, Vendor};

use super::samples::{appraise_tdx, appraise_tdx_with};
use super::{
    accepted, any_snp, appraise_snp, assert_refused, at, evidence, hcl, paravisor_of, time,
};

const SNP: &str = "azure-snp-vtpm/trustee/milan-v3";
const TDX: &str = "azure-tdx-vtpm/flashbots/tdx-2026-06";
const TDX_COLLATERAL: &str = "90c06f-2026-06-flashbots";
const RUNTIME_NAME: &str = "HCL runtime data";

/// A real SEV-SNP machine with a change in its HCL report.
fn snp_with(change: impl FnOnce(&mut Vec<u8>)) -> (bool, Findings) {
    let mut bytes = hcl(SNP);
    change(&mut bytes);
    let mut findings = Findings::new();
    let vek = evidence(format!("{SNP}/vek.der"));
    let result = appraise_snp(&bytes, &vek, at(SNP), &mut findings);
    (result.is_ok(), findings)
}

#[track_caller]
fn refused((accepted, findings): (bool, Findings), names: &[&str], code: RefusalCode) {
    assert_eq!(super::failed(&findings), names, "{findings}");
    assert!(!accepted);
    assert_eq!(findings.refusal_code(), Some(code));
}

/// A digit of the modulus in the runtime data.
fn in_modulus(bytes: &[u8]) -> usize {
    let at = bytes.windows(5).position(|it| it == br#""n":""#).unwrap();
    at + 100
}

fn other_digit(digit: &mut u8) {
    *digit = if *digit == b'A' { b'B' } else { b'A' };
}

#[test]
fn another_key_in_real_runtime_data_is_nobodys() {
    let (holds, findings) = snp_with(|_| ());
    assert!(holds, "{findings}");
    let change = |it: &mut Vec<u8>| {
        let at = in_modulus(it);
        other_digit(&mut it[at]);
    };
    refused(snp_with(change), &[RUNTIME_NAME], RefusalCode::NotAuthentic);

    let mut bytes = hcl(TDX);
    change(&mut bytes);
    let quote = evidence(format!("{TDX}/quote.bin"));
    let mut findings = Findings::new();
    let result = appraise_tdx_with(&bytes, &quote, TDX_COLLATERAL, &mut findings);
    assert_refused(&result, &findings, &[RUNTIME_NAME]);
}

/// Who changes the runtime data changes the report data to fit: those are signed.
#[test]
fn report_data_that_fit_other_runtime_data_are_not_signed() {
    let forged = |bytes: &mut Vec<u8>, report_data: usize| {
        let at = in_modulus(bytes);
        other_digit(&mut bytes[at]);
        let fitting = attest::azure::HclReport::parse(bytes)
            .unwrap()
            .expected_report_data();
        bytes[report_data..report_data + 64].copy_from_slice(&fitting);
    };
    refused(
        snp_with(|it| forged(it, 32 + offset::REPORT_DATA)),
        &["SNP report signature"],
        RefusalCode::NotAuthentic,
    );
    let mut bytes = hcl(TDX);
    forged(&mut bytes, 32 + 128);
    let quote = evidence(format!("{TDX}/quote.bin"));
    let mut findings = Findings::new();
    let result = appraise_tdx_with(&bytes, &quote, TDX_COLLATERAL, &mut findings);
    assert_refused(&result, &findings, &["report data"]);
}

#[test]
fn the_quote_of_another_trust_domain_vouches_for_no_key() {
    let quote = evidence("azure-tdx-vtpm/trustee/tdx/quote.bin");
    let mut findings = Findings::new();
    let result = appraise_tdx_with(&hcl(TDX), &quote, "00806f-2026-06-flashbots", &mut findings);
    assert_refused(&result, &findings, &["report data"]);
}

#[test]
fn reports_of_the_other_processor_are_refused() {
    let mut findings = Findings::new();
    let vek = evidence(format!("{SNP}/vek.der"));
    let result = appraise_snp(&hcl(TDX), &vek, at(SNP), &mut findings);
    assert_refused(&result, &findings, &["processor of the HCL report"]);
    assert_eq!(
        findings.refusal_code(),
        Some(RefusalCode::UnsupportedVariant)
    );
    let quote = evidence(format!("{TDX}/quote.bin"));
    let mut findings = Findings::new();
    let result = appraise_tdx_with(&hcl(SNP), &quote, TDX_COLLATERAL, &mut findings);
    assert_refused(&result, &findings, &["processor of the HCL report"]);
}

#[test]
fn what_is_no_hcl_report_is_refused() {
    let (holds, findings) = snp_with(|it| it[0] = 0);
    refused(
        (holds, findings),
        &["HCL report format"],
        RefusalCode::Malformed,
    );
}

/// A real machine, and a paravisor that is not accepted.
#[test]
fn a_real_paravisor_must_be_accepted() {
    let bytes = hcl(SNP);
    let id_key: [u8; 48] = bytes[32 + offset::ID_KEY_DIGEST..][..48]
        .try_into()
        .unwrap();
    let vek = evidence(format!("{SNP}/vek.der"));
    let run = |paravisor: Paravisor| {
        let mut findings = Findings::new();
        let result = ConfidentialVm::appraise_snp(
            &bytes,
            &sev_snp::Endorsements {
                vek: &vek,
                signing: &[],
                crls: &[],
            },
            &SnpRequirements {
                hardware: any_snp(),
                paravisor,
                vm: VmRequirements::default(),
            },
            &sev_snp::Trust {
                roots: &sev_snp::Roots::amd(),
                cache: &PathCache::default(),
                now: at(SNP),
            },
            &mut findings,
        );
        (result, findings)
    };
    let (result, findings) = run(Paravisor::new([], [id_key]).unwrap());
    accepted(result, &findings);
    for other in [
        Paravisor::new([], [[1; 48]]).unwrap(),
        Paravisor::new([[1; 48]], []).unwrap(),
        // each value is of its own kind
        Paravisor::new([id_key], []).unwrap(),
        Paravisor::new([], [super::snp_measurement(&bytes)]).unwrap(),
    ] {
        let (result, findings) = run(other);
        assert_refused(&result, &findings, &["paravisor"]);
        assert_eq!(findings.refusal_code(), Some(RefusalCode::Measurements));
    }
}

#[test]
fn a_list_that_accepts_every_paravisor_cannot_be_made() {
    assert_eq!(Paravisor::new([], []), Err(ParavisorError::Empty));
    assert_eq!(
        Paravisor::new([[1; 48]], [[0; 48]]),
        Err(ParavisorError::Zero)
    );
    assert_eq!(Paravisor::new([[0; 48]], []), Err(ParavisorError::Zero));
}

/// A machine under test roots: true until a test changes a part.
struct Milan {
    tpm: CloudTpm,
    runtime: RuntimeParts,
    report: ReportBytes,
    vm: VmRequirements,
    vmpl: sev_snp::Vmpl,
}

const MEASUREMENT: [u8; 48] = [0x3e; 48];

impl Milan {
    fn new() -> Self {
        let tpm = CloudTpm::new();
        Self {
            runtime: RuntimeParts::of(tpm.modulus()),
            report: ReportBytes::new(ProductLine::Milan, 3),
            vm: VmRequirements::default(),
            vmpl: sev_snp::Vmpl::ZERO,
            tpm,
        }
    }

    fn hcl(&self) -> Vec<u8> {
        let mut parts = HclParts::snp(Vec::new(), self.runtime.to_json());
        let mut report = self.report.clone();
        report.set(offset::REPORT_DATA, &parts.report_data());
        report.sign(amd::vek_key());
        parts.report = report.0.to_vec();
        parts.to_bytes()
    }

    fn appraise_under(
        &self,
        roots: &sev_snp::Roots,
    ) -> (Result<ConfidentialVm<sev_snp::Appraised>, Stop>, Findings) {
        let line = Amd::new(ProductLine::Milan);
        let mut findings = Findings::new();
        let result = ConfidentialVm::appraise_snp(
            &self.hcl(),
            &sev_snp::Endorsements {
                vek: &line.issue(&line.vek(VekKind::Vcek)),
                signing: &[],
                crls: &[],
            },
            &SnpRequirements {
                hardware: any_snp().vmpl(self.vmpl),
                paravisor: paravisor_of(MEASUREMENT),
                vm: self.vm,
            },
            &sev_snp::Trust {
                roots,
                cache: &PathCache::default(),
                now: time("2026-01-10T00:00:00Z"),
            },
            &mut findings,
        );
        (result, findings)
    }

    fn appraise(&self) -> (Result<ConfidentialVm<sev_snp::Appraised>, Stop>, Findings) {
        self.appraise_under(&Amd::new(ProductLine::Milan).roots())
    }
}

#[test]
fn a_machine_of_test_roots_is_accepted_under_them_only() {
    let machine = Milan::new();
    let (result, findings) = machine.appraise();
    let vm = accepted(result, &findings);
    assert_eq!(vm.hardware().report().measurement, MEASUREMENT);
    assert_eq!(vm.claims().configuration().unwrap().tpm_enabled, Some(true));
    let key = PublicKey::rsa(&machine.tpm.modulus(), 0).unwrap();
    assert_eq!(vm.into_ak().key(), &key);

    let (result, findings) = machine.appraise_under(&sev_snp::Roots::amd());
    assert_refused(&result, &findings, &["AMD certificate chain"]);
}

/// The guest runs at a lower privilege, and can ask for a report over runtime data of its own.
#[test]
fn a_report_that_the_guest_asked_for_is_refused_whatever_the_policy_says() {
    let mut machine = Milan::new();
    machine.report.set(offset::VMPL, &2_u32.to_le_bytes());
    machine.vmpl = sev_snp::Vmpl::new(2).unwrap();
    let (result, findings) = machine.appraise();
    assert_refused(&result, &findings, &["made by the paravisor"]);
    assert_eq!(findings.refusal_code(), Some(RefusalCode::NotAuthentic));
}

#[test]
fn the_configuration_must_be_as_demanded() {
    let mut machine = Milan::new();
    machine.runtime.secure_boot = false;
    let (result, findings) = machine.appraise();
    assert_refused(&result, &findings, &["Secure Boot"]);
    assert_eq!(findings.refusal_code(), Some(RefusalCode::Platform));
    machine.vm.secure_boot = SecureBoot::NotRequired;
    let (result, findings) = machine.appraise();
    accepted(result, &findings);
    machine.runtime.tpm_enabled = false;
    let (result, findings) = machine.appraise();
    assert_refused(&result, &findings, &["virtual TPM"]);
    // what differs is said all at once
    machine.vm = VmRequirements::default();
    machine.report.set(offset::MEASUREMENT, &[1; 48]);
    let (result, findings) = machine.appraise();
    assert_refused(
        &result,
        &findings,
        &["paravisor", "virtual TPM", "Secure Boot"],
    );
}

/// What is not said is not as demanded.
#[test]
fn a_paravisor_that_says_nothing_of_the_machine_is_refused() {
    let tpm = CloudTpm::new();
    let mut runtime = RuntimeParts::of(tpm.modulus()).to_value();
    runtime.as_object_mut().unwrap().remove("vm-configuration");
    let (result, findings) = trust_domain(HclParts::tdx(runtime.to_string().into_bytes()), |_| ());
    assert_refused(&result, &findings, &["virtual TPM", "Secure Boot"]);
}

fn trust_domain(
    parts: HclParts,
    lie: impl FnOnce(&mut TdParts),
) -> (Result<ConfidentialVm<tdx::Appraised>, Stop>, Findings) {
    let vendor = Vendor::new();
    let platform = vendor.platform(&PckParts::default());
    let mut td = TdParts {
        report_data: parts.report_data(),
        ..TdParts::default()
    };
    lie(&mut td);
    let quote = platform.quote(&QuoteParts {
        td,
        ..QuoteParts::default()
    });
    let roots = vec![Certificate::parse(&vendor.root.der).unwrap()];
    let mut findings = Findings::new();
    let result = ConfidentialVm::appraise_tdx(
        &TdxEvidence {
            hcl_report: &parts.to_bytes(),
            quote: &quote,
        },
        &endorsements(&vendor),
        &TdxRequirements {
            hardware: any_tdx(),
            paravisor: paravisor_of(TdParts::default().mrtd),
            vm: VmRequirements::default(),
        },
        &tdx::Trust {
            roots: &tdx::Roots::of_another_vendor(roots),
            cache: &PathCache::default(),
            now: time(intel::NOW),
        },
        &mut findings,
    );
    (result, findings)
}

#[test]
fn each_lie_of_a_trust_domain_fails_its_own_check() {
    let tpm = CloudTpm::new();
    let truth = || HclParts::tdx(RuntimeParts::of(tpm.modulus()).to_json());
    let (result, findings) = trust_domain(truth(), |_| ());
    let vm = accepted(result, &findings);
    let key = PublicKey::rsa(&tpm.modulus(), 0).unwrap();
    assert_eq!(vm.into_ak().key(), &key);

    let (result, findings) = trust_domain(truth(), |td| td.mrtd = [1; 48]);
    assert_refused(&result, &findings, &["paravisor"]);

    // a quote over something else, and one that goes on behind the digest
    for at in [0, 32, 63] {
        let (result, findings) = trust_domain(truth(), |td| td.report_data[at] ^= 1);
        assert_refused(&result, &findings, &["report data"]);
    }
    let other = HclParts::tdx(RuntimeParts::of(vec![0xff; 256]).to_json());
    let mut mixed = truth();
    mixed.report = other.report;
    let (result, findings) = trust_domain(mixed, |_| ());
    assert_refused(&result, &findings, &[RUNTIME_NAME]);
    // the report of SEV-SNP has its report data elsewhere
    let mut mixed = truth();
    mixed.report = snp_report_over(&mixed.report_data());
    let (result, findings) = trust_domain(mixed, |_| ());
    assert_refused(&result, &findings, &[RUNTIME_NAME]);
}

#[test]
fn a_real_trust_domain_is_accepted_with_its_own_quote() {
    let mut findings = Findings::new();
    let result = appraise_tdx(TDX, TDX_COLLATERAL, &mut findings);
    accepted(result, &findings);
}

/// Google's TPM is outside of what the processor protects: only the report data tie the two together.
#[test]
fn a_report_of_google_names_session_and_key() {
    let tpm = CloudTpm::new();
    let other = PublicKey::rsa(&CloudTpm::new().modulus(), 0).unwrap();
    let own = PublicKey::rsa(&tpm.modulus(), 0).unwrap();
    let [binding, another] = [[1; 32], [2; 32]].map(|it| Binding::for_verification(&it));
    let google = Authority::new("a test's EK/AK CA");
    let certificate = google.certify(&tpm, &AkCertificate::google(&InstanceParts::default()));
    let instance = || {
        let instance = gcp::ak(
            &certificate,
            &[google.intermediate()],
            &AkAuthorities::of(vec![google.root()]),
            &Revocation::DangerousNotLookedAt,
            &InstanceRequirements::of_any_tenant(),
            time("2026-06-01T00:00:00Z"),
            &mut Findings::new(),
        );
        instance.unwrap()
    };
    for (data, holds) in [
        (gcp::report_data(&binding, &own), true),
        (gcp::report_data(&binding, &other), false),
        (gcp::report_data(&another, &own), false),
        (*binding.as_bytes(), false),
    ] {
        let (result, findings) = snp_instance(instance(), &data, &binding);
        if holds {
            let machine = accepted(result, &findings);
            assert_eq!(machine.info().project_id, "constellation");
            assert_eq!(machine.hardware().report().report_data, data);
            assert_eq!(machine.into_ak().key(), &own);
        } else {
            assert_refused(&result, &findings, &["SNP report data"]);
        }
        let (result, findings) = tdx_instance(instance(), data, &binding);
        if holds {
            assert_eq!(accepted(result, &findings).into_ak().key(), &own);
        } else {
            assert_refused(&result, &findings, &["report data"]);
        }
    }
}

fn snp_instance(
    instance: CertifiedInstance,
    report_data: &[u8; 64],
    binding: &Binding,
) -> (
    Result<ConfidentialInstance<sev_snp::Appraised>, Stop>,
    Findings,
) {
    let line = Amd::new(ProductLine::Milan);
    let mut report = ReportBytes::new(ProductLine::Milan, 3);
    report.set(offset::REPORT_DATA, report_data);
    report.sign(amd::vek_key());
    let mut findings = Findings::new();
    let result = ConfidentialInstance::appraise_snp(
        instance,
        &report.0,
        &sev_snp::Endorsements {
            vek: &line.issue(&line.vek(VekKind::Vcek)),
            signing: &[],
            crls: &[],
        },
        &any_snp(),
        binding,
        &sev_snp::Trust {
            roots: &line.roots(),
            cache: &PathCache::default(),
            now: time("2026-01-10T00:00:00Z"),
        },
        &mut findings,
    );
    (result, findings)
}

fn tdx_instance(
    instance: CertifiedInstance,
    report_data: [u8; 64],
    binding: &Binding,
) -> (Result<ConfidentialInstance<tdx::Appraised>, Stop>, Findings) {
    let vendor = Vendor::new();
    let platform = vendor.platform(&PckParts::default());
    let quote = platform.quote(&QuoteParts {
        td: TdParts {
            report_data,
            ..TdParts::default()
        },
        ..QuoteParts::default()
    });
    let roots = vec![Certificate::parse(&vendor.root.der).unwrap()];
    let mut findings = Findings::new();
    let result = ConfidentialInstance::appraise_tdx(
        instance,
        &quote,
        &endorsements(&vendor),
        &any_tdx(),
        binding,
        &tdx::Trust {
            roots: &tdx::Roots::of_another_vendor(roots),
            cache: &PathCache::default(),
            now: time(intel::NOW),
        },
        &mut findings,
    );
    (result, findings)
}

fn any_tdx() -> tdx::Requirements {
    tdx::Requirements {
        sept_ve: SeptVe::GuestGuardsItself,
        ..tdx::Requirements::new(Launch {
            mrtd: Accepted::Open,
            rtmrs: [const { Accepted::Open }; 4],
        })
    }
}

fn endorsements(vendor: &Vendor) -> tdx::Endorsements {
    let collateral = vendor.collateral();
    tdx::Endorsements::parse(&tdx::Collateral {
        tcb_info: &collateral.tcb_info,
        tcb_info_chain: &collateral.tcb_info_chain,
        qe_identity: &collateral.qe_identity,
        qe_identity_chain: &collateral.qe_identity_chain,
        crls: &[&collateral.pck_crl, &collateral.root_ca_crl],
    })
    .unwrap()
}

/// A check that is missing here was not made, or is not told.
#[test]
fn a_verdict_names_every_check_that_was_made() {
    let (holds, findings) = snp_with(|_| ());
    assert!(holds, "{findings}");
    let checks: Vec<String> = findings
        .checks()
        .iter()
        .map(|check| format!("{}: {}", check.step, check.name))
        .collect();
    assert_eq!(
        checks,
        [
            "evidence document: HCL report format",
            "evidence document: processor of the HCL report",
            "hardware report: HCL runtime data",
            "evidence document: SNP report format",
            "endorsements: VEK certificate format",
            "endorsements: VEK certificate names",
            "endorsements: VEK certificate extensions",
            "endorsements: AMD certificate chain",
            "endorsements: AMD revocation list",
            "endorsements: product in the VEK certificate",
            "endorsements: key in the VEK certificate",
            "hardware report: processor in the SNP report",
            "hardware report: signing key of the SNP report",
            "hardware report: TCB of the VEK certificate",
            "hardware report: chip id",
            "hardware report: SNP report signature",
            "hardware report: SNP report data",
            "platform: kind of AMD key",
            "platform: debug off",
            "platform: no migration agent",
            "platform: simultaneous multithreading",
            "platform: CXL",
            "platform: guest policy demands",
            "platform: guest ABI",
            "platform: VMPL",
            "platform: platform info",
            "platform: AMD product line",
            "platform: reported TCB",
            "platform: launch TCB",
            "platform: committed TCB",
            "platform: committed firmware",
            "boot measurements: launch measurement",
            "platform: made by the paravisor",
            "platform: paravisor",
            "platform: virtual TPM",
            "platform: Secure Boot"
        ]
    );
}
