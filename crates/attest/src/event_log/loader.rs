//! What boot loaders and the kernel's EFI stub measure. There is no specification: each does it in its own way.

use super::variable::utf16_text;
use super::{BankDigest, Explained, Measured, Said, event_type};

/// Linux's EFI stub tags what it measures (`drivers/firmware/efi/libstub/efi-stub-helper.c`).
const INITRD_TAG: u32 = 0x8f3b_22ec;
const LOAD_OPTIONS_TAG: u32 = 0x8f3b_22ed;
/// A text longer than this is cut for nobody: it is not read.
const MAX_TEXT: usize = 8192;

/// What a boot loader or the kernel measured.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LoaderEvent {
    /// GRUB ran a command.
    GrubCommand(Said<String>),
    /// GRUB handed this command line to a kernel.
    KernelCommandLine(Said<String>),
    /// GRUB handed this command line to a module.
    ModuleCommandLine(Said<String>),
    /// systemd-stub measured the name of a section of the UKI.
    SectionName(Said<String>),
    /// systemd-stub measured the content of a section.
    SectionContent {
        /// The section, by the writer of the log.
        claimed_name: String,
        /// The digest of the content.
        digest: BankDigest,
    },
    /// A text in UTF-16: systemd-stub's additions to the command line.
    Text(Said<String>),
    /// The kernel measured its command line.
    LoadOptions(BankDigest),
    /// The kernel measured its initial ramdisk.
    Initrd(BankDigest),
    /// A name, measured with what it names: a file of GRUB's, a list of shim's.
    Named {
        /// The name, by the writer of the log.
        claimed_name: String,
        /// The digest of the content.
        digest: BankDigest,
    },
}

impl Explained<'_> {
    /// What boot loaders and the kernel measured, in order. Events that cannot be read as text are left out.
    #[must_use]
    pub fn loader_events(&self) -> Vec<LoaderEvent> {
        self.events().filter_map(loader_event).collect()
    }
}

fn loader_event(event: &Measured<'_>) -> Option<LoaderEvent> {
    match event.kind {
        event_type::EVENT_TAG => {
            let tag = event.data.first_chunk().map(|tag| u32::from_le_bytes(*tag));
            match tag {
                Some(INITRD_TAG) => Some(LoaderEvent::Initrd(event.digest)),
                Some(LOAD_OPTIONS_TAG) => Some(LoaderEvent::LoadOptions(event.digest)),
                Some(_) | None => None,
            }
        }
        event_type::IPL => initial_program_loader(event),
        _ => None,
    }
}

fn initial_program_loader(event: &Measured<'_>) -> Option<LoaderEvent> {
    if event.data.len() > MAX_TEXT {
        return None;
    }
    if let Some(text) = wide(event.data) {
        if !text.starts_with('.') {
            return Some(LoaderEvent::Text(said(event.covers_data(), text)));
        }
        let is_name = event.is_over(&[text.as_bytes(), &[0]].concat());
        return Some(if is_name {
            LoaderEvent::SectionName(Said::Measured(text))
        } else {
            LoaderEvent::SectionContent {
                claimed_name: text,
                digest: event.digest,
            }
        });
    }
    let text = std::str::from_utf8(event.data.strip_suffix(&[0]).unwrap_or(event.data)).ok()?;
    let prefixed = |prefix: &str| {
        // the digest is over the text behind the prefix, without a NUL
        let words = text.strip_prefix(prefix)?;
        Some(said(event.is_over(words.as_bytes()), words.to_owned()))
    };
    Some(if let Some(words) = prefixed("grub_cmd: ") {
        LoaderEvent::GrubCommand(words)
    } else if let Some(words) = prefixed("kernel_cmdline: ") {
        LoaderEvent::KernelCommandLine(words)
    } else if let Some(words) = prefixed("module_cmdline: ") {
        LoaderEvent::ModuleCommandLine(words)
    } else {
        LoaderEvent::Named {
            claimed_name: text.to_owned(),
            digest: event.digest,
        }
    })
}

fn said(is_measured: bool, text: String) -> Said<String> {
    if is_measured {
        Said::Measured(text)
    } else {
        Said::Claimed(text)
    }
}

/// A text in UTF-16 that ends with a NUL, and whose first unit is of ASCII.
fn wide(data: &[u8]) -> Option<String> {
    let [first, 0, ..] = data else { return None };
    if !first.is_ascii() || *first == 0 || !data.ends_with(&[0, 0]) {
        return None;
    }
    utf16_text(data)
}
