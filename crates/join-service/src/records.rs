//! The records of the nodes (`NodeIdentity` objects) as this service reads and writes them.
//!
//! Beside the identity a record carries how far the node has come, in an annotation that only this service writes: [`TOKEN`] is
//! there while the node is pending, with the id of the bootstrap token that belongs to it (empty until there is one). It goes when
//! the node asks for something with its own certificate, since only then is it sure that the node has one. A record without
//! [`TOKEN`] is a joined node's: so are those that were not made here, such as the first node's.
//!
//! A joined node that rebooted may have a token as well, if its certificate ended while it was off: [`REJOIN_TOKEN`] has its id. It
//! changes nothing about the node's standing, so that no other disk comes in under its name.
//!
//! [`CERTIFICATES`] says which client certificates the node was issued under this record ([`Certificates`]). A record that is written
//! again has none.
//!
//! Every change names the version it is based on, so that of two services that change a record at once one fails.

mod certificates;

use std::{collections::BTreeMap, time::Duration};

use cluster::{
    NodeName,
    admission::{AdmittedNode, RecognisedNode, Record, Standing, Unique, Write, conflict},
};
use k8s::identities::{self, NodeIdentity, RecordError};
use kube::{
    Api, Client, ResourceExt as _,
    api::{DeleteParams, PostParams, Preconditions},
};

pub(crate) use self::certificates::{Awaited, Certificates};

const TOKEN: &str = "constellation.edgeless.systems/bootstrap-token-id";
const REJOIN_TOKEN: &str = "constellation.edgeless.systems/rejoin-token-id";
const CERTIFICATES: &str = "constellation.edgeless.systems/kubelet-certificates";

#[derive(Debug, thiserror::Error)]
pub(crate) enum RecordsError {
    #[error("list the node records")]
    List(#[source] kube::Error),
    // It could hide a conflict, so nobody is admitted until an administrator repaired it.
    #[error("a node record cannot be read")]
    Unreadable(#[source] RecordError),
    #[error("encode which certificates were issued to {0}")]
    Encode(NodeName, #[source] serde_json::Error),
    #[error("write the record of {0}")]
    Write(NodeName, #[source] kube::Error),
    #[error("the record of {0} was changed by someone else at the same time")]
    Raced(NodeName),
    #[error(
        "{name} was admitted elsewhere at the same time with the same {what} as {other}; its record was withdrawn"
    )]
    Conflict {
        name: NodeName,
        what: Unique,
        other: NodeName,
    },
    #[error("not done within {} s", .0.as_secs())]
    Late(Duration),
}

/// A record with what this service needs to change it.
#[derive(Clone, Debug)]
pub(crate) struct Stored {
    pub(crate) record: Record,
    pub(crate) certificates: Certificates,
    object: NodeIdentity,
}

impl Stored {
    fn read(object: NodeIdentity) -> Result<Self, RecordsError> {
        let identity = object.to_identity().map_err(RecordsError::Unreadable)?;
        let pending = object.annotations().contains_key(TOKEN);
        let standing = if pending {
            Standing::Pending
        } else {
            Standing::Joined
        };
        let certificates = match object.annotations().get(CERTIFICATES) {
            None => Certificates::default(),
            Some(text) => serde_json::from_str(text).unwrap_or_else(|error| {
                // as if none had been issued: the node needs a token then, which it gets when it reboots
                tracing::error!(node = %identity.name, %error, "the record does not say which certificates were issued");
                Certificates::default()
            }),
        };
        Ok(Self {
            record: Record { identity, standing },
            certificates,
            object,
        })
    }

    pub(crate) fn name(&self) -> &NodeName {
        &self.record.identity.name
    }

    /// The token that belongs to the node: of a pending one that of its join, of a joined one that of its last reboot.
    pub(crate) fn token_id(&self) -> Option<&str> {
        let annotation = match self.record.standing {
            Standing::Pending => TOKEN,
            Standing::Joined => REJOIN_TOKEN,
        };
        self.object
            .annotations()
            .get(annotation)
            .map(String::as_str)
            .filter(|id| !id.is_empty())
    }

    fn annotated(&self, edit: impl FnOnce(&mut BTreeMap<String, String>)) -> NodeIdentity {
        let mut object = self.object.clone();
        edit(object.annotations_mut());
        object
    }
}

/// A record that was written, and may have met another service's.
pub(crate) struct Written(Stored);

impl Written {
    pub(crate) fn stored(&self) -> &Stored {
        &self.0
    }
}

/// All records of the cluster.
#[derive(Clone)]
pub(crate) struct Records(Api<NodeIdentity>);

impl Records {
    pub(crate) fn new(client: Client) -> Self {
        Self(identities::api(client))
    }

    /// Every record, as of now.
    pub(crate) async fn list(&self) -> Result<Vec<Stored>, RecordsError> {
        let objects = self
            .0
            .list(&identities::list_params())
            .await
            .map_err(RecordsError::List)?;
        objects.items.into_iter().map(Stored::read).collect()
    }

    /// Writes the record of an admitted node as pending.
    pub(crate) async fn write(
        &self,
        admitted: &AdmittedNode,
        before: Option<&Stored>,
    ) -> Result<Written, RecordsError> {
        let name = &admitted.identity().name;
        let mut object = NodeIdentity::from_identity(admitted.identity());
        object
            .annotations_mut()
            .insert(TOKEN.to_owned(), String::new());
        let written = match admitted.write() {
            Write::Create => self.0.create(&PostParams::default(), &object).await,
            Write::Keep | Write::Replace => {
                // Also where nothing changed: a token that was made for an earlier ticket is the record's no more.
                object.metadata.resource_version =
                    before.and_then(|stored| stored.object.resource_version());
                self.0
                    .replace(name.as_str(), &PostParams::default(), &object)
                    .await
            }
        };
        Stored::read(written.map_err(|error| failed(name, error))?).map(Written)
    }

    /// Looks again, at all records as they were read after this one was written: a conflict with a record that was written
    /// elsewhere at the same time withdraws it.
    pub(crate) async fn confirm(
        &self,
        Written(written): Written,
        now: &[Record],
    ) -> Result<Stored, RecordsError> {
        match conflict(&written.record.identity, now) {
            None => Ok(written),
            Some((what, other)) => {
                let conflict = RecordsError::Conflict {
                    name: written.name().clone(),
                    what,
                    other: other.clone(),
                };
                self.withdraw(&written).await?;
                Err(conflict)
            }
        }
    }

    /// Takes note of the boot that a node which is not joined yet asks for its disk's key in.
    pub(crate) async fn note_boot(
        &self,
        recognised: &RecognisedNode,
        stored: Stored,
    ) -> Result<Stored, RecordsError> {
        if recognised.write() == Write::Keep {
            return Ok(stored);
        }
        let name = stored.name();
        let mut object = NodeIdentity::from_identity(recognised.identity());
        // with its token and its version: whatever changed since it was read is decided on anew
        object.metadata = stored.object.metadata.clone();
        let written = self
            .0
            .replace(name.as_str(), &PostParams::default(), &object)
            .await;
        Stored::read(written.map_err(|error| failed(name, error))?)
    }

    /// Binds a bootstrap token to a node.
    pub(crate) async fn set_token(
        &self,
        stored: &Stored,
        token_id: &str,
    ) -> Result<(), RecordsError> {
        let annotation = match stored.record.standing {
            Standing::Pending => TOKEN,
            Standing::Joined => REJOIN_TOKEN,
        };
        let object = stored.annotated(|annotations| {
            annotations.insert(annotation.to_owned(), token_id.to_owned());
        });
        self.replace(stored, &object).await.map(drop)
    }

    /// Takes note of a node's certificates, and of whether it was seen with one: then it has joined, and has no token any more. What is
    /// noted already is not written again.
    pub(crate) async fn set_certificates(
        &self,
        stored: &Stored,
        certificates: &Certificates,
        seen: bool,
    ) -> Result<Stored, RecordsError> {
        let text = serde_json::to_string(certificates)
            .map_err(|error| RecordsError::Encode(stored.name().clone(), error))?;
        let object = stored.annotated(|annotations| {
            if seen {
                annotations.remove(TOKEN);
                annotations.remove(REJOIN_TOKEN);
            }
            if *certificates != stored.certificates {
                annotations.insert(CERTIFICATES.to_owned(), text);
            }
        });
        if object == stored.object {
            return Ok(stored.clone());
        }
        self.replace(stored, &object).await
    }

    async fn replace(
        &self,
        stored: &Stored,
        object: &NodeIdentity,
    ) -> Result<Stored, RecordsError> {
        let name = stored.name();
        let written = self
            .0
            .replace(name.as_str(), &PostParams::default(), object)
            .await
            .map_err(|error| failed(name, error))?;
        Stored::read(written)
    }

    async fn withdraw(&self, stored: &Stored) -> Result<(), RecordsError> {
        let precondition = Preconditions {
            resource_version: stored.object.resource_version(),
            uid: stored.object.uid(),
        };
        let params = DeleteParams::default().preconditions(precondition);
        match self.0.delete(stored.name().as_str(), &params).await {
            Ok(_) => Ok(()),
            Err(kube::Error::Api(status)) if status.is_not_found() => Ok(()),
            Err(error) => Err(failed(stored.name(), error)),
        }
    }
}

fn failed(name: &NodeName, error: kube::Error) -> RecordsError {
    match error {
        kube::Error::Api(status)
            if status.is_conflict() || status.is_already_exists() || status.is_not_found() =>
        {
            RecordsError::Raced(name.clone())
        }
        error => RecordsError::Write(name.clone(), error),
    }
}

#[cfg(test)]
pub(crate) mod tests;
