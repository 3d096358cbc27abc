//! What processors state: reports of SEV-SNP, quotes of TDX, and reports of Azure's paravisor with one of both.

use attest::azure::{Hardware, HclReport};
use attest::sev_snp::{RawTcb, Report, ReportFields, TcbLayout};
use attest::tdx::{Quote, QuoteVersion, TdReport};
use attest::x509::{Certificate, MAX_INTERMEDIATES};

use super::{Sheet, certificates, flatten};

pub(super) fn snp(bytes: &[u8]) -> Sheet {
    match Report::parse(bytes) {
        Ok(report) => snp_fields(report.fields()),
        Err(error) => Sheet::unreadable("SEV-SNP report", &error),
    }
}

fn snp_fields(fields: &ReportFields) -> Sheet {
    let mut sheet = Sheet::new(format_args!(
        "SEV-SNP report, version {}",
        fields.version.number()
    ));
    let line = fields.cpu_id.and_then(|cpu| cpu.product_line());
    // without a word on the processor the two layouts differ in what a byte means
    let tcb = |raw: RawTcb| match line {
        Some(line) => raw.decode(line.tcb_layout()).to_string(),
        None => format!(
            "{} (if Milan or Genoa: {})",
            raw,
            raw.decode(TcbLayout::MilanGenoa)
        ),
    };
    match fields.cpu_id {
        Some(cpu) => sheet.add("processor", cpu),
        None => sheet.add("processor", "not said before version 3"),
    }
    if let Some(line) = line {
        sheet.add("product line", line);
    }
    sheet.add("signed by", fields.key_info.signing_key());
    sheet.add("author key", fields.key_info.has_author_key());
    sheet.add("chip key masked", fields.key_info.masks_chip_key());
    sheet.add("privilege level that asked", fields.vmpl);
    sheet.add("guest policy", fields.policy);
    sheet.add("least firmware interface", fields.policy.abi());
    sheet.add("guest SVN", fields.guest_svn);
    sheet.add("platform", fields.platform_info);
    sheet.hex("report data", &fields.report_data);
    sheet.hex("launch measurement", &fields.measurement);
    sheet.hex("host data", &fields.host_data);
    sheet.hex("identity key digest", &fields.id_key_digest);
    sheet.hex("author key digest", &fields.author_key_digest);
    sheet.hex("family id", &fields.family_id);
    sheet.hex("image id", &fields.image_id);
    sheet.hex("report id", &fields.report_id);
    sheet.hex("report id of the migration agent", &fields.report_id_ma);
    sheet.hex("chip id", &fields.chip_id);
    sheet.add("reported firmware levels", tcb(fields.reported_tcb));
    sheet.add("current firmware levels", tcb(fields.current_tcb));
    sheet.add("committed firmware levels", tcb(fields.committed_tcb));
    sheet.add("firmware levels at launch", tcb(fields.launch_tcb));
    sheet.add("current firmware", fields.current_version);
    sheet.add("committed firmware", fields.committed_version);
    if let Some(mitigations) = fields.mitigations {
        sheet.add(
            "mitigations at launch",
            format_args!("{:#x}", mitigations.launch),
        );
        sheet.add("mitigations", format_args!("{:#x}", mitigations.current));
    }
    sheet
}

pub(super) fn tdx(bytes: &[u8]) -> Sheet {
    let quote = match Quote::parse(bytes) {
        Ok(quote) => quote,
        Err(error) => return Sheet::unreadable("quote of a trust domain", &error),
    };
    let version = match quote.header().version {
        QuoteVersion::V4 => 4,
        QuoteVersion::V5 => 5,
    };
    let mut sheet = Sheet::new(format_args!(
        "quote of a trust domain, version {version}, {} body",
        if quote.body().td_1_5.is_some() {
            "TD 1.5"
        } else {
            "TD 1.0"
        }
    ));
    sheet.hex("platform by the host", &quote.header().user_data);
    body(&mut sheet, quote.body());
    let qe = quote.qe_report();
    sheet.hex("quoting enclave: MRSIGNER", qe.mr_signer());
    sheet.hex("quoting enclave: MRENCLAVE", qe.mr_enclave());
    sheet.hex("quoting enclave: attributes", qe.attributes());
    sheet.add(
        "quoting enclave: MISCSELECT",
        format_args!("{:#010x}", qe.misc_select()),
    );
    sheet.add("quoting enclave: product", qe.isv_prod_id());
    sheet.add("quoting enclave: SVN", qe.isv_svn());
    let chain = quote.pck_chain();
    match Certificate::chain_from_pem(chain, MAX_INTERMEDIATES) {
        Ok(chain) => {
            for (number, certificate) in chain.iter().enumerate() {
                sheet.part(
                    format_args!("certificate {number}"),
                    certificates::fields(certificate),
                );
            }
        }
        Err(_) => sheet.add(
            "certificates",
            format_args!("{} bytes that are no PEM", chain.len()),
        ),
    }
    sheet
}

fn body(sheet: &mut Sheet, body: &TdReport) {
    sheet.add("attributes", body.attributes);
    sheet.add("XFAM", format_args!("{:#018x}", body.xfam));
    sheet.hex("report data", body.report_data.as_bytes());
    for (name, register) in [
        ("MRTD", &body.mrtd),
        ("MRCONFIGID", &body.mr_config_id),
        ("MROWNER", &body.mr_owner),
        ("MROWNERCONFIG", &body.mr_owner_config),
        ("MRSEAM", &body.mr_seam),
        ("MRSIGNERSEAM", &body.mr_signer_seam),
    ] {
        sheet.hex(name, register.as_bytes());
    }
    for (number, rtmr) in body.rtmrs.iter().enumerate() {
        sheet.hex(format_args!("RTMR{number}"), rtmr.as_bytes());
    }
    sheet.add(
        "TDX module",
        format_args!(
            "major version {}, SVN {}",
            body.tee_tcb_svn.module_version(),
            body.tee_tcb_svn.module_svn()
        ),
    );
    sheet.hex("TEE TCB SVN at start", &body.tee_tcb_svn.0);
    sheet.hex("SEAM attributes", &body.seam_attributes);
    if let Some(td_1_5) = &body.td_1_5 {
        sheet.hex("TEE TCB SVN now", &td_1_5.tee_tcb_svn_2.0);
        sheet.hex("MRSERVICETD", td_1_5.mr_service_td.as_bytes());
    }
}

pub(super) fn hcl(bytes: &[u8]) -> Sheet {
    let report = match HclReport::parse(bytes) {
        Ok(report) => report,
        Err(error) => return Sheet::unreadable("report of Azure's paravisor", &error),
    };
    let mut sheet = Sheet::new(format_args!(
        "report of Azure's paravisor, version {}",
        report.version()
    ));
    sheet.hex("report data that it needs", &report.expected_report_data());
    let claims = report.claims();
    sheet.add("attestation key", claims.ak().describe());
    sheet.hex(
        "attestation key's digest",
        claims.ak().fingerprint().as_bytes(),
    );
    match claims.ek() {
        Some(ek) => sheet.add("endorsement key", ek.describe()),
        None => sheet.add("endorsement key", "not said"),
    }
    if let Some(user_data) = claims.user_data() {
        sheet.hex("user data", user_data);
    }
    match claims.configuration().map(serde_json::to_value) {
        Some(Ok(value)) => flatten(&mut sheet, "configuration", &value),
        Some(Err(_)) | None => sheet.add("configuration", "not said"),
    }
    match report.hardware() {
        Hardware::Snp(bytes) => sheet.part("processor", snp(bytes)),
        Hardware::TdReport(bytes) => {
            sheet.add(
                "processor",
                "TDREPORT, which only the processor that made it can check",
            );
            sheet.hex(
                "processor: report data",
                bytes.get(128..192).unwrap_or_default(),
            );
        }
    }
    sheet
}
