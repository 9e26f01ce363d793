//! Outputs and gradients of emitted code against PyTorch's, on the sample inputs of PyTorch's own tests.

use fusewright::data::safetensors::{Stored, read};
use fusewright::ir::ops::{Map, Op, layer_kind};
use fusewright::ir::text::parse;
use fusewright::ir::{Graph, GraphBuilder, Tensor, TensorType, ValueId};
use fusewright::passes::differentiate::differentiate;
use fusewright::{Model, Options};
use serde_json::Value;
use std::collections::BTreeMap;
use std::path::Path;

/// Cases that no layers express, by the function's name, each with the reason.
const REFUSED: &[(&str, &str)] = &[
    ("cumsum", "running sums are no layer"),
    ("nn.functional.unfold", "columns of windows are no layer"),
    ("Bilinear", "bilinear forms are no layer"),
];

/// Cases without numbers to compare, by their own names.
const EMPTY: &[(&str, &str)] = &[
    ("module_CrossEntropyLoss_004", "the file does not hold the weights of the classes"),
    ("module_CrossEntropyLoss_015", "the file does not hold the weights of the classes"),
];

/// The number of cases that pass, of 395.
const PASSING: usize = 381;

struct Case {
    name: String,
    function: String,
    args: Vec<Value>,
    kwargs: BTreeMap<String, Value>,
    tensors: BTreeMap<String, Tensor>,
}

fn cases() -> Vec<Case> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/torch_grad");
    let mut all: BTreeMap<String, BTreeMap<String, Tensor>> = BTreeMap::new();
    for (name, stored) in read(&folder.join("cases.safetensors")).unwrap() {
        let (case, tensor) = name.split_once('/').unwrap();
        let Stored::Tensor(value) = stored else { panic!("{name} is of a type that tensors have") };
        all.entry(case.to_string()).or_default().insert(tensor.to_string(), value);
    }
    let index: Vec<Value> = serde_json::from_str(&std::fs::read_to_string(folder.join("index.json")).unwrap()).unwrap();
    let case = |entry: &Value| {
        let text = |field: &str| entry[field].as_str().unwrap().to_string();
        let kwargs = entry["kwargs"].as_object().unwrap().iter().map(|(k, v)| (k.clone(), v.clone())).collect();
        let args = entry["args"].as_array().unwrap().clone();
        let name = text("case");
        Case { tensors: all.remove(&name).unwrap(), name, function: text("name"), args, kwargs }
    };
    index.iter().map(case).collect()
}

/// A network for one case.
struct Net<'a> {
    case: &'a Case,
    build: GraphBuilder,
}

impl Net<'_> {
    fn has(&self, name: &str) -> bool {
        self.case.tensors.contains_key(&format!("in.{name}"))
    }

    /// An operand by its name in the file.
    fn input(&mut self, name: &str) -> ValueId {
        if let Some(id) = self.build.graph().find(name) {
            return id.into();
        }
        let ty = self.case.tensors[&format!("in.{name}")].tensor_type();
        self.build.input(name, ty)
    }

    fn x(&mut self, i: usize) -> ValueId {
        self.input(&format!("x{i}"))
    }

    fn dims(&self, value: ValueId) -> Vec<usize> {
        self.build.graph().value_type(value).dims().unwrap()
    }

    /// A layer as a model file writes it, on data and parameters.
    fn layer(&mut self, text: &str, operands: &[ValueId]) -> ValueId {
        let (name, fields) = text.split_at(text.find('(').unwrap_or(text.len()));
        let kind = layer_kind(name).unwrap_or_else(|| panic!("{}: no layer {name}", self.case.name));
        let value = parse(if fields.is_empty() { "()" } else { fields }).unwrap();
        let op = (kind.read)(&value).unwrap_or_else(|e| panic!("{}: {text}: {}", self.case.name, e.message));
        self.build.node("layer", op, operands)
    }

    fn filled(&mut self, dims: &[usize], number: f32) -> ValueId {
        self.build.constant("constant", Tensor::from_vec(dims, vec![number; dims.iter().product()]))
    }

    fn number(&mut self, number: f64) -> ValueId {
        self.filled(&[], number as f32)
    }

    fn reshape(&mut self, value: ValueId, dims: &[usize]) -> ValueId {
        if self.dims(value) == dims { value } else { self.layer(&format!("Reshape(shape: {dims:?})"), &[value]) }
    }

    /// With at least one axis, as PyTorch counts those of a scalar.
    fn with_axis(&mut self, value: ValueId) -> ValueId {
        if self.dims(value).is_empty() { self.reshape(value, &[1]) } else { value }
    }

    fn map(&mut self, name: &str, operands: &[ValueId]) -> ValueId {
        self.build.node("map", Op::Map(Map::named(name).unwrap()), operands)
    }

    /// An argument by its place or its name, as RON.
    fn argument(&self, place: usize, name: &str) -> Option<String> {
        let value = self.case.kwargs.get(name).or_else(|| self.case.args.get(place))?;
        (!value.is_null() && *value != Value::Array(vec![])).then(|| ron(value))
    }

    /// `layer(field: value, ...)` of those arguments that are given: (place, keyword, field).
    fn with(&self, layer: &str, fixed: &str, arguments: &[(usize, &str, &str)]) -> String {
        let given = arguments
            .iter()
            .filter_map(|(place, name, field)| Some(format!("{field}: {}", self.argument(*place, name)?)));
        let all: Vec<String> =
            Some(fixed).filter(|fixed| !fixed.is_empty()).map(str::to_string).into_iter().chain(given).collect();
        format!("{layer}({})", all.join(", "))
    }

    /// A parameter of a module or function, or a constant where there is none.
    fn parameter(&mut self, name: &str, otherwise: (usize, f32)) -> ValueId {
        if self.has(name) { self.input(name) } else { self.filled(&[otherwise.0], otherwise.1) }
    }
}

/// A value of the index as RON writes it.
fn ron(value: &Value) -> String {
    match value {
        Value::Null => "None".to_string(),
        Value::String(text) if text == "inf" => text.clone(),
        Value::Array(items) if items.len() == 1 && items[0].is_number() => ron(&items[0]),
        Value::Array(items) => format!("[{}]", items.iter().map(ron).collect::<Vec<_>>().join(", ")),
        other => other.to_string(),
    }
}

/// A keyword out of reach of places.
const ONLY: usize = usize::MAX;

/// The result of a case as layers.
///
/// # Errors
/// Why there are none.
fn express(net: &mut Net) -> Result<ValueId, String> {
    let function = net.case.function.clone();
    let name = function.strip_prefix("nn.functional.").unwrap_or(&function);
    if let Some((_, why)) = REFUSED.iter().find(|(refused, _)| *refused == function) {
        return Err((*why).to_string());
    }
    if let Some((_, why)) = EMPTY.iter().find(|(case, _)| *case == net.case.name) {
        return Err((*why).to_string());
    }
    let elementwise = [
        ("ReLU", "Relu"),
        ("relu", "Relu"),
        ("ReLU6", "Relu6"),
        ("Sigmoid", "Sigmoid"),
        ("sigmoid", "Sigmoid"),
        ("Tanh", "Tanh"),
        ("SELU", "Selu"),
        ("selu", "Selu"),
        ("SiLU", "Silu"),
        ("silu", "Silu"),
        ("Mish", "Mish"),
        ("mish", "Mish"),
        ("Softplus", "Softplus"),
        ("Softsign", "Softsign"),
        ("Hardswish", "Hardswish"),
        ("hardswish", "Hardswish"),
        ("hardsigmoid", "Hardsigmoid"),
        ("Hardtanh", "Hardtanh"),
        ("LogSigmoid", "LogSigmoid"),
        ("exp", "Exp"),
        ("log", "Log"),
        ("square", "Square"),
        ("erf", "Erf"),
        ("cos", "Cos"),
        ("neg", "Neg"),
        ("reciprocal", "Reciprocal"),
        ("leaky_relu", "LeakyRelu"),
        ("elu", "Elu"),
    ];
    if let Some((_, layer)) = elementwise.iter().find(|(torch, _)| *torch == name) {
        let x = net.x(0);
        let text = match *layer {
            "Elu" => net.with(layer, "", &[(0, "alpha", "alpha")]),
            _ => layer.to_string(),
        };
        return Ok(net.layer(&text, &[x]));
    }
    let pairs = [
        ("mul", "Mul"),
        ("true_divide", "Div"),
        ("div_no_rounding_mode", "Div"),
        ("maximum", "Max"),
        ("minimum", "Min"),
        ("pow", "Pow"),
        ("atan2", "Atan2"),
        ("logaddexp", "LogAddExp"),
        ("matmul", "MatMul"),
    ];
    if let Some((_, layer)) = pairs.iter().find(|(torch, _)| *torch == name) {
        let operands = [net.x(0), net.x(1)];
        return Ok(net.layer(layer, &operands));
    }
    let losses = [
        ("MSELoss", "MSELoss"),
        ("mse_loss", "MSELoss"),
        ("L1Loss", "L1Loss"),
        ("SmoothL1Loss", "SmoothL1Loss"),
        ("smooth_l1_loss", "SmoothL1Loss"),
        ("HuberLoss", "HuberLoss"),
        ("huber_loss", "HuberLoss"),
        ("KLDivLoss", "KLDivLoss"),
        ("BCEWithLogitsLoss", "BCEWithLogitsLoss"),
        ("NLLLoss", "NLLLoss"),
        ("nll_loss", "NLLLoss"),
        ("CrossEntropyLoss", "CrossEntropyLoss"),
        ("cross_entropy", "CrossEntropyLoss"),
        ("binary_cross_entropy", "BCELoss"),
    ];
    if let Some((_, layer)) = losses.iter().find(|(torch, _)| *torch == name) {
        let fields = ["reduction", "ignore_index", "label_smoothing", "beta", "delta", "log_target"];
        let fields: Vec<(usize, &str, &str)> = fields.iter().map(|field| (ONLY, *field, *field)).collect();
        let text = net.with(layer, "", &fields);
        let mut operands = vec![net.x(0), net.x(1)];
        if !net.has("k.weight") {
            return Ok(net.layer(&text, &operands));
        }
        let weight = net.input("k.weight");
        if *layer == "BCELoss" {
            let each = net.layer("BCELoss(reduction: \"none\")", &operands);
            let weighted = net.map("Mul", &[each, weight]);
            return Ok(net.layer("Mean", &[weighted]));
        }
        operands.push(weight);
        return Ok(net.layer(&text, &operands));
    }
    let x = if net.has("x0") { net.x(0) } else { net.input("x0.0") };
    let dims = net.dims(x);
    Ok(match name {
        "Conv1d" | "Conv2d" | "ConvTranspose1d" | "ConvTranspose2d" | "conv1d" | "conv2d" | "conv_transpose1d"
        | "conv_transpose2d" => {
            let module = net.has("param.weight");
            let weight = net.input(if module { "param.weight" } else { "x1" });
            let bias = if module { "param.bias" } else { "x2" };
            let (transposed, shape) = (name.to_lowercase().contains("transpose"), net.dims(weight));
            let groups: usize = net.argument(ONLY, "groups").map_or(1, |groups| groups.parse().unwrap());
            let out = if transposed { shape[1] * groups } else { shape[0] };
            let layer = format!("Conv{}{}d", if transposed { "Transpose" } else { "" }, shape.len() - 2);
            let fixed = format!("out: {out}, kernel_size: {:?}, bias: {}", &shape[2..], net.has(bias));
            let fields = ["stride", "padding", "output_padding", "groups", "dilation"];
            let fields: Vec<(usize, &str, &str)> = fields.iter().map(|field| (ONLY, *field, *field)).collect();
            let text = net.with(&layer, &fixed, &fields);
            let mut operands = vec![x, weight];
            if net.has(bias) {
                operands.push(net.input(bias));
            }
            net.layer(&text, &operands)
        }
        "MaxPool1d" | "MaxPool2d" | "max_pool1d" | "max_pool2d" => {
            let layer = format!("MaxPool{}d", &name[name.len() - 2..name.len() - 1]);
            let fields = [
                (0, "kernel_size", "kernel_size"),
                (1, "stride", "stride"),
                (2, "padding", "padding"),
                (ONLY, "ceil_mode", "ceil_mode"),
                (ONLY, "dilation", "dilation"),
            ];
            let text = net.with(&layer, "", &fields);
            net.layer(&text, &[x])
        }
        "AvgPool1d" | "AvgPool2d" | "avg_pool1d" | "avg_pool2d" => {
            let layer = format!("AvgPool{}d", &name[name.len() - 2..name.len() - 1]);
            let negative = net.case.args.get(5).and_then(Value::as_f64).filter(|divisor| *divisor < 0.0);
            let divisor = match negative {
                Some(_) => (ONLY, "", ""),
                None => (5, "divisor_override", "divisor_override"),
            };
            let fields = [
                (0, "kernel_size", "kernel_size"),
                (1, "stride", "stride"),
                (2, "padding", "padding"),
                (3, "ceil_mode", "ceil_mode"),
                (4, "count_include_pad", "count_include_pad"),
                divisor,
            ];
            let text = net.with(&layer, if negative.is_some() { "divisor_override: 1" } else { "" }, &fields);
            let sums = net.layer(&text, &[x]);
            match negative {
                Some(divisor) => {
                    let factor = net.number(1.0 / divisor);
                    net.map("Mul", &[sums, factor])
                }
                None => sums,
            }
        }
        "AdaptiveAvgPool2d" | "AdaptiveMaxPool2d" | "adaptive_avg_pool2d" => {
            let layer = if name.contains("Max") { "AdaptiveMaxPool2d" } else { "AdaptiveAvgPool2d" };
            let text = net.with(layer, "", &[(0, "output_size", "output_size")]);
            net.layer(&text, &[x])
        }
        "Softmax" | "softmax_with_dtype" | "LogSoftmax" | "log_softmax" => {
            let layer = if name.to_lowercase().starts_with("log") { "LogSoftmax" } else { "Softmax" };
            let (text, x) = (net.with(layer, "", &[(0, "dim", "dim")]), net.with_axis(x));
            net.layer(&text, &[x])
        }
        "LeakyReLU" => layer_with(net, "LeakyRelu", &[(0, "negative_slope", "negative_slope")], x),
        "ELU" => layer_with(net, "Elu", &[(0, "alpha", "alpha")], x),
        "CELU" => layer_with(net, "Celu", &[(0, "alpha", "alpha")], x),
        "gelu" => net.layer(if net.case.kwargs["approximate"] == "tanh" { "GeluTanh" } else { "Gelu" }, &[x]),
        "GLU" => net.layer("Glu", &[x]),
        "Tanhshrink" => {
            let tanh = net.map("Tanh", &[x]);
            net.map("Sub", &[x, tanh])
        }
        "Threshold" => {
            let (threshold, value) = (net.case.args[0].as_f64().unwrap(), net.case.args[1].as_f64().unwrap());
            let (threshold, value) = (net.number(threshold), net.number(value));
            let above = net.map("Greater", &[x, threshold]);
            net.map("Where", &[above, x, value])
        }
        "PReLU" => {
            let weight = net.input("param.weight");
            let n = net.dims(weight)[0];
            net.layer(&format!("PRelu(num_parameters: {n})"), &[x, weight])
        }
        "BatchNorm1d" | "BatchNorm1d_train" | "BatchNorm2d_train" => {
            let kept = !name.ends_with("_train") && net.case.args.get(4) != Some(&Value::Bool(false));
            let affine = net.has("param.weight");
            let fixed = format!("affine: {affine}, track_running_stats: {kept}");
            let text = net.with(name.trim_end_matches("_train"), &fixed, &[(1, "eps", "eps")]);
            let operands = norm_operands(net, x, dims[1], affine, kept);
            net.layer(&text, &operands)
        }
        "InstanceNorm2d" | "InstanceNorm2d_train" => {
            let kept = !name.ends_with("_train") && net.case.args.get(4) == Some(&Value::Bool(true));
            let affine = net.has("param.weight");
            let fixed = format!("affine: {affine}, track_running_stats: {kept}");
            let text = net.with("InstanceNorm2d", &fixed, &[(1, "eps", "eps")]);
            let operands = norm_operands(net, x, dims[dims.len() - 3], affine, kept);
            net.layer(&text, &operands)
        }
        "GroupNorm" | "GroupNorm_train" => {
            let affine = net.has("param.weight");
            let fixed = format!("affine: {affine}");
            let text = net.with("GroupNorm", &fixed, &[(0, "num_groups", "num_groups"), (2, "eps", "eps")]);
            let operands = norm_operands(net, x, dims[1], affine, false);
            net.layer(&text, &operands)
        }
        "group_norm" => {
            let (weight, bias) = (net.input("k.weight"), net.input("k.bias"));
            let eps = net.case.kwargs["eps"].as_f64().unwrap();
            if eps >= 0.0 {
                let text = net.with("GroupNorm", "", &[(0, "num_groups", "num_groups"), (ONLY, "eps", "eps")]);
                return Ok(net.layer(&text, &[x, weight, bias]));
            }
            // No layer takes a negative eps: the formula, from its parts.
            let groups = net.case.args[0].as_u64().unwrap() as usize;
            let members = dims[1..].iter().product::<usize>() / groups;
            let view = net.reshape(x, &[dims[0], groups, members]);
            let mean = net.layer("Mean(dim: 2, keepdim: true)", &[view]);
            let variance = net.layer("Var(dim: 2, correction: 0, keepdim: true)", &[view]);
            let eps = net.number(eps);
            let variance = net.map("Add", &[variance, eps]);
            let deviation = net.map("Sqrt", &[variance]);
            let centred = net.map("Sub", &[view, mean]);
            let normal = net.map("Div", &[centred, deviation]);
            let normal = net.reshape(normal, &dims);
            let along: Vec<usize> = dims[1..].iter().enumerate().map(|(i, &n)| if i == 0 { n } else { 1 }).collect();
            let (weight, bias) = (net.reshape(weight, &along), net.reshape(bias, &along));
            let scaled = net.map("Mul", &[normal, weight]);
            net.map("Add", &[scaled, bias])
        }
        "LayerNorm" | "LayerNorm_train" | "layer_norm" => {
            let (weight, bias) = if name == "layer_norm" { ("x2", "x3") } else { ("param.weight", "param.bias") };
            let fixed = format!("elementwise_affine: {}, bias: {}", net.has(weight), net.has(bias) || !net.has(weight));
            let text = net.with("LayerNorm", &fixed, &[(0, "normalized_shape", "normalized_shape"), (1, "eps", "eps")]);
            // The second argument of the function is its weight.
            let text = if name == "layer_norm" {
                net.with("LayerNorm", &fixed, &[(0, "normalized_shape", "normalized_shape")])
            } else {
                text
            };
            let mut operands = vec![x];
            for parameter in [weight, bias] {
                if net.has(parameter) {
                    operands.push(net.input(parameter));
                }
            }
            net.layer(&text, &operands)
        }
        "batch_norm" => {
            let training = net.case.kwargs.get("training") == Some(&Value::Bool(true));
            let affine = net.has("x3");
            let fixed = format!("affine: {affine}, track_running_stats: {}", !training);
            let text = net.with(&format!("BatchNorm{}d", dims.len().max(3) - 2), &fixed, &[(ONLY, "eps", "eps")]);
            let mut operands = vec![x];
            if affine {
                operands.extend([net.x(3), net.x(4)]);
            }
            if !training {
                operands.extend([net.x(1), net.x(2)]);
            }
            net.layer(&text, &operands)
        }
        "LocalResponseNorm" | "LocalResponseNorm_train" | "local_response_norm" => {
            let fields = [(0, "size", "size"), (ONLY, "alpha", "alpha"), (ONLY, "beta", "beta"), (ONLY, "k", "k")];
            layer_with(net, "LocalResponseNorm", &fields, x)
        }
        "ReplicationPad2d" | "ZeroPad2d" | "ConstantPad2d" | "pad_constant" | "pad_reflect" | "pad_replicate" => {
            let amounts: Vec<i64> = match &net.case.args[0] {
                Value::Array(items) => items.iter().map(|item| item.as_i64().unwrap()).collect(),
                one => vec![one.as_i64().unwrap(); 4],
            };
            let pairs: Vec<String> =
                amounts.chunks(2).rev().map(|pair| format!("({}, {})", pair[0], pair[1])).collect();
            let rest = match name {
                "ReplicationPad2d" | "pad_replicate" => ", mode: replicate".to_string(),
                "pad_reflect" => ", mode: reflect".to_string(),
                "ConstantPad2d" => format!(", value: {}", ron(&net.case.args[1])),
                _ => net.argument(2, "value").map_or(String::new(), |value| format!(", value: {value}")),
            };
            net.layer(&format!("Pad(padding: [{}]{rest})", pairs.join(", ")), &[x])
        }
        "linear" => {
            let weight = net.x(1);
            let out = net.dims(weight)[0];
            let mut operands = vec![x, weight];
            if net.has("x2") {
                operands.push(net.x(2));
            }
            net.layer(&format!("Dense(out: {out}, bias: {})", net.has("x2")), &operands)
        }
        "addmm" => {
            let (a, b) = (net.x(1), net.x(2));
            let product = net.layer("MatMul", &[a, b]);
            let [alpha, beta] = ["alpha", "beta"].map(|name| net.case.kwargs[name].as_f64().unwrap());
            let (alpha, beta) = (net.number(alpha), net.number(beta));
            let (product, x) = (net.map("Mul", &[product, alpha]), net.map("Mul", &[x, beta]));
            net.map("Add", &[product, x])
        }
        "add" | "sub" => {
            let mut other = net.x(1);
            if let Some(alpha) = net.case.kwargs.get("alpha").and_then(Value::as_f64) {
                let alpha = net.number(alpha);
                other = net.map("Mul", &[other, alpha]);
            }
            net.map(if name == "add" { "Add" } else { "Sub" }, &[x, other])
        }
        "sum" | "mean" | "prod" | "amax" | "amin" | "logsumexp" | "var" => {
            let layer = [
                ("sum", "Sum"),
                ("mean", "Mean"),
                ("prod", "Prod"),
                ("amax", "Amax"),
                ("amin", "Amin"),
                ("logsumexp", "LogSumExp"),
                ("var", "Var"),
            ];
            let (_, layer) = layer.iter().find(|(torch, _)| *torch == name).unwrap();
            let fixed = match net.case.kwargs.get("unbiased") {
                Some(Value::Bool(false)) => "correction: 0",
                _ => "",
            };
            let fields = [(0, "dim", "dim"), (1, "keepdim", "keepdim"), (ONLY, "correction", "correction")];
            let (text, x) = (net.with(layer, fixed, &fields), net.with_axis(x));
            net.layer(&text, &[x])
        }
        "norm" | "linalg.vector_norm" => {
            let x = net.with_axis(x);
            let fields = [(0, "ord", "p"), (1, "dim", "dim"), (ONLY, "keepdim", "keepdim")];
            layer_with(net, "Norm", &fields, x)
        }
        "reshape" => {
            let shape = net.case.args[0].as_array().unwrap().iter().map(ron).collect::<Vec<_>>().join(", ");
            net.layer(&format!("Reshape(shape: [{shape}])"), &[x])
        }
        "transpose" => layer_with(net, "Transpose", &[(0, "", "dim0"), (1, "", "dim1")], x),
        "permute" => layer_with(net, "Permute", &[(0, "", "dims")], x),
        "squeeze" => {
            let x = net.with_axis(x);
            layer_with(net, "Squeeze", &[(0, "", "dim")], x)
        }
        "unsqueeze" => layer_with(net, "Unsqueeze", &[(0, "", "dim")], x),
        "flatten" => {
            let fixed = if net.case.kwargs.is_empty() { "start_dim: 0" } else { "" };
            let text = net.with("Flatten", fixed, &[(ONLY, "start_dim", "start_dim"), (ONLY, "end_dim", "end_dim")]);
            net.layer(&text, &[x])
        }
        "cat" | "stack" => {
            let operands: Vec<String> = (0..).map(|i| format!("x0.{i}")).take_while(|name| net.has(name)).collect();
            let operands: Vec<ValueId> = operands.iter().map(|name| net.input(name)).collect();
            let text = net.with(if name == "cat" { "Concat" } else { "Stack" }, "", &[(0, "dim", "dim")]);
            net.layer(&text, &operands)
        }
        "narrow" => {
            let start = net.case.tensors["in.x2"].data().to_f64()[0] as i64;
            let (dim, length) = (net.case.args[0].as_i64().unwrap(), net.case.args[2].as_i64().unwrap());
            let axis = dim.rem_euclid(dims.len() as i64) as usize;
            let start = start.rem_euclid(dims[axis] as i64 + 1);
            net.layer(&format!("Slice(dim: {dim}, start: {start}, end: {})", start + length), &[x])
        }
        "expand" | "tile" => {
            let list = net.case.args[0].as_array().unwrap().iter().map(ron).collect::<Vec<_>>().join(", ");
            let text =
                if name == "expand" { format!("Expand(shape: [{list}])") } else { format!("Tile(repeats: [{list}])") };
            net.layer(&text, &[x])
        }
        "interpolate_nearest" | "interpolate_bilinear" => {
            let mut text = vec![format!("mode: {}", name.trim_start_matches("interpolate_"))];
            if net.case.kwargs["align_corners"] == Value::Bool(true) {
                text.push("align_corners: true".to_string());
            }
            let factor = net.case.kwargs.get("scale_factor").and_then(Value::as_f64);
            match factor {
                Some(factor) if net.case.kwargs["recompute_scale_factor"] == Value::Bool(true) => {
                    let sizes: Vec<usize> = dims[2..].iter().map(|&n| (n as f64 * factor).floor() as usize).collect();
                    text.push(format!("size: {sizes:?}"));
                }
                Some(factor) => text.push(format!("scale_factor: {factor}")),
                None => text.push(format!("size: {}", ron(&net.case.args[0]))),
            }
            net.layer(&format!("Upsample({})", text.join(", ")), &[x])
        }
        "clamp" => {
            let low = net.x(1);
            let low = net.layer("Cast(to: f32)", &[low]);
            let raised = net.map("Max", &[x, low]);
            if net.has("x2") {
                let high = net.x(2);
                net.map("Min", &[raised, high])
            } else {
                raised
            }
        }
        "gather" => {
            let index = net.x(2);
            layer_with_all(net, "Gather", &[(0, "", "dim")], &[x, index])
        }
        "index_select" => {
            let (x, index) = (net.with_axis(x), net.x(2));
            layer_with_all(net, "IndexSelect", &[(0, "", "dim")], &[x, index])
        }
        "embedding" => {
            let index = net.x(1);
            let text = format!("Embedding(num_embeddings: {}, embedding_dim: {})", dims[0], dims[1]);
            net.layer(&text, &[index, x])
        }
        "pixel_shuffle" => layer_with(net, "PixelShuffle", &[(ONLY, "upscale_factor", "upscale_factor")], x),
        other => return Err(format!("nothing expresses {other}")),
    })
}

fn layer_with(net: &mut Net, layer: &str, fields: &[(usize, &str, &str)], x: ValueId) -> ValueId {
    layer_with_all(net, layer, fields, &[x])
}

fn layer_with_all(net: &mut Net, layer: &str, fields: &[(usize, &str, &str)], operands: &[ValueId]) -> ValueId {
    let text = net.with(layer, "", fields);
    net.layer(&text, operands)
}

/// The data, weight and bias where there are any, and the statistics of a module that has seen nothing yet.
fn norm_operands(net: &mut Net, x: ValueId, channels: usize, affine: bool, kept: bool) -> Vec<ValueId> {
    let mut operands = vec![x];
    if affine {
        operands.extend([net.parameter("param.weight", (channels, 1.0)), net.parameter("param.bias", (channels, 0.0))]);
    }
    if kept {
        operands.extend([net.filled(&[channels], 0.0), net.filled(&[channels], 1.0)]);
    }
    operands
}

/// The network of a case with its result `out` and its gradients `grad.*`.
fn network(case: &Case) -> Result<Graph, String> {
    let mut net = Net { case, build: GraphBuilder::new() };
    let result = express(&mut net)?;
    let wanted = case.tensors["out"].dims().to_vec();
    let result = net.reshape(result, &wanted);
    let cotangent = net.build.input("cotangent", TensorType::f32(wanted));
    net.build.output("out", result);
    let names: Vec<String> =
        case.tensors.keys().filter_map(|name| Some(name.strip_prefix("grad.")?.to_string())).collect();
    let by: Vec<ValueId> = names.iter().map(|name| net.input(name)).collect();
    let (mut graph, gradients) =
        differentiate(net.build.finish(), result, Some(cotangent), &by).map_err(|e| format!("{e:?}"))?;
    for (name, value) in names.iter().zip(gradients) {
        graph.outputs.push(fusewright::ir::Output { name: format!("grad.{name}"), value, is_update: false });
    }
    Ok(graph)
}

/// # Errors
/// What differs, or why the case has no network.
fn check(case: &Case) -> Result<(), String> {
    if case.tensors.values().any(|tensor| tensor.dims().contains(&0)) {
        return Err("a network has no axes without elements".to_string());
    }
    let graph = network(case)?;
    let inputs: Vec<String> =
        graph.nodes().filter(|(_, node)| matches!(node.op, Op::Input(_))).map(|(_, node)| node.name.clone()).collect();
    let model = Model::from_graph(graph).map_err(|e| format!("{e}"))?;
    let executable = model.compile(Options::default()).map_err(|e| e.to_string())?;
    let mut session = executable.session(&Default::default()).map_err(|e| e.to_string())?;
    let given: Vec<(&str, &Tensor)> = inputs
        .iter()
        .map(|name| {
            let stored = if name == "cotangent" { name.clone() } else { format!("in.{name}") };
            (name.as_str(), &case.tensors[&stored])
        })
        .collect();
    for (name, found) in session.run_tensors(&given).map_err(|e| e.to_string())? {
        let expected = &case.tensors[&name];
        assert_eq!(found.dims(), expected.dims(), "{}: {name}", case.name);
        for (i, (found, expected)) in found.data().to_f64().iter().zip(expected.data().to_f64()).enumerate() {
            let close = (found - expected).abs() <= 1e-5 + 1e-4 * expected.abs();
            if !(close || found.is_nan() && expected.is_nan() || *found == expected) {
                return Err(format!("{name}[{i}]: found {found:e}, PyTorch has {expected:e}"));
            }
        }
    }
    Ok(())
}

#[test]
fn gradients_are_those_of_pytorch() {
    let only = std::env::var("CASE").unwrap_or_default();
    let all: Vec<Case> = cases().into_iter().filter(|case| case.name.contains(&only)).collect();
    let (mut passed, mut faults) = (0, Vec::new());
    for case in &all {
        let empty = case.tensors.values().any(|tensor| tensor.dims().contains(&0));
        let refused =
            REFUSED.iter().any(|(name, _)| *name == case.function) || EMPTY.iter().any(|(name, _)| *name == case.name);
        let result = std::panic::catch_unwind(|| check(case));
        match result.unwrap_or_else(|_| Err("it panics".to_string())) {
            Ok(()) => passed += 1,
            Err(_) if empty || refused => {}
            Err(fault) => faults.push(format!("{} ({:?} {:?}): {fault}", case.name, case.args, case.kwargs)),
        }
    }
    assert!(faults.is_empty(), "{} of {} cases fail:\n{}", faults.len(), all.len(), faults.join("\n"));
    assert!(!only.is_empty() || passed >= PASSING, "{passed} of {} cases pass", all.len());
}
