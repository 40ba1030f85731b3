//! A bounded queue of log lines and the thread that writes them. A line that finds the queue full is dropped and
//! counted; the count is written when there is room again.

use std::io::{self, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, channel, sync_channel};
use std::time::Duration;
use tracing_subscriber::fmt::MakeWriter;

/// How long the end of the process waits for the lines that are still in the queue.
const FLUSH_LIMIT: Duration = Duration::from_secs(2);

enum Message {
    Line(Vec<u8>),
    /// Everything before it has been written when this is answered.
    Flush(std::sync::mpsc::Sender<()>),
}

/// Where the subscriber writes its lines.
#[derive(Clone)]
pub(super) struct LineQueue {
    sender: SyncSender<Message>,
    dropped: Arc<AtomicU64>,
}

/// Flushes the queue when it is dropped.
#[derive(Debug)]
pub(super) struct LineWriter {
    sender: SyncSender<Message>,
}

/// Starts the thread that writes to `target`.
pub(super) fn start<W>(target: W, capacity: usize) -> io::Result<(LineQueue, LineWriter)>
where
    W: Write + Send + 'static,
{
    let (sender, receiver) = sync_channel(capacity.max(1));
    let dropped = Arc::new(AtomicU64::new(0));
    let counter = Arc::clone(&dropped);
    std::thread::Builder::new()
        .name("log".to_owned())
        .spawn(move || write_all(target, &receiver, &counter))?;
    Ok((LineQueue { sender: sender.clone(), dropped }, LineWriter { sender }))
}

fn write_all(mut target: impl Write, receiver: &Receiver<Message>, dropped: &AtomicU64) {
    // A log that cannot be written (a closed pipe) has nobody left to be told: it must not stop the process.
    while let Ok(message) = receiver.recv() {
        match message {
            Message::Line(line) => drop(target.write_all(&line)),
            Message::Flush(done) => {
                let _ = target.flush();
                let _ = done.send(());
            }
        }
        let lost = dropped.swap(0, Ordering::Relaxed);
        if lost > 0 {
            let _ = writeln!(target, "{lost} log lines were dropped: the log is written too slowly");
        }
    }
}

impl Drop for LineWriter {
    fn drop(&mut self) {
        let (done, written) = channel();
        // `send` would wait for ever behind a terminal that is stopped.
        if self.sender.try_send(Message::Flush(done)).is_ok() {
            let _ = written.recv_timeout(FLUSH_LIMIT);
        }
    }
}

impl<'a> MakeWriter<'a> for LineQueue {
    type Writer = Line<'a>;

    fn make_writer(&'a self) -> Line<'a> {
        Line { queue: self, bytes: Vec::new() }
    }
}

/// One event's text; it goes into the queue when the subscriber lets go of it.
pub(super) struct Line<'a> {
    queue: &'a LineQueue,
    bytes: Vec<u8>,
}

impl Write for Line<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.bytes.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Drop for Line<'_> {
    fn drop(&mut self) {
        let line = Message::Line(std::mem::take(&mut self.bytes));
        if let Err(TrySendError::Full(_)) = self.queue.sender.try_send(line) {
            self.queue.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc;

    /// A target that takes each line only when it is told to.
    struct Slow {
        go: mpsc::Receiver<()>,
        seen: mpsc::Sender<String>,
    }

    impl Write for Slow {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let _ = self.go.recv();
            self.seen.send(String::from_utf8_lossy(bytes).into_owned()).unwrap();
            Ok(bytes.len())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_full_queue_drops_and_counts_instead_of_waiting() {
        let (go, wait) = mpsc::channel();
        let (seen, lines) = mpsc::channel();
        let (queue, writer) = start(Slow { go: wait, seen }, 2).unwrap();
        for n in 0..10 {
            writeln!(queue.make_writer(), "line {n}").unwrap();
        }
        drop(go);
        drop(writer);
        drop(queue);
        let all: String = lines.iter().collect();
        assert!(all.starts_with("line 0\n"), "{all}");
        assert!(all.contains("log lines were dropped"), "{all}");
        assert!(!all.contains("line 9"), "{all}");
    }
}
