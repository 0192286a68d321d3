//! Answers, in either version of the protocol.

/// Which version a connection speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Protocol {
    /// What every client speaks.
    #[default]
    Resp2,
    /// With maps, nulls and more, once a client has asked for it.
    Resp3,
}

/// Writes answers behind one another.
#[derive(Debug)]
pub struct Reply<'a> {
    out: &'a mut Vec<u8>,
    protocol: Protocol,
}

impl<'a> Reply<'a> {
    /// Answers go to the end of `out`.
    pub fn new(out: &'a mut Vec<u8>, protocol: Protocol) -> Self {
        Self { out, protocol }
    }

    /// The version in which answers are written.
    pub fn protocol(&self) -> Protocol {
        self.protocol
    }

    /// From now on answers are written in this version.
    pub fn speak(&mut self, protocol: Protocol) {
        self.protocol = protocol;
    }

    /// Makes room for so many elements of so many bytes together, and for no more: an answer that grows by doubling takes twice what it has.
    pub fn reserve(&mut self, elements: usize, bytes: usize) {
        /// What stands around an element.
        const AROUND: usize = 32;
        self.out.reserve_exact(bytes.saturating_add(elements.saturating_mul(AROUND)));
    }

    /// How much there is.
    pub fn len(&self) -> usize {
        self.out.len()
    }

    /// Whether there is nothing.
    pub fn is_empty(&self) -> bool {
        self.out.is_empty()
    }

    /// Takes back all that was written after there was so much.
    pub fn rewind(&mut self, len: usize) {
        self.out.truncate(len);
    }

    /// `+OK` and other words.
    pub fn simple(&mut self, text: &str) {
        self.line(b'+', text.as_bytes());
    }

    /// An error: its code in capitals, a space, what is wrong. What would break the line becomes a space.
    pub fn error(&mut self, text: &str) {
        self.line(b'-', text.as_bytes());
    }

    /// An integer.
    pub fn integer(&mut self, number: i64) {
        self.number(b':', number);
    }

    /// A string of any bytes.
    pub fn bulk(&mut self, bytes: &[u8]) {
        self.length(b'$', bytes.len());
        self.out.extend_from_slice(bytes);
        self.end_line();
    }

    /// Text for people: marked so in RESP3.
    pub fn text(&mut self, text: &str) {
        match self.protocol {
            Protocol::Resp2 => self.bulk(text.as_bytes()),
            Protocol::Resp3 => {
                const FORMAT: &[u8] = b"txt:";
                self.length(b'=', FORMAT.len() + text.len());
                self.out.extend_from_slice(FORMAT);
                self.out.extend_from_slice(text.as_bytes());
                self.end_line();
            }
        }
    }

    /// No string.
    pub fn null(&mut self) {
        self.raw(match self.protocol {
            Protocol::Resp2 => b"$-1\r\n",
            Protocol::Resp3 => b"_\r\n",
        });
    }

    /// No array.
    pub fn null_array(&mut self) {
        self.raw(match self.protocol {
            Protocol::Resp2 => b"*-1\r\n",
            Protocol::Resp3 => b"_\r\n",
        });
    }

    /// An array of so many answers, which follow.
    pub fn array(&mut self, len: usize) {
        self.length(b'*', len);
    }

    /// A map of so many keys and values, which follow by turns; in RESP2 an array.
    pub fn map(&mut self, pairs: usize) {
        match self.protocol {
            Protocol::Resp2 => self.length(b'*', 2 * pairs),
            Protocol::Resp3 => self.length(b'%', pairs),
        }
    }

    /// A set of so many answers, which follow; in RESP2 an array.
    pub fn set(&mut self, len: usize) {
        match self.protocol {
            Protocol::Resp2 => self.length(b'*', len),
            Protocol::Resp3 => self.length(b'~', len),
        }
    }

    /// A string, or none.
    pub fn bulk_or_null(&mut self, bytes: Option<&[u8]>) {
        match bytes {
            Some(bytes) => self.bulk(bytes),
            None => self.null(),
        }
    }

    fn raw(&mut self, bytes: &[u8]) {
        self.out.extend_from_slice(bytes);
    }

    fn line(&mut self, kind: u8, text: &[u8]) {
        self.out.push(kind);
        let clean = |byte: &u8| if matches!(byte, b'\r' | b'\n') { b' ' } else { *byte };
        self.out.extend(text.iter().map(clean));
        self.end_line();
    }

    fn length(&mut self, kind: u8, len: usize) {
        self.number(kind, len);
    }

    fn number(&mut self, kind: u8, number: impl itoa::Integer) {
        self.out.push(kind);
        self.out.extend_from_slice(itoa::Buffer::new().format(number).as_bytes());
        self.end_line();
    }

    fn end_line(&mut self) {
        self.out.extend_from_slice(b"\r\n");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(protocol: Protocol, write: impl FnOnce(&mut Reply<'_>)) -> String {
        let mut out = Vec::new();
        write(&mut Reply::new(&mut out, protocol));
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn each_kind_has_its_form_in_both_versions() {
        type Write = fn(&mut Reply<'_>);
        let cases: [(Write, &str, &str); 11] = [
            (|reply| reply.simple("OK"), "+OK\r\n", "+OK\r\n"),
            (|reply| reply.error("ERR a\r\nb"), "-ERR a  b\r\n", "-ERR a  b\r\n"),
            (|reply| reply.integer(-7), ":-7\r\n", ":-7\r\n"),
            (|reply| reply.bulk(b"a\r\n"), "$3\r\na\r\n\r\n", "$3\r\na\r\n\r\n"),
            (|reply| reply.text("a"), "$1\r\na\r\n", "=5\r\ntxt:a\r\n"),
            (|reply| reply.null(), "$-1\r\n", "_\r\n"),
            (|reply| reply.null_array(), "*-1\r\n", "_\r\n"),
            (|reply| reply.array(2), "*2\r\n", "*2\r\n"),
            (|reply| reply.map(2), "*4\r\n", "%2\r\n"),
            (|reply| reply.set(2), "*2\r\n", "~2\r\n"),
            (|reply| reply.bulk_or_null(None), "$-1\r\n", "_\r\n"),
        ];
        for (write, resp2, resp3) in cases {
            assert_eq!(written(Protocol::Resp2, write), resp2);
            assert_eq!(written(Protocol::Resp3, write), resp3);
        }
    }

    #[test]
    fn what_was_written_can_be_taken_back() {
        let text = written(Protocol::Resp2, |reply| {
            reply.simple("A");
            let mark = reply.len();
            reply.array(3);
            reply.rewind(mark);
            reply.speak(Protocol::Resp3);
            reply.null();
        });
        assert_eq!(text, "+A\r\n_\r\n");
    }
}
