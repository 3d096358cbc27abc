//! The cluster's entries in the kubeconfig that kubectl reads by default, beside those of other clusters.
//!
//! The file is the user's: what is in it and is not ours stays, fields we do not know as well. Comments do not, as
//! with kubectl itself.

use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use serde_json::{Map, Value};

use crate::failure::Failure;
use crate::workspace::{self, Workspace};

const LISTS: [&str; 3] = ["clusters", "contexts", "users"];

/// Merges the workspace's kubeconfig into the default one and makes it the current context. Returns where that is.
pub(crate) fn merge_into_default(workspace: &Workspace) -> Result<PathBuf, Failure> {
    merge_into(default_path()?, workspace)
}

fn merge_into(path: PathBuf, workspace: &Workspace) -> Result<PathBuf, Failure> {
    // a link, such as of who keeps such files elsewhere, stays a link
    let path = std::fs::canonicalize(&path).unwrap_or(path);
    let ours = workspace.kubeconfig_path();
    let new =
        read(&ours)?.ok_or_else(|| Failure::config(format!("there is no {}", ours.display())))?;
    let merged = merge(read(&path)?.unwrap_or_default(), new);
    let text = serde_saphyr::to_string(&merged)
        .map_err(|error| Failure::internal("write the kubeconfig").because(error))?;
    if let Some(directory) = path.parent() {
        std::fs::DirBuilder::new()
            .recursive(true)
            .mode(0o750)
            .create(directory)
            .map_err(|error| {
                Failure::infrastructure(format!("make the directory {}", directory.display()))
                    .because(error)
            })?;
    }
    workspace::replace(&path, text.as_bytes(), 0o600)?;
    Ok(path)
}

/// The first file of $KUBECONFIG, else `~/.kube/config`, as kubectl.
fn default_path() -> Result<PathBuf, Failure> {
    let named = std::env::var_os("KUBECONFIG").unwrap_or_default();
    let first = std::env::split_paths(&named).find(|path| !path.as_os_str().is_empty());
    first
        .or_else(|| std::env::var_os("HOME").map(|home| Path::new(&home).join(".kube/config")))
        .ok_or_else(|| Failure::infrastructure("neither KUBECONFIG nor HOME is set"))
}

fn read(path: &Path) -> Result<Option<Map<String, Value>>, Failure> {
    let Some(text) = workspace::read_text(path)?.filter(|text| !text.trim().is_empty()) else {
        return Ok(None);
    };
    serde_saphyr::from_str(&text).map(Some).map_err(|error| {
        Failure::config(format!("{} is not a kubeconfig", path.display()))
            .because(error.without_snippet())
            .hint("mend it, or leave --merge-kubeconfig out")
    })
}

/// `old` with the entries of `new`, which replace those of the same name.
fn merge(mut old: Map<String, Value>, mut new: Map<String, Value>) -> Map<String, Value> {
    for list in LISTS {
        let mut entries = array(old.remove(list));
        let ours = array(new.remove(list));
        entries.retain(|entry| !ours.iter().any(|our| our.get("name") == entry.get("name")));
        entries.extend(ours);
        old.insert(list.to_owned(), entries.into());
    }
    if let Some(context) = new.remove("current-context") {
        old.insert("current-context".to_owned(), context);
    }
    for (key, value) in new {
        old.entry(key).or_insert(value);
    }
    old
}

fn array(value: Option<Value>) -> Vec<Value> {
    match value {
        Some(Value::Array(entries)) => entries,
        _ => Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn map(value: Value) -> Map<String, Value> {
        match value {
            Value::Object(map) => map,
            _ => panic!("{value}"),
        }
    }

    #[test]
    fn a_linked_file_stays_a_link_and_a_new_one_is_private() {
        use std::os::unix::fs::PermissionsExt;
        let directory = tempfile::tempdir().unwrap();
        let workspace = Workspace::open(directory.path()).unwrap();
        let fresh = directory.path().join("new/.kube/config");
        merge_into(fresh.clone(), &workspace).unwrap_err();
        std::fs::write(
            workspace.kubeconfig_path(),
            r#"{"users": [{"name": "admin", "user": {"token": "no"}}]}"#,
        )
        .unwrap();
        merge_into(fresh.clone(), &workspace).unwrap();
        let mode = std::fs::metadata(&fresh).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);

        let (file, link) = (
            directory.path().join("dotfile"),
            directory.path().join("link"),
        );
        std::fs::write(
            &file,
            "users:\n- name: \"7\" # mine\n  user: {token: \"0123\"}\n",
        )
        .unwrap();
        std::os::unix::fs::symlink(&file, &link).unwrap();
        merge_into(link.clone(), &workspace).unwrap();
        assert!(link.is_symlink());
        let users = array(read(&link).unwrap().unwrap().remove("users"));
        assert_eq!(
            Value::from(users),
            json!([{ "name": "7", "user": { "token": "0123" } }, { "name": "admin", "user": { "token": "no" } }])
        );
        std::fs::write(&file, "- not a\n- kubeconfig\n").unwrap();
        let error = merge_into(link, &workspace).unwrap_err();
        assert_eq!(error.kind(), crate::failure::Kind::Config);
        assert_eq!(
            std::fs::read_to_string(&file).unwrap(),
            "- not a\n- kubeconfig\n"
        );
    }

    #[test]
    fn other_clusters_stay_and_ours_is_replaced() {
        let old = map(json!({
            "kind": "Config", "current-context": "work", "extra": { "kept": true },
            "clusters": [{ "name": "work", "cluster": { "server": "https://w" } }, { "name": "mini", "cluster": { "server": "https://old" } }],
            "users": null,
        }));
        let new = map(json!({
            "apiVersion": "v1", "kind": "Config", "current-context": "mini",
            "clusters": [{ "name": "mini", "cluster": { "server": "https://new" } }],
            "contexts": [{ "name": "mini" }], "users": [{ "name": "admin" }],
        }));
        assert_eq!(
            Value::from(merge(old, new)),
            json!({
                "apiVersion": "v1", "kind": "Config", "current-context": "mini", "extra": { "kept": true },
                "clusters": [{ "name": "work", "cluster": { "server": "https://w" } }, { "name": "mini", "cluster": { "server": "https://new" } }],
                "contexts": [{ "name": "mini" }], "users": [{ "name": "admin" }],
            })
        );
    }
}
