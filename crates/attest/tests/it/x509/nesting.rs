//! Nothing stands behind the last field of a structure, in any of the structures that lie in one another.

use attest::x509::{Certificate, Crl, Name, Path, PathRules, PublicKey, Revocation};

use super::ca::{
    Algorithm, Authority, CrlTemplate, Extension, Key, SHA256, Template, basic_constraints,
    key_usage, now, oid, pss, seq, tlv,
};

/// An element: its tag, and either its contents or the elements in it.
#[derive(Clone)]
enum Node {
    Primitive(u8, Vec<u8>),
    Constructed(u8, Vec<Node>),
}

fn nodes(mut bytes: &[u8]) -> Vec<Node> {
    let mut nodes = Vec::new();
    while let [tag, length, ..] = *bytes {
        let (start, length) = match length {
            0x81 => (3, usize::from(bytes[2])),
            0x82 => (4, usize::from(u16::from_be_bytes([bytes[2], bytes[3]]))),
            short => (2, usize::from(short)),
        };
        let contents = &bytes[start..start + length];
        nodes.push(if tag & 0x20 == 0 {
            Node::Primitive(tag, contents.to_vec())
        } else {
            Node::Constructed(tag, self::nodes(contents))
        });
        bytes = &bytes[start + length..];
    }
    nodes
}

fn write(nodes: &[Node]) -> Vec<u8> {
    let one = |node: &Node| match node {
        Node::Primitive(tag, contents) => tlv(*tag, contents),
        Node::Constructed(tag, inside) => tlv(*tag, &write(inside)),
    };
    nodes.iter().flat_map(one).collect()
}

/// The same bytes with a NULL behind the last element of one structure, for each structure in them; where it is, as the numbers of
/// the elements from the outside in.
fn longer(bytes: &[u8]) -> Vec<(Vec<usize>, Vec<u8>)> {
    fn add(all: &[Node], here: &[Node], path: &[usize], found: &mut Vec<(Vec<usize>, Vec<u8>)>) {
        for (number, node) in here.iter().enumerate() {
            if let Node::Constructed(_, inside) = node {
                let path = [path, &[number]].concat();
                let mut changed = all.to_vec();
                let mut place = &mut changed;
                for step in &path {
                    let Node::Constructed(_, inside) = &mut place[*step] else {
                        unreachable!("a path leads through structures");
                    };
                    place = inside;
                }
                place.push(Node::Primitive(5, Vec::new()));
                found.push((path.clone(), write(&changed)));
                add(all, inside, &path, found);
            }
        }
    }
    let all = nodes(bytes);
    assert_eq!(write(&all), bytes);
    let mut found = Vec::new();
    add(&all, &all, &[], &mut found);
    found
}

fn everything() -> Template {
    Template {
        extensions: vec![
            basic_constraints(true, Some(1)),
            key_usage(0x06),
            Extension {
                oid: "1.2.3.4",
                critical: false,
                value: vec![4, 0],
            },
        ],
        ..Template::authority("root")
    }
}

#[test]
fn nothing_stands_behind_a_part_of_a_certificate() {
    for key in [Key::p256(), Key::p384(), Key::rsa()] {
        let der = everything().signed("root", &key, &key.spki());
        assert!(Certificate::parse(&der).is_ok());
        let all = longer(&der);
        assert!(all.len() > 18, "{}", all.len());
        for (path, bytes) in all {
            // what an RSA key is said to be for is not looked at
            let is_purpose = matches!(key, Key::Rsa(_)) && path == [0, 0, 6, 0];
            assert_eq!(Certificate::parse(&bytes).is_ok(), is_purpose, "{path:?}");
        }
    }
}

#[test]
fn nothing_stands_behind_a_part_of_a_list() {
    let reason = Extension {
        oid: "2.5.29.21",
        critical: false,
        value: vec![0x0a, 1, 1],
    };
    let template = CrlTemplate {
        revoked: vec![(vec![1], vec![reason])],
        ..CrlTemplate::of(&[])
    };
    let der = template.signed("root", &Key::p256());
    assert!(Crl::parse(&der).is_ok());
    let all = longer(&der);
    assert!(all.len() > 12, "{}", all.len());
    for (path, bytes) in all {
        assert!(Crl::parse(&bytes).is_err(), "{path:?}");
    }
}

#[test]
fn nothing_stands_behind_a_part_of_a_key() {
    for key in [Key::p256(), Key::p384(), Key::rsa()] {
        let spki = key.spki();
        assert!(PublicKey::from_spki(&spki).is_ok());
        for (path, bytes) in longer(&spki) {
            let is_purpose = matches!(key, Key::Rsa(_)) && path == [0, 0];
            assert_eq!(PublicKey::from_spki(&bytes).is_ok(), is_purpose, "{path:?}");
        }
        assert!(PublicKey::from_spki(&[&spki[..], &[5, 0]].concat()).is_err());
    }
    // inside the bits of an RSA key
    let modulus = [&[0][..], &[0xff; 256]].concat();
    let rsa = |inside: &[u8], behind: &[u8]| {
        let key = [
            seq(&[&tlv(2, &modulus), &tlv(2, &[1, 0, 1]), inside]),
            behind.to_vec(),
        ]
        .concat();
        let algorithm = seq(&[&oid("1.2.840.113549.1.1.1"), &tlv(5, &[])]);
        PublicKey::from_spki(&seq(&[&algorithm, &tlv(3, &[&[0][..], &key].concat())]))
    };
    assert!(rsa(&[], &[]).is_ok());
    assert!(rsa(&[5, 0], &[]).is_err());
    assert!(rsa(&[], &[5, 0]).is_err());
}

/// Parameters of RSA-PSS that are longer than they should be are not read as if they were not.
#[test]
fn nothing_stands_behind_a_part_of_pss_parameters() {
    let root = Authority::root_of(Template::authority("root"), Key::rsa());
    let is_good = |algorithm: Vec<u8>| {
        let der = root.leaf_der(&Template {
            algorithm: Some(Algorithm::RsaPssSha256),
            inner_algorithm_der: Some(algorithm),
            ..Template::leaf("leaf")
        });
        Certificate::parse(&der).is_ok_and(|leaf| {
            Path::build(
                &leaf,
                &[],
                &[root.certificate.clone()],
                &Revocation::DangerousNotLookedAt,
                now(),
                &PathRules::end_entity(),
            )
            .is_ok()
        })
    };
    let truth = pss(SHA256, SHA256, 32, Some(1));
    assert!(is_good(truth.clone()));
    let all = longer(&truth);
    assert!(all.len() > 8, "{}", all.len());
    for (path, bytes) in all {
        assert!(!is_good(bytes), "{path:?}");
    }
}

/// Fields of the second version that nobody writes today.
#[test]
fn unique_identifiers_are_stepped_over() {
    let root = Authority::root("root");
    let der = Template::leaf("leaf").signed("root", &root.key, &Key::p256().spki());
    let all = nodes(&der);
    let [Node::Constructed(_, parts)] = &all[..] else {
        panic!("a certificate is one sequence");
    };
    let Node::Constructed(_, fields) = &parts[0] else {
        panic!("the signed part is a sequence");
    };
    let (extensions, before) = fields.split_last().unwrap();
    let unique = |tag| Node::Primitive(tag, vec![0, 7]);
    for (middle, is_read) in [
        (vec![], true),
        (vec![unique(0x81)], true),
        (vec![unique(0x82)], true),
        (vec![unique(0x81), unique(0x82)], true),
        (vec![unique(0x82), unique(0x81)], false),
        (vec![unique(0x81), unique(0x81)], false),
        (vec![unique(0x84)], false),
    ] {
        let mut signed = before.to_vec();
        signed.extend(middle);
        signed.push(extensions.clone());
        let mut parts = parts.clone();
        parts[0] = Node::Constructed(0x30, signed);
        let der = write(&[Node::Constructed(0x30, parts)]);
        let parsed = Certificate::parse(&der);
        assert_eq!(parsed.is_ok(), is_read, "{parsed:?}");
    }
}

/// A text of two-byte characters has whole ones.
#[test]
fn names_in_two_byte_characters_are_told() {
    let key = Key::p256();
    let subject = |contents: &[u8]| {
        let der = Template::leaf("XX").signed("root", &key, &key.spki());
        // the common name, a UTF8String, becomes a BMPString
        let from = [0x0c, 2, b'X', b'X'];
        let at = der.windows(4).rposition(|it| it == from).unwrap();
        let mut der = der;
        der[at] = 0x1e;
        der[at + 2..at + 4].copy_from_slice(contents);
        Certificate::parse(&der).unwrap()
    };
    let name = |certificate: &Certificate| certificate.subject().common_name().map(str::to_owned);
    assert_eq!(name(&subject(&[0x20, 0xac])).as_deref(), Some("\u{20ac}"));
    // half of a pair
    let half = subject(&[0xd8, 0x00]);
    assert_eq!(name(&half), None);
    let _: &Name = half.subject();
}
