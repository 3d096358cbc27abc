//! `constellation recover` against the server that waits in the initrd: real TPMs (swtpm), real LUKS2 headers, a load balancer.

use std::ffi::OsString;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::process::ExitCode;
use std::sync::{Arc, OnceLock};

use cluster::DiskUuid;
use disk::{ProgramError, StateDiskError};
use keys::{ClusterId, DiskKey, MasterSecretFile, MeasurementSalt, MeasurementSecret};
use node::bootstrapper::machine::MeasuredMachine;
use node::console::Console;
use node::disk_mapper::recovery::RecoveryServer;
use node::disk_mapper::unlock::Unlock;
use tee::TpmAddress;
use tempfile::TempDir;
use testkit::boot::Image;
use testkit::luks::LuksDisk;
use testkit::swtpm::Swtpm;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

/// A machine in its initrd, with the disk of a node.
struct Waiting {
    measured: MeasuredMachine,
    luks: LuksDisk,
    address: SocketAddr,
    unlocked: JoinHandle<bool>,
    _tpm: Swtpm,
}

impl Waiting {
    async fn boot(image: &Image, number: u8, master: &MasterSecretFile) -> Self {
        let tpm = Swtpm::boot(image).unwrap();
        let log = tpm.write_event_log(image).unwrap();
        let measured = MeasuredMachine::new(TpmAddress::Unix(tpm.socket()), log);
        let text = format!("0b5c9e7e-6d2f-4f0e-9c3a-0000000000{number:02x}");
        let disk_uuid: DiskUuid = text.parse().unwrap();
        let key = DiskKey::derive(&master.master_secret, &master.salt, disk_uuid.uuid());
        let luks = LuksDisk::format(&text, key.expose_bytes()).unwrap();
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let name = Arc::new(OnceLock::new());
        let recovery = RecoveryServer::serve(listener, measured.issuer(), disk_uuid, name);
        let unlock = Unlock {
            machine: measured.clone(),
            console: Console::to(Box::new(std::io::sink())),
            disk_uuid,
            join_services: Box::pin(std::future::pending()),
            recovery: Some(recovery.unwrap()),
        };
        let disk = luks.clone();
        let open = move |key: &DiskKey| match disk.opens_with(key.expose_bytes()).unwrap() {
            true => Ok(()),
            false => Err(StateDiskError::Program {
                what: "open the state disk",
                source: ProgramError::WrongKey,
            }),
        };
        let unlocked = tokio::spawn(async move { unlock.run(open).await.is_ok() });
        Self {
            measured,
            luks,
            address,
            unlocked,
            _tpm: tpm,
        }
    }

    async fn pcr15(&self) -> [u8; 32] {
        self.measured.pcr15().await.unwrap()
    }
}

/// The files of an administrator.
struct Workspace {
    directory: TempDir,
    master: MasterSecretFile,
    cluster_id: ClusterId,
}

impl Workspace {
    fn new(image: &Image) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let master = MasterSecretFile::generate().unwrap();
        let secret = MeasurementSecret::derive(&master.master_secret, &master.salt);
        let salt = MeasurementSalt::from_slice(&[3; 32]).unwrap();
        let workspace = Self {
            cluster_id: ClusterId::derive(&secret, &salt),
            directory,
            master,
        };
        let image_dir = workspace.path().join("image");
        std::fs::create_dir(&image_dir).unwrap();
        let write = |name: &str, text: &[u8]| {
            std::fs::write(workspace.path().join(name), text).unwrap();
        };
        let measurements = serde_json::to_vec(&image.measurements()).unwrap();
        write("image/measurements.json", &measurements);
        let info = serde_json::json!({
            "ref": "-", "stream": "stable", "version": image.version,
            "list": [{ "csp": "qemu", "attestationVariant": "qemu-vtpm", "reference": "image.raw" }],
        });
        write("image/info.json", info.to_string().as_bytes());
        write("image/image.raw", b"not bootable");
        write(
            "constellation-mastersecret.json",
            workspace.master.expose_json().as_bytes(),
        );
        let state = format!(
            "version: v1\nclusterValues:\n  clusterID: {}\n  measurementSalt: \"{}\"\n",
            workspace.cluster_id,
            "03".repeat(32),
        );
        write("constellation-state.yaml", state.as_bytes());
        workspace
    }

    fn path(&self) -> &Path {
        self.directory.path()
    }

    async fn constellation(&self, arguments: &[&str]) -> ExitCode {
        let arguments: Vec<OsString> = ["constellation".into(), "-C".into(), self.path().into()]
            .into_iter()
            .chain(arguments.iter().map(OsString::from))
            .collect();
        tokio::task::spawn_blocking(|| cli::run(arguments))
            .await
            .unwrap()
    }

    async fn configured(image: &Image) -> Self {
        let workspace = Self::new(image);
        let image_dir = workspace.path().join("image").display().to_string();
        let generate = ["config", "generate", "qemu", "--kubernetes", "v1.20.2"];
        let arguments = [&generate[..], &["--image-dir", &image_dir]].concat();
        let code = workspace.constellation(&arguments).await;
        assert_eq!(code, ExitCode::SUCCESS);
        workspace
    }
}

/// Leads each connection to the next machine, whether anything listens there or not.
async fn balance(machines: Vec<SocketAddr>) -> String {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    tokio::spawn(async move {
        for machine in machines.iter().cycle() {
            let (mut from, _) = listener.accept().await.unwrap();
            let machine = *machine;
            tokio::spawn(async move {
                if let Ok(mut to) = TcpStream::connect(machine).await {
                    let _ended = tokio::io::copy_bidirectional(&mut from, &mut to).await;
                }
            });
        }
    });
    address
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn three_machines_behind_a_load_balancer_are_recovered_by_the_command() {
    let image = Image::default();
    let workspace = Workspace::configured(&image).await;
    let mut machines = Vec::new();
    for number in 1..=3 {
        machines.push(Waiting::boot(&image, number, &workspace.master).await);
    }
    let address = balance(machines.iter().map(|machine| machine.address).collect()).await;
    let recover = ["recover", "--wait", "4", "--endpoint", &address];
    assert_eq!(workspace.constellation(&recover).await, ExitCode::SUCCESS);
    for machine in &mut machines {
        assert!((&mut machine.unlocked).await.unwrap());
        assert_eq!(machine.pcr15().await, workspace.cluster_id.pcr15());
        assert_eq!(machine.luks.tried(), 1);
    }
    // once more finds nobody, and that is no failure
    assert_eq!(workspace.constellation(&recover).await, ExitCode::SUCCESS);
}

/// One runs something else, one has the disk of another cluster: both stay as they are, and the third is recovered.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_machine_that_is_another_and_a_disk_that_is_another_are_left_as_they_are() {
    let image = Image::default();
    let workspace = Workspace::configured(&image).await;
    let changed = Image {
        initrd: b"another initrd".to_vec(),
        ..Image::default()
    };
    let other_cluster = MasterSecretFile::generate().unwrap();
    let mut right = Waiting::boot(&image, 1, &workspace.master).await;
    let other_image = Waiting::boot(&changed, 2, &workspace.master).await;
    let other_disk = Waiting::boot(&image, 3, &other_cluster).await;
    let addresses = [&right, &other_image, &other_disk].map(|machine| machine.address);
    let address = balance(addresses.to_vec()).await;
    let recover = ["recover", "--wait", "4", "--endpoint", &address];
    // trust
    assert_eq!(workspace.constellation(&recover).await, ExitCode::from(3));
    assert!((&mut right.unlocked).await.unwrap());
    assert_eq!(right.pcr15().await, workspace.cluster_id.pcr15());
    for (machine, tried) in [(&other_image, 0), (&other_disk, 1)] {
        assert_eq!(machine.luks.tried(), tried);
        assert_eq!(machine.pcr15().await, [0; 32]);
        assert!(!machine.unlocked.is_finished());
    }
    // a disk that its key does not open: cluster
    let direct = other_disk.address.to_string();
    let recover = ["recover", "--wait", "2", "--endpoint", &direct];
    assert_eq!(workspace.constellation(&recover).await, ExitCode::from(6));
    assert_eq!(other_disk.luks.tried(), 2);
}
