//! Functions that digest text.

use std::fmt::Write as _;

use cos_model::Value;
use md5::Md5;
use sha1::Sha1;
use sha2::{Digest, Sha256, Sha512};

use super::{Answer, Function, Host, function, text};

pub(super) const TABLE: &[Function] = &[
    function("md5", 1, 1, |a, _| Ok(Value::String(hex(&Md5::digest(text(a, 0)?))))),
    function("sha1", 1, 1, |a, _| Ok(Value::String(hex(&Sha1::digest(text(a, 0)?))))),
    function("sha256", 1, 1, |a, _| Ok(Value::String(hex(&Sha256::digest(text(a, 0)?))))),
    function("sha512", 1, 1, |a, _| Ok(Value::String(hex(&Sha512::digest(text(a, 0)?))))),
    function("uuidv5", 2, 2, uuidv5),
];

/// The four namespaces that RFC 4122 names differ in one byte.
const NAMESPACE: [u8; 16] = [
    0x6b, 0xa7, 0xb8, 0x10, 0x9d, 0xad, 0x11, 0xd1, 0x80, 0xb4, 0x00, 0xc0, 0x4f, 0xd4, 0x30, 0xc8,
];

fn hex(bytes: &[u8]) -> String {
    let mut output = String::with_capacity(bytes.len() * 2);
    for byte in bytes {
        let _infallible = write!(output, "{byte:02x}");
    }
    output
}

fn namespace(name: &str) -> Option<[u8; 16]> {
    let last = match name {
        "dns" => 0x10,
        "url" => 0x11,
        "oid" => 0x12,
        "x500" => 0x14,
        _ => {
            let digits: String = name.chars().filter(|c| *c != '-').collect();
            return u128::from_str_radix(&digits, 16)
                .ok()
                .filter(|_| digits.len() == 32)
                .map(u128::to_be_bytes);
        }
    };
    let mut bytes = NAMESPACE;
    bytes[3] = last;
    Some(bytes)
}

fn uuidv5(arguments: &[Value], _: &Host<'_>) -> Answer {
    let (space, name) = (text(arguments, 0)?, text(arguments, 1)?);
    let space = namespace(&space).ok_or_else(|| format!("`{space}` is not a namespace"))?;
    let digest = Sha1::new().chain_update(space).chain_update(name).finalize();
    let mut bytes = [0; 16];
    bytes.copy_from_slice(&digest[..16]);
    bytes[6] = (bytes[6] & 0x0f) | 0x50;
    bytes[8] = (bytes[8] & 0x3f) | 0x80;
    let digits = hex(&bytes);
    let groups = [&digits[..8], &digits[8..12], &digits[12..16], &digits[16..20], &digits[20..]];
    Ok(Value::String(groups.join("-")))
}
