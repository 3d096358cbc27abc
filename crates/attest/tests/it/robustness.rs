//! Foreign bytes never panic, whatever they are.

use attest::event_log::EventLog;
use attest::qemu_vtpm::Document;
use attest::tpm::{PublicArea, Quote, Signature, Statement};
use attest::{ClusterMark, Evidence, ImageMeasurements, Policy, Variant, azure, gcp};
use proptest::prelude::*;
use testkit::appraise;
use testkit::boot::Image;
use testkit::tee::SoftTpm;

use crate::{binding, verdict};

fn everything(bytes: &[u8]) {
    drop(Statement::parse(bytes));
    drop(Quote::parse(bytes));
    drop(PublicArea::parse(bytes));
    drop(Signature::parse(bytes));
    drop(Document::parse(bytes));
    drop(azure::SevSnpDocument::parse(bytes));
    drop(azure::TdxDocument::parse(bytes));
    drop(azure::TrustedLaunchDocument::parse(bytes));
    drop(gcp::SevEsDocument::parse(bytes));
    drop(gcp::SevSnpDocument::parse(bytes));
    drop(gcp::TdxDocument::parse(bytes));
    drop(ImageMeasurements::from_json(bytes));
    drop(Policy::from_json(bytes));
    if let Ok(text) = std::str::from_utf8(bytes) {
        drop(Policy::from_yaml(text));
    }
    if let Ok(log) = EventLog::parse(bytes) {
        drop(log.replay());
    }
    if let Ok(evidence) = Evidence::new(Variant::QemuVtpm, bytes.to_vec()) {
        let refusal = appraise(
            &evidence,
            &binding(),
            &Image::default().policy(),
            &ClusterMark::NotJoined,
        );
        assert!(refusal.is_err());
    }
}

fn cut_and_flipped(bytes: &[u8], cut: usize, flips: &[(usize, u8)]) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    for (at, value) in flips {
        let at = at % bytes.len();
        bytes[at] ^= value;
    }
    bytes.truncate(bytes.len() - cut % bytes.len());
    bytes
}

fn flips() -> impl Strategy<Value = Vec<(usize, u8)>> {
    prop::collection::vec((any::<usize>(), any::<u8>()), 0..6)
}

proptest! {
    #[test]
    fn random_bytes(bytes in prop::collection::vec(any::<u8>(), 0..600)) {
        everything(&bytes);
    }

    #[test]
    fn damaged_documents(cut in 0_usize..64, flips in flips()) {
        let document = SoftTpm::boot(&Image::default()).document(&binding()).to_json();
        if let Ok(evidence) = Evidence::new(Variant::QemuVtpm, cut_and_flipped(&document, cut, &flips)) {
            drop(appraise(&evidence, &binding(), &Image::default().policy(), &ClusterMark::NotJoined));
        }
    }

    #[test]
    fn damaged_structures(which in 0_u8..3, cut in 0_usize..40, flips in flips()) {
        let tpm = SoftTpm::boot(&Image::default());
        let whole = tpm.document(&binding());
        let mut document = whole.clone();
        let field = match which {
            0 => &mut document.ak_public,
            1 => &mut document.quote,
            _ => &mut document.signature,
        };
        *field = cut_and_flipped(field, cut, &flips);
        everything(field);
        let is_same = document == whole;
        // no damage is accepted, except the attributes of the key that nobody looks at: the signature does not cover the
        // public area, and qemu-vtpm trusts any key
        if which != 0 {
            prop_assert_eq!(verdict(&document, &Image::default().policy()).is_ok(), is_same);
        }
    }

    #[test]
    fn damaged_logs(cut in 0_usize..400, flips in flips()) {
        let log = cut_and_flipped(&Image::default().event_log(), cut, &flips);
        everything(&log);
        let mut document = SoftTpm::boot(&Image::default()).document(&binding());
        document.event_log = log;
        // descriptions may say anything, so a damaged log may pass; then the PCRs are the image's all the same
        if let Ok(verified) = verdict(&document, &Image::default().policy()) {
            prop_assert_eq!(verified.measurements(), &Image::default().pcrs());
        }
    }

    /// No machine that booted something else is ever accepted.
    #[test]
    fn another_boot_is_refused(
        initrd in prop::collection::vec(any::<u8>(), 0..8),
        options in "[a-z =/.]{0,20}",
        claimed in "[a-z =/.]{0,20}",
    ) {
        let booted = Image { initrd, options, ..Image::default() };
        let mut document = SoftTpm::boot(&booted).document(&binding());
        document.command_line = Some(claimed);
        prop_assert!(verdict(&document, &Image::default().policy()).is_err());
    }
}
