//! A passphrase typed at the terminal, which does not show it.
//!
//! What is typed comes key by key, the keys that interrupt, quit and suspend among them: the terminal is as it was
//! before such a signal is sent on, as with `readpassphrase(3)`, and after a suspension the question is asked again.
//! No handler of signals is needed for that, which a library could not take away again. Whoever continues a process
//! that was stopped in another way finds what is typed hidden again in a moment. A signal that ends the process
//! and comes from elsewhere than the keyboard leaves a terminal without echo behind (`stty sane`).

use std::{
    fs::File,
    io::{self, Read, Write as _},
};

use rustix::{
    process::{Signal, kill_current_process_group},
    termios::{LocalModes, OptionalActions, SpecialCodeIndex, Termios, tcgetattr, tcsetattr},
};
use zeroize::Zeroizing;

use super::{BYTES_MAX, Passphrase, PassphraseError};

/// Tenths of a second after which the terminal is looked at again.
const IDLE_TENTHS: u8 = 2;

/// Asks at the process' own terminal, whatever its standard input and output are.
pub(super) fn ask(prompt: &str) -> Result<Passphrase, PassphraseError> {
    let terminal = File::options().read(true).write(true).open("/dev/tty");
    // To all that the terminal would have told, such as the script that runs this process.
    let raise = |signal| kill_current_process_group(signal).map_err(io::Error::from);
    ask_at(&terminal.map_err(PassphraseError::NoTerminal)?, prompt, &raise)
}

fn ask_at(
    terminal: &File,
    prompt: &str,
    raise: &dyn Fn(Signal) -> io::Result<()>,
) -> Result<Passphrase, PassphraseError> {
    let failed = PassphraseError::Terminal;
    loop {
        let typed = {
            let quiet = Quiet::of(terminal).map_err(PassphraseError::NoTerminal)?;
            // After the echo is off: whoever waits for the prompt types nothing that is shown.
            let (mut input, mut output) = (terminal, terminal);
            output.write_all(prompt.as_bytes()).map_err(failed)?;
            let typed = line(&mut input, &quiet.keys(), || quiet.again());
            // What is printed next begins a line.
            output.write_all(b"\n").map_err(failed)?;
            typed.map_err(failed)?
        };
        match typed {
            Typed::Line(typed) => return Passphrase::new(&typed),
            Typed::Signal(signal) => {
                raise(signal).map_err(failed)?;
                if signal != Signal::TSTP {
                    // Somebody else in the process has taken it.
                    return Err(failed(io::ErrorKind::Interrupted.into()));
                }
            }
        }
    }
}

/// A terminal that does not show what is typed, and gives it key by key, until this is dropped.
struct Quiet<'a> {
    terminal: &'a File,
    before: Termios,
    quiet: Termios,
}

impl<'a> Quiet<'a> {
    fn of(terminal: &'a File) -> io::Result<Self> {
        let before = tcgetattr(terminal)?;
        let mut quiet = before.clone();
        let by_the_terminal = LocalModes::ICANON | LocalModes::ISIG | LocalModes::IEXTEN;
        quiet.local_modes.remove(LocalModes::ECHO | LocalModes::ECHONL | by_the_terminal);
        quiet.special_codes[SpecialCodeIndex::VMIN] = 0;
        quiet.special_codes[SpecialCodeIndex::VTIME] = IDLE_TENTHS;
        // What was typed before the question is no answer to it.
        tcsetattr(terminal, OptionalActions::Flush, &quiet)?;
        Ok(Self { terminal, before, quiet })
    }

    /// Hides what is typed again, where somebody has changed that: a shell, while the process was stopped.
    fn again(&self) -> io::Result<()> {
        // Fails where the terminal is gone.
        if tcgetattr(self.terminal)?.local_modes != self.quiet.local_modes {
            tcsetattr(self.terminal, OptionalActions::Now, &self.quiet)?;
        }
        Ok(())
    }

    /// What the keys mean to the user who set this terminal up.
    fn keys(&self) -> Keys {
        let key = |index| Some(self.before.special_codes[index]).filter(|code| *code != 0);
        let of = |signal, index| {
            let key = key(index).filter(|_| self.before.local_modes.contains(LocalModes::ISIG));
            (key, signal)
        };
        Keys {
            signals: [
                of(Signal::INT, SpecialCodeIndex::VINTR),
                of(Signal::QUIT, SpecialCodeIndex::VQUIT),
                of(Signal::TSTP, SpecialCodeIndex::VSUSP),
            ],
            erase: key(SpecialCodeIndex::VERASE),
            kill: key(SpecialCodeIndex::VKILL),
            end: key(SpecialCodeIndex::VEOF),
        }
    }
}

impl Drop for Quiet<'_> {
    fn drop(&mut self) {
        // What was typed after the answer is not shown to whoever reads next. A terminal that is gone needs no echo.
        let _gone = tcsetattr(self.terminal, OptionalActions::Flush, &self.before);
    }
}

/// The keys that are no part of what is typed.
struct Keys {
    signals: [(Option<u8>, Signal); 3],
    erase: Option<u8>,
    kill: Option<u8>,
    end: Option<u8>,
}

/// What came of a question.
enum Typed {
    Line(Zeroizing<String>),
    Signal(Signal),
}

/// One line to its end, byte by byte: a buffer of the library's would keep what follows, and is not wiped. `idle` is
/// called when nothing was typed for a while.
fn line(
    input: &mut impl Read,
    keys: &Keys,
    mut idle: impl FnMut() -> io::Result<()>,
) -> io::Result<Typed> {
    // Room for the whole at once: a buffer that grows leaves a copy behind.
    let mut bytes = Zeroizing::new(Vec::with_capacity(BYTES_MAX + 1));
    let mut byte = Zeroizing::new([0]);
    loop {
        match input.read(&mut *byte) {
            Ok(0) => {
                idle()?;
                continue;
            }
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(error),
        }
        let key = Some(byte[0]);
        if let Some((_, signal)) = keys.signals.iter().find(|(code, _)| *code == key) {
            return Ok(Typed::Signal(*signal));
        }
        if byte[0] == b'\n' || (key == keys.end && !bytes.is_empty()) {
            break;
        } else if key == keys.end {
            return Err(io::ErrorKind::UnexpectedEof.into());
        } else if key == keys.erase {
            // A character, which may have several bytes.
            while bytes.pop().is_some_and(|byte| byte & 0xc0 == 0x80) {}
        } else if key == keys.kill {
            bytes.clear();
        } else if bytes.len() <= BYTES_MAX {
            bytes.push(byte[0]);
        }
        // What is too long is read to its end all the same, and is not left to whoever reads next.
    }
    let text = String::from_utf8(std::mem::take(&mut *bytes)).map_err(|error| {
        drop(Zeroizing::new(error.into_bytes()));
        io::Error::new(io::ErrorKind::InvalidData, "not a text of UTF-8")
    });
    Ok(Typed::Line(Zeroizing::new(text?)))
}

#[cfg(test)]
mod tests {
    use std::{cell::RefCell, fs, thread, time};

    use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};

    use super::*;

    /// A terminal, and the other end of its line.
    fn pseudo_terminal() -> (File, File) {
        let keyboard = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).expect("a terminal");
        grantpt(&keyboard).and_then(|()| unlockpt(&keyboard)).expect("allowed");
        let name = ptsname(&keyboard, Vec::new()).expect("a name");
        let name = name.into_string().expect("a text");
        let flag = rustix::fs::OFlags::NOCTTY.bits().cast_signed();
        let mut options = File::options();
        std::os::unix::fs::OpenOptionsExt::custom_flags(&mut options, flag);
        let terminal = options.read(true).write(true).open(name).expect("there");
        (File::from(keyboard), terminal)
    }

    fn shown(keyboard: &mut File, expected: &str) {
        let mut shown = vec![0; expected.len()];
        keyboard.read_exact(&mut shown).expect("shown");
        assert_eq!(String::from_utf8_lossy(&shown), expected);
    }

    fn never(signal: Signal) -> io::Result<()> {
        panic!("{signal:?} was not typed")
    }

    fn modes(terminal: &File) -> LocalModes {
        tcgetattr(terminal).expect("a terminal").local_modes
    }

    #[test]
    fn what_is_typed_is_taken_and_not_shown_and_the_terminal_is_as_before() {
        let (mut keyboard, terminal) = pseudo_terminal();
        let before = modes(&terminal);
        let asked = thread::spawn(move || {
            let passphrase = ask_at(&terminal, "Passphrase? ", &never).expect("typed");
            (passphrase, modes(&terminal), terminal)
        });
        shown(&mut keyboard, "Passphrase? ");
        keyboard.write_all(b"correct horse\n").expect("typed");
        let (passphrase, after, terminal) = asked.join().expect("no panic");
        assert_eq!(passphrase.as_bytes(), b"correct horse");
        assert_eq!(after, before);
        (&terminal).write_all(b"end").expect("shown");
        shown(&mut keyboard, "\r\nend");
    }

    #[test]
    fn who_breaks_off_or_suspends_finds_the_terminal_as_before_and_is_asked_again() {
        let (mut keyboard, terminal) = pseudo_terminal();
        let before = modes(&terminal);
        let asked = thread::spawn(move || {
            let raised = RefCell::new(Vec::new());
            let raise = |signal| {
                raised.borrow_mut().push((signal, modes(&terminal) == before));
                Ok(())
            };
            let passphrase = ask_at(&terminal, "? ", &raise).expect("typed");
            let error = ask_at(&terminal, "again? ", &raise).expect_err("broken off");
            assert!(matches!(&error, PassphraseError::Terminal(source)
                if source.kind() == io::ErrorKind::Interrupted));
            (passphrase, raised.into_inner(), terminal)
        });
        shown(&mut keyboard, "? ");
        keyboard.write_all(b"half\x1a").expect("suspended");
        shown(&mut keyboard, "\r\n? ");
        keyboard.write_all("other\x15two \u{e9}\x7fwords\n".as_bytes()).expect("typed");
        shown(&mut keyboard, "\r\nagain? ");
        keyboard.write_all(b"half\x03").expect("broken off");
        let (passphrase, raised, _terminal) = asked.join().expect("no panic");
        assert_eq!(passphrase.as_bytes(), b"two words");
        assert_eq!(raised, [(Signal::TSTP, true), (Signal::INT, true)]);
    }

    #[test]
    fn what_is_typed_is_hidden_again_where_a_shell_has_set_the_terminal_up_meanwhile() {
        let (mut keyboard, terminal) = pseudo_terminal();
        let shell = terminal.try_clone().expect("another handle");
        let before = tcgetattr(&shell).expect("a terminal");
        let asked = thread::spawn(move || ask_at(&terminal, "? ", &never).expect("typed"));
        shown(&mut keyboard, "? ");
        tcsetattr(&shell, OptionalActions::Now, &before).expect("set");
        let deadline = time::Instant::now() + time::Duration::from_secs(60);
        while modes(&shell).contains(LocalModes::ECHO) {
            assert!(time::Instant::now() < deadline, "what is typed is still shown");
            thread::yield_now();
        }
        keyboard.write_all(b"secret\n").expect("typed");
        assert_eq!(asked.join().expect("no panic").as_bytes(), b"secret");
        shown(&mut keyboard, "\r\n");
    }

    #[test]
    fn what_is_no_terminal_is_not_asked() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("file");
        fs::write(&path, "passphrase\n").expect("written");
        let file = File::options().read(true).write(true).open(&path).expect("there");
        let error = ask_at(&file, "Passphrase? ", &never).expect_err("refused");
        assert_eq!(error.code(), "PASSPHRASE_NO_TERMINAL");
        assert_eq!(fs::read(&path).expect("there"), b"passphrase\n");
    }

    #[test]
    fn a_line_ends_where_it_does_and_is_read_to_its_end() {
        let keys =
            Keys { signals: [(None, Signal::INT); 3], erase: None, kill: None, end: Some(4) };
        let taken = |mut bytes: &[u8]| {
            let typed = line(&mut bytes, &keys, || Err(io::ErrorKind::UnexpectedEof.into()))?;
            let Typed::Line(text) = typed else { panic!("no signal") };
            Ok::<_, io::Error>((text, bytes.len()))
        };
        for (typed, text, left) in [("a b\nc", "a b", 1), ("a b\x04c", "a b", 1)] {
            let (line, rest) = taken(typed.as_bytes()).expect("a line");
            assert_eq!((&**line, rest), (text, left));
        }
        // Hung up, at the end, and no text.
        for broken in [&b"a b"[..], b"", b"\x04", b"\xff\n"] {
            assert!(taken(broken).is_err(), "{broken:?}");
        }
        let mut long = vec![b'x'; 2 * BYTES_MAX];
        long.push(b'\n');
        let (line, rest) = taken(&long).expect("cut");
        assert_eq!(rest, 0);
        assert!(Passphrase::new(&line).is_err());
    }
}
