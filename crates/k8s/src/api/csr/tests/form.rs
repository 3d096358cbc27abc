//! Requests that two readers could understand in two ways, made by hand.

use rcgen::{KeyPair, PublicKeyData as _, SigningKey as _};

use super::*;

/// A DER element from hex parts: `tag`, length, content.
fn der(tag: u8, content: &[u8]) -> Vec<u8> {
    let mut element = vec![tag];
    match u8::try_from(content.len()) {
        Ok(length @ ..0x80) => element.push(length),
        Ok(length) => element.extend([0x81, length]),
        Err(_) => {
            element.push(0x82);
            element.extend(u16::try_from(content.len()).unwrap().to_be_bytes());
        }
    }
    [element.as_slice(), content].concat()
}

fn sequence(parts: &[&[u8]]) -> Vec<u8> {
    der(0x30, &parts.concat())
}

const O: &[u8] = &[0x55, 4, 10];
const CN: &[u8] = &[0x55, 4, 3];
const SAN: &[u8] = &[0x55, 0x1d, 17];
const KEY_USAGE: &[u8] = &[0x55, 0x1d, 15];
const EXTENSION_REQUEST: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 9, 14];
const CHALLENGE: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 9, 7];
const PRINTABLE: u8 = 0x13;

fn attribute(kind: &[u8], string: u8, value: &str) -> Vec<u8> {
    sequence(&[&der(6, kind), &der(string, value.as_bytes())])
}

fn rdn(kind: &[u8], string: u8, value: &str) -> Vec<u8> {
    der(0x31, &attribute(kind, string, value))
}

/// The subject of `worker-0`, without its outer sequence.
fn own_subject() -> Vec<u8> {
    [rdn(O, PRINTABLE, "system:nodes"), rdn(CN, PRINTABLE, NODE)].concat()
}

fn extension(kind: &[u8], value: &[u8]) -> Vec<u8> {
    sequence(&[&der(6, kind), &der(4, value)])
}

fn alternative(name: &str) -> Vec<u8> {
    extension(SAN, &sequence(&[&der(0x82, name.as_bytes())]))
}

/// An attribute that asks for extensions.
fn asking(extensions: &[&[u8]]) -> Vec<u8> {
    sequence(&[
        &der(6, EXTENSION_REQUEST),
        &der(0x31, &sequence(extensions)),
    ])
}

/// A request as its parts; each test changes one.
struct Parts {
    subject: Vec<u8>,
    attributes: Vec<u8>,
    after_attributes: Vec<u8>,
    after_signature: Vec<u8>,
}

fn parts() -> Parts {
    Parts {
        subject: own_subject(),
        attributes: Vec::new(),
        after_attributes: Vec::new(),
        after_signature: Vec::new(),
    }
}

impl Parts {
    /// The request, signed by a new key.
    fn der(&self) -> Vec<u8> {
        let key = KeyPair::generate().unwrap();
        let info = sequence(&[
            &[2, 1, 0],
            &der(0x30, &self.subject),
            &key.subject_public_key_info(),
            &der(0xa0, &self.attributes),
            &self.after_attributes,
        ]);
        let signature = [vec![0], key.sign(&info).unwrap()].concat();
        let ecdsa_with_sha256 = [0x30, 10, 6, 8, 0x2a, 0x86, 0x48, 0xce, 0x3d, 4, 3, 2];
        sequence(&[
            &info,
            &ecdsa_with_sha256,
            &der(3, &signature),
            &self.after_signature,
        ])
    }

    fn pem(&self) -> Vec<u8> {
        block("CERTIFICATE REQUEST", &self.der())
    }

    fn decide(&self, serving: bool) -> Decision {
        decide_pem(self.pem(), serving)
    }
}

fn decide_pem(pem: Vec<u8>, serving: bool) -> Decision {
    let mut spec = ask().spec(NODE, serving);
    spec.request = ByteString(pem);
    decide(&spec, &facts())
}

fn malformed(what: &str, parts: &Parts, serving: bool) {
    let decision = parts.decide(serving);
    assert_eq!(decision, Decision::Deny(Denial::Malformed), "{what}");
}

#[test]
fn a_request_made_by_hand_is_approved_as_kubelets_write_it() {
    assert_eq!(parts().decide(false), approved(Purpose::ClientRenewal));
    let names = sequence(&[&der(0x82, b"worker-0"), &[0x87, 4, 10, 45, 0, 2]]);
    let serving = Parts {
        attributes: asking(&[&extension(SAN, &names)]),
        ..parts()
    };
    assert_eq!(serving.decide(true), approved(Purpose::Serving));
}

#[test]
fn only_one_pem_block_with_nothing_around_it_is_a_request() {
    let own = parts().pem();
    let other = Parts {
        subject: [
            rdn(O, PRINTABLE, "system:nodes"),
            rdn(CN, PRINTABLE, "system:node:control-plane-0"),
        ]
        .concat(),
        ..parts()
    }
    .pem();
    let text = String::from_utf8(own.clone()).unwrap();
    // Go's pem.Decode finds a block at the start of a line only: it skips the first one here, and signs the second
    let hidden = [b"x".as_slice(), &own, &other].concat();
    let table = [
        ("own after a letter, then another node's", hidden),
        (
            "own, then another node's",
            [own.as_slice(), &other].concat(),
        ),
        ("text before", [b"x\n".as_slice(), &own].concat()),
        ("an empty line before", [b"\n".as_slice(), &own].concat()),
        ("text after", [own.as_slice(), b"x"].concat()),
        ("an empty line after", [own.as_slice(), b"\n"].concat()),
        ("no last line end", text.trim_end().into()),
        ("other line ends", text.replace('\n', "\r\n").into()),
        ("longer lines", {
            let body: String = text.lines().filter(|line| !line.starts_with('-')).collect();
            format!(
                "-----BEGIN CERTIFICATE REQUEST-----\n{body}\n-----END CERTIFICATE REQUEST-----\n"
            )
            .into()
        }),
        (
            "a header",
            text.replacen("-----\n", "-----\nProc-Type: 4\n\n", 1)
                .into(),
        ),
    ];
    for (what, pem) in table {
        let decision = decide_pem(pem, false);
        assert_eq!(decision, Decision::Deny(Denial::Malformed), "{what}");
    }
}

#[test]
fn a_subject_is_two_names_and_not_a_byte_more() {
    let group = rdn(O, PRINTABLE, "system:nodes");
    let own = rdn(CN, PRINTABLE, NODE);
    let other = rdn(CN, PRINTABLE, "system:node:control-plane-0");
    for (what, subject) in [
        // some readers stop at the empty set, for others the last name counts
        (
            "another name after an empty set",
            [&group, &own, &[0x31, 0][..], &other].concat(),
        ),
        ("an empty set", [&group, &own, &[0x31, 0][..]].concat()),
        ("the other order", [own.as_slice(), &group].concat()),
        (
            "both in one set",
            der(
                0x31,
                &[
                    attribute(CN, PRINTABLE, NODE),
                    attribute(O, PRINTABLE, "system:nodes"),
                ]
                .concat(),
            ),
        ),
        (
            "another kind of string",
            [group.as_slice(), &rdn(CN, 0x16, NODE)].concat(),
        ),
        (
            "trailing bytes in a name",
            [
                group.as_slice(),
                &der(
                    0x31,
                    &sequence(&[&der(6, CN), &der(PRINTABLE, NODE.as_bytes()), &[5, 0]]),
                ),
            ]
            .concat(),
        ),
    ] {
        malformed(what, &Parts { subject, ..parts() }, false);
    }
    let two = [group, own, other].concat();
    assert_eq!(
        Parts {
            subject: two,
            ..parts()
        }
        .decide(false),
        Decision::Deny(Denial::Subject)
    );
}

#[test]
fn attributes_are_one_request_for_one_extension_and_not_a_byte_more() {
    let own = alternative("worker-0");
    let foreign = alternative("kubernetes.default.svc");
    let good = asking(&[&own]);
    for (what, attributes) in [
        (
            "a second attribute that asks for another name",
            [good.as_slice(), &asking(&[&foreign])].concat(),
        ),
        (
            "a second attribute that asks for usages",
            [
                good.as_slice(),
                &asking(&[&extension(KEY_USAGE, &[3, 2, 2, 4])]),
            ]
            .concat(),
        ),
        (
            "another attribute",
            [
                good.as_slice(),
                &sequence(&[&der(6, CHALLENGE), &der(0x31, &der(PRINTABLE, b"x"))]),
            ]
            .concat(),
        ),
        (
            "two values in the attribute",
            sequence(&[
                &der(6, EXTENSION_REQUEST),
                &der(0x31, &[sequence(&[&own]), sequence(&[&foreign])].concat()),
            ]),
        ),
        (
            "a value after the set",
            sequence(&[
                &der(6, EXTENSION_REQUEST),
                &der(0x31, &sequence(&[&own])),
                &der(0x31, &sequence(&[&foreign])),
            ]),
        ),
        (
            "a set that ends before its value",
            sequence(&[&der(6, EXTENSION_REQUEST), &[0x31, 0], &sequence(&[&own])]),
        ),
        (
            "bytes after the names",
            asking(&[&extension(
                SAN,
                &[sequence(&[&der(0x82, b"worker-0")]), vec![5, 0]].concat(),
            )]),
        ),
        (
            "a length that is longer than it has to be",
            asking(&[&extension(
                SAN,
                &[&[0x30, 0x81, 10][..], &der(0x82, b"worker-0")].concat(),
            )]),
        ),
    ] {
        malformed(
            what,
            &Parts {
                attributes,
                ..parts()
            },
            true,
        );
    }
    let twice = Parts {
        attributes: asking(&[&own, &foreign]),
        ..parts()
    };
    assert!(matches!(twice.decide(true), Decision::Deny(_)));
    let nothing = Parts {
        attributes: asking(&[]),
        ..parts()
    };
    malformed("an empty list of extensions", &nothing, false);
}

#[test]
fn nothing_follows_the_last_element_of_a_request() {
    let attributes = asking(&[&alternative("worker-0")]);
    let in_info = Parts {
        after_attributes: der(0xa0, &attributes),
        ..parts()
    };
    malformed("more attributes", &in_info, false);
    let outside = Parts {
        after_signature: vec![5, 0],
        ..parts()
    };
    malformed("after the signature", &outside, false);
    let trailing = [parts().der(), vec![0]].concat();
    let decision = decide_pem(block("CERTIFICATE REQUEST", &trailing), false);
    assert_eq!(
        decision,
        Decision::Deny(Denial::Malformed),
        "after the request"
    );
}
