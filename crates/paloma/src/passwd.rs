//! `paloma passwd`: users of a password file.

use std::io::{self, BufRead, IsTerminal, Read, Write};
use std::process::ExitCode;

use paloma_auth::{PasswordFile, remove_user, set_password, set_scram_password};
use rustix::termios::{LocalModes, OptionalActions, Termios, tcgetattr, tcsetattr};

use crate::cli::PasswdArgs;

/// Longest line that is read, in bytes; longer passwords are refused anyway.
const LINE_BYTES_MAX: u64 = 8_192;

/// Sets, removes or checks a user.
pub(crate) fn run(arguments: &PasswdArgs) -> ExitCode {
    match change(arguments) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => {
            eprintln!("paloma: wrong user name or password");
            ExitCode::FAILURE
        }
        Err(error) => {
            eprintln!("paloma: {error}");
            ExitCode::FAILURE
        }
    }
}

/// False if a password was to be checked and is wrong.
fn change(arguments: &PasswdArgs) -> io::Result<bool> {
    let PasswdArgs { file, user, .. } = arguments;
    if arguments.delete {
        remove_user(file, user).map_err(io::Error::other)?;
        return Ok(true);
    }
    if arguments.check {
        // Before anybody types anything in vain.
        let users = PasswordFile::read(file).map_err(io::Error::other)?;
        return Ok(users.is_password(user, &ask(false)?));
    }
    let password = ask(true)?;
    if arguments.scram {
        let text =
            std::str::from_utf8(&password).map_err(|_| invalid("the password is not UTF-8"))?;
        set_scram_password(file, user, text).map_err(io::Error::other)?;
    } else {
        set_password(file, user, &password).map_err(io::Error::other)?;
    }
    Ok(true)
}

/// The password: from the terminal, typed twice if it is new, or else the first line of standard input.
fn ask(is_new: bool) -> io::Result<Vec<u8>> {
    if !io::stdin().is_terminal() {
        return read_line();
    }
    let password = ask_terminal("Password: ")?;
    if is_new && ask_terminal("The same again: ")? != password {
        return Err(invalid("the two passwords differ"));
    }
    Ok(password)
}

fn ask_terminal(prompt: &str) -> io::Result<Vec<u8>> {
    eprint!("{prompt}");
    io::stderr().flush()?;
    let hidden = Hidden::new()?;
    let line = read_line();
    drop(hidden);
    eprintln!();
    let line = line?;
    // Ctrl-C and its like are characters while nothing is shown, so that the terminal is always put right again.
    if line.iter().any(u8::is_ascii_control) {
        return Err(invalid("given up"));
    }
    Ok(line)
}

fn read_line() -> io::Result<Vec<u8>> {
    let mut line = Vec::new();
    let stdin = io::stdin().lock();
    stdin.take(LINE_BYTES_MAX).read_until(b'\n', &mut line)?;
    if line.last() == Some(&b'\n') {
        line.pop();
        if line.last() == Some(&b'\r') {
            line.pop();
        }
    }
    Ok(line)
}

fn invalid(message: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, message)
}

/// A terminal that does not show what is typed, until this is dropped.
struct Hidden(Termios);

impl Hidden {
    fn new() -> io::Result<Self> {
        let before = tcgetattr(io::stdin())?;
        let mut hidden = before.clone();
        hidden.local_modes -= LocalModes::ECHO | LocalModes::ISIG;
        tcsetattr(io::stdin(), OptionalActions::Flush, &hidden)?;
        Ok(Self(before))
    }
}

impl Drop for Hidden {
    fn drop(&mut self) {
        // If the terminal has gone there is nothing to put right.
        let _ = tcsetattr(io::stdin(), OptionalActions::Now, &self.0);
    }
}
