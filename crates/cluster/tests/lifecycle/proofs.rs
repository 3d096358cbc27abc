//! What machines can prove: test TPMs with keys of their own, and verdicts of the real appraisal on their evidence.
//!
//! A verdict depends on the key, how often its TPM was reset, PCR 15, the role and the mark that is demanded, and on nothing else that the simulation changes. So
//! each is asked for once in the life of the test program, and kept.

use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;

use attest::{
    Binding, ClusterIdDigest, ClusterMark, Digest, Evidence, PcrIndex, Policy, Role, Variant,
    Verified,
};
use keys::ClusterId;
use testkit::appraise;
use testkit::boot::Image;
use testkit::tee::SoftTpm;

/// Most machines of a run.
pub(crate) const MACHINES: usize = 7;

/// Key, resets, PCR 15, role, mark.
type Asked = (usize, u32, [u8; 32], u8, String);

struct Bench {
    image: Image,
    policy: Policy,
    tpms: Vec<SoftTpm>,
    key_ids: Vec<String>,
    verdicts: RefCell<HashMap<Asked, Option<Rc<Verified>>>>,
}

thread_local! {
    static BENCH: Bench = {
        let image = Image::default();
        let tpms = (0..MACHINES).map(|_| SoftTpm::boot(&image)).collect();
        let policy = image.policy();
        let mut bench = Bench { policy, image, tpms, key_ids: Vec::new(), verdicts: RefCell::default() };
        let first = |at| bench.verdict(Tpm(at), Role::Node, &ClusterMark::NotJoined, 1);
        bench.key_ids = (0..MACHINES).map(|at| first(at).expect("it booted").ak_id().to_string()).collect();
        bench
    };
}

/// One of the TPMs. Its key is its own, its registers are those of the machine it is in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Tpm(pub(crate) usize);

impl Tpm {
    /// As it is at the start of a run: so many runs ask for the same verdicts.
    pub(crate) fn begin(self) {
        BENCH.with(|bench| {
            let tpm = &bench.tpms[self.0];
            tpm.reboot(&bench.image);
            tpm.clear();
        });
    }

    /// One more boot, which it counts.
    pub(crate) fn reset(self) {
        BENCH.with(|bench| bench.tpms[self.0].reboot(&bench.image));
    }

    pub(crate) fn extend(self, cluster: &ClusterId) {
        BENCH.with(|bench| bench.tpms[self.0].join(cluster.as_bytes()));
    }

    /// Its attestation key.
    pub(crate) fn key_id(self) -> String {
        BENCH.with(|bench| bench.key_ids[self.0].clone())
    }

    /// The host measures something into the register before the machine does.
    pub(crate) fn soil(self) {
        let digest = Digest::of(b"whatever the host likes");
        BENCH.with(|bench| bench.tpms[self.0].extend(PcrIndex::CLUSTER_MARK, &digest));
    }

    pub(crate) fn pcr15(self) -> [u8; 32] {
        let values = BENCH.with(|bench| bench.tpms[self.0].pcrs());
        *values.get(PcrIndex::CLUSTER_MARK).as_bytes()
    }

    /// The verdict of whoever demands `mark` of a party of this role. Evidence is fresh: made over the session that it is shown in.
    pub(crate) fn proves(self, role: Role, mark: &ClusterMark) -> Option<Rc<Verified>> {
        BENCH.with(|bench| {
            let resets = bench.tpms[self.0].reset_count();
            let asked = (
                self.0,
                resets,
                self.pcr15(),
                role.number(),
                format!("{mark:?}"),
            );
            let mut verdicts = bench.verdicts.borrow_mut();
            verdicts
                .entry(asked)
                .or_insert_with(|| bench.verdict(self, role, mark, 1).ok().map(Rc::new))
                .clone()
        })
    }

    /// What a machine shows that boots something else, with this TPM.
    pub(crate) fn proves_with_other_software(self, mark: &ClusterMark) -> bool {
        BENCH.with(|bench| {
            let tpm = &bench.tpms[self.0];
            tpm.reboot(&bench.image);
            tpm.extend(
                PcrIndex::new(4).expect("a register"),
                &Digest::of(b"another program"),
            );
            let accepted = bench.verdict(self, Role::Node, mark, 1).is_ok();
            tpm.reboot(&bench.image);
            accepted
        })
    }

    /// Evidence that somebody recorded in one session and shows in another.
    pub(crate) fn replay_is_accepted(self, role: Role, mark: &ClusterMark) -> bool {
        BENCH.with(|bench| bench.verdict(self, role, mark, 2).is_ok())
    }
}

impl Bench {
    fn verdict(
        &self,
        tpm: Tpm,
        role: Role,
        mark: &ClusterMark,
        session: u8,
    ) -> Result<Verified, Box<attest::Refusal>> {
        let made = self.tpms[tpm.0].document(&session_of(role, 1)).to_json();
        let evidence = Evidence::new(Variant::QemuVtpm, made).expect("the size of evidence");
        appraise(&evidence, &session_of(role, session), &self.policy, mark).map_err(Box::new)
    }
}

fn session_of(role: Role, number: u8) -> Binding {
    Binding::for_channel(
        role,
        &[number; 64],
        &[number; 32],
        b"server",
        Some(b"client"),
    )
}

/// The mark that the administrator's program demands of the machine it initialises.
pub(crate) fn free_or(cluster: &ClusterId) -> ClusterMark {
    ClusterMark::NotJoinedOrCluster(ClusterIdDigest::of(cluster.as_bytes()))
}
