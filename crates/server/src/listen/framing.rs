//! Where HTTP/1.1 messages begin and end (RFC 9112 §6), watched so that nothing ambiguous reaches the parser.
//!
//! hyper reads what the RFC lets a recipient forgive: a bare LF as a line's end, a `Content-Length` beside a
//! `Transfer-Encoding`, which it drops before anybody can see it. A proxy before us may forgive differently and then sees
//! other requests than we do in the same bytes. So the bytes are watched on their way to hyper: the lines of a head one
//! by one, the bytes of a body only by their number.

/// The longest line that is kept until its end arrives. hyper refuses a head of this size before it gets so far.
const MAX_LINE: usize = 32 * 1024;

/// Follows the messages of one connection.
#[derive(Debug, Default)]
pub(super) struct Framing {
    place: Place,
    /// The beginning of a line whose end has not arrived.
    line: Vec<u8>,
    length: Option<u64>,
    chunked: bool,
}

#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
enum Place {
    /// Between two messages, where empty lines are to be ignored (RFC 9112 §2.2).
    #[default]
    Start,
    Head,
    /// So many bytes of content follow.
    Content(u64),
    ChunkSize,
    /// So many bytes of a chunk follow.
    Chunk(u64),
    ChunkEnd,
    Trailer,
}

/// Why the bytes are not one message that everybody reads alike.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Unclear {
    /// How many of the bytes come before the line at fault.
    pub(super) at: usize,
    /// What is wrong with it.
    pub(super) why: &'static str,
}

impl Framing {
    /// Follows the next bytes, however they are cut.
    pub(super) fn advance(&mut self, bytes: &[u8]) -> Result<(), Unclear> {
        let mut rest = bytes;
        while !rest.is_empty() {
            let at = bytes.len() - rest.len();
            rest = match self.place {
                Place::Content(left) => self.skip(rest, left, Place::Content, Place::Start),
                Place::Chunk(left) => self.skip(rest, left, Place::Chunk, Place::ChunkEnd),
                _ => self.read_line(rest).map_err(|why| Unclear { at, why })?,
            };
        }
        Ok(())
    }

    /// Whether no message is under way.
    pub(super) fn is_between_messages(&self) -> bool {
        self.place == Place::Start && self.line.is_empty()
    }

    fn skip<'a>(&mut self, bytes: &'a [u8], left: u64, more: fn(u64) -> Place, then: Place) -> &'a [u8] {
        let here = usize::try_from(left).map_or(bytes.len(), |left| left.min(bytes.len()));
        let left = left.saturating_sub(here as u64);
        self.place = if left == 0 { then } else { more(left) };
        bytes.get(here..).unwrap_or_default()
    }

    /// Reads up to the end of the line; gives what follows it.
    fn read_line<'a>(&mut self, bytes: &'a [u8]) -> Result<&'a [u8], &'static str> {
        let Some((line, rest)) = memchr::memchr(b'\n', bytes).and_then(|end| bytes.split_at_checked(end + 1)) else {
            self.keep(bytes)?;
            return Ok(&[]);
        };
        if self.line.is_empty() {
            self.take_line(line)?;
        } else {
            self.keep(line)?;
            let whole = std::mem::take(&mut self.line);
            self.take_line(&whole)?;
        }
        Ok(rest)
    }

    fn keep(&mut self, bytes: &[u8]) -> Result<(), &'static str> {
        if self.line.len() + bytes.len() > MAX_LINE {
            return Err("a line is too long");
        }
        self.line.extend_from_slice(bytes);
        Ok(())
    }

    fn take_line(&mut self, line: &[u8]) -> Result<(), &'static str> {
        // RFC 9112 §2.2: "a recipient MAY recognize a single LF as a line terminator". Not everybody does.
        let line = line.strip_suffix(b"\r\n").ok_or("a line ends with LF alone")?;
        match self.place {
            Place::Start if line.is_empty() => {}
            Place::Start => self.place = Place::Head,
            Place::Head if line.is_empty() => self.end_head(),
            Place::Head => self.take_field(line)?,
            Place::ChunkSize => {
                let size = chunk_size(line).ok_or("a chunk has no size")?;
                self.place = if size == 0 { Place::Trailer } else { Place::Chunk(size) };
            }
            Place::ChunkEnd if line.is_empty() => self.place = Place::ChunkSize,
            Place::ChunkEnd => return Err("a chunk is longer than its size"),
            Place::Trailer if line.is_empty() => self.place = Place::Start,
            Place::Trailer | Place::Content(_) | Place::Chunk(_) => {}
        }
        Ok(())
    }

    /// Notes the two fields that say how long the body is.
    fn take_field(&mut self, line: &[u8]) -> Result<(), &'static str> {
        // Most fields of most heads are done with here.
        if !matches!(line.first(), Some(b'c' | b'C' | b't' | b'T')) {
            return Ok(());
        }
        if let Some(value) = value_of(line, b"content-length:") {
            if self.length.is_some() {
                return Err("more than one Content-Length");
            }
            self.length = Some(decimal(value).ok_or("the Content-Length is not a number")?);
        } else if let Some(value) = value_of(line, b"transfer-encoding:") {
            if self.chunked || !value.eq_ignore_ascii_case(b"chunked") {
                return Err("a Transfer-Encoding other than chunked");
            }
            self.chunked = true;
        }
        if self.chunked && self.length.is_some() {
            // RFC 9112 §6.3: such a message "ought to be handled as an error".
            return Err("both Transfer-Encoding and Content-Length");
        }
        Ok(())
    }

    fn end_head(&mut self) {
        self.place = match (std::mem::take(&mut self.chunked), self.length.take()) {
            (true, _) => Place::ChunkSize,
            (false, Some(length)) if length > 0 => Place::Content(length),
            (false, _) => Place::Start,
        };
    }
}

/// The value of a field, if this line has it; `name` is in lower case with its colon.
fn value_of<'a>(line: &'a [u8], name: &[u8]) -> Option<&'a [u8]> {
    let (start, value) = line.split_at_checked(name.len())?;
    start.eq_ignore_ascii_case(name).then(|| value.trim_ascii())
}

/// RFC 9110 §8.6: `Content-Length = 1*DIGIT`.
fn decimal(text: &[u8]) -> Option<u64> {
    if text.is_empty() || !text.iter().all(u8::is_ascii_digit) {
        return None;
    }
    std::str::from_utf8(text).ok()?.parse().ok()
}

/// RFC 9112 §7.1: `chunk-size [ chunk-ext ]`.
fn chunk_size(line: &[u8]) -> Option<u64> {
    let end = line.iter().position(|b| !b.is_ascii_hexdigit()).unwrap_or(line.len());
    let (digits, extension) = line.split_at_checked(end)?;
    let extension = extension.trim_ascii_start();
    if digits.is_empty() || !(extension.is_empty() || extension.starts_with(b";")) || line.contains(&b'\r') {
        return None;
    }
    u64::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn follow(bytes: &[u8]) -> Result<bool, Unclear> {
        let mut framing = Framing::default();
        framing.advance(bytes).map(|()| framing.is_between_messages())
    }

    fn refused(bytes: &str) -> (usize, &'static str) {
        let unclear = follow(bytes.as_bytes()).unwrap_err();
        (unclear.at, unclear.why)
    }

    #[test]
    fn clear_messages_pass_and_their_ends_are_found() {
        for (bytes, ended) in [
            ("GET / HTTP/1.1\r\nHost: a\r\n\r\n", true),
            ("\r\n\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n\r\n", true),
            ("GET / HTTP/1.1\r\nHost: a\r\n", false),
            ("GET", false),
            ("POST / HTTP/1.1\r\ncontent-length: 5\r\n\r\na\nb\n", false),
            ("POST / HTTP/1.1\r\nContent-Length: 5\r\n\r\na\nb\ncGET / HTTP/1.1\r\n\r\n", true),
            ("POST / HTTP/1.1\r\nContent-Length: 0\r\n\r\n", true),
            ("POST / HTTP/1.1\r\ntransfer-ENCODING:Chunked\r\n\r\n5;x=\"y\"\r\na\nb\nc\r\n0\r\n\r\n", true),
            ("POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nA \r\n0123456789\r\n0\r\nx: y\r\n\r\n", true),
            ("POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n0\r\n", false),
        ] {
            assert_eq!(follow(bytes.as_bytes()), Ok(ended), "{bytes:?}");
        }
    }

    #[test]
    fn what_somebody_else_could_read_otherwise_is_refused_at_its_line() {
        for (bytes, why) in [
            ("GET / HTTP/1.1\n", "a line ends with LF alone"),
            ("GET / HTTP/1.1\r\n|Host: a\n\r\n", "a line ends with LF alone"),
            ("GET / HTTP/1.1\r\n|\n", "a line ends with LF alone"),
            ("POST / HTTP/1.1\r\nContent-Length: 1\r\n|Content-Length: 1\r\n", "more than one Content-Length"),
            ("POST / HTTP/1.1\r\n|Content-Length: +1\r\n", "the Content-Length is not a number"),
            ("POST / HTTP/1.1\r\n|Content-Length: 1, 1\r\n", "the Content-Length is not a number"),
            ("POST / HTTP/1.1\r\n|Content-Length:\r\n", "the Content-Length is not a number"),
            ("POST / HTTP/1.1\r\n|Content-Length: 18446744073709551616\r\n", "the Content-Length is not a number"),
            (
                "POST / HTTP/1.1\r\nContent-Length: 1\r\n|Transfer-Encoding: chunked\r\n",
                "both Transfer-Encoding and Content-Length",
            ),
            (
                "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\nA: b\r\n|Content-Length: 1\r\n",
                "both Transfer-Encoding and Content-Length",
            ),
            ("POST / HTTP/1.1\r\n|Transfer-Encoding: gzip, chunked\r\n", "a Transfer-Encoding other than chunked"),
            ("POST / HTTP/1.1\r\n|Transfer-Encoding: identity\r\n", "a Transfer-Encoding other than chunked"),
            ("POST / HTTP/1.1\r\n|Transfer-Encoding: \x0bchunked\r\n", "a Transfer-Encoding other than chunked"),
            (
                "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n|Transfer-Encoding: chunked\r\n",
                "a Transfer-Encoding other than chunked",
            ),
            ("POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n|x\r\n", "a chunk has no size"),
            ("POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n|-1\r\n", "a chunk has no size"),
            ("POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n|1 0\r\n", "a chunk has no size"),
            ("POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n|1;a\rb\r\n", "a chunk has no size"),
            ("POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na|b\r\n", "a chunk is longer than its size"),
            ("POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n|1\na\r\n", "a line ends with LF alone"),
        ] {
            let at = bytes.find('|').unwrap_or(0);
            assert_eq!(refused(&bytes.replacen('|', "", 1)), (at, why), "{bytes:?}");
        }
    }

    #[test]
    fn a_line_without_end_is_not_kept_for_ever() {
        let mut framing = Framing::default();
        assert!((0..100).any(|_| framing.advance(&[b'a'; 1024]).is_err()));
    }

    #[test]
    fn the_fields_of_one_request_do_not_count_for_the_next() {
        let two = "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\nPOST / HTTP/1.1\r\nContent-Length: 1\r\n\r\na";
        assert_eq!(follow(two.repeat(2).as_bytes()), Ok(true));
    }

    proptest! {
        #[test]
        fn it_does_not_matter_how_the_bytes_are_cut(pieces in prop::collection::vec(
            prop::sample::select(vec![
                "GET / HTTP/1.1\r\n", "Content-Length: 3\r\n", "Transfer-Encoding: chunked\r\n", "Host: a\r\n", "\r\n",
                "3\r\n", "abc", "0\r\n", "\n", "\r", "x",
            ]), 0..12), cuts in prop::collection::vec(1_usize..9, 1..20)) {
            let bytes = pieces.concat().into_bytes();
            let mut framing = Framing::default();
            let (mut rest, mut cuts, mut outcome) = (&bytes[..], cuts.iter().cycle(), Ok(()));
            while !rest.is_empty() && outcome.is_ok() {
                let (now, later) = rest.split_at((*cuts.next().unwrap()).min(rest.len()));
                outcome = framing.advance(now).map_err(|unclear| unclear.why);
                rest = later;
            }
            let outcome = outcome.map(|()| framing.is_between_messages());
            prop_assert_eq!(outcome, follow(&bytes).map_err(|unclear| unclear.why));
        }
    }
}
