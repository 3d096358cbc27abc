//! A device under a test root: lies that a real device's signature would cover.

use aws_lc_rs::encoding::AsDer;
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{ECDSA_P384_SHA384_FIXED_SIGNING, EcdsaKeyPair, KeyPair};

use super::*;
use crate::x509::ca::{
    Authority, Extension, Key, SHA256, SHA384, Template, basic_constraints, key_usage, oid, seq,
    tlv,
};

const DIGITAL_SIGNATURE: u8 = 0x80;

struct Device {
    firmware: Option<Vec<u8>>,
    usage: Option<u8>,
    /// Bytes between request and signature are those of a real report, changed by this.
    change: fn(&mut Vec<u8>),
}

impl Device {
    fn good() -> Self {
        Self {
            firmware: Some(identity(SHA384, &firmware())),
            usage: Some(DIGITAL_SIGNATURE),
            change: |_| {},
        }
    }

    fn case(&self) -> Case {
        let real = Case::sample(1);
        let root = Authority::root_of(Template::authority("device root"), Key::p384());
        let pair = EcdsaKeyPair::generate(&ECDSA_P384_SHA384_FIXED_SIGNING).unwrap();
        let mut template = Template::leaf("device");
        template.extensions = vec![basic_constraints(false, None)];
        template.extensions.extend(self.usage.map(key_usage));
        template
            .extensions
            .extend(self.firmware.clone().map(|value| Extension {
                oid: "2.23.133.5.4.1",
                critical: false,
                value,
            }));
        let spki = pair.public_key().as_der().unwrap();
        let leaf = template.signed("device root", &root.key, spki.as_ref());
        let mut report = real.report.clone();
        report.truncate(report.len() - 96);
        (self.change)(&mut report);
        let signature = pair.sign(&SystemRandom::new(), &report).unwrap();
        report.extend(signature.as_ref());
        let digits = STANDARD.encode(leaf);
        Case {
            report,
            chain: format!("-----BEGIN CERTIFICATE-----\n{digits}\n-----END CERTIFICATE-----\n")
                .into_bytes(),
            roots: Roots::new(vec![root.certificate]),
            ..real
        }
    }
}

/// What the real report says is running.
fn firmware() -> Vec<u8> {
    let report = Report::parse(&Case::sample(1).report).unwrap();
    report.opaque(OpaqueField::FIRMWARE_ID).unwrap().to_vec()
}

fn identity(hash: &str, digest: &[u8]) -> Vec<u8> {
    seq(&[
        &tlv(2, &[1]),
        &Key::p384().spki(),
        &seq(&[&oid(hash), &tlv(4, digest)]),
    ])
}

#[test]
fn a_device_under_another_root_passes_with_that_root() {
    Device::good().case().accepted();
}

#[test]
fn a_device_under_another_root_is_not_nvidias() {
    let case = Case {
        roots: Roots::nvidia().clone(),
        ..Device::good().case()
    };
    assert_eq!(
        case.refused(),
        (CheckName::Chain, RefusalCode::NotAuthentic)
    );
}

#[test]
fn a_key_that_is_not_for_signatures_signs_no_report() {
    for usage in [None, Some(0x20)] {
        let device = Device {
            usage,
            ..Device::good()
        };
        assert_eq!(
            device.case().refused(),
            (CheckName::Chain, RefusalCode::NotAuthentic)
        );
    }
}

#[test]
fn a_certificate_must_name_its_firmware() {
    let mut trailing = identity(SHA384, &firmware());
    trailing.push(0);
    for firmware in [
        None,
        Some(vec![]),
        Some(trailing),
        Some(identity(SHA256, &firmware())),
        Some(identity(SHA384, &firmware()[..47])),
    ] {
        let device = Device {
            firmware,
            ..Device::good()
        };
        assert_eq!(
            device.case().refused(),
            (CheckName::CertifiedFirmware, RefusalCode::Malformed)
        );
    }
}

#[test]
fn a_report_must_be_of_the_firmware_in_the_certificate() {
    let mut other = firmware();
    other[0] ^= 1;
    let device = Device {
        firmware: Some(identity(SHA384, &other)),
        ..Device::good()
    };
    let expected = (CheckName::FirmwareId, RefusalCode::NotAuthentic);
    assert_eq!(device.case().refused(), expected);
    // the field under another number is not the field
    let device = Device {
        change: |report| {
            let firmware = firmware();
            let at = report
                .windows(48)
                .position(|window| window == firmware)
                .unwrap();
            report[at - 4] = 0xf0;
        },
        ..Device::good()
    };
    assert_eq!(device.case().refused(), expected);
}

#[test]
fn versions_that_do_not_read_are_not_accepted() {
    // opaque data begins with the VBIOS's version, eight bytes behind type and length
    let vbios = Device {
        change: |report| report[45 + 64 * 55 + 32 + 2 + 4 + 7] = 1,
        ..Device::good()
    };
    assert_eq!(
        vbios.case().refused(),
        (CheckName::Vbios, RefusalCode::Platform)
    );
    let driver = Device {
        change: |report| {
            let at = report
                .windows(9)
                .position(|window| window == b"550.90.07")
                .unwrap();
            report[at] = 0xff;
        },
        ..Device::good()
    };
    assert_eq!(
        driver.case().refused(),
        (CheckName::Driver, RefusalCode::Platform)
    );
}

/// Inside the identity as well: what stands behind a part is nobody's.
#[test]
fn nothing_stands_behind_a_part_of_the_firmware_identity() {
    let with = |behind_firmware: &[u8], behind_identity: &[u8]| {
        let device = Device {
            firmware: Some(seq(&[
                &tlv(2, &[1]),
                &Key::p384().spki(),
                &seq(&[&oid(SHA384), &tlv(4, &firmware()), behind_firmware]),
                behind_identity,
            ])),
            ..Device::good()
        };
        device.case()
    };
    with(&[], &[]).accepted();
    for case in [with(&[5, 0], &[]), with(&[], &[5, 0])] {
        assert_eq!(case.refused().1, RefusalCode::Malformed);
    }
}
