//! Parsed commands: places of their arguments in the buffer that they were parsed from.

/// Where an argument lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Word {
    pub(super) start: u32,
    pub(super) len: u32,
}

/// The end of a command in the list of words, and where its words lie.
#[derive(Debug, Clone, Copy)]
struct Bounds {
    end: usize,
    is_inline: bool,
}

/// Whole commands, in the order in which they came. Their arguments are places in a buffer, which whoever parsed them
/// hands in again to read them.
#[derive(Debug, Default)]
pub struct Commands {
    words: Vec<Word>,
    bounds: Vec<Bounds>,
    /// The words of inline commands, which may be quoted and so are not in the buffer as they are meant, and of copies.
    unquoted: Vec<u8>,
}

/// The arguments of a command, its name first.
#[derive(Debug, Clone, Copy)]
pub struct Command<'a> {
    words: &'a [Word],
    bytes: &'a [u8],
}

impl Commands {
    /// How many there are.
    pub fn len(&self) -> usize {
        self.bounds.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.bounds.is_empty()
    }

    /// The `at`-th; `input` is the buffer it was parsed from, as it was then.
    ///
    /// # Panics
    ///
    /// If there are not so many.
    pub fn get<'a>(&'a self, at: usize, input: &'a [u8]) -> Command<'a> {
        let start = at.checked_sub(1).map_or(0, |before| self.bounds[before].end);
        let Bounds { end, is_inline } = self.bounds[at];
        let bytes = if is_inline { self.unquoted.as_slice() } else { input };
        Command { words: &self.words[start..end], bytes }
    }

    /// Forgets them all, and gives back what many or long ones took.
    pub fn clear(&mut self) {
        const KEPT: usize = 4096;
        self.words.clear();
        self.words.shrink_to(KEPT);
        self.bounds.clear();
        self.bounds.shrink_to(KEPT);
        self.unquoted.clear();
        self.unquoted.shrink_to(KEPT);
    }

    /// Bytes of memory that it takes.
    pub fn held(&self) -> usize {
        size_of::<Word>() * self.words.capacity()
            + size_of::<Bounds>() * self.bounds.capacity()
            + self.unquoted.capacity()
    }

    /// Adds a copy of a command, for which no buffer is needed; `false` if there is no room: all of them together are to stay
    /// below 2 GiB.
    pub fn copy(&mut self, command: Command<'_>) -> bool {
        let bytes: usize = command.from(0).map(<[u8]>::len).sum();
        let start = self.unquoted.len();
        if start + bytes > i32::MAX as usize {
            return false;
        }
        command.from(0).for_each(|word| self.unquoted.extend_from_slice(word));
        let lens: Vec<usize> = command.from(0).map(<[u8]>::len).collect();
        self.push_inline(start, &lens);
        true
    }

    /// Adds a command whose words lie in the buffer.
    pub(super) fn push(&mut self, words: &[Word]) {
        self.words.extend_from_slice(words);
        self.bounds.push(Bounds { end: self.words.len(), is_inline: false });
    }

    /// Begins a word of an inline command; its bytes go to what is returned.
    pub(super) fn unquoted(&mut self) -> &mut Vec<u8> {
        &mut self.unquoted
    }

    /// Adds an inline command that put the bytes of its words behind one another, each with this length, from `start`
    /// on.
    pub(super) fn push_inline(&mut self, start: usize, lens: &[usize]) {
        let mut at = start;
        for len in lens {
            // The parser bounds a line far below 4 GiB, and clears what it keeps.
            self.words.push(Word { start: at as u32, len: *len as u32 });
            at += len;
        }
        self.bounds.push(Bounds { end: self.words.len(), is_inline: true });
    }
}

impl<'a> Command<'a> {
    /// How many arguments there are, with the name; never 0.
    pub fn len(&self) -> usize {
        self.words.len()
    }

    /// Whether there are none, which no parsed command has.
    pub fn is_empty(&self) -> bool {
        self.words.is_empty()
    }

    /// The name, as it was written.
    pub fn name(&self) -> &'a [u8] {
        self.get(0)
    }

    /// The `at`-th argument; the name is that at 0.
    ///
    /// # Panics
    ///
    /// If there are not so many.
    pub fn get(&self, at: usize) -> &'a [u8] {
        let Word { start, len } = self.words[at];
        &self.bytes[start as usize..][..len as usize]
    }

    /// The arguments from the `at`-th on.
    pub fn from(
        &self,
        at: usize,
    ) -> impl ExactSizeIterator<Item = &'a [u8]> + DoubleEndedIterator + Clone + use<'a> {
        let Self { words, bytes } = *self;
        let words = words.get(at..).unwrap_or_default();
        words.iter().map(move |word| &bytes[word.start as usize..][..word.len as usize])
    }

    /// The command that begins with the `at`-th argument.
    ///
    /// # Panics
    ///
    /// If there are not more arguments than that.
    pub fn behind(&self, at: usize) -> Self {
        assert!(at < self.words.len(), "a command has a name");
        Self { words: &self.words[at..], bytes: self.bytes }
    }
}
