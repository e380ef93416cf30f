//! Where log lines go: a queue, and a thread that writes it to standard error.
//!
//! Nobody who logs ever waits or fails. Standard error may be closed, on a full disk, or a pipe that
//! nobody reads: then lines are lost, counted ([`lost_lines`]), and told of in the log as soon as it can
//! be written again. What a process says last is written if it can be within a moment ([`flush`]).

use std::{
    collections::VecDeque,
    io::{self, Write},
    sync::{Arc, Condvar, LazyLock, Mutex, MutexGuard, OnceLock, PoisonError},
    thread,
    time::{Duration, Instant},
};

use prometheus_client::metrics::counter::Counter;

/// Bytes of lines that may wait to be written.
const WAITING_BYTES_MAX: usize = 1024 * 1024;
/// How long to wait for a descriptor that does not block and takes nothing now.
const PAUSE: Duration = Duration::from_millis(20);

static STANDARD_ERROR: OnceLock<LogLines> = OnceLock::new();
static LOST: LazyLock<Counter> = LazyLock::new(Counter::default);

/// Has what this process says on standard error go through the queue from now on, and gives the queue.
///
/// # Errors
/// Where the system starts no thread.
pub fn to_standard_error() -> io::Result<LogLines> {
    if let Some(lines) = STANDARD_ERROR.get() {
        return Ok(lines.clone());
    }
    let lines = LogLines::to(io::stderr())?;
    Ok(STANDARD_ERROR.get_or_init(|| lines).clone())
}

/// The queue, where this process has one.
pub fn queue() -> Option<&'static LogLines> {
    STANDARD_ERROR.get()
}

/// Waits until all that was said is written, but no longer than this.
pub fn flush(limit: Duration) {
    if let Some(lines) = queue() {
        lines.flush(limit);
    }
}

/// Counts the lines that this process lost.
pub fn lost_lines() -> Counter {
    LOST.clone()
}

/// A queue of lines and the thread that writes them. Cheap to clone.
#[derive(Clone, Debug)]
pub struct LogLines(Arc<Queue>);

#[derive(Debug, Default)]
struct Queue {
    lines: Mutex<Lines>,
    /// Something came, or all is written.
    changed: Condvar,
}

#[derive(Debug, Default)]
struct Lines {
    waiting: VecDeque<Vec<u8>>,
    bytes: usize,
    /// Whether a line is being written.
    writing: bool,
    /// Lines lost that nobody was told of.
    untold: u64,
}

impl LogLines {
    /// Starts a thread that writes what is queued to `sink`.
    ///
    /// # Errors
    /// Where the system starts no thread.
    pub fn to(sink: impl Write + Send + 'static) -> io::Result<Self> {
        let lines = Self(Arc::default());
        let writing = lines.clone();
        thread::Builder::new().name("log".into()).spawn(move || writing.write_to(sink))?;
        Ok(lines)
    }

    /// Queues a line with its line end. Where there is no room, it is lost. Never waits for the sink.
    pub fn push(&self, line: &[u8]) {
        let mut lines = self.lock();
        if lines.bytes + line.len() > WAITING_BYTES_MAX {
            lines.lose();
            return;
        }
        lines.bytes += line.len();
        lines.waiting.push_back(line.to_vec());
        self.0.changed.notify_all();
    }

    /// Waits until all that was queued is written, but no longer than this. Whether it is.
    pub fn flush(&self, limit: Duration) -> bool {
        let deadline = Instant::now() + limit;
        let mut lines = self.lock();
        while !lines.waiting.is_empty() || lines.writing {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return false;
            }
            let waited = self.0.changed.wait_timeout(lines, left);
            (lines, _) = waited.unwrap_or_else(PoisonError::into_inner);
        }
        true
    }

    fn write_to(&self, mut sink: impl Write) {
        // Whether a part of a line is all that was taken last.
        let mut broken_off = false;
        loop {
            let mut line = self.next();
            if broken_off {
                line.insert(0, b'\n');
            }
            let left = write_all(&mut sink, &line);
            let untold = {
                let mut lines = self.lock();
                lines.writing = false;
                match left {
                    0 => std::mem::take(&mut lines.untold),
                    _ => {
                        lines.lose();
                        0
                    }
                }
            };
            broken_off = left > 0 && (broken_off || left < line.len());
            if untold > 0 {
                // Through this queue, in the form of the other lines.
                tracing::warn!(
                    lines = untold,
                    "lines of this log were lost: it could not be written"
                );
            }
            self.0.changed.notify_all();
        }
    }

    fn next(&self) -> Vec<u8> {
        let mut lines = self.lock();
        loop {
            if let Some(line) = lines.waiting.pop_front() {
                lines.bytes -= line.len();
                lines.writing = true;
                return line;
            }
            lines = self.0.changed.wait(lines).unwrap_or_else(PoisonError::into_inner);
        }
    }

    fn lock(&self) -> MutexGuard<'_, Lines> {
        self.0.lines.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Lines {
    fn lose(&mut self) {
        self.untold += 1;
        LOST.inc();
    }
}

/// One event a write, as the formatter of the log has it. Never fails.
impl Write for LogLines {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        self.push(line);
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// As [`Write::write_all`], and waits where another process has made the descriptor not wait. Gives how
/// many bytes are left where it fails.
fn write_all(sink: &mut impl Write, mut bytes: &[u8]) -> usize {
    while !bytes.is_empty() {
        match sink.write(bytes) {
            Ok(0) => break,
            Ok(count) => bytes = &bytes[count..],
            Err(error) => match error.kind() {
                io::ErrorKind::Interrupted => {}
                io::ErrorKind::WouldBlock => thread::sleep(PAUSE),
                _ => break,
            },
        }
    }
    bytes.len()
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    const DEADLINE: Duration = Duration::from_secs(30);

    /// Takes a write when it is let, and says what it took.
    struct Gate {
        open: mpsc::Receiver<io::Result<()>>,
        taken: mpsc::Sender<String>,
    }

    impl Write for Gate {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.open.recv().map_err(|_| io::ErrorKind::BrokenPipe)??;
            let text = String::from_utf8_lossy(bytes).into_owned();
            self.taken.send(text).map_err(|_| io::ErrorKind::BrokenPipe)?;
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn gated() -> (LogLines, mpsc::Sender<io::Result<()>>, mpsc::Receiver<String>) {
        let (opener, open) = mpsc::channel();
        let (taken, out) = mpsc::channel();
        (LogLines::to(Gate { open, taken }).expect("a thread"), opener, out)
    }

    #[test]
    fn lines_are_written_in_order_and_a_flush_waits_for_the_last() {
        let (mut lines, open, out) = gated();
        for line in ["a\n", "b\n", "c\n"] {
            Write::write_all(&mut lines, line.as_bytes()).expect("never fails");
        }
        assert!(!lines.flush(Duration::from_millis(1)), "nothing was let through yet");
        (0..3).for_each(|_| open.send(Ok(())).expect("it runs"));
        assert!(lines.flush(DEADLINE));
        assert_eq!(out.try_iter().collect::<String>(), "a\nb\nc\n");
    }

    #[test]
    fn a_sink_that_takes_nothing_costs_lines_and_keeps_nobody_waiting() {
        let (lines, open, out) = gated();
        let line = [b'x'; 1024];
        let before = lost_lines().get();
        // Ten times what may wait. This returns though nothing is ever taken.
        for _ in 0..10 * WAITING_BYTES_MAX / line.len() {
            lines.push(&line);
        }
        let kept = lines.lock().waiting.len();
        assert!(kept <= WAITING_BYTES_MAX / line.len(), "{kept} lines wait");
        // One more is on its way.
        assert!(lost_lines().get() - before >= 9 * (WAITING_BYTES_MAX / line.len()) as u64 - 1);
        assert!(!lines.flush(Duration::from_millis(1)));
        // What was kept is written once it can be, and the loss is told.
        (0..=kept).for_each(|_| open.send(Ok(())).expect("it runs"));
        assert!(lines.flush(DEADLINE));
        assert!(out.try_iter().count() >= kept);
        assert_eq!(lines.lock().untold, 0);
    }

    #[test]
    fn a_sink_that_fails_costs_the_line_and_the_next_is_tried() {
        let (lines, open, out) = gated();
        let full = || Err(io::ErrorKind::StorageFull.into());
        for outcome in [full(), full(), Ok(())] {
            lines.push(b"line\n");
            open.send(outcome).expect("it runs");
        }
        assert!(lines.flush(DEADLINE));
        assert_eq!(out.try_iter().collect::<String>(), "line\n");
    }

    /// A file on a disk with this many bytes left.
    #[derive(Clone)]
    struct Disk(Arc<Mutex<(Vec<u8>, usize)>>);

    impl Write for Disk {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let (file, left) = &mut *self.0.lock().expect("no panic");
            if *left == 0 {
                return Err(io::ErrorKind::StorageFull.into());
            }
            let taken = bytes.len().min(*left);
            file.extend_from_slice(&bytes[..taken]);
            *left -= taken;
            Ok(taken)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_line_after_one_that_was_broken_off_is_a_line_of_its_own() {
        let disk = Disk(Arc::new(Mutex::new((Vec::new(), 5))));
        let lines = LogLines::to(disk.clone()).expect("a thread");
        for room in [0, 0, 100] {
            lines.push(b"{\"a\":1}\n");
            assert!(lines.flush(DEADLINE));
            disk.0.lock().expect("no panic").1 += room;
        }
        lines.push(b"{\"b\":2}\n");
        lines.push(b"{\"c\":3}\n");
        assert!(lines.flush(DEADLINE));
        let written = String::from_utf8(disk.0.lock().expect("no panic").0.clone());
        assert_eq!(written.as_deref(), Ok("{\"a\":\n{\"b\":2}\n{\"c\":3}\n"));
    }

    #[test]
    fn a_sink_that_would_block_is_tried_again() {
        let (lines, open, out) = gated();
        lines.push(b"line\n");
        open.send(Err(io::ErrorKind::WouldBlock.into())).expect("it runs");
        open.send(Ok(())).expect("it runs");
        assert!(lines.flush(DEADLINE));
        assert_eq!(out.try_iter().collect::<String>(), "line\n");
    }
}
