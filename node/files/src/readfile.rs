//! Files that are read whole, up to a limit: what somebody names may be a device without an end, or
//! another file than was meant.

use std::{
    fs::{File, FileType, Metadata},
    io::{self, Read as _},
    os::unix::fs::{MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _},
    path::Path,
};

use zeroize::Zeroizing;

use crate::newfile;

/// What others than a file's owner may do with it, of its permission bits.
pub const OTHERS: u32 = 0o077;
/// What those may do who are neither its owner nor of its group.
const STRANGERS: u32 = 0o007;
/// The user who may do everything anyway.
const ROOT: u32 = 0;

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
    /// Another user may write it, whatever its mode says.
    #[error(
        "it belongs to user {owner}, and this process is user {process}: run it as that user, or, if nobody else \
         can have written it, give it to this one (`chown {process}`)"
    )]
    Owner {
        /// Whose it is.
        owner: u32,
        /// As whom the process runs.
        process: u32,
    },
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
    let found = file.metadata()?;
    is_own(&found)?;
    without(&found, OTHERS)?;
    Ok(Zeroizing::new(up_to(file, bytes_max)?))
}

/// Reads a credential that the system gave to this process: a file of at most `bytes_max` bytes of this process'
/// user or of root, who gives it to that user by an access list, which its mode shows as a group's.
///
/// # Errors
/// As [`private`].
pub fn credential(path: &Path, bytes_max: usize) -> Result<Zeroizing<Vec<u8>>, PrivateFileError> {
    let file = open(path)?;
    let found = file.metadata()?;
    if found.uid() != ROOT {
        is_own(&found)?;
    }
    without(&found, STRANGERS)?;
    Ok(Zeroizing::new(up_to(file, bytes_max)?))
}

/// Whether a file or directory belongs to the user that this process runs as: its owner may write it, whatever its
/// mode says.
///
/// # Errors
/// [`PrivateFileError::Owner`].
pub fn is_own(found: &Metadata) -> Result<(), PrivateFileError> {
    let (owner, process) = (found.uid(), rustix::process::geteuid().as_raw());
    if owner == process { Ok(()) } else { Err(PrivateFileError::Owner { owner, process }) }
}

/// Whether a file has none of these permission bits.
fn without(found: &Metadata, bits: u32) -> Result<(), PrivateFileError> {
    let mode = found.permissions().mode() & 0o7777;
    if mode & bits == 0 { Ok(()) } else { Err(PrivateFileError::Permissions(mode)) }
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

    /// Root gives a file away; who is not root finds one of root's.
    #[test]
    fn a_file_of_another_user_is_not_private_and_a_credential_may_be_roots() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("file");
        let allow = |mode| {
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode))
                .expect("allowed");
        };
        std::fs::write(&path, "secret").expect("written");
        for (mode, is_private, is_credential) in [
            (0o600, true, true),
            (0o440, false, true),
            (0o604, false, false),
            (0o601, false, false),
        ] {
            allow(mode);
            assert_eq!(private(&path, 8).is_ok(), is_private, "{mode:o}");
            assert_eq!(credential(&path, 8).is_ok(), is_credential, "{mode:o}");
        }
        allow(0o600);
        let is_root = rustix::process::geteuid().as_raw() == ROOT;
        let foreign = if is_root {
            std::os::unix::fs::chown(&path, Some(65_534), None).expect("given away");
            assert!(matches!(credential(&path, 8), Err(PrivateFileError::Owner { .. })));
            path
        } else {
            Path::new("/etc/passwd").to_owned()
        };
        let error = private(&foreign, 1 << 20).expect_err("another's");
        assert!(matches!(error, PrivateFileError::Owner { .. }), "{error}");
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
