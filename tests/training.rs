//! Trainings: that they learn, and what holds of their bits. Short forms of all that are in `models`; the full ones by
//! `cargo test --release --test training -- --ignored`.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use fusewright::data::{Dataset, Order};
use fusewright::{Event, Model, Options, Recipe, Tensor, Trainer, Units, bindings};
use std::ops::ControlFlow;
use std::path::Path;

fn recipe(name: &str) -> Recipe {
    Recipe::load(Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("models/train_{name}.ron"))).unwrap()
}

fn data(recipe: &Recipe) -> (Dataset, Dataset) {
    let (train, test) = recipe.data().unwrap().unwrap();
    (train, test.unwrap())
}

fn trainer(recipe: &Recipe, data: &Dataset) -> Trainer {
    Trainer::new(recipe.clone(), Some(data), Options::default()).unwrap_or_else(|error| panic!("{error}"))
}

/// Trains for so many steps more, or to the end.
fn steps(trainer: &mut Trainer, data: &Dataset, steps: u64) {
    let last = trainer.steps() + steps;
    let stop = |trainer: &Trainer| trainer.steps() >= last;
    let each = |trainer: &mut Trainer, event: Event| match event {
        Event::Step { .. } if stop(trainer) => ControlFlow::Break(()),
        _ => ControlFlow::Continue(()),
    };
    trainer.fit(data, None, each).unwrap_or_else(|error| panic!("{error}"));
}

/// All state, bit by bit.
fn bits(trainer: &Trainer) -> Vec<(String, Vec<u8>)> {
    let state = trainer.state();
    state.names().map(|(name, ..)| (name.to_string(), state.get(name).unwrap().data().bytes().to_vec())).collect()
}

/// A network with dropout, batch norm, Adam and a schedule, on 26 examples in batches of 8.
fn small() -> (tempfile::TempDir, Recipe) {
    let folder = tempfile::tempdir().unwrap();
    let text = r#"(
        fusewright: 1,
        model: (
            inputs: [(name: "x", shape: [N, 2])],
            layers: [
                Dense(name: "a", out: 16),
                BatchNorm1d(name: "n"),
                Relu,
                Dropout(p: 0.25),
                Dense(name: "y", out: 1),
                Dense(name: "beside", from: "x", out: 3),
            ],
            outputs: ["y", "beside"],
        ),
        loss: MSELoss,
        output: "y",
        optimizer: Adam(lr: 0.01),
        rate: Cosine,
        metrics: [MeanAbsoluteError],
        batch: 8,
        epochs: 6,
        seed: 3,
        data: (train: Csv(file: "d.csv", targets: ["y"])),
    )"#;
    let mut table = "a,b,y\n".to_string();
    for i in 0..26 {
        let (a, b) = ((i % 5) as f64 / 4.0, (i % 7) as f64 / 6.0);
        table += &format!("{a},{b},{}\n", a * b + 0.25);
    }
    std::fs::write(folder.path().join("d.csv"), table).unwrap();
    std::fs::write(folder.path().join("t.ron"), text).unwrap();
    let recipe = Recipe::load(folder.path().join("t.ron")).unwrap();
    (folder, recipe)
}

/// Digits, the batch, and the accuracy on the 2,000 of the test set that so many steps reach.
const DIGITS: [(&str, usize, u64, f32); 6] = [
    ("softmax", 64, 125, 0.85),
    ("mlp", 64, 60, 0.8),
    ("lenet5_1998", 64, 60, 0.3),
    ("lenet5", 64, 60, 0.5),
    ("convnet", 64, 30, 0.7),
    ("resnet_small", 16, 100, 0.3),
];

#[test]
fn digits_are_learned() {
    for (name, batch, n, accuracy) in DIGITS {
        let begun = std::time::Instant::now();
        let recipe = recipe(name).with_batch(batch);
        let (train, test) = data(&recipe);
        let mut trainer = trainer(&recipe, &train);
        steps(&mut trainer, &train, n);
        let scores = trainer.evaluate(&test).unwrap();
        println!("{name}: {scores:?}, {:?}", begun.elapsed());
        assert!(scores.metrics[0] >= accuracy, "{name}: {scores:?}");
    }
}

#[test]
fn linear_regression_is_least_squares() {
    let recipe = recipe("linear_regression");
    let (train, test) = data(&recipe);
    let units = Units::new(&recipe, &train);
    let mut trainer = trainer(&recipe, &train);
    trainer.fit(&train, None, |_, _| ControlFlow::Continue(())).unwrap();
    let scores = trainer.evaluate(&test).unwrap();
    assert!((units.loss(scores) - 2859.697).abs() < 0.1, "{scores:?}");
    assert!((units.metric(scores, 0) - 2859.697).abs() < 0.1, "{scores:?}");
    // The mean absolute error of the same line.
    assert!((units.metric(scores, 1) - 43.277).abs() < 0.01, "{scores:?}");
}

/// One unit follows one rise of the curve; a hundred units, or twice ten, follow it everywhere.
#[test]
fn curves_are_fitted() {
    for (name, low, high) in [("sine_1x1", 0.01, 0.3), ("sine_1x100", 0.0, 1e-4), ("sine_2x10", 0.0, 1e-4)] {
        let recipe = recipe(name);
        let (train, test) = data(&recipe);
        let mut trainer = trainer(&recipe, &train);
        trainer.fit(&train, None, |_, _| ControlFlow::Continue(())).unwrap();
        let loss = trainer.evaluate(&test).unwrap().loss;
        println!("{name}: {loss}");
        assert!((low..high).contains(&loss), "{name}: {loss}");
    }
}

#[test]
fn signals_are_told_apart() {
    let recipe = recipe("gunpoint").with_epochs(40);
    let (train, test) = data(&recipe);
    let mut trainer = trainer(&recipe, &train);
    trainer.fit(&train, None, |_, _| ControlFlow::Continue(())).unwrap();
    let scores = trainer.evaluate(&test).unwrap();
    assert!(scores.metrics[0] > 0.8, "{scores:?}");
}

#[test]
fn autoencoders_draw_their_input() {
    let recipe = recipe("autoencoder");
    let (train, test) = data(&recipe);
    let mut trainer = trainer(&recipe, &train);
    let before = trainer.evaluate(&test).unwrap().loss;
    steps(&mut trainer, &train, 60);
    let after = trainer.evaluate(&test).unwrap().loss;
    assert!(after < 0.075 && after < before / 2.0, "{before}, then {after}");
}

/// The middle of what PyTorch reaches with the same recipe, less half a point; mean of three seeds.
#[test]
#[ignore = "trains five networks three times"]
fn full_trainings_reach_what_pytorch_reaches() {
    for (name, least) in
        [("softmax", 0.911), ("mlp", 0.9335), ("lenet5_1998", 0.955), ("lenet5", 0.964), ("convnet", 0.9745)]
    {
        let accuracy = |seed| {
            let recipe = recipe(name).with_seed(seed);
            let (train, test) = data(&recipe);
            let mut trainer = trainer(&recipe, &train);
            trainer.fit(&train, None, |_, _| ControlFlow::Continue(())).unwrap();
            f64::from(trainer.evaluate(&test).unwrap().metrics[0])
        };
        let all = [1, 2, 3].map(accuracy);
        let mean = all.iter().sum::<f64>() / 3.0;
        println!("{name}: {mean:.4} of {all:.4?}");
        assert!(mean >= least, "{name}: {mean} of {all:?}, expected {least}");
    }
}

/// What the others reach when they are done.
#[test]
#[ignore = "trains three networks"]
fn full_trainings_reach_their_ends() {
    for (name, metric, range) in
        [("gunpoint", 1, 0.93..1.01), ("resnet_small", 1, 0.975..1.01), ("autoencoder", 0, 0.0..0.03)]
    {
        let recipe = recipe(name);
        let (train, test) = data(&recipe);
        let mut trainer = trainer(&recipe, &train);
        trainer.fit(&train, None, |_, _| ControlFlow::Continue(())).unwrap();
        let scores = trainer.evaluate(&test).unwrap();
        println!("{name}: {scores:?}");
        let score = if metric == 0 { scores.loss } else { scores.metrics[metric - 1] };
        assert!(range.contains(&score), "{name}: {scores:?}");
    }
}

/// `fit` is steps by hand over the same order; the last batch of an epoch is smaller.
#[test]
fn fit_is_steps_in_order() {
    let (_folder, recipe) = small();
    let (train, _) = recipe.data().unwrap().unwrap();
    let mut fitted = trainer(&recipe, &train);
    let mut sizes = Vec::new();
    let mut means = Vec::new();
    fitted
        .fit(&train, None, |_, event| {
            match event {
                Event::Step { examples, .. } => sizes.push(examples),
                Event::Evaluation { .. } => unreachable!("there is nothing to evaluate with"),
                Event::Epoch(epoch) => means.push(epoch.train.loss),
            }
            ControlFlow::Continue(())
        })
        .unwrap();
    assert_eq!(sizes, [8, 8, 8, 2].repeat(6));
    assert_eq!(fitted.history().len(), 6);

    let mut by_hand = trainer(&recipe, &train);
    let mut order = Order::new(26, 8, 3);
    for epoch in 0..6 {
        let mut sum = 0.0;
        for batch in 0..4 {
            let examples = order.batch(epoch, batch);
            let inputs = by_hand.examples(&train, examples);
            let inputs: Vec<(&str, &Tensor)> = inputs.iter().map(|(name, tensor)| (name.as_str(), tensor)).collect();
            sum += by_hand.step(&inputs).unwrap().loss * examples.len() as f32;
        }
        assert!((sum / 26.0 - means[epoch as usize]).abs() < 1e-6, "the mean over examples, not over batches");
    }
    assert!(bits(&by_hand) == bits(&fitted));
}

#[test]
fn a_training_repeats_by_its_seed_and_differs_by_it() {
    let (_folder, recipe) = small();
    let (train, _) = recipe.data().unwrap().unwrap();
    let run = |seed| {
        let mut trainer = trainer(&recipe.clone().with_seed(seed), &train);
        steps(&mut trainer, &train, 9);
        (bits(&trainer), trainer.evaluate(&train).unwrap())
    };
    let [first, again, other] = [3, 3, 4].map(run);
    assert!(first == again);
    assert!(first != other);

    // Of the same parameters and examples, so that only dropout is another one.
    let loss = |seed: u64| {
        let weights = trainer(&recipe, &train).weights();
        let options = Options { weights: Some(weights), ..Options::default() };
        let mut trainer = Trainer::new(recipe.clone().with_seed(seed), Some(&train), options).unwrap();
        let inputs = trainer.examples(&train, &[0, 1, 2, 3, 4, 5, 6, 7]);
        let inputs: Vec<(&str, &Tensor)> = inputs.iter().map(|(name, tensor)| (name.as_str(), tensor)).collect();
        let evaluated = trainer.score(&inputs).unwrap().loss;
        assert_eq!(trainer.score(&inputs).unwrap().loss, evaluated, "evaluation drops nothing");
        (evaluated, trainer.step(&inputs).unwrap().loss)
    };
    let [(evaluated, first), (same, other)] = [3, 4].map(loss);
    assert_eq!(evaluated, same);
    assert_ne!(first, other);
    assert_eq!(loss(3).1, first);
}

/// Steps whose kernels are long enough to be shared.
#[test]
fn the_number_of_threads_changes_no_bit() {
    let recipe = recipe("convnet");
    let (train, _) = data(&recipe);
    let run = |threads| {
        let options = Options { threads, ..Options::default() };
        let mut trainer = Trainer::new(recipe.clone(), Some(&train), options).unwrap();
        steps(&mut trainer, &train, 5);
        bits(&trainer)
    };
    let [one, two, three] = [1, 2, 3].map(run);
    assert!(one == two && two == three);
}

#[test]
fn a_pause_changes_no_bit() {
    let (folder, recipe) = small();
    let (train, _) = recipe.data().unwrap().unwrap();
    let mut whole = trainer(&recipe, &train);
    steps(&mut whole, &train, u64::MAX / 2);
    let history = |trainer: &Trainer| -> Vec<_> {
        trainer.history().iter().map(|epoch| (epoch.number, epoch.train, epoch.test)).collect()
    };
    // In the middle of an epoch, behind the last step of one, after the first step, and at the end.
    for pause in [1, 6, 8, 24] {
        let path = folder.path().join("checkpoint");
        let mut first = trainer(&recipe, &train);
        steps(&mut first, &train, pause);
        first.save(&path).unwrap();
        let mut second = trainer(&recipe, &train);
        second.resume(&path).unwrap();
        assert_eq!(second.steps(), pause);
        assert!(bits(&second) == bits(&first));
        steps(&mut second, &train, u64::MAX / 2);
        assert!(bits(&second) == bits(&whole), "after a pause at step {pause}");
        assert_eq!(history(&second), history(&whole), "after a pause at step {pause}");
    }
}

/// What the loss does not reach is part of what is saved, too.
#[test]
fn weights_are_those_of_the_whole_network() {
    let (folder, recipe) = small();
    let (train, _) = recipe.data().unwrap().unwrap();
    let mut trained = trainer(&recipe, &train);
    steps(&mut trained, &train, 5);
    let (weights, checkpoint) = (folder.path().join("w.safetensors"), folder.path().join("c.safetensors"));
    trained.weights().save(&weights).unwrap();
    trained.save(&checkpoint).unwrap();
    let loaded = fusewright::Weights::load(&weights).unwrap();
    let model: &Model = recipe.model();
    let options = Options { weights: Some(loaded), ..Options::default() };
    let mut session = model.compile(options).unwrap().session(&bindings([("N", 26)])).unwrap();
    let all: Vec<usize> = (0..26).collect();
    let inputs = trained.examples(&train, &all);
    let outputs = session.run_tensors(&[("x", &inputs[0].1)]).unwrap();
    let (found, wanted) = (outputs[0].1.as_slice::<f32>().unwrap(), inputs[1].1.as_slice::<f32>().unwrap());
    let error = found.iter().zip(wanted).map(|(a, b)| (a - b).abs()).sum::<f32>() / 26.0;
    let told = trained.evaluate(&train).unwrap().metrics[0];
    assert!((error - told).abs() < 1e-5, "{error}, {told}");

    // From another seed all parameters are others; those of the checkpoint take their places.
    let beside = |trainer: &Trainer| trainer.weights().get("beside.weight").unwrap().unwrap().into_owned();
    let options =
        Options { weights: Some(trainer(&recipe.clone().with_seed(9), &train).weights()), ..Options::default() };
    let mut other = Trainer::new(recipe.clone(), Some(&train), options).unwrap();
    assert_ne!(beside(&other), beside(&trained));
    other.resume(&checkpoint).unwrap();
    assert_eq!(beside(&other), beside(&trained));
}

/// An evaluation may be broken off: the epoch is then not over, and goes on with a new one.
#[test]
fn an_evaluation_may_be_broken_off() {
    let (_folder, recipe) = small();
    let (train, _) = recipe.data().unwrap().unwrap();
    let mut whole = trainer(&recipe, &train);
    whole.fit(&train, Some(&train), |_, _| ControlFlow::Continue(())).unwrap();

    let folder = tempfile::tempdir().unwrap();
    let checkpoint = folder.path().join("c");
    let mut broken = trainer(&recipe, &train);
    let mut seen = Vec::new();
    broken
        .fit(&train, Some(&train), |_, event| match event {
            Event::Evaluation { examples } => {
                seen.push(examples);
                if seen.len() == 6 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
            }
            _ => ControlFlow::Continue(()),
        })
        .unwrap();
    assert_eq!((seen, broken.history().len()), (vec![8, 16, 24, 26, 8, 16], 1));
    broken.save(&checkpoint).unwrap();
    let mut resumed = trainer(&recipe, &train);
    resumed.resume(&checkpoint).unwrap();
    for part in [&mut broken, &mut resumed] {
        part.fit(&train, Some(&train), |_, _| ControlFlow::Continue(())).unwrap();
        assert!(bits(part) == bits(&whole));
        let scores = |trainer: &Trainer| -> Vec<_> {
            trainer.history().iter().map(|epoch| (epoch.number, epoch.train, epoch.test)).collect()
        };
        assert_eq!(scores(part), scores(&whole));
    }
}

#[test]
fn a_trainer_says_what_it_was_not_made_for() {
    let (_folder, recipe) = small();
    let (train, _) = recipe.data().unwrap().unwrap();
    let fault = |error: fusewright::Error| error.diagnostics().unwrap().0[0].clone();
    let go_on = |_: &mut Trainer, _| ControlFlow::Continue(());
    // A set of as many batches, and none at all.
    let mut own = trainer(&recipe, &train);
    let (other_folder, other) = small();
    let table = std::fs::read_to_string(other_folder.path().join("d.csv")).unwrap();
    std::fs::write(other_folder.path().join("d.csv"), table.trim_end().rsplit_once('\n').unwrap().0).unwrap();
    let (fewer, _) = other.data().unwrap().unwrap();
    let found = fault(own.fit(&fewer, None, go_on).unwrap_err());
    assert_eq!((found.expected.as_deref(), found.found.as_deref()), (Some("26 of them"), Some("25")));
    own.fit(&train, None, go_on).unwrap();
    let mut without = Trainer::new(recipe.clone(), None, Options::default()).unwrap();
    assert!(fault(without.fit(&train, None, go_on).unwrap_err()).title.contains("other examples"));

    let inputs = own.examples(&train, &[0, 1]);
    let [(_, x), (_, y)] = inputs.as_slice() else { panic!("{inputs:?}") };
    for (given, title) in [
        (&[("x", x)][..], "the input `targets` is missing"),
        (&[("x", x), ("targets", y), ("x", x)], "the input `x` is given twice"),
        (&[("x", x), ("targets", y), ("z", x)], "the training has no input `z`"),
        (&[("x", y), ("targets", y)], "the input `x` does not fit"),
    ] {
        assert_eq!(fault(own.step(given).unwrap_err()).title, title);
    }
    assert!(own.step(&[("x", x), ("targets", y)]).is_ok(), "nothing is broken");

    let options = Options { bindings: bindings([("N", 5)]), ..Options::default() };
    let found = fault(Trainer::new(recipe.clone(), Some(&train), options).err().unwrap());
    assert_eq!((found.expected.as_deref(), found.found.as_deref()), (Some("8"), Some("5")));
    let long = recipe.with_epochs(i32::MAX as usize);
    assert!(fault(Trainer::new(long, Some(&train), Options::default()).err().unwrap()).title.contains("more steps"));
}
