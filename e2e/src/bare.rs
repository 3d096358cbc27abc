//! The bare start of etcd and kube-apiserver, to compare `mini up`'s init with: the same kernel, the same programs, a guest of the
//! same size, and nothing else. No encryption of the disk, no verity, no TPM, no service manager, no download: both
//! programs are in memory before the clock starts, and so are their certificates.

use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use cloud::qemu::accelerator::Accelerator;
use cloud::qemu::machine;
use image::cpio::{Archive, Kind};
use image::{Image, gpt, pe};

/// Where the guest's API server is reached. None of the local provider's own addresses.
const ADDRESS: Ipv4Addr = Ipv4Addr::new(127, 42, 3, 10);
const API_PORT: u16 = 6443;
/// The guest says this on its console when it starts etcd.
const BEGIN: &str = "BARE-BEGIN";
const DEADLINE: Duration = Duration::from_secs(900);
const POLL: Duration = Duration::from_millis(250);

/// What is started, and in what guest.
pub struct Bare<'a> {
    /// Gives kernel, kernel modules and etcd.
    pub image: &'a Image,
    /// kube-apiserver.
    pub api_server: &'a Path,
    /// Virtual processors.
    pub vcpus: u32,
    /// Memory in MiB.
    pub memory_mib: u32,
    /// What executes it.
    pub accelerator: Accelerator,
}

impl Bare<'_> {
    /// Boots the guest and gives the time from etcd's start to the API server's first `ok` on `/readyz`.
    ///
    /// # Errors
    /// When the guest cannot be made, does not boot, or is not ready within 15 minutes; the text has its console.
    pub fn measure(&self, scratch: &Path) -> Result<Duration> {
        let uki = self.image.uki()?;
        let kernel = scratch.join("kernel");
        std::fs::write(&kernel, section(&uki, ".linux")?)?;
        // the kernel unpacks archives one after the other: the image's own initrd with its modules, then what is added
        let mut initrd = section(&uki, ".initrd")?.to_vec();
        initrd.resize(initrd.len().next_multiple_of(512), 0);
        initrd.extend(self.additions()?);
        let initrd_path = scratch.join("initrd");
        std::fs::write(&initrd_path, initrd)?;
        let disk = scratch.join("data.raw");
        std::fs::File::create(&disk)?.set_len(2 << 30)?;

        let console = scratch.join("console");
        let guest = self.boot(&kernel, &initrd_path, &disk, &console)?;
        let measured = measure(&console, guest);
        measured.with_context(|| {
            let text = std::fs::read(&console).unwrap_or_default();
            format!("the bare guest\n{}", String::from_utf8_lossy(&text))
        })
    }

    fn boot(&self, kernel: &Path, initrd: &Path, disk: &Path, console: &Path) -> Result<Guest> {
        let drive = |id: &str, path: &Path, options: &str| {
            format!(
                "if=none,id={id},format=raw,file={}{options}",
                path.display()
            )
        };
        let child = Command::new(machine::PROGRAM)
            .args(["-nodefaults", "-no-user-config", "-display", "none"])
            .args(["-machine", "q35,smm=off,vmport=off,usb=off,graphics=off"])
            .args(self.accelerator.arguments())
            .args([
                "-smp",
                &self.vcpus.to_string(),
                "-m",
                &self.memory_mib.to_string(),
            ])
            .arg("-kernel")
            .arg(kernel)
            .arg("-initrd")
            .arg(initrd)
            .args(["-append", "console=ttyS0 loglevel=4 rdinit=/bare panic=-1"])
            .args(["-drive", &drive("image", self.image.disk(), ",readonly=on")])
            .args(["-device", "virtio-blk-pci,drive=image"])
            .args(["-drive", &drive("data", disk, "")])
            .args(["-device", "virtio-blk-pci,drive=data"])
            .arg("-netdev")
            .arg(format!(
                "user,id=outside,ipv6=off,hostfwd=tcp:{ADDRESS}:{API_PORT}-:{API_PORT}"
            ))
            .args(["-device", "virtio-net-pci,netdev=outside,romfile="])
            .args(["-device", "virtio-rng-pci", "-no-reboot", "-serial"])
            .arg(format!("file:{}", console.display()))
            .stdin(Stdio::null())
            .spawn()
            .context("cannot start QEMU")?;
        Ok(Guest(child))
    }

    /// A program in place of init, busybox for it, kube-apiserver and its keys.
    fn additions(&self) -> Result<Vec<u8>> {
        let root = self.root_partition()?;
        let script = format!(
            r#"#!/bare-tools/busybox sh
b=/bare-tools/busybox
$b mount -t proc proc /proc; $b mount -t sysfs sysfs /sys; $b mount -t devtmpfs dev /dev
for module in virtio_blk virtio_net virtio_rng erofs ext4; do /usr/sbin/modprobe $module; done
$b sleep 1
for nic in /sys/class/net/e*; do nic=${{nic##*/}}; done
$b ip link set lo up; $b ip address add 10.0.2.15/24 dev $nic; $b ip link set $nic up
/usr/sbin/mkfs.ext4 -q -F /dev/vdb
$b mkdir -p /image
$b mount -t erofs -o ro /dev/vda{root} /image
$b mount -t tmpfs tmpfs /image/run; $b mkdir /image/run/etcd
$b mount -t ext4 /dev/vdb /image/run/etcd
$b mount -t devtmpfs dev /image/dev; $b mount -t proc proc /image/proc
$b cat /bare-tools/kube-apiserver > /dev/null
echo {BEGIN}
$b chroot /image /usr/bin/etcd --data-dir /run/etcd/data > /dev/null 2>&1 &
exec /bare-tools/kube-apiserver --etcd-servers=http://127.0.0.1:2379 --authorization-mode=RBAC \
  --service-cluster-ip-range=10.96.0.0/12 --advertise-address=10.0.2.15 --allow-privileged=true \
  --tls-cert-file=/bare-tools/tls.crt --tls-private-key-file=/bare-tools/tls.key \
  --service-account-issuer=https://kubernetes.default.svc --service-account-key-file=/bare-tools/sa.pub \
  --service-account-signing-key-file=/bare-tools/tls.key 2>&1
"#
        );
        let key = rcgen::KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256)?;
        let certificate =
            rcgen::CertificateParams::new([ADDRESS.to_string()])?.self_signed(&key)?;
        let read = |path: &Path| {
            std::fs::read(path).with_context(|| format!("cannot read {}", path.display()))
        };
        let busybox = read(Path::new(crate::pod_image::BUSYBOX))?;
        let api_server = read(self.api_server)?;
        let mut archive = Archive::default();
        archive.push("bare-tools", 0o755, Kind::Directory)?;
        for (name, content) in [
            ("bare", script.as_bytes()),
            ("bare-tools/busybox", &busybox),
            ("bare-tools/kube-apiserver", &api_server),
            ("bare-tools/tls.crt", certificate.pem().as_bytes()),
            ("bare-tools/tls.key", key.serialize_pem().as_bytes()),
            ("bare-tools/sa.pub", key.public_key_pem().as_bytes()),
        ] {
            archive.push(name, 0o755, Kind::File(content))?;
        }
        Ok(archive.finish()?)
    }

    /// Number of the root file system's partition.
    fn root_partition(&self) -> Result<usize> {
        use std::io::Read;
        let disk = self.image.disk();
        let mut file = std::fs::File::open(disk)?;
        let len = file.metadata()?.len();
        let mut table = vec![0; 34 * gpt::SECTOR];
        file.read_exact(&mut table)?;
        let root = gpt::parse(&table, len)?
            .iter()
            .position(|partition| partition.kind == gpt::ROOT);
        Ok(root.context("the image has no root partition")? + 1)
    }
}

/// A QEMU that ends with its scope.
struct Guest(Child);

impl Drop for Guest {
    fn drop(&mut self) {
        // both fail only when it has ended already
        self.0.kill().ok();
        self.0.wait().ok();
    }
}

fn measure(console: &PathBuf, mut guest: Guest) -> Result<Duration> {
    let start = Instant::now();
    let mut begun = None;
    loop {
        ensure!(
            start.elapsed() < DEADLINE,
            "not ready within {} s",
            DEADLINE.as_secs()
        );
        if let Some(status) = guest.0.try_wait()? {
            bail!("QEMU ended: {status}");
        }
        match begun {
            None => {
                let text = std::fs::read(console).unwrap_or_default();
                if String::from_utf8_lossy(&text).contains(BEGIN) {
                    begun = Some(Instant::now());
                }
            }
            Some(begun) if is_ready()? => return Ok(begun.elapsed()),
            Some(_) => {}
        }
        std::thread::sleep(POLL);
    }
}

fn is_ready() -> Result<bool> {
    let output = Command::new("curl")
        .args(["--silent", "--insecure", "--max-time", "5"])
        .arg(format!("https://{ADDRESS}:{API_PORT}/readyz"))
        .output()
        .context("cannot start curl")?;
    Ok(output.stdout == b"ok")
}

fn section<'a>(uki: &'a [u8], name: &str) -> Result<&'a [u8]> {
    let parsed = pe::Pe::parse(uki)?;
    let section = parsed
        .sections()
        .iter()
        .find(|section| section.name == name)
        .with_context(|| format!("the UKI has no section {name}"))?;
    let start = usize::try_from(section.raw_offset)?;
    uki.get(start..start + usize::try_from(section.virtual_size)?)
        .context("the section lies outside of the UKI")
}
