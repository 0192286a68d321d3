//! What was seen, as pprof reads it.

use std::{
    collections::HashMap,
    io::{self, Write},
    time::SystemTime,
};

use flate2::{Compression, write::GzEncoder};
use pprof::{Frames, Report, Symbol};
use prost::Message;

use super::message::{Function, Label, Line, Location, Profile, Sample, ValueType};

/// The gzipped message.
pub(super) fn encode(report: &Report) -> io::Result<Vec<u8>> {
    let mut writer = GzEncoder::new(Vec::new(), Compression::default());
    writer.write_all(&profile(report).encode_to_vec())?;
    writer.finish()
}

fn profile(report: &Report) -> Profile {
    const SECOND: i64 = 1_000_000_000;
    let timing = &report.timing;
    let period = SECOND / i64::from(timing.frequency.max(1));
    let mut tables = Tables::default();
    // The first string is empty.
    tables.strings.number(String::new());
    let samples = report.data.iter().map(|(frames, &count)| tables.sample(frames, count as i64, period));
    let sample = samples.collect();
    let nanos = tables.value_type("cpu", "nanoseconds");
    let began = timing.start_time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    Profile {
        sample_type: vec![tables.value_type("samples", "count"), nanos],
        sample,
        location: tables.places.in_order(|id, line| Location { id, line }),
        function: tables.functions.in_order(|id, (name, system_name, filename)| Function {
            id,
            name,
            system_name,
            filename,
        }),
        string_table: tables.strings.in_order(|_, text| text),
        time_nanos: i64::try_from(began.as_nanos()).unwrap_or(i64::MAX),
        duration_nanos: i64::try_from(timing.duration.as_nanos()).unwrap_or(i64::MAX),
        period_type: Some(nanos),
        period,
    }
}

/// What the samples refer to.
#[derive(Default)]
struct Tables {
    strings: Numbered<String>,
    /// By name, name as the linker has it, and file.
    functions: Numbered<(i64, i64, i64)>,
    places: Numbered<Vec<Line>>,
}

impl Tables {
    fn sample(&mut self, frames: &Frames, count: i64, period: i64) -> Sample {
        let location_id = frames.frames.iter().map(|frame| self.place(frame) + 1).collect();
        let thread = Label { key: self.text("thread"), str: self.text(frames.thread_name_or_id()) };
        Sample { location_id, value: vec![count, count.saturating_mul(period)], label: vec![thread] }
    }

    fn place(&mut self, frame: &[Symbol]) -> u64 {
        let lines = frame.iter().map(|symbol| self.line(symbol)).collect();
        self.places.number(lines)
    }

    fn line(&mut self, symbol: &Symbol) -> Line {
        let (name, system) = (self.text(symbol.name()), self.text(symbol.sys_name()));
        let file = self.text(symbol.filename());
        Line { function_id: self.functions.number((name, system, file)) + 1, line: symbol.lineno().into() }
    }

    fn value_type(&mut self, r#type: &str, unit: &str) -> ValueType {
        ValueType { r#type: self.text(r#type), unit: self.text(unit) }
    }

    fn text(&mut self, text: impl Into<String>) -> i64 {
        self.strings.number(text.into()) as i64
    }
}

/// Things with numbers, in the order in which they came; each has one number.
struct Numbered<T>(HashMap<T, u64>);

impl<T> Default for Numbered<T> {
    fn default() -> Self {
        Self(HashMap::new())
    }
}

impl<T: Eq + std::hash::Hash> Numbered<T> {
    /// The thing's number, from 0.
    fn number(&mut self, thing: T) -> u64 {
        let next = self.0.len() as u64;
        *self.0.entry(thing).or_insert(next)
    }

    /// The table: each thing with its id, which is from 1.
    fn in_order<R>(self, entry: impl Fn(u64, T) -> R) -> Vec<R> {
        let mut all: Vec<_> = self.0.into_iter().collect();
        all.sort_unstable_by_key(|(_, number)| *number);
        all.into_iter().map(|(thing, number)| entry(number + 1, thing)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn symbol(name: &str, line: u32) -> Symbol {
        let name = Some(name.as_bytes().to_vec());
        Symbol { name, addr: None, lineno: Some(line), filename: Some("a.rs".into()) }
    }

    fn stack(frames: Vec<Vec<Symbol>>) -> Frames {
        let sample_timestamp = SystemTime::UNIX_EPOCH;
        Frames { frames, thread_name: "worker".into(), thread_id: 1, sample_timestamp }
    }

    /// A function that is inlined is a line of its caller's place; places and names are there once.
    #[test]
    fn stacks_refer_to_places_and_places_to_functions() {
        let outer = || vec![symbol("inlined", 7), symbol("outer", 2)];
        let data =
            HashMap::from([(stack(vec![vec![symbol("inner", 1)], outer()]), 3), (stack(vec![outer()]), 2)]);
        let profile = profile(&Report { data, timing: Default::default() });
        let text = |number: i64| profile.string_table[usize::try_from(number).unwrap()].as_str();
        assert_eq!(profile.string_table[0], "");
        let name = |line: &Line| {
            let function = profile.function.iter().find(|function| function.id == line.function_id).unwrap();
            assert_eq!(text(function.filename), "a.rs");
            format!("{}:{}", text(function.name), line.line)
        };
        let mut samples = Vec::new();
        for sample in &profile.sample {
            let places = sample.location_id.iter();
            let places = places.map(|id| profile.location.iter().find(|place| place.id == *id).unwrap());
            let names: Vec<_> = places.map(|place| place.line.iter().map(name).collect::<Vec<_>>()).collect();
            let label = (text(sample.label[0].key), text(sample.label[0].str));
            assert_eq!(label, ("thread", "worker"));
            samples.push((sample.value.clone(), names));
        }
        samples.sort();
        let outer = vec!["inlined:7".to_owned(), "outer:2".to_owned()];
        let second = 1_000_000_000;
        assert_eq!(
            samples,
            [
                (vec![2, 2 * second], vec![outer.clone()]),
                (vec![3, 3 * second], vec![vec!["inner:1".to_owned()], outer])
            ]
        );
        assert_eq!((profile.location.len(), profile.function.len()), (2, 3));
        let types: Vec<_> = profile.sample_type.iter().map(|it| (text(it.r#type), text(it.unit))).collect();
        assert_eq!(types, [("samples", "count"), ("cpu", "nanoseconds")]);
    }
}
