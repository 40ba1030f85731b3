//! Structured logs on stderr, as text or JSON.

mod writer;

use crate::config::sections::{LogFormat, Telemetry};
use std::io::{self, IsTerminal};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::util::SubscriberInitExt;
use writer::{LineQueue, LineWriter};

/// How much of the log a person at the terminal wants to see.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Verbosity {
    /// What the configuration says.
    #[default]
    Configured,
    /// Warnings and errors only: for `springtide up` and the client commands, whose own output matters more.
    Quiet,
}

/// Why logging could not be started.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// `telemetry.log` is no filter.
    #[error("telemetry.log {filter:?} is no filter; use a level, or target=level pairs with commas")]
    Filter {
        /// As configured.
        filter: String,
        /// What is wrong with it.
        source: tracing_subscriber::filter::ParseError,
    },
    /// The process logs already.
    #[error("logging was started twice in this process")]
    Started(#[from] tracing_subscriber::util::TryInitError),
    /// The thread that writes could not be started.
    #[error("cannot start the thread that writes the log")]
    Thread(#[source] io::Error),
}

/// Keep it until the process ends: when it is dropped, the lines that wait are written.
#[must_use = "lines that wait are written when this is dropped"]
#[derive(Debug)]
pub struct Guard {
    _writer: LineWriter,
}

/// Starts logging for this process. Lines go through a bounded queue to a thread that writes them, so that a slow
/// terminal holds nobody up.
pub fn start(section: &Telemetry, verbosity: Verbosity) -> Result<Guard, Error> {
    let (queue, writer) = writer::start(io::stderr(), section.queue_cap).map_err(Error::Thread)?;
    subscriber(section, verbosity, queue, io::stderr().is_terminal())?.try_init()?;
    Ok(Guard { _writer: writer })
}

fn subscriber(
    section: &Telemetry,
    verbosity: Verbosity,
    queue: LineQueue,
    ansi: bool,
) -> Result<Box<dyn tracing::Subscriber + Send + Sync>, Error> {
    let filter = match verbosity {
        Verbosity::Configured => section.log.as_str(),
        Verbosity::Quiet => "warn",
    };
    let env_filter =
        EnvFilter::try_new(filter).map_err(|source| Error::Filter { filter: filter.to_owned(), source })?;
    let builder = tracing_subscriber::fmt().with_env_filter(env_filter).with_writer(queue);
    Ok(match section.format {
        LogFormat::Text => Box::new(builder.with_ansi(ansi).finish()),
        LogFormat::Json => Box::new(builder.json().flatten_event(true).finish()),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::{Arc, Mutex};

    #[derive(Clone, Default)]
    struct Captured(Arc<Mutex<Vec<u8>>>);

    impl io::Write for Captured {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn logged(log: &str, format: LogFormat, verbosity: Verbosity) -> String {
        let captured = Captured::default();
        let (queue, writer) = writer::start(captured.clone(), 16).unwrap();
        let section = Telemetry { log: log.to_owned(), format, queue_cap: 16 };
        let subscriber = subscriber(&section, verbosity, queue, false).unwrap();
        tracing::subscriber::with_default(subscriber, || {
            let _span = tracing::info_span!("run", task = "job_1/0").entered();
            tracing::info!(count = 3, "hello");
            tracing::warn!("careful");
        });
        drop(writer);
        String::from_utf8(captured.0.lock().unwrap().clone()).unwrap()
    }

    #[test]
    fn text_has_fields_and_spans() {
        let lines = logged("info", LogFormat::Text, Verbosity::Configured);
        assert!(lines.contains(r#"run{task="job_1/0"}"#) && lines.contains("hello count=3"), "{lines}");
    }

    #[test]
    fn json_is_one_object_a_line() {
        let lines = logged("info", LogFormat::Json, Verbosity::Configured);
        let first = lines.lines().next().unwrap();
        assert!(first.starts_with('{') && first.contains(r#""message":"hello","count":3"#), "{first}");
        assert!(first.contains(r#""task":"job_1/0""#), "{first}");
    }

    #[test]
    fn quiet_shows_warnings_only() {
        let lines = logged("debug", LogFormat::Text, Verbosity::Quiet);
        assert!(lines.contains("careful") && !lines.contains("hello"), "{lines}");
    }

    #[test]
    fn a_broken_filter_is_named() {
        let (queue, _writer) = writer::start(io::sink(), 1).unwrap();
        let section = Telemetry { log: "a=b=c".to_owned(), format: LogFormat::Text, queue_cap: 1 };
        let error = subscriber(&section, Verbosity::Configured, queue, false).err().unwrap();
        assert!(error.to_string().contains("a=b=c"), "{error}");
    }
}
