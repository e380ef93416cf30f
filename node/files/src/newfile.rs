//! Files that are written whole or not at all: new ones never over another, and those that take
//! another's place.

use std::{
    fs::{self, File, FileType, OpenOptions, Permissions},
    io::{self, Write as _},
    os::unix::fs::{
        FileTypeExt as _, MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _, chown,
    },
    path::{Path, PathBuf},
};

use crate::hardening;

/// Writes a new file with the given permission bits and syncs it and its directory.
///
/// The bytes go to a file beside it first, which is then linked to its name: linking fails where
/// the name is taken, renaming would replace.
///
/// # Errors
/// [`io::ErrorKind::AlreadyExists`] where there is one, or the system's answer.
pub fn write(path: &Path, bytes: &[u8], mode: u32) -> io::Result<()> {
    if let Ok(found) = path.symlink_metadata() {
        return Err(taken(found.file_type()));
    }
    let temporary = beside(path)?;
    let result =
        fill(&temporary, bytes, mode).and_then(|()| give_name(&temporary, path, bytes, mode));
    let removed = fs::remove_file(&temporary);
    result?;
    removed?;
    sync_directory(path)
}

/// Writes what somebody asked for under a name of their own: a new file, or into the device or pipe
/// that they named, such as `/dev/stdout`.
///
/// # Errors
/// As [`write()`]. What is there is left as it is.
pub fn output(path: &Path, bytes: &[u8]) -> io::Result<()> {
    match stream(path) {
        true => OpenOptions::new().write(true).open(path)?.write_all(bytes),
        false => write(path, bytes, 0o644),
    }
}

/// Whether [`output`] could write there, to be asked before the work whose result it would be.
///
/// # Errors
/// [`io::ErrorKind::AlreadyExists`].
pub fn is_free(path: &Path) -> io::Result<()> {
    match path.symlink_metadata() {
        Ok(found) if !stream(path) => Err(taken(found.file_type())),
        _ => Ok(()),
    }
}

/// Whether it is a device or a pipe, through symbolic links.
fn stream(path: &Path) -> bool {
    let found = path.metadata().map(|found| found.file_type());
    found.is_ok_and(|found| found.is_char_device() || found.is_fifo())
}

fn taken(found: FileType) -> io::Error {
    let reason = format!(
        "{} is there already, which is never replaced: name another file, or move it away",
        kind(found)
    );
    io::Error::new(io::ErrorKind::AlreadyExists, reason)
}

/// What somebody calls a file of this type.
pub(crate) fn kind(found: FileType) -> &'static str {
    match found {
        found if found.is_dir() => "a directory",
        found if found.is_symlink() => "a symbolic link",
        found if found.is_fifo() => "a pipe",
        found if found.is_socket() => "a socket",
        found if found.is_char_device() || found.is_block_device() => "a device",
        _ => "a file",
    }
}

/// Writes a file in the place of the one that has its name, if there is one, and syncs it and its
/// directory. Whoever reads sees either of the two, whole. The caller knows what is there: it is a
/// file of its own. Where another user owns it, that user owns the new one: else a service could not read any
/// more what root has replaced.
///
/// # Errors
/// The system's answer; [`io::ErrorKind::AlreadyExists`] where what has the name is not a regular file.
/// It is then as it was.
pub fn replace(path: &Path, bytes: &[u8], mode: u32) -> io::Result<()> {
    let found = path.symlink_metadata().ok();
    if let Some(found) = found.as_ref().filter(|found| !found.is_file()) {
        return Err(taken(found.file_type()));
    }
    let other = found.filter(|found| found.uid() != rustix::process::geteuid().as_raw());
    let temporary = beside(path)?;
    let result = fill(&temporary, bytes, mode)
        .and_then(|()| match other {
            Some(found) => chown(&temporary, Some(found.uid()), Some(found.gid())),
            None => Ok(()),
        })
        .and_then(|()| fs::rename(&temporary, path));
    if let Err(error) = result {
        // It may not be there; what went wrong first is what is told.
        let _left_behind = fs::remove_file(&temporary);
        return Err(error);
    }
    sync_directory(path)
}

/// As [`replace()`] for a file that holds a secret: the one that had the name is overwritten where it lay, as
/// soon as the new one is durable, unless it has another name, which is logged (NFS gives it one while it is
/// open). A file system that writes elsewhere what is overwritten (ZFS, Btrfs), and a disk that does (flash
/// memory), may keep it all the same.
///
/// # Errors
/// As [`replace()`]. Where the last step failed, the new file is in place.
pub fn replace_secret(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let old = writable(path)?;
    replace(path, bytes, 0o600)?;
    old.map_or(Ok(()), |old| overwrite(path, &old))
}

/// Moves a file of a secret to the name of another in the same directory, which is destroyed: overwritten where
/// it lies and synced, before it loses its name. After a crash in between, what has the name cannot be read, and
/// the same is to be done again.
///
/// # Errors
/// The system's answer. Nothing is destroyed before the name of the first is durable.
pub fn move_over_secret(from: &Path, to: &Path) -> io::Result<()> {
    let found = from.symlink_metadata()?.file_type();
    if !found.is_file() {
        return Err(taken(found));
    }
    sync_directory(from)?;
    destroy(to)?;
    fs::rename(from, to)?;
    sync_directory(to)
}

/// The file of this name, if there is one.
fn writable(path: &Path) -> io::Result<Option<File>> {
    match OpenOptions::new().write(true).open(path) {
        Ok(file) => Ok(Some(file)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// Removes a file that holds a secret, which is overwritten where it lies before it loses its name: under every
/// other name that it has too. As far as [`replace_secret`] can.
///
/// # Errors
/// The system's answer; [`io::ErrorKind::NotFound`] where there is none.
pub fn remove_secret(path: &Path) -> io::Result<()> {
    destroy(path)?;
    fs::remove_file(path)?;
    sync_directory(path)
}

/// Overwrites a file where it lies, if there is one.
fn destroy(path: &Path) -> io::Result<()> {
    // A symbolic link's target is somebody else's.
    let flag = rustix::fs::OFlags::NOFOLLOW.bits().cast_signed();
    let file = match OpenOptions::new().write(true).custom_flags(flag).open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        file => file?,
    };
    let found = file.metadata()?;
    if found.nlink() > 1 {
        let (path, names) = (path.display(), found.nlink());
        tracing::warn!(%path, names, "a secret that is destroyed has other names: under these too");
    }
    zero(&file, found.len())
}

/// Overwrites a file that has no name any more, which was of this path. One that has another name is kept.
fn overwrite(path: &Path, file: &File) -> io::Result<()> {
    let found = file.metadata()?;
    if found.nlink() > 0 {
        let (path, names) = (path.display(), found.nlink());
        tracing::warn!(%path, names, "a secret that was replaced has another name, and stays there");
        return Ok(());
    }
    zero(file, found.len())
}

fn zero(mut file: &File, length: u64) -> io::Result<()> {
    let length = usize::try_from(length).map_err(io::Error::other)?;
    file.write_all(&vec![0; length])?;
    file.sync_all()
}

/// A new file that is written bit by bit, under a name beside its own. Dropped before its end, nothing of it
/// is left.
#[derive(Debug)]
pub struct NewFile {
    temporary: PathBuf,
    path: PathBuf,
    file: File,
}

impl NewFile {
    /// Begins a file with the given permission bits.
    ///
    /// # Errors
    /// [`io::ErrorKind::AlreadyExists`] where something has the name, or the system's answer.
    pub fn begin(path: &Path, mode: u32) -> io::Result<Self> {
        if let Ok(found) = path.symlink_metadata() {
            return Err(taken(found.file_type()));
        }
        let temporary = beside(path)?;
        fill(&temporary, &[], mode)?;
        let file = OpenOptions::new().write(true).open(&temporary)?;
        Ok(Self { temporary, path: path.to_owned(), file })
    }

    /// Gives the file its name, durably, unless another has taken it meanwhile.
    ///
    /// # Errors
    /// As [`write()`].
    pub fn finish(self) -> io::Result<()> {
        self.file.sync_all()?;
        match fs::hard_link(&self.temporary, &self.path) {
            // Without links it is moved, and a file that took the name in this moment is lost.
            Err(error) if has_no_links(&error) => {
                is_free(&self.path)?;
                fs::rename(&self.temporary, &self.path)?;
            }
            named => named?,
        }
        sync_directory(&self.path)
    }
}

impl io::Write for NewFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.file.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

impl Drop for NewFile {
    fn drop(&mut self) {
        // Where it was moved it is not there any more.
        let _moved = fs::remove_file(&self.temporary);
    }
}

fn fill(path: &Path, bytes: &[u8], mode: u32) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).create_new(true).mode(mode).open(path)?;
    // For others too, where this process's own mask would leave it to the owner.
    if mode & 0o077 != 0 && hardening::is_masked() {
        file.set_permissions(Permissions::from_mode(hardening::public_mode(mode)))?;
    }
    file.write_all(bytes)?;
    file.sync_all()
}

/// Gives a file a name that is free. Some file systems (exFAT, SMB shares) have no second names for a
/// file, so that nothing can be put at a free name whole: the file is made there then, and a reader may
/// meet it half written.
fn give_name(temporary: &Path, path: &Path, bytes: &[u8], mode: u32) -> io::Result<()> {
    match fs::hard_link(temporary, path) {
        Err(error) if has_no_links(&error) => fill(path, bytes, mode).inspect_err(|error| {
            // Not where another file has taken the name meanwhile.
            if error.kind() != io::ErrorKind::AlreadyExists {
                let _left_behind = fs::remove_file(path);
            }
        }),
        named => named,
    }
}

/// Whether a file system says with this error that it has no links: which error it is differs among them.
fn has_no_links(error: &io::Error) -> bool {
    use rustix::io::Errno;
    let says =
        [Errno::PERM, Errno::OPNOTSUPP, Errno::NOSYS, Errno::MLINK, Errno::XDEV, Errno::INVAL];
    says.iter().any(|errno| error.raw_os_error() == Some(errno.raw_os_error()))
}

/// `.<name>.<pid>.new`, in the same directory.
fn beside(path: &Path) -> io::Result<PathBuf> {
    let name = path.file_name().ok_or(io::ErrorKind::InvalidInput)?.to_string_lossy();
    Ok(path.with_file_name(format!(".{name}.{}.new", std::process::id())))
}

/// Makes the names in the directory of a file durable.
///
/// # Errors
/// The system's answer.
pub fn sync_directory(path: &Path) -> io::Result<()> {
    let directory = path.parent().filter(|parent| !parent.as_os_str().is_empty());
    File::open(directory.unwrap_or(Path::new(".")))?.sync_all()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn nothing_that_is_there_is_written_over() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = |name: &str| directory.path().join(name);
        fs::write(path("a.key"), "secret").expect("written");
        fs::create_dir(path("folder")).expect("made");
        symlink(path("a.key"), path("link")).expect("made");
        symlink(path("nothing"), path("dangling")).expect("made");
        for (name, what) in [
            ("a.key", "a file"),
            ("folder", "a directory"),
            ("link", "a symbolic link"),
            ("dangling", "a symbolic link"),
        ] {
            for error in [output(&path(name), b"new"), is_free(&path(name))] {
                let error = error.expect_err("refused");
                assert_eq!(error.kind(), io::ErrorKind::AlreadyExists, "{name}");
                assert!(error.to_string().starts_with(what), "{name}: {error}");
            }
            if name != "a.key" {
                replace(&path(name), b"new", 0o644).expect_err("no regular file");
            }
        }
        assert_eq!(fs::read(path("a.key")).expect("there"), b"secret");
        is_free(&path("new")).expect("free");
        output(&path("new"), b"new").expect("written");
        assert_eq!(fs::read(path("new")).expect("there"), b"new");
        assert_eq!(
            fs::read_dir(directory.path()).expect("there").count(),
            5,
            "nothing beside them"
        );
    }

    #[test]
    fn a_file_is_made_whole_where_the_file_system_has_no_links_and_never_over_another() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("a.key");
        let temporary = directory.path().join(".a.key.new");
        fs::write(&temporary, "new").expect("written");
        // Across file systems a link cannot be made, as on one that has none.
        let elsewhere = Path::new("/dev/shm").join(format!("customhouse-{}", std::process::id()));
        fs::write(&elsewhere, "new").expect("written");
        for errno in [rustix::io::Errno::PERM, rustix::io::Errno::OPNOTSUPP] {
            assert!(has_no_links(&io::Error::from_raw_os_error(errno.raw_os_error())));
        }
        give_name(&elsewhere, &path, b"new", 0o600).expect("written");
        let mode = fs::metadata(&path).expect("there").permissions().mode();
        assert_eq!((fs::read(&path).expect("there"), mode & 0o777), (b"new".to_vec(), 0o600));
        fs::write(&path, "other").expect("written");
        let taken = give_name(&elsewhere, &path, b"new", 0o600).expect_err("taken");
        assert_eq!(taken.kind(), io::ErrorKind::AlreadyExists);
        assert_eq!(fs::read(&path).expect("there"), b"other");
        fs::remove_file(&elsewhere).expect("there");
    }

    #[test]
    fn a_file_that_is_written_bit_by_bit_has_its_name_at_the_end_or_never() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("a.pdf");
        let begun = || {
            let mut file = NewFile::begin(&path, 0o600).expect("begun");
            file.write_all(b"new").expect("written");
            file
        };
        drop(begun());
        assert_eq!(fs::read_dir(directory.path()).expect("there").count(), 0);
        begun().finish().expect("named");
        assert_eq!(fs::read(&path).expect("there"), b"new");
        let refused = NewFile::begin(&path, 0o600).expect_err("taken");
        assert_eq!(refused.kind(), io::ErrorKind::AlreadyExists);
        assert_eq!(fs::read_dir(directory.path()).expect("there").count(), 1);
    }

    /// Who is not root owns what there is.
    #[test]
    fn what_takes_the_place_of_a_file_has_its_owner() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("a.key");
        fs::write(&path, "first").expect("written");
        if rustix::process::geteuid().is_root() {
            chown(&path, Some(65_534), Some(65_534)).expect("given away");
        }
        let owner = |path: &Path| {
            let found = fs::metadata(path).expect("there");
            (found.uid(), found.gid())
        };
        let before = owner(&path);
        replace_secret(&path, b"second").expect("replaced");
        assert_eq!(owner(&path), before);
        assert_eq!(fs::read(&path).expect("there"), b"second");
    }

    fn content(mut file: &File) -> Vec<u8> {
        let mut content = Vec::new();
        io::Read::read_to_end(&mut file, &mut content).expect("readable");
        content
    }

    #[test]
    fn a_secret_that_is_replaced_or_removed_is_overwritten_where_it_lay() {
        let directory = tempfile::tempdir().expect("a directory");
        let (path, copy) = (directory.path().join("a.key"), directory.path().join("copy"));
        replace_secret(&path, b"first").expect("written");
        let first = File::open(&path).expect("there");
        replace_secret(&path, b"second").expect("written");
        assert_eq!(content(&first), [0; 5]);
        fs::hard_link(&path, &copy).expect("another name");
        replace_secret(&path, b"third").expect("written");
        assert_eq!(fs::read(&copy).expect("there"), b"second", "it is kept");
        fs::hard_link(&path, directory.path().join("other")).expect("another name");
        let third = File::open(&path).expect("there");
        remove_secret(&path).expect("removed");
        assert_eq!(content(&third), [0; 5], "under every name");
        assert_eq!(remove_secret(&path).expect_err("gone").kind(), io::ErrorKind::NotFound);
        symlink(&copy, &path).expect("made");
        remove_secret(&path).expect_err("a link is no file of ours");
        assert_eq!(fs::read(&copy).expect("there"), b"second");
    }

    /// What a network file system shows of a file that is open, too: it has a name, whatever is moved over it.
    #[test]
    fn a_secret_that_another_takes_the_place_of_is_destroyed_under_every_name_before_it_goes() {
        let directory = tempfile::tempdir().expect("a directory");
        let [old, new, copy] = ["old", "new", "copy"].map(|name| directory.path().join(name));
        fs::write(&old, "first").expect("written");
        fs::write(&new, "second").expect("written");
        fs::hard_link(&old, &copy).expect("another name");
        move_over_secret(&new, &old).expect("moved");
        assert_eq!(fs::read(&copy).expect("there"), [0; 5]);
        assert_eq!(fs::read(&old).expect("there"), b"second");
        assert!(!new.exists());
        move_over_secret(&new, &old).expect_err("there is nothing to take its place");
        assert_eq!(fs::read(&old).expect("there"), b"second");
    }

    #[test]
    fn a_device_is_written_to_and_stays_one() {
        let directory = tempfile::tempdir().expect("a directory");
        let link = directory.path().join("null");
        symlink("/dev/null", &link).expect("made");
        for path in [Path::new("/dev/null"), &link] {
            is_free(path).expect("free");
            output(path, b"bytes").expect("written");
            replace(path, b"bytes", 0o644).expect_err("no regular file");
            assert!(path.metadata().expect("there").file_type().is_char_device());
        }
        assert!(link.is_symlink());
    }
}
