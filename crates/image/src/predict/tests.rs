use proptest::prelude::*;

use super::*;
use crate::uki::{self, tests::stub};

const ROOT_HASH: &str = "2b3a1f0000000000000000000000000000000000000000000000000000000001";

fn line() -> String {
    format!("roothash={ROOT_HASH} console=ttyS0")
}

fn uki(command_line: &str, initrd: &[u8]) -> Vec<u8> {
    let kernel = stub();
    uki::build(
        &stub(),
        &[
            (".cmdline", command_line.as_bytes()),
            (".initrd", initrd),
            (".linux", &kernel),
        ],
    )
    .unwrap()
}

fn find(prediction: &Prediction, pcr: u32, name: Component) -> Digest {
    let found = prediction
        .components
        .iter()
        .find(|part| part.pcr == self::pcr(pcr) && part.name == name);
    found
        .unwrap_or_else(|| panic!("no {name} in PCR {pcr}"))
        .digest
}

#[test]
fn says_what_each_register_is_made_of() {
    let uki = uki(&line(), b"initrd");
    let prediction = predict(&uki).unwrap();
    let replay = |digests: &[Digest]| {
        digests
            .iter()
            .fold(Digest::ZERO, |pcr, digest| pcr.extended_by(digest))
    };

    let kernel = Digest::from_bytes(Pe::parse(&stub()).unwrap().authenticode());
    let loader = Digest::from_bytes(Pe::parse(&uki).unwrap().authenticode());
    // The first two are the same on every machine; see the reference values of the original.
    let attempt = "3d6772b4f84ed47595d72a2c4c5ffd15f5bb72c7507fe26f2aaee2c69d5633ba"
        .parse()
        .unwrap();
    let separator = "df3f619804a92fdb4057192dc43dd748ea778adc52bc498ce80524c014b81119"
        .parse()
        .unwrap();
    assert_eq!(
        prediction.pcrs[&pcr(4)],
        replay(&[attempt, separator, loader, kernel])
    );

    let mut wide: Vec<u8> = line().bytes().flat_map(|byte| [byte, 0]).collect();
    wide.extend_from_slice(&[0, 0]);
    assert_eq!(
        prediction.pcrs[&pcr(9)],
        replay(&[Digest::of(&wide), Digest::of(b"initrd")])
    );

    // In the order of the stub, not of the file.
    let sections: [(&[u8], Vec<u8>); 4] = [
        (b".linux\0", stub()),
        (b".cmdline\0", line().into_bytes()),
        (b".initrd\0", b"initrd".to_vec()),
        (b".sbat\0", b"sbat,1,example\n".to_vec()),
    ];
    let digests: Vec<_> = sections
        .iter()
        .flat_map(|(name, content)| [Digest::of(name), Digest::of(content)])
        .collect();
    assert_eq!(prediction.pcrs[&pcr(11)], replay(&digests));
    for unused in [8, 12, 13] {
        assert_eq!(prediction.pcrs[&pcr(unused)], Digest::ZERO);
    }
    assert_eq!(
        prediction.pcrs.len(),
        6,
        "nothing is promised about other registers"
    );
    assert_eq!(
        find(&prediction, 9, Component::RootFileSystem).to_string(),
        ROOT_HASH
    );
}

/// The stub would hand the kernel a longer initrd, and PCR 9 be another than predicted.
#[test]
fn a_section_that_the_stub_adds_to_the_initrd_is_refused() {
    for name in [".osrel", ".profile", ".pcrpkey", ".pcrsig", ".ucode"] {
        let uki = uki::build(&uki(&line(), b"initrd"), &[(name, b"content")]).unwrap();
        assert_eq!(predict(&uki), Err(PredictError::AddsToInitrd(name)));
    }
}

#[test]
fn a_change_is_seen_in_the_register_and_in_the_part() {
    let before = predict(&uki(&line(), b"initrd")).unwrap();
    let after = predict(&uki(&line(), b"initrc")).unwrap();
    for number in [4, 9, 11] {
        assert_ne!(
            before.pcrs[&pcr(number)],
            after.pcrs[&pcr(number)],
            "PCR {number}"
        );
    }
    assert_ne!(
        find(&before, 9, Component::Initrd),
        find(&after, 9, Component::Initrd)
    );
    assert_ne!(
        find(&before, 11, Component::Initrd),
        find(&after, 11, Component::Initrd)
    );
    assert_eq!(
        find(&before, 11, Component::CommandLine),
        find(&after, 11, Component::CommandLine)
    );
    assert_eq!(
        find(&before, 4, Component::Kernel),
        find(&after, 4, Component::Kernel)
    );
}

#[test]
fn a_zero_behind_the_command_line_is_no_part_of_it() {
    let with = predict(&uki(&format!("{}\0", line()), b"i")).unwrap();
    let without = predict(&uki(&line(), b"i")).unwrap();
    assert_eq!(
        with.pcrs[&pcr(9)],
        without.pcrs[&pcr(9)],
        "the kernel gets the same line"
    );
    assert_ne!(
        with.pcrs[&pcr(11)],
        without.pcrs[&pcr(11)],
        "the stub measures the section as it is"
    );
}

#[test]
fn refuses_what_the_stub_would_change_or_what_pins_no_root() {
    let of = |line: &str| predict(&uki(line, b"i")).map(drop);
    for line in ["", " a", "a ", "a\tb", "ä", "a\0b"] {
        assert_eq!(of(line), Err(PredictError::CommandLine), "{line:?}");
    }
    let twice = format!("roothash={ROOT_HASH} roothash={ROOT_HASH}");
    for line in ["quiet", "roothash=", "roothash=abc", twice.as_str()] {
        assert_eq!(of(line), Err(PredictError::RootHash), "{line:?}");
    }
    let no_kernel = uki::build(&stub(), &[(".cmdline", line().as_bytes())]).unwrap();
    assert_eq!(
        predict(&no_kernel).map(drop),
        Err(PredictError::NoSection(".linux"))
    );
    let bad_kernel = uki::build(
        &stub(),
        &[(".cmdline", line().as_bytes()), (".linux", b"MZ")],
    )
    .unwrap();
    assert!(matches!(predict(&bad_kernel), Err(PredictError::Kernel(_))));
}

proptest! {
    #[test]
    fn never_panics(at in 0..8192_usize, value: u8) {
        let mut bytes = uki(&line(), b"initrd");
        let len = bytes.len();
        bytes[at % len] = value;
        drop(predict(&bytes));
    }
}
