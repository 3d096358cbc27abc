//! What the host may have changed in an image: UKI, partition table, EFI system partition.
#![cfg_attr(fuzzing, no_main)]

fuzz::fuzz_target!(|bytes: &[u8]| {
    drop(image::predict(bytes));
    if let Ok(pe) = image::pe::Pe::parse(bytes) {
        for section in pe.sections() {
            if let Ok(Some(content)) = pe.section(&section.name) {
                assert!(
                    content.len() <= bytes.len(),
                    "a section is part of its file"
                );
            }
        }
    }
    if let Ok(partitions) = image::gpt::parse(bytes, bytes.len() as u64) {
        for partition in partitions {
            assert!(
                partition.offset + partition.len <= bytes.len() as u64,
                "a partition is part of its disk"
            );
        }
    }
    if let Ok((offset, len)) = image::fat::find_uki(bytes) {
        assert!(
            bytes.get(offset..offset + len).is_some(),
            "the UKI is part of its partition"
        );
    }
});
