//! What vendors state, from directories and bundles: certificates, revocation lists, Intel's statements on platforms.
//!
//! Known by content and, for Intel's statements, by the names of files. Nothing here is believed: `attest` follows it to a
//! root of its own.

use std::path::Path;

use attest::x509::{Certificate, Crl, MAX_INTERMEDIATES};
use attest::{Endorsements, TooManyEndorsements, tdx};
use collateral::{Bundle, Entry, MAX_BUNDLE, add_entries};

use super::files::{self, Files};
use crate::failure::Failure;

const TCB_INFO: &[&str] = &["tcb_info.json", "tcbInfo.json"];
const QE_IDENTITY: &[&str] = &["qe_identity.json", "qeIdentity.json"];
const TCB_INFO_CHAIN: &[&str] = &["tcb_signing_chain.pem", "tcbSignChain.pem"];
const QE_IDENTITY_CHAIN: &[&str] = &[
    "qe_identity_signing_chain.pem",
    "tcb_signing_chain.pem",
    "tcbSignChain.pem",
];
const ROOT_CRL: &[&str] = &["root_ca_crl.der", "rootCaCrl.der"];
const PCK_CRL: &[&str] = &["pck_crl.der", "intermediateCaCrl.der"];
/// Directories below one that was given.
const MAX_DIRECTORIES: usize = 64;

/// What was found.
#[derive(Default)]
pub(crate) struct Given(Endorsements);

impl Given {
    /// What is in the directory of the evidence.
    pub(crate) fn beside(files: &Files) -> Result<Self, Failure> {
        let mut given = Self::default();
        given.take_files(files, &mut Vec::new(), "the directory of the evidence")?;
        Ok(given)
    }

    /// What is in these directories, those directly below them, and bundles.
    pub(crate) fn read(paths: &[impl AsRef<Path>]) -> Result<Self, Failure> {
        let mut given = Self::default();
        let mut entries = Vec::new();
        for path in paths {
            let path = path.as_ref();
            let before = given.0.len() + entries.len();
            if path.is_file() {
                given.take_one(&files::read(path, MAX_BUNDLE as u64)?, &mut entries)?;
            } else {
                given.take_directory(path, &mut entries)?;
                for below in directories(path) {
                    given.take_directory(&below, &mut entries)?;
                }
            }
            if given.0.len() + entries.len() == before {
                return Err(Failure::usage(format!(
                    "{} holds no endorsements that are known",
                    path.display()
                ))
                .hint("known are certificates, revocation lists, Intel's tcb_info.json with what belongs to it, and what `collateral fetch` and `collateral export` write"));
            }
        }
        add_entries(&mut given.0, &entries).map_err(|error| {
            Failure::usage("these endorsements can not be taken").because(error)
        })?;
        Ok(given)
    }

    fn take_directory(&mut self, path: &Path, entries: &mut Vec<Entry>) -> Result<(), Failure> {
        self.take_files(&Files::open(path)?, entries, &path.display().to_string())
    }

    fn take_files(
        &mut self,
        files: &Files,
        entries: &mut Vec<Entry>,
        place: &str,
    ) -> Result<(), Failure> {
        for (_, bytes) in files.iter() {
            self.take_one(bytes, entries)?;
        }
        if let (Some(tcb_info), Some(qe_identity)) = (files.get(TCB_INFO), files.get(QE_IDENTITY)) {
            let crls: Vec<&[u8]> = [ROOT_CRL, PCK_CRL]
                .into_iter()
                .filter_map(|names| files.get(names))
                .collect();
            self.take_set(
                &tdx::Collateral {
                    tcb_info,
                    tcb_info_chain: files.need(TCB_INFO_CHAIN)?,
                    qe_identity,
                    qe_identity_chain: files.need(QE_IDENTITY_CHAIN)?,
                    crls: &crls,
                },
                place,
            )?;
        }
        Ok(())
    }

    fn take_one(&mut self, bytes: &[u8], entries: &mut Vec<Entry>) -> Result<(), Failure> {
        let taken = if let Ok(bundle) = Bundle::parse(bytes) {
            entries.extend(bundle.into_entries());
            Ok(())
        } else if let Ok((certificate, _)) = Certificate::parse_prefix(bytes) {
            self.0.add_certificate(certificate)
        } else if let Ok(crl) = Crl::parse(bytes) {
            self.0.add_crl(crl)
        } else if let Ok(chain) = Certificate::chain_from_pem(bytes, MAX_INTERMEDIATES) {
            chain
                .into_iter()
                .try_for_each(|certificate| self.0.add_certificate(certificate))
        } else {
            Ok(())
        };
        taken.map_err(too_many)
    }

    fn take_set(&mut self, collateral: &tdx::Collateral<'_>, place: &str) -> Result<(), Failure> {
        let set = tdx::Endorsements::parse(collateral).map_err(|error| {
            Failure::usage(format!("the statements of Intel's in {place}")).because(error)
        })?;
        self.0.add_intel(set).map_err(too_many)
    }

    /// What was found, for `attest`.
    pub(crate) fn into_inner(self) -> Endorsements {
        self.0
    }
}

fn too_many(error: TooManyEndorsements) -> Failure {
    Failure::usage("these endorsements can not be taken").because(error)
}

fn directories(path: &Path) -> Vec<std::path::PathBuf> {
    let mut found: Vec<_> = std::fs::read_dir(path)
        .into_iter()
        .flatten()
        .flatten()
        .map(|entry| entry.path())
        .filter(|path| path.is_dir())
        .take(MAX_DIRECTORIES)
        .collect();
    found.sort();
    found
}
