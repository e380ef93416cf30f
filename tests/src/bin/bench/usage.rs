//! What processes use, from /proc.

use std::{fs, ops::Add, path::Path};

use anyhow::Context as _;

/// Clock ticks a second in /proc: fixed by Linux for all that it shows to programs.
const TICKS_PER_SECOND: f64 = 100.0;

/// What one process has used so far.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Usage {
    /// Processor time, user and system.
    pub(crate) cpu_s: f64,
    /// Memory in use.
    pub(crate) resident_mb: f64,
    /// The most that was ever in use.
    pub(crate) peak_mb: f64,
}

impl Usage {
    pub(crate) fn of(pid: u32) -> anyhow::Result<Self> {
        let read = |name: &str| {
            let path = format!("/proc/{pid}/{name}");
            fs::read_to_string(&path).with_context(|| path)
        };
        let status = read("status")?;
        Ok(Self {
            cpu_s: cpu_s(&read("stat")?).context("/proc/PID/stat")?,
            resident_mb: memory_mb(&status, "VmRSS").context("VmRSS")?,
            peak_mb: memory_mb(&status, "VmHWM").context("VmHWM")?,
        })
    }
}

/// Processor time of this thread, which is known to the nanosecond.
pub(crate) fn thread_cpu_s() -> anyhow::Result<f64> {
    let path = "/proc/thread-self/schedstat";
    let text = fs::read_to_string(path).context(path)?;
    let nanoseconds = text.split_whitespace().next().and_then(|field| field.parse::<f64>().ok());
    Ok(nanoseconds.context(path)? / 1e9)
}

/// Bytes that this process has had written to disks so far.
pub(crate) fn bytes_written() -> anyhow::Result<u64> {
    let path = "/proc/self/io";
    let text = fs::read_to_string(path).context(path)?;
    let written = text.lines().find_map(|line| line.strip_prefix("write_bytes: "));
    Ok(written.context(path)?.parse()?)
}

/// Fields 14 and 15. The name of the program, in brackets, may have spaces.
fn cpu_s(stat: &str) -> Option<f64> {
    let (_, rest) = stat.rsplit_once(')')?;
    let mut fields = rest.split_whitespace().skip(11);
    let user: f64 = fields.next()?.parse().ok()?;
    let system: f64 = fields.next()?.parse().ok()?;
    Some((user + system) / TICKS_PER_SECOND)
}

fn memory_mb(status: &str, name: &str) -> Option<f64> {
    let line = status.lines().find(|line| line.starts_with(name))?;
    let kib: f64 = line.split_whitespace().nth(1)?.parse().ok()?;
    Some(kib / 1024.0)
}

/// Bytes of a directory's files. RocksDB reserves room on the disk for its write-ahead logs in
/// advance, which a file's length leaves out and its blocks do not.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Disk {
    /// All.
    pub(crate) all: u64,
    /// Those of write-ahead logs, which go when their content has been sorted into other files.
    pub(crate) logs: u64,
}

impl Disk {
    /// Files that vanish meanwhile count nothing.
    pub(crate) fn of(dir: &Path) -> Self {
        let mut disk = Self::default();
        let Ok(entries) = fs::read_dir(dir) else { return disk };
        for entry in entries.flatten() {
            match entry.metadata() {
                Ok(metadata) if metadata.is_dir() => disk = disk + Self::of(&entry.path()),
                Ok(metadata) => {
                    disk.all += metadata.len();
                    if entry.path().extension().is_some_and(|extension| extension == "log") {
                        disk.logs += metadata.len();
                    }
                }
                Err(_) => {}
            }
        }
        disk
    }
}

impl Add for Disk {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self { all: self.all + other.all, logs: self.logs + other.logs }
    }
}
