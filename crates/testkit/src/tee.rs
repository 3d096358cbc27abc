//! A TPM of a test: makes evidence with its own key, in this process. It is not a TPM and proves nothing; it is here so
//! that channel and services can be tested without a program, and so that a test can say a lie on purpose.

use std::sync::Mutex;
use std::sync::atomic::{AtomicU32, Ordering};

use attest::qemu_vtpm::Document;
use attest::{
    Binding, ClusterIdDigest, Digest, Evidence, Issue, IssueError, PcrIndex, PcrValues, Variant,
};
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair as _};

use crate::boot::Image;

/// fixedTPM, fixedParent, sensitiveDataOrigin, userWithAuth, noDA, restricted, sign.
pub const AK_ATTRIBUTES: u32 = 0x0005_0472;

/// A machine that booted an image and has a key of its own.
#[derive(Debug)]
pub struct SoftTpm {
    key: EcdsaKeyPair,
    pcrs: Mutex<PcrValues>,
    resets: AtomicU32,
    event_log: Vec<u8>,
    command_line: Option<String>,
}

/// The fields of a `TPMS_ATTEST` with a quote. [`SoftTpm::quote_parts`] fills in the truth; a test changes one.
#[derive(Clone, Debug)]
pub struct QuoteParts {
    /// `TPM_GENERATED_VALUE`.
    pub magic: u32,
    /// `TPM_ST_ATTEST_QUOTE`.
    pub kind: u16,
    /// Qualifying data.
    pub extra_data: Vec<u8>,
    /// `resetCount`.
    pub reset_count: u32,
    /// Bank and bitmap.
    pub selections: Vec<(u16, Vec<u8>)>,
    /// Digest over the selected PCRs.
    pub pcr_digest: Vec<u8>,
}

/// The fields of a `TPMT_PUBLIC` of an ECC signing key.
#[derive(Clone, Debug)]
pub struct PublicParts {
    /// `TPMA_OBJECT`.
    pub attributes: u32,
    /// `TPM_ECC_CURVE`.
    pub curve: u16,
    /// Signing scheme and its hash.
    pub scheme: (u16, u16),
    /// Symmetric algorithm; null for a signing key.
    pub symmetric: u16,
    /// Coordinates.
    pub point: (Vec<u8>, Vec<u8>),
}

impl SoftTpm {
    /// A new machine with a new key, right after it booted `image`.
    #[must_use]
    pub fn boot(image: &Image) -> Self {
        Self {
            key: EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).expect("a new P-256 key"),
            pcrs: Mutex::new(image.pcrs()),
            resets: AtomicU32::new(0),
            event_log: image.event_log(),
            command_line: Some(image.command_line()),
        }
    }

    /// A machine that booted somewhere else and left these traces.
    ///
    /// # Panics
    /// When no key can be made.
    #[must_use]
    pub fn from_traces(pcrs: PcrValues, event_log: Vec<u8>, command_line: String) -> Self {
        Self {
            key: EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).expect("a new P-256 key"),
            pcrs: Mutex::new(pcrs),
            resets: AtomicU32::new(0),
            event_log,
            command_line: Some(command_line),
        }
    }

    /// The machine stops and boots `image` again: its key stays, its PCRs do not.
    ///
    /// # Panics
    /// When a test panicked in this machine before.
    pub fn reboot(&self, image: &Image) {
        *self.pcrs.lock().expect("no test panics with the lock") = image.pcrs();
        self.resets.fetch_add(1, Ordering::Relaxed);
    }

    /// `TPM2_Clear`: the count of resets begins anew. A key of the endorsement hierarchy stays.
    pub fn clear(&self) {
        self.resets.store(0, Ordering::Relaxed);
    }

    /// Resets since the TPM was made or cleared.
    #[must_use]
    pub fn reset_count(&self) -> u32 {
        self.resets.load(Ordering::Relaxed)
    }

    /// Extends a PCR as software on the machine can at any time.
    pub fn extend(&self, pcr: PcrIndex, digest: &Digest) {
        self.pcrs
            .lock()
            .expect("no test panics with the lock")
            .extend(pcr, digest);
    }

    /// Marks the machine as a member of a cluster.
    pub fn join(&self, cluster_id: &[u8; 32]) {
        self.extend(
            PcrIndex::CLUSTER_MARK,
            ClusterIdDigest::of(cluster_id).digest(),
        );
    }

    /// The PCRs now.
    #[must_use]
    pub fn pcrs(&self) -> PcrValues {
        self.pcrs
            .lock()
            .expect("no test panics with the lock")
            .clone()
    }

    /// The event log of the boot.
    #[must_use]
    pub fn event_log(&self) -> &[u8] {
        &self.event_log
    }

    /// The true document over `binding`.
    #[must_use]
    pub fn document(&self, binding: &Binding) -> Document {
        let pcrs = self.pcrs();
        let parts = QuoteParts {
            reset_count: self.reset_count(),
            ..Self::quote_parts(binding, &pcrs)
        };
        let statement = parts.to_tpms_attest();
        Document {
            ak_public: self.public_parts().to_tpm2b(),
            quote: tpm2b(&statement),
            signature: self.sign(&statement),
            pcrs,
            event_log: self.event_log.clone(),
            command_line: self.command_line.clone(),
        }
    }

    /// What an honest TPM would state that was never reset.
    #[must_use]
    pub fn quote_parts(binding: &Binding, pcrs: &PcrValues) -> QuoteParts {
        QuoteParts {
            magic: 0xff54_4347,
            kind: 0x8018,
            extra_data: binding.qualifying_data().as_bytes().to_vec(),
            reset_count: 0,
            selections: vec![(0x000b, vec![0xff; 3])],
            pcr_digest: pcrs.quote_digest().as_bytes().to_vec(),
        }
    }

    /// The attestation key's public area.
    #[must_use]
    pub fn public_parts(&self) -> PublicParts {
        let point = self.key.public_key().as_ref();
        PublicParts {
            attributes: AK_ATTRIBUTES,
            curve: 0x0003,
            scheme: (0x0018, 0x000b),
            symmetric: 0x0010,
            point: (point[1..33].to_vec(), point[33..].to_vec()),
        }
    }

    /// Signs whatever it is given, which no TPM does with a restricted key.
    #[must_use]
    pub fn sign(&self, statement: &[u8]) -> Vec<u8> {
        let signature = self
            .key
            .sign(&SystemRandom::new(), statement)
            .expect("P-256 signs");
        let (r, s) = signature.as_ref().split_at(32);
        let mut bytes = vec![0x00, 0x18, 0x00, 0x0b];
        bytes.extend(tpm2b(r));
        bytes.extend(tpm2b(s));
        bytes
    }
}

impl Issue for SoftTpm {
    fn variant(&self) -> Variant {
        Variant::QemuVtpm
    }

    fn issue(&self, binding: &Binding) -> Result<Evidence, IssueError> {
        Evidence::new(Variant::QemuVtpm, self.document(binding).to_json())
            .map_err(|error| IssueError::new(Variant::QemuVtpm, error))
    }
}

impl QuoteParts {
    /// The bytes a TPM signs.
    #[must_use]
    pub fn to_tpms_attest(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        bytes.extend(self.magic.to_be_bytes());
        bytes.extend(self.kind.to_be_bytes());
        bytes.extend(tpm2b(
            &[0, 0x0b].into_iter().chain([7; 32]).collect::<Vec<u8>>(),
        )); // qualified signer
        bytes.extend(tpm2b(&self.extra_data));
        bytes.extend(1_000_u64.to_be_bytes()); // clock
        bytes.extend(self.reset_count.to_be_bytes());
        bytes.extend([0; 4]); // restarts
        bytes.push(1); // safe
        bytes.extend(0x2024_0125_0012_0000_u64.to_be_bytes()); // firmware
        let banks = u32::try_from(self.selections.len()).expect("few banks");
        bytes.extend(banks.to_be_bytes());
        for (bank, bitmap) in &self.selections {
            bytes.extend(bank.to_be_bytes());
            bytes.push(u8::try_from(bitmap.len()).expect("a short bitmap"));
            bytes.extend(bitmap);
        }
        bytes.extend(tpm2b(&self.pcr_digest));
        bytes
    }
}

impl PublicParts {
    /// The `TPM2B_PUBLIC`.
    #[must_use]
    pub fn to_tpm2b(&self) -> Vec<u8> {
        let mut area = vec![0x00, 0x23, 0x00, 0x0b]; // ECC, name by SHA-256
        area.extend(self.attributes.to_be_bytes());
        area.extend(tpm2b(&[])); // no policy
        area.extend(self.symmetric.to_be_bytes());
        area.extend(self.scheme.0.to_be_bytes());
        area.extend(self.scheme.1.to_be_bytes());
        area.extend(self.curve.to_be_bytes());
        area.extend(0x0010_u16.to_be_bytes()); // no KDF
        area.extend(tpm2b(&self.point.0));
        area.extend(tpm2b(&self.point.1));
        tpm2b(&area)
    }
}

/// A 16-bit length and the bytes.
#[must_use]
pub fn tpm2b(bytes: &[u8]) -> Vec<u8> {
    let length = u16::try_from(bytes.len()).expect("a TPM structure is short");
    let mut sized = length.to_be_bytes().to_vec();
    sized.extend_from_slice(bytes);
    sized
}
