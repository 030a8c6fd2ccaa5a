//! Stored entries of every kind, which must be readable for ever.
//!
//! `UPDATE=1 cargo test -p cos-state golden` writes the files. A file that changes means that old
//! logs may not be read any more: only new files are ever added without a new format version.

use std::fmt::Write as _;
use std::path::PathBuf;

use cos_model::Timestamp;
use cos_state::{Request, State, decode_request, encode_request};

mod rich;

/// Bytes in one line of a golden file.
const LINE_BYTES: usize = 40;

#[test]
fn every_command_ever_stored_can_be_read() {
    let mut command = Some(rich::first());
    while let Some(sample) = command {
        let debug = format!("{sample:?}");
        let name = debug.split(|c: char| !c.is_alphanumeric()).next().unwrap();
        let request = Request::new(Timestamp(1_700_000_000_000_000_000), sample);
        let stored = golden(name, &encode_request(&request));
        assert_eq!(decode_request(&stored).unwrap(), request, "{name}");
        command = rich::after(&request.command);
    }
    for (name, sample) in rich::more() {
        let request = Request::new(Timestamp(1_700_000_000_000_000_000), sample);
        let stored = golden(name, &encode_request(&request));
        assert_eq!(decode_request(&stored).unwrap(), request, "{name}");
    }
}

#[test]
fn every_snapshot_ever_stored_can_be_read() {
    let mut state = State::default();
    let mut command = Some(rich::first());
    let mut index = 0;
    while let Some(sample) = command {
        command = rich::after(&sample);
        index += 1;
        state.apply(index, &Request::new(Timestamp(1), sample));
    }
    let stored = golden("snapshot", &state.encode_snapshot());
    let read = State::decode_snapshot(&stored).unwrap();
    assert_eq!(State::decode_snapshot(&read.encode_snapshot()).unwrap(), read);
    assert!(read.jobs().next().is_some() && read.allocs().next().is_some());
}

#[test]
fn every_snapshot_of_locks_ever_stored_can_be_read() {
    let mut world = crate::script::World::default();
    for line in [
        "node n1 name=box",
        "session create s1 on=box check=serfHealth ttl=15 delay=15",
        "session create s2 on=box delay=15",
        "kv acquire a 1 s1 ; acquire b 2 s2",
        "session destroy s2",
    ] {
        world.run(&line.split(' ').collect::<Vec<_>>());
    }
    let stored = golden("snapshot-locks", &world.state.encode_snapshot());
    let read = State::decode_snapshot(&stored).unwrap();
    assert_eq!(State::decode_snapshot(&read.encode_snapshot()).unwrap(), read);
    assert_eq!((read.sessions().count(), read.lock_delays().count()), (1, 1));
}

/// Returns what the golden file of this name holds; writes it first if that is asked for.
fn golden(name: &str, present: &[u8]) -> Vec<u8> {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/golden");
    let path = folder.join(format!("{name}.hex"));
    if std::env::var_os("UPDATE").is_some() {
        std::fs::write(&path, to_hex(present)).unwrap();
    }
    let text = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{name}: {error}"));
    from_hex(&text)
}

fn to_hex(bytes: &[u8]) -> String {
    let mut text = String::new();
    for line in bytes.chunks(LINE_BYTES) {
        for byte in line {
            write!(text, "{byte:02x}").unwrap();
        }
        text.push('\n');
    }
    text
}

fn from_hex(text: &str) -> Vec<u8> {
    let digits: Vec<char> = text.chars().filter(|c| !c.is_whitespace()).collect();
    let byte = |pair: &[char]| u8::from_str_radix(&pair.iter().collect::<String>(), 16).unwrap();
    digits.chunks(2).map(byte).collect()
}
