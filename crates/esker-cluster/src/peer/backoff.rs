//! How long a node that could not be reached is left alone.

use std::time::Duration;

use super::PeerOptions;

/// The pause after the `failures`-th failure in a row, counted from 1: doubled each time up to the maximum, of which a
/// random half is taken off so that nodes do not come back in step. `random` is uniform in 0..1.
pub(super) fn pause(options: &PeerOptions, failures: u32, random: f64) -> Duration {
    let doublings = failures.saturating_sub(1).min(31);
    let full = options.backoff_min.saturating_mul(1 << doublings).min(options.backoff_max);
    full.mul_f64(0.5 + random.clamp(0.0, 1.0) / 2.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ms(failures: u32, random: f64) -> u128 {
        pause(&PeerOptions::default(), failures, random).as_millis()
    }

    #[test]
    fn doubles_up_to_the_maximum() {
        let full: Vec<_> = (1..=9).map(|failures| ms(failures, 1.0)).collect();
        assert_eq!(full, [10, 20, 40, 80, 160, 320, 640, 1000, 1000]);
        assert_eq!(ms(u32::MAX, 1.0), 1000);
    }

    #[test]
    fn jitter_takes_off_at_most_half() {
        assert_eq!(ms(1, 0.0), 5);
        assert_eq!(ms(4, 0.5), 60);
        assert_eq!(ms(u32::MAX, 0.0), 500);
    }
}
