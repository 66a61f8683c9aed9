//! How much of what a peer sends QUIC keeps, before anybody has read it.

use crate::config::Limits;
use quinn::{AckFrequencyConfig, Connection, IdleTimeout, TransportConfig, VarInt};

/// What a peer may have this node keep unread, for all streams of a connection together, in bytes.
/// Whoever dials is a stranger until its key is known, and has few streams until then too.
const MEMBER_WINDOW: u32 = 4 << 20;
const STRANGER_WINDOW: u32 = 256 << 10;
const STRANGER_STREAMS: u32 = 4;
/// Of one stream: streams whose large frame waits for its turn must not fill the window of all.
const STREAM_WINDOW: u32 = 512 << 10;
/// So many packets may come before one is sent only to acknowledge them (QUIC's ACK frequency
/// extension), within the usual delay: most are answered soon, and the answer acknowledges them.
const UNACKNOWLEDGED: u32 = 10;

/// Of a connection that this node dialed: the peer's key is the one that was dialed.
pub(crate) fn for_members(limits: &Limits) -> TransportConfig {
    windows(limits, MEMBER_WINDOW, limits.streams)
}

/// Of a connection that another opens, until its key is known.
pub(crate) fn for_strangers(limits: &Limits) -> TransportConfig {
    windows(limits, STRANGER_WINDOW, STRANGER_STREAMS)
}

/// The stranger has turned out to be a member.
pub(crate) fn open(connection: &Connection, limits: &Limits) {
    connection.set_receive_window(VarInt::from_u32(MEMBER_WINDOW));
    connection.set_max_concurrent_bi_streams(VarInt::from_u32(limits.streams));
}

fn windows(limits: &Limits, window: u32, streams: u32) -> TransportConfig {
    let mut acks = AckFrequencyConfig::default();
    acks.ack_eliciting_threshold(VarInt::from_u32(UNACKNOWLEDGED));
    let mut t = TransportConfig::default();
    t.max_concurrent_bidi_streams(VarInt::from_u32(streams))
        .max_concurrent_uni_streams(VarInt::from_u32(0))
        .max_idle_timeout(IdleTimeout::try_from(limits.idle).ok())
        .receive_window(VarInt::from_u32(window))
        .stream_receive_window(VarInt::from_u32(STREAM_WINDOW))
        .send_window(16 << 20)
        .datagram_receive_buffer_size(Some(256 << 10))
        .datagram_send_buffer_size(256 << 10)
        .ack_frequency_config(Some(acks));
    t
}
