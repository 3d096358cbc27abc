//! Certificates, revocation lists and public keys.

use attest::gcp::{INSTANCE_INFO_OID, InstanceInfo};
use attest::sev_snp::{ProductLine, VekExtensions, VekKind, VekOwner};
use attest::tdx::PckExtensions;
use attest::tpm;
use attest::x509::{Certificate, Crl, MAX_INTERMEDIATES, PublicKey};

use super::Sheet;

/// A certificate as it is in a file or a TPM, padding and all.
pub(super) fn certificate(bytes: &[u8]) -> Sheet {
    match Certificate::parse_prefix(bytes) {
        Ok((certificate, padding)) => {
            let mut sheet = fields(&certificate);
            if !padding.is_empty() {
                sheet.add("bytes behind it", padding.len());
            }
            sheet
        }
        Err(error) => Sheet::unreadable("certificate", &error),
    }
}

/// By content; nothing if it is none of these.
pub(super) fn known(bytes: &[u8]) -> Option<Sheet> {
    if Certificate::parse_prefix(bytes).is_ok() {
        return Some(certificate(bytes));
    }
    if let Ok(crl) = Crl::parse(bytes) {
        return Some(list(&crl));
    }
    if let Ok(chain) = Certificate::chain_from_pem(bytes, MAX_INTERMEDIATES)
        && !chain.is_empty()
    {
        if let [only] = chain.as_slice() {
            return Some(fields(only));
        }
        let mut sheet = Sheet::new(format_args!("{} certificates", chain.len()));
        for (number, certificate) in chain.iter().enumerate() {
            sheet.part(format_args!("certificate {number}"), fields(certificate));
        }
        return Some(sheet);
    }
    let is_key = bytes.first() == Some(&0x30) || bytes.starts_with(b"-----BEGIN PUBLIC KEY");
    let key = crate::evidence::vtpm::public_key(bytes)
        .ok()
        .filter(|_| is_key)?;
    let mut sheet = Sheet::new("public key");
    sheet.add("key", key.describe());
    sheet.hex("digest", key.fingerprint().as_bytes());
    Some(sheet)
}

pub(super) fn fields(certificate: &Certificate) -> Sheet {
    let mut sheet = Sheet::new(format_args!("certificate of {}", certificate.subject()));
    sheet.add("issued by", certificate.issuer());
    sheet.add("serial number", hex::encode(certificate.serial()));
    sheet.add("valid from", certificate.not_before());
    sheet.add("valid until", certificate.not_after());
    sheet.add("authority", certificate.is_ca());
    sheet.add("key", key(certificate.public_key()));
    if let Some(usage) = certificate.key_usage() {
        let all = [
            ("digital signatures", usage.digital_signature()),
            ("key encipherment", usage.key_encipherment()),
            ("key agreement", usage.key_agreement()),
            ("signing certificates", usage.key_cert_sign()),
            ("signing revocation lists", usage.crl_sign()),
        ];
        let named = all.iter().filter(|(_, is_set)| *is_set);
        let named: Vec<&str> = named.map(|(name, _)| *name).collect();
        sheet.add("key is for", named.join(", "));
    }
    if let Some(purpose) = tpm::ek::Purpose::claimed_by(certificate) {
        sheet.add(
            "as a TPM's key",
            match purpose {
                tpm::ek::Purpose::Endorsement => "endorsement key",
                tpm::ek::Purpose::Attestation => "attestation key",
            },
        );
    }
    sheet.add("SHA-256", certificate.digest());
    amd(&mut sheet, certificate);
    if let Ok(pck) = PckExtensions::of(certificate) {
        sheet.hex("platform family (FMSPC)", &pck.fmspc);
        sheet.hex("PCE", &pck.pce_id);
        sheet.add("PCE SVN", pck.pce_svn);
        sheet.hex("component SVNs", &pck.component_svns);
        sheet.hex("platform (PPID)", &pck.ppid);
        sheet.add("memory", format_args!("{:?}", pck.sgx_type));
        if let Some(id) = pck.platform_instance_id {
            sheet.hex("platform instance", &id);
        }
        if let Some(flags) = pck.flags {
            sheet.add("multithreading", flags.smt_enabled);
            sheet.add("platform can change", flags.dynamic_platform);
            sheet.add("keys are cached", flags.cached_keys);
        }
    }
    if let Some(Ok(instance)) = certificate
        .extension(INSTANCE_INFO_OID)
        .map(InstanceInfo::parse)
    {
        sheet.add("Google project", instance.project_id);
        sheet.add("Google project number", instance.project_number);
        sheet.add("Google zone", instance.zone);
        sheet.add("Google instance", instance.instance_name);
        sheet.add("Google instance id", instance.instance_id);
        sheet.add("Google production", instance.is_production);
    }
    sheet
}

/// What AMD says of the key of a chip or a cloud.
fn amd(sheet: &mut Sheet, certificate: &Certificate) {
    let name = certificate.subject().common_name();
    let Some(kind) = name.and_then(VekKind::from_common_name) else {
        return;
    };
    let issuer = certificate.issuer().common_name();
    let line: Option<ProductLine> = issuer.and_then(|issuer| kind.line_of_issuer(issuer));
    let Some(line) = line else { return };
    match VekExtensions::read(kind, line, |oid| certificate.extension(oid)) {
        Ok(extensions) => {
            sheet.add("AMD product", &extensions.product_name);
            sheet.add("firmware levels", extensions.tcb.decode(line.tcb_layout()));
            match &extensions.owner {
                VekOwner::Chip(id) => sheet.hex("chip id", &id.chip_id()),
                VekOwner::Provider(name) => sheet.add("cloud", name),
            }
        }
        Err(error) => sheet.add("AMD's extensions", format_args!("can not be read: {error}")),
    }
}

fn list(crl: &Crl) -> Sheet {
    let mut sheet = Sheet::new("revocation list");
    sheet.add("issued by", crl.issuer());
    sheet.add("issued at", crl.this_update());
    match crl.next_update() {
        Some(next) => sheet.add("next at", next),
        None => sheet.add("next at", "not said"),
    }
    if let Some(number) = crl.number() {
        sheet.hex("number", number);
    }
    sheet.add("revoked certificates", crl.len());
    sheet
}

fn key(key: &PublicKey) -> String {
    match key {
        PublicKey::P256(_) => "P-256".to_owned(),
        PublicKey::P384(_) => "P-384".to_owned(),
        PublicKey::Rsa(rsa) => format!("RSA of {} bits", rsa.modulus.len() * 8),
    }
}
