//! Writes the few forms of DER of which certificates are made.
//!
//! Pure. Deliberately absent: reading, which is left to the verifier's library.

/// Tags.
const BOOLEAN: u8 = 0x01;
const INTEGER: u8 = 0x02;
const BIT_STRING: u8 = 0x03;
const OCTET_STRING: u8 = 0x04;
const OBJECT_IDENTIFIER: u8 = 0x06;
const UTF8_STRING: u8 = 0x0c;
const UTC_TIME: u8 = 0x17;
const GENERALIZED_TIME: u8 = 0x18;
const SEQUENCE: u8 = 0x30;
const SET: u8 = 0x31;
/// The bits of a tag that stand for "one of several, told apart by its number".
const CONTEXT: u8 = 0x80;
const CONSTRUCTED: u8 = 0x20;

const DAY_SECONDS: u64 = 24 * 60 * 60;

/// A value with its tag and length.
pub(crate) fn value(tag: u8, content: &[u8]) -> Vec<u8> {
    let mut bytes = vec![tag];
    if let Ok(short @ 0..0x80) = u8::try_from(content.len()) {
        bytes.push(short);
    } else {
        let length = content.len().to_be_bytes();
        let first = length.iter().position(|byte| *byte != 0).unwrap_or(0);
        let length = &length[first..];
        bytes.push(0x80 | u8::try_from(length.len()).expect("a length has at most 8 bytes"));
        bytes.extend(length);
    }
    bytes.extend(content);
    bytes
}

/// Values one after the other.
pub(crate) fn sequence(parts: &[Vec<u8>]) -> Vec<u8> {
    value(SEQUENCE, &parts.concat())
}

/// A set of one value.
pub(crate) fn set_of_one(part: &[u8]) -> Vec<u8> {
    value(SET, part)
}

/// A value that holds another, known by its number.
pub(crate) fn tagged(number: u8, part: &[u8]) -> Vec<u8> {
    value(CONTEXT | CONSTRUCTED | number, part)
}

/// Bytes that are known by their number.
pub(crate) fn tagged_bytes(number: u8, bytes: &[u8]) -> Vec<u8> {
    value(CONTEXT | number, bytes)
}

/// True; false is never written, because it is what absence means.
pub(crate) fn yes() -> Vec<u8> {
    value(BOOLEAN, &[0xff])
}

/// A number that is not negative, given from its most significant byte on.
pub(crate) fn integer(bytes: &[u8]) -> Vec<u8> {
    let first = bytes.iter().position(|byte| *byte != 0).unwrap_or(bytes.len());
    let mut content = bytes[first..].to_vec();
    if content.first().is_none_or(|byte| *byte >= 0x80) {
        content.insert(0, 0);
    }
    value(INTEGER, &content)
}

/// Bits, of which the last `unused` of the last byte are none.
pub(crate) fn bits(unused: u8, bytes: &[u8]) -> Vec<u8> {
    let mut content = vec![unused];
    content.extend(bytes);
    value(BIT_STRING, &content)
}

/// Bytes.
pub(crate) fn octets(bytes: &[u8]) -> Vec<u8> {
    value(OCTET_STRING, bytes)
}

/// Text.
pub(crate) fn text(text: &str) -> Vec<u8> {
    value(UTF8_STRING, text.as_bytes())
}

/// The name of a kind of thing, such as `[1, 3, 101, 112]`.
pub(crate) fn object(path: &[u32]) -> Vec<u8> {
    let (first, second) = (path[0], path[1]);
    let mut content = Vec::new();
    for number in std::iter::once(first * 40 + second).chain(path[2..].iter().copied()) {
        let groups = (0..5).rev().map(|group| (number >> (7 * group)) & 0x7f);
        let significant: Vec<u32> = groups.skip_while(|group| *group == 0).collect();
        let Some((last, rest)) = significant.split_last() else {
            content.push(0);
            continue;
        };
        let byte = |group: u32| u8::try_from(group).expect("it is masked to seven bits");
        content.extend(rest.iter().map(|group| byte(*group) | 0x80));
        content.push(byte(*last));
    }
    value(OBJECT_IDENTIFIER, &content)
}

/// A point in time, in seconds since 1970.
pub(crate) fn time(unix_seconds: u64) -> Vec<u8> {
    let (year, month, day) = civil(unix_seconds / DAY_SECONDS);
    let within = unix_seconds % DAY_SECONDS;
    let (hour, minute, second) = (within / 3600, within / 60 % 60, within % 60);
    // The short form stands for 1950 to 2049 and must be used for them.
    if year < 2050 {
        let year = year % 100;
        let text = format!("{year:02}{month:02}{day:02}{hour:02}{minute:02}{second:02}Z");
        return value(UTC_TIME, text.as_bytes());
    }
    let text = format!("{year:04}{month:02}{day:02}{hour:02}{minute:02}{second:02}Z");
    value(GENERALIZED_TIME, text.as_bytes())
}

/// Year, month and day of a day since 1970. Years are counted from March, so that a leap day is the
/// last of its year.
fn civil(days: u64) -> (u64, u64, u64) {
    let days = days + 719_468;
    let (era, of_era) = (days / 146_097, days % 146_097);
    let year_of_era = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * of_year + 2) / 153;
    let day = of_year - (153 * shifted_month + 2) / 5 + 1;
    let month = if shifted_month < 10 { shifted_month + 3 } else { shifted_month - 9 };
    let year = era * 400 + year_of_era + u64::from(month <= 2);
    (year, month, day)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(written: &[u8], expected: &str) {
        let shown: String = written.iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(shown, expected);
    }

    #[test]
    fn numbers_keep_their_sign_and_lose_their_leading_zeros() {
        check(&integer(&[0x02]), "020102");
        check(&integer(&[0, 0, 0x80]), "02020080");
        check(&integer(&[]), "020100");
    }

    #[test]
    fn lengths_take_as_many_bytes_as_they_need() {
        assert_eq!(value(4, &[7; 127])[..2], [4, 127]);
        assert_eq!(value(4, &[7; 128])[..3], [4, 0x81, 128]);
        assert_eq!(value(4, &[7; 300])[..4], [4, 0x82, 1, 44]);
    }

    #[test]
    fn objects_are_written_in_groups_of_seven_bits() {
        check(&object(&[1, 3, 101, 112]), "06032b6570");
        check(&object(&[2, 5, 29, 17]), "0603551d11");
        check(&object(&[1, 2, 840, 113_549]), "06062a864886f70d");
    }

    #[test]
    fn times_are_written_as_their_century_demands() {
        let text = |seconds| String::from_utf8(time(seconds)[2..].to_vec()).unwrap();
        assert_eq!(text(0), "700101000000Z");
        assert_eq!(text(951_782_400), "000229000000Z");
        assert_eq!(text(1_763_785_441), "251122042401Z");
        assert_eq!(text(2_524_607_999), "491231235959Z");
        assert_eq!(text(2_524_608_000), "20500101000000Z");
    }
}
