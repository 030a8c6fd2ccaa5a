//! A machine of its own, or nearly: the mount namespace, root and rights of an isolated task.
//!
//! # Invariants
//!
//! - Mounts are made in the task's own mount namespace, which is private, so they end with the task
//!   and the host never sees them.
//! - Paths below the task's root are entered component by component without following links,
//!   because an earlier run of the task may have put links there.
//! - The system's directories are read-only for every user inside.
//!
//! # Deliberately absent
//!
//! - Network and user namespaces: such tasks share the host's network and its user numbers.

use std::fs::{self, Permissions};
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Component, Path, PathBuf};

use nix::fcntl::{OFlag, openat};
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sys::stat::{Mode, SFlag, makedev, mkdirat, mknod};
use nix::unistd::{chroot, pivot_root};

use super::spec::{Bind, IsolationSpec};

/// Device nodes that every task may use.
const DEVICES: [(&str, u64, u64); 6] = [
    ("null", 1, 3),
    ("zero", 1, 5),
    ("full", 1, 7),
    ("random", 1, 8),
    ("urandom", 1, 9),
    ("tty", 5, 0),
];

/// Links in `/dev` that programs expect.
const DEVICE_LINKS: [(&str, &str); 5] = [
    ("ptmx", "pts/ptmx"),
    ("fd", "/proc/self/fd"),
    ("stdin", "/proc/self/fd/0"),
    ("stdout", "/proc/self/fd/1"),
    ("stderr", "/proc/self/fd/2"),
];

/// Kernel settings that are shown but cannot be written.
const PROC_READ_ONLY: [&str; 5] = ["bus", "fs", "irq", "sys", "sysrq-trigger"];

/// Kernel files that are not shown.
const PROC_HIDDEN: [&str; 4] = ["kcore", "keys", "timer_list", "sched_debug"];

/// The namespaces of the task, as flags of `clone`.
pub(super) fn clone_flags(isolation: &IsolationSpec) -> libc::c_int {
    let mut flags = libc::CLONE_NEWNS | libc::CLONE_NEWUTS;
    if isolation.private_pids {
        flags |= libc::CLONE_NEWPID;
    }
    if isolation.private_ipc {
        flags |= libc::CLONE_NEWIPC;
    }
    flags
}

/// Builds the root and makes it the calling process's own.
pub(super) fn enter_new_root(isolation: &IsolationSpec) -> Result<(), String> {
    let root = isolation.root.as_path();
    let step = |what: &str, path: &Path, error: &dyn std::fmt::Display| {
        format!("failed to {what} {}: {error}", path.display())
    };
    change_flags(Path::new("/"), MsFlags::MS_PRIVATE | MsFlags::MS_REC)
        .map_err(|error| step("make private", Path::new("/"), &error))?;
    bind(root, root).map_err(|error| step("bind", root, &error))?;
    let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV;
    change_flags(root, MsFlags::MS_BIND | MsFlags::MS_REMOUNT | flags)
        .map_err(|error| step("restrict", root, &error))?;
    for bind in &isolation.binds {
        show(root, bind).map_err(|error| step("show", &bind.source, &error))?;
    }
    make_dev(root).map_err(|error| step("make", Path::new("/dev"), &error))?;
    make_tmp(root).map_err(|error| step("make", Path::new("/tmp"), &error))?;
    make_sys(root).map_err(|error| step("mount", Path::new("/sys"), &error))?;
    make_proc(root).map_err(|error| step("mount", Path::new("/proc"), &error))?;
    if isolation.pivot { pivot(root) } else { jail(root) }
        .map_err(|error| step("change the root to", root, &error))
}

/// Lowers what this process, and whatever it executes, may ever be able to do.
pub(super) fn limit_capabilities(isolation: &IsolationSpec) -> Result<(), String> {
    for capability in 0..64_u32 {
        if isolation.bounding & (1 << capability) == 0 {
            // Numbers beyond the kernel's last capability are refused; they bound nothing.
            drop(prctl(libc::PR_CAPBSET_DROP, capability));
        }
    }
    if isolation.ambient != 0 {
        prctl(libc::PR_SET_KEEPCAPS, 1)
            .map_err(|error| format!("failed to keep capabilities: {error}"))?;
    }
    Ok(())
}

/// Sets what is left after the change of user: for root what the bounds allow, for others only what
/// was asked for by name.
pub(super) fn settle_capabilities(isolation: &IsolationSpec, is_root: bool) -> Result<(), String> {
    let error = |error: io::Error| format!("failed to set capabilities: {error}");
    // The agent itself may have less than everything, as in a container.
    let kept = if is_root {
        isolation.bounding & permitted_capabilities().map_err(error)?
    } else {
        isolation.ambient
    };
    set_capabilities(kept, if is_root { 0 } else { kept }).map_err(error)?;
    for capability in (0..64_u32).filter(|bit| !is_root && kept & (1 << bit) != 0) {
        raise_ambient(capability).map_err(error)?;
    }
    Ok(())
}

/// Shows a host path below `root`. A link is shown as a link, so that `/bin` → `usr/bin` works.
fn show(root: &Path, wanted: &Bind) -> io::Result<()> {
    let Ok(found) = fs::symlink_metadata(&wanted.source) else { return Ok(()) };
    if found.is_symlink() && wanted.source == wanted.destination {
        return show_link(root, wanted);
    }
    let is_dir = fs::metadata(&wanted.source).is_ok_and(|target| target.is_dir());
    let place = open_beneath(root, &wanted.destination, !is_dir)?;
    let target = through(&place);
    bind(&wanted.source, &target)?;
    if wanted.read_only {
        // The place was opened before something was mounted on it; it is looked up anew.
        let mounted = open_beneath(root, &wanted.destination, !is_dir)?;
        make_read_only(&through(&mounted))?;
    }
    Ok(())
}

fn show_link(root: &Path, wanted: &Bind) -> io::Result<()> {
    let relative = wanted.destination.strip_prefix("/").unwrap_or(&wanted.destination);
    let parent = open_beneath(root, relative.parent().unwrap_or_else(|| Path::new("")), false)?;
    let Some(name) = relative.file_name() else { return Ok(()) };
    match symlink(fs::read_link(&wanted.source)?, through(&parent).join(name)) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(error),
        _ => Ok(()),
    }
}

/// Opens a path below `root`, making what is missing: directories, and a file at the end if asked.
fn open_beneath(root: &Path, path: &Path, is_file: bool) -> io::Result<OwnedFd> {
    let step = OFlag::O_PATH | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    let mut at = nix::fcntl::open(root, step | OFlag::O_DIRECTORY, Mode::empty())?;
    let mut names = path.components().filter_map(|component| match component {
        Component::Normal(name) => Some(name),
        _ => None,
    });
    let mut next = names.next();
    while let Some(name) = next {
        next = names.next();
        let make_file = is_file && next.is_none();
        at = match openat(&at, name, step, Mode::empty()) {
            Ok(found) => found,
            Err(nix::Error::ENOENT) if make_file => {
                let flags = OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_CLOEXEC;
                openat(&at, name, flags, Mode::from_bits_truncate(0o644))?;
                openat(&at, name, step, Mode::empty())?
            }
            Err(nix::Error::ENOENT) => {
                mkdirat(&at, name, Mode::from_bits_truncate(0o755))?;
                openat(&at, name, step, Mode::empty())?
            }
            Err(error) => return Err(error.into()),
        };
        refuse_link(&at, name)?;
    }
    Ok(at)
}

/// What was opened without following links may be a link itself.
fn refuse_link(at: &OwnedFd, name: &std::ffi::OsStr) -> io::Result<()> {
    let kind = nix::sys::stat::fstat(at)?.st_mode & SFlag::S_IFMT.bits();
    if kind == SFlag::S_IFLNK.bits() {
        let text = format!("`{}` is a link", name.to_string_lossy());
        return Err(io::Error::other(text));
    }
    Ok(())
}

/// The path of an open descriptor.
fn through(place: &OwnedFd) -> PathBuf {
    PathBuf::from(format!("/proc/self/fd/{}", place.as_raw_fd()))
}

fn make_dev(root: &Path) -> io::Result<()> {
    drop(open_beneath(root, Path::new("dev"), false)?);
    let dev = root.join("dev");
    let flags = MsFlags::MS_NOSUID | MsFlags::MS_STRICTATIME;
    mount(Some("tmpfs"), &dev, Some("tmpfs"), flags, Some("mode=755,size=65536k"))?;
    for (name, major, minor) in DEVICES {
        let path = dev.join(name);
        let mode = Mode::from_bits_truncate(0o666);
        if mknod(&path, SFlag::S_IFCHR, mode, makedev(major, minor)).is_ok() {
            // The creation mask may have taken rights away.
            fs::set_permissions(&path, Permissions::from_mode(0o666))?;
        } else {
            fs::write(&path, "")?;
            bind(&Path::new("/dev").join(name), &path)?;
        }
    }
    for (name, target) in DEVICE_LINKS {
        symlink(target, dev.join(name))?;
    }
    let inner = MsFlags::MS_NOSUID | MsFlags::MS_NOEXEC;
    fs::create_dir(dev.join("pts"))?;
    let options = "newinstance,ptmxmode=0666,mode=0620,gid=5";
    mount(Some("devpts"), &dev.join("pts"), Some("devpts"), inner, Some(options))?;
    fs::create_dir(dev.join("shm"))?;
    let flags = inner | MsFlags::MS_NODEV;
    let options = "mode=1777,size=65536k";
    mount(Some("shm"), &dev.join("shm"), Some("tmpfs"), flags, Some(options))?;
    Ok(())
}

fn make_tmp(root: &Path) -> io::Result<()> {
    let tmp = open_beneath(root, Path::new("tmp"), false)?;
    fs::set_permissions(through(&tmp), Permissions::from_mode(0o1777))
}

fn make_sys(root: &Path) -> io::Result<()> {
    let sys = open_beneath(root, Path::new("sys"), false)?;
    let flags = MsFlags::MS_NOSUID | MsFlags::MS_NOEXEC | MsFlags::MS_NODEV | MsFlags::MS_RDONLY;
    mount(Some("sysfs"), &through(&sys), Some("sysfs"), flags, None::<&str>)?;
    Ok(())
}

/// Last of all, because the other steps need the host's `/proc`, not this one.
fn make_proc(root: &Path) -> io::Result<()> {
    let place = open_beneath(root, Path::new("proc"), false)?;
    let flags = MsFlags::MS_NOSUID | MsFlags::MS_NOEXEC | MsFlags::MS_NODEV;
    mount(Some("proc"), &through(&place), Some("proc"), flags, None::<&str>)?;
    let proc = root.join("proc");
    for name in PROC_READ_ONLY {
        let path = proc.join(name);
        if path.exists() {
            bind(&path, &path)?;
            make_read_only(&path)?;
        }
    }
    for name in PROC_HIDDEN {
        let path = proc.join(name);
        if path.exists() {
            bind(&root.join("dev/null"), &path)?;
        }
    }
    Ok(())
}

fn bind(source: &Path, target: &Path) -> io::Result<()> {
    let flags = MsFlags::MS_BIND | MsFlags::MS_REC;
    mount(Some(source), target, None::<&str>, flags, None::<&str>)?;
    Ok(())
}

fn change_flags(target: &Path, flags: MsFlags) -> nix::Result<()> {
    mount(None::<&str>, target, None::<&str>, flags, None::<&str>)
}

/// Makes a mount, with everything mounted below it, read-only. A kernel before 5.12 can do that
/// only to the mount itself.
fn make_read_only(target: &Path) -> io::Result<()> {
    if set_read_only_recursively(target).is_ok() {
        return Ok(());
    }
    let flags = MsFlags::MS_BIND | MsFlags::MS_REMOUNT | MsFlags::MS_RDONLY | MsFlags::MS_NOSUID;
    Ok(change_flags(target, flags)?)
}

fn set_read_only_recursively(target: &Path) -> io::Result<()> {
    use std::os::unix::ffi::OsStrExt;
    let path = std::ffi::CString::new(target.as_os_str().as_bytes())?;
    let attributes = libc::mount_attr {
        attr_set: libc::MOUNT_ATTR_RDONLY | libc::MOUNT_ATTR_NOSUID,
        attr_clr: 0,
        propagation: 0,
        userns_fd: 0,
    };
    // SAFETY: `path` ends with a zero byte, `attributes` is as long as said, and both outlive the
    // call, which keeps neither.
    #[expect(unsafe_code, reason = "no crate at hand wraps mount_setattr(2)")]
    let result = unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            libc::AT_FDCWD,
            path.as_ptr(),
            libc::AT_RECURSIVE,
            &raw const attributes,
            size_of::<libc::mount_attr>(),
        )
    };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// Swaps roots and lets go of the old one with everything mounted in it.
fn pivot(root: &Path) -> io::Result<()> {
    std::env::set_current_dir(root)?;
    pivot_root(".", ".")?;
    umount2(".", MntFlags::MNT_DETACH)?;
    std::env::set_current_dir("/")
}

/// Where the root file system cannot be swapped, such as one in memory, it is at least left behind.
fn jail(root: &Path) -> io::Result<()> {
    std::env::set_current_dir(root)?;
    mount(Some(root), "/", None::<&str>, MsFlags::MS_MOVE, None::<&str>)?;
    chroot(".")?;
    std::env::set_current_dir("/")
}

fn prctl(option: libc::c_int, value: u32) -> io::Result<()> {
    // SAFETY: these options take numbers only.
    #[expect(unsafe_code, reason = "nix wraps neither bounding set nor kept capabilities")]
    let result = unsafe { libc::prctl(option, libc::c_ulong::from(value), 0, 0, 0) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

fn raise_ambient(capability: u32) -> io::Result<()> {
    let capability = libc::c_ulong::from(capability);
    // SAFETY: the option takes numbers only.
    #[expect(unsafe_code, reason = "nix does not wrap ambient capabilities")]
    let result =
        unsafe { libc::prctl(libc::PR_CAP_AMBIENT, libc::PR_CAP_AMBIENT_RAISE, capability, 0, 0) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// The version of the capability calls that takes 64 capabilities as two halves.
const CAPABILITY_VERSION_3: u32 = 0x2008_0522;

/// Whose capabilities are meant.
#[repr(C)]
struct CapabilityHeader {
    version: u32,
    pid: libc::c_int,
}

/// 32 capabilities in each of the sets.
#[derive(Clone, Copy, Default)]
#[repr(C)]
struct CapabilityHalf {
    effective: u32,
    permitted: u32,
    inheritable: u32,
}

/// Returns what this process may do.
fn permitted_capabilities() -> io::Result<u64> {
    let header = CapabilityHeader { version: CAPABILITY_VERSION_3, pid: 0 };
    let mut halves = [CapabilityHalf::default(); 2];
    // SAFETY: both structures have the layout of this version of the call and outlive it.
    #[expect(unsafe_code, reason = "no crate at hand wraps capget(2)")]
    let result = unsafe { libc::syscall(libc::SYS_capget, &raw const header, halves.as_mut_ptr()) };
    if result < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(u64::from(halves[0].permitted) | u64::from(halves[1].permitted) << 32)
}

/// Sets effective, permitted and inheritable capabilities.
fn set_capabilities(kept: u64, inheritable: u64) -> io::Result<()> {
    let half = |shift: u32| {
        let bits = |set: u64| u32::try_from((set >> shift) & 0xffff_ffff).unwrap_or(0);
        CapabilityHalf {
            effective: bits(kept),
            permitted: bits(kept),
            inheritable: bits(inheritable),
        }
    };
    let header = CapabilityHeader { version: CAPABILITY_VERSION_3, pid: 0 };
    let halves = [half(0), half(32)];
    // SAFETY: both structures have the layout of this version of the call and outlive it.
    #[expect(unsafe_code, reason = "no crate at hand wraps capset(2)")]
    let result = unsafe { libc::syscall(libc::SYS_capset, &raw const header, halves.as_ptr()) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}
