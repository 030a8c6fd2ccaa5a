//! A gRPC codec that passes bytes through, and the mapping between our errors and gRPC's codes.
//!
//! Deliberately absent: compression. Messages are small or already compressed.

use std::error::Error;

use bytes::{Buf, BufMut, Bytes};
use tonic::codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder};
use tonic::{Code, ConnectError, Status};

use crate::rpc::admission::SPEAKS_TLS;
use crate::rpc::{REFUSAL_BYTES_MAX, RpcError};

/// Bytes in, bytes out.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct RawCodec;

impl Codec for RawCodec {
    type Encode = Bytes;
    type Decode = Bytes;
    type Encoder = Self;
    type Decoder = Self;

    fn encoder(&mut self) -> Self {
        Self
    }

    fn decoder(&mut self) -> Self {
        Self
    }
}

impl Encoder for RawCodec {
    type Item = Bytes;
    type Error = Status;

    fn encode(&mut self, item: Bytes, target: &mut EncodeBuf<'_>) -> Result<(), Status> {
        target.reserve(item.len());
        target.put(item);
        Ok(())
    }
}

impl Decoder for RawCodec {
    type Item = Bytes;
    type Error = Status;

    fn decode(&mut self, source: &mut DecodeBuf<'_>) -> Result<Option<Bytes>, Status> {
        let length = source.remaining();
        Ok(Some(source.copy_to_bytes(length)))
    }
}

/// How an error of a service travels to its caller.
pub(super) fn to_status(error: RpcError) -> Status {
    match error {
        RpcError::Unreachable(text) => Status::unavailable(shorten(text)),
        RpcError::Timeout => Status::deadline_exceeded(""),
        RpcError::Refused(text) => Status::failed_precondition(shorten(text)),
        RpcError::Closed => Status::aborted(""),
    }
}

/// What a status means to the caller: one that the peer sent, or one that stands for a broken
/// transport. The latter are told apart by their source, because the codes overlap.
pub(super) fn from_status(status: &Status) -> RpcError {
    // Whoever objects to a certificate has not looked at what was asked.
    if let Some(text) = status.source().and_then(crate::tls::refusal) {
        return RpcError::Unreachable(text);
    }
    if let Some(text) = connect_failure(status) {
        return RpcError::Unreachable(text);
    }
    if status.source().is_some_and(|error| innermost(error).contains(SPEAKS_TLS)) {
        return RpcError::Unreachable(
            "it speaks TLS, and this agent does not: `cluster { tls }` differs between them"
                .to_owned(),
        );
    }
    match status.code() {
        Code::Unavailable if status.source().is_none() => {
            RpcError::Unreachable(status.message().to_owned())
        }
        Code::DeadlineExceeded => RpcError::Timeout,
        Code::FailedPrecondition | Code::Unimplemented | Code::OutOfRange => {
            RpcError::Refused(status.message().to_owned())
        }
        _ => RpcError::Closed,
    }
}

fn connect_failure(status: &Status) -> Option<String> {
    let mut cause = status.source();
    while let Some(error) = cause {
        if let Some(failure) = error.downcast_ref::<ConnectError>() {
            return Some(innermost(failure));
        }
        cause = error.source();
    }
    None
}

/// The first cause of an error, in its words.
pub(super) fn innermost(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text = error.to_string();
        cause = error.source();
    }
    text
}

fn shorten(mut text: String) -> String {
    text.truncate(text.floor_char_boundary(REFUSAL_BYTES_MAX));
    text
}
