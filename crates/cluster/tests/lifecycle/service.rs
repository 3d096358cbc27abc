//! The join services: one request at a time in one session, in the steps between which others may write. What decides is
//! `cluster::admission`; the order of list, write, look again and ticket is that of the program `join-service`.

use std::rc::Rc;

use attest::{ClusterMark, Role as Party, Verified};
use cluster::admission::{
    AdmittedNode, JoinRequest, Proven, RecognisedNode, Record, Write, admit, conflict, recognise,
};
use cluster::catalogue::{Component, Sha256, programs};
use cluster::network::{AddressPlan, WIREGUARD_PORT};
use cluster::rounds::ProvedMark;
use cluster::{DiskUuid, NodeName, Role};
use cluster::{join, rejoin};

use crate::clusters::{OURS, Object, Raced, THEIRS, secrets};
use crate::proofs::Tpm;
use crate::world::{Reason, World};

const AUTHORITY: &str = "-----BEGIN CERTIFICATE-----\nMAo=\n-----END CERTIFICATE-----\n";

/// What a machine asks in a session.
pub(crate) enum Request {
    Join(JoinRequest),
    Rejoin(DiskUuid),
}

/// An attested channel between a machine's boot and a service's boot.
pub(crate) struct Session {
    pub(crate) id: u64,
    pub(crate) machine: usize,
    /// The boot in which it was opened; another one has not its keys.
    pub(crate) boot: u64,
    /// Whose evidence it was.
    tpm: Tpm,
    server: usize,
    server_boot: u64,
    instance: usize,
    verified: Rc<Verified>,
    pub(crate) mark: ProvedMark,
    request: Request,
    stage: Stage,
}

impl Session {
    /// Whose records its service reads.
    pub(crate) fn instance(&self) -> usize {
        self.instance
    }
}

enum Stage {
    Asked,
    Listed(Vec<Object>),
    Written(AdmittedNode, Object),
    Confirmed(Object, Vec<Object>),
    Answered(Answer),
}

/// What comes back.
pub(crate) enum Answer {
    Join(Box<join::Ticket>),
    Rejoin(rejoin::Ticket),
    No(Reason),
}

impl World {
    /// Opens a session from `machine` to `server` if both prove themselves, else says why not.
    pub(crate) fn open_session(
        &mut self,
        (machine, boot): (usize, u64),
        server: usize,
        request: Request,
    ) -> Result<u64, Reason> {
        let instance = self.served_by(server).ok_or(Reason::NoControlPlane)?;
        let client_tpm = self.machines[machine].tpm;
        let shown = client_tpm.proves(Party::Node, &ClusterMark::NotJoined);
        let mark = self.machines[server]
            .tpm
            .proves(Party::JoinService, &ClusterMark::AnyCluster);
        let (Some(verified), Some(mark)) = (shown, mark) else {
            return Err(Reason::NotProved);
        };
        assert_eq!(
            client_tpm.pcr15(),
            [0; 32],
            "a marked machine got a session"
        );
        let server_boot = self.machines[server]
            .boot
            .as_ref()
            .expect("it serves")
            .number;
        let id = self.fresh();
        self.sessions.push(Session {
            id,
            machine,
            boot,
            tpm: client_tpm,
            server,
            server_boot,
            instance,
            verified,
            mark: ProvedMark::from(&*mark),
            request,
            stage: Stage::Asked,
        });
        Ok(id)
    }

    /// One step of the service in a session. A service that stopped takes none.
    pub(crate) fn serve(&mut self, at: usize) {
        let mut session = self.sessions.remove(at);
        let server = self.machines[session.server].boot.as_ref();
        let runs = server.is_some_and(|boot| {
            boot.number == session.server_boot && boot.serves() == Some(session.instance)
        });
        if !runs {
            return;
        }
        let stage = std::mem::replace(&mut session.stage, Stage::Asked);
        session.stage = match stage {
            Stage::Asked => Stage::Listed(self.instances[session.instance].store.list()),
            Stage::Listed(listed) => self.decide(&session, listed),
            Stage::Written(node, written) => self.confirm(session.instance, node, written),
            Stage::Confirmed(written, all) => {
                self.ticket(session.instance, session.tpm, written, &all)
            }
            Stage::Answered(answer) => Stage::Answered(answer),
        };
        self.sessions.insert(at, session);
    }

    /// Takes the answer out of a session that has one.
    pub(crate) fn answer(&mut self, at: usize) -> Option<(Session, Answer)> {
        let session = &self.sessions[at];
        if !matches!(session.stage, Stage::Answered(_)) {
            return None;
        }
        let mut session = self.sessions.remove(at);
        match std::mem::replace(&mut session.stage, Stage::Asked) {
            Stage::Answered(answer) => Some((session, answer)),
            _ => None,
        }
    }

    fn decide(&mut self, session: &Session, listed: Vec<Object>) -> Stage {
        let records: Vec<Record> = listed.iter().map(Object::record).collect();
        let proven = Proven::from(&*session.verified);
        match &session.request {
            Request::Join(request) => {
                let now = jiff::Timestamp::UNIX_EPOCH;
                match admit(request, &proven, &records, &AddressPlan::default(), now) {
                    Ok(node) => self.write(session.instance, node, &listed),
                    Err(denial) => Stage::Answered(Answer::No(Reason::Denied(denial))),
                }
            }
            Request::Rejoin(disk) => match recognise(*disk, &proven, &records) {
                Ok(node) => {
                    if self.note_boot(session.instance, &node, &listed).is_err() {
                        return Stage::Answered(Answer::No(Reason::ServiceFailed));
                    }
                    let disk = node.identity().disk_uuid;
                    self.note_given(session.instance, disk, session.tpm, &listed);
                    Stage::Answered(Answer::Rejoin(self.rejoin_ticket(session.instance, disk)))
                }
                Err(why) => Stage::Answered(Answer::No(Reason::Unrecognised(why))),
            },
        }
    }

    /// Before a pending node gets its disk's key, its record takes over in which boot it is.
    fn note_boot(
        &mut self,
        instance: usize,
        node: &RecognisedNode,
        listed: &[Object],
    ) -> Result<(), Raced> {
        let identity = node.identity();
        let before = listed
            .iter()
            .find(|object| object.identity.name == identity.name);
        match (node.write(), before) {
            (Write::Keep, _) => Ok(()),
            (Write::Create | Write::Replace, before) => {
                let before = before.ok_or(Raced)?;
                let store = &mut self.instances[instance].store;
                store
                    .replace(before, identity.clone(), before.token.clone())
                    .map(drop)
            }
        }
    }

    fn write(&mut self, instance: usize, node: AdmittedNode, listed: &[Object]) -> Stage {
        let store = &mut self.instances[instance].store;
        let identity = node.identity().clone();
        let before = listed
            .iter()
            .find(|object| object.identity.name == identity.name);
        let token = Some(String::new());
        let written = match (node.write(), before) {
            (Write::Create, _) => store.create(identity, token),
            (Write::Keep | Write::Replace, Some(before)) => store.replace(before, identity, token),
            (Write::Keep | Write::Replace, None) => Err(Raced),
        };
        match written {
            Ok(written) => Stage::Written(node, written),
            Err(Raced) => Stage::Answered(Answer::No(Reason::ServiceFailed)),
        }
    }

    fn confirm(&mut self, instance: usize, node: AdmittedNode, written: Object) -> Stage {
        let store = &mut self.instances[instance].store;
        let all = store.list();
        let records: Vec<Record> = all.iter().map(Object::record).collect();
        if conflict(node.identity(), &records).is_some() {
            store.delete(&written);
            return Stage::Answered(Answer::No(Reason::ServiceFailed));
        }
        Stage::Confirmed(written, all)
    }

    fn ticket(&mut self, instance: usize, tpm: Tpm, written: Object, all: &[Object]) -> Stage {
        let number = self.fresh();
        let token = format!("{number:06}");
        let store = &mut self.instances[instance].store;
        let identity = written.identity.clone();
        if store
            .replace(&written, identity.clone(), Some(token.clone()))
            .is_err()
        {
            return Stage::Answered(Answer::No(Reason::ServiceFailed));
        }
        self.note_given(
            instance,
            identity.disk_uuid,
            tpm,
            std::slice::from_ref(&written),
        );
        let keys = self.rejoin_ticket(instance, identity.disk_uuid);
        let peers = all.iter().map(|object| &object.identity);
        Stage::Answered(Answer::Join(Box::new(join::Ticket {
            state_disk_key: keys.state_disk_key,
            measurement_salt: keys.measurement_salt,
            measurement_secret: keys.measurement_secret,
            token: format!("{token}.0123456789abcdef"),
            cluster_name: "mini".to_owned(),
            kubernetes_version: "v1.20.2".to_owned(),
            components: components(),
            component_mirror: String::new(),
            ca_certificate: AUTHORITY.as_bytes().to_vec(),
            mesh_ip: identity.mesh_ip.to_string(),
            pod_cidr: identity.pod_cidr.to_string(),
            cluster_pod_cidr: AddressPlan::default().pods().to_string(),
            service_cidr: AddressPlan::default().services().to_string(),
            peers: peers
                .filter(|peer| peer.name != identity.name)
                .map(|peer| join::TicketPeer {
                    public_key: peer.wireguard_public_key.as_bytes().to_vec(),
                    endpoint: format!("{}:{WIREGUARD_PORT}", peer.node_ip),
                    mesh_ip: peer.mesh_ip.to_string(),
                    pod_cidr: peer.pod_cidr.to_string(),
                    node_name: peer.name.to_string(),
                    is_control_plane: peer.role == Role::ControlPlane,
                })
                .collect(),
            control_plane_files: match identity.role {
                Role::ControlPlane => vec![join::ControlPlaneFile {
                    name: "pki/ca.crt".to_owned(),
                    text: AUTHORITY.to_owned().into(),
                }],
                Role::Worker => Vec::new(),
            },
            api_sans: Vec::new(),
        })))
    }

    /// The keys for a disk. Whoever owns the host's cluster may have bent its salt or its secret, which its join services then send.
    fn rejoin_ticket(&self, instance: usize, disk: DiskUuid) -> rejoin::Ticket {
        let cluster = self.instances[instance].cluster;
        let secrets = secrets(cluster);
        let mut ticket = rejoin::Ticket {
            state_disk_key: secrets.disk_key(disk).expose_bytes().to_vec(),
            measurement_salt: secrets.measurement_salt.as_bytes().to_vec(),
            measurement_secret: secrets.measurement_secret.expose_bytes().to_vec(),
            bootstrap_token: String::new(),
        };
        if cluster == THEIRS {
            match self.bent % 4 {
                1 => ticket.measurement_salt[0] ^= 1,
                2 => ticket.measurement_secret[0] ^= 1,
                3 => ticket.measurement_secret.truncate(31),
                _ => {}
            }
        }
        ticket
    }

    /// A disk's key leaves the administrator's cluster: to the machine that is on record with it, and to no other ever.
    pub(crate) fn note_given(
        &mut self,
        instance: usize,
        disk: DiskUuid,
        to: Tpm,
        records: &[Object],
    ) {
        if self.instances[instance].cluster != OURS {
            return;
        }
        let key_id = to.key_id();
        let recorded = records
            .iter()
            .map(|object| &object.identity)
            .any(|identity| identity.disk_uuid == disk && identity.attestation_key_id == key_id);
        assert!(
            recorded,
            "the key of {disk} went to a machine that is not on record with it"
        );
        let released = self.released.contains(&disk);
        let owners = self.given.entry(disk).or_default();
        if !owners.contains(&to) {
            assert!(
                owners.is_empty() || released,
                "the key of {disk} went to a second machine"
            );
            owners.push(to);
        }
    }

    /// The API takes a kubelet's bootstrap token, and names its node.
    pub(crate) fn owner_of_token(&self, instance: usize, token: &str) -> Option<NodeName> {
        let id = token.get(..6)?;
        let objects = self.instances[instance].store.list();
        let owner = objects
            .iter()
            .find(|object| object.token.as_deref() == Some(id))?;
        Some(owner.identity.name.clone())
    }

    /// A kubelet asks for something with its own certificate: its node has joined.
    pub(crate) fn seen_with_certificate(&mut self, instance: usize, name: &NodeName) {
        let store = &mut self.instances[instance].store;
        if let Some(object) = store.get(name).cloned()
            && object.token.is_some()
        {
            let identity = object.identity.clone();
            store
                .replace(&object, identity, None)
                .expect("read just now");
        }
    }
}

fn components() -> Vec<Component> {
    let version = "v1.20.2".parse().expect("a version");
    programs(Role::ControlPlane)
        .map(|program| Component::program(program, version, Sha256::of(program.as_bytes())))
        .collect()
}
