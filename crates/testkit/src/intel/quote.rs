//! Quotes: the report of a trust domain, signed by a quoting enclave that a platform vouches for.

use aws_lc_rs::digest::{SHA256, digest};

use super::{Platform, SigningKey, pem_chain};

/// The form of a quote and of its body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Body {
    /// Version 4, TD 1.0.
    V4,
    /// Version 5, body type 2: TD 1.0.
    V5Td10,
    /// Version 5, body type 3: TD 1.5.
    V5Td15,
}

/// A TD report.
#[derive(Clone, Debug)]
pub struct TdParts {
    /// SVNs when the trust domain started.
    pub tee_tcb_svn: [u8; 16],
    /// TDX module.
    pub mr_seam: [u8; 48],
    /// Signer of the TDX module.
    pub mr_signer_seam: [u8; 48],
    /// Attributes of the TDX module.
    pub seam_attributes: u64,
    /// Attributes of the trust domain.
    pub attributes: u64,
    /// Processor state.
    pub xfam: u64,
    /// Initial content.
    pub mrtd: [u8; 48],
    /// Configuration.
    pub mr_config_id: [u8; 48],
    /// Owner.
    pub mr_owner: [u8; 48],
    /// Configuration by the owner.
    pub mr_owner_config: [u8; 48],
    /// Runtime measurements.
    pub rtmrs: [[u8; 48]; 4],
    /// What the trust domain says.
    pub report_data: [u8; 64],
    /// SVNs now.
    pub tee_tcb_svn_2: [u8; 16],
    /// Service domains.
    pub mr_service_td: [u8; 48],
}

impl Default for TdParts {
    fn default() -> Self {
        let mut tee_tcb_svn = [0; 16];
        tee_tcb_svn[..3].copy_from_slice(&[6, 1, 8]);
        Self {
            tee_tcb_svn,
            mr_seam: [0x5e; 48],
            mr_signer_seam: [0; 48],
            seam_attributes: 0,
            attributes: 1 << 28,
            xfam: 0x61ae7,
            mrtd: [0x1d; 48],
            mr_config_id: [0; 48],
            mr_owner: [0; 48],
            mr_owner_config: [0; 48],
            rtmrs: [[0xa0; 48], [0xa1; 48], [0xa2; 48], [0; 48]],
            report_data: [0xda; 64],
            tee_tcb_svn_2: tee_tcb_svn,
            mr_service_td: [0; 48],
        }
    }
}

impl TdParts {
    fn to_bytes(&self, body: Body) -> Vec<u8> {
        let mut bytes = Vec::new();
        bytes.extend(self.tee_tcb_svn);
        bytes.extend(self.mr_seam);
        bytes.extend(self.mr_signer_seam);
        bytes.extend(self.seam_attributes.to_le_bytes());
        bytes.extend(self.attributes.to_le_bytes());
        bytes.extend(self.xfam.to_le_bytes());
        bytes.extend(self.mrtd);
        bytes.extend(self.mr_config_id);
        bytes.extend(self.mr_owner);
        bytes.extend(self.mr_owner_config);
        bytes.extend(self.rtmrs.as_flattened());
        bytes.extend(self.report_data);
        if body == Body::V5Td15 {
            bytes.extend(self.tee_tcb_svn_2);
            bytes.extend(self.mr_service_td);
        }
        bytes
    }
}

/// The report of the quoting enclave.
#[derive(Clone, Debug)]
pub struct QeParts {
    /// `MISCSELECT`.
    pub misc_select: u32,
    /// `ATTRIBUTES`.
    pub attributes: [u8; 16],
    /// Signer.
    pub mr_signer: [u8; 32],
    /// Which enclave.
    pub isv_prod_id: u16,
    /// Its SVN.
    pub isv_svn: u16,
}

impl Default for QeParts {
    fn default() -> Self {
        let mut attributes = [0; 16];
        attributes[0] = 0x15;
        attributes[8] = 0xe7;
        Self {
            misc_select: 0,
            attributes,
            mr_signer: [0xdc; 32],
            isv_prod_id: 2,
            isv_svn: 6,
        }
    }
}

impl QeParts {
    fn to_bytes(&self, report_data: &[u8; 64]) -> Vec<u8> {
        let mut bytes = vec![3; 16];
        bytes.extend(self.misc_select.to_le_bytes());
        bytes.extend([0; 28]);
        bytes.extend(self.attributes);
        bytes.extend([0x3e; 32]);
        bytes.extend([0; 32]);
        bytes.extend(self.mr_signer);
        bytes.extend([0; 96]);
        bytes.extend(self.isv_prod_id.to_le_bytes());
        bytes.extend(self.isv_svn.to_le_bytes());
        bytes.extend([0; 60]);
        bytes.extend(report_data);
        bytes
    }
}

/// A quote.
#[derive(Clone, Debug)]
pub struct QuoteParts {
    /// Its form.
    pub body: Body,
    /// The trust domain.
    pub td: TdParts,
    /// The quoting enclave.
    pub qe: QeParts,
    /// What the quoting enclave says about its key, if not the truth.
    pub qe_report_data: Option<[u8; 64]>,
    /// The chain as it stands in the quote, if not the platform's in PEM.
    pub chain: Option<Vec<u8>>,
}

impl Default for QuoteParts {
    fn default() -> Self {
        Self {
            body: Body::V4,
            td: TdParts::default(),
            qe: QeParts::default(),
            qe_report_data: None,
            chain: None,
        }
    }
}

impl Platform {
    /// A quote of this platform.
    #[must_use]
    pub fn quote(&self, parts: &QuoteParts) -> Vec<u8> {
        self.quote_signed_by(parts, &self.pck, &self.attestation_key)
    }

    /// A quote whose QE report and whose body were signed by these keys; it names the platform's all the same.
    ///
    /// # Panics
    /// When a part is longer than its length field can say.
    #[must_use]
    pub fn quote_signed_by(
        &self,
        parts: &QuoteParts,
        pck: &SigningKey,
        attestation_key: &SigningKey,
    ) -> Vec<u8> {
        let version: u16 = if parts.body == Body::V4 { 4 } else { 5 };
        let mut quote = Vec::new();
        quote.extend(version.to_le_bytes());
        quote.extend(2_u16.to_le_bytes());
        quote.extend(0x81_u32.to_le_bytes());
        quote.extend([0; 4]);
        quote.extend([
            0x93, 0x9a, 0x72, 0x33, 0xf7, 0x9c, 0x4c, 0xa9, 0x94, 0x0a, 0x0d, 0xb3, 0x95, 0x7f,
            0x06, 0x07,
        ]);
        quote.extend([0x11; 20]);
        let td = parts.td.to_bytes(parts.body);
        let body_type: Option<u16> = match parts.body {
            Body::V4 => None,
            Body::V5Td10 => Some(2),
            Body::V5Td15 => Some(3),
        };
        if let Some(body_type) = body_type {
            quote.extend(body_type.to_le_bytes());
            quote.extend(length(&td).to_le_bytes());
        }
        quote.extend(&td);

        let qe_authentication_data = [0x0a; 32];
        let named_key = self.attestation_key.point();
        let qe_report_data = parts.qe_report_data.unwrap_or_else(|| {
            let hash = digest(&SHA256, &[&named_key[..], &qe_authentication_data].concat());
            let mut data = [0; 64];
            data[..32].copy_from_slice(hash.as_ref());
            data
        });
        let qe_report = parts.qe.to_bytes(&qe_report_data);
        let chain = parts.chain.clone().unwrap_or_else(|| {
            let chain: Vec<&[u8]> = self.chain.iter().map(Vec::as_slice).collect();
            pem_chain(&chain)
        });
        let mut certification = qe_report.clone();
        certification.extend(pck.sign(&qe_report));
        certification.extend(32_u16.to_le_bytes());
        certification.extend(qe_authentication_data);
        certification.extend(5_u16.to_le_bytes());
        certification.extend(length(&chain).to_le_bytes());
        certification.extend(&chain);

        let mut data = attestation_key.sign(&quote).to_vec();
        data.extend(named_key);
        data.extend(6_u16.to_le_bytes());
        data.extend(length(&certification).to_le_bytes());
        data.extend(&certification);
        quote.extend(length(&data).to_le_bytes());
        quote.extend(&data);
        quote
    }
}

fn length(bytes: &[u8]) -> u32 {
    u32::try_from(bytes.len()).expect("a short part")
}
