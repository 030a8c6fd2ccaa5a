//! Users by name, as the host knows them.

use std::ffi::CString;
use std::ops::RangeInclusive;

use nix::unistd::{Gid, Group, Uid, User, getgrouplist};
use serde::{Deserialize, Serialize};

use crate::driver::ConfigError;
use crate::options::Options;

/// Whom a process runs as.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Identity {
    /// User.
    pub(crate) uid: u32,
    /// Group.
    pub(crate) gid: u32,
    /// Further groups.
    pub(crate) groups: Vec<u32>,
}

/// Users and groups that tasks may not run as.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Denied {
    uids: Vec<RangeInclusive<u32>>,
    gids: Vec<RangeInclusive<u32>>,
}

impl Denied {
    /// Reads `denied_host_uids` and `denied_host_gids`, such as `0,1000-1999`.
    pub(crate) fn from_options(options: &Options<'_>) -> Result<Self, ConfigError> {
        let read = |key: &str| {
            let text = options.text(key)?;
            parse_ranges(&text)
                .ok_or_else(|| options.invalid(key, format!("`{text}` is not like `0,1000-1999`")))
        };
        Ok(Self { uids: read("denied_host_uids")?, gids: read("denied_host_gids")? })
    }

    /// Refuses a forbidden user. Without one the task would run as the agent.
    pub(crate) fn check(&self, identity: Option<&Identity>) -> Result<(), String> {
        let own = Identity {
            uid: Uid::effective().as_raw(),
            gid: Gid::effective().as_raw(),
            groups: Vec::new(),
        };
        let identity = identity.unwrap_or(&own);
        let within = |ranges: &[RangeInclusive<u32>], id| ranges.iter().any(|r| r.contains(&id));
        if within(&self.uids, identity.uid) {
            return Err(format!("running as user id {} is not allowed on this node", identity.uid));
        }
        let mut gids = std::iter::once(identity.gid).chain(identity.groups.iter().copied());
        match gids.find(|gid| within(&self.gids, *gid)) {
            Some(gid) => Err(format!("running as group id {gid} is not allowed on this node")),
            None => Ok(()),
        }
    }
}

fn parse_ranges(text: &str) -> Option<Vec<RangeInclusive<u32>>> {
    let parts = text.split(',').map(str::trim).filter(|part| !part.is_empty());
    parts
        .map(|part| {
            let (first, last) = part.split_once('-').unwrap_or((part, part));
            Some(first.trim().parse().ok()?..=last.trim().parse().ok()?)
        })
        .collect()
}

/// Looks up `name`, `name:group`, or their numbers.
pub(crate) fn lookup(text: &str) -> Result<Identity, String> {
    let (user, group) = match text.split_once(':') {
        Some((user, group)) => (user, Some(group)),
        None => (text, None),
    };
    let mut identity = lookup_user(user)?;
    if let Some(group) = group {
        identity.gid = lookup_group(group)?;
    }
    Ok(identity)
}

/// Whether this process may become somebody else.
pub(crate) fn is_root() -> bool {
    Uid::effective().is_root()
}

fn lookup_user(user: &str) -> Result<Identity, String> {
    let found = match user.parse() {
        Ok(uid) => User::from_uid(Uid::from_raw(uid)).ok().flatten().ok_or(Identity {
            uid,
            gid: uid,
            groups: Vec::new(),
        }),
        Err(_) => Ok(User::from_name(user)
            .map_err(|error| format!("failed to look up user {user}: {error}"))?
            .ok_or_else(|| format!("unknown user {user}"))?),
    };
    let user = match found {
        Ok(user) => user,
        // A number without a name is a user all the same, as for containers.
        Err(nameless) => return Ok(nameless),
    };
    let name = CString::new(user.name).map_err(|error| error.to_string())?;
    let groups = getgrouplist(&name, user.gid).unwrap_or_else(|_| vec![user.gid]);
    Ok(Identity {
        uid: user.uid.as_raw(),
        gid: user.gid.as_raw(),
        groups: groups.into_iter().map(Gid::as_raw).collect(),
    })
}

fn lookup_group(group: &str) -> Result<u32, String> {
    if let Ok(gid) = group.parse() {
        return Ok(gid);
    }
    Group::from_name(group)
        .map_err(|error| format!("failed to look up group {group}: {error}"))?
        .map(|group| group.gid.as_raw())
        .ok_or_else(|| format!("unknown group {group}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn users_are_found_by_name_and_number() {
        assert_eq!(lookup("root").map(|identity| identity.uid), Ok(0));
        assert_eq!(lookup("0:7").map(|identity| (identity.uid, identity.gid)), Ok((0, 7)));
        let nameless = Identity { uid: 48_151, gid: 48_151, groups: Vec::new() };
        assert_eq!(lookup("48151"), Ok(nameless));
        assert_eq!(lookup("no-such-user"), Err("unknown user no-such-user".into()));
    }
}
