//! Files that are read whole, up to a limit: what somebody names may be a device without an end, or
//! another file than was meant.

use std::{
    fs::{File, FileType},
    io::{self, Read as _},
    os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _},
    path::Path,
};

use zeroize::Zeroizing;

use crate::newfile;

/// What others than a file's owner may do with it, of its permission bits.
pub const OTHERS: u32 = 0o077;

/// Why a file that is its owner's alone was not read.
#[derive(Debug, thiserror::Error)]
pub enum PrivateFileError {
    /// The system's answer, and those of [`bytes`].
    #[error(transparent)]
    Io(#[from] io::Error),
    /// Others than the owner may read or write it.
    #[error(
        "mode {0:04o}: others than its owner may read or change it; run `chmod 600` on it if nobody did, \
         else make a new one"
    )]
    Permissions(u32),
}

/// Reads a file of at most `bytes_max` bytes.
///
/// # Errors
/// [`io::ErrorKind::FileTooLarge`], which says the limit; [`io::ErrorKind::InvalidInput`] for what is
/// not a regular file; or the system's answer. The caller names the file.
pub fn bytes(path: &Path, bytes_max: usize) -> io::Result<Vec<u8>> {
    up_to(open(path)?, bytes_max)
}

fn up_to(file: File, bytes_max: usize) -> io::Result<Vec<u8>> {
    let length = usize::try_from(file.metadata()?.len()).unwrap_or(usize::MAX);
    // Room for the whole at once, so that no copy of a secret stays behind in memory.
    let mut bytes = Vec::with_capacity(length.min(bytes_max) + 1);
    file.take(bytes_max as u64 + 1).read_to_end(&mut bytes)?;
    if bytes.len() > bytes_max {
        let reason = format!("more than {bytes_max} bytes, too large for what it should be");
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, reason));
    }
    Ok(bytes)
}

/// Reads a file of at most `bytes_max` bytes that its owner alone may read. What was read is wiped when it is
/// dropped.
///
/// # Errors
/// [`PrivateFileError`]. The caller names the file.
pub fn private(path: &Path, bytes_max: usize) -> Result<Zeroizing<Vec<u8>>, PrivateFileError> {
    let file = open(path)?;
    // Of the open file, so that what is checked is what is read.
    let mode = file.metadata()?.permissions().mode() & 0o7777;
    if mode & OTHERS != 0 {
        return Err(PrivateFileError::Permissions(mode));
    }
    Ok(Zeroizing::new(up_to(file, bytes_max)?))
}

/// Opens a regular file to read it. A pipe that nobody writes to would keep the caller for ever.
///
/// # Errors
/// [`io::ErrorKind::InvalidInput`] for anything else, or the system's answer.
pub fn open(path: &Path) -> io::Result<File> {
    // Before it is opened, because opening may do something to a device; and after it was opened,
    // because another may have taken its place meanwhile. If that is a pipe, the flag keeps it from
    // being waited for.
    regular(path.metadata()?.file_type())?;
    let flag = rustix::fs::OFlags::NONBLOCK.bits().cast_signed();
    let file = File::options().read(true).custom_flags(flag).open(path)?;
    regular(file.metadata()?.file_type())?;
    Ok(file)
}

fn regular(found: FileType) -> io::Result<()> {
    if found.is_file() {
        return Ok(());
    }
    let what = newfile::kind(found);
    let hint = if found.is_dir() { "name the file in it" } else { "copy it to one first" };
    let reason = format!("{what}, and no regular file: {hint}");
    Err(io::Error::new(io::ErrorKind::InvalidInput, reason))
}

/// Reads a text of at most `bytes_max` bytes of UTF-8, without the byte order mark that some editors put
/// before it.
///
/// # Errors
/// As [`bytes`], and [`io::ErrorKind::InvalidData`] where it is not UTF-8.
pub fn text(path: &Path, bytes_max: usize) -> io::Result<String> {
    let mut bytes = bytes(path, bytes_max)?;
    if bytes.starts_with(b"\xef\xbb\xbf") {
        // In place: the text may be a secret, of which no copy is to stay behind.
        bytes.drain(..3);
    }
    let utf_16 = bytes.starts_with(b"\xff\xfe") || bytes.starts_with(b"\xfe\xff");
    // Without the bytes, which may be a secret.
    String::from_utf8(bytes).map_err(|_| {
        let reason =
            if utf_16 { "a text of UTF-16: save it as UTF-8" } else { "not a text of UTF-8" };
        io::Error::new(io::ErrorKind::InvalidData, reason)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_read_up_to_the_limit_and_refused_above_it() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("file");
        for (content, taken) in [("", true), ("12345678", true), ("123456789", false)] {
            std::fs::write(&path, content).expect("written");
            assert_eq!(text(&path, 8).ok(), taken.then(|| content.to_owned()), "{content}");
        }
    }

    #[test]
    fn a_byte_order_mark_is_no_part_of_a_text() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("file");
        for (content, read) in [("\u{feff}{}", "{}"), ("\u{feff}", ""), ("a\u{feff}", "a\u{feff}")]
        {
            std::fs::write(&path, content).expect("written");
            assert_eq!(text(&path, 16).expect("a text"), read);
        }
    }

    #[test]
    fn what_is_no_regular_file_is_refused_and_not_waited_for() {
        let directory = tempfile::tempdir().expect("a directory");
        let pipe = directory.path().join("pipe");
        let made = std::process::Command::new("mkfifo").arg(&pipe).status().expect("it runs");
        assert!(made.success());
        for (path, what) in [
            (&*pipe, "a pipe"),
            (Path::new("/dev/zero"), "a device"),
            (directory.path(), "a directory"),
        ] {
            let error = bytes(path, 4096).expect_err("refused");
            assert_eq!(error.kind(), io::ErrorKind::InvalidInput);
            assert!(error.to_string().starts_with(what), "{error}");
        }
    }

    #[test]
    fn a_file_that_is_too_large_is_refused_with_the_limit() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("file");
        File::create(&path).and_then(|file| file.set_len(1 << 40)).expect("a sparse file");
        let error = bytes(&path, 4096).expect_err("refused");
        assert_eq!(error.kind(), io::ErrorKind::FileTooLarge);
        assert!(error.to_string().contains("4096 bytes"), "{error}");
    }

    #[test]
    fn a_text_of_utf_16_is_told_as_that() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("file");
        for big in [false, true] {
            let of = |unit: u16| if big { unit.to_be_bytes() } else { unit.to_le_bytes() };
            let bytes: Vec<u8> = "\u{feff}{\u{e9}}".encode_utf16().flat_map(of).collect();
            std::fs::write(&path, bytes).expect("written");
            let error = text(&path, 64).expect_err("refused");
            assert_eq!(error.kind(), io::ErrorKind::InvalidData);
            assert_eq!(error.to_string(), "a text of UTF-16: save it as UTF-8");
        }
    }

    #[test]
    fn what_is_no_text_is_told_without_its_bytes() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("file");
        std::fs::write(&path, b"secret\xff").expect("written");
        let error = text(&path, 8).expect_err("refused");
        assert_eq!(error.kind(), io::ErrorKind::InvalidData);
        assert!(!format!("{error:?}").contains("secret"), "{error:?}");
    }
}
