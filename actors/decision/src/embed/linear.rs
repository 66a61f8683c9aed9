//! The one costly step, `x · Wᵀ + b`: integer products in vector registers. The only home of pulp,
//! which finds at run time what the processor can do and keeps `unsafe` out of this crate.

use super::BadModel;
use super::maths::dot_i16;
use super::weights::{Cursor, Matrix};

/// How many rows of activations are multiplied at once; their number is rounded up to it.
const ROWS: usize = 4;
/// How many rows of weights are multiplied at once.
const OUTPUTS: usize = 2;

/// A linear layer.
#[derive(Debug)]
pub(super) struct Linear {
    weight: Matrix,
    bias: Vec<f32>,
}

/// Activations rounded to whole numbers, each row with the scale that gives its values.
pub(super) struct Rounded {
    scales: Vec<f32>,
    /// Rows of zeros fill up the last block.
    values: Vec<i16>,
}

impl Rounded {
    pub(super) fn of(x: &[f32], columns: usize) -> Self {
        // The largest magnitude for which `columns` products with an i8 can't overflow an i32.
        let largest = (f64::from(i32::MAX) / (127.0 * columns as f64)).min(32_767.0);
        let largest = largest.floor() as f32;
        let rows = x.len() / columns;
        let mut scales = Vec::with_capacity(rows);
        let mut values = vec![0i16; rows.next_multiple_of(ROWS) * columns];
        for (row, out) in x
            .chunks_exact(columns)
            .zip(values.chunks_exact_mut(columns))
        {
            let max = row
                .iter()
                .fold(0.0f32, |m, v| if v.abs() > m { v.abs() } else { m });
            let scale = if max > 0.0 { max / largest } else { 1.0 };
            scales.push(scale);
            let inverse = 1.0 / scale;
            for (o, v) in out.iter_mut().zip(row) {
                *o = (v * inverse) as i32 as i16;
            }
        }
        Self { scales, values }
    }
}

impl Linear {
    pub(super) fn read(c: &mut Cursor, rows: usize, columns: usize) -> Result<Self, BadModel> {
        if !rows.is_multiple_of(OUTPUTS) {
            return Err(BadModel("a matrix has an odd number of rows"));
        }
        Ok(Self {
            weight: c.matrix(rows, columns)?,
            bias: c.vector(rows)?,
        })
    }

    /// How long a row it takes.
    pub(super) fn columns(&self) -> usize {
        self.weight.columns
    }

    /// `x · Wᵀ + b` for every row of `x`.
    pub(super) fn apply(&self, x: &Rounded) -> Vec<f32> {
        let mut out = vec![0.0; x.scales.len() * self.bias.len()];
        #[cfg(target_arch = "x86_64")]
        if let Some(simd) = pulp::x86::V3::try_new() {
            let layer = self;
            simd.vectorize(avx2::Apply {
                simd,
                layer,
                x,
                out: &mut out,
            });
            return out;
        }
        self.products(x, &mut out, plain);
        out
    }

    /// Widens rows of weights once and multiplies them with all of `x`.
    #[inline(always)]
    fn products(
        &self,
        x: &Rounded,
        out: &mut [f32],
        block: impl Fn([&[i16]; OUTPUTS], [&[i16]; ROWS]) -> [[i32; ROWS]; OUTPUTS],
    ) {
        let (columns, outputs) = (self.columns(), self.bias.len());
        let mut wide = vec![0i16; OUTPUTS * columns];
        for first in (0..outputs).step_by(OUTPUTS) {
            let (w0, w1) = wide.split_at_mut(columns);
            widen(self.weight.row(first), w0);
            widen(self.weight.row(first + 1), w1);
            let mut row = 0;
            for rows in x.values.chunks_exact(ROWS * columns) {
                let (a01, a23) = rows.split_at(2 * columns);
                let ((a0, a1), (a2, a3)) = (a01.split_at(columns), a23.split_at(columns));
                let sums = block([&*w0, &*w1], [a0, a1, a2, a3]);
                for i in 0..ROWS.min(x.scales.len() - row) {
                    for (o, sums) in sums.iter().enumerate() {
                        let o = first + o;
                        let scale = x.scales[row + i] * self.weight.scales[o];
                        out[(row + i) * outputs + o] = sums[i] as f32 * scale + self.bias[o];
                    }
                }
                row += ROWS;
            }
        }
    }
}

/// What every processor can do.
fn plain(w: [&[i16]; OUTPUTS], a: [&[i16]; ROWS]) -> [[i32; ROWS]; OUTPUTS] {
    w.map(|w| a.map(|a| dot_i16(w, a)))
}

#[inline(always)]
fn widen(bytes: &[u8], wide: &mut [i16]) {
    for (w, byte) in wide.iter_mut().zip(bytes) {
        *w = i16::from(*byte as i8);
    }
}

/// Eight rows of sums in registers, sixteen products an instruction.
#[cfg(target_arch = "x86_64")]
mod avx2 {
    use super::{Linear, OUTPUTS, ROWS, Rounded};
    use pulp::x86::V3;
    use std::arch::x86_64::__m256i;

    /// Numbers of 16 bits in a register.
    const LANES: usize = 16;

    pub(super) struct Apply<'a> {
        pub(super) simd: V3,
        pub(super) layer: &'a Linear,
        pub(super) x: &'a Rounded,
        pub(super) out: &'a mut [f32],
    }

    impl pulp::NullaryFnOnce for Apply<'_> {
        type Output = ();

        #[inline(always)]
        fn call(self) {
            let simd = self.simd;
            self.layer
                .products(self.x, self.out, |w, a| block(simd, w, a));
        }
    }

    #[inline(always)]
    fn block(simd: V3, w: [&[i16]; OUTPUTS], a: [&[i16]; ROWS]) -> [[i32; ROWS]; OUTPUTS] {
        // Plain loops: a closure would not be compiled for the wider registers.
        let avx2 = simd.avx2;
        let n = w[0].len() / LANES;
        let (w0, w1) = (&chunks(w[0])[..n], &chunks(w[1])[..n]);
        let [a0, a1, a2, a3] = a;
        let (a0, a1) = (&chunks(a0)[..n], &chunks(a1)[..n]);
        let (a2, a3) = (&chunks(a2)[..n], &chunks(a3)[..n]);
        let zero: __m256i = pulp::cast([0i32; 8]);
        let mut sums = [[zero; ROWS]; OUTPUTS];
        for k in 0..n {
            let w: [__m256i; OUTPUTS] = [pulp::cast(w0[k]), pulp::cast(w1[k])];
            let a: [__m256i; ROWS] = [
                pulp::cast(a0[k]),
                pulp::cast(a1[k]),
                pulp::cast(a2[k]),
                pulp::cast(a3[k]),
            ];
            for o in 0..OUTPUTS {
                for row in 0..ROWS {
                    let products = avx2._mm256_madd_epi16(w[o], a[row]);
                    sums[o][row] = avx2._mm256_add_epi32(sums[o][row], products);
                }
            }
        }
        let mut out = [[0i32; ROWS]; OUTPUTS];
        for o in 0..OUTPUTS {
            for row in 0..ROWS {
                let lanes: [i32; 8] = pulp::cast(sums[o][row]);
                for lane in lanes {
                    out[o][row] = out[o][row].wrapping_add(lane);
                }
            }
        }
        out
    }

    #[inline(always)]
    fn chunks(row: &[i16]) -> &[[i16; LANES]] {
        row.as_chunks::<LANES>().0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_processor_gets_the_same_numbers() {
        let embedder = crate::embed::Embedder::embedded();
        assert!(embedder.is_ok());
        let mut cursor = crate::embed::weights::Weights::read(crate::embed::MODEL)
            .unwrap()
            .tensors();
        let _words = cursor.matrix(30_522, 384).unwrap();
        let x: Vec<f32> = (0..7 * 384)
            .map(|i| ((i * 7919) % 1000) as f32 / 500.0 - 1.0)
            .collect();
        let x = Rounded::of(&x, 384);
        // Any bytes are weights for this: what counts is that both ways agree.
        let layer = Linear {
            weight: cursor.matrix(8, 384).unwrap(),
            bias: vec![0.5; 8],
        };
        let mut plain = vec![0.0; 7 * 8];
        layer.products(&x, &mut plain, super::plain);
        assert_eq!(layer.apply(&x), plain);
    }
}
