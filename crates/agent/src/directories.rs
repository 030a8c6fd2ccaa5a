//! The directories of an allocation on the host: made before its tasks, removed after them.
//!
//! ```text
//! <alloc>/alloc/{data,logs,tmp}             shared by the tasks
//! <alloc>/<task>/{local,secrets,private,tmp}  the task's own
//! <alloc>/.shim/<task>                      the driver's, out of the tasks' sight
//! ```
//!
//! # Invariants
//!
//! - Making them again changes nothing.
//! - Nobody but root and the agent can list the folder of all allocations, so that the open
//!   permissions below it, which tasks under other users need, reach only who knows the id.

use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use cos_drivers::TaskDirs;
use cos_model::AllocId;

/// The folder for the drivers' own files.
pub(crate) const STATE_FOLDER: &str = ".shim";

/// The directory of one allocation.
#[derive(Clone, Debug)]
pub(crate) struct AllocDirectory {
    root: PathBuf,
}

impl AllocDirectory {
    /// Names it, below the folder of all allocations.
    pub(crate) fn new(alloc_root: &Path, id: AllocId) -> Self {
        Self { root: alloc_root.join(id.to_string()) }
    }

    /// Its path.
    pub(crate) fn root(&self) -> &Path {
        &self.root
    }

    /// Names the directories of a task.
    pub(crate) fn of_task(&self, task: &str) -> TaskDirs {
        let own = self.root.join(task);
        let shared = self.root.join("alloc");
        TaskDirs {
            local: own.join("local"),
            secrets: own.join("secrets"),
            logs: shared.join("logs"),
            state: self.root.join(STATE_FOLDER).join(task),
            task: own,
            alloc: shared,
        }
    }

    /// Makes everything that a task needs. Blocks.
    pub(crate) fn make(&self, task: &str) -> io::Result<()> {
        let dirs = self.of_task(task);
        if let Some(all) = self.root.parent() {
            make(all, 0o711)?;
        }
        make(&self.root, 0o755)?;
        make(&self.root.join(STATE_FOLDER), 0o700)?;
        make(&dirs.alloc, 0o777)?;
        make(&dirs.alloc.join("data"), 0o777)?;
        make(&dirs.alloc.join("tmp"), 0o777)?;
        make(&dirs.logs, 0o777)?;
        make(&dirs.task, 0o777)?;
        make(&dirs.local, 0o777)?;
        make(&dirs.secrets, 0o777)?;
        make(&dirs.task.join("private"), 0o700)?;
        make(&dirs.task.join("tmp"), 0o777)
    }

    /// Removes everything. Blocks.
    pub(crate) fn remove(&self) -> io::Result<()> {
        match std::fs::remove_dir_all(&self.root) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }
}

fn make(path: &Path, mode: u32) -> io::Result<()> {
    match std::fs::create_dir_all(path) {
        Ok(()) => std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)),
        Err(error) => Err(io::Error::new(error.kind(), format!("{}: {error}", path.display()))),
    }
}

/// Resolves a destination that a job file gives, relative to the task's directory. It may also lie
/// in the shared directory, which tasks see beside their own; anything else is refused.
pub(crate) fn destination(dirs: &TaskDirs, given: &str) -> Result<PathBuf, String> {
    let refused = || format!("destination `{given}` escapes the task's directories");
    let mut parts: Vec<&str> = Vec::new();
    let mut shared = false;
    // Absolute paths are those that the variables of the task give.
    let relative = [(&dirs.alloc, true), (&dirs.task, false)].into_iter().find_map(|(dir, is)| {
        let rest = given.strip_prefix(&*dir.to_string_lossy())?;
        Some((rest, is))
    });
    let text = match relative {
        Some((rest, is_shared)) => {
            shared = is_shared;
            rest
        }
        None if given == "/alloc" || given.starts_with("/alloc/") => {
            shared = true;
            &given["/alloc".len()..]
        }
        None => given,
    };
    for part in text.split('/') {
        match part {
            "" | "." => {}
            ".." if parts.pop().is_some() => {}
            // `../alloc` is the shared directory as seen from the task's own.
            ".." if !shared => {
                let rest = text.trim_start_matches("./").strip_prefix("../alloc");
                return match rest {
                    Some(rest) if rest.is_empty() || rest.starts_with('/') => {
                        destination(dirs, &format!("/alloc{rest}"))
                    }
                    _ => Err(refused()),
                };
            }
            ".." => return Err(refused()),
            part => parts.push(part),
        }
    }
    let base = if shared { &dirs.alloc } else { &dirs.task };
    Ok(parts.iter().fold(base.clone(), |path, part| path.join(part)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn destinations_stay_within_the_task() {
        let directory = AllocDirectory::new(Path::new("/d/alloc"), AllocId::from_bits(1));
        let dirs = directory.of_task("web");
        let root = directory.root().display().to_string();
        let absolute = format!("{root}/web/local/x");
        let rows = [
            ("local/a.conf", Some("/web/local/a.conf")),
            ("/local/a.conf", Some("/web/local/a.conf")),
            ("./secrets/../local/b", Some("/web/local/b")),
            ("../alloc/data/x", Some("/alloc/data/x")),
            ("/alloc/x", Some("/alloc/x")),
            (absolute.as_str(), Some("/web/local/x")),
            ("../other/local", None),
            ("../../etc/passwd", None),
            ("/alloc/../../x", None),
        ];
        for (given, expected) in rows {
            let found = destination(&dirs, given).ok();
            let expected = expected.map(|rest| PathBuf::from(format!("{root}{rest}")));
            assert_eq!(found, expected, "{given}");
        }
    }

    #[test]
    fn making_twice_and_removing_twice_is_no_error() {
        let folder = tempfile::tempdir().unwrap();
        let directory = AllocDirectory::new(&folder.path().join("alloc"), AllocId::from_bits(7));
        directory.make("web").unwrap();
        directory.make("web").unwrap();
        assert!(directory.of_task("web").secrets.is_dir());
        directory.remove().unwrap();
        directory.remove().unwrap();
        assert!(!directory.root().exists());
    }
}
