//! The command line: a table of commands.

#![forbid(unsafe_code)]

mod commands;

use clap::{Parser, Subcommand};
use commands::output::{Failure, Output};
use commands::*;
use std::process::ExitCode;

/// Compiles neural networks to native code: from a RON file to fused kernels in milliseconds.
#[derive(Parser)]
#[command(version, max_term_width = 100)]
struct Line {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Find all faults of a model or training file
    Check(check::Check),
    /// Print a model or training file in its canonical form
    Fmt(fmt::Fmt),
    /// List layers, output shapes, parameters and multiply-adds
    Summary(summary::Summary),
    /// Show what becomes of a model, or of the step of a training: fused kernels, memory plan, code
    Compile(compile::Compile),
    /// Run a model on arrays or on a picture
    Run(run::Run),
    /// Count how many labelled images a model classifies rightly
    Eval(eval::Eval),
    /// Measure a model, fused against unfused, kernel by kernel
    Bench(bench::Bench),
    /// Train a network from examples, with checkpoints and a report
    Train(train::Train),
    /// Write initial parameters
    Init(init::Init),
}

impl Command {
    fn run(self, out: &mut Output) -> Result<(), Failure> {
        match self {
            Command::Check(command) => command.run(out),
            Command::Fmt(command) => command.run(out),
            Command::Summary(command) => command.run(out),
            Command::Compile(command) => command.run(out),
            Command::Run(command) => command.run(out),
            Command::Eval(command) => command.run(out),
            Command::Bench(command) => command.run(out),
            Command::Train(command) => command.run(out),
            Command::Init(command) => command.run(out),
        }
    }
}

/// 0 where all went well, 1 where we are at fault, 2 where the user's input is.
fn main() -> ExitCode {
    let line = Line::parse();
    output::report_panics();
    let outcome = std::panic::catch_unwind(|| {
        let mut out = Output::new();
        let result = line.command.run(&mut out);
        result.and_then(|()| out.finish())
    });
    match outcome {
        Ok(result) => output::exit_code(result),
        // The hook has said what happened.
        Err(_) => ExitCode::from(output::INTERNAL),
    }
}
