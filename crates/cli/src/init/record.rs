//! What a workspace keeps of an init that was begun, so that the next run goes on with it and with nothing else.

use keys::MeasurementSalt;
use serde::{Deserialize, Serialize};

use crate::failure::Failure;
use crate::workspace::{self, Workspace};

/// What must be the same when an init is repeated. The node knows a repeated init by its ID alone and asks no further, so that
/// what the ID stands for has to be compared here.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct Record {
    #[serde(with = "hex::serde")]
    pub request_id: [u8; 16],
    #[serde(with = "hex::serde")]
    pub measurement_salt: [u8; 32],
    /// The backup that the cluster is made of; none for a cluster that is new.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    restore_sha256: Option<Sha256>,
}

/// The hash of a backup file.
#[derive(Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
struct Sha256(#[serde(with = "hex::serde")] [u8; 32]);

impl Record {
    /// Reads the record of an earlier attempt, which must have been one with the same backup or without one as this; or begins one.
    /// Written before the first byte goes out.
    pub(super) fn read_or_begin(
        workspace: &Workspace,
        restore_sha256: Option<[u8; 32]>,
    ) -> Result<Self, Failure> {
        let path = workspace.init_record_path();
        let restore_sha256 = restore_sha256.map(Sha256);
        if let Some(text) = workspace::read_text(&path)? {
            let record: Self = serde_json::from_str(&text).map_err(|error| {
                Failure::config(format!("read {}", path.display())).because(error)
            })?;
            if record.restore_sha256 != restore_sha256 {
                return Err(begun_otherwise(record.restore_sha256, restore_sha256));
            }
            return Ok(record);
        }
        let salt = MeasurementSalt::generate()
            .map_err(|error| Failure::internal("make the measurement salt").because(error))?;
        let record = Self {
            request_id: uuid::Uuid::new_v4().into_bytes(),
            measurement_salt: *salt.as_bytes(),
            restore_sha256,
        };
        let text = serde_json::to_string_pretty(&record)
            .map_err(|error| Failure::internal("write the init record").because(error))?;
        workspace::create(&path, text.as_bytes(), 0o600)?;
        Ok(record)
    }
}

/// Going on would end with success and with another cluster than the one that was asked for.
fn begun_otherwise(begun: Option<Sha256>, asked: Option<Sha256>) -> Failure {
    let words = |backup: Option<Sha256>| match backup {
        Some(Sha256(hash)) => format!("with the backup with SHA-256 {}", hex::encode(hash)),
        None => "without a backup".to_owned(),
    };
    let same = match begun {
        Some(_) => "name the same backup again",
        None => "run it again without a backup",
    };
    Failure::config(format!(
        "in this workspace an init was begun {}; this one is {}",
        words(begun),
        words(asked)
    ))
    .hint(format!(
        "to finish what was begun {same}; to begin anew make new machines and remove constellation-init.json"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::failure::Kind;

    #[test]
    fn an_init_goes_on_only_with_the_backup_that_it_was_begun_with() {
        let (one, other) = ([1; 32], [2; 32]);
        for (begun, asked, told) in [
            (None, Some(one), ["without a backup; ", "without a backup;"]),
            (Some(one), None, ["is without a backup", "the same backup"]),
            (Some(one), Some(other), ["0202", "the same backup"]),
        ] {
            let directory = tempfile::tempdir().unwrap();
            let workspace = Workspace::open(directory.path()).unwrap();
            let record = Record::read_or_begin(&workspace, begun).unwrap();
            let written = std::fs::read(workspace.init_record_path()).unwrap();
            let again = Record::read_or_begin(&workspace, begun).unwrap();
            assert_eq!(again.request_id, record.request_id);
            assert_eq!(again.measurement_salt, record.measurement_salt);
            let Err(failure) = Record::read_or_begin(&workspace, asked) else {
                panic!("taken for the same");
            };
            assert_eq!(failure.kind(), Kind::Config);
            assert!(failure.to_string().contains(told[0]), "{failure}");
            let hint = failure.hint_text().unwrap();
            assert!(hint.contains(told[1]), "{hint}");
            let there = std::fs::read(workspace.init_record_path()).unwrap();
            assert_eq!(there, written);
        }
    }

    #[test]
    fn a_record_that_names_no_backup_is_of_an_init_without_one() {
        let directory = tempfile::tempdir().unwrap();
        let workspace = Workspace::open(directory.path()).unwrap();
        let text = serde_json::json!({
            "requestId": "01".repeat(16), "measurementSalt": "02".repeat(32),
        });
        std::fs::write(workspace.init_record_path(), text.to_string()).unwrap();
        let record = Record::read_or_begin(&workspace, None).unwrap();
        assert_eq!(record.request_id, [1; 16]);
        assert!(Record::read_or_begin(&workspace, Some([1; 32])).is_err());
    }
}
