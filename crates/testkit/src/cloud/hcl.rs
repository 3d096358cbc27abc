//! HCL reports with any fault.

use attest::tpm::HashAlgorithm;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Value, json};

/// The fields of an HCL report. [`HclParts::snp`] and [`HclParts::tdx`] fill in the truth; a test changes one.
#[derive(Clone, Debug)]
pub struct HclParts {
    /// The first four bytes.
    pub signature: [u8; 4],
    /// Version of the header.
    pub version: u32,
    /// Size of the whole, if not the truth.
    pub report_size: Option<u32>,
    /// The processor's report, up to 1184 bytes.
    pub report: Vec<u8>,
    /// Size from the runtime data's header on, if not the truth.
    pub data_size: Option<u32>,
    /// 2 for SEV-SNP, 4 for TDX.
    pub report_type: u32,
    /// 1 for SHA-256, 2 for SHA-384, 3 for SHA-512.
    pub hash_type: u32,
    /// Size of the runtime data, if not the truth.
    pub runtime_size: Option<u32>,
    /// The runtime data.
    pub runtime: Vec<u8>,
    /// Zeros behind it.
    pub padding: usize,
}

/// The claims of runtime data.
#[derive(Clone, Debug)]
pub struct RuntimeParts {
    /// Modulus of the attestation key.
    pub modulus: Vec<u8>,
    /// Whether Secure Boot is on.
    pub secure_boot: bool,
    /// Whether there is a TPM.
    pub tpm_enabled: bool,
}

impl RuntimeParts {
    /// A machine as it should be, with this attestation key.
    #[must_use]
    pub const fn of(modulus: Vec<u8>) -> Self {
        Self {
            modulus,
            secure_boot: true,
            tpm_enabled: true,
        }
    }

    /// The JSON as a value.
    #[must_use]
    pub fn to_value(&self) -> Value {
        json!({
            "keys": [{
                "kid": "HCLAkPub",
                "key_ops": ["sign"],
                "kty": "RSA",
                "e": "AQAB",
                "n": URL_SAFE_NO_PAD.encode(&self.modulus),
            }],
            "vm-configuration": {
                "console-enabled": true,
                "secure-boot": self.secure_boot,
                "tpm-enabled": self.tpm_enabled,
                "vmUniqueId": "00000000-0000-0000-0000-000000000000",
            },
            "user-data": "00".repeat(64),
        })
    }

    /// The JSON.
    #[must_use]
    pub fn to_json(&self) -> Vec<u8> {
        self.to_value().to_string().into_bytes()
    }
}

/// Report data that cover runtime data: the digest, and zeros.
fn covering(hash: HashAlgorithm, runtime: &[u8]) -> [u8; 64] {
    let mut data = [0; 64];
    let digest = hash.digest(&[runtime]);
    data[..digest.len()].copy_from_slice(&digest);
    data
}

/// A `TDREPORT` over report data, and nothing else in it.
#[must_use]
pub fn td_report_over(report_data: &[u8; 64]) -> Vec<u8> {
    let mut report = vec![0; 1024];
    report[128..192].copy_from_slice(report_data);
    report
}

/// An SEV-SNP report over report data, and nothing else in it.
#[must_use]
pub fn snp_report_over(report_data: &[u8; 64]) -> Vec<u8> {
    let mut report = vec![0; 1184];
    report[0x50..0x90].copy_from_slice(report_data);
    report
}

impl HclParts {
    /// With a report of SEV-SNP, whose report data are the caller's business.
    #[must_use]
    pub fn snp(report: Vec<u8>, runtime: Vec<u8>) -> Self {
        Self {
            signature: *b"HCLA",
            version: 2,
            report_size: None,
            report,
            data_size: None,
            report_type: 2,
            hash_type: 1,
            runtime_size: None,
            runtime,
            padding: 100,
        }
    }

    /// With a `TDREPORT` over the runtime data.
    #[must_use]
    pub fn tdx(runtime: Vec<u8>) -> Self {
        let report = td_report_over(&covering(HashAlgorithm::Sha256, &runtime));
        Self {
            report_type: 4,
            ..Self::snp(report, runtime)
        }
    }

    /// What report data must be to cover the runtime data.
    ///
    /// # Panics
    /// When the hash is none.
    #[must_use]
    pub fn report_data(&self) -> [u8; 64] {
        let hash = match self.hash_type {
            1 => HashAlgorithm::Sha256,
            2 => HashAlgorithm::Sha384,
            3 => HashAlgorithm::Sha512,
            other => panic!("{other} is no hash type"),
        };
        covering(hash, &self.runtime)
    }

    /// The bytes.
    ///
    /// # Panics
    /// When the report or the runtime data are too long.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        let runtime_size = u32::try_from(self.runtime.len()).expect("short runtime data");
        let data_size = runtime_size + 20;
        let mut area = self.report.clone();
        assert!(area.len() <= 1184, "the area of the report is smaller");
        area.resize(1184, 0);
        let mut bytes = self.signature.to_vec();
        for number in [
            self.version,
            self.report_size.unwrap_or(1216 + data_size),
            2, // request of a certificate
            0, // status
            0,
            0,
            0,
        ] {
            bytes.extend(number.to_le_bytes());
        }
        bytes.extend(area);
        for number in [
            self.data_size.unwrap_or(data_size),
            1,
            self.report_type,
            self.hash_type,
            self.runtime_size.unwrap_or(runtime_size),
        ] {
            bytes.extend(number.to_le_bytes());
        }
        bytes.extend(&self.runtime);
        bytes.resize(bytes.len() + self.padding, 0);
        bytes
    }
}
