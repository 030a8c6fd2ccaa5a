//! Listening sockets that outlive the program that a process runs: whoever replaces the program by
//! a newer one gives it the sockets, so that nobody is ever refused a connection.
//!
//! The process stays the same, with its number, its parent and its children. Between the two
//! programs connections wait in the kernel's queue.
//!
//! # Invariants
//!
//! - A socket is taken over only if it listens on the very address that is asked for.
//! - What is handed over and not asked for is closed.
//!
//! # Deliberately absent
//!
//! - Connections. The old program answers what it was asked and closes them.

use std::ffi::OsStr;
use std::net::{SocketAddr, TcpListener};
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, Mutex, PoisonError};
use std::{fmt, io};

use rustix::io::FdFlags;

/// The variable by which the sockets are named: `FD=ADDRESS`, separated by commas. It means nothing
/// to the children of the process.
pub const VARIABLE: &str = "COS_SOCKETS";

/// How many sockets are taken over at most.
const SOCKETS_MAX: usize = 64;

/// The listening sockets of this process. Clones are handles to the same.
#[derive(Clone, Default)]
pub struct Sockets {
    held: Arc<Mutex<Held>>,
}

#[derive(Default)]
struct Held {
    /// Taken over and not asked for yet.
    inherited: Vec<TcpListener>,
    /// One more descriptor of each socket that listens, which keeps it open.
    listening: Vec<TcpListener>,
}

impl fmt::Debug for Sockets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sockets").finish_non_exhaustive()
    }
}

impl Sockets {
    /// Takes over what the program before this one in the same process left. Call it once, before
    /// anything else opens descriptors.
    pub fn take_over() -> Self {
        let sockets = Self::default();
        if let Some(named) = std::env::var_os(VARIABLE) {
            sockets.hold().inherited = inherit(&named);
        }
        sockets
    }

    /// Listens on an address: on the socket that was taken over, if there is one.
    pub fn listen(&self, address: SocketAddr) -> io::Result<tokio::net::TcpListener> {
        let mut held = self.hold();
        let is_it = |socket: &TcpListener| socket.local_addr().is_ok_and(|own| own == address);
        let socket = match held.inherited.iter().position(is_it) {
            Some(place) => held.inherited.swap_remove(place),
            None => TcpListener::bind(address)?,
        };
        socket.set_nonblocking(true)?;
        held.listening.push(socket.try_clone()?);
        tokio::net::TcpListener::from_std(socket)
    }

    /// Closes what was taken over and is not wanted any more. Call it when everything listens.
    pub fn settle(&self) {
        self.hold().inherited.clear();
    }

    /// Replaces this process's program by another one, which gets the sockets. Returns only if that
    /// failed. Call it when nothing else is done any more: no destructor runs.
    pub fn replace_program(&self, program: &Path, arguments: &[std::ffi::OsString]) -> io::Error {
        let held = self.hold();
        let mut named = Vec::new();
        for socket in &held.listening {
            let Ok(address) = socket.local_addr() else { continue };
            if let Err(error) = rustix::io::fcntl_setfd(socket.as_fd(), FdFlags::empty()) {
                return error.into();
            }
            named.push(format!("{}={address}", socket.as_raw_fd()));
        }
        Command::new(program).args(arguments).env(VARIABLE, named.join(",")).exec()
    }

    fn hold(&self) -> std::sync::MutexGuard<'_, Held> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The file that this process's program was started from. Asked at the start: a file that is
/// replaced later has another name then.
pub fn own_program() -> io::Result<PathBuf> {
    std::env::current_exe()
}

/// Whether a file can be run as a program.
pub fn can_run(program: &Path) -> io::Result<()> {
    Ok(rustix::fs::access(program, rustix::fs::Access::EXEC_OK)?)
}

/// The sockets that are named, as far as they are what they are said to be.
fn inherit(named: &OsStr) -> Vec<TcpListener> {
    let named = named.to_string_lossy();
    let pairs = named.split(',').take(SOCKETS_MAX).filter_map(|pair| pair.split_once('='));
    pairs
        .filter_map(|(number, address)| Some((number.parse().ok()?, address.parse().ok()?)))
        .filter_map(|(number, address)| adopt(number, address))
        .collect()
}

/// Makes a socket of a descriptor's number, if it listens on this address.
#[expect(unsafe_code, reason = "a descriptor that was inherited is a number and nothing more")]
fn adopt(number: RawFd, address: SocketAddr) -> Option<TcpListener> {
    // The first three are somebody else's.
    if number < 3 || !Path::new(&format!("/proc/self/fd/{number}")).exists() {
        return None;
    }
    // SAFETY: the descriptor is open, and it is ours alone: the variable is read once, before
    // anything else of this program opens descriptors, and each number in it is taken once, as the
    // descriptor is marked below and a marked one is refused.
    let descriptor = unsafe { OwnedFd::from_raw_fd(number) };
    let flags = rustix::io::fcntl_getfd(&descriptor).ok()?;
    let listens = rustix::net::sockopt::socket_acceptconn(&descriptor).unwrap_or(false);
    let socket = TcpListener::from(descriptor);
    let is_it = socket.local_addr().is_ok_and(|own| own == address);
    if flags.contains(FdFlags::CLOEXEC) || !listens || !is_it {
        // It is something else of this process, which goes on using it.
        let _number = std::os::fd::IntoRawFd::into_raw_fd(socket);
        return None;
    }
    // Children do not get it.
    rustix::io::fcntl_setfd(&socket, FdFlags::CLOEXEC).ok()?;
    Some(socket)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_socket_is_bound_once_and_kept_open_by_whoever_holds_it() {
        let sockets = Sockets::default();
        let listener = sockets.listen(SocketAddr::from(([127, 0, 0, 1], 0))).unwrap();
        let address = listener.local_addr().unwrap();
        drop(listener);
        // Nobody accepts, and yet nobody is refused.
        tokio::net::TcpStream::connect(address).await.unwrap();
        assert!(sockets.listen(address).is_err(), "the address is taken, by ourselves");
        drop(sockets);
        assert!(tokio::net::TcpStream::connect(address).await.is_err());
    }

    #[test]
    fn what_is_not_a_listening_socket_on_that_address_is_left_alone() {
        let socket = TcpListener::bind("127.0.0.1:0").unwrap();
        let (number, address) = (socket.as_raw_fd(), socket.local_addr().unwrap());
        for named in [
            "",
            "x",
            "1=127.0.0.1:1",
            "99999=127.0.0.1:1",
            &format!("{number}=127.0.0.1:1"),
            // It was opened by this program, and is marked as such.
            &format!("{number}={address}"),
        ] {
            assert!(inherit(OsStr::new(named)).is_empty(), "{named}");
        }
        assert!(TcpListener::local_addr(&socket).is_ok(), "it is still open");
        rustix::io::fcntl_setfd(&socket, FdFlags::empty()).unwrap();
        let named = format!("{number}={address},{number}={address}");
        // From here on it belongs to whoever takes it over.
        let _number = std::os::fd::IntoRawFd::into_raw_fd(socket);
        let taken = inherit(OsStr::new(&named));
        assert_eq!(taken.len(), 1);
        assert_eq!(taken[0].local_addr().unwrap(), address);
    }
}
