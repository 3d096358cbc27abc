//! What the steps of init and join do to disk and cluster, where it matters here.

use cluster::identity::{NodeIdentity, WireGuardPublicKey};
use cluster::join::CheckedTicket;
use cluster::network::AddressPlan;
use cluster::node_state::NodeState;
use cluster::plan::{Flow, Step};
use cluster::{NodeName, Role};
use keys::ClusterId;

use crate::boot::Boot;
use crate::clusters::secrets;
use crate::disk::{Disk, Header, Start};
use crate::world::{Instance, Told, World, ip, name};

/// A flow with what it knows.
pub(crate) enum Kind {
    /// Of a cluster; its records, when they are there.
    Init(usize, Option<usize>, Told),
    /// With a ticket for these records.
    Join(Box<CheckedTicket>, usize, Told),
}

/// How the performance of a step ended.
pub(crate) enum Performed {
    Done,
    NotYet,
    Failed,
}

impl Kind {
    pub(crate) fn cluster_id(&self) -> &ClusterId {
        match self {
            Self::Init(cluster, ..) => &secrets(*cluster).id,
            Self::Join(ticket, ..) => &ticket.cluster_id,
        }
    }

    pub(crate) fn name(&self) -> NodeName {
        match self {
            Self::Init(_, _, told) | Self::Join(_, _, told) => name(told.name),
        }
    }

    fn becoming(&self) -> NodeState {
        let (flow, salt) = match self {
            Self::Init(cluster, ..) => (Flow::Init, secrets(*cluster).measurement_salt.as_bytes()),
            Self::Join(ticket, ..) => (Flow::join(ticket.role), ticket.measurement_salt.as_bytes()),
        };
        NodeState::becoming(flow, self.name().as_str(), *salt)
    }
}

impl World {
    pub(crate) fn perform(
        &mut self,
        at: usize,
        boot: &mut Boot,
        kind: &mut Kind,
        step: Step,
    ) -> Performed {
        let opened = boot.opened.clone().expect("a disk");
        match (step, &mut *kind) {
            (Step::NodeState, kind) => {
                let json = kind.becoming().to_json().expect("it can be written");
                let disk = &mut self.machines[at].disk;
                disk.write(opened.volume, |content| content.node_state = Some(json));
                Performed::Done
            }
            (Step::ClusterRecords, Kind::Init(cluster, instance, told)) => {
                let made = self.make_records(at, *cluster, &opened, told);
                *instance = Some(made);
                let disk = &mut self.machines[at].disk;
                disk.write(opened.volume, |content| content.records = Some(made));
                Performed::Done
            }
            (Step::Pki, _) => {
                self.machines[at]
                    .disk
                    .write(opened.volume, |content| content.authorities = true);
                Performed::Done
            }
            (Step::OwnServices, Kind::Init(_, instance, told)) => {
                boot.records = *instance;
                boot.name = Some(name(told.name));
                Performed::Done
            }
            (Step::Kubelet, Kind::Join(ticket, instance, _)) => {
                if !self.is_served(*instance) {
                    return Performed::NotYet;
                }
                let Some(owner) = self.owner_of_token(*instance, ticket.token.expose_text()) else {
                    return Performed::Failed;
                };
                let certificate = Some((*instance, owner));
                let disk = &mut self.machines[at].disk;
                disk.write(opened.volume, |content| content.certificate = certificate);
                Performed::Done
            }
            (Step::DiskKey, kind) => self.set_key(at, boot, kind, &opened),
            _ => Performed::Done,
        }
    }

    /// The last step, write by write.
    fn set_key(&mut self, at: usize, boot: &mut Boot, kind: &Kind, opened: &Header) -> Performed {
        let key = match kind {
            Kind::Init(cluster, ..) => secrets(*cluster).disk_key(opened.uuid),
            Kind::Join(ticket, ..) => {
                let key = keys::DiskKey::from_slice(ticket.disk_key.expose_bytes());
                key.expect("a key's length")
            }
        };
        let disk = &mut self.machines[at].disk;
        boot.disk_key_writes += 1;
        match boot.disk_key_writes {
            1 => {
                let recorded = disk.read(opened.volume).map(Disk::state);
                let Some(Ok(Some(state))) = recorded else {
                    return Performed::Failed;
                };
                let json = state.into_member().to_json().expect("it can be written");
                disk.write(opened.volume, |content| content.node_state = Some(json));
                Performed::NotYet
            }
            2 => {
                disk.start = Start::Nothing;
                Performed::NotYet
            }
            3 => {
                disk.start = Start::Header(Header {
                    key: *key.expose_bytes(),
                    ..opened.clone()
                });
                Performed::NotYet
            }
            _ => {
                boot.first_boot = false;
                boot.opened = Some(Header {
                    key: *key.expose_bytes(),
                    ..opened.clone()
                });
                self.machines[at].console = None;
                Performed::Done
            }
        }
    }

    /// The first node records itself, and so gives its disk a key.
    fn make_records(&mut self, at: usize, cluster: usize, opened: &Header, told: &Told) -> usize {
        let place = AddressPlan::default().node(1).expect("a first place");
        let content = self.machines[at].disk.read(opened.volume);
        let mesh_key = content.map_or([1; 32], |content| content.mesh_key);
        let identity = NodeIdentity {
            name: name(told.name),
            role: Role::ControlPlane,
            disk_uuid: opened.uuid,
            attestation_variant: attest::Variant::QemuVtpm.to_string(),
            attestation_key_id: self.machines[at].tpm.key_id(),
            measurements: std::collections::BTreeMap::new(),
            index: place.index,
            mesh_ip: place.mesh_ip,
            pod_cidr: place.pod_cidr,
            node_ip: ip(told.address),
            wireguard_public_key: WireGuardPublicKey::new(mesh_key),
            admitted_at: "1970-01-01T00:00:00Z".to_owned(),
            reset_count: None,
        };
        let mut store = crate::clusters::Store::default();
        let record = store.create(identity, None).expect("it is empty");
        self.instances.push(Instance {
            cluster,
            store,
            deleted: std::collections::BTreeSet::new(),
        });
        let instance = self.instances.len() - 1;
        let tpm = self.machines[at].tpm;
        self.note_given(instance, opened.uuid, tpm, &[record]);
        instance
    }

    /// The kubelet of a machine asks for something with its own certificate.
    pub(crate) fn use_certificate(&mut self, at: usize) {
        let machine = &self.machines[at];
        let Some(opened) = machine.boot.as_ref().and_then(|boot| boot.opened.as_ref()) else {
            return;
        };
        let content = machine.disk.read(opened.volume);
        if let Some((instance, name)) = content.and_then(|content| content.certificate.clone())
            && self.is_served(instance)
            && machine.boot.as_ref().is_some_and(|boot| boot.extends > 0)
        {
            self.seen_with_certificate(instance, &name);
        }
    }
}
