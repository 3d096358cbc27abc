use std::collections::BTreeMap;

use super::*;

type Extensions = BTreeMap<&'static str, Vec<u8>>;

fn integer(value: u8) -> Vec<u8> {
    if value < 0x80 {
        vec![2, 1, value]
    } else {
        vec![2, 2, 0, value]
    }
}

fn ia5(text: &str) -> Vec<u8> {
    let mut der = vec![0x16, u8::try_from(text.len()).unwrap()];
    der.extend_from_slice(text.as_bytes());
    der
}

fn milan() -> Extensions {
    BTreeMap::from([
        (oid::STRUCT_VERSION, integer(0)),
        (oid::PRODUCT_NAME, ia5("Milan-B0")),
        (oid::BOOT_LOADER, integer(4)),
        (oid::TEE, integer(1)),
        (oid::SNP, integer(24)),
        (oid::SPL4, integer(44)),
        (oid::SPL5, integer(45)),
        (oid::SPL6, integer(46)),
        (oid::SPL7, integer(47)),
        (oid::MICROCODE, integer(219)),
        (oid::HARDWARE_ID, vec![0xa5; 64]),
    ])
}

fn turin() -> Extensions {
    let mut turin = milan();
    turin.remove(oid::SPL4);
    turin.insert(oid::FMC, integer(9));
    turin.insert(oid::STRUCT_VERSION, integer(1));
    turin.insert(oid::PRODUCT_NAME, ia5("Turin"));
    turin.insert(oid::HARDWARE_ID, vec![0xa5; 8]);
    turin
}

fn vlek() -> Extensions {
    let mut vlek = milan();
    vlek.remove(oid::HARDWARE_ID);
    vlek.insert(oid::CSP_ID, ia5("CN=cc-us-east-2.amazonaws.com"));
    vlek
}

#[test]
fn a_hardware_id_is_wrapped_only_if_both_lengths_say_so() {
    let read = hardware_id;
    for line in [ProductLine::Milan, ProductLine::Turin] {
        let size = match line.tcb_layout() {
            TcbLayout::MilanGenoa => 64_u8,
            TcbLayout::Turin => 8,
        };
        let plain = vec![0xa5; usize::from(size)];
        let wrapped = |length: u8| [&[4, length], plain.as_slice()].concat();
        let id = read(line, &plain).unwrap();
        assert_eq!(read(line, &wrapped(size)).unwrap(), id);
        for length in [0, size - 1, size + 1, 0xff] {
            assert!(read(line, &wrapped(length)).is_err(), "{line} {length}");
        }
        // as long as an identifier, and not wrapped, though it begins like it
        let mut like = plain.clone();
        like[..2].copy_from_slice(&[4, size]);
        assert_ne!(read(line, &like).unwrap(), id);
    }
}

fn read(
    kind: VekKind,
    line: ProductLine,
    extensions: &Extensions,
) -> Result<VekExtensions, VekError> {
    VekExtensions::read(kind, line, |oid| extensions.get(oid).map(Vec::as_slice))
}

#[test]
fn each_level_is_where_the_report_has_it() {
    let read_milan = read(VekKind::Vcek, ProductLine::Milan, &milan()).unwrap();
    assert_eq!(read_milan.tcb, RawTcb([4, 1, 44, 45, 46, 47, 24, 219]));
    assert_eq!(read_milan.struct_version, 0);
    assert_eq!(read_milan.product_line(), Some(ProductLine::Milan));
    assert_eq!(
        read_milan.owner,
        VekOwner::Chip(HardwareId::Long([0xa5; 64]))
    );
    let read_turin = read(VekKind::Vcek, ProductLine::Turin, &turin()).unwrap();
    assert_eq!(read_turin.tcb, RawTcb([9, 4, 1, 24, 45, 46, 47, 219]));
    assert_eq!(
        read_turin.owner,
        VekOwner::Chip(HardwareId::Short([0xa5; 8]))
    );
    let read_vlek = read(VekKind::Vlek, ProductLine::Milan, &vlek()).unwrap();
    assert_eq!(
        read_vlek.owner,
        VekOwner::Provider("CN=cc-us-east-2.amazonaws.com".into())
    );
}

#[test]
fn a_short_hardware_id_is_padded_only_for_the_comparison() {
    let mut padded = [0; 64];
    padded[..8].copy_from_slice(&[0xa5; 8]);
    assert_eq!(HardwareId::Short([0xa5; 8]).chip_id(), padded);
    assert_eq!(HardwareId::Long([0xa5; 64]).chip_id(), [0xa5; 64]);
}

#[test]
fn every_extension_is_demanded() {
    for (kind, line, whole) in [
        (VekKind::Vcek, ProductLine::Milan, milan()),
        (VekKind::Vcek, ProductLine::Genoa, milan()),
        (VekKind::Vcek, ProductLine::Turin, turin()),
        (VekKind::Vlek, ProductLine::Milan, vlek()),
    ] {
        for oid in whole.keys() {
            let mut without = whole.clone();
            without.remove(oid);
            assert_eq!(
                read(kind, line, &without),
                Err(VekError::Missing(oid)),
                "{oid}"
            );
        }
    }
}

#[test]
fn an_extension_of_another_kind_or_line_is_refused() {
    for (kind, line, mut whole, oid) in [
        (VekKind::Vcek, ProductLine::Milan, milan(), oid::FMC),
        (VekKind::Vcek, ProductLine::Milan, milan(), oid::CSP_ID),
        (VekKind::Vlek, ProductLine::Milan, vlek(), oid::HARDWARE_ID),
    ] {
        whole.insert(oid, integer(0));
        assert_eq!(read(kind, line, &whole), Err(VekError::Unexpected(oid)));
    }
}

#[test]
fn level_4_of_turin_may_be_there_as_zero() {
    let with = |value: Vec<u8>| {
        let mut whole = turin();
        whole.insert(oid::SPL4, value);
        read(VekKind::Vcek, ProductLine::Turin, &whole)
    };
    assert_eq!(
        with(integer(0)),
        read(VekKind::Vcek, ProductLine::Turin, &turin())
    );
    assert_eq!(with(integer(1)), Err(VekError::Unexpected(oid::SPL4)));
    assert_eq!(with(vec![2, 2, 0, 0]), Err(VekError::Integer(oid::SPL4)));
}

#[test]
fn integers_are_strict_der() {
    for (der, expected) in [
        (vec![2, 1, 0], Some(0)),
        (vec![2, 1, 0x7f], Some(0x7f)),
        (vec![2, 2, 0, 0x80], Some(0x80)),
        (vec![2, 2, 0, 0xff], Some(0xff)),
        (vec![], None),
        (vec![2], None),
        (vec![2, 0], None),
        (vec![2, 1], None),
        // negative
        (vec![2, 1, 0x80], None),
        // not the shortest form
        (vec![2, 2, 0, 0x7f], None),
        (vec![2, 0x81, 1, 4], None),
        // above 255
        (vec![2, 2, 1, 0], None),
        (vec![2, 3, 0, 0, 0x80], None),
        // a byte too many, and another type
        (vec![2, 1, 4, 0], None),
        (vec![2, 2, 0, 0x80, 0], None),
        (vec![4, 1, 4], None),
    ] {
        let mut extensions = milan();
        extensions.insert(oid::SNP, der.clone());
        let read = read(VekKind::Vcek, ProductLine::Milan, &extensions);
        assert_eq!(
            read.map(|read| read.tcb.0[6]),
            expected.ok_or(VekError::Integer(oid::SNP)),
            "{der:?}"
        );
    }
}

#[test]
fn texts_are_short_printable_ia5_strings() {
    for der in [
        vec![],
        vec![0x16, 0],
        vec![0x16, 5, b'M'],
        vec![0x16, 1, b'M', b'i'],
        vec![0x0c, 1, b'M'],
        vec![0x16, 1, 0x80],
        vec![0x16, 1, b'\n'],
        ia5(&"M".repeat(65)),
    ] {
        let mut extensions = milan();
        extensions.insert(oid::PRODUCT_NAME, der.clone());
        assert_eq!(
            read(VekKind::Vcek, ProductLine::Milan, &extensions),
            Err(VekError::Text(oid::PRODUCT_NAME)),
            "{der:?}"
        );
    }
}

#[test]
fn the_longest_text_is_read() {
    let longest = "P".repeat(64);
    let mut extensions = vlek();
    extensions.insert(oid::CSP_ID, ia5(&longest));
    assert_eq!(
        read(VekKind::Vlek, ProductLine::Milan, &extensions).map(|read| read.owner),
        Ok(VekOwner::Provider(longest))
    );
}

#[test]
fn a_hardware_id_has_the_size_of_its_line_alone_or_in_an_octet_string() {
    let wrapped = |length: u8| {
        let mut der = vec![4, length];
        der.resize(2 + usize::from(length), 0xa5);
        der
    };
    for (line, whole, value, expected) in [
        (ProductLine::Milan, milan(), vec![0xa5; 64], Ok(())),
        (ProductLine::Milan, milan(), wrapped(64), Ok(())),
        (ProductLine::Turin, turin(), vec![0xa5; 8], Ok(())),
        (ProductLine::Turin, turin(), wrapped(8), Ok(())),
        (ProductLine::Milan, milan(), vec![0xa5; 8], Err((64, 8))),
        (ProductLine::Milan, milan(), wrapped(63), Err((64, 65))),
        (ProductLine::Turin, turin(), vec![0xa5; 64], Err((8, 64))),
        (ProductLine::Turin, turin(), vec![], Err((8, 0))),
    ] {
        let mut extensions = whole;
        extensions.insert(oid::HARDWARE_ID, value);
        assert_eq!(
            read(VekKind::Vcek, line, &extensions).map(drop),
            expected.map_err(|(expected, actual)| VekError::HardwareId { expected, actual })
        );
    }
}

#[test]
fn names_of_subject_and_issuer_give_kind_and_line() {
    assert_eq!(VekKind::from_common_name("SEV-VCEK"), Some(VekKind::Vcek));
    assert_eq!(VekKind::from_common_name("SEV-VLEK"), Some(VekKind::Vlek));
    assert_eq!(VekKind::from_common_name("SEV-Milan"), None);
    for (kind, issuer, line) in [
        (VekKind::Vcek, "SEV-Milan", Some(ProductLine::Milan)),
        (VekKind::Vlek, "SEV-VLEK-Genoa", Some(ProductLine::Genoa)),
        (VekKind::Vcek, "SEV-VLEK-Genoa", None),
        (VekKind::Vlek, "SEV-Milan", None),
        (VekKind::Vcek, "ARK-Milan", None),
        (VekKind::Vcek, "SEV-Venice", None),
    ] {
        assert_eq!(kind.line_of_issuer(issuer), line, "{kind} {issuer}");
    }
}

#[test]
fn the_product_line_is_what_is_before_the_stepping() {
    for (name, line) in [
        ("Milan", Some(ProductLine::Milan)),
        ("Milan-B1", Some(ProductLine::Milan)),
        ("Genoa", Some(ProductLine::Genoa)),
        ("MilanX", None),
        ("-Milan", None),
        ("Turin-", Some(ProductLine::Turin)),
    ] {
        let mut extensions = milan();
        extensions.insert(oid::PRODUCT_NAME, ia5(name));
        let read = read(VekKind::Vcek, ProductLine::Milan, &extensions).unwrap();
        assert_eq!(read.product_line(), line, "{name}");
    }
}
