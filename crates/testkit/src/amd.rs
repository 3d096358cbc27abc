//! AMD's key hierarchy with keys of a test: root (ARK), signing keys (ASK, ASVK), keys of a chip and of a provider (VCEK, VLEK), revocation
//! lists, reports. Names, algorithms and extensions are AMD's, so that a test can say one lie that is signed all the way up. The real
//! roots refuse all of it.

use std::sync::OnceLock;

use attest::sev_snp::{LineRoot, ProductLine, RawTcb, Roots, TcbLayout, VekKind, oid};
use attest::x509::Certificate;
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::{KeyPair as RsaKeyPair, KeySize};
use aws_lc_rs::signature::{
    ECDSA_P384_SHA384_FIXED_SIGNING, EcdsaKeyPair, KeyPair as _, RSA_PSS_SHA384,
};

mod der;
mod report;

pub use report::{ReportBytes, chip_id, offset, tcb};

use der::{context, tlv};

/// Validity of authorities and, unless a test says otherwise, of everything below: first and last second, `YYMMDDHHMMSSZ`.
pub const VALIDITY: [&str; 2] = ["200101000000Z", "480101000000Z"];

/// Serial number of the ASK. Those of ARK and ASVK are the numbers beside it.
pub const ASK_SERIAL: [u8; 3] = [0x0a, 0, 1];
/// Serial number of the ASVK.
pub const ASVK_SERIAL: [u8; 3] = [0x0a, 0, 2];
const ARK_SERIAL: [u8; 3] = [0x0a, 0, 0];

/// Keys are made once for a process: RSA-4096 takes a second.
struct Keys {
    ark: RsaKeyPair,
    ask: RsaKeyPair,
    asvk: RsaKeyPair,
    vek: EcdsaKeyPair,
    other_vek: EcdsaKeyPair,
}

fn keys() -> &'static Keys {
    static KEYS: OnceLock<Keys> = OnceLock::new();
    let rsa = || RsaKeyPair::generate(KeySize::Rsa4096).expect("a key is made");
    let p384 = || EcdsaKeyPair::generate(&ECDSA_P384_SHA384_FIXED_SIGNING).expect("a key is made");
    KEYS.get_or_init(|| Keys {
        ark: rsa(),
        ask: rsa(),
        asvk: rsa(),
        vek: p384(),
        other_vek: p384(),
    })
}

/// The authorities of one product line.
#[derive(Clone, Copy, Debug)]
pub struct Amd {
    line: ProductLine,
}

/// What a certificate of a VCEK or VLEK says. [`Amd::vek`] fills in the truth; a test changes one part.
#[derive(Clone, Debug)]
pub struct VekParts {
    /// Decides which authority signs.
    pub kind: VekKind,
    /// Common name of the subject.
    pub subject: String,
    /// Common name of the issuer.
    pub issuer: String,
    /// First and last second, `YYMMDDHHMMSSZ`.
    pub validity: [String; 2],
    /// Dotted object identifier and value.
    pub extensions: Vec<(&'static str, Vec<u8>)>,
    /// `SubjectPublicKeyInfo`.
    pub spki: Vec<u8>,
}

impl VekParts {
    /// Replaces the value of an extension, or adds it.
    pub fn set(&mut self, oid: &'static str, value: Vec<u8>) {
        self.remove(oid);
        self.extensions.push((oid, value));
    }

    /// Takes an extension away.
    pub fn remove(&mut self, oid: &str) {
        self.extensions.retain(|(other, _)| *other != oid);
    }
}

impl Amd {
    /// The authorities of a product line. All lines share the keys of this process, as AMD's do not.
    #[must_use]
    pub const fn new(line: ProductLine) -> Self {
        Self { line }
    }

    /// The root and both signing keys.
    #[must_use]
    pub fn root(self) -> LineRoot {
        let parse = |der: &[u8]| Certificate::parse(der).expect("a certificate of this module");
        LineRoot {
            line: self.line,
            ark: parse(&self.ark()),
            signing: vec![parse(&self.ask()), parse(&self.asvk())],
        }
    }

    /// Roots of this line alone.
    #[must_use]
    pub fn roots(self) -> Roots {
        Roots::of([self.root()])
    }

    /// DER of the root.
    #[must_use]
    pub fn ark(self) -> Vec<u8> {
        self.authority(&ARK_SERIAL, &self.ark_name(), &keys().ark, None)
    }

    /// DER of the signing key for VCEKs.
    #[must_use]
    pub fn ask(self) -> Vec<u8> {
        let name = VekKind::Vcek.issuer_name(self.line);
        self.authority(&ASK_SERIAL, &name, &keys().ask, Some(0))
    }

    /// DER of the signing key for VLEKs.
    #[must_use]
    pub fn asvk(self) -> Vec<u8> {
        let name = VekKind::Vlek.issuer_name(self.line);
        self.authority(&ASVK_SERIAL, &name, &keys().asvk, Some(0))
    }

    /// What the certificate of this line's key says, for the levels and the chip of [`ReportBytes::new`].
    #[must_use]
    pub fn vek(self, kind: VekKind) -> VekParts {
        let RawTcb(levels) = tcb(self.line).encode();
        let mut extensions = vec![
            (
                oid::STRUCT_VERSION,
                integer(match self.line.tcb_layout() {
                    TcbLayout::MilanGenoa => 0,
                    TcbLayout::Turin => 1,
                }),
            ),
            (oid::PRODUCT_NAME, ia5(self.line.name())),
        ];
        let order = match self.line.tcb_layout() {
            TcbLayout::MilanGenoa => [
                oid::BOOT_LOADER,
                oid::TEE,
                oid::SPL4,
                oid::SPL5,
                oid::SPL6,
                oid::SPL7,
                oid::SNP,
                oid::MICROCODE,
            ],
            TcbLayout::Turin => [
                oid::FMC,
                oid::BOOT_LOADER,
                oid::TEE,
                oid::SNP,
                oid::SPL5,
                oid::SPL6,
                oid::SPL7,
                oid::MICROCODE,
            ],
        };
        extensions.extend(order.into_iter().zip(levels.map(integer)));
        extensions.push(match kind {
            VekKind::Vcek => {
                let used = match self.line.tcb_layout() {
                    TcbLayout::MilanGenoa => 64,
                    TcbLayout::Turin => 8,
                };
                (oid::HARDWARE_ID, chip_id(self.line)[..used].to_vec())
            }
            VekKind::Vlek => (oid::CSP_ID, ia5("CN=cc-test-1.example.com")),
        });
        VekParts {
            kind,
            subject: kind.common_name().to_owned(),
            issuer: kind.issuer_name(self.line),
            validity: VALIDITY.map(str::to_owned),
            extensions,
            spki: p384_spki(keys().vek.public_key().as_ref()),
        }
    }

    /// DER of such a certificate, signed by ASK or ASVK.
    #[must_use]
    pub fn issue(self, parts: &VekParts) -> Vec<u8> {
        let extensions: Vec<Vec<u8>> = parts
            .extensions
            .iter()
            .map(|(oid, value)| extension(oid, false, value))
            .collect();
        let issuer = match parts.kind {
            VekKind::Vcek => &keys().ask,
            VekKind::Vlek => &keys().asvk,
        };
        certificate(
            &[0],
            &parts.issuer,
            &parts.subject,
            [&parts.validity[0], &parts.validity[1]],
            &parts.spki,
            &extensions,
            issuer,
        )
    }

    /// DER of a revocation list of the root: serial numbers, first second, and the second at which the next list is due.
    #[must_use]
    pub fn crl(self, revoked: &[&[u8]], validity: [&str; 2]) -> Vec<u8> {
        let (list, ark) = (
            self.crl_of(&self.ark_name(), revoked, validity),
            &keys().ark,
        );
        signed(&list, ark)
    }

    /// A list in the name of `issuer` that nobody of that name signed: an ASK signs none, and the key is not the root's.
    #[must_use]
    pub fn stray_crl(self, issuer: &str, revoked: &[&[u8]], validity: [&str; 2]) -> Vec<u8> {
        signed(&self.crl_of(issuer, revoked, validity), &keys().ask)
    }

    fn crl_of(
        self,
        issuer: &str,
        revoked: &[&[u8]],
        [this_update, next_update]: [&str; 2],
    ) -> Vec<u8> {
        let entries: Vec<u8> = revoked
            .iter()
            .flat_map(|serial| tlv(der::SEQUENCE, &[&der::unsigned(serial), &time(this_update)]))
            .collect();
        let number = tlv(
            der::SEQUENCE,
            &[&tlv(
                der::SEQUENCE,
                &[
                    &der::oid("2.5.29.20"),
                    &tlv(der::OCTET_STRING, &[&der::unsigned(&[1])]),
                ],
            )],
        );
        let mut fields = vec![
            der::unsigned(&[1]),
            pss_sha384(),
            name(issuer),
            time(this_update),
            time(next_update),
        ];
        if !revoked.is_empty() {
            fields.push(tlv(der::SEQUENCE, &[&entries]));
        }
        fields.push(tlv(context(0), &[&number]));
        tlv(der::SEQUENCE, &[&fields.concat()])
    }

    fn ark_name(self) -> String {
        format!("ARK-{}", self.line)
    }

    fn authority(
        self,
        serial: &[u8],
        subject: &str,
        key: &RsaKeyPair,
        path_length: Option<u8>,
    ) -> Vec<u8> {
        let path_length = path_length.map_or_else(Vec::new, integer);
        let constraints = tlv(der::SEQUENCE, &[&der::TRUE, &path_length]);
        // keyCertSign, and for the root cRLSign
        let usage = if path_length.is_empty() {
            [1, 0x06]
        } else {
            [2, 0x04]
        };
        let rsa = tlv(
            der::SEQUENCE,
            &[&der::oid("1.2.840.113549.1.1.1"), &der::NULL],
        );
        let spki = tlv(
            der::SEQUENCE,
            &[
                &rsa,
                &tlv(der::BIT_STRING, &[&[0], key.public_key().as_ref()]),
            ],
        );
        certificate(
            serial,
            &self.ark_name(),
            subject,
            VALIDITY,
            &spki,
            &[
                extension("2.5.29.19", true, &constraints),
                extension("2.5.29.15", true, &tlv(der::BIT_STRING, &[&usage])),
            ],
            &keys().ark,
        )
    }
}

/// The key of [`Amd::vek`].
#[must_use]
pub fn vek_key() -> &'static EcdsaKeyPair {
    &keys().vek
}

/// A key that no certificate of this module is for.
#[must_use]
pub fn other_key() -> &'static EcdsaKeyPair {
    &keys().other_vek
}

/// DER of a small integer.
#[must_use]
pub fn integer(value: u8) -> Vec<u8> {
    der::unsigned(&[value])
}

/// DER of a short text.
#[must_use]
pub fn ia5(text: &str) -> Vec<u8> {
    tlv(der::IA5_STRING, &[text.as_bytes()])
}

/// `SubjectPublicKeyInfo` of a P-256 key, which AMD never certifies.
#[must_use]
pub fn p256_spki() -> Vec<u8> {
    let key = EcdsaKeyPair::generate(&aws_lc_rs::signature::ECDSA_P256_SHA256_FIXED_SIGNING)
        .expect("a key is made");
    ec_spki("1.2.840.10045.3.1.7", key.public_key().as_ref())
}

/// `SubjectPublicKeyInfo` of the P-384 key with this point.
#[must_use]
pub fn p384_spki(point: &[u8]) -> Vec<u8> {
    ec_spki("1.3.132.0.34", point)
}

fn ec_spki(curve: &str, point: &[u8]) -> Vec<u8> {
    let algorithm = tlv(
        der::SEQUENCE,
        &[&der::oid("1.2.840.10045.2.1"), &der::oid(curve)],
    );
    tlv(
        der::SEQUENCE,
        &[&algorithm, &tlv(der::BIT_STRING, &[&[0], point])],
    )
}

/// RSA-PSS with SHA-384, MGF1 of SHA-384, a salt of 48 bytes.
fn pss_sha384() -> Vec<u8> {
    let sha384 = tlv(
        der::SEQUENCE,
        &[&der::oid("2.16.840.1.101.3.4.2.2"), &der::NULL],
    );
    let mgf1 = tlv(der::SEQUENCE, &[&der::oid("1.2.840.113549.1.1.8"), &sha384]);
    let parameters = tlv(
        der::SEQUENCE,
        &[
            &tlv(context(0), &[&sha384]),
            &tlv(context(1), &[&mgf1]),
            &tlv(context(2), &[&integer(48)]),
        ],
    );
    tlv(
        der::SEQUENCE,
        &[&der::oid("1.2.840.113549.1.1.10"), &parameters],
    )
}

/// A distinguished name of AMD's form.
fn name(common_name: &str) -> Vec<u8> {
    let attributes: Vec<u8> = [
        ("2.5.4.11", der::UTF8_STRING, "Engineering"),
        ("2.5.4.6", der::PRINTABLE_STRING, "US"),
        ("2.5.4.7", der::UTF8_STRING, "Santa Clara"),
        ("2.5.4.8", der::UTF8_STRING, "CA"),
        ("2.5.4.10", der::UTF8_STRING, "Advanced Micro Devices"),
        ("2.5.4.3", der::UTF8_STRING, common_name),
    ]
    .into_iter()
    .flat_map(|(oid, tag, text)| {
        let value = tlv(tag, &[text.as_bytes()]);
        let attribute = tlv(der::SEQUENCE, &[&der::oid(oid), &value]);
        tlv(der::SET, &[&attribute])
    })
    .collect();
    tlv(der::SEQUENCE, &[&attributes])
}

fn time(utc: &str) -> Vec<u8> {
    tlv(der::UTC_TIME, &[utc.as_bytes()])
}

fn extension(oid: &str, critical: bool, value: &[u8]) -> Vec<u8> {
    let critical: &[u8] = if critical { &der::TRUE } else { &[] };
    tlv(
        der::SEQUENCE,
        &[&der::oid(oid), critical, &tlv(der::OCTET_STRING, &[value])],
    )
}

fn certificate(
    serial: &[u8],
    issuer: &str,
    subject: &str,
    validity: [&str; 2],
    spki: &[u8],
    extensions: &[Vec<u8>],
    key: &RsaKeyPair,
) -> Vec<u8> {
    let to_be_signed = tlv(
        der::SEQUENCE,
        &[
            &tlv(context(0), &[&integer(2)]),
            &der::unsigned(serial),
            &pss_sha384(),
            &name(issuer),
            &tlv(der::SEQUENCE, &[&time(validity[0]), &time(validity[1])]),
            &name(subject),
            spki,
            &tlv(context(3), &[&tlv(der::SEQUENCE, &[&extensions.concat()])]),
        ],
    );
    signed(&to_be_signed, key)
}

fn signed(to_be_signed: &[u8], key: &RsaKeyPair) -> Vec<u8> {
    let mut signature = vec![0; key.public_modulus_len()];
    key.sign(
        &RSA_PSS_SHA384,
        &SystemRandom::new(),
        to_be_signed,
        &mut signature,
    )
    .expect("an RSA key signs");
    tlv(
        der::SEQUENCE,
        &[
            to_be_signed,
            &pss_sha384(),
            &tlv(der::BIT_STRING, &[&[0], &signature]),
        ],
    )
}
