//! Questions on the terminal, with and without what is typed being seen.

use std::io::{self, BufRead as _, Read as _, Write as _};

use rustix::termios::{
    LocalModes, OptionalActions, SpecialCodeIndex, Termios, tcgetattr, tcsetattr,
};

/// Longest answer, in bytes.
const ANSWER_MAX: usize = 64 << 10;

/// Asks on standard error; the line that is typed on standard input. `None` at its end.
pub(crate) fn line(question: &str) -> io::Result<Option<String>> {
    ask(question)?;
    let mut answer = String::new();
    let length = io::stdin().lock().take(ANSWER_MAX as u64).read_line(&mut answer)?;
    Ok((length > 0).then(|| answer.trim_end_matches(['\n', '\r']).to_owned()))
}

/// The same without showing what is typed. `None` at the end of the input, and when it is interrupted.
pub(crate) fn secret(question: &str) -> io::Result<Option<String>> {
    // Before the question: whoever sees it may type at once.
    let silence = Silence::begin()?;
    ask(question)?;
    let typed = Typing::default().read(&mut io::stdin().lock());
    drop(silence);
    writeln!(io::stderr())?;
    typed
}

fn ask(question: &str) -> io::Result<()> {
    let mut stderr = io::stderr().lock();
    stderr.write_all(question.as_bytes())?;
    stderr.flush()
}

/// Standard input gives each key at once, and shows none; as before when dropped. Ctrl-C is a key as well:
/// as a signal it would end the program, and leave the terminal silent.
struct Silence {
    before: Termios,
}

impl Silence {
    fn begin() -> io::Result<Self> {
        let before = tcgetattr(io::stdin())?;
        let mut silent = before.clone();
        silent.local_modes -= LocalModes::ECHO | LocalModes::ICANON | LocalModes::ISIG;
        silent.special_codes[SpecialCodeIndex::VMIN] = 1;
        silent.special_codes[SpecialCodeIndex::VTIME] = 0;
        tcsetattr(io::stdin(), OptionalActions::Now, &silent)?;
        Ok(Self { before })
    }
}

impl Drop for Silence {
    fn drop(&mut self) {
        // A terminal that is gone need not be restored.
        let _ = tcsetattr(io::stdin(), OptionalActions::Now, &self.before);
    }
}

/// A line as it is typed, key by key.
#[derive(Default)]
pub struct Typing {
    bytes: Vec<u8>,
}

/// What a key did.
#[derive(Debug, PartialEq, Eq)]
enum Key {
    /// The line goes on.
    More,
    /// It ended.
    End,
    /// There is none.
    Nothing,
}

impl Typing {
    /// Reads keys up to the end of the line. `None` if there is no line: the input ends, or Ctrl-C.
    ///
    /// # Errors
    /// The input's; a line that is not UTF-8, or longer than 64 KiB.
    pub fn read(mut self, keys: &mut impl io::Read) -> io::Result<Option<String>> {
        let mut key = [0];
        loop {
            if keys.read(&mut key)? == 0 {
                return Ok(None);
            }
            match self.press(key[0]) {
                Key::More if self.bytes.len() > ANSWER_MAX => {
                    return Err(io::Error::other("the line is too long"));
                }
                Key::More => {}
                Key::End => break,
                Key::Nothing => return Ok(None),
            }
        }
        String::from_utf8(self.bytes).map(Some).map_err(|_| io::ErrorKind::InvalidData.into())
    }

    fn press(&mut self, key: u8) -> Key {
        const CTRL_C: u8 = 3;
        const CTRL_D: u8 = 4;
        const BACKSPACE: u8 = 8;
        const CTRL_U: u8 = 21;
        const DELETE: u8 = 127;
        match key {
            b'\n' | b'\r' => return Key::End,
            CTRL_C => return Key::Nothing,
            CTRL_D if self.bytes.is_empty() => return Key::Nothing,
            CTRL_D => return Key::End,
            BACKSPACE | DELETE => self.remove_character(),
            CTRL_U => self.bytes.clear(),
            byte => self.bytes.push(byte),
        }
        Key::More
    }

    /// Takes the last character away, which may be several bytes.
    fn remove_character(&mut self) {
        while let Some(byte) = self.bytes.pop() {
            if byte & 0b1100_0000 != 0b1000_0000 {
                return;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Typing;

    #[test]
    fn a_secret_line_is_what_its_keys_leave() {
        for (keys, want) in [
            ("secret\n", Some("secret")),
            ("secret\rmore", Some("secret")),
            ("secrex\u{7f}t\n", Some("secret")),
            ("sé\u{7f}\u{8}t\n", Some("t")),
            ("\u{7f}\u{7f}t\n", Some("t")),
            ("wrong\u{15}right\n", Some("right")),
            ("secret\u{4}", Some("secret")),
            ("\n", Some("")),
            ("\u{4}", None),
            ("secret\u{3}\n", None),
            ("secret", None),
            ("", None),
        ] {
            let got = Typing::default().read(&mut keys.as_bytes()).expect("UTF-8");
            assert_eq!(got.as_deref(), want, "{keys:?}");
        }
        assert!(Typing::default().read(&mut &[0xff, b'\n'][..]).is_err());
        assert!(Typing::default().read(&mut &*vec![b'x'; 1 << 20]).is_err());
    }
}
