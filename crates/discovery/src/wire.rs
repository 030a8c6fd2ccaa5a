//! From a packet to a packet.

use hickory_proto::op::{Edns, Message, MessageType, OpCode, ResponseCode};
use hickory_proto::rr::{DNSClass, RecordType};

use cos_model::catalog::Catalog;

use crate::answer::{Question, Zone, answer};
use crate::fit::{Limits, encode_within};

/// How a packet came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Channel {
    /// One datagram.
    Udp,
    /// One message of a stream.
    Tcp,
}

/// Answers in a datagram to a client that did not say how much it takes.
const PLAIN_UDP: Limits = Limits { bytes: 512, answers: 3 };
/// The largest datagram, whatever the client says.
const UDP_BYTES_MAX: usize = 65_467;
/// Kept free in a datagram of stated size, for what is between the two ends.
const UDP_RESERVE: usize = 8;
/// The largest message of a stream.
const TCP_BYTES_MAX: usize = 65_523;
/// Records in an answer, however large the transport.
const ANSWERS_MAX: usize = 4096;
/// SRV records in an answer, however large the transport.
const SRV_ANSWERS_MAX: usize = 1024;

/// Answers a packet. `None` means that it deserves no answer: it is no question.
pub fn respond(
    packet: &[u8],
    channel: Channel,
    catalog: &Catalog,
    zone: &Zone,
    unix_seconds: u32,
    entropy: u64,
) -> Option<Vec<u8>> {
    let Ok(request) = Message::from_vec(packet) else { return refuse_unreadable(packet) };
    if request.metadata.message_type == MessageType::Response {
        return None;
    }
    let mut response = Message::response(request.metadata.id, request.metadata.op_code);
    response.metadata.recursion_desired = request.metadata.recursion_desired;
    if let Some(asked) = &request.edns {
        let mut edns = Edns::new();
        edns.set_max_payload(asked.max_payload());
        response.set_edns(edns);
    }
    let limits = limits(&request, channel);
    let query = request.queries.first().cloned();
    response.queries.extend(query.clone());
    if request.metadata.op_code != OpCode::Query {
        response.metadata.response_code = ResponseCode::NotImp;
        return encode_within(&mut response, limits);
    }
    let Some(query) = query else {
        response.metadata.response_code = ResponseCode::FormErr;
        return encode_within(&mut response, limits);
    };
    let known_class = matches!(query.query_class(), DNSClass::IN | DNSClass::ANY);
    if !known_class || matches!(query.query_type(), RecordType::AXFR | RecordType::IXFR) {
        response.metadata.response_code = ResponseCode::NotImp;
        return encode_within(&mut response, limits);
    }
    let question = Question { name: query.name().clone(), kind: query.query_type() };
    let found = answer(catalog, zone, &question, unix_seconds, entropy);
    response.metadata.response_code = found.code;
    response.metadata.authoritative = found.code != ResponseCode::Refused;
    response.answers = found.answers;
    response.authorities = found.authorities;
    response.additionals = found.additionals;
    encode_within(&mut response, limits)
}

fn limits(request: &Message, channel: Channel) -> Limits {
    let srv = request.queries.first().is_some_and(|query| query.query_type() == RecordType::SRV);
    let answers = if srv { SRV_ANSWERS_MAX } else { ANSWERS_MAX };
    match (channel, &request.edns) {
        (Channel::Tcp, _) => Limits { bytes: TCP_BYTES_MAX, answers },
        (Channel::Udp, None) => PLAIN_UDP,
        (Channel::Udp, Some(edns)) => {
            let stated = usize::from(edns.max_payload()).clamp(PLAIN_UDP.bytes, UDP_BYTES_MAX);
            Limits { bytes: stated.saturating_sub(UDP_RESERVE).max(PLAIN_UDP.bytes), answers }
        }
    }
}

/// A packet that cannot be read gets a format error if at least its id can be.
fn refuse_unreadable(packet: &[u8]) -> Option<Vec<u8>> {
    let [high, low, flags, ..] = packet else { return None };
    let is_response = flags & 0x80 != 0;
    if packet.len() < 12 || is_response {
        return None;
    }
    let id = u16::from_be_bytes([*high, *low]);
    Message::error_msg(id, OpCode::Query, ResponseCode::FormErr).to_vec().ok()
}
