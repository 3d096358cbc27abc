//! Items by name: what the CLI prints and takes, and what manifests say.

use std::fmt;
use std::str::FromStr;

use super::{CrlUrl, Item, Product, Vcek};

/// Why something is no item.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ItemError {
    /// The name's beginning is none of ours.
    #[error("no such kind of item")]
    Kind,
    /// Fewer or more parts than the kind has.
    #[error("the name has too few or too many parts")]
    Parts,
    /// A word that is not one of a few.
    #[error("unknown {what}; there are {choices}")]
    Choice {
        /// What the word stands for.
        what: &'static str,
        /// The words there are.
        choices: &'static str,
    },
    /// Not a TCB version.
    #[error("not a TCB version such as bl=4,tee=0,snp=24,ucode=217")]
    Tcb,
    /// A TCB version with an FMC where the product line has none, or the other way round.
    #[error("the TCB version is not laid out as one of {product}")]
    TcbLayout {
        /// The product line.
        product: Product,
    },
    /// A chip identifier of a length that the product line does not have.
    #[error("a chip of {product} is identified by {} bytes, not {actual}", product.chip_id_length())]
    ChipIdLength {
        /// The product line.
        product: Product,
        /// Its length, in bytes.
        actual: usize,
    },
    /// A chip identifier of zeros.
    #[error(
        "the chip identifier is all zero: the host masks it, or the report is signed by a VLEK"
    )]
    ChipIdHidden,
    /// Not hexadecimal.
    #[error("not hexadecimal")]
    Hex,
    /// Not an FMSPC.
    #[error("an FMSPC is 12 hexadecimal digits")]
    Fmspc,
    /// Not a URL that a revocation list can have.
    #[error("not a plain http or https URL of at most 512 characters")]
    Url,
}

impl fmt::Display for Item {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::AmdVcek(vcek) => write!(
                f,
                "amd-vcek/{}/{}/{}",
                vcek.product(),
                vcek.chip(),
                vcek.tcb()
            ),
            Self::AmdChain { product, signer } => write!(f, "amd-chain/{product}/{signer}"),
            Self::AmdCrl { product, signer } => write!(f, "amd-crl/{product}/{signer}"),
            Self::IntelTcbInfo { fmspc, update } => {
                write!(f, "intel-tdx-tcb-info/{fmspc}/{update}")
            }
            Self::IntelQeIdentity { update } => write!(f, "intel-td-qe-identity/{update}"),
            Self::IntelPckCrl { ca } => write!(f, "intel-pck-crl/{ca}"),
            Self::IntelRootCrl => f.write_str("intel-root-crl"),
            Self::Crl(url) => write!(f, "crl/{url}"),
        }
    }
}

impl FromStr for Item {
    type Err = ItemError;

    fn from_str(text: &str) -> Result<Self, ItemError> {
        if let Some(url) = text.strip_prefix("crl/") {
            return CrlUrl::parse(url).map(Self::Crl);
        }
        let mut parts = text.split('/');
        let kind = parts.next().unwrap_or_default();
        let parts: Vec<&str> = parts.take(4).collect();
        match (kind, parts.as_slice()) {
            ("amd-vcek", [product, chip, tcb]) => {
                let chip = hex::decode(chip).map_err(|_| ItemError::Hex)?;
                Vcek::new(product.parse()?, &chip, tcb.parse()?).map(Self::AmdVcek)
            }
            ("amd-chain", [product, signer]) => Ok(Self::AmdChain {
                product: product.parse()?,
                signer: signer.parse()?,
            }),
            ("amd-crl", [product, signer]) => Ok(Self::AmdCrl {
                product: product.parse()?,
                signer: signer.parse()?,
            }),
            ("intel-tdx-tcb-info", [fmspc, update]) => Ok(Self::IntelTcbInfo {
                fmspc: fmspc.parse()?,
                update: update.parse()?,
            }),
            ("intel-td-qe-identity", [update]) => Ok(Self::IntelQeIdentity {
                update: update.parse()?,
            }),
            ("intel-pck-crl", [ca]) => Ok(Self::IntelPckCrl { ca: ca.parse()? }),
            ("intel-root-crl", []) => Ok(Self::IntelRootCrl),
            (
                "amd-vcek"
                | "amd-chain"
                | "amd-crl"
                | "intel-tdx-tcb-info"
                | "intel-td-qe-identity"
                | "intel-pck-crl"
                | "intel-root-crl",
                _,
            ) => Err(ItemError::Parts),
            _ => Err(ItemError::Kind),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::item::tests::one_of_each;

    #[test]
    fn every_item_is_found_again_by_its_name() {
        for item in one_of_each() {
            assert_eq!(item.to_string().parse(), Ok(item));
        }
    }

    #[test]
    fn what_is_no_name_is_refused_for_its_reason() {
        for (text, expected) in [
            ("", ItemError::Kind),
            ("amd", ItemError::Kind),
            ("amd-crl", ItemError::Parts),
            ("amd-crl/milan/vcek/", ItemError::Parts),
            ("intel-root-crl/", ItemError::Parts),
            (
                "amd-crl/rome/vcek",
                ItemError::Choice {
                    what: "product line",
                    choices: "milan, genoa, turin",
                },
            ),
            ("intel-tdx-tcb-info/90c06f/early", ItemError::Fmspc),
            (
                "amd-vcek/milan/zz/bl=4,tee=0,snp=24,ucode=217",
                ItemError::Hex,
            ),
            ("crl/ftp://a/b", ItemError::Url),
        ] {
            assert_eq!(text.parse::<Item>(), Err(expected), "{text:?}");
        }
    }
}
