//! As much of protobuf's encoding as it takes to see what a frame of ractor_cluster is.
//! <https://protobuf.dev/programming-guides/encoding/>

/// Takes a varint off.
pub(crate) fn varint(bytes: &mut &[u8]) -> Option<u64> {
    let mut value = 0u64;
    for shift in (0..64).step_by(7) {
        let (byte, rest) = bytes.split_first()?;
        *bytes = rest;
        value |= u64::from(byte & 0x7f).checked_shl(shift)?;
        if byte & 0x80 == 0 {
            return Some(value);
        }
    }
    None
}

/// A message of `len` bytes, of which at least the head is here: if one length-delimited field is
/// all of it, that field's number and length, and what is here of it.
pub(crate) fn only_field(len: usize, mut head: &[u8]) -> Option<(u64, usize, &[u8])> {
    let whole = head.len();
    let tag = varint(&mut head)?;
    let inner = usize::try_from(varint(&mut head)?).ok()?;
    let is_all = (whole - head.len()).checked_add(inner) == Some(len);
    (tag & 7 == 2 && is_all).then_some((tag >> 3, inner, head))
}

/// One field of a message.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Field<'a> {
    Number(u64),
    /// Its length, and what is here of it.
    Bytes(usize, &'a [u8]),
}

/// Takes the next field off a message; its last one may be cut short.
pub(crate) fn field<'a>(bytes: &mut &'a [u8]) -> Option<(u64, Field<'a>)> {
    let tag = varint(bytes)?;
    let value = match tag & 7 {
        0 => Field::Number(varint(bytes)?),
        2 => {
            let len = usize::try_from(varint(bytes)?).ok()?;
            let (here, rest) = bytes.split_at(len.min(bytes.len()));
            *bytes = rest;
            Field::Bytes(len, here)
        }
        _ => return None,
    };
    Some((tag >> 3, value))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_field_that_is_all_of_it_and_nothing_else() {
        assert_eq!(
            only_field(5, &[0x12, 3, 1, 2, 3]),
            Some((2, 3, &[1, 2, 3][..]))
        );
        // A second one after it, or less than it says.
        assert_eq!(only_field(7, &[0x12, 3, 1, 2, 3, 0x08, 1]), None);
        assert_eq!(only_field(4, &[0x12, 3, 1, 2]), None);
        // A number; nothing.
        assert_eq!(only_field(2, &[0x10, 3]), None);
        assert_eq!(only_field(0, &[]), None);
        // 300 bytes, of which three are here.
        assert_eq!(
            only_field(303, &[0x0a, 0xac, 0x02, 7, 7, 7]),
            Some((1, 300, &[7, 7, 7][..]))
        );
        assert_eq!(varint(&mut &[0xff; 11][..]), None);
    }

    #[test]
    fn fields_come_in_turn() {
        let mut bytes = &[0x08, 5, 0x1a, 2, 9, 9][..];
        assert_eq!(field(&mut bytes), Some((1, Field::Number(5))));
        assert_eq!(field(&mut bytes), Some((3, Field::Bytes(2, &[9, 9]))));
        assert_eq!(field(&mut bytes), None);
    }
}
