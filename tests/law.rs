//! The law: `evaluate(graph) == evaluate(kernels) == run(executable)` on random graphs, fused and unfused, under the
//! planner's schedules and under schedules at random. What may differ is bounded element by element.
//!
//! A failure names the first stage that differs and prints the smallest graph found that still fails.
//! `LAW_SEED=123 cargo test --test law replay -- --nocapture` runs one seed again.

mod support;

use fusewright::ir::plan::{Layout, Outline, State, verify};
use fusewright::passes::fuse::fuse;
use fusewright::passes::lower::lower;
use fusewright::passes::pipeline;
use fusewright::passes::plan::{PlanOptions, Winograd, plan_beside};
use std::collections::BTreeMap;
use std::io::Write;
use support::convolve;
use support::found;
use support::gradients;
use support::grow::{self, Style};
use support::network::{Network, What};
use support::shrink::shrink;
use support::stages::{Failure, Report, Trial, check};
use support::training;

/// Runs the networks of some seeds.
///
/// # Panics
/// On the first network that breaks the law, with the smallest one that breaks it in the same way.
fn hold(seeds: impl Iterator<Item = u64>, style: Style) -> Report {
    let mut total = Report::default();
    for seed in seeds {
        if std::env::var_os("LAW_TRACE").is_some() {
            // Machine code that crashes takes what tests print with it.
            writeln!(std::io::stderr(), "seed {seed}").expect("stderr is open");
        }
        let network = grow::network(seed, style).pruned();
        match law(&network, style) {
            Ok(report) => {
                total.elements += report.elements;
                total.tight += report.tight;
                total.kernels += report.kernels;
                total.fused_kernels += report.fused_kernels;
                total.rewritten += report.rewritten;
                total.updates += report.updates;
                total.copies += report.copies;
                total.limited += report.limited;
            }
            Err(failure) => panic!("{}", explain(seed, network, failure, style)),
        }
    }
    total
}

fn trial(network: &Network) -> Trial {
    let seed = network.seed;
    let (optimised, threads) = (!seed.is_multiple_of(4), seed.is_multiple_of(8));
    Trial { optimised, seed, threads, shared: 1 + (seed % 4) as usize, winograd: winograd(seed) }
}

fn winograd(seed: u64) -> Winograd {
    match seed % 5 {
        0 => Winograd::Never,
        1 => Winograd::Always { points: [4, 6], rows: None },
        2 => Winograd::Always { points: [6, 4], rows: Some(1) },
        3 => Winograd::Always { points: [4, 4], rows: Some(2) },
        _ => Winograd::Always { points: [6, 6], rows: Some(1 + seed as usize / 5 % 2) },
    }
}

fn law(network: &Network, style: Style) -> Result<Report, Failure> {
    let built = network.build().ok_or_else(|| Failure {
        stage: "build".to_string(),
        problem: "layers that were checked one by one are refused".to_string(),
    })?;
    let backward = match style {
        Style { training: true, .. } => training::step,
        // Every other one puts parameters in their own place.
        Style { gradients: true, .. } if network.seed.is_multiple_of(2) => gradients::step,
        Style { gradients: true, .. } => gradients::of,
        _ => return check(&built, trial(network)),
    };
    backward(&built, network.seed).map_or(Ok(Report::default()), |built| check(&built, trial(network)))
}

fn explain(seed: u64, network: Network, failure: Failure, style: Style) -> String {
    let size = network.statements.len();
    let fails = |network: &Network| {
        network.build().is_some() && law(network, style).is_err_and(|other| other.stage == failure.stage)
    };
    let small = shrink(network, fails);
    let again = law(&small, style).err().unwrap_or(failure);
    let built = small.build().expect("it was built before");
    let (ron, graph) = (built.ron(), &built.graph);
    format!(
        "seed {seed}: {}\n{}\nsmallest graph ({} of {size} statements):\n{ron}\n{graph}",
        again.stage,
        again.problem,
        small.statements.len(),
    )
}

/// The number of networks in each test, all in all more than two thousand.
const NETWORKS: u64 = 260;

macro_rules! seeds {
    ($($name:ident $number:literal)*) => { $(
        #[test]
        fn $name() {
            let first = $number * 1_000_000;
            let report = hold(first..first + NETWORKS, Style::default());
            let elements = report.elements;
            assert!(report.tight * 100 >= elements * 85, "of {elements} elements {} are held tightly", report.tight);
            assert!(report.fused_kernels * 10 < report.kernels * 9, "hardly anything is fused: {report:?}");
        }
    )* };
}
seeds! {
    the_law_holds_1 1
    the_law_holds_2 2
    the_law_holds_3 3
    the_law_holds_4 4
    the_law_holds_5 5
    the_law_holds_6 6
    the_law_holds_7 7
    the_law_holds_8 8
}

/// The number of networks in each test of gradients, whose graphs are larger.
const GRADIENTS: u64 = 130;

macro_rules! gradient_seeds {
    ($($name:ident $number:literal)*) => { $(
        #[test]
        fn $name() {
            let first = $number * 1_000_000;
            let report = hold(first..first + GRADIENTS, Style { gradients: true, ..Style::default() });
            let elements = report.elements;
            assert!(report.tight * 100 >= elements * 70, "of {elements} elements {} are held tightly", report.tight);
            assert!(report.updates > 100 && report.copies * 4 < report.updates * 3, "state is not updated: {report:?}");
        }
    )* };
}
gradient_seeds! {
    the_law_holds_of_gradients_1 11
    the_law_holds_of_gradients_2 12
    the_law_holds_of_gradients_3 13
    the_law_holds_of_gradients_4 14
}

macro_rules! training_seeds {
    ($($name:ident $number:literal)*) => { $(
        #[test]
        fn $name() {
            let first = $number * 1_000_000;
            let report = hold(first..first + GRADIENTS, Style { training: true, ..Style::default() });
            let elements = report.elements;
            assert!(report.tight * 100 >= elements * 70, "of {elements} elements {} are held tightly", report.tight);
            assert!(report.limited > 20, "hardly any memory is saved: {report:?}");
        }
    )* };
}
training_seeds! {
    the_law_holds_of_training_1 21
    the_law_holds_of_training_2 22
}

/// An evaluation is planned beside a step, whose state it finds as that leaves it, however its own sums would like it.
#[test]
fn the_plans_of_a_network_share_its_state() {
    let mut shared = 0;
    for seed in 31_000_000..31_000_400 {
        let built = grow::network(seed, Style::default()).pruned().build().expect("it fits");
        let Some(graphs) = training::step_and_evaluation(&built, seed) else { continue };
        let mut first: Option<Outline> = None;
        for (mut graph, fused) in graphs.into_iter().flat_map(|graph| [(graph.clone(), false), (graph, true)]) {
            pipeline::run(&mut graph, &mut |_, _, _| {});
            let mut program = lower(&graph);
            if fused {
                program = fuse(program).0;
            }
            let options = PlanOptions { winograd: winograd(seed), ..PlanOptions::default() };
            let plan = plan_beside(program, &options, first.as_ref()).expect("no limit is stated");
            assert_eq!(verify(&plan), Ok(()), "seed {seed}\n{plan}");
            let layouts = |plan: &Outline| -> BTreeMap<String, Layout> {
                let layout = |state: &State| (state.name.to_string(), plan.buffer(state.buffer).layout.clone());
                plan.states.iter().map(layout).collect()
            };
            let Some(first) = &first else {
                first = Some(plan.outline().0);
                continue;
            };
            let known = layouts(first);
            for (name, layout) in layouts(&plan.outline().0) {
                assert_eq!(known[&name], layout, "seed {seed}: `{name}`\n{graph}");
                shared += usize::from(!layout.is_row_major());
            }
        }
    }
    assert!(shared > 100, "hardly any state has a layout of its own: {shared}");
}

#[test]
fn every_kind_of_layer_is_tested() {
    let kinds = grow::kinds();
    let mut missing = kinds.clone();
    for seed in 1_000_000..1_000_000 + NETWORKS {
        for statement in grow::network(seed, Style::default()).pruned().statements {
            if let What::Layer { op, .. } = statement.what {
                missing.retain(|name| *name != op.spec().name());
            }
        }
    }
    assert!(missing.is_empty(), "no network has {missing:?}");
}

/// Convolutions in every way that transforms can compute them.
#[test]
fn transformed_convolutions_hold_the_law() {
    let mut total = Report::default();
    for seed in 0..80 {
        let ron = convolve::model(seed);
        let built = found::built(&ron, seed);
        let trial = Trial { optimised: seed % 4 != 0, seed, threads: false, shared: 1, winograd: winograd(seed) };
        match check(&built, trial) {
            Ok(report) => {
                total.rewritten += report.rewritten;
                total.bands += report.bands;
                total.elements += report.rewritten_elements;
                total.tight += report.rewritten_tight;
            }
            Err(failure) => panic!("seed {seed}: {}\n{}\n{ron}\n{}", failure.stage, failure.problem, built.graph),
        }
    }
    assert!(total.rewritten > 300 && total.bands > 50, "hardly anything is transformed: {total:?}");
    assert!(
        total.tight * 100 >= total.elements * 85,
        "of {} elements {} are held tightly",
        total.elements,
        total.tight
    );
}

/// Windows that overlap, each channel by itself, as users give images and as other layers hand them on: all sizes and steps that
/// registers are shared for, at sizes that leave every remainder.
#[test]
fn depthwise_windows_hold_the_law() {
    for (seed, (channels, [height, width], size, stride)) in [
        (3, [9, 33], 3, 2),
        (17, [7, 7], 7, 1),
        (9, [11, 40], 5, 2),
        (24, [8, 9], 5, 1),
        (5, [10, 30], 7, 2),
        (33, [6, 5], 3, 1),
        (4, [9, 29], 7, 1),
        (2, [6, 70], 5, 1),
        (16, [13, 7], 3, 2),
    ]
    .into_iter()
    .enumerate()
    {
        let padding = [size / 2, 0, size - 1][seed % 3];
        let layer = format!(
            "Conv2d(name: \"d\", out: {channels}, kernel_size: {size}, stride: {stride}, padding: {padding}, groups: {channels})"
        );
        let between = format!("Conv2d(out: {channels}, kernel_size: 1), {layer}, Gelu, Conv2d(out: 9, kernel_size: 1)");
        for layers in [layer, between] {
            let (height, width) = (height.max(size), width.max(size));
            let ron = format!(
                "(fusewright: 1, inputs: [(name: \"x\", shape: [2, {channels}, {height}, {width}])], layers: [{layers}])"
            );
            let seed = seed as u64;
            let built = found::built(&ron, seed);
            let trial = Trial { optimised: true, seed, threads: false, shared: 1, winograd: winograd(seed) };
            if let Err(failure) = check(&built, trial) {
                panic!("{}\n{}\n{ron}\n{}", failure.stage, failure.problem, built.graph);
            }
        }
    }
}

/// Dropout of images, signals and features, alone and behind other layers, at sizes that leave every remainder.
#[test]
fn masks_hold_the_law() {
    for (seed, (shape, layers)) in [
        ("[7]", ""),
        ("[3, 17]", "Dense(out: 33), Relu, "),
        ("[2, 5, 4, 3]", ""),
        ("[1, 3, 9, 8]", "Conv2d(out: 17, kernel_size: 3, padding: 1), Gelu, "),
        ("[2, 16, 8, 8]", "Conv2d(out: 16, kernel_size: 3, padding: 1), "),
        ("[65, 33]", "Dropout(p: 1.0), "),
        ("[2, 3, 4]", "Transpose(dim0: 1, dim1: 2), Flatten, "),
    ]
    .into_iter()
    .enumerate()
    {
        for (p, after) in [(0.5, ""), (0.1, ", Flatten(start_dim: 0), Mul(from: [\"d\", \"d\"])"), (0.0, "")] {
            let ron = format!(
                "(fusewright: 1, inputs: [(name: \"x\", shape: {shape})],\
                 layers: [{layers}Dropout(name: \"d\", p: {p}){after}])"
            );
            // An even seed is of a network in training.
            let seed = 2 * seed as u64;
            let forward = found::built(&ron, seed);
            let built = gradients::trained(&forward, seed).expect("every channel has several elements");
            assert!(built.graph.to_string().contains("TrainingDropout"), "dropout is there");
            let trial =
                Trial { optimised: !seed.is_multiple_of(4), seed, threads: false, shared: 2, winograd: winograd(seed) };
            if let Err(failure) = check(&built, trial) {
                panic!("{}\n{}\n{ron}\n{}", failure.stage, failure.problem, built.graph);
            }
        }
    }
}

macro_rules! found {
    ($($name:ident $ron:literal)*) => { $(
        #[test]
        fn $name() {
            for (seed, optimised) in [(1, false), (2, true), (3, true)] {
                let built = found::built($ron, seed);
                if let Err(failure) = check(&built, Trial { optimised, seed, threads: false, shared: 2, winograd: winograd(seed) }) {
                    panic!("{}\n{}\n{}", failure.stage, failure.problem, built.graph);
                }
            }
        }
    )* };
}
found! {
    pieces_of_a_value_are_not_the_value r#"(
        fusewright: 1,
        inputs: [(name: "x", shape: [2, 1, 1])],
        layers: [Tan(name: "tan"), Split(name: "split", split_size: 1)],
        outputs: {"y": "split"},
    )"#
    a_kernel_reads_nothing_that_it_writes r#"(
        fusewright: 1,
        inputs: [(name: "x", shape: [1])],
        layers: [Erf(name: "erf"), Max(name: "max", from: ["erf", "erf"]), Add(name: "add", from: ["erf", "max"])],
        outputs: {"y": "add"},
    )"#
    shapes_without_common_axes_are_reshaped r#"(
        fusewright: 1,
        inputs: [(name: "x", shape: [6, 5, 2, 17])],
        layers: [Reshape(name: "y", shape: [15, 68, 1])],
        outputs: {"y": "y"},
    )"#
}

/// One seed, or a range `first..end`, given by the environment.
#[test]
fn replay() {
    let Ok(text) = std::env::var("LAW_SEED") else { return };
    let number = |text: &str| text.parse::<u64>().expect("LAW_SEED is a number, or two with .. between them");
    let (first, end) = match text.split_once("..") {
        Some((first, end)) => (number(first), number(end)),
        None => (number(&text), number(&text) + 1),
    };
    println!("{}", grow::network(first, Style::default()).build().expect("it fits").graph);
    let gradients = std::env::var_os("LAW_GRADIENTS").is_some();
    let training = std::env::var_os("LAW_TRAINING").is_some();
    println!("{:?}", hold(first..end, Style { gradients, training, ..Style::default() }));
}
