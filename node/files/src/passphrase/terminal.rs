//! A passphrase typed at the terminal, which does not show it.

use std::{
    fs::File,
    io::{self, Read, Write as _},
};

use rustix::termios::{LocalModes, OptionalActions, Termios, tcgetattr, tcsetattr};
use zeroize::Zeroizing;

use super::{BYTES_MAX, Passphrase, PassphraseError};

/// Asks at the process' own terminal, whatever its standard input and output are.
pub(super) fn ask(prompt: &str) -> Result<Passphrase, PassphraseError> {
    let terminal = File::options().read(true).write(true).open("/dev/tty");
    ask_at(&terminal.map_err(PassphraseError::NoTerminal)?, prompt)
}

fn ask_at(terminal: &File, prompt: &str) -> Result<Passphrase, PassphraseError> {
    let typed = {
        let _quiet = Quiet::of(terminal).map_err(PassphraseError::NoTerminal)?;
        // After the echo is off: whoever waits for the prompt types nothing that is shown.
        let (mut input, mut output) = (terminal, terminal);
        output.write_all(prompt.as_bytes()).map_err(PassphraseError::Terminal)?;
        line(&mut input).map_err(PassphraseError::Terminal)?
    };
    Passphrase::new(&typed)
}

/// A terminal that does not show what is typed, until this is dropped. Its signals stay as they are: who
/// breaks off leaves a terminal without echo behind, as with other programs (`stty echo`).
struct Quiet<'a> {
    terminal: &'a File,
    before: Termios,
}

impl<'a> Quiet<'a> {
    fn of(terminal: &'a File) -> io::Result<Self> {
        let before = tcgetattr(terminal)?;
        let mut quiet = before.clone();
        quiet.local_modes.remove(LocalModes::ECHO);
        // The end of the line is shown, so that what is printed next begins one.
        quiet.local_modes.insert(LocalModes::ECHONL | LocalModes::ICANON);
        // What was typed before the question is no answer to it.
        tcsetattr(terminal, OptionalActions::Flush, &quiet)?;
        Ok(Self { terminal, before })
    }
}

impl Drop for Quiet<'_> {
    fn drop(&mut self) {
        // A terminal that is gone needs no echo.
        let _gone = tcsetattr(self.terminal, OptionalActions::Now, &self.before);
    }
}

/// One line, byte by byte: a buffer of the library's would keep what follows, and is not wiped.
fn line(input: &mut impl Read) -> io::Result<Zeroizing<String>> {
    // Room for the whole at once: a buffer that grows leaves a copy behind.
    let mut bytes = Zeroizing::new(Vec::with_capacity(BYTES_MAX + 1));
    let mut byte = Zeroizing::new([0]);
    while bytes.len() <= BYTES_MAX {
        match input.read(&mut *byte) {
            Ok(0) if bytes.is_empty() => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(0) => break,
            Ok(_) if byte[0] == b'\n' => break,
            Ok(_) => bytes.push(byte[0]),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    String::from_utf8(std::mem::take(&mut *bytes)).map(Zeroizing::new).map_err(|error| {
        drop(Zeroizing::new(error.into_bytes()));
        io::Error::new(io::ErrorKind::InvalidData, "not a text of UTF-8")
    })
}

#[cfg(test)]
mod tests {
    use std::{fs, thread};

    use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};

    use super::*;

    /// A terminal, and the other end of its line.
    fn pseudo_terminal() -> (File, File) {
        let keyboard = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).expect("a terminal");
        grantpt(&keyboard).and_then(|()| unlockpt(&keyboard)).expect("allowed");
        let name = ptsname(&keyboard, Vec::new()).expect("a name");
        let name = name.into_string().expect("a text");
        let terminal = File::options().read(true).write(true).open(name).expect("there");
        (File::from(keyboard), terminal)
    }

    #[test]
    fn what_is_typed_is_taken_and_not_shown_and_the_terminal_is_as_before() {
        let (mut keyboard, terminal) = pseudo_terminal();
        let before = tcgetattr(&terminal).expect("a terminal").local_modes;
        let asked = thread::spawn(move || {
            let passphrase = ask_at(&terminal, "Passphrase? ").expect("typed");
            (passphrase, tcgetattr(&terminal).expect("a terminal").local_modes, terminal)
        });
        let mut shown = vec![0; "Passphrase? ".len()];
        keyboard.read_exact(&mut shown).expect("asked");
        keyboard.write_all(b"correct horse\n").expect("typed");
        let (passphrase, after, terminal) = asked.join().expect("no panic");
        assert_eq!(passphrase.as_bytes(), b"correct horse");
        assert_eq!(after, before);
        (&terminal).write_all(b"end").expect("shown");
        let mut rest = vec![0; 5];
        keyboard.read_exact(&mut rest).expect("shown");
        assert_eq!([&*shown, &*rest].concat(), b"Passphrase? \r\nend");
    }

    #[test]
    fn what_is_no_terminal_is_not_asked() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("file");
        fs::write(&path, "passphrase\n").expect("written");
        let file = File::options().read(true).write(true).open(&path).expect("there");
        let error = ask_at(&file, "Passphrase? ").expect_err("refused");
        assert_eq!(error.code(), "PASSPHRASE_NO_TERMINAL");
        assert_eq!(fs::read(&path).expect("there"), b"passphrase\n");
    }

    #[test]
    fn a_line_ends_where_it_does() {
        let taken = |bytes: &[u8]| line(&mut &*bytes);
        assert_eq!(&**taken(b"a b\nc").expect("a line"), "a b");
        assert_eq!(&**taken(b"a b").expect("a line"), "a b");
        assert!(taken(b"").is_err() && taken(b"\xff\n").is_err());
        let long = taken(&[b'x'; 2 * BYTES_MAX]).expect("cut");
        assert!(Passphrase::new(&long).is_err());
    }
}
