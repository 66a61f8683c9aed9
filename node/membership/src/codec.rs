//! What foca's packets look like: each part is its length in two bytes and its bytes in the house
//! encoding. So a packet can be taken apart, and members of whom nobody may speak left out.

use crate::identity::Id;
use bytes::{Buf, BufMut};
use foca::{Codec, Header, Member, Message};
use hale_model::wire::{self, WireError};
use serde::Serialize;
use serde::de::DeserializeOwned;

#[derive(Debug, Clone, Copy)]
pub(crate) struct WireCodec;

fn put<T: Serialize>(value: &T, mut buf: impl BufMut) -> Result<(), WireError> {
    let bytes = wire::encode(value)?;
    let limit = buf
        .remaining_mut()
        .saturating_sub(2)
        .min(usize::from(u16::MAX));
    if bytes.len() > limit {
        return Err(WireError::TooLarge {
            len: bytes.len(),
            limit,
        });
    }
    buf.put_u16(bytes.len() as u16);
    buf.put_slice(&bytes);
    Ok(())
}

fn take<T: DeserializeOwned>(mut buf: impl Buf) -> Result<T, WireError> {
    if buf.remaining() < 2 {
        return Err(WireError::Short);
    }
    let len = usize::from(buf.get_u16());
    if buf.remaining() < len {
        return Err(WireError::Short);
    }
    let value = wire::decode(&buf.copy_to_bytes(len))?;
    Ok(value)
}

impl Codec<Id> for WireCodec {
    type Error = WireError;

    fn encode_header(&mut self, header: &Header<Id>, buf: impl BufMut) -> Result<(), WireError> {
        put(header, buf)
    }

    fn decode_header(&mut self, buf: impl Buf) -> Result<Header<Id>, WireError> {
        take(buf)
    }

    fn encode_member(&mut self, member: &Member<Id>, buf: impl BufMut) -> Result<(), WireError> {
        put(member, buf)
    }

    fn decode_member(&mut self, buf: impl Buf) -> Result<Member<Id>, WireError> {
        take(buf)
    }
}

/// From whom and to whom a packet is, and what it wants.
pub(crate) fn header(packet: &[u8]) -> Result<Header<Id>, WireError> {
    take(packet)
}

/// A packet without the members that are not `admitted`.
pub(crate) fn filter(
    packet: &[u8],
    mut admitted: impl FnMut(&Id) -> bool,
) -> Result<Vec<u8>, WireError> {
    let mut rest = packet;
    let header: Header<Id> = take(&mut rest)?;
    let mut out = packet[..packet.len() - rest.len()].to_vec();
    // These two carry no members.
    let bare = matches!(header.message, Message::Announce | Message::Broadcast);
    if bare || rest.len() < 2 {
        out.extend_from_slice(rest);
        return Ok(out);
    }
    let count = rest.get_u16();
    let (mut kept, mut members) = (0u16, vec![]);
    for _ in 0..count {
        let before = rest;
        let member: Member<Id> = take(&mut rest)?;
        if admitted(member.id()) {
            members.extend_from_slice(&before[..before.len() - rest.len()]);
            kept += 1;
        }
    }
    out.put_u16(kept);
    out.extend_from_slice(&members);
    out.extend_from_slice(rest);
    Ok(out)
}

/// The third party that a message speaks of, if it does.
pub(crate) fn third(message: &Message<Id>) -> Option<&Id> {
    match message {
        Message::PingReq { target, .. } | Message::IndirectAck { target, .. } => Some(target),
        Message::IndirectPing { origin, .. } | Message::ForwardedAck { origin, .. } => Some(origin),
        _ => None,
    }
}
