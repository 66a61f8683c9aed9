//! A baseline as bytes: one byte of version, then the value. What it can't read it refuses, and
//! never trusts: the series is learned anew then.

use super::Baseline;
use crate::error::BaselineError;
use hale_model::wire;

/// The version this binary writes.
pub const STATE_VERSION: u8 = 2;

/// What a state may hold, far beyond what samples of at most 1e30 in size lead to, a thousand a second:
/// whoever goes on from a state within these bounds writes one within them.
pub(super) const MOST_VALUE: f64 = 1e40;
/// Of seconds, of weights and of counts.
pub(super) const MOST_MEASURE: f64 = 1e18;

/// Whether these are numbers of at most this size.
pub(super) fn are_within<'a>(most: f64, numbers: impl IntoIterator<Item = &'a f64>) -> bool {
    // No number is within anything.
    numbers.into_iter().all(|x| x.abs() <= most)
}

impl Baseline {
    /// Its state.
    ///
    /// # Errors
    /// If it is over the limit of the wire format, which no baseline is.
    pub fn to_bytes(&self) -> Result<Vec<u8>, BaselineError> {
        let mut bytes = vec![STATE_VERSION];
        bytes.extend(wire::encode(self).map_err(BaselineError::Unreadable)?);
        Ok(bytes)
    }

    /// Whether all its values are within what samples lead to.
    pub(super) fn is_sound(&self) -> bool {
        (self.half_life_s.is_finite() && self.half_life_s >= 3600.0)
            && self.input.is_sound()
            && self.values.is_sound()
            && self.pending.is_sound()
            && self.trend.is_sound()
            && self.learning.is_sound()
            && self.surprise.is_sound()
    }

    /// Restores what [`Baseline::to_bytes`] wrote.
    ///
    /// # Errors
    /// If the version is unknown, or the bytes are not such a state, or it makes no sense.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, BaselineError> {
        let (version, rest) = bytes
            .split_first()
            .ok_or(BaselineError::Damaged("there are no bytes"))?;
        let baseline: Self = match *version {
            STATE_VERSION => wire::decode(rest).map_err(BaselineError::Unreadable)?,
            other => return Err(BaselineError::Version(other)),
        };
        if baseline.is_sound() {
            Ok(baseline)
        } else {
            Err(BaselineError::Damaged("a value is out of its range"))
        }
    }
}
