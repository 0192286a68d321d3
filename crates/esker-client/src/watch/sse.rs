//! Server-sent events: lines in, frames out. Pure, and bounded by what the caller allows a frame to hold.

/// One event as the wire has it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Frame {
    /// What kind it is; empty where the stream does not say.
    pub(super) kind: String,
    /// Its lines of data, with line ends between them.
    pub(super) data: Vec<u8>,
    /// Its id, where it has one of its own.
    pub(super) id: Option<String>,
}

/// What makes a stream unreadable.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum BadStream {
    /// A frame holds more than is allowed.
    TooLong,
    /// A name or an id is not UTF-8.
    NotText,
}

/// Puts frames together, line by line.
#[derive(Debug)]
pub(super) struct Decoder {
    frame: Frame,
    has_data: bool,
    data_max: usize,
}

impl Decoder {
    /// A decoder of frames with at most so many bytes of data.
    pub(super) fn new(data_max: usize) -> Self {
        Self { frame: Frame::default(), has_data: false, data_max }
    }

    /// Takes the next line, without its `\n`; gives the frame that it ends. A frame without data is none, as the
    /// standard has it.
    pub(super) fn line(&mut self, line: &[u8]) -> Result<Option<Frame>, BadStream> {
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        if line.is_empty() {
            let frame = std::mem::take(&mut self.frame);
            return Ok(std::mem::take(&mut self.has_data).then_some(frame));
        }
        let (name, value) = match line.iter().position(|&byte| byte == b':') {
            // A comment, such as one that keeps the connection alive.
            Some(0) => return Ok(None),
            Some(at) => (&line[..at], &line[at + 1..]),
            None => (line, &line[line.len()..]),
        };
        let value = value.strip_prefix(b" ").unwrap_or(value);
        match name {
            b"data" => self.data(value)?,
            b"event" => self.frame.kind = text(value)?,
            b"id" => self.frame.id = Some(text(value)?),
            // `retry`, and what nobody has thought of yet: to be ignored, the standard says.
            _ => {}
        }
        Ok(None)
    }

    fn data(&mut self, value: &[u8]) -> Result<(), BadStream> {
        if self.frame.data.len() + value.len() >= self.data_max {
            return Err(BadStream::TooLong);
        }
        if std::mem::replace(&mut self.has_data, true) {
            self.frame.data.push(b'\n');
        }
        self.frame.data.extend_from_slice(value);
        Ok(())
    }
}

fn text(value: &[u8]) -> Result<String, BadStream> {
    std::str::from_utf8(value).map(str::to_owned).map_err(|_| BadStream::NotText)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn frames(text: &str) -> Vec<Frame> {
        let mut decoder = Decoder::new(1 << 10);
        let lines = text.split_inclusive('\n').filter_map(|line| line.strip_suffix('\n'));
        lines.filter_map(|line| decoder.line(line.as_bytes()).unwrap()).collect()
    }

    fn frame(kind: &str, data: &str, id: Option<&str>) -> Frame {
        Frame { kind: kind.into(), data: data.into(), id: id.map(str::to_owned) }
    }

    #[test]
    fn an_empty_line_ends_a_frame_and_what_has_no_data_is_none() {
        let text =
            ": hello\n\nevent: put\ndata: {\"a\":1}\n\nid:7\nevent:progress\r\ndata:{}\r\n\r\nevent: x\n\n";
        assert_eq!(frames(text), [frame("put", "{\"a\":1}", None), frame("progress", "{}", Some("7"))]);
    }

    #[test]
    fn data_of_several_lines_is_joined_and_one_space_is_no_part_of_it() {
        assert_eq!(frames("data:  a\ndata\ndata:b\nretry: 5\n\n"), [frame("", " a\n\nb", None)]);
    }

    #[test]
    fn a_frame_that_was_cut_off_is_none() {
        assert_eq!(frames("event: put\ndata: {}\n"), []);
    }

    #[test]
    fn what_is_too_long_or_no_text_is_refused() {
        let mut decoder = Decoder::new(8);
        assert_eq!(decoder.line(b"data: 1234567"), Ok(None));
        assert_eq!(decoder.line(b"data: 1"), Err(BadStream::TooLong));
        assert_eq!(Decoder::new(8).line(b"id: \xff"), Err(BadStream::NotText));
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(lines in proptest::collection::vec(any::<Vec<u8>>(), 0..20)) {
            let mut decoder = Decoder::new(64);
            for line in lines {
                if let Ok(Some(frame)) = decoder.line(&line) {
                    prop_assert!(frame.data.len() <= 64);
                }
            }
        }
    }
}
