//! Times in buckets: what lies between two readings, and its percentiles.

use std::collections::BTreeMap;

use super::openmetrics::Metrics;

/// A histogram as it stands in the text: for each bound in seconds, how many times were at most that.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Histogram {
    /// Bounds rise, the last one is infinite.
    cumulative: Vec<(f64, f64)>,
    sum: f64,
}

impl Histogram {
    /// The histograms of a family, by operation.
    pub(super) fn family(metrics: &Metrics, name: &str) -> BTreeMap<String, Self> {
        let mut all: BTreeMap<String, Self> = BTreeMap::new();
        let operation =
            |labels: &BTreeMap<String, String>| labels.get("operation").cloned().unwrap_or_default();
        for (labels, count) in metrics.family(&format!("{name}_bucket")) {
            let bound = labels.get("le").and_then(|bound| match bound.as_str() {
                "+Inf" => Some(f64::INFINITY),
                bound => bound.parse().ok(),
            });
            if let Some(bound) = bound {
                all.entry(operation(labels)).or_default().cumulative.push((bound, count));
            }
        }
        for (labels, sum) in metrics.family(&format!("{name}_sum")) {
            all.entry(operation(labels)).or_default().sum = sum;
        }
        for histogram in all.values_mut() {
            histogram.cumulative.sort_by(|(left, _), (right, _)| left.total_cmp(right));
        }
        all
    }

    /// How many times it holds.
    pub(super) fn count(&self) -> f64 {
        self.cumulative.last().map_or(0.0, |(_, count)| *count)
    }

    /// What came since an earlier reading. If there is less now, the server began anew, and all of it did.
    pub(super) fn since(&self, before: &Self) -> Self {
        let same_bounds = self.cumulative.len() == before.cumulative.len();
        let pairs = || self.cumulative.iter().zip(&before.cumulative);
        if !same_bounds || pairs().any(|((_, now), (_, before))| now < before) {
            return self.clone();
        }
        let cumulative = pairs().map(|((bound, now), (_, before))| (*bound, now - before)).collect();
        Self { cumulative, sum: (self.sum - before.sum).max(0.0) }
    }

    /// The mean in seconds; `None` if it holds nothing.
    pub(super) fn mean(&self) -> Option<f64> {
        (self.count() > 0.0).then(|| self.sum / self.count())
    }

    /// The time in seconds that this part (0 to 1) of all did not exceed, as well as the buckets tell: evenly spread
    /// within each, and the last bound for what lies beyond it.
    pub(super) fn quantile(&self, part: f64) -> Option<f64> {
        let rank = part * self.count();
        if self.count() <= 0.0 {
            return None;
        }
        let (mut lower, mut below) = (0.0, 0.0);
        for &(bound, cumulative) in &self.cumulative {
            if cumulative >= rank && cumulative > below {
                return Some(match bound.is_finite() {
                    true => lower + (bound - lower) * ((rank - below) / (cumulative - below)).clamp(0.0, 1.0),
                    false => lower,
                });
            }
            (lower, below) = (if bound.is_finite() { bound } else { lower }, cumulative);
        }
        Some(lower)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn histogram(counts: &[f64]) -> Histogram {
        let bounds = [0.001, 0.002, 0.004, f64::INFINITY];
        Histogram {
            cumulative: bounds.into_iter().zip(counts.iter().copied()).collect(),
            sum: counts[3] / 500.0,
        }
    }

    fn near(found: Option<f64>, expected: f64) {
        assert!(found.is_some_and(|found| (found - expected).abs() < 1e-9), "{found:?}, not {expected}");
    }

    #[test]
    fn percentiles_lie_within_their_bucket() {
        let all = histogram(&[50.0, 90.0, 99.0, 100.0]);
        near(all.quantile(0.5), 0.001);
        near(all.quantile(0.25), 0.0005);
        near(all.quantile(0.7), 0.0015);
        near(all.quantile(0.999), 0.004);
        near(all.mean(), 0.002);
        assert_eq!(histogram(&[0.0; 4]).quantile(0.5), None);
        assert_eq!(Histogram::default().quantile(0.5), None);
        near(histogram(&[0.0, 0.0, 8.0, 8.0]).quantile(0.0), 0.002);
    }

    #[test]
    fn only_what_is_new_counts_and_a_restart_is_all_new() {
        let (before, now) = (histogram(&[10.0, 10.0, 10.0, 10.0]), histogram(&[10.0, 14.0, 14.0, 14.0]));
        let between = now.since(&before);
        assert_eq!(between.count(), 4.0);
        near(between.quantile(0.5), 0.0015);
        assert_eq!(before.since(&now), before);
        assert_eq!(now.since(&Histogram::default()), now);
    }

    #[test]
    fn a_family_is_read_by_operation() {
        let text = "t_bucket{operation=\"get\",le=\"0.5\"} 3\nt_bucket{operation=\"get\",le=\"+Inf\"} 4\nt_sum{operation=\"get\"} 2\nt_bucket{operation=\"put\",le=\"+Inf\"} 1\n";
        let family = Histogram::family(&Metrics::parse(text), "t");
        assert_eq!(family["get"], Histogram { cumulative: vec![(0.5, 3.0), (f64::INFINITY, 4.0)], sum: 2.0 });
        assert_eq!(family["put"].count(), 1.0);
    }
}
