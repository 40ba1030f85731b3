//! Reads `text/event-stream`, after the parsing rules of the HTML standard (§9.2.6).

use std::time::Duration;

/// The longest event: a job's page of inline outputs fits.
const MAX_EVENT_BYTES: usize = 128 * 1024 * 1024;

/// One event.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Event {
    /// Its type; empty: `message`.
    pub(crate) name: String,
    /// Its data; lines are joined with `\n`.
    pub(crate) data: String,
    /// The id that stood in the stream last.
    pub(crate) id: Option<String>,
}

/// The stream holds an event that is too long.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("an event is longer than {MAX_EVENT_BYTES} bytes")]
pub(crate) struct TooLong;

/// Takes a stream in pieces, cut anywhere, and gives its events.
#[derive(Debug, Default)]
pub(crate) struct Parser {
    line: Vec<u8>,
    /// The last byte was a CR: a LF that follows belongs to it.
    after_cr: bool,
    begun: bool,
    name: String,
    data: Option<String>,
    id: Option<String>,
    retry: Option<Duration>,
}

impl Parser {
    /// Takes in a piece; returns the events that it completes.
    pub(crate) fn push(&mut self, piece: &[u8]) -> Result<Vec<Event>, TooLong> {
        let mut events = Vec::new();
        for &byte in piece {
            match byte {
                b'\n' if std::mem::take(&mut self.after_cr) => {}
                b'\n' | b'\r' => {
                    self.after_cr = byte == b'\r';
                    events.extend(self.end_line());
                }
                _ => {
                    self.after_cr = false;
                    self.line.push(byte);
                }
            }
            if self.line.len() + self.data.as_ref().map_or(0, String::len) > MAX_EVENT_BYTES {
                return Err(TooLong);
            }
        }
        Ok(events)
    }

    /// How long the server wants clients to wait before they connect anew.
    pub(crate) fn retry(&self) -> Option<Duration> {
        self.retry
    }

    fn end_line(&mut self) -> Option<Event> {
        let bytes = std::mem::take(&mut self.line);
        let line = String::from_utf8_lossy(&bytes);
        let line = if self.begun { &line } else { line.strip_prefix('\u{feff}').unwrap_or(&line) };
        self.begun = true;
        if line.is_empty() {
            return self.dispatch();
        }
        let (field, value) = line.split_once(':').unwrap_or((line, ""));
        let value = value.strip_prefix(' ').unwrap_or(value);
        match field {
            "event" => value.clone_into(&mut self.name),
            "data" => match &mut self.data {
                Some(data) => {
                    data.push('\n');
                    data.push_str(value);
                }
                None => self.data = Some(value.to_owned()),
            },
            "id" if !value.contains('\0') => self.id = Some(value.to_owned()),
            "retry" if !value.is_empty() && value.bytes().all(|b| b.is_ascii_digit()) => {
                self.retry = value.parse().ok().map(Duration::from_millis);
            }
            // A comment (an empty field name), or a field that nobody knows.
            _ => {}
        }
        None
    }

    /// An event without data is none, but ends the type that was said for it.
    fn dispatch(&mut self) -> Option<Event> {
        let name = std::mem::take(&mut self.name);
        let data = self.data.take().filter(|data| !data.is_empty())?;
        Some(Event { name, data, id: self.id.clone() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn parse(text: &str) -> Vec<Event> {
        Parser::default().push(text.as_bytes()).unwrap()
    }

    fn event(name: &str, data: &str, id: Option<&str>) -> Event {
        Event { name: name.into(), data: data.into(), id: id.map(Into::into) }
    }

    #[test]
    fn the_examples_of_the_standard() {
        let stock = "data: YHOO\ndata: +2\ndata: 10\n\n";
        assert_eq!(parse(stock), [event("", "YHOO\n+2\n10", None)]);
        let ids =
            ": test stream\n\ndata: first event\nid: 1\n\ndata:second event\nid\n\ndata:  third event\n\n";
        let expected = [
            event("", "first event", Some("1")),
            event("", "second event", Some("")),
            event("", " third event", Some("")),
        ];
        assert_eq!(parse(ids), expected);
        // The last block has no end: it is not an event.
        assert_eq!(parse("data\n\ndata\ndata\n\ndata:"), [event("", "\n", None)]);
        assert_eq!(parse("data:test\n\ndata: test\n\n"), [event("", "test", None), event("", "test", None)]);
    }

    #[test]
    fn byte_order_mark_comments_and_unknown_fields_are_passed_over() {
        let text =
            "\u{feff}event: job\r\n: still here\r\nfoo: bar\r\nretry: 2500\r\nretry: soon\r\ndata: x\r\n\r\n";
        let mut parser = Parser::default();
        assert_eq!(parser.push(text.as_bytes()).unwrap(), [event("job", "x", None)]);
        assert_eq!(parser.retry(), Some(Duration::from_millis(2500)));
        assert_eq!(parse("event: gone\n\ndata: x\n\n"), [event("", "x", None)]);
    }

    fn text() -> impl Strategy<Value = String> {
        proptest::collection::vec(prop_oneof![Just(':'), Just(' '), Just('ü'), any::<char>()], 0..12)
            .prop_map(|chars| chars.into_iter().filter(|c| !"\r\n\0\u{feff}".contains(*c)).collect())
    }

    fn events() -> impl Strategy<Value = Vec<Event>> {
        let data = proptest::collection::vec(text(), 1..4)
            .prop_map(|lines| lines.join("\n"))
            .prop_filter("an event without data is none", |data| !data.is_empty());
        let one = (text(), data, text()).prop_map(|(name, data, id)| Event { name, data, id: Some(id) });
        proptest::collection::vec(one, 0..5)
    }

    proptest! {
        /// However the stream is cut into pieces, and whatever ends its lines, the events that come out went in.
        #[test]
        fn events_come_out_as_they_went_in(
            events in events(),
            line_end in prop_oneof![Just("\n"), Just("\r"), Just("\r\n")],
            cuts in proptest::collection::vec(1usize..9, 1..40),
        ) {
            let mut lines = Vec::new();
            for event in &events {
                lines.push(format!("id: {}", event.id.as_deref().unwrap()));
                lines.push(format!("event: {}", event.name));
                lines.extend(event.data.split('\n').map(|line| format!("data: {line}")));
                lines.push(String::new());
            }
            let stream: String = lines.iter().flat_map(|line| [line.as_str(), line_end]).collect();
            let mut parser = Parser::default();
            let mut found = Vec::new();
            let mut rest = stream.as_bytes();
            for cut in cuts.iter().cycle() {
                if rest.is_empty() {
                    break;
                }
                let (piece, after) = rest.split_at((*cut).min(rest.len()));
                found.extend(parser.push(piece).unwrap());
                rest = after;
            }
            prop_assert_eq!(found, events);
        }

        /// No input makes it panic.
        #[test]
        fn takes_anything(bytes: Vec<u8>) {
            Parser::default().push(&bytes).unwrap();
        }
    }
}
