//! Making an answer small enough for the transport.
//!
//! Authority goes first, then answers from the end, with the additional records that belong to
//! them. At least one answer stays.

use hickory_proto::op::Message;
use hickory_proto::rr::{RData, Record};
use hickory_proto::serialize::binary::{BinEncodable, BinEncoder};

/// What a transport carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Limits {
    /// Bytes of the whole message.
    pub(crate) bytes: usize,
    /// Records in the answer section.
    pub(crate) answers: usize,
}

/// Cuts the message to the limits and encodes it. `None` if even the bare header cannot be encoded.
pub(crate) fn encode_within(message: &mut Message, limits: Limits) -> Option<Vec<u8>> {
    if message.answers.len() > limits.answers {
        keep_answers(message, limits.answers);
    }
    let full = encode(message)?;
    if full.len() <= limits.bytes {
        return Some(full);
    }
    message.authorities.clear();
    // Each step halves what is searched, so a large answer is encoded a few times, not once each.
    let all = message.clone();
    let (mut fits, mut breaks) = (1, message.answers.len() + 1);
    while fits + 1 < breaks {
        let middle = usize::midpoint(fits, breaks);
        let mut trial = all.clone();
        keep_answers(&mut trial, middle);
        if encode(&trial)?.len() <= limits.bytes {
            fits = middle;
        } else {
            breaks = middle;
        }
    }
    keep_answers(message, fits);
    let cut = encode(message)?;
    if cut.len() <= limits.bytes {
        return Some(cut);
    }
    message.additionals.clear();
    encode(message)
}

fn encode(message: &Message) -> Option<Vec<u8>> {
    let mut bytes = Vec::with_capacity(512);
    message.emit(&mut BinEncoder::new(&mut bytes)).ok()?;
    Some(bytes)
}

/// Keeps the first answers and what the additional section says about them.
fn keep_answers(message: &mut Message, count: usize) {
    message.answers.truncate(count);
    let answers = &message.answers;
    message.additionals.retain(|extra| answers.iter().any(|answer| concerns(answer, extra)));
}

fn concerns(answer: &Record, extra: &Record) -> bool {
    match &answer.data {
        RData::SRV(srv) => srv.target == extra.name,
        RData::NS(ns) => ns.0 == extra.name,
        _ => answer.name == extra.name,
    }
}
