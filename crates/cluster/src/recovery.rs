//! Recovery: what an administrator gives to a machine whose disk no join service opens, and what such a machine says of itself.
//!
//! The administrator has the master secret and gives the two keys that this machine needs, never the secret itself: [`ClusterKeys`]
//! derives them for the disk that waits. The machine can not tell an administrator from anybody else but by the key: an [`Offer`]
//! whose key does not open the disk changes nothing ([`crate::rejoin`]).
//!
//! Does no IO. Design: `cluster.md` (Join, last paragraph), `boot-and-disk.md` (Reboot).

use keys::{ClusterId, DiskKey, LengthError, MasterSecretFile, MeasurementSalt, MeasurementSecret};

use crate::state::ClusterValues;
use crate::{DiskUuid, NodeName};

/// What a machine that waits says of itself. Its evidence proves what it runs, not which node it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Waiting {
    /// The disk whose key it waits for.
    pub disk_uuid: DiskUuid,
    /// What the infrastructure calls the machine, if it said so.
    pub node_name: Option<NodeName>,
}

/// The keys for one machine as they go over the channel: lengths unchecked.
pub struct Request {
    /// Key of the machine's state disk.
    pub state_disk_key: Vec<u8>,
    /// Secret of the cluster ID.
    pub measurement_secret: Vec<u8>,
    /// Salt of the cluster ID.
    pub measurement_salt: Vec<u8>,
}

/// A key, a secret or the salt has the wrong length.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("the keys are malformed")]
pub struct RequestError(#[source] LengthError);

/// Keys of the right form, which open this machine's disk or do not. Made by [`Request::check`] only.
#[derive(Debug)]
pub struct Offer {
    disk_key: DiskKey,
    cluster_id: ClusterId,
}

impl Request {
    /// Checks everything that can be checked without the disk.
    pub fn check(self) -> Result<Offer, RequestError> {
        // all three before the first error: what was taken over is zeroed
        let disk_key = DiskKey::from_vec(self.state_disk_key);
        let secret = MeasurementSecret::from_vec(self.measurement_secret);
        let salt = MeasurementSalt::from_slice(&self.measurement_salt);
        let secret = secret.map_err(RequestError)?;
        Ok(Offer {
            disk_key: disk_key.map_err(RequestError)?,
            cluster_id: ClusterId::derive(&secret, &salt.map_err(RequestError)?),
        })
    }
}

impl Offer {
    pub(crate) fn into_parts(self) -> (DiskKey, ClusterId) {
        (self.disk_key, self.cluster_id)
    }
}

/// The master secret is not that of the cluster in the state file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the master secret is that of another cluster")]
pub struct AnotherMasterSecret;

/// The administrator's side: gives the keys of one disk after the other.
#[derive(Debug)]
pub struct ClusterKeys<'a> {
    master: &'a MasterSecretFile,
    measurement_secret: MeasurementSecret,
    measurement_salt: MeasurementSalt,
}

impl<'a> ClusterKeys<'a> {
    /// Of the cluster whose ID the master secret and the recorded salt give. With another master secret no disk would open; with
    /// another salt the disk would, on a machine that then bears the mark of no cluster.
    pub fn new(
        master: &'a MasterSecretFile,
        values: &ClusterValues,
    ) -> Result<Self, AnotherMasterSecret> {
        let measurement_secret = MeasurementSecret::derive(&master.master_secret, &master.salt);
        let measurement_salt = values.measurement_salt.clone();
        if ClusterId::derive(&measurement_secret, &measurement_salt) != values.cluster_id {
            return Err(AnotherMasterSecret);
        }
        Ok(Self {
            master,
            measurement_secret,
            measurement_salt,
        })
    }

    /// The keys of the machine with this disk.
    pub fn for_disk(&self, disk: DiskUuid) -> Request {
        let MasterSecretFile {
            master_secret,
            salt,
        } = self.master;
        let disk_key = DiskKey::derive(master_secret, salt, disk.uuid());
        Request {
            state_disk_key: disk_key.expose_bytes().to_vec(),
            measurement_secret: self.measurement_secret.expose_bytes().to_vec(),
            measurement_salt: self.measurement_salt.as_bytes().to_vec(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DISK: &str = "0b5c9e7e-6d2f-4f0e-9c3a-2f1d8b7a6c54";

    fn master() -> MasterSecretFile {
        MasterSecretFile::generate().unwrap()
    }

    fn values(master: &MasterSecretFile, salt: u8) -> ClusterValues {
        let measurement_salt = MeasurementSalt::from_slice(&[salt; 32]).unwrap();
        let secret = MeasurementSecret::derive(&master.master_secret, &master.salt);
        ClusterValues {
            cluster_id: ClusterId::derive(&secret, &measurement_salt),
            owner_id: String::new(),
            measurement_salt,
        }
    }

    #[test]
    fn the_keys_are_the_disks_own_and_never_the_master_secret() {
        let master = master();
        let values = values(&master, 1);
        let keys = ClusterKeys::new(&master, &values).unwrap();
        let disk: DiskUuid = DISK.parse().unwrap();
        let request = keys.for_disk(disk);
        let sent = [&request.state_disk_key, &request.measurement_secret];
        assert!(
            sent.iter()
                .all(|key| **key != master.master_secret.expose_bytes())
        );
        let other = keys.for_disk(DiskUuid::new(uuid::Uuid::from_u128(7)).unwrap());
        assert_ne!(other.state_disk_key, request.state_disk_key);
        let expected = DiskKey::derive(&master.master_secret, &master.salt, disk.uuid());
        let offer = request.check().unwrap();
        assert_eq!(offer.disk_key, expected);
        assert_eq!(offer.cluster_id, values.cluster_id);
        assert!(format!("{offer:?}").contains("DiskKey(redacted)"));
    }

    #[test]
    fn another_clusters_secret_or_salt_is_told_before_anything_is_sent() {
        let (ours, theirs) = (master(), master());
        for (master, values) in [
            (&theirs, values(&ours, 1)),
            (
                &ours,
                ClusterValues {
                    measurement_salt: MeasurementSalt::from_slice(&[2; 32]).unwrap(),
                    ..values(&ours, 1)
                },
            ),
        ] {
            assert_eq!(
                ClusterKeys::new(master, &values).unwrap_err(),
                AnotherMasterSecret
            );
        }
    }

    #[test]
    fn keys_of_another_length_are_no_offer() {
        let parts: [fn(&mut Request) -> &mut Vec<u8>; 3] = [
            |request| &mut request.state_disk_key,
            |request| &mut request.measurement_salt,
            |request| &mut request.measurement_secret,
        ];
        for part in parts {
            for length in [0, 31, 33, 4096] {
                let mut wrong = Request {
                    state_disk_key: vec![1; 32],
                    measurement_secret: vec![1; 32],
                    measurement_salt: vec![1; 32],
                };
                part(&mut wrong).resize(length, 1);
                assert!(wrong.check().is_err());
            }
        }
    }
}
