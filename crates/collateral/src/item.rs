//! What can be fetched: a closed enum. Each item has one name for people and one for files, and both are made here from
//! checked parts, never from foreign bytes.

mod amd;
mod crl;
mod intel;
mod text;

use attest::x509::{MAX_CERTIFICATE, MAX_CRL};
use aws_lc_rs::digest;

pub use amd::{ChipId, Product, Signer, TcbVersion, Vcek};
pub use crl::CrlUrl;
pub use intel::{Fmspc, PckCa, Update};
pub use text::ItemError;

/// One thing that a vendor publishes.
///
/// Its text (`Display`, `FromStr`) is what the CLI and manifests call it, such as `amd-crl/milan/vcek`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Item {
    /// Certificate of a chip's key at one TCB version. DER.
    AmdVcek(Vcek),
    /// What signs such keys and the root, of a product line. PEM, two certificates: ASK or ASVK, then ARK.
    AmdChain {
        /// The product line.
        product: Product,
        /// Whose chain.
        signer: Signer,
    },
    /// What the root of a product line has revoked. DER.
    AmdCrl {
        /// The product line.
        product: Product,
        /// Below which path of the service it lies: the certificates of each chain name their own.
        signer: Signer,
    },
    /// Intel's statement on TDX firmware of a platform family. JSON as signed, and the signer's chain.
    IntelTcbInfo {
        /// The platform family.
        fmspc: Fmspc,
        /// Which of the two statements.
        update: Update,
    },
    /// Intel's statement on the TD quoting enclave. JSON as signed, and the signer's chain.
    IntelQeIdentity {
        /// Which of the two statements.
        update: Update,
    },
    /// Platform certificates that a CA of Intel's has revoked. DER, and the CA's chain.
    IntelPckCrl {
        /// The CA.
        ca: PckCa,
    },
    /// What Intel's root has revoked. DER.
    IntelRootCrl,
    /// A revocation list at the place that a certificate names. DER.
    Crl(CrlUrl),
}

/// Whose service an item comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Vendor {
    /// AMD's key distribution service.
    Amd,
    /// Intel's provisioning certification service.
    Intel,
    /// Whoever publishes a revocation list by URL.
    Publisher,
}

impl std::fmt::Display for Vendor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Amd => "AMD's key distribution service",
            Self::Intel => "Intel's provisioning certification service",
            Self::Publisher => "the publisher of the revocation list",
        })
    }
}

/// The most bytes of a chain in PEM.
pub(crate) const MAX_CHAIN: usize = 64 << 10;

/// The format of an item's main part.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Format {
    Der,
    Pem,
    Json,
    Crl,
}

impl Item {
    /// Whose service it comes from.
    pub fn vendor(&self) -> Vendor {
        match self {
            Self::AmdVcek(_) | Self::AmdChain { .. } | Self::AmdCrl { .. } => Vendor::Amd,
            Self::IntelTcbInfo { .. }
            | Self::IntelQeIdentity { .. }
            | Self::IntelPckCrl { .. }
            | Self::IntelRootCrl => Vendor::Intel,
            Self::Crl(_) => Vendor::Publisher,
        }
    }

    pub(crate) fn format(&self) -> Format {
        match self {
            Self::AmdVcek(_) => Format::Der,
            Self::AmdChain { .. } => Format::Pem,
            Self::IntelTcbInfo { .. } | Self::IntelQeIdentity { .. } => Format::Json,
            Self::AmdCrl { .. } | Self::IntelPckCrl { .. } | Self::IntelRootCrl | Self::Crl(_) => {
                Format::Crl
            }
        }
    }

    /// Whether the chain of whoever signed it comes with it.
    pub fn has_issuer_chain(&self) -> bool {
        match self {
            Self::IntelTcbInfo { .. } | Self::IntelQeIdentity { .. } | Self::IntelPckCrl { .. } => {
                true
            }
            Self::AmdVcek(_)
            | Self::AmdChain { .. }
            | Self::AmdCrl { .. }
            | Self::IntelRootCrl
            | Self::Crl(_) => false,
        }
    }

    /// The most bytes its main part may have.
    pub fn limit(&self) -> usize {
        match self.format() {
            Format::Der => MAX_CERTIFICATE,
            Format::Pem => MAX_CHAIN,
            Format::Json => 512 << 10,
            Format::Crl => MAX_CRL,
        }
    }

    /// What its files are called, without the ending: at most [`MAX_STEM`] characters out of `a-z`, `0-9` and `-`.
    pub(crate) fn stem(&self) -> String {
        match self {
            Self::AmdVcek(vcek) => format!(
                "amd-vcek-{}-{}-{}",
                vcek.product(),
                short_hash(vcek.chip().as_bytes()),
                hex::encode(vcek.tcb().as_bytes()),
            ),
            Self::AmdChain { product, signer } => format!("amd-chain-{product}-{signer}"),
            Self::AmdCrl { product, signer } => format!("amd-crl-{product}-{signer}"),
            Self::IntelTcbInfo { fmspc, update } => format!("intel-tdx-tcb-info-{fmspc}-{update}"),
            Self::IntelQeIdentity { update } => format!("intel-td-qe-identity-{update}"),
            Self::IntelPckCrl { ca } => format!("intel-pck-crl-{ca}"),
            Self::IntelRootCrl => "intel-root-crl".to_owned(),
            Self::Crl(url) => format!("crl-{}", short_hash(url.as_str().as_bytes())),
        }
    }

    /// Whether some item has this [`Item::stem`].
    pub(crate) fn has_stem(name: &str) -> bool {
        let is_hex = |text: &str, digits| {
            text.len() == digits && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
        };
        if let Some(hash) = name.strip_prefix("crl-") {
            return is_hex(hash, 2 * SHORT_HASH);
        }
        if let Some(rest) = name.strip_prefix("amd-vcek-") {
            let parts: Vec<&str> = rest.split('-').collect();
            return matches!(parts.as_slice(), [product, chip, tcb]
                if product.parse::<Product>().is_ok() && is_hex(chip, 2 * SHORT_HASH) && (is_hex(tcb, 8) || is_hex(tcb, 10)));
        }
        // of all others the stem is the name, but for the slashes
        STEMS_OF_NAMES
            .iter()
            .filter_map(|kind| name.strip_prefix(kind).map(|rest| (kind, rest)))
            .filter_map(|(kind, rest)| {
                format!("{kind}{}", rest.replace('-', "/"))
                    .parse::<Self>()
                    .ok()
            })
            .any(|item| item.stem() == name)
    }

    /// The file of its main part, in a bundle.
    pub fn file_name(&self) -> String {
        let ending = match self.format() {
            Format::Der => "der",
            Format::Pem => "pem",
            Format::Json => "json",
            Format::Crl => "crl",
        };
        format!("{}.{ending}", self.stem())
    }

    /// The file of its issuer's chain, in a bundle; only of an item that [has one](Self::has_issuer_chain).
    pub fn chain_file_name(&self) -> Option<String> {
        self.has_issuer_chain()
            .then(|| format!("{}.chain.pem", self.stem()))
    }
}

/// Longest [`Item::stem`].
#[cfg(test)]
pub(crate) const MAX_STEM: usize = 80;

/// The kinds whose stem says all of an item.
const STEMS_OF_NAMES: [&str; 6] = [
    "amd-chain",
    "amd-crl",
    "intel-tdx-tcb-info",
    "intel-td-qe-identity",
    "intel-pck-crl",
    "intel-root-crl",
];

/// Bytes of a [`short_hash`].
const SHORT_HASH: usize = 16;

/// 128 bits of a hash: what is too long for a file's name, or is not ours to put into one.
fn short_hash(bytes: &[u8]) -> String {
    let hash = digest::digest(&digest::SHA256, bytes);
    hex::encode(
        hash.as_ref()
            .iter()
            .take(SHORT_HASH)
            .copied()
            .collect::<Vec<_>>(),
    )
}

#[cfg(test)]
pub(crate) mod tests {
    use std::collections::BTreeSet;

    use super::*;

    /// One of each kind, and of each choice within a kind.
    pub(crate) fn one_of_each() -> Vec<Item> {
        let mut items = vec![
            Item::IntelRootCrl,
            Item::Crl(CrlUrl::parse("http://pki.goog/cloud_integrity/tpm_ek_root_1.crl").unwrap()),
        ];
        for product in Product::ALL {
            let chip = match product {
                Product::Turin => vec![0xab; 8],
                Product::Milan | Product::Genoa => vec![0xab; 64],
            };
            let tcb = TcbVersion::from_raw(product, 0xd918_0000_0000_0004);
            items.push(Item::AmdVcek(Vcek::new(product, &chip, tcb).unwrap()));
            for signer in [Signer::Vcek, Signer::Vlek] {
                items.push(Item::AmdChain { product, signer });
                items.push(Item::AmdCrl { product, signer });
            }
        }
        for update in [Update::Early, Update::Standard] {
            let fmspc = Fmspc::new([0x90, 0xc0, 0x6f, 0, 0, 0]);
            items.push(Item::IntelTcbInfo { fmspc, update });
            items.push(Item::IntelQeIdentity { update });
        }
        for ca in [PckCa::Platform, PckCa::Processor] {
            items.push(Item::IntelPckCrl { ca });
        }
        items
    }

    #[test]
    fn names_are_distinct_and_fit_for_files() {
        let items = one_of_each();
        let names: BTreeSet<_> = items.iter().map(Item::stem).collect();
        assert_eq!(names.len(), items.len());
        for name in names {
            assert!(name.len() <= MAX_STEM, "{name}");
            assert!(
                name.chars()
                    .all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-'),
                "{name}"
            );
        }
    }

    #[test]
    fn a_stem_is_told_from_other_names() {
        for item in one_of_each() {
            let stem = item.stem();
            assert!(Item::has_stem(&stem), "{stem}");
            for other in [
                format!("{stem}-2"),
                format!("my-{stem}"),
                stem.to_uppercase(),
            ] {
                assert!(!Item::has_stem(&other), "{other}");
            }
        }
        for other in [
            "",
            "backup",
            "crl-",
            "amd-crl",
            "amd-crl/milan/vcek",
            "amd-vcek-milan",
        ] {
            assert!(!Item::has_stem(other), "{other}");
        }
    }
}
