//! A state disk: what lies on the platter, and a header that a program has read.
//!
//! How a real one is read and written is `disk`'s matter; here it is as `docs/life-of-a-key.md` says: a header is there whole or not
//! at all, it opens with one key, and sectors authenticate under one volume key only. Single sectors can be put back.

use cluster::DiskUuid;
use cluster::node_state::NodeState;

/// A LUKS2 header that the parser accepts, marked initialised.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Header {
    pub(crate) uuid: DiskUuid,
    /// What opens it.
    pub(crate) key: [u8; 32],
    /// The volume key, by number.
    pub(crate) volume: u64,
}

/// What the first sectors hold.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) enum Start {
    #[default]
    Nothing,
    Header(Header),
    /// A header that the parser does not accept.
    Refused,
}

/// The other sectors.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Content {
    /// Under which volume key they authenticate; 0: none.
    pub(crate) volume: u64,
    pub(crate) node_state: Option<Vec<u8>>,
    /// The node's key in the mesh.
    pub(crate) mesh_key: [u8; 32],
    /// The client certificate of its kubelet: of which instance, for which name.
    pub(crate) certificate: Option<(usize, cluster::NodeName)>,
    /// Certificates of a control plane.
    pub(crate) authorities: bool,
    /// etcd's data: the records of this instance.
    pub(crate) records: Option<usize>,
    /// Every step of init or join was done.
    pub(crate) complete: bool,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Disk {
    pub(crate) start: Start,
    pub(crate) content: Content,
    /// The host wrote to it since it was made.
    pub(crate) touched: bool,
}

impl Disk {
    pub(crate) fn header(&self) -> Option<&Header> {
        match &self.start {
            Start::Header(header) => Some(header),
            Start::Nothing | Start::Refused => None,
        }
    }

    /// A node that is complete loses its disk only by the host's hand.
    pub(crate) fn lose(&mut self, what: &str) {
        let complete = self.content.complete && !self.touched && self.header().is_some();
        assert!(!complete, "{what}: the disk of a complete node");
        self.start = Start::Nothing;
    }

    /// The content as an opened disk shows it.
    pub(crate) fn read(&self, volume: u64) -> Option<&Content> {
        (self.content.volume == volume).then_some(&self.content)
    }

    /// Writes through an opened disk. Where the host has exchanged the sectors in the meantime, nothing fits any more.
    pub(crate) fn write(&mut self, volume: u64, change: impl FnOnce(&mut Content)) {
        if self.content.volume == volume {
            change(&mut self.content);
        } else {
            self.content = Content::default();
            self.touched = true;
        }
    }

    pub(crate) fn state(content: &Content) -> Result<Option<NodeState>, ()> {
        match &content.node_state {
            None => Ok(None),
            Some(json) => NodeState::from_json(json).map(Some).map_err(|_| ()),
        }
    }
}
