//! Reports of every version, of a machine that fulfils what a careful verifier demands. A test changes a field and signs again.

use attest::sev_snp::{ProductLine, REPORT_SIZE, RawTcb, Tcb};
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::EcdsaKeyPair;

/// Where the fields of a report begin (AMD 56860, table 23).
pub mod offset {
    pub const VERSION: usize = 0x00;
    pub const GUEST_SVN: usize = 0x04;
    pub const POLICY: usize = 0x08;
    pub const FAMILY_ID: usize = 0x10;
    pub const IMAGE_ID: usize = 0x20;
    pub const VMPL: usize = 0x30;
    pub const SIGNATURE_ALGO: usize = 0x34;
    pub const CURRENT_TCB: usize = 0x38;
    pub const PLATFORM_INFO: usize = 0x40;
    pub const KEY_INFO: usize = 0x48;
    pub const REPORT_DATA: usize = 0x50;
    pub const MEASUREMENT: usize = 0x90;
    pub const HOST_DATA: usize = 0xc0;
    pub const ID_KEY_DIGEST: usize = 0xe0;
    pub const AUTHOR_KEY_DIGEST: usize = 0x110;
    pub const REPORT_ID: usize = 0x140;
    pub const REPORT_ID_MA: usize = 0x160;
    pub const REPORTED_TCB: usize = 0x180;
    pub const CPUID: usize = 0x188;
    pub const CHIP_ID: usize = 0x1a0;
    pub const COMMITTED_TCB: usize = 0x1e0;
    pub const CURRENT_VERSION: usize = 0x1e8;
    pub const COMMITTED_VERSION: usize = 0x1ec;
    pub const LAUNCH_TCB: usize = 0x1f0;
    pub const LAUNCH_MITIGATIONS: usize = 0x1f8;
    pub const CURRENT_MITIGATIONS: usize = 0x200;
    pub const SIGNATURE: usize = 0x2a0;
}

/// Levels of a test's machines.
#[must_use]
pub fn tcb(line: ProductLine) -> Tcb {
    match line {
        ProductLine::Milan => Tcb::milan_genoa(4, 1, 24, 219),
        ProductLine::Genoa => Tcb::milan_genoa(10, 1, 25, 84),
        ProductLine::Turin => Tcb::turin(2, 3, 4, 5, 81),
    }
}

/// The chip of a test's machines, as a report states it.
#[must_use]
pub fn chip_id(line: ProductLine) -> [u8; 64] {
    let mut chip_id = [0; 64];
    let used = match line {
        ProductLine::Milan | ProductLine::Genoa => 64,
        ProductLine::Turin => 8,
    };
    chip_id[..used].fill(0xc1);
    chip_id
}

/// Bytes of a report before it is signed, or of one that was.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReportBytes(pub [u8; REPORT_SIZE]);

impl ReportBytes {
    /// A report of `version` by a processor of `line`, under the chip's own key: no multithreading, no debug, committed firmware, alias check
    /// complete.
    #[must_use]
    pub fn new(line: ProductLine, version: u32) -> Self {
        let mut report = Self([0; REPORT_SIZE]);
        report.set(offset::VERSION, &version.to_le_bytes());
        report.set(offset::GUEST_SVN, &7_u32.to_le_bytes());
        report.set(offset::POLICY, &0x0002_0137_u64.to_le_bytes());
        report.set(offset::FAMILY_ID, &[0xfa; 16]);
        report.set(offset::IMAGE_ID, &[0x1a; 16]);
        report.set(offset::SIGNATURE_ALGO, &1_u32.to_le_bytes());
        report.set(offset::PLATFORM_INFO, &0x24_u64.to_le_bytes());
        report.set(offset::REPORT_DATA, &[0xda; 64]);
        report.set(offset::MEASUREMENT, &[0x3e; 48]);
        report.set(offset::HOST_DATA, &[0x40; 32]);
        report.set(offset::ID_KEY_DIGEST, &[0x1d; 48]);
        report.set(offset::AUTHOR_KEY_DIGEST, &[0xa0; 48]);
        report.set(offset::REPORT_ID, &[0x5e; 32]);
        report.set(offset::REPORT_ID_MA, &[0xff; 32]);
        if version >= 3 {
            report.set(
                offset::CPUID,
                match line {
                    ProductLine::Milan => &[0x19, 0x01, 1],
                    ProductLine::Genoa => &[0x19, 0x11, 1],
                    ProductLine::Turin => &[0x1a, 0x02, 1],
                },
            );
        }
        report.set(offset::CHIP_ID, &chip_id(line));
        for version in [offset::CURRENT_VERSION, offset::COMMITTED_VERSION] {
            report.set(version, &[0x1d, 55, 1, 0]);
        }
        if version >= 5 {
            report.set(offset::LAUNCH_MITIGATIONS, &0x0b_u64.to_le_bytes());
            report.set(offset::CURRENT_MITIGATIONS, &0x0f_u64.to_le_bytes());
        }
        report.set_levels(tcb(line).encode());
        report
    }

    /// All four levels.
    pub fn set_levels(&mut self, RawTcb(tcb): RawTcb) {
        for at in [
            offset::CURRENT_TCB,
            offset::REPORTED_TCB,
            offset::COMMITTED_TCB,
            offset::LAUNCH_TCB,
        ] {
            self.set(at, &tcb);
        }
    }

    /// Overwrites bytes. The signature holds no more.
    pub fn set(&mut self, at: usize, bytes: &[u8]) {
        self.0[at..at + bytes.len()].copy_from_slice(bytes);
    }

    /// Signs as the firmware does: r and s little endian, 72 bytes each.
    pub fn sign(&mut self, key: &EcdsaKeyPair) {
        let (signed, after) = self.0.split_at_mut(offset::SIGNATURE);
        let signature = key
            .sign(&SystemRandom::new(), signed)
            .expect("a P-384 key signs");
        after.fill(0);
        for (scalar, into) in signature
            .as_ref()
            .chunks_exact(48)
            .zip(after.chunks_exact_mut(72))
        {
            for (from, to) in scalar.iter().rev().zip(into) {
                *to = *from;
            }
        }
    }
}
