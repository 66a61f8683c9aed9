//! What peers ask over streams: each begins with a frame that says what it is for.

use super::gossip::EXCHANGE;
use super::{Shared, join, remote};
use hale_model::wire;
use hale_transport::{Lane, Stream};
use std::sync::{Arc, Weak};
use std::time::Duration;
use tokio::sync::mpsc;

/// How long a peer may take to say what it wants.
const FIRST_FRAME: Duration = Duration::from_secs(10);

/// Takes streams until the port is closed. How many there are at a time is bounded by the
/// transport: so many connections, so many streams on each.
pub(super) async fn run(mut streams: mpsc::Receiver<Stream>, shared: Weak<Shared>) {
    while let Some(stream) = streams.recv().await {
        let Some(shared) = shared.upgrade() else {
            return;
        };
        tokio::spawn(serve(shared, stream));
    }
}

async fn serve(shared: Arc<Shared>, mut stream: Stream) {
    if stream.lane() == Lane::Join {
        return join::serve(&shared, stream).await;
    }
    let first = tokio::time::timeout(FIRST_FRAME, stream.recv()).await;
    // What is no frame was refused and counted by the transport.
    let Ok(Ok(Some(frame))) = first else { return };
    let from = stream.peer();
    // Its connection may have come about while it was a member.
    if !shared.consensus.read_stale(|l| l.is_enrolled(&from)) {
        return;
    }
    match frame.kind() {
        hale_consensus::REQUEST => {
            let reply = shared.consensus.serve(from, &frame.into_bytes()).await;
            answer(&mut stream, &reply).await;
        }
        EXCHANGE => {
            let ours = shared.gossip.exchange(frame.payload()).await;
            let framed = ours.and_then(|o| wire::frame(EXCHANGE, shared.cluster, &o).ok());
            if let Some(framed) = framed {
                answer(&mut stream, &framed).await;
            }
        }
        remote::API => {
            let others = shared.others.clone();
            others.spawn(async move {
                if let Some(internal) = shared.internal.get() {
                    remote::serve(&shared, internal, stream, frame.payload()).await;
                }
            });
        }
        hale_gateway::FRAME_KIND => {
            if let Some(gateway) = shared.gateway.get() {
                let _on = shared.others.enter();
                gateway.accept(stream);
            }
        }
        _ => shared.counters.unknown_stream(),
    }
}

async fn answer(stream: &mut Stream, frame: &[u8]) {
    // A peer that has gone needs no answer.
    if stream.send_frame(frame).await.is_ok() {
        stream.finish();
    }
}
