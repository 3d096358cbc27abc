//! Machines of clouds under authorities of a test, with the documents they would send. True until a test changes a part.

use attest::sev_snp::{ProductLine, VekKind};
use attest::tpm::{AkAuthorities, BankValues, PublicKey};
use attest::vtpm::TpmEvidence;
use attest::x509::{Certificate, Crl};
use attest::{Binding, Endorsements, PcrValues, Roots, azure, gcp, tdx};

use super::{
    AkCertificate, Authority, CloudTpm, HclParts, InstanceParts, RuntimeParts, public_area,
};
use crate::amd::{self, Amd, ReportBytes, offset};
use crate::boot::Image;
use crate::intel::{self, PckParts, QuoteParts, TdParts, Vendor};
use crate::tee::{AK_ATTRIBUTES, tpm2b};

/// A time at which everything of these makers holds.
pub const NOW: &str = intel::NOW;
/// First second of a list of AMD's, and the second at which the next one is due.
const LIST: [&str; 2] = ["260101000000Z", "270101000000Z"];
/// What a test's SNP machines are made of.
const LINE: ProductLine = ProductLine::Milan;

/// Everybody whose word a machine of a cloud rests on.
pub struct Makers {
    /// Makes processors with TDX.
    pub intel: Vendor,
    /// Certifies keys of Trusted Launch.
    pub microsoft: Authority,
    /// Certifies keys of instances.
    pub google: Authority,
}

impl Makers {
    /// Makers with new keys; AMD's are those of the process.
    #[must_use]
    pub fn new() -> Self {
        Self {
            intel: Vendor::new(),
            microsoft: Authority::new("a test's vTPM CA"),
            google: Authority::new("a test's EK/AK CA"),
        }
    }

    /// Their roots.
    ///
    /// # Panics
    /// Never: what is parsed was made here.
    #[must_use]
    pub fn roots(&self) -> Roots {
        let intel = Certificate::parse(&self.intel.root.der).expect("a certificate");
        Roots {
            amd: Amd::new(LINE).roots(),
            intel: tdx::Roots::of_another_vendor(vec![intel]),
            microsoft: AkAuthorities::of(vec![self.microsoft.root()]),
            google: AkAuthorities::of(vec![self.google.root()]),
        }
    }

    /// What AMD and Intel state about their machines: nothing is revoked, all is up to date.
    ///
    /// # Panics
    /// Never: what is parsed was made here.
    #[must_use]
    pub fn endorsements(&self) -> Endorsements {
        let mut endorsements = Endorsements::new();
        let list = Amd::new(LINE).crl(&[], LIST);
        endorsements
            .add_crl(Crl::parse(&list).expect("a list"))
            .and_then(|()| endorsements.add_intel(self.statements(&self.intel.collateral())))
            .expect("few of each");
        endorsements
    }

    /// Intel's statements, read.
    ///
    /// # Panics
    /// When they have not the form of Intel's.
    #[must_use]
    pub fn statements(&self, collateral: &intel::Collateral) -> tdx::Endorsements {
        tdx::Endorsements::parse(&tdx::Collateral {
            tcb_info: &collateral.tcb_info,
            tcb_info_chain: &collateral.tcb_info_chain,
            qe_identity: &collateral.qe_identity,
            qe_identity_chain: &collateral.qe_identity_chain,
            crls: &[&collateral.pck_crl, &collateral.root_ca_crl],
        })
        .expect("statements")
    }
}

impl Default for Makers {
    fn default() -> Self {
        Self::new()
    }
}

/// A machine that booted an image, with the parts that vouch for it.
pub struct Machine {
    /// Its TPM.
    pub tpm: CloudTpm,
    /// What the TPM measured.
    pub pcrs: PcrValues,
    /// The log of it.
    pub event_log: Vec<u8>,
    /// Of the kernel.
    pub command_line: String,
    /// The processor's report, without the data it is made over and the signature.
    pub report: ReportBytes,
    /// The trust domain, without the data its quote is made over.
    pub td: TdParts,
    /// What the paravisor says.
    pub runtime: RuntimeParts,
    /// What Google's certificate names.
    pub instance: InstanceParts,
    /// What the attestation key may do.
    pub attributes: u32,
}

impl Machine {
    /// Right after it booted `image`.
    #[must_use]
    pub fn boot(image: &Image) -> Self {
        let tpm = CloudTpm::new();
        Self {
            pcrs: image.pcrs(),
            event_log: image.event_log(),
            command_line: image.command_line(),
            report: ReportBytes::new(LINE, 3),
            td: TdParts::default(),
            runtime: RuntimeParts::of(tpm.modulus()),
            instance: InstanceParts::default(),
            attributes: AK_ATTRIBUTES,
            tpm,
        }
    }

    /// The key its TPM signs with.
    ///
    /// # Panics
    /// Never: the key was made here.
    #[must_use]
    pub fn key(&self) -> PublicKey {
        PublicKey::rsa(&self.tpm.modulus(), 0).expect("a key of a TPM")
    }

    /// What its TPM states over `binding`.
    #[must_use]
    pub fn statement(&self, binding: &Binding) -> TpmEvidence {
        let nonce = binding.qualifying_data();
        let quoted = self
            .tpm
            .quote(nonce.as_bytes(), &BankValues::from(&self.pcrs));
        TpmEvidence {
            ak_public: public_area(&self.tpm.modulus(), self.attributes),
            quote: tpm2b(&quoted.statement),
            signature: quoted.signature,
            pcrs: self.pcrs.clone(),
            event_log: self.event_log.clone(),
            command_line: Some(self.command_line.clone()),
        }
    }

    fn hcl(&self, report: Vec<u8>) -> HclParts {
        HclParts::snp(report, self.runtime.to_json())
    }

    fn signed_report(&self, report_data: &[u8; 64]) -> Vec<u8> {
        let mut report = self.report.clone();
        report.set(offset::REPORT_DATA, report_data);
        report.sign(amd::vek_key());
        report.0.to_vec()
    }

    fn quoted_by(&self, makers: &Makers, report_data: [u8; 64]) -> Vec<u8> {
        makers
            .intel
            .platform(&PckParts::default())
            .quote(&QuoteParts {
                td: TdParts {
                    report_data,
                    ..self.td.clone()
                },
                ..QuoteParts::default()
            })
    }

    /// AMD's certificates, as the host has them: of the chip's key, and of what signed it.
    #[must_use]
    pub fn amds() -> Vec<Vec<u8>> {
        let line = Amd::new(LINE);
        vec![line.issue(&line.vek(VekKind::Vcek)), line.ask(), line.ark()]
    }

    /// On Azure, SEV-SNP.
    #[must_use]
    pub fn azure_sev_snp(&self, binding: &Binding) -> azure::SevSnpDocument {
        let report_data = self.hcl(Vec::new()).report_data();
        azure::SevSnpDocument {
            tpm: self.statement(binding),
            hcl_report: self.hcl(self.signed_report(&report_data)).to_bytes(),
            certificates: Self::amds(),
        }
    }

    /// On Azure, TDX.
    #[must_use]
    pub fn azure_tdx(&self, makers: &Makers, binding: &Binding) -> azure::TdxDocument {
        let parts = HclParts::tdx(self.runtime.to_json());
        azure::TdxDocument {
            tpm: self.statement(binding),
            hcl_report: parts.to_bytes(),
            td_quote: self.quoted_by(makers, parts.report_data()),
        }
    }

    /// On Azure, with Trusted Launch.
    #[must_use]
    pub fn azure_trusted_launch(
        &self,
        makers: &Makers,
        binding: &Binding,
    ) -> azure::TrustedLaunchDocument {
        let ca = &makers.microsoft;
        azure::TrustedLaunchDocument {
            tpm: self.statement(binding),
            ak_certificate: ca.certify(&self.tpm, &AkCertificate::azure()),
            certificates: vec![ca.intermediate().der().to_vec()],
        }
    }

    fn certified_by_google(&self, makers: &Makers) -> [Vec<u8>; 2] {
        let ca = &makers.google;
        [
            ca.certify(&self.tpm, &AkCertificate::google(&self.instance)),
            ca.intermediate().der().to_vec(),
        ]
    }

    /// On Google Cloud, SEV-ES.
    #[must_use]
    pub fn gcp_sev_es(&self, makers: &Makers, binding: &Binding) -> gcp::SevEsDocument {
        let [ak_certificate, authority] = self.certified_by_google(makers);
        gcp::SevEsDocument {
            tpm: self.statement(binding),
            ak_certificate,
            certificates: vec![authority],
        }
    }

    /// On Google Cloud, SEV-SNP.
    #[must_use]
    pub fn gcp_sev_snp(&self, makers: &Makers, binding: &Binding) -> gcp::SevSnpDocument {
        let [ak_certificate, authority] = self.certified_by_google(makers);
        gcp::SevSnpDocument {
            tpm: self.statement(binding),
            ak_certificate,
            certificates: vec![authority],
            snp_report: self.signed_report(&gcp::report_data(binding, &self.key())),
            snp_certificates: Self::amds(),
        }
    }

    /// On Google Cloud, TDX.
    #[must_use]
    pub fn gcp_tdx(&self, makers: &Makers, binding: &Binding) -> gcp::TdxDocument {
        let [ak_certificate, authority] = self.certified_by_google(makers);
        let report_data = gcp::report_data(binding, &self.key());
        gcp::TdxDocument {
            tpm: self.statement(binding),
            ak_certificate,
            certificates: vec![authority],
            td_quote: self.quoted_by(makers, report_data),
        }
    }
}
