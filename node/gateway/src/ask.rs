//! The one message that may cross the network, and what its bytes are.
//!
//! A question is `ticket(32) timeout_ms(4) bytes`, its answer `status(1) bytes`.

use hale_model::Digest;
use ractor::RpcReplyPort;
use ractor::message::{BoxedDowncastErr, SerializedMessage};
use std::time::Duration;

/// What comes before a question's own bytes.
pub(crate) const HEAD_BYTES: usize = 36;
const VARIANT: &str = "ask";

/// A question on its way.
pub(crate) struct Ask {
    pub(crate) bytes: Vec<u8>,
    pub(crate) reply: RpcReplyPort<Vec<u8>>,
}

/// By hand, not derived: what can't be read is an error here, where the derived code panics.
impl ractor::Message for Ask {
    fn serializable() -> bool {
        true
    }

    fn serialize(self) -> Result<SerializedMessage, BoxedDowncastErr> {
        Ok(SerializedMessage::Call {
            variant: VARIANT.to_owned(),
            args: self.bytes,
            reply: self.reply,
            metadata: None,
        })
    }

    fn deserialize(message: SerializedMessage) -> Result<Self, BoxedDowncastErr> {
        match message {
            SerializedMessage::Call {
                variant,
                args,
                reply,
                ..
            } if variant == VARIANT => Ok(Self { bytes: args, reply }),
            _ => Err(BoxedDowncastErr),
        }
    }
}

/// A question's bytes. The timeout goes along, so that nobody works on what nobody waits for.
pub(crate) fn encode(ticket: &Digest, timeout: Duration, bytes: &[u8]) -> Vec<u8> {
    let ms = u32::try_from(timeout.as_millis()).unwrap_or(u32::MAX);
    [ticket.as_bytes(), &ms.to_be_bytes()[..], bytes].concat()
}

/// The ticket, the timeout and the question.
pub(crate) fn decode(mut bytes: Vec<u8>) -> Option<([u8; 32], Duration, Vec<u8>)> {
    let (ticket, rest) = bytes.split_first_chunk::<32>()?;
    let (ms, _) = rest.split_first_chunk::<4>()?;
    let (ticket, ms) = (*ticket, u32::from_be_bytes(*ms));
    bytes.drain(..HEAD_BYTES);
    Some((ticket, Duration::from_millis(ms.into()), bytes))
}

/// What became of a question.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Status {
    Answered = 0,
    Busy = 1,
    TooLarge = 2,
    Unanswered = 3,
    /// The other end does not know this session any more.
    Stranger = 4,
}

pub(crate) fn answer(status: Status, mut bytes: Vec<u8>) -> Vec<u8> {
    bytes.insert(0, status as u8);
    bytes
}

/// What became of it, and the answer's bytes; what is no answer counts as none found.
pub(crate) fn read_answer(mut bytes: Vec<u8>) -> (Status, Vec<u8>) {
    let status = match bytes.first() {
        Some(0) => Status::Answered,
        Some(1) => Status::Busy,
        Some(2) => Status::TooLarge,
        Some(4) => Status::Stranger,
        _ => Status::Unanswered,
    };
    bytes.drain(..bytes.len().min(1));
    (status, bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_question_is_read_as_it_was_asked_and_half_a_one_is_none() {
        let ticket = Digest::of(b"t");
        let bytes = encode(&ticket, Duration::from_secs(3), b"how are you");
        let read = decode(bytes.clone()).unwrap();
        assert_eq!(
            read,
            (
                *ticket.as_bytes(),
                Duration::from_secs(3),
                b"how are you".to_vec()
            )
        );
        for short in 0..HEAD_BYTES {
            assert_eq!(decode(bytes[..short].to_vec()), None);
        }
    }

    #[test]
    fn an_answer_carries_its_status() {
        for status in [
            Status::Answered,
            Status::Busy,
            Status::TooLarge,
            Status::Unanswered,
            Status::Stranger,
        ] {
            let read = read_answer(answer(status, b"fine".to_vec()));
            assert_eq!(read, (status, b"fine".to_vec()));
        }
        assert_eq!(read_answer(vec![]), (Status::Unanswered, vec![]));
        assert_eq!(read_answer(vec![99]), (Status::Unanswered, vec![]));
    }
}
