//! What holds for every model text: printing and reading are inverse, formatting keeps what is said, and no text makes
//! the reader panic.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use fusewright_ir::ops::{Initializer, LAYERS, Op, Parameter};
use fusewright_ir::recipe::Recipe;
use fusewright_ir::tensor::Data;
use fusewright_ir::text::{format, parse};
use fusewright_ir::{DType, Graph, GraphBuilder, Model, Tensor, TensorType, ValueId, verify};
use proptest::prelude::*;

/// Layers that take an image of any channels, or anything at all.
const LAYER_TEXTS: &[&str] = &[
    "Relu",
    "Tanh",
    "Abs",
    "Identity",
    "Conv2d(out:3,kernel_size:3,padding:1)",
    "Conv2d(out:4,kernel_size:1,bias:false)",
    "Conv2d(out:6,kernel_size:[3,1],stride:[2,1],padding:[(1,1),(0,0)],dilation:2,flip_kernel:true)",
    "Conv2d(out:4,kernel_size:3,padding:\"same\")",
    "MaxPool2d(kernel_size:2,stride:1)",
    "MaxPool2d(kernel_size:3,stride:[1,2],padding:1,ceil_mode:true)",
    "Flatten",
    "Dense(out:5)",
    "Dense(out:7,bias:false)",
    "BatchNorm2d",
    "BatchNorm2d(eps:0.001,affine:false)",
    "LayerNorm(normalized_shape:[8])",
    "GroupNorm(num_groups:1)",
    "LeakyRelu(negative_slope:0.2)",
    "Softmax(dim:-1)",
    "Mean(dim:[0,-1],keepdim:true)",
    "Permute(dims:[0,2,3,1])",
    "Reshape(shape:[-1,8])",
    "Pad(padding:[(1,2)],value:-0.5)",
    "AvgPool2d(kernel_size:2,count_include_pad:false,padding:1)",
    "AdaptiveAvgPool2d(output_size:[2,None])",
    "ConvTranspose2d(out:3,kernel_size:2,stride:2)",
    "Upsample(scale_factor:2,mode:bilinear)",
    "Split(dim:-1,split_size:3)",
    "Concat(dim:0)",
    "Cast(to:i32)",
    "Dropout(p:0.25)",
];

fn read(text: &str) -> Op {
    let (name, fields) = text.split_at(text.find('(').unwrap_or(text.len()));
    let kind = LAYERS.iter().flat_map(|kinds| kinds.iter()).find(|kind| kind.name == name).unwrap();
    (kind.read)(&parse(if fields.is_empty() { "()" } else { fields }).unwrap()).unwrap()
}

/// A graph of layers that read earlier values, with shared parameters, constants and initialisers of its own.
fn random_graph(choices: &[(usize, usize, u8)]) -> Graph {
    let mut build = GraphBuilder::new();
    let mut values: Vec<ValueId> = vec![build.input("x", TensorType::f32([2, 3, 8, 8]))];
    values.push(build.input("y", TensorType::new(DType::F32, [2, 3, 8, 8])));
    for (i, &(layer, from, detail)) in choices.iter().enumerate() {
        let input = values[from % values.len()];
        let name = format!("layer{}.{}", i / 3, i % 3);
        let made = match detail % 8 {
            // A parameter of the user's own, perhaps under the name that the layer would have given it.
            0 | 1 => {
                let ty = build.graph().value_type(input).clone();
                let Some(last) = ty.shape.last().cloned() else { continue };
                let weight = if detail % 8 == 0 { format!("{name}.weight") } else { format!("shared{i}") };
                let init = if detail & 8 == 0 { Initializer::Ones } else { Initializer::layer_weight() };
                let ty = TensorType::f32([fusewright_ir::Dim::from(6usize), last]);
                let parameter = Parameter { ty, init, trainable: detail & 16 == 0, is_state: false };
                let weight = build.node(&weight, Op::Parameter(parameter), &[]);
                values.push(build.node(&format!("{name}.twice"), read("Tanh"), &[weight]));
                build.try_node(&name, read("Dense(out:6,bias:false)"), &[input, weight])
            }
            2 => {
                let numbers = vec![f32::from(detail), -0.5, 1e-7, 0.1, 3e20, -0.0, f32::MAX, 16_777_217.0];
                let constant = build.constant(&format!("{name}.edge"), Tensor::new(&[8], Data::F32(numbers)));
                build.try_node(&name, read("Add"), &[input, constant])
            }
            3 => {
                let other = values[usize::from(detail) % values.len()];
                build.try_node(&name, read("Mul"), &[input, other])
            }
            _ => build.try_layer(&name, read(LAYER_TEXTS[layer % LAYER_TEXTS.len()]), &[input]),
        };
        if let Ok(node) = made {
            values.extend((0..build.graph().node(node).types.len() as u32).map(|port| ValueId { node, port }));
        }
    }
    let last = *values.last().unwrap();
    build.output(if choices.len().is_multiple_of(2) { "result" } else { "layer0.0.result" }, last);
    if choices.len().is_multiple_of(3) {
        build.output("x", values[0]);
    }
    build.finish()
}

fn lines(graph: &Graph) -> Vec<String> {
    let mut lines: Vec<String> = graph.to_string().lines().map(str::to_string).collect();
    for (_, node) in graph.nodes() {
        if let Op::Constant(constant) = &node.op {
            lines.push(format!("{} = {:?}", node.name, constant.tensor.data()));
        }
        if let Op::Parameter(parameter) = &node.op {
            lines.push(format!("{} trains: {}", node.name, parameter.trainable));
        }
    }
    lines.sort();
    lines
}

/// Where a text is cut, how far, and the number of what is put there.
type Cut = (prop::sample::Index, prop::sample::Index, usize);

/// A text with some stretches of it replaced.
fn damaged(source: &str, cuts: &[Cut], pieces: &[&str]) -> String {
    let mut text = source.to_string();
    for (at, length, piece) in cuts {
        let at = at.index(text.len());
        let end = (at + length.index(12)).min(text.len());
        if text.is_char_boundary(at) && text.is_char_boundary(end) {
            text.replace_range(at..end, pieces[*piece]);
        }
    }
    text
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn printing_and_reading_are_inverse(choices in prop::collection::vec((0usize..100, 0usize..100, any::<u8>()), 0..20)) {
        let graph = random_graph(&choices);
        // A layer that did not fit leaves its parameters behind, which is no fault.
        prop_assert!(verify(&graph).is_ok());
        let model = Model { graph, ..Model::default() };
        let text = model.to_ron();
        let again = Model::parse("printed", &text);
        prop_assert!(again.is_ok(), "{}\n{:?}", text, again.map(|_| ()));
        let again = again.unwrap();
        prop_assert_eq!(lines(&model.graph), lines(&again.graph), "{}", text);
        prop_assert_eq!(&text, &again.to_ron());
    }

    #[test]
    fn formatting_keeps_comments_and_meaning(places in prop::collection::vec((any::<prop::sample::Index>(), 0usize..5), 0..12)) {
        let source = include_str!("good/resnet.ron");
        // Comments go where white space is, outside of the comment at the top.
        let start = source.find('(').unwrap();
        let gaps: Vec<usize> = (start..source.len()).filter(|&at| source.as_bytes()[at] == b' ').collect();
        let mut text = source.to_string();
        let mut places: Vec<(usize, usize)> = places.iter().map(|(at, kind)| (gaps[at.index(gaps.len())], *kind)).collect();
        places.sort_unstable();
        for (i, (at, kind)) in places.iter().enumerate().rev() {
            let comment = [
                format!(" // {i}!\n"), format!("/* {i}! */"), format!("\n\n// {i}!\n\n\n"), format!(" /* {i}!\n */ "),
                format!("\n/* {i}! // \" */ "),
            ];
            text.insert_str(*at, &comment[*kind]);
        }
        let once = format(&text).unwrap();
        for i in 0..places.len() {
            prop_assert_eq!(once.matches(&format!(" {i}!")).count(), 1, "comment {} of\n{}\n{}", i, text, once);
        }
        prop_assert_eq!(&once, &format(&once).unwrap(), "{}", text);
        let (before, after) = (Model::parse("", &text).unwrap(), Model::parse("", &once).unwrap());
        prop_assert_eq!(lines(&before.graph), lines(&after.graph));
    }

    #[test]
    fn no_text_makes_the_reader_panic(
        cuts in prop::collection::vec((any::<prop::sample::Index>(), any::<prop::sample::Index>(), 0usize..16), 1..5)
    ) {
        let pieces = [
            "", "(", ")", "[", "]", "\"", ",", ":", "-1", "99999999999", "NaN", "N", "\"c1\"", "//", "\u{e9}", "1..4",
        ];
        for source in [include_str!("good/resnet.ron"), include_str!("good/lenet5.ron")] {
            let text = damaged(source, &cuts, &pieces);
            if let Err(faults) = Model::parse("m", &text) {
                let rendered = faults.render(Some(fusewright_ir::Source { path: "m", text: &text }), false);
                prop_assert!(!rendered.is_empty());
            }
            if let Ok(once) = format(&text) {
                prop_assert_eq!(&once, &format(&once).unwrap(), "{}", text);
            }
        }
    }

    #[test]
    fn no_training_file_makes_the_reader_panic(
        cuts in prop::collection::vec((any::<prop::sample::Index>(), any::<prop::sample::Index>(), 0usize..20), 1..5)
    ) {
        let pieces = [
            "", "(", ")", "[", "]", "\"", ",", ":", "-1", "99999999999", "NaN", "inf", "\"c1\"", "//", "\u{e9}", "Steps",
            "loss", "Adam", "..", "Npy",
        ];
        for source in [include_str!("good_recipes/whole.ron"), include_str!("good_recipes/pictures.ron")] {
            let text = damaged(source, &cuts, &pieces);
            Recipe::is_recipe(&text);
            match Recipe::parse("m", &text) {
                Ok(recipe) => {
                    prop_assert!(recipe.batch > 0 && recipe.epochs > 0);
                    prop_assert!(recipe.place(&["loss", "reduction"]).is_some());
                }
                Err(faults) => {
                    let rendered = faults.render(Some(fusewright_ir::Source { path: "m", text: &text }), false);
                    prop_assert!(!rendered.is_empty());
                }
            }
        }
    }
}
