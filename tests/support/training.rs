//! A whole training step of a network, by a recipe at random.

use super::network::{Built, Values};
use super::random::Random;
use fusewright::ir::ops::{LossReduction, Op, PairLoss, PointwiseLoss, Real};
use fusewright::ir::recipe::{Clip, Metric, Objective, Optimizer, Rate, Schedule, Time};
use fusewright::ir::{Graph, Tensor};
use fusewright::passes::train::{self, StepOptions, Training};

/// The step that trains the network for one of its float results; `None` where it has none, or nothing to train.
pub fn step(built: &Built, seed: u64) -> Option<Built> {
    let mut random = Random::named(seed, "recipe");
    let graph = &built.graph;
    let output = graph.outputs.iter().find(|output| graph.value_type(output.value).dtype.is_float())?.name.clone();
    let function = random.pick(&[PairLoss::Mse, PairLoss::L1, PairLoss::Huber { delta: Real(0.5) }]);
    let loss = Op::PointwiseLoss(PointwiseLoss { function, reduction: LossReduction::Mean });
    let objective = Objective { loss, output: Some(output), target: "target".to_string(), span: None };
    let metrics: &[Metric] = if random.chance(50) { &[Metric::MeanSquaredError] } else { &[] };
    let limit = Real(0.25);
    let clip = random.pick(&[None, None, Some(Clip::Norm(limit)), Some(Clip::Value(limit))]);
    let (optimizer, rate) = (optimizer(&mut random), rate(&mut random));
    let training =
        Training { objective: &objective, optimizer: &optimizer, rate: &rate, clip: clip.as_ref(), metrics, seed };
    let options = StepOptions { steps_per_epoch: 4, total_steps: 20 };
    let graph = train::step(graph.clone(), &training, &options).ok()?;
    let mut given = built.given.clone();
    let sources: Vec<_> =
        graph.nodes().filter(|(_, node)| matches!(node.op, Op::Input(_) | Op::Parameter(_))).collect();
    for (_, node) in sources {
        let (ty, name) = (&node.types[0], &node.name);
        // Sums of squares are not negative, nor is the count of steps.
        let values = match name.rsplit('.').next() {
            Some("exp_avg_sq" | "square_avg" | "sum") => Values::fine(0.25, 1.0),
            Some("step") => Values::new(0.0, 25.0, 1.0),
            _ => Values::of(ty.dtype, true),
        };
        given.entry(name.clone()).or_insert_with(|| -> Tensor { values.tensor(ty, seed, name) });
    }
    Some(Built { graph, given })
}

/// The graphs of a step of the network and of an evaluation, which share its state; `None` where there is nothing to train.
pub fn step_and_evaluation(built: &Built, seed: u64) -> Option<[Graph; 2]> {
    let graph = &built.graph;
    let output = graph.outputs.iter().find(|output| graph.value_type(output.value).dtype.is_float())?.name.clone();
    let loss = Op::PointwiseLoss(PointwiseLoss { function: PairLoss::Mse, reduction: LossReduction::Mean });
    let objective = Objective { loss, output: Some(output), target: "target".to_string(), span: None };
    let optimizer = optimizer(&mut Random::named(seed, "optimizer"));
    let (objective, rate) = (&objective, &Rate::default());
    let training = Training { objective, optimizer: &optimizer, rate, clip: None, metrics: &[], seed };
    let options = StepOptions { steps_per_epoch: 4, total_steps: 20 };
    let step = train::step(graph.clone(), &training, &options).ok()?;
    Some([step, train::evaluation(graph.clone(), objective, &[]).ok()?])
}

fn optimizer(random: &mut Random) -> Optimizer {
    let (lr, eps) = (Real(0.125), Real(1e-3));
    let weight_decay = Real(random.pick(&[0.0, 0.0, 0.25]));
    let momentum = Real(random.pick(&[0.0, 0.75]));
    let betas = (Real(0.75), Real(0.875));
    match random.below(5) {
        0 => {
            let dampening = Real(random.pick(&[0.0, 0.25]));
            let nesterov = momentum.0 > 0.0 && dampening.0 == 0.0;
            Optimizer::Sgd { lr, momentum, dampening, weight_decay, nesterov }
        }
        1 => Optimizer::Adam { lr, betas, eps, weight_decay },
        2 => Optimizer::AdamW { lr, betas, eps, weight_decay },
        3 => Optimizer::RmsProp { lr, alpha: Real(0.75), eps, weight_decay, momentum, centered: random.chance(50) },
        _ => {
            let initial_accumulator_value = Real(0.5);
            Optimizer::Adagrad { lr, lr_decay: Real(0.25), weight_decay, initial_accumulator_value, eps }
        }
    }
}

fn rate(random: &mut Random) -> Rate {
    let warmup = random.chance(30).then_some((Time::Steps(5), Real(0.25)));
    let schedule = match random.below(4) {
        0 => Schedule::Constant,
        1 => Schedule::Step { every: Time::Epochs(Real(1.0)), gamma: Real(0.5) },
        2 => Schedule::Cosine { over: None, to: Real(0.125) },
        _ => {
            let [pct_start, div_factor, final_div_factor] = [0.3, 25.0, 16.0].map(Real);
            Schedule::OneCycle { over: None, pct_start, div_factor, final_div_factor }
        }
    };
    Rate { warmup, schedule }
}
