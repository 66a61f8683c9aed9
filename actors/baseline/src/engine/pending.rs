//! Samples held back before they are learned, so that a slow climb stays news: seven chunks, each
//! at most a quarter hour, each thinned to a few values and its extremes.

use super::state::{MOST_VALUE, are_within};
use crate::moment::Moment;
use hale_model::Timestamp;
use serde::{Deserialize, Serialize};

const CHUNKS: usize = 7;
const KEPT: usize = 5;

/// Part of a quarter hour's samples.
#[derive(Debug, Clone, Copy, Default, Serialize, Deserialize)]
pub(super) struct Chunk {
    from_ms: i64,
    lasts_ms: u32,
    utc_offset_s: i32,
    pub(super) n: u32,
    stride: u16,
    kept: u8,
    pub(super) low: f64,
    pub(super) high: f64,
    values: [f64; KEPT],
}

impl Chunk {
    pub(super) fn new(now: Moment, x: f64) -> Self {
        let mut values = [0.0; KEPT];
        values[0] = x;
        Self {
            from_ms: now.at.as_millis(),
            lasts_ms: 0,
            utc_offset_s: now.utc_offset_s,
            n: 1,
            stride: 1,
            kept: 1,
            low: x,
            high: x,
            values,
        }
    }

    /// Keeps every `stride`-th sample; when there is no more room, every other of those.
    fn push(&mut self, now: Moment, x: f64) {
        let lasts_ms = now.at.as_millis().saturating_sub(self.from_ms);
        self.lasts_ms = u32::try_from(lasts_ms).unwrap_or(u32::MAX);
        (self.low, self.high) = (self.low.min(x), self.high.max(x));
        if self.n.is_multiple_of(u32::from(self.stride)) {
            if usize::from(self.kept) == KEPT {
                let half = KEPT.div_ceil(2);
                for i in 0..half {
                    self.values[i] = self.values[2 * i];
                }
                self.kept = half as u8;
                self.stride = self.stride.saturating_mul(2);
            }
            if self.n.is_multiple_of(u32::from(self.stride)) {
                self.values[usize::from(self.kept)] = x;
                self.kept += 1;
            }
        }
        self.n = self.n.saturating_add(1);
    }

    /// When it began.
    pub(super) fn began(&self) -> Moment {
        Moment {
            at: Timestamp::from_millis(self.from_ms),
            utc_offset_s: self.utc_offset_s,
        }
    }

    pub(super) fn lasts_s(&self) -> f64 {
        f64::from(self.lasts_ms) / 1000.0
    }

    fn until_ms(&self) -> i64 {
        self.from_ms.saturating_add(i64::from(self.lasts_ms))
    }

    /// The kept values.
    pub(super) fn values(&self) -> &[f64] {
        &self.values[..usize::from(self.kept).min(KEPT)]
    }

    /// Whether the kept values are all there were.
    pub(super) fn is_whole(&self) -> bool {
        self.n == u32::from(self.kept)
    }

    pub(super) fn middle(&self) -> f64 {
        let mut sorted = self.values;
        let sorted = &mut sorted[..usize::from(self.kept).clamp(1, KEPT)];
        sorted.sort_unstable_by(f64::total_cmp);
        let (i, n) = (sorted.len() / 2, sorted.len());
        if n % 2 == 1 {
            sorted[i]
        } else {
            0.5 * (sorted[i - 1] + sorted[i])
        }
    }
}

#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(super) struct Pending {
    chunks: [Chunk; CHUNKS],
    len: u8,
}

impl Pending {
    /// Holds a sample back; gives the oldest chunk if there is no more room for a new one.
    pub(super) fn push(&mut self, now: Moment, x: f64, delay_s: f64) -> Option<Chunk> {
        let len = usize::from(self.len).min(CHUNKS);
        if let Some(open) = self.chunks[..len].last_mut() {
            let age_s = now.at.as_millis().saturating_sub(open.from_ms) as f64 / 1000.0;
            if age_s < delay_s / CHUNKS as f64 && open.began().slot_of_week() == now.slot_of_week()
            {
                open.push(now, x);
                return None;
            }
        }
        let oldest = if len == CHUNKS { self.pop() } else { None };
        self.chunks[usize::from(self.len)] = Chunk::new(now, x);
        self.len += 1;
        oldest
    }

    /// The oldest chunk, if it was held back for long enough.
    pub(super) fn due(&mut self, now_ms: i64, delay_s: f64) -> Option<Chunk> {
        let age_s = now_ms.saturating_sub(self.chunks[0].from_ms) as f64 / 1000.0;
        if self.len > 0 && age_s >= delay_s {
            self.pop()
        } else {
            None
        }
    }

    fn pop(&mut self) -> Option<Chunk> {
        let oldest = self.chunks[0];
        self.chunks.rotate_left(1);
        self.len -= 1;
        Some(oldest)
    }

    /// Forgets what was held back since `from_ms`.
    pub(super) fn forget_since(&mut self, from_ms: i64, until_ms: i64) {
        let mut kept = 0;
        for i in 0..usize::from(self.len) {
            let chunk = self.chunks[i];
            if chunk.until_ms() < from_ms || chunk.from_ms > until_ms {
                self.chunks[kept] = chunk;
                kept += 1;
            }
        }
        self.len = kept as u8;
    }

    pub(super) fn is_sound(&self) -> bool {
        usize::from(self.len) <= CHUNKS
            && self.chunks.iter().all(|c| {
                usize::from(c.kept) <= KEPT
                    && (self.len == 0 || c.n == 0 || c.stride > 0)
                    && are_within(MOST_VALUE, c.values.iter().chain([&c.low, &c.high]))
            })
            && self.chunks[..usize::from(self.len)]
                .iter()
                .all(|c| c.kept > 0 && c.n > 0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(s: i64) -> Moment {
        Moment::utc(Timestamp::from_secs(s))
    }

    #[test]
    fn a_sample_comes_out_after_the_delay_and_thinned() {
        let mut pending = Pending::default();
        for s in 0..900 {
            assert!(pending.push(at(s), s as f64, 6300.0).is_none());
        }
        assert!(pending.due(6_299_000, 6300.0).is_none());
        let chunk = pending.due(6_300_000, 6300.0).unwrap();
        assert_eq!((chunk.n, chunk.low, chunk.high), (900, 0.0, 899.0));
        assert!(!chunk.is_whole() && chunk.values().len() >= 3);
        assert!(
            (200.0..700.0).contains(&chunk.middle()),
            "{}",
            chunk.middle()
        );
        assert!(pending.is_sound());
    }

    #[test]
    fn a_bad_period_can_be_forgotten() {
        let mut pending = Pending::default();
        for s in [0, 1000, 2000, 3000] {
            pending.push(at(s), s as f64, 6300.0);
        }
        pending.forget_since(900_000, 2_100_000);
        let left: Vec<_> = std::iter::from_fn(|| pending.due(i64::MAX, 0.0))
            .map(|c| c.low)
            .collect();
        assert_eq!(left, [0.0, 3000.0]);
    }
}
