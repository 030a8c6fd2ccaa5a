//! Linux capabilities by the names that job files and Docker use.

/// All capabilities; a capability's bit is its place in this list.
const NAMES: [&str; 41] = [
    "chown",
    "dac_override",
    "dac_read_search",
    "fowner",
    "fsetid",
    "kill",
    "setgid",
    "setuid",
    "setpcap",
    "linux_immutable",
    "net_bind_service",
    "net_broadcast",
    "net_admin",
    "net_raw",
    "ipc_lock",
    "ipc_owner",
    "sys_module",
    "sys_rawio",
    "sys_chroot",
    "sys_ptrace",
    "sys_pacct",
    "sys_admin",
    "sys_boot",
    "sys_nice",
    "sys_resource",
    "sys_time",
    "sys_tty_config",
    "mknod",
    "lease",
    "audit_write",
    "audit_control",
    "setfcap",
    "mac_override",
    "mac_admin",
    "syslog",
    "wake_alarm",
    "block_suspend",
    "audit_read",
    "perfmon",
    "bpf",
    "checkpoint_restore",
];

/// What tasks may have if the operator says nothing: Docker's own list without raw sockets, with
/// which a container could speak for its neighbours.
const DEFAULT_ALLOWED: [&str; 13] = [
    "audit_write",
    "chown",
    "dac_override",
    "fowner",
    "fsetid",
    "kill",
    "mknod",
    "net_bind_service",
    "setfcap",
    "setgid",
    "setpcap",
    "setuid",
    "sys_chroot",
];

/// A set of capabilities, as bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Capabilities(pub(crate) u64);

impl Capabilities {
    /// The set that tasks may have if the operator says nothing.
    pub(crate) fn default_allowed() -> Self {
        Self::parse(&DEFAULT_ALLOWED).unwrap_or(Self(0))
    }

    /// Reads names such as `NET_ADMIN`, `cap_net_admin` or `all`. The error is the unknown name.
    pub(crate) fn parse<T: AsRef<str>>(names: &[T]) -> Result<Self, String> {
        names.iter().try_fold(Self(0), |set, name| {
            let lower = name.as_ref().trim().to_ascii_lowercase();
            let bare = lower.strip_prefix("cap_").unwrap_or(&lower);
            if bare == "all" {
                return Ok(Self((1 << NAMES.len()) - 1));
            }
            let bit = NAMES.iter().position(|known| *known == bare);
            bit.map(|bit| Self(set.0 | 1 << bit))
                .ok_or_else(|| format!("unknown capability `{}`", name.as_ref()))
        })
    }

    /// Returns what is in `self` and not in `other`.
    pub(crate) fn without(self, other: Self) -> Self {
        Self(self.0 & !other.0)
    }

    /// Returns what is in either.
    pub(crate) fn with(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// Returns the names as Docker writes them, such as `NET_ADMIN`.
    pub(crate) fn names(self) -> Vec<String> {
        let is_in = |bit: usize| self.0 & (1 << bit) != 0;
        (0..NAMES.len()).filter(|bit| is_in(*bit)).map(|bit| NAMES[bit].to_uppercase()).collect()
    }
}

/// What a task gets, from what it asks for and what the operator allows.
pub(crate) fn resolve(
    allowed: Capabilities,
    add: &[String],
    drop: &[String],
) -> Result<Capabilities, String> {
    let (added, dropped) = (Capabilities::parse(add)?, Capabilities::parse(drop)?);
    let asks_for_all = add.iter().any(|name| name.eq_ignore_ascii_case("all"));
    let forbidden = added.without(allowed);
    if forbidden.0 != 0 && !asks_for_all {
        return Err(format!(
            "capabilities not allowed on this node: {}",
            forbidden.names().join(", ")
        ));
    }
    let base = Capabilities::default_allowed();
    let base = Capabilities(base.0 & allowed.0);
    let wanted = if asks_for_all { allowed } else { base.with(added) };
    Ok(wanted.without(dropped))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(allowed: &[&str], add: &[&str], drop: &[&str], want: Result<&[&str], &str>) {
        let owned =
            |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
        let allowed = Capabilities::parse(allowed).expect("the allowed names are known");
        let found = resolve(allowed, &owned(add), &owned(drop)).map(Capabilities::names);
        assert_eq!(found, want.map(owned).map_err(str::to_owned));
    }

    #[test]
    fn what_is_not_allowed_is_refused_by_name() {
        check(&["chown"], &["net_raw"], &[], Err("capabilities not allowed on this node: NET_RAW"));
        check(&["chown"], &["flying"], &[], Err("unknown capability `flying`"));
    }

    #[test]
    fn additions_and_removals_start_from_the_default_within_what_is_allowed() {
        check(&["chown", "kill", "net_raw"], &[], &[], Ok(&["CHOWN", "KILL"]));
        check(
            &["chown", "kill", "net_raw"],
            &["CAP_NET_RAW"],
            &["kill"],
            Ok(&["CHOWN", "NET_RAW"]),
        );
        check(&["chown", "net_raw"], &["ALL"], &[], Ok(&["CHOWN", "NET_RAW"]));
        check(&["all"], &[], &["all"], Ok(&[]));
    }

    #[test]
    fn the_default_list_knows_all_its_names() {
        let names = Capabilities::default_allowed().names();
        assert_eq!(names.len(), DEFAULT_ALLOWED.len());
    }
}
