//! What a machine that failed on its way into a cluster leaves behind.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use cluster::boot_lock::{BootLock, NextBoot};
use cluster::init::{Admission, Admitted, RequestId, SecretHash};
use cluster::plan::{AwaitingMark, Failed, Marked, Step};
use node::api_proxy::ApiServers;
use node::bootstrapper::drive::{DriveError, Steps, drive};
use node::bootstrapper::start_anew::start_anew;
use node::bootstrapper::steps::StepError;
use node::host::{Host, Paths};
use node::progress::Log;
use node::state_disk::NodeDisk;
use tempfile::TempDir;
use testkit::boot::Image;

use super::machine::{Machine, cluster_id};

/// Where the two copies of a LUKS2 header begin.
const HEADERS: [usize; 2] = [0, 16 * 1024];
const SECTOR: usize = 512;

/// A booted machine whose disk has a header, as after a key that was set while another step failed.
struct Node {
    machine: Machine,
    host: Host,
    disk: NodeDisk,
    device: PathBuf,
    _root: TempDir,
}

impl Node {
    fn boot() -> Self {
        let (machine, root) = (Machine::boot(Image::default()), TempDir::new().unwrap());
        let paths = Paths::below(root.path());
        let device = root.path().join("vdb");
        std::fs::create_dir_all(&paths.run).unwrap();
        std::fs::write(&device, vec![0xff; 2 * HEADERS[1]]).unwrap();
        let description = serde_json::json!({
            "uuid": "0b5c9e7e-6d2f-4f0e-9c3a-2f1d8b7a6c54", "device": device, "firstBoot": false,
        });
        std::fs::write(paths.run.join("state-disk.json"), description.to_string()).unwrap();
        Self {
            disk: NodeDisk::load(&paths).unwrap(),
            host: Host {
                paths: Arc::new(paths),
                console: machine.console(),
                api_servers: ApiServers::default(),
            },
            machine,
            device,
            _root: root,
        }
    }

    fn has_header(&self) -> bool {
        let device = std::fs::read(&self.device).unwrap();
        HEADERS
            .iter()
            .any(|at| device[*at..at + SECTOR].iter().any(|byte| *byte != 0))
    }

    async fn fail(&self, steps: impl Steps) -> (Failed, DriveError) {
        let log = Log::begin();
        let id = cluster_id(9);
        drive(
            &self.machine.measured,
            &id,
            with_the_lock(),
            Arc::new(steps),
            &log,
        )
        .await
        .unwrap_err()
    }
}

/// An init that has the lock.
fn with_the_lock() -> AwaitingMark {
    let secret = b"secret";
    let (lock, mut admission) = (BootLock::new(), Admission::new());
    let id = RequestId::from_wire(&[1; 16]).unwrap();
    let hash = SecretHash::parse(&bcrypt::hash(secret, 4).unwrap()).unwrap();
    match admission.receive(&lock, id, &hash, secret).unwrap() {
        Admitted::New(next) => admission.begin(&lock, next.derived(cluster_id(9))).unwrap(),
        Admitted::Reattach => panic!("nothing to attach to"),
    }
}

/// Steps of which one fails, and the others never end.
struct OneFails(Step);

#[async_trait::async_trait]
impl Steps for OneFails {
    async fn perform(&self, step: Step, _marked: &Marked) -> Result<(), StepError> {
        if step == self.0 {
            return Err(StepError::Order("a test's failure"));
        }
        std::future::pending().await
    }
}

/// Steps of which none ends.
struct NoneEnds;

#[async_trait::async_trait]
impl Steps for NoneEnds {
    async fn perform(&self, _step: Step, _marked: &Marked) -> Result<(), StepError> {
        std::future::pending().await
    }
}

#[tokio::test]
async fn a_failed_step_takes_the_header_off_the_disk_and_reboots() {
    let node = Node::boot();
    assert_eq!(node.disk.next_boot().await, NextBoot::SameDisk);
    let (failed, error) = node.fail(OneFails(Step::Pki)).await;
    assert!(
        matches!(
            error,
            DriveError::Step {
                step: Step::Pki,
                ..
            }
        ),
        "{error}"
    );
    assert!(node.has_header());

    tokio::time::pause();
    let mut rebooted = None;
    let before = tokio::time::Instant::now();
    start_anew(&node.host, &node.disk, failed, async || {
        rebooted = Some((before.elapsed(), node.has_header()));
        Ok(())
    })
    .await
    .unwrap();
    let (after, header) = rebooted.expect("the machine reboots");
    assert!(
        after >= Duration::from_secs(60),
        "somebody reads the console"
    );
    assert!(!header);
    assert_eq!(node.disk.next_boot().await, NextBoot::NewDisk);
}

/// Another cluster's mark, and a register that can not be read back as ours.
#[tokio::test]
async fn a_foreign_mark_ends_the_same_way() {
    let node = Node::boot();
    let machine = &node.machine.measured;
    machine.extend_mark(&cluster_id(1)).await.unwrap();
    let (_failed, error) = node.fail(OneFails(Step::Pki)).await;
    assert!(matches!(error, DriveError::ForeignMark), "{error}");
}

#[tokio::test]
async fn steps_that_do_not_end_are_stopped_at_the_deadline() {
    let node = Node::boot();
    // the mark is there already, so that the machine only looks; with the clock stopped the time is over as soon as nothing runs
    node.machine
        .measured
        .extend_mark(&cluster_id(9))
        .await
        .unwrap();
    tokio::time::pause();
    let (_failed, error) = node.fail(NoneEnds).await;
    assert!(matches!(error, DriveError::Deadline), "{error}");
}
