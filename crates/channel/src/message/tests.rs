use proptest::prelude::*;

use super::*;

fn hello() -> Hello {
    Hello {
        nonce: [1; 32],
        role: Role::Cli,
        accepts: vec!["qemu-vtpm".to_owned()],
    }
}

fn wire() -> HelloWire {
    HelloWire::decode(hello().encode().as_slice()).unwrap()
}

#[test]
fn hello_on_the_wire() {
    let bytes = hello().encode();
    let expected = [
        &[0x0a, 32][..],
        &[1; 32],
        &[0x10, 1, 0x1a, 9],
        b"qemu-vtpm",
        &[0x20, 1],
    ]
    .concat();
    assert_eq!(bytes, expected);
    assert_eq!(Hello::parse(&bytes).unwrap(), hello());
}

#[test]
fn every_bound_of_a_hello_holds() {
    let parse = |wire: HelloWire| Hello::parse(&wire.encode_to_vec());
    assert!(parse(wire()).is_ok());
    for nonce in [0, 31, 33] {
        let error = parse(HelloWire {
            nonce: vec![1; nonce],
            ..wire()
        });
        assert!(matches!(error, Err(MessageError::Nonce(length)) if length == nonce));
    }
    for role in [0, 4, 256, u32::MAX] {
        assert!(
            matches!(parse(HelloWire { role, ..wire() }), Err(MessageError::Role(UnknownRole(found))) if found == role)
        );
    }
    let lists = [
        (vec![], true),
        (vec!["qemu-vtpm".to_owned()], false),
        (vec![String::new()], true),
        (vec!["x".repeat(65)], true),
        (vec!["x".to_owned(); 17], true),
    ];
    for (accepts, asks_for_evidence) in lists {
        let error = parse(HelloWire {
            accepts,
            asks_for_evidence,
            ..wire()
        });
        assert!(matches!(error, Err(MessageError::Accepts)));
    }
    assert!(
        parse(HelloWire {
            accepts: vec!["x".repeat(64); 16],
            ..wire()
        })
        .is_ok()
    );
}

#[test]
fn a_message_has_one_encoding() {
    let bytes = hello().encode();
    // Fields in another order, a number longer than needed, a default spelled out.
    let reordered = [&bytes[34..36], &bytes[..34], &bytes[36..]].concat();
    let long_number = [&bytes[..35], &[0x81, 0x00], &bytes[36..]].concat();
    let twice = [&bytes[..], &bytes[34..36]].concat();
    for other in [reordered, long_number, twice] {
        assert!(
            HelloWire::decode(other.as_slice()).is_ok(),
            "not even protobuf: {other:?}"
        );
        assert!(
            matches!(
                Hello::parse(&other),
                Err(MessageError::NotCanonical(Kind::Hello))
            ),
            "{other:?}"
        );
    }
    assert!(matches!(
        Verdict::parse(&[0x08, 1, 0x10, 0]),
        Err(MessageError::NotCanonical(Kind::Verdict))
    ));
}

#[test]
fn verdicts_on_the_wire() {
    assert_eq!(Verdict::Accepted.encode(), [0x08, 1]);
    assert_eq!(
        Verdict::Refused(Some(RefusalCode::WrongBinding)).encode(),
        [0x08, 2, 0x10, 4]
    );
    assert_eq!(
        Verdict::parse(&[0x08, 2, 0x10, 4]).unwrap(),
        Verdict::Refused(Some(RefusalCode::WrongBinding))
    );
    assert_eq!(
        Verdict::parse(&[0x08, 2, 0x10, 100]).unwrap(),
        Verdict::Refused(None)
    );
    for neither in [
        &[][..],
        &[0x08, 2],
        &[0x08, 1, 0x10, 1],
        &[0x08, 3],
        &[0x10, 1],
    ] {
        assert!(
            matches!(Verdict::parse(neither), Err(MessageError::Verdict { .. })),
            "{neither:?}"
        );
    }
}

#[test]
fn evidence_on_the_wire() {
    let evidence = Evidence::new(Variant::QemuVtpm, b"{}".to_vec()).unwrap();
    let bytes = encode_evidence(&evidence);
    assert_eq!(
        bytes,
        [&[0x0a, 9][..], b"qemu-vtpm", &[0x12, 2], b"{}"].concat()
    );
    assert_eq!(parse_evidence(&bytes).unwrap(), evidence);
    let parse = |variant: &str, document: &[u8]| {
        parse_evidence(
            &EvidenceWire {
                variant: variant.to_owned(),
                document: document.to_vec(),
            }
            .encode_to_vec(),
        )
    };
    assert!(matches!(
        parse("qemu-vtpm", b""),
        Err(MessageError::Evidence(_))
    ));
    assert!(matches!(parse("", b"{}"), Err(MessageError::Variant(_))));
    assert!(matches!(
        parse("sev-snp", b"{}"),
        Err(MessageError::Variant(_))
    ));
}

proptest! {
    #[test]
    fn no_bytes_make_a_parser_panic(bytes in proptest::collection::vec(any::<u8>(), 0..256)) {
        fuzz(&bytes);
    }

    /// One changed byte in a hello is never read as the same hello.
    #[test]
    fn a_changed_byte_changes_the_hello(at in 0_usize..49, bit in 0_u8..8) {
        let mut bytes = hello().encode();
        bytes[at] ^= 1 << bit;
        if let Ok(read) = Hello::parse(&bytes) {
            prop_assert_ne!(&read, &hello());
            prop_assert_eq!(read.encode(), bytes);
        }
    }
}
