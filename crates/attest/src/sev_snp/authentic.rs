//! Did the endorsed key's firmware make this report, over the demanded data?

use subtle::ConstantTimeEq as _;
use thiserror::Error;

use super::bits::SigningKey;
use super::chain::EndorsedKey;
use super::check::CheckName;
use super::checks::Checks;
use super::report::{Report, ReportFields};
use super::vek::{VekKind, VekOwner};
use crate::verdict::{Findings, Hex, RefusalCode, Step, Stop};
use crate::x509::SignatureScheme;

/// The 64 bytes a report must have been made over: all of them, with whatever fills them chosen by who demands them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReportData([u8; 64]);

/// Not 64 bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("report data has 64 bytes, these are {0}")]
pub struct ReportDataSize(pub usize);

impl ReportData {
    /// The demanded bytes.
    #[must_use]
    pub const fn new(bytes: [u8; 64]) -> Self {
        Self(bytes)
    }
}

impl TryFrom<&[u8]> for ReportData {
    type Error = ReportDataSize;

    fn try_from(bytes: &[u8]) -> Result<Self, ReportDataSize> {
        bytes
            .try_into()
            .map(Self)
            .map_err(|_| ReportDataSize(bytes.len()))
    }
}

/// Holds the report against what its key's certificate says, then against the key, then against the demanded data. A certificate of another
/// chip or level is named before the signature that it cannot have made.
pub(super) fn verify(
    report: &Report,
    key: &EndorsedKey,
    report_data: &ReportData,
    findings: &mut Findings,
) -> Result<(), Stop> {
    let fields = report.fields();
    let mut checks = Checks::new(findings, Step::Report);
    product(fields, key, &mut checks);
    signing_key(fields, key, &mut checks);
    checks.demand(
        CheckName::VekTcb,
        RefusalCode::NotAuthentic,
        fields.reported_tcb == key.extensions.tcb,
        [&fields.reported_tcb, &key.extensions.tcb],
        "the certificate is for other firmware levels than the report states: fetch the one for the reported TCB",
    );
    chip(fields, key, &mut checks);
    let verified = key.public_key().verify(
        SignatureScheme::EcdsaP384Sha384Fixed,
        report.signed(),
        report.signature(),
    );
    checks.demand(
        CheckName::Signature,
        RefusalCode::NotAuthentic,
        verified.is_ok(),
        [
            &"a signature of the certified key",
            &"a signature that does not verify",
        ],
        "the report was altered, or another key signed it: refuse this machine",
    );
    checks.all_hold()?;

    let mut checks = Checks::new(findings, Step::Report);
    checks.demand(
        CheckName::ReportData,
        RefusalCode::WrongBinding,
        fields.report_data.ct_eq(&report_data.0).into(),
        [
            &Hex(&report_data.0),
            &Hex(&fields.report_data),
        ],
        "the report belongs to another session, key or nonce: a replay or a relay, unless the peer's software differs",
    );
    checks.all_hold()
}

fn product(fields: &ReportFields, key: &EndorsedKey, checks: &mut Checks<'_>) {
    // before version 3 a report does not name its processor; the certificate does, for the chip or the levels it is held against
    let Some(cpu_id) = fields.cpu_id else { return };
    checks.demand(
        CheckName::ReportProduct,
        RefusalCode::NotAuthentic,
        cpu_id.product_line() == Some(key.line),
        [&key.line, &cpu_id],
        "the report is of a processor of another line than its certificate: refuse this machine",
    );
}

fn signing_key(fields: &ReportFields, key: &EndorsedKey, checks: &mut Checks<'_>) {
    let expected = match key.kind {
        VekKind::Vcek => SigningKey::Vcek,
        VekKind::Vlek => SigningKey::Vlek,
    };
    let actual = fields.key_info.signing_key();
    checks.demand(
        CheckName::SigningKey,
        RefusalCode::NotAuthentic,
        actual == expected,
        [&expected, &actual],
        "give the certificate of the key that signed the report",
    );
}

/// A VCEK is of one chip, which the report names unless the host masks it; a VLEK is of none.
fn chip(fields: &ReportFields, key: &EndorsedKey, checks: &mut Checks<'_>) {
    let VekOwner::Chip(hardware_id) = &key.extensions.owner else {
        return;
    };
    let chip_id = hardware_id.chip_id();
    if fields.chip_id == [0; 64] {
        checks.warn(
            CheckName::ChipId,
            [
                &Hex(&chip_id),
                &"masked by the host in the report; the certified key still proves it",
            ],
            "nothing to do, unless something else compares chip ids of reports",
        );
        return;
    }
    checks.demand(
        CheckName::ChipId,
        RefusalCode::NotAuthentic,
        fields.chip_id == chip_id,
        [&Hex(&fields.chip_id), &Hex(&chip_id)],
        "the certificate is of another chip: fetch the one of the chip that the report names",
    );
}
