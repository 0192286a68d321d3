//! What the nodes log goes into the trace.

use std::fmt::{self, Write as _};

use tracing::{
    Event, Metadata, Subscriber,
    field::{Field, Visit},
    span,
    subscriber::DefaultGuard,
};

use crate::trace::Trace;

/// Takes this thread's log lines into `trace` until the guard is dropped.
pub(super) fn into_trace(trace: &Trace) -> DefaultGuard {
    tracing::subscriber::set_default(Lines(trace.clone()))
}

struct Lines(Trace);

impl Subscriber for Lines {
    /// Esker's own, and what the consensus library warns of; the rest would drown them.
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.is_event()
            && (metadata.target().starts_with("esker") || *metadata.level() <= tracing::Level::WARN)
    }

    fn event(&self, event: &Event<'_>) {
        let mut line = Line(format!("{} {}:", event.metadata().level(), event.metadata().target()));
        event.record(&mut line);
        self.0.note(line.0);
    }

    fn new_span(&self, _: &span::Attributes<'_>) -> span::Id {
        span::Id::from_u64(1)
    }

    fn record(&self, _: &span::Id, _: &span::Record<'_>) {}

    fn record_follows_from(&self, _: &span::Id, _: &span::Id) {}

    fn enter(&self, _: &span::Id) {}

    fn exit(&self, _: &span::Id) {}
}

struct Line(String);

impl Visit for Line {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        let Self(line) = self;
        let written = match field.name() {
            "message" => write!(line, " {value:?}"),
            name => write!(line, " {name}={value:?}"),
        };
        written.expect("a String takes everything");
    }
}
