//! Arrays longer than serde knows by itself, written as sequences and read back at their length.

use serde::de::{DeserializeOwned, Error};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

pub(super) fn serialize<T, S, const N: usize>(array: &[T; N], s: S) -> Result<S::Ok, S::Error>
where
    T: Serialize,
    S: Serializer,
{
    s.collect_seq(array)
}

pub(super) fn deserialize<'de, T, D, const N: usize>(d: D) -> Result<[T; N], D::Error>
where
    T: DeserializeOwned,
    D: Deserializer<'de>,
{
    let values = Vec::<T>::deserialize(d)?;
    let found = values.len();
    values
        .try_into()
        .map_err(|_| D::Error::custom(format_args!("{N} values were expected, {found} are there")))
}
