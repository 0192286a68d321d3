//! What a link between two hosts does to messages, one way.

use std::{ops::Range, time::Duration};

use crate::Rng;

/// The manners of a link, one way.
#[derive(Debug, Clone, PartialEq)]
pub struct LinkProfile {
    /// How long a message takes.
    pub delay: Range<Duration>,
    /// How often a message takes much longer.
    pub straggle: f64,
    /// How long it then takes.
    pub straggle_delay: Range<Duration>,
    /// How often a message of a unary call, request or answer, is lost. On a stream it comes later instead, as over TCP.
    pub loss: f64,
    /// How often the request of a unary call arrives twice.
    pub duplication: f64,
    /// How often a stream breaks, by message.
    pub reset: f64,
}

impl LinkProfile {
    /// A good network: a millisecond or two, nothing lost.
    pub fn calm() -> Self {
        Self {
            delay: Duration::from_micros(500)..Duration::from_millis(2),
            straggle: 0.0,
            straggle_delay: Duration::ZERO..Duration::ZERO,
            loss: 0.0,
            duplication: 0.0,
            reset: 0.0,
        }
    }

    /// A bad one: everything that can happen does so now and then.
    pub fn rough() -> Self {
        Self {
            delay: Duration::from_micros(500)..Duration::from_millis(20),
            straggle: 0.02,
            straggle_delay: Duration::from_millis(20)..Duration::from_millis(400),
            loss: 0.03,
            duplication: 0.05,
            reset: 0.002,
        }
    }

    /// How long the next message takes.
    pub(super) fn draw_delay(&self, rng: &Rng) -> Duration {
        let range = if rng.chance(self.straggle) { &self.straggle_delay } else { &self.delay };
        rng.duration(range.clone())
    }
}

impl Default for LinkProfile {
    fn default() -> Self {
        Self::calm()
    }
}
