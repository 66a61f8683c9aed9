use super::*;
use hale_model::NodeId;

const AGE: Duration = Duration::from_secs(1);

/// A length-delimited field.
fn wrap(number: u8, inner: &[u8]) -> Vec<u8> {
    let mut out = vec![number << 3 | 2];
    let mut len = inner.len();
    while len >= 0x80 {
        out.push(len as u8 | 0x80);
        len >>= 7;
    }
    out.push(len as u8);
    out.extend_from_slice(inner);
    out
}

fn peer() -> NodeId {
    NodeId::from_bytes([7; 32])
}

fn gate() -> Gate {
    Gate::new(&peer(), &Limits::default())
}

fn judge(gate: &mut Gate, frame: &[u8], flow: &Flow) -> Result<(), Refusal> {
    let head = &frame[..frame.len().min(HEAD_BYTES)];
    gate.judge(AGE, frame.len(), head, flow)
}

fn name(name: &str) -> Vec<u8> {
    let message = [wrap(1, name.as_bytes()), vec![0x20, 5]].concat();
    wrap(1, &wrap(1, &message))
}

fn call(bytes: usize) -> Vec<u8> {
    wrap(
        2,
        &wrap(2, &[vec![0x08, 3], wrap(2, &vec![0; bytes])].concat()),
    )
}

fn reply(bytes: usize) -> Vec<u8> {
    let fields = [vec![0x08, 3, 0x10, 9], wrap(3, &vec![0; bytes])].concat();
    wrap(2, &wrap(3, &fields))
}

#[test]
fn a_peer_has_the_name_that_it_has_proven() {
    let flow = Flow::default();
    assert_eq!(judge(&mut gate(), &name(&name_of(&peer())), &flow), Ok(()));
    let other = name_of(&NodeId::from_bytes([8; 32]));
    for claim in ["", "hale@", &other] {
        let judged = judge(&mut gate(), &name(claim), &flow);
        assert_eq!(judged, Err(Refusal::WrongName), "{claim}");
    }
    // Of two names the last one would count; none would be the empty one.
    let both = [
        wrap(1, name_of(&peer()).as_bytes()),
        wrap(1, other.as_bytes()),
    ];
    for message in [both.concat(), vec![0x20, 5]] {
        let challenge = wrap(1, &wrap(4, &message));
        let judged = judge(&mut gate(), &challenge, &flow);
        assert_eq!(judged, Err(Refusal::WrongName));
    }
}

#[test]
fn a_handshake_ends() {
    let (mut gate, flow) = (gate(), Flow::default());
    let status = wrap(1, &wrap(2, &[]));
    for _ in 0..AUTHS {
        assert_eq!(judge(&mut gate, &status, &flow), Ok(()));
    }
    assert!(judge(&mut gate, &status, &flow).is_err());
}

#[test]
fn only_what_a_gateway_sends_passes() {
    let flow = Flow::default();
    for refused in [
        vec![],
        vec![0xff; 20],
        wrap(9, b"x"),
        wrap(2, &wrap(1, b"a cast")),
        wrap(3, &wrap(7, b"who else is there")),
        wrap(3, &wrap(8, b"these are")),
        wrap(3, &wrap(1, &[0; STRUCTURE_BYTES + 1])),
        // A second message behind the one that is looked at.
        [wrap(3, &wrap(9, &[])), wrap(2, &wrap(1, b"a cast"))].concat(),
        wrap(2, &[wrap(2, b"call"), wrap(1, b"a cast")].concat()),
    ] {
        assert!(judge(&mut gate(), &refused, &flow).is_err(), "{refused:?}");
    }
    for passed in [1, 2, 5, 6, 9, 3, 4] {
        let frame = wrap(3, &wrap(passed, b""));
        assert_eq!(judge(&mut gate(), &frame, &flow), Ok(()));
    }
}

#[test]
fn actors_and_signs_of_life_are_few() {
    let (mut gate, flow) = (gate(), Flow::default());
    let (spawn, ping) = (wrap(3, &wrap(1, b"")), wrap(3, &wrap(3, b"")));
    let passed = |gate: &mut Gate, frame: &[u8]| {
        (0..1000)
            .filter(|_| judge(gate, frame, &flow).is_ok())
            .count()
    };
    assert_eq!(passed(&mut gate, &spawn), STRUCTURES as usize);
    let may = (SIGNS_AT_ONCE + SIGNS_PER_SECOND) as usize;
    assert_eq!(passed(&mut gate, &ping), may);
}

#[test]
fn questions_come_no_faster_than_answers_are_taken() {
    let (mut gate, flow) = (gate(), Flow::default());
    let question = call(100);
    let most = 4 * Limits::default().per_peer;
    for _ in 0..most {
        assert_eq!(judge(&mut gate, &question, &flow), Ok(()));
    }
    flow.give(5);
    let answer = reply(5);
    flow.written(answer.len(), &answer);
    assert_eq!((flow.owed(), flow.waiting()), (most as u64 - 1, 0));
    assert_eq!(judge(&mut gate, &question, &flow), Ok(()));
    assert!(judge(&mut gate, &question, &flow).is_err());
}

#[test]
fn answers_come_to_questions_alone() {
    let (mut gate, flow) = (gate(), Flow::default());
    assert!(judge(&mut gate, &reply(1), &flow).is_err());
    let flow = Flow::default();
    flow.ask();
    assert_eq!(flow.unsent(), 1);
    flow.written(call(3).len(), &call(3));
    assert_eq!(flow.unsent(), 0);
    assert_eq!(judge(&mut gate, &reply(1), &flow), Ok(()));
    assert!(judge(&mut gate, &reply(1), &flow).is_err());
}

#[test]
fn the_largest_question_and_answer_pass_and_no_larger() {
    let limits = Limits::default();
    let (mut gate, flow) = (gate(), Flow::default());
    flow.ask();
    let largest = call(limits.question_bytes + crate::ask::HEAD_BYTES);
    assert_eq!(judge(&mut gate, &largest, &flow), Ok(()));
    let answer = reply(limits.answer_bytes + 1);
    assert_eq!(judge(&mut gate, &answer, &flow), Ok(()));
    assert!(answer.len() <= max_frame_bytes(&limits));
    let too_large = call(limits.question_bytes + crate::ask::HEAD_BYTES + SLACK_BYTES);
    assert!(judge(&mut gate, &too_large, &flow).is_err());
}
