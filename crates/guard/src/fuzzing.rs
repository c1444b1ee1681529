//! The parsers that meet the network beside tokens, for `fuzz/` alone.

use crate::guard::{event, sse, status_list};

/// What a stream tells, read in chunks of this size: type, data and id of each event, and how many are of the protocol.
pub fn events(stream: &[u8], chunk: usize) -> Option<(Vec<[String; 3]>, usize)> {
    let (mut parser, mut messages) = (sse::Parser::default(), Vec::new());
    for chunk in stream.chunks(chunk.max(1)) {
        parser.push(chunk, |message| messages.push(message)).ok()?;
    }
    let understood = messages.iter().filter(|message| event::Told::read(message).is_ok()).count();
    let texts = messages.into_iter().map(|message| [message.event, message.data, message.id]).collect();
    Some((texts, understood))
}

/// How many events of the protocol the answer to a long poll holds.
pub fn polled(json: &[u8]) -> Option<usize> {
    event::Polled::read(json).ok().map(|polled| polled.events.len())
}

/// The bits of a compressed list.
pub fn bits(lst: &str) -> Option<Vec<u8>> {
    status_list::decompress(lst)
}

/// The most bytes that [`bits`] may come to.
pub const MAX_BITS: usize = 8 * 1024 * 1024;
