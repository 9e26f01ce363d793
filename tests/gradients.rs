//! Gradients as users ask for them: in a model's text, of the library, and on the command line.

use fusewright::{Error, Model, Options, Tensor, bindings};
use std::process::Command;

const CUBE: &str = r#"(
    fusewright: 1,
    inputs: [(name: "x", shape: [N]), (name: "u", shape: [N])],
    layers: [Mul(name: "square", from: ["x", "x"]), Mul(name: "y", from: ["square", "x"])],
    outputs: ["y"],
    grad: {
        "dx": (of: "y", by: "x"),
        "udx": (of: "y", by: "x", upstream: "u"),
        "d2x": (of: "dx", by: "x"),
        "dsquare": (of: "y", by: "square"),
    },
)"#;

fn results(model: &Model, inputs: &[(&str, &Tensor)]) -> Vec<(String, Vec<f32>)> {
    let n = inputs[0].1.dims()[0];
    let executable = model.compile(Options::default()).unwrap();
    let mut session = executable.session(&bindings([("N", n)])).unwrap();
    let results = session.run_tensors(inputs).unwrap();
    results.into_iter().map(|(name, tensor)| (name, tensor.as_slice::<f32>().unwrap().to_vec())).collect()
}

#[test]
fn a_text_asks_for_gradients() {
    let model = Model::parse(CUBE).unwrap();
    let again = Model::parse(&model.definition().to_ron()).unwrap();
    for n in [2, 3] {
        let x = Tensor::from_vec(&[n], (0..n).map(|i| i as f32 - 2.0).collect());
        let u = Tensor::from_vec(&[n], (0..n).map(|i| 10.0 * i as f32).collect());
        for model in [&model, &again] {
            let results = results(model, &[("x", &x), ("u", &u)]);
            let x =
                |f: fn(f32, f32) -> f32| -> Vec<f32> { (0..n).map(|i| f(i as f32 - 2.0, 10.0 * i as f32)).collect() };
            assert_eq!(results[0], ("y".to_string(), x(|x, _| x * x * x)));
            assert_eq!(results[1], ("dx".to_string(), x(|x, _| 3.0 * x * x)));
            assert_eq!(results[2], ("udx".to_string(), x(|x, u| u * 3.0 * x * x)));
            assert_eq!(results[3], ("d2x".to_string(), x(|x, _| 6.0 * x)));
            assert_eq!(results[4], ("dsquare".to_string(), x(|x, _| x)));
        }
    }
}

#[test]
fn the_library_differentiates_again_and_again() {
    let text = r#"(fusewright: 1, inputs: [(name: "x", shape: [N])], layers: [Sin(name: "y")])"#;
    let mut model = Model::parse(text).unwrap();
    let mut name = "y".to_string();
    for _ in 0..3 {
        model = model.gradient(&name, &["x"]).unwrap();
        name += ".grad.x";
    }
    let x = Tensor::from_vec(&[1], vec![0.5f32]);
    let all = results(&model, &[("x", &x)]);
    let expected = [0.5f32.sin(), 0.5f32.cos(), -0.5f32.sin(), -0.5f32.cos()];
    for ((name, found), expected) in all.iter().zip(expected) {
        assert!((found[0] - expected).abs() < 1e-6, "{name} is {found:?}, expected {expected}");
    }
    let beyond = model.gradient(&name, &["x"]).unwrap();
    let error = beyond.compile(Options { bindings: bindings([("N", 1)]), ..Options::default() }).unwrap_err();
    assert!(error.to_string().contains("derivatives beyond order 3 are not known"), "{error}");
}

fn refusal(text: &str) -> String {
    match Model::parse(text) {
        Err(error @ Error::Input(_)) => error.to_string(),
        other => panic!("it is taken: {other:?}"),
    }
}

#[test]
fn what_has_no_gradient_is_told_with_the_path() {
    let model = |layers: &str, grad: &str| {
        let inputs = r#"[(name: "x", shape: [4, 3]), (name: "n", shape: [4], dtype: i64)]"#;
        format!("(fusewright: 1, inputs: {inputs}, layers: {layers}, grad: {{\"g\": {grad}}})")
    };
    let layers = r#"[ArgMax(name: "place", dim: 1, from: "x"), Cast(name: "y", to: f32)]"#;
    let text = refusal(&model(layers, r#"(of: "y", by: "x")"#));
    for part in ["`y` has no gradient by `x`", "layer `place` (ArgMax)", "x -> place -> y", "leave the layer out"] {
        assert!(text.contains(part), "{part:?} is not in\n{text}");
    }
    let layers = r#"[Exp(name: "a", from: "x"), Sin(name: "b", from: "x")]"#;
    let text = refusal(&model(layers, r#"(of: "a", by: "b")"#));
    assert!(text.contains("expected: a path from `b` to `a`"), "{text}");
    let text = refusal(&model(layers, r#"(of: "a", by: "n")"#));
    assert!(text.contains("`n` has no gradient") && text.contains("i64[4]"), "{text}");
    let text = refusal(&model(layers, r#"(of: "a", by: "x", upstream: "n")"#));
    assert!(text.contains("`n` does not fit `a`"), "{text}");
}

#[test]
fn names_are_checked() {
    let model = Model::parse(CUBE).unwrap();
    let text = model.gradient("y", &["z"]).unwrap_err().to_string();
    assert!(text.contains("gradient `y.grad.z`: there is no `z`"), "{text}");
    let once = model.gradient("y", &["x"]).unwrap();
    let text = once.gradient("y", &["x"]).unwrap_err().to_string();
    assert!(text.contains("the name is taken"), "{text}");
}

#[test]
fn the_command_line_compares_with_differences() {
    let arguments = ["check", "--gradients", "--samples", "3", "models/lenet5.ron", "--bind", "N=2"];
    let output = Command::new(env!("CARGO_BIN_EXE_fusewright")).args(arguments).output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    assert_eq!(output.status.code(), Some(0), "{text}");
    assert!(text.contains("c1.weight") && text.contains("f32[6, 1, 5, 5]"), "{text}");
    assert!(text.ends_with("11 gradients agree with finite differences\n"), "{text}");
}
