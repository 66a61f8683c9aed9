use super::*;
use crate::config::Limits;
use hale_model::NodeId;
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex, split};

const MAX_FRAME: usize = 1 << 20;

type Ends = (BoxRead, BoxWrite, DuplexStream, Arc<Plug>, Arc<Flow>);

fn gated() -> (Ends, Arc<Mutex<Option<Option<Refusal>>>>) {
    let (near, far) = duplex(4096);
    let (plug, flow) = (Arc::<Plug>::default(), Arc::<Flow>::default());
    let ended = Arc::new(Mutex::new(None));
    let told = ended.clone();
    let gate = Gate::new(&NodeId::from_bytes([7; 32]), &Limits::default());
    let gated = Gated::new(
        "1".to_owned(),
        split(near),
        (gate, flow.clone()),
        MAX_FRAME,
        plug.clone(),
        move |why| *told.lock().unwrap() = Some(why),
    );
    let (read, write) = Box::new(gated).split();
    ((read, write, far, plug, flow), ended)
}

fn framed(message: &[u8]) -> Vec<u8> {
    [&(message.len() as u64).to_be_bytes()[..], message].concat()
}

/// A call with so many bytes; its lengths take three bytes each.
fn call(bytes: u32) -> Vec<u8> {
    let varint = |n: u32| [n as u8 | 0x80, (n >> 7) as u8 | 0x80, (n >> 14) as u8];
    let what = [&[0x12][..], &varint(bytes), &vec![7; bytes as usize]].concat();
    let inner = [&[0x12][..], &varint(what.len() as u32), &what].concat();
    [&[0x12][..], &varint(inner.len() as u32), &inner].concat()
}

#[tokio::test]
async fn frames_pass_unchanged_whatever_pieces_they_come_in() {
    let ((mut read, _write, mut far, ..), _) = gated();
    let sent: Vec<u8> = [3, 490, 512, 30_000, 1]
        .iter()
        .flat_map(|n| framed(&call(*n)))
        .collect();
    let expected = sent.clone();
    tokio::spawn(async move {
        for piece in sent.chunks(7) {
            far.write_all(piece).await.unwrap();
        }
    });
    let mut got = vec![];
    read.read_to_end(&mut got).await.unwrap();
    assert!(got == expected, "{} of {}", got.len(), expected.len());
}

#[tokio::test]
async fn a_frame_that_may_not_come_ends_the_session_before_an_actor_sees_it() {
    for frame in [
        framed(b"nonsense"),
        framed(&[]),
        u64::MAX.to_be_bytes().to_vec(),
    ] {
        let ((mut read, mut write, mut far, ..), ended) = gated();
        far.write_all(&frame).await.unwrap();
        let mut got = vec![];
        read.read_to_end(&mut got).await.unwrap();
        assert_eq!(got, b"");
        assert!(write.write_all(b"x").await.is_err());
        drop(read);
        let why = *ended.lock().unwrap();
        assert!(matches!(why, Some(Some(Refusal::Frame(_)))), "{why:?}");
    }
}

#[tokio::test]
async fn the_plug_ends_both_halves_even_those_that_wait() {
    let ((mut read, mut write, _far, plug, _), ended) = gated();
    let reads = tokio::spawn(async move { read.read_u8().await.is_err() });
    // More than the peer makes room for.
    let writes = tokio::spawn(async move { write.write_all(&[0; 9000]).await.is_err() });
    tokio::task::yield_now().await;
    plug.pull();
    assert!(reads.await.unwrap() && writes.await.unwrap());
    assert_eq!(*ended.lock().unwrap(), Some(None));
}

#[tokio::test]
async fn what_is_written_is_counted_whatever_pieces_it_goes_in() {
    let ((_read, mut write, mut far, _, flow), _) = gated();
    for _ in 0..3 {
        flow.ask();
    }
    let bytes: Vec<u8> = [1, 600, 20_000]
        .iter()
        .flat_map(|n| framed(&call(*n)))
        .collect();
    let total = bytes.len();
    let taken = tokio::spawn(async move {
        let mut got = vec![0; total];
        far.read_exact(&mut got).await.unwrap();
    });
    for piece in bytes.chunks(11) {
        write.write_all(piece).await.unwrap();
    }
    taken.await.unwrap();
    assert_eq!(flow.unsent(), 0);
}
