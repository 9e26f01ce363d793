//! Places the buffers of CSV files and prints lower bound, peak, time, and whether the peak is known to be optimal.
//!
//!     cargo run --release --example place -- [--seconds S] [--capacity BYTES] FILE.csv ...
//!
//! A file has the header `id,lower,upper,size` (any order; `alignment` may be added): a buffer of `size` bytes is live
//! from step `lower` up to, but not including, `upper`. A number before the extension (`A.1048576.csv`) is the capacity
//! that the file has to fit into. Without `--seconds` the search is limited by a count of steps, so that the result is
//! the same on every machine.

use fusewright_passes::place::{Lifetime, Limits, place, verify};
use serde::Deserialize;
use std::io::Write;
use std::path::Path;
use std::process::ExitCode;
use std::time::{Duration, Instant};

const USAGE: &str = "usage: place [--seconds S] [--capacity BYTES] FILE.csv ...";

fn main() -> ExitCode {
    match Command::parse(std::env::args().skip(1)).and_then(|command| command.run()) {
        Ok(code) => code,
        Err(message) => {
            eprintln!("error: {message}");
            ExitCode::from(2)
        }
    }
}

/// What the command line asks for.
struct Command {
    seconds: Option<Duration>,
    capacity: Option<u64>,
    files: Vec<String>,
}

/// One line of a file.
#[derive(Deserialize)]
struct Row {
    lower: u32,
    upper: u32,
    size: u64,
    #[serde(default = "unaligned")]
    alignment: u64,
}

impl Command {
    fn parse(mut arguments: impl Iterator<Item = String>) -> Result<Command, String> {
        let mut command = Command { seconds: None, capacity: None, files: Vec::new() };
        while let Some(argument) = arguments.next() {
            match argument.as_str() {
                "--seconds" => {
                    let seconds: f64 = number(&argument, arguments.next())?;
                    let time = Duration::try_from_secs_f64(seconds);
                    command.seconds = Some(time.map_err(|error| format!("--seconds {seconds}: {error}"))?);
                }
                "--capacity" => command.capacity = Some(number(&argument, arguments.next())?),
                option if option.starts_with("--") => return Err(format!("unknown option {option}\n{USAGE}")),
                _ => command.files.push(argument),
            }
        }
        if command.files.is_empty() { Err(format!("no file named\n{USAGE}")) } else { Ok(command) }
    }

    /// Reads every file before it places any, so that a malformed one is reported at once.
    fn run(&self) -> Result<ExitCode, String> {
        let instances: Vec<_> = self.files.iter().map(|file| Ok((file, read(file)?))).collect::<Result<_, String>>()?;
        let mut out = std::io::stdout().lock();
        let unwritable = |error| format!("cannot write the table: {error}");
        writeln!(out, "{:<32} {:>7} {:>12} {:>12} {:>9}  verdict", "file", "buffers", "bound", "peak", "seconds")
            .map_err(unwritable)?;
        let mut code = ExitCode::SUCCESS;
        for (file, lifetimes) in instances {
            let capacity = self.capacity.or_else(|| capacity_in_name(file));
            let limits = Limits { capacity, ..self.seconds.map_or_else(Limits::default, Limits::within) };
            let start = Instant::now();
            let placement = place(&lifetimes, &limits).map_err(|error| format!("{file}: {error}"))?;
            let seconds = start.elapsed().as_secs_f64();
            let name = Path::new(file).file_name().map_or(file.as_str().into(), |name| name.to_string_lossy());
            let (n_buffers, bound, peak) = (lifetimes.len(), placement.lower_bound_bytes, placement.bytes);
            let optimal = if placement.proven_optimal { "optimal" } else { "not proven" };
            let fits = match capacity {
                Some(capacity) if peak <= capacity => format!(", fits into {capacity}"),
                Some(capacity) => format!(", does not fit into {capacity}"),
                None => String::new(),
            };
            writeln!(out, "{name:<32} {n_buffers:>7} {bound:>12} {peak:>12} {seconds:>9.4}  {optimal}{fits}")
                .map_err(unwritable)?;
            if let Err(fault) = verify(&lifetimes, &placement) {
                eprintln!("error: {file}: the placement is wrong: {fault}");
                code = ExitCode::FAILURE;
            }
        }
        Ok(code)
    }
}

/// Reads the buffers of one file; the message on failure names file, line and field.
fn read(file: &str) -> Result<Vec<Lifetime>, String> {
    let mut reader = csv::Reader::from_path(file).map_err(|error| format!("{file}: {error}"))?;
    let headers = reader.headers().map_err(|error| format!("{file}: {error}"))?;
    for column in ["lower", "upper", "size"] {
        if !headers.iter().any(|header| header == column) {
            let found = headers.iter().collect::<Vec<_>>().join(",");
            return Err(format!("{file}: expected the columns id,lower,upper,size, found {found}"));
        }
    }
    let headers = headers.clone();
    let mut lifetimes = Vec::new();
    for record in reader.records() {
        let record = record.map_err(|error| format!("{file}: {error}"))?;
        let row = record.deserialize(Some(&headers)).map_err(|error| format!("{file}: {error}"))?;
        let Row { lower, upper, size, alignment } = row;
        if lower > upper || alignment == 0 {
            let line = record.position().map_or(0, |position| position.line());
            let found = format!("lower {lower}, upper {upper}, alignment {alignment}");
            return Err(format!("{file}: line {line}: expected lower <= upper and alignment > 0, found {found}"));
        }
        lifetimes.push(Lifetime { lower, upper, bytes: size, align: alignment });
    }
    Ok(lifetimes)
}

/// `1048576` for `A.1048576.csv`.
fn capacity_in_name(file: &str) -> Option<u64> {
    let stem = Path::new(file).file_stem()?;
    Path::new(stem).extension()?.to_str()?.parse().ok()
}

fn number<T: std::str::FromStr>(option: &str, text: Option<String>) -> Result<T, String> {
    let text = text.ok_or_else(|| format!("{option} needs a number\n{USAGE}"))?;
    text.parse().map_err(|_| format!("{option} needs a number, found `{text}`\n{USAGE}"))
}

fn unaligned() -> u64 {
    1
}
