//! What must be true after every event. More is asserted where it happens: in the store, at the giving of a key, at a format, a
//! reset and an init.

use std::collections::BTreeSet;

use crate::clusters::{OURS, secrets};
use crate::world::World;

impl World {
    pub(crate) fn check(&self) {
        for at in 0..self.machines.len() {
            self.check_machine(at);
        }
        for instance in &self.instances {
            if instance.cluster == OURS {
                let nodes: Vec<_> = instance.store.list();
                let nodes = nodes.iter().filter(|object| object.is_a_nodes());
                apart(nodes.map(|object| &object.identity));
            }
        }
    }

    pub(crate) fn check_machine(&self, at: usize) {
        self.check_mark(at);
        self.check_member(at);
    }

    /// PCR 15 is zero, or the mark of one cluster, extended once; and no key of another cluster is in a marked machine's memory.
    fn check_mark(&self, at: usize) {
        let machine = &self.machines[at];
        let pcr15 = machine.tpm.pcr15();
        let Some(boot) = &machine.boot else {
            assert_eq!(pcr15, [0; 32], "a register outlived its machine");
            return;
        };
        assert!(boot.extends <= 1, "PCR 15 was extended twice in a boot");
        let locks = boot.begun.len();
        assert!(
            locks <= 1,
            "two flows had the machine in one boot: {:?}",
            boot.begun
        );
        let marked: Vec<usize> = (0..2)
            .filter(|cluster| secrets(*cluster).mark == pcr15)
            .collect();
        if boot.extends == 0 {
            assert!(marked.is_empty(), "a mark that no program made");
            return;
        }
        if boot.soiled {
            assert!(marked.is_empty(), "a mark of two that is one cluster's");
            return;
        }
        assert_eq!(marked.len(), 1, "PCR 15 is no cluster's mark");
        let others: Vec<_> = boot
            .held
            .iter()
            .filter(|cluster| **cluster != marked[0])
            .collect();
        assert!(
            others.is_empty(),
            "a machine of one cluster holds keys of another"
        );
    }

    /// A node that its program takes for complete is one at the next boot too, and the cluster knows it.
    fn check_member(&self, at: usize) {
        let machine = &self.machines[at];
        let Some(boot) = machine.boot.as_ref().filter(|boot| boot.is_member()) else {
            return;
        };
        assert_eq!(boot.extends, 1, "a member without a mark");
        if machine.disk.touched {
            return;
        }
        let header = machine.disk.header().expect("a member's disk has a header");
        let content = &machine.disk.content;
        assert!(content.complete, "a member that is not complete");
        let state = crate::disk::Disk::state(content)
            .expect("it was written")
            .expect("it is there");
        assert!(state.is_member(), "a member whose disk does not know it");
        let of = content
            .records
            .or(content.certificate.as_ref().map(|(of, _)| *of));
        let instance = &self.instances[of.expect("init or kubelet wrote it")];
        let key = secrets(instance.cluster).disk_key(header.uuid);
        assert_eq!(
            &header.key,
            key.expose_bytes(),
            "a member's disk has another key"
        );
        let is_control_plane = state.role() == cluster::Role::ControlPlane;
        assert_eq!(
            content.authorities, is_control_plane,
            "certificates of another role"
        );
        let name = boot.node_name().expect("a member has a name");
        if instance.deleted.contains(&(name.clone(), header.uuid)) {
            return;
        }
        let record = instance.store.get(&name).expect("a member's record");
        assert_eq!(
            record.identity.disk_uuid, header.uuid,
            "a member's record names another disk"
        );
        assert_eq!(
            record.identity.role,
            state.role(),
            "a member's role is not the recorded one"
        );
    }
}

/// No two nodes share anything that is one node's.
fn apart<'a>(nodes: impl Iterator<Item = &'a cluster::identity::NodeIdentity>) {
    let mut seen = BTreeSet::new();
    for node in nodes {
        for (what, value) in [
            ("name", node.name.to_string()),
            ("disk", node.disk_uuid.to_string()),
            ("attestation key", node.attestation_key_id.clone()),
            ("mesh key", node.wireguard_public_key.to_string()),
            ("address", node.node_ip.to_string()),
            ("mesh address", node.mesh_ip.to_string()),
            ("pods", node.pod_cidr.to_string()),
            ("number", node.index.to_string()),
        ] {
            assert!(
                seen.insert((what, value.clone())),
                "two nodes have the {what} {value}"
            );
        }
    }
}
