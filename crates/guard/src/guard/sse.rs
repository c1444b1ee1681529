//! Server-Sent Events, as the HTML standard has them (§9.2.6), read from chunks of any size and within bounds.

/// The longest line, and the most data of one event: a thousand places take a tenth of it.
pub(crate) const MAX_EVENT: usize = 128 * 1024;

/// One event.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Message {
    /// Its type; `message` where none is said.
    pub(crate) event: String,
    /// Its data, lines joined by line feeds.
    pub(crate) data: String,
    /// The last id said, by this event or one before.
    pub(crate) id: String,
}

/// More than an event may be long, or no UTF-8: whoever sends that is not the server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Garbage;

/// Takes events out of a stream.
#[derive(Debug, Default)]
pub(crate) struct Parser {
    line: Vec<u8>,
    /// The last byte was a carriage return: a line feed now belongs to it.
    after_cr: bool,
    begun: bool,
    message: Message,
    has_data: bool,
}

impl Parser {
    /// Reads on, and gives the events that are complete with it to `take`.
    pub(crate) fn push(&mut self, bytes: &[u8], mut take: impl FnMut(Message)) -> Result<(), Garbage> {
        for byte in bytes {
            match byte {
                b'\n' if self.after_cr => self.after_cr = false,
                b'\n' | b'\r' => {
                    self.after_cr = *byte == b'\r';
                    self.end_line(&mut take)?;
                }
                _ => {
                    self.after_cr = false;
                    if self.line.len() == MAX_EVENT {
                        return Err(Garbage);
                    }
                    self.line.push(*byte);
                }
            }
        }
        Ok(())
    }

    fn end_line(&mut self, take: &mut impl FnMut(Message)) -> Result<(), Garbage> {
        let line = std::mem::take(&mut self.line);
        let mut text = std::str::from_utf8(&line).map_err(|_| Garbage)?;
        if !std::mem::replace(&mut self.begun, true) {
            text = text.strip_prefix('\u{feff}').unwrap_or(text);
        }
        if text.is_empty() {
            self.dispatch(take);
            return Ok(());
        }
        let (field, value) = text.split_once(':').unwrap_or((text, ""));
        let value = value.strip_prefix(' ').unwrap_or(value);
        match field {
            "event" => value.clone_into(&mut self.message.event),
            "data" => {
                if self.message.data.len() + value.len() >= MAX_EVENT {
                    return Err(Garbage);
                }
                if std::mem::replace(&mut self.has_data, true) {
                    self.message.data.push('\n');
                }
                self.message.data.push_str(value);
            }
            "id" if !value.contains('\0') => value.clone_into(&mut self.message.id),
            // A comment, `retry`, which a guard decides by itself, and what nobody knows yet.
            _ => {}
        }
        Ok(())
    }

    fn dispatch(&mut self, take: &mut impl FnMut(Message)) {
        let id = self.message.id.clone();
        let mut message = std::mem::replace(&mut self.message, Message { id, ..Message::default() });
        if std::mem::take(&mut self.has_data) {
            if message.event.is_empty() {
                "message".clone_into(&mut message.event);
            }
            take(message);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn read(chunks: &[&[u8]]) -> Result<Vec<Message>, Garbage> {
        let (mut parser, mut read) = (Parser::default(), Vec::new());
        for chunk in chunks {
            parser.push(chunk, |message| read.push(message))?;
        }
        Ok(read)
    }

    fn message(event: &str, data: &str, id: &str) -> Message {
        Message { event: event.into(), data: data.into(), id: id.into() }
    }

    #[test]
    fn events_are_read_as_the_standard_says() {
        let stream = "\u{feff}: hello\n\nid: 7\nevent: places\ndata: {\"ended\":[3]}\n\nevent:alive\rdata:{}\r\rdata\ndata: b\n\
                      retry: 5\nodd\n\r\nevent: nothing\n\nid: 8\r\ndata:  c\r\n\r\nid\ndata: d\n\ndata: cut off\n";
        let expected = [
            message("places", "{\"ended\":[3]}", "7"),
            message("alive", "{}", "7"),
            message("message", "\nb", "7"),
            message("message", " c", "8"),
            message("message", "d", ""),
        ];
        assert_eq!(read(&[stream.as_bytes()]).unwrap(), expected);
        let bytes: Vec<&[u8]> = stream.as_bytes().chunks(1).collect();
        assert_eq!(read(&bytes).unwrap(), expected);
    }

    #[test]
    fn what_does_not_end_is_not_collected_for_ever() {
        let line = vec![b'x'; MAX_EVENT];
        assert_eq!(read(&[&line]), Ok(vec![]));
        assert_eq!(read(&[&line, b"x"]), Err(Garbage));
        let data = format!("data: {}\n", "x".repeat(1000));
        let lines = vec![data.as_bytes(); MAX_EVENT / 1000 + 1];
        assert_eq!(read(&lines), Err(Garbage));
        assert_eq!(read(&[b"data: \xff\n"]), Err(Garbage));
    }

    proptest! {
        #[test]
        fn where_chunks_are_cut_makes_no_difference(
            text in "(data|event|id|:|\\r|\\n|\\r\\n|\u{feff}|ä| |x){0,60}", cuts in prop::collection::vec(0usize..100, 0..5),
        ) {
            let bytes = text.as_bytes();
            let mut cuts: Vec<usize> = cuts.into_iter().map(|cut| cut.min(bytes.len())).collect();
            cuts.extend([0, bytes.len()]);
            cuts.sort_unstable();
            let chunks: Vec<&[u8]> = cuts.windows(2).map(|cut| &bytes[cut[0]..cut[1]]).collect();
            prop_assert_eq!(read(&chunks), read(&[bytes]));
        }
    }
}
