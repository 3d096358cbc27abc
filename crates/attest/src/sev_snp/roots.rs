//! AMD's root and signing keys. The roots come with this crate, never from a peer.

use super::product::ProductLine;
use crate::x509::Certificate;

/// Root and known signing certificates of one product line.
#[derive(Clone, Debug)]
pub struct LineRoot {
    /// The line.
    pub line: ProductLine,
    /// AMD root key: self-signed, RSA-4096.
    pub ark: Certificate,
    /// AMD SEV signing keys, for VCEK (ASK) and VLEK (ASVK). A peer may offer newer ones; they count only under the root.
    pub signing: Vec<Certificate>,
}

/// The roots of all product lines.
#[derive(Clone, Debug)]
pub struct Roots(Vec<LineRoot>);

/// DER of the root and the signing certificates of a line, as AMD's key service serves them.
const BUILT_IN: [(ProductLine, [&[u8]; 3]); 3] = [
    (
        ProductLine::Milan,
        [
            include_bytes!("../roots/amd/ark-milan.der"),
            include_bytes!("../roots/amd/ask-milan.der"),
            include_bytes!("../roots/amd/asvk-milan.der"),
        ],
    ),
    (
        ProductLine::Genoa,
        [
            include_bytes!("../roots/amd/ark-genoa.der"),
            include_bytes!("../roots/amd/ask-genoa.der"),
            include_bytes!("../roots/amd/asvk-genoa.der"),
        ],
    ),
    (
        ProductLine::Turin,
        [
            include_bytes!("../roots/amd/ark-turin.der"),
            include_bytes!("../roots/amd/ask-turin.der"),
            include_bytes!("../roots/amd/asvk-turin.der"),
        ],
    ),
];

impl Roots {
    /// AMD's own, built in.
    #[must_use]
    pub fn amd() -> Self {
        // a file that does not parse would leave its line without a root, and so refused; a test holds all of them
        Self(
            BUILT_IN
                .into_iter()
                .filter_map(|(line, [ark, ask, asvk])| {
                    Some(LineRoot {
                        line,
                        ark: Certificate::parse(ark).ok()?,
                        signing: vec![
                            Certificate::parse(ask).ok()?,
                            Certificate::parse(asvk).ok()?,
                        ],
                    })
                })
                .collect(),
        )
    }

    /// Other roots: a test's.
    #[must_use]
    pub fn of(lines: impl IntoIterator<Item = LineRoot>) -> Self {
        Self(lines.into_iter().collect())
    }

    /// The root of a line, if there is one.
    #[must_use]
    pub fn line(&self, line: ProductLine) -> Option<&LineRoot> {
        self.0.iter().find(|root| root.line == line)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_line_has_a_self_signed_root_and_both_signing_keys_by_amds_names() {
        let roots = Roots::amd();
        for line in ProductLine::ALL {
            let root = roots.line(line).unwrap();
            let name =
                |certificate: &Certificate| certificate.subject().common_name().unwrap().to_owned();
            assert_eq!(name(&root.ark), format!("ARK-{line}"));
            assert!(root.ark.is_self_issued() && root.ark.is_ca());
            let names: Vec<String> = root.signing.iter().map(name).collect();
            assert_eq!(names, [format!("SEV-{line}"), format!("SEV-VLEK-{line}")]);
            for signing in &root.signing {
                assert_eq!(signing.issuer(), root.ark.subject());
            }
        }
    }
}
