//! `peers.json`: what an operator says that is left of the consensus group.
//!
//! The file lies beside the log. It is read at the start, and gets another name once the server has
//! started with it, so that it is used once.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

use cos_model::ServerId;
use cos_raft::Recovery;
use serde::Deserialize;

/// The file's name.
const FILE: &str = "peers.json";

/// What it is called afterwards.
const USED: &str = "peers.json.used";

/// One server in the file. Nomad's format of raft protocol 3.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Line {
    id: String,
    address: String,
    #[serde(default)]
    non_voter: bool,
}

/// A file that was found and read.
#[derive(Debug)]
pub(crate) struct PeersFile {
    path: PathBuf,
    pub(crate) recovery: Recovery,
}

impl PeersFile {
    /// Looks for the file in the directory of the log.
    pub(crate) fn find(directory: &Path) -> io::Result<Option<Self>> {
        let path = directory.join(FILE);
        let text = match std::fs::read_to_string(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error),
        };
        let recovery = parse(&text).map_err(|problem| {
            let text = format!("{}: {problem}", path.display());
            io::Error::new(io::ErrorKind::InvalidData, text)
        })?;
        Ok(Some(Self { path, recovery }))
    }

    /// Sees to it that the file is not used again.
    pub(crate) fn put_away(&self) -> io::Result<()> {
        std::fs::rename(&self.path, self.path.with_file_name(USED))
    }
}

fn parse(text: &str) -> Result<Recovery, String> {
    let lines: Vec<Line> = serde_json::from_str(text).map_err(|error| error.to_string())?;
    let mut recovery = Recovery::default();
    let mut addresses = BTreeMap::new();
    for line in lines {
        let id: ServerId =
            line.id.parse().map_err(|_odd| format!("`{}` is no id of a server", line.id))?;
        if line.address.rsplit_once(':').is_none_or(|(_, port)| port.parse::<u16>().is_err()) {
            return Err(format!("`{}` is no address with a port", line.address));
        }
        if let Some(other) = addresses.insert(line.address.clone(), id) {
            return Err(format!("{other} and {id} have the same address {}", line.address));
        }
        let group = if line.non_voter { &mut recovery.learners } else { &mut recovery.voters };
        if group.insert(id, line.address).is_some() {
            return Err(format!("{id} is there twice"));
        }
    }
    Ok(recovery)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const ONE: &str = "11111111-1111-1111-1111-111111111111";
    const TWO: &str = "22222222-2222-2222-2222-222222222222";

    #[test]
    fn servers_are_read() {
        let text = format!(
            r#"[{{"id": "{ONE}", "address": "10.0.0.1:4647", "non_voter": false}},
                {{"id": "{TWO}", "address": "[::1]:4647", "non_voter": true}}]"#
        );
        let recovery = parse(&text).unwrap();
        assert_eq!(recovery.voters, [(ONE.parse().unwrap(), "10.0.0.1:4647".to_owned())].into());
        assert_eq!(recovery.learners, [(TWO.parse().unwrap(), "[::1]:4647".to_owned())].into());
    }

    #[test]
    fn what_is_wrong_is_named() {
        let check = |text: &str, expected: &str| {
            let error = parse(text).unwrap_err();
            assert!(error.contains(expected), "{error}");
        };
        check("", "line 1");
        check(r#"["10.0.0.1:4647"]"#, "line 1");
        check(r#"[{"id": "me", "address": "a:1"}]"#, "`me` is no id");
        check(&format!(r#"[{{"id": "{ONE}", "address": "10.0.0.1"}}]"#), "no address with a port");
        let one = format!(r#"{{"id": "{ONE}", "address": "a:1"}}"#);
        check(&format!("[{one},{one}]"), "have the same address");
        let again = format!(r#"{{"id": "{ONE}", "address": "b:1"}}"#);
        check(&format!("[{one},{again}]"), "is there twice");
        check(&format!(r#"[{{"id": "{ONE}", "address": "a:1", "voter": true}}]"#), "voter");
    }

    #[test]
    fn the_file_is_used_once() {
        let directory = tempfile::tempdir().unwrap();
        assert!(PeersFile::find(directory.path()).unwrap().is_none());
        let text = format!(r#"[{{"id": "{ONE}", "address": "a:1"}}]"#);
        std::fs::write(directory.path().join(FILE), text).unwrap();
        PeersFile::find(directory.path()).unwrap().unwrap().put_away().unwrap();
        assert!(PeersFile::find(directory.path()).unwrap().is_none());
        std::fs::write(directory.path().join(FILE), "nonsense").unwrap();
        let error = PeersFile::find(directory.path()).unwrap_err().to_string();
        assert!(error.contains("peers.json"), "{error}");
    }

    proptest! {
        #[test]
        fn no_text_panics(text in any::<String>()) {
            drop(parse(&text));
        }
    }
}
