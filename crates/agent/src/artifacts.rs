//! Fetching a task's artifacts before its start.

use std::path::Path;

use cos_drivers::TaskDirs;
use cos_drivers::artifact::{self, ArtifactLimits, Owner};
use cos_model::{Artifact, Task};

use crate::directories::destination;
use crate::environment::Environment;

/// Where an artifact goes if the job does not say.
const DEFAULT_DESTINATION: &str = "local/";

/// Why the artifacts are not there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Failure {
    /// What went wrong.
    pub(crate) why: String,
    /// Whether trying again may help.
    pub(crate) recoverable: bool,
}

/// Fetches all artifacts of a task, in order.
pub(crate) async fn fetch(
    task: &Task,
    environment: &Environment,
    dirs: &TaskDirs,
) -> Result<(), Failure> {
    let owner = owner_of(&environment.interpolate(&task.user));
    for given in &task.artifacts {
        let wanted = resolved(given, environment, dirs)
            .map_err(|why| Failure { why, recoverable: false })?;
        let limits = ArtifactLimits::default();
        artifact::fetch(&wanted, &dirs.task, owner, &limits, &|_| {}).await.map_err(|error| {
            Failure { why: error.to_string(), recoverable: error.is_recoverable() }
        })?;
    }
    Ok(())
}

/// Replaces references, and makes a destination that was given as the task's variables give it
/// relative to the task's directory again.
fn resolved(
    given: &Artifact,
    environment: &Environment,
    dirs: &TaskDirs,
) -> Result<Artifact, String> {
    let text = |text: &String| environment.interpolate(text);
    let pairs = |(key, value): (&String, &String)| (text(key), text(value));
    let wanted = if given.destination.is_empty() && given.mode != "file" {
        DEFAULT_DESTINATION.to_owned()
    } else {
        text(&given.destination)
    };
    let wanted = if wanted.is_empty() {
        wanted
    } else {
        let path = destination(dirs, &wanted)?;
        if let Ok(own) = path.strip_prefix(&dirs.task) {
            own.display().to_string()
        } else {
            let shared = path.strip_prefix(&dirs.alloc).unwrap_or_else(|_| Path::new(""));
            Path::new("../alloc").join(shared).display().to_string()
        }
    };
    Ok(Artifact {
        source: text(&given.source),
        destination: wanted,
        mode: given.mode.clone(),
        options: given.options.iter().map(pairs).collect(),
        headers: given.headers.iter().map(pairs).collect(),
        insecure: given.insecure,
        chown: given.chown,
    })
}

/// Finds a user in the machine's list.
fn owner_of(user: &str) -> Option<Owner> {
    let passwd = std::fs::read_to_string("/etc/passwd").ok()?;
    passwd.lines().find_map(|line| {
        let fields: Vec<&str> = line.split(':').collect();
        let [name, _, uid, gid, ..] = fields[..] else { return None };
        let owner = || Some(Owner { uid: uid.parse().ok()?, gid: gid.parse().ok()? });
        (!user.is_empty() && name == user).then(owner).flatten()
    })
}

#[cfg(test)]
mod tests {
    use cos_model::AllocId;

    use super::*;
    use crate::directories::AllocDirectory;

    #[test]
    fn destinations_are_relative_to_the_task() {
        let directory = AllocDirectory::new(Path::new("/d/alloc"), AllocId::from_bits(1));
        let dirs = directory.of_task("web");
        let absolute = format!("{}/sub", dirs.local.display());
        let rows = [
            ("", "local"),
            ("local/x", "local/x"),
            (absolute.as_str(), "local/sub"),
            ("/alloc/data", "../alloc/data"),
        ];
        for (given, expected) in rows {
            let artifact = Artifact { destination: given.to_owned(), ..Artifact::default() };
            let found = resolved(&artifact, &Environment::default(), &dirs);
            assert_eq!(found.map(|found| found.destination), Ok(expected.to_owned()));
        }
    }

    #[test]
    fn the_superuser_is_found() {
        assert_eq!(owner_of("root"), Some(Owner { uid: 0, gid: 0 }));
        assert_eq!(owner_of(""), None);
    }
}
