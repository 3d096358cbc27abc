//! Made-up images and what their boot measures: events, log, PCRs, `measurements.json` and policy, all from one list,
//! in the order firmware, systemd-stub and the kernel's EFI stub use.

use attest::event_log::event_type;
use attest::{
    Component, ComponentDigest, Digest, ImageEntry, ImageMeasurements, Measurement, PcrIndex,
    PcrValues, Policy, Variant,
};

/// The first boot option's announcement, as firmware words it.
const BOOT_ATTEMPT: &[u8] = b"Calling EFI Application from Boot Option";
const SEPARATOR: &[u8] = &[0; 4];
const S_CRTM_VERSION: u32 = 0x0000_0008;
const EFI_VARIABLE_DRIVER_CONFIG: u32 = 0x8000_0001;

/// The parts of an image. Change one and the machine is another one.
#[derive(Clone, Debug)]
pub struct Image {
    /// Version in `measurements.json`.
    pub version: String,
    /// Authenticode digest of the UKI.
    pub uki: Digest,
    /// Authenticode digest of the kernel inside it.
    pub kernel: Digest,
    /// Content of the kernel section.
    pub linux: Vec<u8>,
    /// Content of the initrd.
    pub initrd: Vec<u8>,
    /// Content of os-release.
    pub os_release: Vec<u8>,
    /// The command line without the root hash.
    pub options: String,
    /// The dm-verity root hash.
    pub root_hash: Digest,
    /// What a host measured in addition: PCR, event type, description, digest.
    pub extra: Vec<(u32, u32, Vec<u8>, Digest)>,
}

impl Default for Image {
    fn default() -> Self {
        Self {
            version: "v0.1.0".into(),
            uki: Digest::of(b"test uki"),
            kernel: Digest::of(b"test kernel, as authenticode sees it"),
            linux: b"test kernel".to_vec(),
            initrd: b"test initrd".to_vec(),
            os_release: b"ID=constellation-test\n".to_vec(),
            options: "console=ttyS0 rd.shell=0".into(),
            root_hash: Digest::of(b"test root file system"),
            extra: Vec::new(),
        }
    }
}

/// One measurement of a boot.
#[derive(Clone, Debug)]
pub struct Measured {
    /// The PCR.
    pub pcr: PcrIndex,
    /// `EV_*`.
    pub kind: u32,
    /// What the log says about it.
    pub description: Vec<u8>,
    /// What is extended into the SHA-256 bank.
    pub digest: Digest,
    /// The component's name in `measurements.json`, where it has one.
    pub component: Option<Component>,
}

impl Image {
    /// The whole command line.
    #[must_use]
    pub fn command_line(&self) -> String {
        format!("{} roothash={}", self.options, self.root_hash)
    }

    /// Everything a boot of this image measures, in order.
    #[must_use]
    pub fn boot(&self) -> Vec<Measured> {
        let mut boot = vec![
            plain(0, S_CRTM_VERSION, b"t\0e\0s\0t\0"),
            plain(7, EFI_VARIABLE_DRIVER_CONFIG, b"SecureBoot"),
            plain(4, event_type::EFI_ACTION, BOOT_ATTEMPT),
        ];
        boot[2].component = Some(Component::BootAttempt);
        boot.extend((0..8).map(|pcr| {
            let mut separator = plain(pcr, event_type::SEPARATOR, SEPARATOR);
            separator.component = (pcr == 4).then_some(Component::Separator);
            separator
        }));
        let application = |digest, component| Measured {
            pcr: index(4),
            kind: event_type::EFI_BOOT_SERVICES_APPLICATION,
            description: b"device path".to_vec(),
            digest,
            component: Some(component),
        };
        boot.push(application(self.uki, Component::BootLoader));
        let line = self.command_line();
        for (name, content, component) in [
            (".linux", self.linux.as_slice(), Component::Kernel),
            (".osrel", &self.os_release, Component::OsRelease),
            (".cmdline", line.as_bytes(), Component::CommandLine),
            (".initrd", &self.initrd, Component::Initrd),
        ] {
            let section = |digest, component| Measured {
                pcr: index(11),
                kind: event_type::IPL,
                description: utf16(name),
                digest,
                component,
            };
            boot.push(section(Digest::of_parts(&[name.as_bytes(), &[0]]), None));
            boot.push(section(Digest::of(content), Some(component)));
        }
        boot.push(application(self.kernel, Component::Kernel));
        boot.push(tagged(
            0x8f3b_22ed,
            "LOADED_IMAGE::LoadOptions",
            &utf16(&line),
            Component::CommandLine,
        ));
        boot.push(tagged(
            0x8f3b_22ec,
            "Linux initrd",
            &self.initrd,
            Component::Initrd,
        ));
        boot.extend(
            self.extra
                .iter()
                .map(|(pcr, kind, description, digest)| Measured {
                    pcr: index(*pcr),
                    kind: *kind,
                    description: description.clone(),
                    digest: *digest,
                    component: None,
                }),
        );
        boot.push(plain(
            5,
            event_type::EFI_ACTION,
            b"Exit Boot Services Returned with Success",
        ));
        boot
    }

    /// The event log firmware and kernel leave behind.
    #[must_use]
    pub fn event_log(&self) -> Vec<u8> {
        event_log(&self.boot())
    }

    /// The PCRs after the boot.
    #[must_use]
    pub fn pcrs(&self) -> PcrValues {
        let mut pcrs = PcrValues::at_reset();
        for measured in self.boot() {
            pcrs.extend(measured.pcr, &measured.digest);
        }
        pcrs
    }

    /// What an image build would write for this image.
    #[must_use]
    pub fn measurements(&self) -> ImageMeasurements {
        let pcrs = self.pcrs();
        let enforced = Policy::REQUIRED_PCRS.map(index);
        let mut components: Vec<ComponentDigest> = self
            .boot()
            .into_iter()
            .filter_map(|m| {
                Some(ComponentDigest {
                    pcr: m.pcr,
                    name: m.component?,
                    digest: m.digest,
                })
            })
            .collect();
        components.push(ComponentDigest {
            pcr: index(11),
            name: Component::RootFileSystem,
            digest: self.root_hash,
        });
        ImageMeasurements {
            version: self.version.clone(),
            reference: "-".into(),
            stream: "stable".into(),
            list: vec![ImageEntry {
                csp: "qemu".into(),
                attestation_variant: Variant::QemuVtpm.to_string(),
                measurements: enforced
                    .map(|i| (i, Measurement::enforced(pcrs.get(i))))
                    .into(),
                components,
            }],
        }
    }

    /// The policy that accepts this image and no other.
    ///
    /// # Panics
    /// When the image's values are none that a policy takes.
    #[must_use]
    pub fn policy(&self) -> Policy {
        Policy::from_image_measurements(&self.measurements(), "qemu", Variant::QemuVtpm)
            .expect("a test image's measurements are a policy")
    }
}

/// A log of these measurements, SHA-256 only.
#[must_use]
pub fn event_log(boot: &[Measured]) -> Vec<u8> {
    let mut spec_id = Vec::new();
    spec_id.extend_from_slice(b"Spec ID Event03\0");
    spec_id.extend_from_slice(&[0, 0, 0, 0]); // platform class: client
    spec_id.extend_from_slice(&[0, 2, 0, 2]); // version 2.00, 64-bit
    spec_id.extend_from_slice(&1_u32.to_le_bytes());
    spec_id.extend_from_slice(&0x000b_u16.to_le_bytes());
    spec_id.extend_from_slice(&32_u16.to_le_bytes());
    spec_id.push(0); // no vendor information

    let mut log = Vec::new();
    log.extend_from_slice(&0_u32.to_le_bytes());
    log.extend_from_slice(&event_type::NO_ACTION.to_le_bytes());
    log.extend_from_slice(&[0; 20]);
    log.extend_from_slice(&length(&spec_id).to_le_bytes());
    log.extend_from_slice(&spec_id);
    for measured in boot {
        log.extend_from_slice(&record(measured));
    }
    log
}

/// One `TCG_PCR_EVENT2` with a SHA-256 digest.
#[must_use]
pub fn record(measured: &Measured) -> Vec<u8> {
    let mut record = Vec::new();
    record.extend_from_slice(&u32::from(measured.pcr.number()).to_le_bytes());
    record.extend_from_slice(&measured.kind.to_le_bytes());
    record.extend_from_slice(&1_u32.to_le_bytes());
    record.extend_from_slice(&0x000b_u16.to_le_bytes());
    record.extend_from_slice(measured.digest.as_bytes());
    record.extend_from_slice(&length(&measured.description).to_le_bytes());
    record.extend_from_slice(&measured.description);
    record
}

fn plain(pcr: u32, kind: u32, data: &[u8]) -> Measured {
    Measured {
        pcr: index(pcr),
        kind,
        description: data.to_vec(),
        digest: Digest::of(data),
        component: None,
    }
}

fn tagged(tag: u32, name: &str, content: &[u8], component: Component) -> Measured {
    let mut description = tag.to_le_bytes().to_vec();
    description.extend_from_slice(&(length(name.as_bytes()) + 1).to_le_bytes());
    description.extend_from_slice(name.as_bytes());
    description.push(0);
    Measured {
        pcr: index(9),
        kind: event_type::EVENT_TAG,
        description,
        digest: Digest::of(content),
        component: Some(component),
    }
}

/// UTF-16 with its NUL.
fn utf16(text: &str) -> Vec<u8> {
    text.encode_utf16()
        .chain([0])
        .flat_map(u16::to_le_bytes)
        .collect()
}

fn index(pcr: u32) -> PcrIndex {
    PcrIndex::new(pcr).expect("a PCR number in a test")
}

fn length(bytes: &[u8]) -> u32 {
    u32::try_from(bytes.len()).expect("a test's bytes fit 32 bits")
}
