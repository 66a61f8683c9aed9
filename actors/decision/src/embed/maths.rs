//! The arithmetic of the network, written so that the compiler turns every loop into vector
//! instructions: no libm calls, no branches, no bounds checks inside.

/// The dot product of two vectors of one length.
pub(super) fn dot(a: &[f32], b: &[f32]) -> f32 {
    let mut sums = [0.0f32; 8];
    let (a8, a_rest) = a.as_chunks::<8>();
    let (b8, b_rest) = b.as_chunks::<8>();
    for (x, y) in a8.iter().zip(b8) {
        for lane in 0..8 {
            sums[lane] += x[lane] * y[lane];
        }
    }
    let rest: f32 = a_rest.iter().zip(b_rest).map(|(x, y)| x * y).sum();
    sums.iter().sum::<f32>() + rest
}

/// `e^x` for `x <= 0`, to 2e-7 relative; below -87 it is about 1e-38.
/// Range reduction by powers of two, then the Taylor polynomial of degree 6 on ±ln(2)/2.
#[inline(always)]
fn exp_of_negative(x: f32) -> f32 {
    // Adding 1.5 * 2^23 rounds to the nearest whole number in f32.
    const ROUND: f32 = 12_582_912.0;
    let x = x.max(-87.0);
    let n = x.mul_add_plain(std::f32::consts::LOG2_E, ROUND) - ROUND;
    // ln(2) in two parts, so that the reduction loses nothing.
    let r = (x - n * 0.693_359_4) - n * -2.121_944_4e-4;
    let p = 1.0 / 720.0;
    let p = p * r + 1.0 / 120.0;
    let p = p * r + 1.0 / 24.0;
    let p = p * r + 1.0 / 6.0;
    let p = p * r + 0.5;
    let p = p * r + 1.0;
    let p = p * r + 1.0;
    let power = f32::from_bits(((n as i32 + 127) << 23) as u32);
    p * power
}

trait Plain {
    /// `self * a + b` in two roundings: a fused one is a call where the processor has none.
    fn mul_add_plain(self, a: f32, b: f32) -> f32;
}

impl Plain for f32 {
    #[inline(always)]
    fn mul_add_plain(self, a: f32, b: f32) -> f32 {
        self * a + b
    }
}

/// The error function, to 1.5e-7 (Abramowitz and Stegun 7.1.26).
#[inline(always)]
fn erf(x: f32) -> f32 {
    let a = x.abs();
    let t = 1.0 / (1.0 + 0.327_591_1 * a);
    let p = 1.061_405_4;
    let p = p * t - 1.453_152_1;
    let p = p * t + 1.421_413_7;
    let p = p * t - 0.284_496_74;
    let p = p * t + 0.254_829_6;
    let y = 1.0 - p * t * exp_of_negative(-a * a);
    y.copysign(x)
}

/// `x * Φ(x)` of each, with the exact normal distribution.
pub(super) fn gelu(values: &mut [f32]) {
    for v in values {
        *v = 0.5 * *v * (1.0 + erf(*v * std::f32::consts::FRAC_1_SQRT_2));
    }
}

/// Makes the values positive, summing to one.
pub(super) fn softmax(values: &mut [f32]) {
    let max = values.iter().fold(f32::NEG_INFINITY, |m, v| m.max(*v));
    for v in values.iter_mut() {
        *v = exp_of_negative(*v - max);
    }
    let sum: f32 = values.iter().sum();
    values.iter_mut().for_each(|v| *v /= sum);
}

/// Layer normalisation of one row, with BERT's epsilon of 1e-12.
pub(super) fn normalise(row: &mut [f32], weight: &[f32], bias: &[f32]) {
    let n = row.len() as f32;
    let mean = row.iter().sum::<f32>() / n;
    row.iter_mut().for_each(|v| *v -= mean);
    let scale = 1.0 / (dot(row, row) / n + 1e-12).sqrt();
    for ((v, w), b) in row.iter_mut().zip(weight).zip(bias) {
        *v = *v * scale * w + b;
    }
}

/// The integer dot product of two rows of one length.
#[inline(always)]
pub(super) fn dot_i16(a: &[i16], b: &[i16]) -> i32 {
    let products = a
        .iter()
        .zip(b)
        .map(|(x, y)| i32::from(*x).wrapping_mul(i32::from(*y)));
    // Wrapping only so that no overflow check stands in the way: `Rounded` rules overflow out.
    products.fold(0, i32::wrapping_add)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn the_exponential_is_that_of_the_standard_library(x in -80.0f32..=0.0) {
            prop_assert!((exp_of_negative(x) / x.exp() - 1.0).abs() < 1e-6);
        }

        #[test]
        fn the_error_function_is_odd_and_within_its_bounds(x in -6.0f32..6.0) {
            prop_assert!((erf(x) + erf(-x)).abs() < 1e-6);
            prop_assert!(erf(x).abs() <= 1.0);
        }

        #[test]
        fn a_softmax_sums_to_one(mut v in proptest::collection::vec(-50.0f32..50.0, 1..60)) {
            softmax(&mut v);
            prop_assert!((v.iter().sum::<f32>() - 1.0).abs() < 1e-4);
        }
    }

    #[test]
    fn the_error_function_has_the_known_values() {
        for (x, y) in [
            (0.0, 0.0),
            (0.5, 0.520_499_9),
            (1.0, 0.842_700_8),
            (2.0, 0.995_322_3),
        ] {
            assert!((erf(x) - y).abs() < 1e-6, "erf({x})");
        }
    }
}
