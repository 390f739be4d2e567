//! The terminal: taken, drawn on, asked for keys, and given back as it was, also after a panic or a
//! signal. Nothing else here writes to it.

use std::io::{self, Read};
use std::panic;
use std::process;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::termios::{
    InputModes, LocalModes, OptionalActions, QueueSelector, SpecialCodeIndex, Termios, isatty,
    tcflush, tcgetattr, tcgetwinsize, tcsetattr,
};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM, SIGWINCH};

use super::frame::{Frame, Size, Tone};

/// A terminal in use; it is given back when this goes.
pub(crate) struct Terminal {
    /// SIGTERM, SIGINT or SIGHUP came.
    ended: Arc<AtomicBool>,
    /// Its size has changed.
    resized: Arc<AtomicBool>,
}

/// What somebody wants.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Key {
    Quit,
    Up,
    Down,
    Left,
    Right,
    Number(usize),
    /// Nothing, but it is to be drawn anew.
    Redraw,
}

/// How the terminal was; taken from here by whoever gives it back.
static BEFORE: Mutex<Option<Termios>> = Mutex::new(None);

impl Terminal {
    pub(crate) fn take() -> Result<Self> {
        let (input, output) = (io::stdin(), io::stdout());
        if !isatty(&input) || !isatty(&output) {
            bail!("expected a terminal, found none; `top --once` prints one picture");
        }
        let (ended, resized) = (Arc::default(), Arc::default());
        for signal in [SIGTERM, SIGINT, SIGHUP] {
            signal_hook::flag::register(signal, Arc::clone(&ended)).context("catching signals")?;
        }
        signal_hook::flag::register(SIGWINCH, Arc::clone(&resized)).context("catching signals")?;
        let before = tcgetattr(&input).context("asking the terminal how it is")?;
        let mut mine = before.clone();
        // Keys come one by one and are not shown. Ctrl-C is one of them.
        mine.local_modes.remove(LocalModes::ICANON | LocalModes::ECHO | LocalModes::ISIG);
        // So is Ctrl-S, which would stop what is drawn.
        mine.input_modes.remove(InputModes::IXON);
        mine.special_codes[SpecialCodeIndex::VMIN] = 0;
        mine.special_codes[SpecialCodeIndex::VTIME] = 0;
        *BEFORE.lock().unwrap_or_else(PoisonError::into_inner) = Some(before);
        let terminal = Self { ended, resized };
        give_back_before_a_panic_is_told();
        tcsetattr(&input, OptionalActions::Now, &mine).context("taking the terminal")?;
        terminal.write(ENTER)?;
        Ok(terminal)
    }

    /// Draws; what was there is not seen to go.
    pub(crate) fn draw(&self, frame: &Frame) -> Result<()> {
        let mut text = String::from("\x1b[H");
        let count = frame.lines.len();
        for (at, line) in frame.lines.iter().enumerate() {
            let tone = match line.tone {
                Tone::Title => "\x1b[7m",
                Tone::Head => "\x1b[1m",
                Tone::Bad => "\x1b[31m",
                Tone::Plain => "",
            };
            let end = if at + 1 < count { "\r\n" } else { "" };
            text += &format!("{tone}{}\x1b[0m\x1b[K{end}", line.text);
        }
        text += "\x1b[J";
        self.write(&text)
    }

    /// Writes, unless a signal comes first: who reads a terminal may have gone for long.
    fn write(&self, text: &str) -> Result<()> {
        let (output, mut bytes) = (io::stdout(), text.as_bytes());
        while !bytes.is_empty() && !self.ended.load(Ordering::Acquire) {
            match rustix::io::write(&output, bytes) {
                Ok(len) => bytes = &bytes[len..],
                Err(rustix::io::Errno::INTR) => {}
                Err(error) => return Err(error).context("writing to the terminal"),
            }
        }
        Ok(())
    }

    /// The next key, or that time is up.
    pub(crate) fn key_within(&self, time: Duration) -> Result<Option<Key>> {
        let input = io::stdin();
        let time = Timespec::try_from(time).context("reckoning a time")?;
        let mut fds = [PollFd::new(&input, PollFlags::IN)];
        match poll(&mut fds, Some(&time)) {
            // A signal ends it; which, the flags say.
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error).context("waiting for a key"),
        }
        if self.ended.load(Ordering::Acquire) {
            return Ok(Some(Key::Quit));
        }
        if self.resized.swap(false, Ordering::AcqRel) {
            return Ok(Some(Key::Redraw));
        }
        if fds[0].revents().is_empty() {
            return Ok(None);
        }
        let mut bytes = [0; 16];
        match input.lock().read(&mut bytes) {
            // The terminal is gone.
            Ok(0) => Ok(Some(Key::Quit)),
            Ok(len) => Ok(key(&bytes[..len])),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => Ok(None),
            Err(_) => Ok(Some(Key::Quit)),
        }
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        give_back();
    }
}

/// Its size; 80 columns and 24 rows where there is none.
pub(crate) fn size_of_output() -> Size {
    let (columns, rows) = match tcgetwinsize(io::stdout()) {
        Ok(it) if it.ws_col > 0 && it.ws_row > 0 => (it.ws_col, it.ws_row),
        _ => (80, 24),
    };
    Size { columns: columns.into(), rows: rows.into() }
}

/// What bytes of a terminal mean.
fn key(bytes: &[u8]) -> Option<Key> {
    Some(match bytes {
        b"q" | b"Q" | b"\x03" | b"\x1b" => Key::Quit,
        b"k" | b"\x1b[A" | b"\x1bOA" => Key::Up,
        b"j" | b" " | b"\x1b[B" | b"\x1bOB" => Key::Down,
        b"h" | b"\x1b[D" | b"\x1bOD" => Key::Left,
        b"l" | b"\t" | b"\x1b[C" | b"\x1bOC" => Key::Right,
        b"\x0c" => Key::Redraw,
        [digit @ b'1'..=b'9'] => Key::Number(usize::from(digit - b'0')),
        // Several at once: who presses many wants the last.
        [.., last @ (b'q' | b'\x03')] => return key(&[*last]),
        _ => return None,
    })
}

/// Otherwise the message would go with the picture. Whichever thread it was, nothing is drawn after it.
fn give_back_before_a_panic_is_told() {
    let told = panic::take_hook();
    panic::set_hook(Box::new(move |info| {
        give_back();
        told(info);
        process::exit(PANICKED);
    }));
}

/// Once, by whoever is first.
fn give_back() {
    let before = BEFORE.lock().unwrap_or_else(PoisonError::into_inner).take();
    if let Some(before) = before {
        // There is nobody left to tell of an error. What nobody has read yet makes room.
        let _ = tcflush(io::stdout(), QueueSelector::OFlush);
        let _ = rustix::io::write(io::stdout(), LEAVE.as_bytes());
        let _ = tcsetattr(io::stdin(), OptionalActions::Now, &before);
    }
}

/// Another screen, without a cursor, and lines that are cut; and back.
const ENTER: &str = "\x1b[?1049h\x1b[?25l\x1b[?7l\x1b[2J";
const LEAVE: &str = "\x1b[0m\x1b[?7h\x1b[?25h\x1b[?1049l";
/// What a process ends with whose main thread panics.
const PANICKED: i32 = 101;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_letters_arrows_and_numbers() {
        let table: [(&[u8], Option<Key>); 10] = [
            (b"q", Some(Key::Quit)),
            (b"\x03", Some(Key::Quit)),
            (b"jjq", Some(Key::Quit)),
            (b"\x1b[A", Some(Key::Up)),
            (b"\x1bOB", Some(Key::Down)),
            (b"j", Some(Key::Down)),
            (b"3", Some(Key::Number(3))),
            (b"0", None),
            (b"\x1b[200~", None),
            (b"x", None),
        ];
        for (bytes, expected) in table {
            assert_eq!(key(bytes), expected, "{bytes:?}");
        }
    }
}
