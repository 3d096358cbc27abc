//! Foreign bytes never panic, and no damage to a real report is taken for the truth.

use attest::azure::{HclReport, RuntimeClaims};
use attest::gcp::InstanceInfo;
use attest::tpm::{PublicKey, Signature, Statement};
use proptest::prelude::*;

use super::{hcl, hcl_report_data};

const SNP: &str = "azure-snp-vtpm/trustee/genoa-v3";
const TDX: &str = "azure-tdx-vtpm/trustee/tdx";

fn everything(bytes: &[u8]) {
    drop(HclReport::parse(bytes));
    drop(RuntimeClaims::parse(bytes));
    drop(InstanceInfo::parse(bytes));
    drop(Statement::parse_bare(bytes).map(|statement| statement.quote().is_ok()));
    for key in [
        PublicKey::P256([4; 65]),
        PublicKey::P384([4; 97]),
        PublicKey::rsa(&[0xff; 256], 0).unwrap(),
    ] {
        drop(Signature::parse_any_form(&key, bytes));
    }
}

proptest! {
    #[test]
    fn random_bytes(bytes in prop::collection::vec(any::<u8>(), 0..600)) {
        everything(&bytes);
        everything(&[b"HCLA".as_slice(), &bytes].concat());
        everything(&[[0x30, 0x40].as_slice(), &bytes].concat());
    }

    #[test]
    fn damaged_reports(
        of_tdx in any::<bool>(),
        flips in prop::collection::vec((any::<usize>(), any::<u8>()), 1..6),
        cut in 0_usize..400,
    ) {
        let truth = hcl(if of_tdx { TDX } else { SNP });
        let report_data = hcl_report_data(&truth);
        let runtime = HclReport::parse(&truth).unwrap().runtime_data().to_vec();
        let mut bytes = truth.clone();
        for (at, value) in flips {
            let at = at % bytes.len();
            bytes[at] ^= value;
        }
        bytes.truncate(bytes.len() - cut);
        everything(&bytes);
        // what still binds has the same runtime data, whatever else was changed
        if let Ok(report) = HclReport::parse(&bytes)
            && report.bind(&report_data).is_ok()
        {
            prop_assert_eq!(report.runtime_data(), runtime);
        }
    }

    #[test]
    fn sizes_never_reach_beyond_the_report(
        sizes in prop::array::uniform3(any::<u32>()),
        small in prop::array::uniform3(0_u32..3000),
        is_small in any::<bool>(),
    ) {
        let mut bytes = hcl(SNP);
        let sizes = if is_small { small } else { sizes };
        for (at, size) in [8, 1216, 1232].into_iter().zip(sizes) {
            bytes[at..at + 4].copy_from_slice(&size.to_le_bytes());
        }
        everything(&bytes);
    }
}
