//! Networks ready to run.

use fusewright::{Isa, Model, Options, Session, Tensor, bindings};

/// A session, its input and a place for its result.
pub struct Ready {
    session: Session,
    input: Tensor,
    results: Vec<(String, Tensor)>,
}

impl Ready {
    /// A network with the input `x` of this shape. Its result is that of every node as a kernel of its own, without
    /// transforms, in the portable form.
    pub fn checked(name: &str, shape: &str, rest: &str, exact: bool) -> Ready {
        let text = format!("(fusewright: 1, inputs: [(name: \"x\", shape: {shape})], {rest})");
        let model = Model::parse(&text).expect("the text is a model");
        let plain = Options { fuse: false, exact: true, isa: Isa::Portable, ..Options::default() };
        let plain = Ready::new(&model, plain);
        let ready = Ready::new(&model, Options { exact, ..Options::default() });
        ready.compare(name, &plain);
        ready
    }

    fn new(model: &Model, options: Options) -> Ready {
        let executable = model.compile(options).expect("the model compiles");
        let mut session = executable.session(&bindings([])).expect("no size is open");
        let (_, ty) = session.inputs().swap_remove(0);
        let dims = ty.dims().expect("plans have no symbols");
        let elements = (0..dims.iter().product()).map(|i: usize| (i % 251) as f32 / 251.0 - 0.5).collect();
        let input = Tensor::from_vec::<f32>(&dims, elements);
        let results = session.run_tensors(&[("x", &input)]).expect("the input fits");
        Ready { session, input, results }
    }

    pub fn run(&mut self) {
        self.session.run_into(&[("x", &self.input)], &mut self.results).expect("the input fits");
    }

    fn result(&self) -> &[f32] {
        self.results[0].1.as_slice().expect("results are f32")
    }

    fn compare(&self, name: &str, plain: &Ready) {
        let scale = plain.result().iter().fold(1e-3, |most: f32, x| most.max(x.abs()));
        for (i, (got, want)) in self.result().iter().zip(plain.result()).enumerate() {
            assert!(
                (got - want).abs() <= 1e-4 * scale,
                "{name}: element {i} is {got}, but {want} in the portable form"
            );
        }
    }
}
