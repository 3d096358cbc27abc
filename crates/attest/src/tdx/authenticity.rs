//! Whether Intel's hardware made a quote: certificates, statements and signatures, to the first failure.

use aws_lc_rs::digest::{Context, SHA256};
use subtle::ConstantTimeEq as _;

use super::body::{ReportData, TdReport};
use super::endorsements::{Chain, Endorsements};
use super::pck::PckExtensions;
use super::qe_identity::QeIdentity;
use super::qe_report::QeReport;
use super::quote::Quote;
use super::signed::Signed;
use super::tcb_info::{ModuleMismatch, TcbInfo};
use super::{CheckName, Trust};
use crate::verdict::{CheckName as AnyCheck, Findings, Hex, Stop};
use crate::x509::{
    Certificate, Path, PathError, PathRules, PublicKey, Revocation, SignatureScheme,
};

/// Names of Intel's certificates (SGX PCK Certificate and CRL Profile, 3.2 to 3.6). All of them lead to one root, so the name is what
/// keeps a platform's key from signing statements about platforms.
const PCK_NAME: &str = "Intel SGX PCK Certificate";
const PLATFORM_CA_NAME: &str = "Intel SGX PCK Platform CA";
const PROCESSOR_CA_NAME: &str = "Intel SGX PCK Processor CA";
/// Who issues lists of what is revoked.
pub(super) const CA_NAMES: [&str; 3] = ["Intel SGX Root CA", PLATFORM_CA_NAME, PROCESSOR_CA_NAME];
const TCB_SIGNING_NAME: &str = "Intel SGX TCB Signing";

/// A platform that Intel vouches for.
pub(super) struct Platform {
    /// Of its provisioning certification enclave.
    key: PublicKey,
    pub(super) pck: PckExtensions,
}

/// What Intel says about such platforms, signed and in time.
pub(super) struct Statements<'a> {
    pub(super) tcb_info: &'a TcbInfo,
    pub(super) qe_identity: &'a QeIdentity,
}

/// The PCK certificate in the quote leads to the root over one of the CAs for platforms.
pub(super) fn platform(
    quote: &Quote<'_>,
    endorsements: &Endorsements,
    trust: &Trust<'_>,
    rules: &PathRules,
    findings: &mut Findings,
) -> Result<Platform, Stop> {
    let name = CheckName::PckChain;
    let chain = findings.parse_again(
        name.step(),
        AnyCheck::Tdx(name),
        Chain::parse(quote.pck_chain()),
    )?;
    let path = believed(
        findings,
        name,
        path(&chain, endorsements, trust, rules),
        (&chain, trust),
    )?;
    let names = (common_name(path.leaf()), common_name(path.issuer()));
    name.demand(
        findings,
        matches!(names, (PCK_NAME, PLATFORM_CA_NAME | PROCESSOR_CA_NAME)),
        [
            &format_args!("{PCK_NAME}, issued by {PLATFORM_CA_NAME} or {PROCESSOR_CA_NAME}"),
            &format_args!("{}, issued by {}", path.leaf().subject(), path.issuer().subject()),
        ],
        "a certificate of another purpose vouches for the quoting enclave: do not trust this machine",
    )?;
    let name = CheckName::PckPlatform;
    let pck = findings.parse(
        name.step(),
        AnyCheck::Tdx(name),
        PckExtensions::of(path.leaf()),
    )?;
    Ok(Platform {
        key: path.leaf().public_key().clone(),
        pck,
    })
}

/// TCB info and QE identity are signed by Intel, hold now, and the first is about this platform.
pub(super) fn statements<'a>(
    endorsements: &'a Endorsements,
    pck: &PckExtensions,
    trust: &Trust<'_>,
    rules: &PathRules,
    findings: &mut Findings,
) -> Result<Statements<'a>, Stop> {
    let chain = &endorsements.tcb_info_chain;
    let name = CheckName::TcbInfoSignature;
    let signer = statement_signer(chain, endorsements, (trust, rules), name, findings)?;
    let tcb_info = signed_by(&signer, &endorsements.tcb_info, name, findings)?;
    let window = (tcb_info.issue_date, tcb_info.next_update);
    holds_now(window, trust, CheckName::TcbInfoTime, findings)?;
    CheckName::TcbInfoPlatform.demand(
        findings,
        tcb_info.fmspc == pck.fmspc && tcb_info.pce_id == pck.pce_id,
        [
            &format_args!("FMSPC {}, PCEID {}", Hex(&pck.fmspc), Hex(&pck.pce_id)),
            &format_args!(
                "FMSPC {}, PCEID {}",
                Hex(&tcb_info.fmspc),
                Hex(&tcb_info.pce_id)
            ),
        ],
        "fetch the TCB info of the platform that the PCK certificate names",
    )?;

    let name = CheckName::QeIdentitySignature;
    let qe_signer = if &endorsements.qe_identity_chain == chain {
        signer
    } else {
        let chain = &endorsements.qe_identity_chain;
        statement_signer(chain, endorsements, (trust, rules), name, findings)?
    };
    let qe_identity = signed_by(&qe_signer, &endorsements.qe_identity, name, findings)?;
    let window = (qe_identity.issue_date, qe_identity.next_update);
    holds_now(window, trust, CheckName::QeIdentityTime, findings)?;
    Ok(Statements {
        tcb_info,
        qe_identity,
    })
}

/// The platform vouches for the quoting enclave, which is Intel's and vouches for the attestation key.
pub(super) fn qe_report<'a>(
    quote: &'a Quote<'_>,
    platform: &Platform,
    statements: &Statements<'_>,
    findings: &mut Findings,
) -> Result<&'a QeReport<'a>, Stop> {
    let report = quote.qe_report();
    let is_signed = platform.key.verify(
        SignatureScheme::EcdsaP256Sha256Fixed,
        report.bytes(),
        quote.qe_report_signature(),
    );
    CheckName::QeReportSignature.demand(
        findings,
        is_signed.is_ok(),
        [
            &"signed by the key of the PCK certificate",
            &"the signature does not verify",
        ],
        "the quote was altered, or its chain is of another machine",
    )?;

    let mut context = Context::new(&SHA256);
    context.update(quote.attestation_key());
    context.update(quote.qe_authentication_data());
    let mut expected = [0; 64];
    for (to, from) in expected.iter_mut().zip(context.finish().as_ref()) {
        *to = *from;
    }
    CheckName::AttestationKey.demand(
        findings,
        expected.ct_eq(report.report_data()).into(),
        [
            &Hex(&expected),
            &Hex(report.report_data()),
        ],
        "the key in the quote is not the one that the quoting enclave made: do not trust this machine",
    )?;

    let identity = statements.qe_identity.check(report);
    let differs = identity
        .err()
        .map_or("none", super::qe_identity::QeMismatch::field);
    CheckName::QuotingEnclave.demand(
        findings,
        identity.is_ok(),
        [
            &"the enclave of Intel's QE identity",
            &format_args!("another {differs}"),
        ],
        "the machine signs its quotes with an enclave that Intel does not vouch for",
    )?;
    Ok(report)
}

/// The attestation key signed the report of a trust domain, over this binding, under a TDX module of Intel's.
pub(super) fn report<'a>(
    quote: &'a Quote<'_>,
    _vouched: &QeReport<'_>,
    statements: &Statements<'_>,
    binding: &ReportData,
    findings: &mut Findings,
) -> Result<&'a TdReport, Stop> {
    // uncompressed (SEC 1, 2.3.3)
    let mut point = [4; 65];
    for (to, from) in point.iter_mut().skip(1).zip(quote.attestation_key()) {
        *to = *from;
    }
    let is_signed = PublicKey::P256(point).verify(
        SignatureScheme::EcdsaP256Sha256Fixed,
        quote.signed(),
        quote.signature(),
    );
    CheckName::QuoteSignature.demand(
        findings,
        is_signed.is_ok(),
        [
            &"signed by the attestation key",
            &"the signature does not verify",
        ],
        "the quote was altered on its way: ask for a new one",
    )?;

    let report = quote.body();
    CheckName::ReportData.demand(
        findings,
        report.report_data.is(binding),
        [binding, &report.report_data],
        "the quote was made for another session, nonce or purpose: ask for a new one",
    )?;

    let module = statements.tcb_info.check_module(report);
    let actual = match module {
        Ok(()) => String::new(),
        Err(ModuleMismatch::NoIdentity { version }) => {
            format!("version {version}, of which the TCB info has no identity")
        }
        Err(ModuleMismatch::Signer) => format!(
            "signer {}, attributes {}",
            report.mr_signer_seam,
            hex::encode(report.seam_attributes)
        ),
    };
    CheckName::TdxModule.demand(
        findings,
        module.is_ok(),
        [&"a TDX module of Intel's TCB info", &actual],
        "the machine runs a TDX module that Intel does not vouch for",
    )?;
    Ok(report)
}

fn path(
    chain: &Chain,
    endorsements: &Endorsements,
    trust: &Trust<'_>,
    rules: &PathRules,
) -> Result<Path, PathError> {
    trust.cache.build(
        &chain.leaf,
        &chain.others,
        trust.roots.certificates(),
        &Revocation::Demand(&endorsements.crls),
        trust.now,
        rules,
    )
}

/// A path, or the refusal that says why there is none.
fn believed(
    findings: &mut Findings,
    name: CheckName,
    path: Result<Path, PathError>,
    (chain, trust): (&Chain, &Trust<'_>),
) -> Result<Path, Stop> {
    path.map_err(|error| {
        // the likely reason of all others: a machine before production, or somebody's own
        let roots = trust.roots.certificates();
        let stranger = chain
            .others
            .iter()
            .find(|it| it.is_self_issued() && !roots.contains(it))
            .map(|it| format!("the chain leads to another root, {}; ", it.digest()))
            .unwrap_or_default();
        let cause = std::error::Error::source(&error)
            .map(|cause| format!(": {cause}"))
            .unwrap_or_default();
        name.refuse(
            findings,
            [
                &"a chain to Intel's root that is valid now and not revoked",
                &format_args!("{stranger}{error}{cause}"),
            ],
            "fetch certificates and CRLs of this machine again; if they stay as they are, do not trust it",
        )
    })
}

fn common_name(certificate: &Certificate) -> &str {
    certificate.subject().common_name().unwrap_or_default()
}

/// The key of a certificate for statements, which the root itself issues.
fn statement_signer(
    chain: &Chain,
    endorsements: &Endorsements,
    (trust, rules): (&Trust<'_>, &PathRules),
    name: CheckName,
    findings: &mut Findings,
) -> Result<PublicKey, Stop> {
    let path = believed(
        findings,
        name,
        path(chain, endorsements, trust, rules),
        (chain, trust),
    )?;
    let is_issued_by_root = path.issuer() == path.root();
    if common_name(path.leaf()) != TCB_SIGNING_NAME || !is_issued_by_root {
        return Err(name.refuse(
            findings,
            [
                &format_args!("a chain of {TCB_SIGNING_NAME}, issued by the root"),
                &format_args!(
                    "{}, issued by {}",
                    path.leaf().subject(),
                    path.issuer().subject()
                ),
            ],
            "a certificate of another purpose vouches for the statement: fetch it again",
        ));
    }
    Ok(path.leaf().public_key().clone())
}

fn signed_by<'a, T>(
    signer: &PublicKey,
    statement: &'a Signed<T>,
    name: CheckName,
    findings: &mut Findings,
) -> Result<&'a T, Stop> {
    match statement.verified_by(signer) {
        Ok(statement) => {
            findings.pass(name.step(), AnyCheck::Tdx(name));
            Ok(statement)
        }
        Err(error) => Err(name.refuse(
            findings,
            [&"signed by Intel's TCB signing key", &error],
            "the statement was altered or signed by another key: fetch it again",
        )),
    }
}

fn holds_now(
    (from, until): (jiff::Timestamp, jiff::Timestamp),
    trust: &Trust<'_>,
    name: CheckName,
    findings: &mut Findings,
) -> Result<(), Stop> {
    name.demand(
        findings,
        (from..=until).contains(&trust.now),
        [
            &format_args!("issued before {} and not run out", trust.now),
            &format_args!("from {from} until {until}"),
        ],
        "fetch the statement again, or check the clock",
    )
}
