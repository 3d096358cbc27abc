//! What can go wrong in a step. One list, because init and join share most steps.

use cluster::join_config::JoinConfigError;
use cluster::node_state::NodeStateError;
use k8s::components::InstallError;
use k8s::control_plane::EncryptionError;
use k8s::files::FileError;
use k8s::pki::PkiError;

use super::machine::MachineError;
use crate::exec::ExecError;
use crate::membership::MembershipError;
use crate::mesh::MeshError;
use crate::state_disk::NodeDiskError;
use crate::systemd::SystemdError;

/// A step failed.
#[derive(Debug, thiserror::Error)]
pub enum StepError {
    /// A step of another flow.
    #[error("this flow has no such step")]
    NotMine,
    /// The node state file's form.
    #[error("the node state file")]
    NodeState(#[source] NodeStateError),
    /// A file.
    #[error("a file on the node")]
    File(#[source] FileError),
    /// The state disk.
    #[error("the state disk")]
    Disk(#[source] NodeDiskError),
    /// The membership.
    #[error("the node's membership")]
    Membership(#[source] MembershipError),
    /// The mesh.
    #[error("the mesh")]
    Mesh(#[source] MeshError),
    /// Certificates.
    #[error("certificates")]
    Pki(#[source] PkiError),
    /// The key that encrypts secrets in etcd.
    #[error("the key for secrets in etcd")]
    Encryption(#[source] EncryptionError),
    /// What a backup brought.
    #[error("the authorities and keys of the backup")]
    Essentials(#[source] k8s::backup::EssentialsError),
    /// The backup, which was right when the order came.
    #[error("opening the backup")]
    Unseal(#[source] k8s::backup::OpenError),
    /// etcd's data.
    #[error("making etcd's data of the backup")]
    Restore(#[source] ExecError),
    /// The service manager.
    #[error("a unit")]
    Unit(#[source] SystemdError),
    /// Components.
    #[error("components")]
    Install(#[source] InstallError),
    /// A container image.
    #[error("importing container images")]
    Import(#[source] ExecError),
    /// The API.
    #[error("the Kubernetes API")]
    Api(#[source] k8s::api::ApiError),
    /// The TPM.
    #[error("this machine's TPM")]
    Machine(#[source] MachineError),
    /// The disk's key.
    #[error("deriving the state disk's key")]
    DiskKey(#[source] keys::WrongRole),
    /// What those who join read.
    #[error("the join configuration")]
    JoinConfig(#[source] JoinConfigError),
    /// An image's name.
    #[error("a container image")]
    Image(#[source] k8s::addons::ImageError),
    /// Something that an earlier step makes is not there.
    #[error("{0} should have been there by now")]
    Order(&'static str),
    /// The kubelet has no certificate.
    #[error("kubelet has no client certificate after {0} s: nobody approved its request")]
    NoCertificate(u64),
}
