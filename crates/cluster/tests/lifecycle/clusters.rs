//! A cluster as its machines see it: its secrets, and the store of its records with the API server's rules of who may write.

use std::collections::BTreeMap;
use std::sync::OnceLock;

use cluster::NodeName;
use cluster::admission::{Record, Standing};
use cluster::identity::NodeIdentity;
use cluster::init::SecretHash;
use cluster::recovery::{ClusterKeys, Offer};
use cluster::state::ClusterValues;
use keys::{
    ClusterId, DiskKey, MasterSecret, MasterSecretFile, MeasurementSalt, MeasurementSecret, Salt,
};

/// The cluster of the administrator.
pub(crate) const OURS: usize = 0;
/// The cluster of the host, on the same image: it has its secrets, and edits its records.
pub(crate) const THEIRS: usize = 1;

/// What an administrator has of a cluster.
pub(crate) struct Secrets {
    master: MasterSecretFile,
    pub(crate) measurement_secret: MeasurementSecret,
    pub(crate) measurement_salt: MeasurementSalt,
    pub(crate) id: ClusterId,
    /// What PCR 15 holds on its machines.
    pub(crate) mark: [u8; 32],
    pub(crate) init_secret: [u8; 4],
    hash: String,
}

/// Of both clusters.
pub(crate) fn secrets(cluster: usize) -> &'static Secrets {
    static SECRETS: OnceLock<[Secrets; 2]> = OnceLock::new();
    &SECRETS.get_or_init(|| [Secrets::new(1), Secrets::new(2)])[cluster]
}

impl Secrets {
    fn new(byte: u8) -> Self {
        let master = MasterSecret::from_vec(vec![byte; 32]).expect("32 bytes");
        let salt = Salt::from_vec(vec![byte; 32]).expect("32 bytes");
        let measurement_secret = MeasurementSecret::derive(&master, &salt);
        let master = MasterSecretFile {
            master_secret: master,
            salt,
        };
        let measurement_salt = MeasurementSalt::from_slice(&[byte; 32]).expect("32 bytes");
        let init_secret = [b'0' + byte; 4];
        let id = ClusterId::derive(&measurement_secret, &measurement_salt);
        Self {
            mark: id.pcr15(),
            id,
            master,
            measurement_secret,
            measurement_salt,
            init_secret,
            hash: bcrypt::hash(init_secret, 4).expect("a hash"),
        }
    }

    pub(crate) fn hash(&self) -> SecretHash {
        SecretHash::parse(&self.hash).expect("a bcrypt hash")
    }

    /// What `constellation recover` sends to a machine that waits with this disk.
    pub(crate) fn offer(&self, disk: cluster::DiskUuid) -> Offer {
        let values = ClusterValues {
            cluster_id: self.id.clone(),
            owner_id: String::new(),
            measurement_salt: self.measurement_salt.clone(),
        };
        let keys = ClusterKeys::new(&self.master, &values).expect("its own secret");
        keys.for_disk(disk).check().expect("keys of their lengths")
    }

    pub(crate) fn disk_key(&self, disk: cluster::DiskUuid) -> DiskKey {
        DiskKey::derive(&self.master.master_secret, &self.master.salt, disk.uuid())
    }
}

/// A record with what belongs to it alone.
#[derive(Clone, Debug)]
pub(crate) struct Object {
    pub(crate) identity: NodeIdentity,
    /// Of the pending node's ticket; `Some("")` until there is one, `None` for a joined node.
    pub(crate) token: Option<String>,
    version: u64,
}

impl Object {
    pub(crate) fn record(&self) -> Record {
        let standing = if self.token.is_some() {
            Standing::Pending
        } else {
            Standing::Joined
        };
        Record {
            identity: self.identity.clone(),
            standing,
        }
    }

    /// A ticket was made for it, or none is needed any more.
    pub(crate) fn is_a_nodes(&self) -> bool {
        self.token.as_deref() != Some("")
    }
}

/// Somebody else was faster.
#[derive(Debug)]
pub(crate) struct Raced;

/// The records of one init's cluster. What is written depends on the version that was read.
#[derive(Debug, Default)]
pub(crate) struct Store {
    objects: BTreeMap<NodeName, Object>,
    version: u64,
}

impl Store {
    pub(crate) fn list(&self) -> Vec<Object> {
        self.objects.values().cloned().collect()
    }

    pub(crate) fn get(&self, name: &NodeName) -> Option<&Object> {
        self.objects.get(name)
    }

    pub(crate) fn create(
        &mut self,
        identity: NodeIdentity,
        token: Option<String>,
    ) -> Result<Object, Raced> {
        if self.objects.contains_key(&identity.name) {
            return Err(Raced);
        }
        Ok(self.put(identity, token))
    }

    pub(crate) fn replace(
        &mut self,
        before: &Object,
        identity: NodeIdentity,
        token: Option<String>,
    ) -> Result<Object, Raced> {
        let now = self.objects.get(&before.identity.name).ok_or(Raced)?;
        if now.version != before.version {
            return Err(Raced);
        }
        // whatever is asked by whomever: what a node has once become it stays
        assert_eq!(now.identity.role, identity.role, "a role changed");
        assert_eq!(
            now.identity.attestation_key_id, identity.attestation_key_id,
            "a record went over to another machine"
        );
        if now.token.is_none() {
            assert!(token.is_none(), "a joined node became a pending one");
            assert_eq!(now.identity, identity, "a joined node's record changed");
        }
        Ok(self.put(identity, token))
    }

    pub(crate) fn delete(&mut self, object: &Object) {
        let now = self.objects.get(&object.identity.name);
        if now.is_some_and(|now| now.version == object.version) {
            self.objects.remove(&object.identity.name);
        }
    }

    fn put(&mut self, identity: NodeIdentity, token: Option<String>) -> Object {
        self.version += 1;
        let object = Object {
            identity,
            token,
            version: self.version,
        };
        self.objects
            .insert(object.identity.name.clone(), object.clone());
        object
    }
}
