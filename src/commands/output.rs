//! What commands print, and how they end.

use fusewright::Error;
use fusewright::ir::{Diagnostic, Diagnostics};
use std::io::{self, BufWriter, IsTerminal, Stdout, Write};
use std::process::ExitCode;

/// The exit code for our own faults.
pub const INTERNAL: u8 = 1;
/// The exit code for the user's faults.
const USER: u8 = 2;

/// The exit code of what the user has interrupted.
pub const INTERRUPTED: u8 = 130;

/// Standard output. Commands write with `writeln!` and pass errors on: a reader who leaves early is no fault.
pub struct Output(BufWriter<Stdout>);

impl Output {
    pub fn new() -> Output {
        Output(BufWriter::new(io::stdout()))
    }

    /// Writes a value as JSON.
    pub fn json(&mut self, value: &impl serde::Serialize) -> Result<(), Failure> {
        serde_json::to_writer_pretty(&mut self.0, value).map_err(|error| Failure::Output(error.into()))?;
        Ok(writeln!(self.0)?)
    }

    /// Writes all that is buffered.
    pub fn finish(mut self) -> Result<(), Failure> {
        Ok(self.0.flush()?)
    }
}

impl Write for Output {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

/// Why a command did not finish.
#[derive(Debug)]
pub enum Failure {
    /// The input is at fault, or the compiler.
    Error(Error),
    /// Standard output could not be written.
    Output(io::Error),
    /// The user did not want to wait: what is left of the work.
    Interrupted(String),
}

impl From<Error> for Failure {
    fn from(error: Error) -> Failure {
        Failure::Error(error)
    }
}

impl From<Diagnostic> for Failure {
    fn from(fault: Diagnostic) -> Failure {
        Failure::Error(fault.into())
    }
}

impl From<Diagnostics> for Failure {
    fn from(faults: Diagnostics) -> Failure {
        Failure::Error(faults.into())
    }
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Failure {
        Failure::Output(error)
    }
}

/// A fault of the command line.
pub fn usage(title: impl Into<String>) -> Diagnostic {
    Diagnostic::new(title)
}

/// Says what went wrong on standard error and gives the exit code.
pub fn exit_code(result: Result<(), Failure>) -> ExitCode {
    let error = match result {
        Ok(()) => return ExitCode::SUCCESS,
        Err(Failure::Output(error)) if error.kind() == io::ErrorKind::BrokenPipe => return ExitCode::SUCCESS,
        Err(Failure::Output(error)) => {
            Diagnostics::from(Diagnostic::new("standard output cannot be written").found(error.to_string())).into()
        }
        Err(Failure::Error(error)) => error,
        Err(Failure::Interrupted(left)) => {
            tell(&left);
            return ExitCode::from(INTERRUPTED);
        }
    };
    warn(&error);
    match error {
        Error::Input(_) => ExitCode::from(USER),
        Error::Internal(_) => ExitCode::from(INTERNAL),
    }
}

/// Says on standard error what is wrong.
pub fn warn(error: &Error) {
    let color = io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
    tell(&error.render(color));
}

/// Says something on standard error.
pub fn tell(text: &str) {
    // Nobody is left to tell where standard error is closed.
    let _ = writeln!(io::stderr(), "{text}");
}

/// Makes panics short: they are our faults, and users can only tell us.
pub fn report_panics() {
    let usual = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |info| {
        if std::env::var_os("RUST_BACKTRACE").is_some() {
            usual(info);
        }
        let message = info.payload_as_str().unwrap_or("no message");
        let place = info.location().map_or(String::new(), |place| format!(" ({}:{})", place.file(), place.line()));
        let _ = writeln!(
            io::stderr(),
            "internal error: {message}{place}\nThis is a fault of fusewright; please report it."
        );
    }));
}

/// A bar for long work, on a terminal only.
pub fn progress(steps: u64, what: &'static str) -> indicatif::ProgressBar {
    if !io::stderr().is_terminal() {
        return indicatif::ProgressBar::hidden();
    }
    let style = indicatif::ProgressStyle::with_template("{msg} {bar:40} {pos}/{len} {eta}").expect("a known template");
    indicatif::ProgressBar::new(steps).with_style(style).with_message(what)
}
