//! Documents of AWS's form with a root of a test's own: every shape, one lie at a time. The production root refuses all
//! of them.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context as _, Result, anyhow};
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{ECDSA_P384_SHA384_FIXED_SIGNING, EcdsaKeyPair};
use rcgen::{
    BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, KeyUsagePurpose,
    PKCS_ECDSA_P384_SHA384,
};

/// As long as AWS's.
const LEAF_LIFE: u64 = 3 * 60 * 60;

/// CBOR (RFC 8949), written by hand, so that a test can write what no encoder would.
pub mod cbor {
    fn head(major: u8, value: u64) -> Vec<u8> {
        let major = major << 5;
        match value {
            0..=23 => vec![major | u8::try_from(value).unwrap_or(0)],
            24..=0xff => vec![major | 24, u8::try_from(value).unwrap_or(0)],
            0x100..=0xffff => {
                let value = u16::try_from(value).unwrap_or(0);
                [&[major | 25][..], &value.to_be_bytes()].concat()
            }
            0x1_0000..=0xffff_ffff => {
                let value = u32::try_from(value).unwrap_or(0);
                [&[major | 26][..], &value.to_be_bytes()].concat()
            }
            _ => [&[major | 27][..], &value.to_be_bytes()].concat(),
        }
    }

    /// A number.
    #[must_use]
    pub fn unsigned(value: u64) -> Vec<u8> {
        head(0, value)
    }

    /// A byte string.
    #[must_use]
    pub fn bytes(value: &[u8]) -> Vec<u8> {
        [head(2, value.len() as u64), value.to_vec()].concat()
    }

    /// A text.
    #[must_use]
    pub fn text(value: &str) -> Vec<u8> {
        [head(3, value.len() as u64), value.as_bytes().to_vec()].concat()
    }

    /// An array of encoded values.
    #[must_use]
    pub fn array(values: &[Vec<u8>]) -> Vec<u8> {
        [head(4, values.len() as u64), values.concat()].concat()
    }

    /// A map of encoded keys and values.
    #[must_use]
    pub fn map(pairs: &[(Vec<u8>, Vec<u8>)]) -> Vec<u8> {
        let mut out = head(5, pairs.len() as u64);
        for (key, value) in pairs {
            out.extend_from_slice(key);
            out.extend_from_slice(value);
        }
        out
    }

    /// Null.
    #[must_use]
    pub fn null() -> Vec<u8> {
        vec![0xf6]
    }
}

/// An authority of AWS's shape: root, two intermediates, and the certificate that signs.
#[derive(Debug)]
pub struct NitroCa {
    /// DER of the root.
    pub root: Vec<u8>,
    /// DER of the certificates in a document, the root first.
    pub bundle: Vec<Vec<u8>>,
    /// DER of the certificate that signs.
    pub leaf: Vec<u8>,
    key: KeyPair,
}

impl NitroCa {
    /// New keys; the leaf is valid for three hours from `from`, in seconds since 1970.
    ///
    /// # Errors
    /// When a key or a certificate cannot be made.
    pub fn new(from: u64) -> Result<Self> {
        let authority = |name: &str| -> Result<CertificateParams> {
            let mut params = named(name, from.saturating_sub(86_400), from + 86_400)?;
            params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
            params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
            Ok(params)
        };
        let new_key = || KeyPair::generate_for(&PKCS_ECDSA_P384_SHA384);

        let root_key = new_key()?;
        let root_params = authority("test.nitro-enclaves")?;
        let root = root_params.self_signed(&root_key)?.der().to_vec();
        let root_issuer = Issuer::new(root_params, root_key);

        let region_key = new_key()?;
        let region_params = authority("region.test.nitro-enclaves")?;
        let region = region_params.signed_by(&region_key, &root_issuer)?;
        let region_issuer = Issuer::new(region_params, region_key);

        let instance_key = new_key()?;
        let instance_params = authority("instance.test.nitro-enclaves")?;
        let instance = instance_params.signed_by(&instance_key, &region_issuer)?;
        let instance_issuer = Issuer::new(instance_params, instance_key);

        let key = new_key()?;
        let mut params = named("i-0-tpm.test", from, from + LEAF_LIFE)?;
        params.is_ca = IsCa::ExplicitNoCa;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        let leaf = params.signed_by(&key, &instance_issuer)?.der().to_vec();
        Ok(Self {
            bundle: vec![root.clone(), region.der().to_vec(), instance.der().to_vec()],
            root,
            leaf,
            key,
        })
    }

    /// A COSE_Sign1 over a payload, with this protected header.
    ///
    /// # Errors
    /// When the key does not sign by ES384.
    pub fn sign(&self, protected: &[u8], payload: &[u8]) -> Result<CoseParts> {
        let signed = cbor::array(&[
            cbor::text("Signature1"),
            cbor::bytes(protected),
            cbor::bytes(&[]),
            cbor::bytes(payload),
        ]);
        let key =
            EcdsaKeyPair::from_pkcs8(&ECDSA_P384_SHA384_FIXED_SIGNING, self.key.serialized_der())
                .map_err(|error| anyhow!("no key for ES384: {error}"))?;
        let signature = key
            .sign(&SystemRandom::new(), &signed)
            .map_err(|_| anyhow!("signing failed"))?;
        Ok(CoseParts {
            tag: None,
            protected: protected.to_vec(),
            unprotected: cbor::map(&[]),
            payload: payload.to_vec(),
            signature: signature.as_ref().to_vec(),
        })
    }
}

/// The parts of a COSE_Sign1.
#[derive(Clone, Debug)]
pub struct CoseParts {
    /// The encoded tag in front.
    pub tag: Option<Vec<u8>>,
    /// Content of the protected header.
    pub protected: Vec<u8>,
    /// The encoded unprotected header.
    pub unprotected: Vec<u8>,
    /// Content of the payload.
    pub payload: Vec<u8>,
    /// The signature.
    pub signature: Vec<u8>,
}

impl CoseParts {
    /// The document.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let array = cbor::array(&[
            cbor::bytes(&self.protected),
            self.unprotected.clone(),
            cbor::bytes(&self.payload),
            cbor::bytes(&self.signature),
        ]);
        [self.tag.clone().unwrap_or_default(), array].concat()
    }
}

/// The content of a protected header that says ES384.
#[must_use]
pub fn es384() -> Vec<u8> {
    cbor::map(&[(cbor::unsigned(1), vec![0x38, 0x22])])
}

/// The fields of a document. [`Claims::nitro_tpm`] and [`Claims::enclave`] fill in the truth; a test changes one.
#[derive(Clone, Debug)]
pub struct Claims(pub BTreeMap<String, Vec<u8>>);

impl Claims {
    /// What a NitroTPM with all 24 PCRs states at `seconds` since 1970.
    #[must_use]
    pub fn nitro_tpm(ca: &NitroCa, seconds: u64, nonce: &[u8]) -> Self {
        let pcrs = (0..24).map(|index| (index, vec![0x40 + u8::try_from(index).unwrap_or(0); 48]));
        Self::new(ca, seconds, "nitrotpm_pcrs", pcrs.collect(), nonce)
    }

    /// What an enclave's security module states at `seconds` since 1970.
    #[must_use]
    pub fn enclave(ca: &NitroCa, seconds: u64, nonce: &[u8]) -> Self {
        let pcr = |index: u64| match index {
            0..=2 | 4 => vec![0x60 + u8::try_from(index).unwrap_or(0); 48],
            _ => vec![0; 48],
        };
        let pcrs = (0..16).map(|index| (index, pcr(index)));
        Self::new(ca, seconds, "pcrs", pcrs.collect(), nonce)
    }

    fn new(
        ca: &NitroCa,
        seconds: u64,
        field: &str,
        pcrs: BTreeMap<u64, Vec<u8>>,
        nonce: &[u8],
    ) -> Self {
        let bundle: Vec<Vec<u8>> = ca.bundle.iter().map(|der| cbor::bytes(der)).collect();
        let mut claims = Self(BTreeMap::new());
        claims.set(
            "module_id",
            cbor::text("i-0123456789abcdef0-tpm0000000000000000"),
        );
        claims.set("digest", cbor::text("SHA384"));
        claims.set("timestamp", cbor::unsigned(seconds * 1000 + 437));
        claims.set_pcrs(field, &pcrs);
        claims.set("certificate", cbor::bytes(&ca.leaf));
        claims.set("cabundle", cbor::array(&bundle));
        claims.set("public_key", cbor::null());
        claims.set("user_data", cbor::null());
        claims.set("nonce", cbor::bytes(nonce));
        claims
    }

    /// Replaces a field by an encoded value.
    pub fn set(&mut self, field: &str, value: Vec<u8>) {
        self.0.insert(field.to_owned(), value);
    }

    /// Replaces the registers.
    pub fn set_pcrs(&mut self, field: &str, pcrs: &BTreeMap<u64, Vec<u8>>) {
        let pairs: Vec<(Vec<u8>, Vec<u8>)> = pcrs
            .iter()
            .map(|(index, value)| (cbor::unsigned(*index), cbor::bytes(value)))
            .collect();
        self.set(field, cbor::map(&pairs));
    }

    /// The payload.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let pairs: Vec<(Vec<u8>, Vec<u8>)> = self
            .0
            .iter()
            .map(|(name, value)| (cbor::text(name), value.clone()))
            .collect();
        cbor::map(&pairs)
    }
}

fn named(name: &str, from: u64, until: u64) -> Result<CertificateParams> {
    let epoch = rcgen::date_time_ymd(1970, 1, 1);
    let mut params = CertificateParams::default();
    params.distinguished_name = rcgen::DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, name);
    params.not_before = epoch
        .checked_add(Duration::from_secs(from).try_into()?)
        .context("no such time")?;
    params.not_after = epoch
        .checked_add(Duration::from_secs(until).try_into()?)
        .context("no such time")?;
    Ok(params)
}
