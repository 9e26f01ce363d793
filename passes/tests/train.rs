//! Training steps as graphs against PyTorch: optimisers, schedules, clipping, statistics. The numbers are those of torch 2.15 in f64,
//! for the network of [`network`] from the same parameters.

#[path = "support/training.rs"]
mod training;

use fusewright_ir::ops::{Dense, Initializer, Map, Op, Real};
use fusewright_ir::recipe::{Clip, Metric, Objective, Optimizer, Rate, Schedule, Time};
use fusewright_ir::tensor::{DType, TensorType};
use fusewright_ir::{Diagnostic, Graph, GraphBuilder, verify};
use fusewright_passes::train::{self, StepOptions, Training};
use training::{Trainer, close, layer, wave};

/// Five examples of three numbers through `a`, four units of tanh, and `b` to two outputs.
fn network() -> Graph {
    let mut build = GraphBuilder::new();
    let x = build.input("x", TensorType::f32([5usize, 3]));
    let hidden = build.layer("a", Op::Dense(Dense { out: 4, bias: true }), &[x]);
    let hidden = build.layer("tanh", Map::named("Tanh").unwrap().into(), &[hidden]);
    let y = build.layer("b", Op::Dense(Dense { out: 2, bias: true }), &[hidden]);
    build.output("y", y);
    build.finish()
}

fn mean_squares() -> Objective {
    Objective { loss: layer("MSELoss"), output: None, target: "t".to_string(), span: None }
}

const LENGTHS: StepOptions = StepOptions { steps_per_epoch: 10, total_steps: 100 };

/// A training at a constant rate.
fn plain<'a>(objective: &'a Objective, optimizer: &'a Optimizer) -> Training<'a> {
    let rate = &Rate { warmup: None, schedule: Schedule::Constant };
    Training { objective, optimizer, rate, clip: None, metrics: &[], seed: 7 }
}

/// A trainer of the network, with the parameters, examples and targets that PyTorch had.
fn trainer(optimizer: Optimizer, rate: Rate, clip: Option<Clip>) -> Trainer {
    let objective = mean_squares();
    let recipe = Training { rate: &rate, clip: clip.as_ref(), ..plain(&objective, &optimizer) };
    let graph = train::step(network(), &recipe, &LENGTHS).unwrap();
    verify(&graph).unwrap_or_else(|faults| panic!("{faults}"));
    let mut trainer = Trainer::new(graph);
    trainer.set("x", wave(15, 0.9, 0.3));
    trainer.set("t", wave(10, 1.7, 1.1));
    trainer.set("a.weight", wave(12, 1.3, 0.1));
    trainer.set("a.bias", wave(4, 0.7, 0.4));
    trainer.set("b.weight", wave(8, 2.1, 0.9));
    trainer.set("b.bias", wave(2, 1.9, 0.2));
    trainer
}

/// What sums that cancel may lose, because constants are f32.
const ROUNDING: f64 = 1e-8;

struct Case {
    name: &'static str,
    optimizer: Optimizer,
    clip: Option<Clip>,
    losses: [f64; 5],
    state: &'static [(&'static str, &'static [f64])],
}

#[test]
fn optimizers_are_torchs() {
    for case in cases() {
        let mut trainer = trainer(case.optimizer, Rate::default(), case.clip);
        for (i, &loss) in case.losses.iter().enumerate() {
            close(&format!("{}: loss {i}", case.name), &[trainer.step()["loss"].data[0]], &[loss], 1e-6, ROUNDING);
        }
        for (name, expected) in case.state {
            close(&format!("{}: {name}", case.name), &trainer.value(name).data, expected, 1e-6, ROUNDING);
        }
        assert_eq!(trainer.value("step").data, [5.0]);
    }
}

/// A schedule, and PyTorch's factor in some steps.
type Scheduled = (Rate, &'static [(u64, f64)]);

#[test]
fn schedules_are_torchs() {
    for (rate, expected) in schedules() {
        // With a gradient that is always 1, a parameter falls by the learning rate.
        let mut build = GraphBuilder::new();
        let x = build.input("x", TensorType::f32([1usize, 1]));
        let y = build.layer("a", Op::Dense(Dense { out: 1, bias: false }), &[x]);
        build.output("y", y);
        let objective = Objective { loss: layer("L1Loss"), ..mean_squares() };
        let optimizer = sgd(1.0, 0.0, 0.0, 0.0, false);
        let recipe = Training { rate: &rate, ..plain(&objective, &optimizer) };
        let graph = train::step(build.finish(), &recipe, &LENGTHS).unwrap();
        let mut trainer = Trainer::new(graph);
        trainer.set("x", vec![1.0]);
        trainer.set("t", vec![-1000.0]);
        for &(step, factor) in expected {
            trainer.set("step", vec![step as f64]);
            trainer.set("a.weight", vec![0.0]);
            trainer.step();
            close(&format!("{rate:?} in step {step}"), &[-trainer.value("a.weight").data[0]], &[factor], 2e-7, 0.0);
        }
    }
}

#[test]
fn a_step_without_a_finite_loss_changes_nothing() {
    for (bad, optimizer) in [
        (f64::NAN, adam(0.01, (0.9, 0.999), 1e-8, 0.1)),
        (f64::INFINITY, rms_prop(0.01, 0.9, 1e-8, 0.1, 0.9, true)),
        // A loss that overflows f32.
        (1e30, sgd(0.1, 0.9, 0.5, 0.1, false)),
        (f64::NAN, adagrad(0.1, 0.1, 0.1, 0.1, 1e-10)),
    ] {
        let mut trainer = trainer(optimizer, Rate::default(), Some(Clip::Norm(Real(1.0))));
        trainer.step();
        let before = trainer.state();
        assert!(before.len() > 5);
        let good = trainer.value("t");
        trainer.set("t", vec![bad; 10]);
        trainer.step();
        assert_eq!(trainer.state(), before, "with {bad}");
        trainer.set("t", good.data);
        trainer.step();
        let after = trainer.state();
        assert!(after.iter().all(|(name, value)| before[name] != *value), "with {bad}");
    }
}

/// A layer between a scale that is learned and a mean square error, trained by three steps of rate 0.5.
struct Normed {
    layer: &'static str,
    shape: &'static [usize],
    losses: [f64; 3],
    /// The loss of the trained network as inference has it.
    evaluated: f64,
    state: &'static [(&'static str, &'static [f64])],
}

#[test]
fn statistics_are_torchs() {
    for case in normed() {
        let mut build = GraphBuilder::new();
        let ty = TensorType::f32(case.shape.iter().copied());
        let x = build.input("x", ty.clone());
        let scale = build.parameter("scale", TensorType::f32(case.shape[1..].iter().copied()), Initializer::Ones);
        let scaled = build.layer("scaled", Map::named("Mul").unwrap().into(), &[x, scale]);
        let y = build.layer("n", layer(case.layer), &[scaled]);
        build.output("y", y);
        let network = build.finish();
        let objective = mean_squares();
        let optimizer = sgd(0.5, 0.0, 0.0, 0.0, false);
        let graph = train::step(network.clone(), &plain(&objective, &optimizer), &LENGTHS).unwrap();
        verify(&graph).unwrap_or_else(|faults| panic!("{faults}"));
        let mut trainer = Trainer::new(graph);
        let n = case.shape.iter().product();
        trainer.set("x", wave(n, 0.9, 0.3));
        trainer.set("t", wave(n, 1.7, 1.1));
        trainer.set("scale", wave(n / case.shape[0], 0.8, 0.5));
        for loss in case.losses {
            close(case.layer, &trainer.step()["loss"].data, &[loss], 1e-6, ROUNDING);
        }
        for (name, expected) in case.state {
            close(&format!("{}: {name}", case.layer), &trainer.value(name).data, expected, 1e-6, ROUNDING);
        }
        let evaluation = train::evaluation(network, &objective, &[]).unwrap();
        verify(&evaluation).unwrap_or_else(|faults| panic!("{faults}"));
        assert!(evaluation.outputs.iter().all(|output| !output.is_update));
        let mut evaluation = Trainer::new(evaluation);
        evaluation.take(&trainer);
        close(case.layer, &evaluation.step()["loss"].data, &[case.evaluated], 1e-6, ROUNDING);
    }
}

#[test]
fn dropout_is_alike_forward_and_backward() {
    let mut build = GraphBuilder::new();
    let w = build.parameter("w", TensorType::f32([20usize, 30]), Initializer::Ones);
    let dropped = build.layer("dropped", layer("Dropout(p: 0.25)"), &[w]);
    let twice = build.layer("twice", layer("Dropout"), &[dropped]);
    build.output("y", twice);
    let network = build.finish();
    let objective = Objective { loss: layer("L1Loss(reduction: \"sum\")"), ..mean_squares() };
    let optimizer = sgd(1.0, 0.0, 0.0, 0.0, false);
    let graph = train::step(network.clone(), &plain(&objective, &optimizer), &LENGTHS).unwrap();
    let mut trainer = Trainer::new(graph);
    let mut masks = Vec::new();
    for _ in 0..2 {
        trainer.set("w", vec![0.0; 600]);
        // Below all outputs: the gradient of each is its scale.
        trainer.set("t", vec![-1000.0; 600]);
        let loss = trainer.step()["loss"].data[0];
        assert_eq!(loss, 600_000.0);
        let gradient: Vec<f64> = trainer.value("w").data.iter().map(|w| -w).collect();
        let kept = gradient.iter().filter(|&&g| g != 0.0).count() as f64;
        let expected = 600.0 * 0.75 * 0.5;
        assert!((kept - expected).abs() < 5.0 * (expected * 0.625_f64).sqrt(), "{kept} elements are kept");
        close("scale", &[gradient.iter().copied().fold(0.0, f64::max)], &[1.0 / 0.75 / 0.5], 1e-7, 0.0);
        // The loss of the same step with weights that are not 0 has the same mask.
        trainer.set("step", vec![masks.len() as f64]);
        trainer.set("w", vec![1.0; 600]);
        let loss = trainer.step()["loss"].data[0];
        close("the mask", &[loss - 600_000.0], &[gradient.iter().sum()], 1e-9, 0.0);
        masks.push(gradient);
    }
    assert_ne!(masks[0], masks[1], "each step has its own");

    let mut evaluation = Trainer::new(train::evaluation(network, &objective, &[]).unwrap());
    evaluation.set("w", vec![1.0; 600]);
    assert_eq!(evaluation.step()["loss"].data, [600.0], "inference drops nothing");
}

/// A network of classes: `f32[4, 3]` scores of `f32[4, 2]` inputs, and a part that is for another output.
fn classifier() -> Graph {
    let mut build = GraphBuilder::new();
    let x = build.input("x", TensorType::f32([4usize, 2]));
    let scores = build.layer("scores", layer("Dense(out: 3)"), &[x]);
    let aside = build.layer("aside", layer("Dense(out: 1)"), &[x]);
    let aside = build.layer("norm", layer("BatchNorm1d"), &[aside]);
    build.output("scores", scores);
    build.output("aside", aside);
    build.finish()
}

fn cross_entropy() -> Objective {
    let output = Some("scores".to_string());
    Objective { loss: layer("CrossEntropyLoss"), output, target: "labels".to_string(), span: Some(3..9) }
}

#[test]
fn classes_are_counted() {
    let (objective, optimizer) = (cross_entropy(), sgd(1.0, 0.0, 0.0, 0.0, false));
    let training = Training { metrics: &[Metric::Accuracy], ..plain(&objective, &optimizer) };
    let graph = train::step(classifier(), &training, &LENGTHS).unwrap();
    verify(&graph).unwrap_or_else(|faults| panic!("{faults}"));
    let names: Vec<&str> = graph.outputs.iter().map(|output| output.name.as_str()).collect();
    // What the loss does not need stays as it is.
    assert_eq!(names, ["loss", "accuracy", "scores.weight", "scores.bias", "step"]);
    let labels = graph.find("labels").unwrap();
    assert_eq!(*graph.value_type(labels.into()), TensorType::new(DType::I64, [4usize]));
    let mut trainer = Trainer::new(graph);
    trainer.set("scores.bias", vec![0.0, 0.5, 0.25]);
    trainer.set("labels", vec![1.0, 0.0, 1.0, 1.0]);
    assert_eq!(trainer.step()["accuracy"].data, [0.75]);
    // Labels that the loss ignores do not count.
    trainer.set("scores.bias", vec![0.0, 0.5, 0.25]);
    trainer.set("labels", vec![1.0, -100.0, -100.0, 2.0]);
    assert_eq!(trainer.step()["accuracy"].data, [0.5]);
}

#[test]
fn errors_are_counted() {
    let metrics = [Metric::MeanAbsoluteError, Metric::MeanSquaredError];
    let objective = mean_squares();
    let mut evaluation = Trainer::new(train::evaluation(network(), &objective, &metrics).unwrap());
    evaluation.set("t", vec![3.0; 10]);
    let results = evaluation.step();
    assert_eq!(results["mean_absolute_error"].data, [3.0]);
    assert_eq!(results["mean_squared_error"].data, [9.0]);
}

#[test]
fn an_input_may_be_the_target() {
    let mut objective = mean_squares();
    objective.target = "x".to_string();
    let mut build = GraphBuilder::new();
    let x = build.input("x", TensorType::f32([5usize, 3]));
    let y = build.layer("a", layer("Dense(out: 3)"), &[x]);
    build.output("y", y);
    let optimizer = sgd(0.1, 0.0, 0.0, 0.0, false);
    let graph = train::step(build.finish(), &plain(&objective, &optimizer), &LENGTHS).unwrap();
    assert_eq!(graph.nodes().filter(|(_, node)| matches!(node.op, Op::Input(_))).count(), 1);
}

/// The faults of a step.
fn refused(network: Graph, objective: &Objective, optimizer: Optimizer, metrics: &[Metric]) -> Vec<Diagnostic> {
    let training = Training { metrics, ..plain(objective, &optimizer) };
    train::step(network, &training, &LENGTHS).map(|_| ()).unwrap_err().0
}

#[test]
fn refusals_say_what_would_be_right() {
    let good = sgd(0.1, 0.0, 0.0, 0.0, false);
    let fault = |network: Graph, objective: &Objective| refused(network, objective, good, &[]).remove(0);
    let title = |network: Graph, objective: &Objective| fault(network, objective).title;

    let unclear = fault(classifier(), &Objective { output: None, ..cross_entropy() });
    assert_eq!(unclear.title, "it is not clear what the loss is of");
    assert_eq!(unclear.found.as_deref(), Some("the outputs `scores`, `aside`"));
    assert_eq!(unclear.span, Some(3..9));
    let absent = Objective { output: Some("score".to_string()), ..cross_entropy() };
    assert_eq!(title(classifier(), &absent), "the network has no output `score`");
    let several = Objective { loss: layer("CrossEntropyLoss(reduction: \"none\")"), ..cross_entropy() };
    let several = fault(classifier(), &several);
    assert_eq!((several.title.as_str(), several.found.as_deref()), ("the loss is not one number", Some("f32[4]")));
    let other = fault(classifier(), &Objective { target: "x".to_string(), ..cross_entropy() });
    assert_eq!(other.title, "the loss CrossEntropyLoss does not fit the output and the target `x`");
    assert_eq!(other.found.as_deref(), Some("f32[4, 3] and f32[4, 2]"));
    let taken = fault(classifier(), &Objective { target: "norm".to_string(), ..cross_entropy() });
    assert_eq!(taken.title, "`norm` cannot be the target");
    assert!(fault(classifier(), &Objective { loss: layer("Relu"), ..cross_entropy() }).expected.is_some());

    let numbers = refused(network(), &mean_squares(), sgd(-0.1, 0.0, 0.0, 0.0, false), &[]).remove(0);
    assert_eq!(numbers.title, "the optimizer makes no sense: `lr`");
    let (accuracy, squares) = (Metric::Accuracy, Metric::MeanSquaredError);
    let metrics = refused(classifier(), &cross_entropy(), good, &[accuracy, squares, accuracy]);
    let titles: Vec<&str> = metrics.iter().map(|fault| fault.title.as_str()).collect();
    assert_eq!(titles, ["the metric `mean_squared_error` does not fit", "the metric `accuracy` is named twice"]);
    assert_eq!(metrics[0].found.as_deref(), Some("an output f32[4, 3] and a target i64[4]"));
}

#[test]
fn what_cannot_be_trained_is_told_with_the_way() {
    let optimizer = sgd(0.1, 0.0, 0.0, 0.0, false);
    let fault = |layers: &[&str], objective: &Objective| {
        let mut build = GraphBuilder::new();
        let mut value = build.input("x", TensorType::f32([4usize, 3]));
        for text in layers {
            value = build.layer(&text.split('(').next().unwrap().to_lowercase(), layer(text), &[value]);
        }
        build.output("y", value);
        refused(build.finish(), objective, optimizer, &[]).remove(0)
    };
    let blocked = fault(&["Dense(out: 3)", "ArgMax(dim: 1)", "Cast(to: f32)"], &mean_squares());
    assert_eq!(blocked.title, "`loss` has no gradient by `dense.weight`");
    let found = "layer `argmax` (ArgMax) in dense.weight -> dense -> argmax -> cast -> loss";
    assert_eq!(blocked.found.as_deref(), Some(found));
    assert_eq!(fault(&["Relu"], &mean_squares()).title, "there is nothing to train");
    let single = fault(&["Dense(out: 1)", "Reshape(shape: [1, 4])", "BatchNorm1d"], &mean_squares());
    assert_eq!(single.title, "layer `batchnorm1d` cannot be trained with");
    assert_eq!(single.found.as_deref(), Some("f32[1, 4]"));
}

fn sgd(lr: f64, momentum: f64, dampening: f64, weight_decay: f64, nesterov: bool) -> Optimizer {
    let [lr, momentum, dampening, weight_decay] = [lr, momentum, dampening, weight_decay].map(Real);
    Optimizer::Sgd { lr, momentum, dampening, weight_decay, nesterov }
}

fn adam(lr: f64, betas: (f64, f64), eps: f64, weight_decay: f64) -> Optimizer {
    let betas = (Real(betas.0), Real(betas.1));
    Optimizer::Adam { lr: Real(lr), betas, eps: Real(eps), weight_decay: Real(weight_decay) }
}

fn adam_w(lr: f64, betas: (f64, f64), eps: f64, weight_decay: f64) -> Optimizer {
    let betas = (Real(betas.0), Real(betas.1));
    Optimizer::AdamW { lr: Real(lr), betas, eps: Real(eps), weight_decay: Real(weight_decay) }
}

fn rms_prop(lr: f64, alpha: f64, eps: f64, weight_decay: f64, momentum: f64, centered: bool) -> Optimizer {
    let [lr, alpha, eps, weight_decay, momentum] = [lr, alpha, eps, weight_decay, momentum].map(Real);
    Optimizer::RmsProp { lr, alpha, eps, weight_decay, momentum, centered }
}

fn adagrad(lr: f64, lr_decay: f64, weight_decay: f64, initial: f64, eps: f64) -> Optimizer {
    let [lr, lr_decay, weight_decay, initial_accumulator_value, eps] =
        [lr, lr_decay, weight_decay, initial, eps].map(Real);
    Optimizer::Adagrad { lr, lr_decay, weight_decay, initial_accumulator_value, eps }
}

fn schedules() -> Vec<Scheduled> {
    let rate = |schedule| Rate { warmup: None, schedule };
    let one_cycle = |over, pct_start, div_factor, final_div_factor| {
        let [pct_start, div_factor, final_div_factor] = [pct_start, div_factor, final_div_factor].map(Real);
        rate(Schedule::OneCycle { over, pct_start, div_factor, final_div_factor })
    };
    vec![
        (rate(Schedule::Constant), &[(0, 1.0), (1000, 1.0)]),
        (
            rate(Schedule::Step { every: Time::Steps(7), gamma: Real(0.5) }),
            &[(0, 1.0), (6, 1.0), (7, 0.5), (20, 0.25), (29, 0.0625), (89, 0.000244140625), (98, 6.103515625e-05)],
        ),
        (
            rate(Schedule::Cosine { over: None, to: Real(0.0) }),
            &[
                (0, 1.0),
                (1, 0.9997532801828658),
                (7, 0.9879583809693737),
                (29, 0.8064535268264883),
                (50, 0.5),
                (89, 0.029559615522887273),
                (98, 0.0009866357858642205),
                (99, 0.0002467198171342),
                (100, 0.0),
                (1000, 0.0),
            ],
        ),
        (
            rate(Schedule::Cosine { over: Some(Time::Epochs(Real(9.0))), to: Real(0.05) }),
            &[
                (0, 1.0),
                (6, 0.9896201103485577),
                (50, 0.4425171156082081),
                (89, 0.05028935716592951),
                (90, 0.05),
                (99, 0.05),
            ],
        ),
        (
            one_cycle(None, 0.3, 25.0, 1e4),
            &[
                (0, 0.04),
                (1, 0.042813780565907456),
                (7, 0.17152216387689723),
                (20, 0.7893697913739435),
                (29, 1.0),
                (30, 0.9994965352845243),
                (50, 0.793893450575732),
                (90, 0.040239952779819815),
                (98, 0.0005074647154757879),
                (99, 4e-06),
                (200, 4e-06),
            ],
        ),
        (
            one_cycle(Some(Time::Steps(90)), 0.5, 10.0, 100.0),
            &[(0, 0.1), (3, 0.11028391031297824), (30, 0.7932883678550188), (50, 0.956815956092479), (89, 0.001)],
        ),
        // So short that nothing rises.
        (
            one_cycle(Some(Time::Steps(3)), 0.3, 25.0, 1e4),
            &[(0, 0.9944154354509117), (1, 0.46263710266697505), (2, 4e-06)],
        ),
        (
            Rate { warmup: Some((Time::Epochs(Real(2.0)), Real(0.1))), schedule: Schedule::Constant },
            &[(0, 0.1), (1, 0.145), (7, 0.415), (20, 1.0), (1000, 1.0)],
        ),
        (
            Rate {
                warmup: Some((Time::Steps(20), Real(0.1))),
                schedule: Schedule::Step { every: Time::Steps(7), gamma: Real(0.5) },
            },
            &[(0, 0.1), (7, 0.2075), (20, 0.25)],
        ),
    ]
}

fn normed() -> Vec<Normed> {
    vec![
        Normed {
            layer: "BatchNorm2d",
            shape: &[2, 3, 2, 2],
            losses: [1.4429948408776552, 0.844667163467681, 0.6162635280596819],
            evaluated: 0.4835972505989323,
            state: &[
                ("n.weight", &[0.34480024775642526, 0.33657539323528074, 0.3902590639992875]),
                ("n.bias", &[0.0409911053986673, 0.04161925337364561, 0.03137624346789486]),
                ("n.running_mean", &[0.04560132650823324, 0.06544805399240936, 0.07687281618844882]),
                ("n.running_var", &[0.7999290426131667, 0.785588222041384, 0.7767398567565706]),
                (
                    "scale",
                    &[
                        0.4377046731414366,
                        1.0910300646679476,
                        0.6706179523123342,
                        0.3984931869100109,
                        -0.6648595896216507,
                        -0.9368585646140868,
                        -0.7413329189625407,
                        -0.33452952386339996,
                        0.7816256217499968,
                        0.7592825641995365,
                        0.8974961124655619,
                        0.10071420724397503,
                    ],
                ),
            ],
        },
        Normed {
            layer: "BatchNorm1d(momentum: 0.3, affine: false, eps: 0.001)",
            shape: &[6, 3],
            losses: [1.4784694444667834, 1.4784111655912868, 1.478349234315543],
            evaluated: 0.9909010301567233,
            state: &[
                ("n.running_mean", &[0.035720853702742215, 0.10427079891281107, 0.05099886280866933]),
                ("n.running_var", &[0.4294691259686787, 0.6222295704335822, 0.653114472271481]),
                ("scale", &[0.46342870647717466, 0.9607474700507588, 0.859897673515421]),
            ],
        },
        Normed {
            layer: "InstanceNorm1d(track_running_stats: true, affine: true, momentum: 0.2)",
            shape: &[3, 2, 4],
            losses: [2.0882570974217103, 0.7714094930838614, 0.5285741785711001],
            evaluated: 0.4908110528151424,
            state: &[
                ("n.weight", &[-0.05411103282549201, -0.05133218082422002]),
                ("n.bias", &[0.050163674107440506, 0.04432521985483699]),
                ("n.running_mean", &[0.1272025673135285, 0.07764752233131986]),
                ("n.running_var", &[0.6040848216238285, 0.6041197902631813]),
                (
                    "scale",
                    &[
                        0.684373145323528,
                        0.9874557636920791,
                        0.7471898134535527,
                        0.07109598021007402,
                        -0.723958328018944,
                        -0.9739069633654981,
                        -0.7325713064587196,
                        0.01606613786678609,
                    ],
                ),
            ],
        },
    ]
}

fn cases() -> Vec<Case> {
    vec![
        Case {
            name: "sgd",
            optimizer: sgd(0.1, 0.0, 0.0, 0.0, false),
            clip: None,
            losses: [
                0.5359090171368859,
                0.38078966194155195,
                0.2735763242022964,
                0.19978141855201276,
                0.1490504606046889,
            ],
            state: &[
                (
                    "b.weight",
                    &[
                        0.6831693954326745,
                        0.08569646284484084,
                        -0.854202317436761,
                        0.6512088483740501,
                        0.06178950940306712,
                        -1.016307661099917,
                        0.6164569590380574,
                        0.10168931084028249,
                    ],
                ),
                ("a.bias", &[0.34855434081731873, 1.0690870062878286, 1.0026463928886706, 0.5953176003385773]),
            ],
        },
        Case {
            name: "sgd_decay",
            optimizer: sgd(0.05, 0.0, 0.0, 0.1, false),
            clip: None,
            losses: [
                0.5359090171368859,
                0.4461499150519369,
                0.3720472725246614,
                0.31093061566983937,
                0.2605608886758355,
            ],
            state: &[
                (
                    "b.weight",
                    &[
                        0.7093258822066192,
                        0.10342537153726898,
                        -0.8652942681624604,
                        0.6943003579679341,
                        0.08322161717230607,
                        -0.952117339355365,
                        0.6776001648898324,
                        0.09758949840084871,
                    ],
                ),
                ("a.bias", &[0.3537053317016245, 0.9713726637377296, 0.9620024458098261, 0.5803549235427794]),
            ],
        },
        Case {
            name: "sgd_momentum",
            optimizer: sgd(0.1, 0.9, 0.0, 0.0, false),
            clip: None,
            losses: [
                0.5359090171368859,
                0.38078966194155195,
                0.18099813286760683,
                0.05887318783099417,
                0.06329769279554211,
            ],
            state: &[
                (
                    "b.weight",
                    &[
                        0.533698531674367,
                        0.018281421677122624,
                        -0.7387125329907844,
                        0.44817200205314384,
                        -0.020465041357840504,
                        -1.1254533347584066,
                        0.3533842955519063,
                        0.10525436652777455,
                    ],
                ),
                ("a.bias", &[0.2898986680351712, 1.3164021224192954, 1.0404842548372988, 0.5937578217436865]),
                ("b.bias.momentum_buffer", &[0.18133773728433245, 1.0918962439579105]),
            ],
        },
        Case {
            name: "sgd_dampening",
            optimizer: sgd(0.1, 0.9, 0.3, 0.02, false),
            clip: None,
            losses: [
                0.5359090171368859,
                0.37764487726996715,
                0.19896181025170012,
                0.07579517470247661,
                0.04457420350763243,
            ],
            state: &[
                (
                    "b.weight",
                    &[
                        0.5570676727013038,
                        0.023752326305464564,
                        -0.7538567063729973,
                        0.48010950134203884,
                        -0.009689436551953411,
                        -1.0882621887817692,
                        0.3966563955002842,
                        0.0933040572050926,
                    ],
                ),
                ("a.bias", &[0.29115712450896636, 1.2431054812932179, 1.0062219224176556, 0.5789249021733783]),
                ("b.bias.momentum_buffer", &[0.2315768991166958, 1.1052164490065]),
            ],
        },
        Case {
            name: "sgd_nesterov",
            optimizer: sgd(0.1, 0.8, 0.0, 0.01, true),
            clip: None,
            losses: [
                0.5359090171368859,
                0.27522967603355886,
                0.10560660983377482,
                0.0439916829184819,
                0.04197742375638281,
            ],
            state: &[
                (
                    "b.weight",
                    &[
                        0.5518917405124367,
                        0.05509412250915451,
                        -0.7419929227976901,
                        0.4985199602706525,
                        0.014648569630723243,
                        -1.067946897853436,
                        0.41152997764505894,
                        0.12310277964437198,
                    ],
                ),
                ("a.bias", &[0.30891320226662466, 1.2307480462237668, 1.0218922811973536, 0.5902670704153177]),
                ("b.bias.momentum_buffer", &[0.061299706704213974, 0.6116595607738637]),
            ],
        },
        Case {
            name: "adam",
            optimizer: adam(0.01, (0.9, 0.999), 1e-8, 0.0),
            clip: None,
            losses: [
                0.5359090171368859,
                0.4895134181372205,
                0.4460960054449005,
                0.4057052464802391,
                0.3683392938622208,
            ],
            state: &[
                (
                    "b.weight",
                    &[
                        0.7338162845706729,
                        0.09246913001140009,
                        -0.8764160222236866,
                        0.7443224332554328,
                        0.07483911116045011,
                        -0.9693494294574111,
                        0.7539137887850136,
                        0.05881002290676837,
                    ],
                ),
                ("a.bias", &[0.3405535704694328, 0.9410628864399558, 1.0182508831468164, 0.553163308366795]),
                ("b.bias.exp_avg", &[0.06718272787714753, 0.28456030066530724]),
                ("b.bias.exp_avg_sq", &[0.0001522455918624535, 0.0024546091099575435]),
            ],
        },
        Case {
            name: "adam_options",
            optimizer: adam(0.02, (0.8, 0.95), 1e-3, 0.1),
            clip: None,
            losses: [
                0.5359090171368859,
                0.4475609565558223,
                0.3693941575107826,
                0.30144858298141014,
                0.24337767731354995,
            ],
            state: &[
                (
                    "b.weight",
                    &[
                        0.6855733027514096,
                        0.048512165214285634,
                        -0.8278699410615372,
                        0.6967418049775858,
                        0.029147372062600766,
                        -1.0170622173892483,
                        0.7051281146569879,
                        0.04376179124791144,
                    ],
                ),
                ("a.bias", &[0.29487567461673003, 0.9888975418000151, 0.8744783731950875, 0.5023552324095959]),
                ("b.bias.exp_avg", &[0.09848369120600327, 0.4517865140950131]),
                ("b.bias.exp_avg_sq", &[0.006568248807018731, 0.11128332622596919]),
            ],
        },
        Case {
            name: "adam_no_mean",
            optimizer: adam(0.02, (0.0, 0.9), 1e-8, 0.0),
            clip: None,
            losses: [
                0.5359090171368859,
                0.4460013298951601,
                0.371484129678943,
                0.30923036553155975,
                0.25669264446271073,
            ],
            state: &[
                (
                    "b.weight",
                    &[
                        0.6977290483114352,
                        0.0716455916575735,
                        -0.8421557526399375,
                        0.7122359675485481,
                        0.03778573980855563,
                        -1.0180547601345677,
                        0.7095813701874832,
                        0.04129969537081009,
                    ],
                ),
                ("a.bias", &[0.3163969330649096, 0.984736565727209, 0.9886272675786133, 0.581854563660666]),
                ("b.bias.exp_avg", &[0.07128598173776929, 0.5340040594439752]),
                ("b.bias.exp_avg_sq", &[0.007982152244452926, 0.1667889639590643]),
            ],
        },
        Case {
            name: "adamw",
            optimizer: adam_w(0.01, (0.9, 0.999), 1e-8, 0.01),
            clip: None,
            losses: [
                0.5359090171368859,
                0.48933563555807275,
                0.4457691600586842,
                0.40525654623736374,
                0.36779385162828043,
            ],
            state: &[
                (
                    "b.weight",
                    &[
                        0.7334378402243276,
                        0.09241292769505739,
                        -0.8759680757920489,
                        0.7439398620626457,
                        0.07478839125978698,
                        -0.9688797693411566,
                        0.7535228751713459,
                        0.058759913955282336,
                    ],
                ),
                ("a.bias", &[0.3403700757550434, 0.9406062346933564, 1.017671135506777, 0.5528235219756304]),
                ("b.bias.exp_avg", &[0.06714965747061319, 0.2845104311264966]),
                ("b.bias.exp_avg_sq", &[0.00015213961125199965, 0.0024538666477650272]),
            ],
        },
        Case {
            name: "adamw_options",
            optimizer: adam_w(0.05, (0.85, 0.99), 1e-5, 0.3),
            clip: None,
            losses: [
                0.5359090171368859,
                0.31390088413233114,
                0.1783109375681015,
                0.09956048362566922,
                0.057756289468993874,
            ],
            state: &[
                (
                    "b.weight",
                    &[
                        0.5227860337833494,
                        0.023281959956177784,
                        -0.6584656361021968,
                        0.5671492802633126,
                        -0.08499933754830055,
                        -1.0873037257415938,
                        0.5158314258769887,
                        -0.00528355921567537,
                    ],
                ),
                ("a.bias", &[0.21857594332006872, 1.0515000791008955, 0.8586311670799658, 0.5486268110024537]),
                ("b.bias.exp_avg", &[-0.001814733815570951, 0.22566831100781884]),
                ("b.bias.exp_avg_sq", &[0.0006970300401592561, 0.012250706585937438]),
            ],
        },
        Case {
            name: "rms_prop",
            optimizer: rms_prop(0.01, 0.99, 1e-8, 0.0, 0.0, false),
            clip: None,
            losses: [
                0.5359090171368859,
                0.2035025127369236,
                0.09947052806334908,
                0.05635766808341738,
                0.03653572517858225,
            ],
            state: &[
                (
                    "b.weight",
                    &[
                        0.6046353592554191,
                        0.05251790325171256,
                        -0.7475050314523585,
                        0.6603395037319657,
                        -0.04856748249351585,
                        -1.1771921869419089,
                        0.5661063202404802,
                        0.11462561463069229,
                    ],
                ),
                ("a.bias", &[0.28052125395727795, 1.1155077824336856, 0.9777317878616933, 0.554256920831138]),
                ("b.bias.square_avg", &[0.0006099239942157921, 0.009097026974975709]),
            ],
        },
        Case {
            name: "rms_prop_centered",
            optimizer: rms_prop(0.01, 0.9, 1e-4, 0.05, 0.0, true),
            clip: None,
            losses: [
                0.5359090171368859,
                0.3926884879262702,
                0.31048400835609263,
                0.25100980737981526,
                0.2046703461258284,
            ],
            state: &[
                (
                    "b.weight",
                    &[
                        0.6773073007496719,
                        0.06082070667884666,
                        -0.8196879188307716,
                        0.6939331598986119,
                        0.024563494808707436,
                        -1.0353527288796769,
                        0.6906191488827665,
                        0.0644382804564052,
                    ],
                ),
                ("a.bias", &[0.30048388014532945, 1.0012430381458917, 0.8979894067724375, 0.4986318577547533]),
                ("b.bias.square_avg", &[0.0071227094512746215, 0.16109781577629584]),
                ("b.bias.grad_avg", &[0.048568404514040764, 0.2532053778473159]),
            ],
        },
        Case {
            name: "rms_prop_momentum",
            optimizer: rms_prop(0.005, 0.95, 1e-8, 0.0, 0.7, true),
            clip: None,
            losses: [
                0.5359090171368859,
                0.4337541371350486,
                0.316671858953495,
                0.21859585778080923,
                0.14526857097664805,
            ],
            state: &[
                (
                    "b.weight",
                    &[
                        0.6391491722002345,
                        0.03512742949377026,
                        -0.7828827524196028,
                        0.6599199103339717,
                        -0.021140929849225058,
                        -1.0875820647268286,
                        0.6432947774345148,
                        0.0013110012207565357,
                    ],
                ),
                ("a.bias", &[0.2743531203765027, 1.0498347306530804, 1.0018420256213667, 0.5654402394627006]),
                ("b.bias.square_avg", &[0.0035240204107175035, 0.07944547582432437]),
                ("b.bias.momentum_buffer", &[2.3344632704937913, 6.398512728231365]),
                ("b.bias.grad_avg", &[0.018736384430023026, 0.13066709011630284]),
            ],
        },
        Case {
            name: "adagrad",
            optimizer: adagrad(0.1, 0.0, 0.0, 0.0, 1e-10),
            clip: None,
            losses: [
                0.5359090171368859,
                0.20350246483118734,
                0.09968805298659644,
                0.05668986724837929,
                0.03687848494668931,
            ],
            state: &[
                (
                    "b.weight",
                    &[
                        0.6050888115826853,
                        0.05267886723225795,
                        -0.7479878478500385,
                        0.6604168006812375,
                        -0.04835912569218367,
                        -1.1765461595925717,
                        0.5668286217515878,
                        0.11347281452344736,
                    ],
                ),
                ("a.bias", &[0.28080638641359806, 1.1149055362669653, 0.9775227463174012, 0.5547691440298176]),
                ("b.bias.sum", &[0.06317040587053263, 0.942204745176908]),
            ],
        },
        Case {
            name: "adagrad_options",
            optimizer: adagrad(0.1, 0.2, 0.05, 0.3, 1e-3),
            clip: None,
            losses: [
                0.5359090171368859,
                0.3245755695298341,
                0.2288908161260604,
                0.1755600735467015,
                0.14216653337656165,
            ],
            state: &[
                (
                    "b.weight",
                    &[
                        0.6591302521864144,
                        0.07531419601364657,
                        -0.8206926976281448,
                        0.6480880806783442,
                        0.043599227169504824,
                        -1.0192186855652647,
                        0.6279315352200979,
                        0.09252733576265461,
                    ],
                ),
                ("a.bias", &[0.3285243686059933, 1.0431148728774369, 0.9614634453420038, 0.5733937428833347]),
                ("b.bias.sum", &[0.3931286485894729, 1.9212194680096455]),
            ],
        },
        Case {
            name: "clip_norm",
            optimizer: sgd(0.5, 0.9, 0.0, 0.0, false),
            clip: Some(Clip::Norm(Real(0.3))),
            losses: [
                0.5359090171368859,
                0.3596491658528696,
                0.13181745348423557,
                0.05160356827714879,
                0.12478827416381448,
            ],
            state: &[
                (
                    "b.weight",
                    &[
                        0.4220937542669304,
                        0.08213691663294953,
                        -0.6124750110762349,
                        0.38693712686639026,
                        0.010723424617230236,
                        -1.0438960141819473,
                        0.266024967118923,
                        0.199558300977217,
                    ],
                ),
                ("a.bias", &[0.2930242489334734, 1.3919394761992216, 1.0725403609869908, 0.6171093684803672]),
                ("b.bias.momentum_buffer", &[-0.07326091126676372, 0.044913792927831986]),
            ],
        },
        Case {
            name: "clip_norm_above",
            optimizer: sgd(0.1, 0.0, 0.0, 0.0, false),
            clip: Some(Clip::Norm(Real(100.0))),
            losses: [
                0.5359090171368859,
                0.38078966194155195,
                0.2735763242022964,
                0.19978141855201276,
                0.1490504606046889,
            ],
            state: &[
                (
                    "b.weight",
                    &[
                        0.6831693954326745,
                        0.08569646284484084,
                        -0.854202317436761,
                        0.6512088483740501,
                        0.06178950940306712,
                        -1.016307661099917,
                        0.6164569590380574,
                        0.10168931084028249,
                    ],
                ),
                ("a.bias", &[0.34855434081731873, 1.0690870062878286, 1.0026463928886706, 0.5953176003385773]),
            ],
        },
        Case {
            name: "clip_value",
            optimizer: sgd(0.5, 0.0, 0.0, 0.0, false),
            clip: Some(Clip::Value(Real(0.1))),
            losses: [
                0.5359090171368859,
                0.33828714093493145,
                0.2029018843779707,
                0.11144678853817207,
                0.057356716158049936,
            ],
            state: &[
                (
                    "b.weight",
                    &[
                        0.5634315870179233,
                        0.0685435456770562,
                        -0.7389172429425142,
                        0.6029141709933898,
                        -0.03857197327927508,
                        -1.166800499579087,
                        0.5537844265516217,
                        0.11155146660434086,
                    ],
                ),
                ("a.bias", &[0.30565956611401646, 1.1412073600614356, 0.9590773330093869, 0.5913191320466679]),
            ],
        },
    ]
}
