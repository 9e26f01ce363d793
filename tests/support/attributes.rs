//! For each kind of layer, attributes and inputs at random. What does not fit is refused by the layer itself, and tried
//! again.

use super::grow::{Grower, Want};
use super::network::{Value, Values};
use fusewright::ir::ops::Map;
use fusewright::ir::ops::map::Signature;
use fusewright::ir::tensor::DType;

type Choice = Option<(String, Vec<Value>)>;

/// The text and the inputs of a layer of this kind; `None` where the values at hand allow none.
pub fn layer(g: &mut Grower, name: &str) -> Choice {
    if let Some(map) = Map::named(name) {
        return elementwise(g, map);
    }
    let (kind, spatial) = match name.strip_suffix('d').and_then(|name| name.chars().last()?.to_digit(10)) {
        Some(spatial) => (&name[..name.len() - 2], spatial as usize),
        None => (name, 0),
    };
    match kind {
        "Conv" => convolution(g, name, spatial),
        "ConvTranspose" => transposed_convolution(g, name, spatial),
        "MaxPool" | "AvgPool" => pool(g, name, spatial),
        "AdaptiveAvgPool" | "AdaptiveMaxPool" => adaptive_pool(g, name, spatial),
        "GlobalAvgPool" | "GlobalMaxPool" => one(g, &Want::f32(3..=5), |_, _| Some(String::new()), name),
        "BatchNorm" => {
            let least = if spatial == 1 { 2 } else { spatial + 2 };
            one(g, &Want::f32(least..=spatial + 2), |g, _| Some(batch_norm(g)), name)
        }
        "InstanceNorm" => one(g, &Want::f32(spatial + 1..=spatial + 2), |g, _| Some(instance_norm(g)), name),
        "GroupNorm" => one(g, &Want::f32(2..=4), group_norm, name),
        "LayerNorm" => one(g, &Want::f32(1..=4), layer_norm, name),
        "LocalResponseNorm" => one(g, &Want::f32(2..=4), |g, _| Some(local_response_norm(g)), name),
        "Dense" => one(g, &Want::f32(1..=3), |g, _| Some(dense(g)), name),
        "MatMul" => matmul(g),
        "PRelu" => one(g, &Want::f32(1..=4), prelu, name),
        "Dropout" => one(g, &Want::f32(0..=4), |_, _| Some(String::new()), name),
        "Glu" => one(g, &Want::f32(1..=4), |g, dims| Some(format!("dim: {}", axis(g, dims)?)), name),
        "Softmax" | "LogSoftmax" => one(g, &Want::f32(1..=4), |g, dims| Some(format!("dim: {}", axis(g, dims)?)), name),
        "Sum" | "Amax" | "Amin" | "Prod" => {
            let want = if kind == "Prod" { Want::f32(1..=3).within(-2.0, 2.0) } else { any(g, 1..=4, false) };
            one(g, &want, reduction, name)
        }
        "Mean" | "LogSumExp" => one(g, &Want::f32(1..=4), reduction, name),
        "Var" => one(g, &Want::f32(1..=4), variance, name),
        "Norm" => one(g, &Want::f32(1..=3).within(-4.0, 4.0), norm, name),
        "ArgMax" | "ArgMin" => {
            let want = any(g, 1..=4, false).exact();
            one(g, &want, arg_reduction, name)
        }
        "Reshape" | "Flatten" | "Unflatten" | "Squeeze" | "Unsqueeze" | "Transpose" | "Permute" | "Slice"
        | "Select" | "Split" | "Expand" | "Tile" | "Pad" => {
            let want = any(g, 1..=4, true);
            one(g, &want, |g, dims| view(g, kind, dims), name)
        }
        "PixelShuffle" | "PixelUnshuffle" => pixels(g, kind),
        "Upsample" => {
            let want = Want::f32(3..=5);
            one(g, &want, upsample, name)
        }
        "Cast" => cast(g),
        "Concat" | "Stack" => joined(g, kind),
        "Gather" => gather(g),
        "IndexSelect" => index_select(g),
        "Embedding" => embedding(g),
        "BCELoss" | "BCEWithLogitsLoss" | "HuberLoss" | "KLDivLoss" | "L1Loss" | "MSELoss" | "SmoothL1Loss" => {
            pointwise_loss(g, kind)
        }
        "CrossEntropyLoss" | "NLLLoss" => class_loss(g, kind),
        _ => panic!("`{name}` has no random attributes: add it to tests/support/attributes.rs"),
    }
}

/// A layer of one input; `fields` sees the lengths of its axes.
fn one(
    g: &mut Grower,
    want: &Want,
    fields: impl FnOnce(&mut Grower, &[usize]) -> Option<String>,
    name: &str,
) -> Choice {
    let x = g.operand(want);
    let dims = g.dims(x);
    let fields = fields(g, &dims)?;
    Some((format!("{name}({fields})"), vec![x]))
}

/// A value of any element type, mostly f32.
fn any(g: &mut Grower, rank: std::ops::RangeInclusive<usize>, with_bool: bool) -> Want {
    let others: &[DType] = match with_bool {
        true => &[DType::I64, DType::I32, DType::U8, DType::U32, DType::Bool],
        false => &[DType::I64, DType::I32],
    };
    let dtype = if g.random.chance(82) { DType::F32 } else { g.random.pick(others) };
    Want::f32(rank).of(dtype)
}

fn axis(g: &mut Grower, dims: &[usize]) -> Option<i64> {
    let rank = dims.len() as i64;
    (rank > 0).then(|| g.random.between(-rank, rank - 1))
}

/// The parts that are there, with commas.
fn fields(parts: &[Option<String>]) -> String {
    parts.iter().flatten().cloned().collect::<Vec<_>>().join(", ")
}

/// `text` in `percent` of 100 calls.
fn sometimes(g: &mut Grower, percent: usize, text: impl Into<String>) -> Option<String> {
    g.random.chance(percent).then(|| text.into())
}

/// One number for all axes, or a list.
fn per_axis(g: &mut Grower, axes: usize, from: &[i64]) -> String {
    if g.random.chance(60) {
        return g.random.pick(from).to_string();
    }
    let list: Vec<String> = (0..axes).map(|_| g.random.pick(from).to_string()).collect();
    format!("[{}]", list.join(", "))
}

/// Padding in one of its forms.
fn padding(g: &mut Grower, axes: usize, most: i64) -> String {
    match g.random.below(10) {
        0..=4 => g.random.between(0, most).to_string(),
        5 => {
            let list: Vec<String> = (0..axes).map(|_| g.random.between(0, most).to_string()).collect();
            format!("[{}]", list.join(", "))
        }
        6 => "\"valid\"".to_string(),
        _ => {
            let list: Vec<String> =
                (0..axes).map(|_| format!("({}, {})", g.random.between(0, most), g.random.between(0, most))).collect();
            format!("[{}]", list.join(", "))
        }
    }
}

fn elementwise(g: &mut Grower, map: Map) -> Choice {
    let (name, arity) = (map.function.name, map.function.arity);
    let f32 = Want::f32(0..=4);
    let jumps = matches!(map.function.types, Signature::Compare)
        || matches!(name, "Floor" | "Ceil" | "Round" | "Trunc" | "Sign");
    let first = match name {
        "Acos" | "Asin" | "Atanh" => f32.within(-0.9, 0.9),
        "Acosh" => f32.within(1.1, 50.0),
        "Log" | "Log2" | "Log10" | "Rsqrt" => f32.within(0.05, 100.0),
        "Log1p" => f32.within(-0.5, 100.0),
        "Sqrt" => f32.within(0.0, 100.0),
        "Reciprocal" => Want { off_zero: 0.1, ..f32 },
        "Tan" => f32.within(-1.2, 1.2),
        "Exp" | "Expm1" | "Sinh" | "Cosh" => f32.within(-8.0, 8.0),
        "Pow" => f32.within(0.1, 4.0),
        "Identity" => any(g, 0..=4, true),
        _ => match map.function.types {
            Signature::Number if g.random.chance(15) => any(g, 0..=4, false),
            Signature::Compare if g.random.chance(25) => any(g, 0..=4, false),
            Signature::Logic | Signature::Select => f32.of(DType::Bool),
            _ => f32,
        },
    };
    let first = if jumps { first.exact() } else { first };
    let x = g.operand(&first);
    let mut from = vec![x];
    for operand in 1..arity {
        let dtype = match map.function.types {
            Signature::Select if operand == 1 && g.random.chance(80) => DType::F32,
            Signature::Select if operand == 1 => g.random.pick(&[DType::I64, DType::U8, DType::Bool]),
            Signature::Select => g.look_up(from[1]).dtype,
            _ => first.dtype,
        };
        let want = match name {
            "Div" => Want { off_zero: 0.25, ..Want::f32(0..=4) },
            "Pow" => Want::f32(0..=4).within(-3.0, 3.0),
            _ if jumps => Want::f32(0..=4).of(dtype).exact(),
            _ => Want::f32(0..=4).of(dtype),
        };
        let partner = partner(g, &want, from[0]);
        from.push(partner);
    }
    let number = |g: &mut Grower| g.random.pick(&["0.25", "0.5", "1.5", "0.1", "2"]).to_string();
    let attributes: Vec<Option<String>> = map
        .function
        .attributes
        .iter()
        .map(|(attribute, _)| {
            let value = match *attribute {
                "min_val" | "min" => format!("-{}", number(g)),
                "threshold" => "3".to_string(),
                _ => number(g),
            };
            sometimes(g, 60, format!("{attribute}: {value}"))
        })
        .collect();
    if arity == 2 && g.random.chance(20) {
        from.swap(0, 1);
        let (name, least) = (name, |g: &Grower, value: Value| g.look_up(value).dtype);
        // Domains belong to operands.
        if matches!(name, "Div" | "Pow") || least(g, from[0]) != least(g, from[1]) {
            from.swap(0, 1);
        }
    }
    Some((format!("{name}({})", fields(&attributes)), from))
}

/// A value that broadcasts with another: of the same shape, or of a shape with some axes of length 1 or none.
fn partner(g: &mut Grower, want: &Want, x: Value) -> Value {
    let dims = g.dims(x);
    let anything = want.clone();
    if g.random.chance(55) {
        let rank = 0..=4;
        let known = g.known.clone();
        let fits: Vec<Value> = known
            .iter()
            .filter(|known| {
                Want { rank: rank.clone(), ..anything.clone() }.fits_value(known) && broadcast(&known.dims, &dims)
            })
            .map(|known| known.value)
            .collect();
        if !fits.is_empty() {
            return g.random.pick(&fits);
        }
    }
    let mut shape = dims;
    if g.random.chance(50) {
        for length in &mut shape {
            if g.random.chance(40) {
                *length = 1;
            }
        }
        let dropped = g.random.below(shape.len() + 1);
        if g.random.chance(50) {
            shape.drain(..dropped);
        }
    }
    g.source_for(want, shape)
}

fn broadcast(a: &[usize], b: &[usize]) -> bool {
    a.iter().rev().zip(b.iter().rev()).all(|(a, b)| a == b || *a == 1 || *b == 1)
}

fn convolution(g: &mut Grower, name: &str, spatial: usize) -> Choice {
    one(
        g,
        &Want::f32(spatial + 1..=spatial + 2),
        |g, dims| {
            let channels = dims[dims.len() - spatial - 1] as i64;
            let groups = groups(g, channels);
            let out = groups * g.random.pick(&[1, 1, 2, 3, 4]);
            let out = if groups == 1 { g.random.pick(&[1, 2, 3, 5, 7, 8, 9, 16, 17]) } else { out };
            let same = g.random.chance(12);
            Some(fields(&[
                Some(format!("out: {out}")),
                Some(format!("kernel_size: {}", per_axis(g, spatial, &[1, 1, 2, 3, 3, 5]))),
                (!same && g.random.chance(40)).then(|| format!("stride: {}", per_axis(g, spatial, &[1, 2, 3]))),
                match same {
                    true => Some("padding: \"same\"".to_string()),
                    false => g.random.chance(60).then(|| format!("padding: {}", padding(g, spatial, 2))),
                },
                g.random.chance(25).then(|| format!("dilation: {}", per_axis(g, spatial, &[1, 2, 3]))),
                (groups > 1).then(|| format!("groups: {groups}")),
                sometimes(g, 30, "bias: false"),
                sometimes(g, 10, "flip_kernel: true"),
            ]))
        },
        name,
    )
}

fn groups(g: &mut Grower, channels: i64) -> i64 {
    let divisors: Vec<i64> = (1..=channels).filter(|n| channels % n == 0).collect();
    match g.random.below(10) {
        0..=5 => 1,
        6 | 7 => channels,
        _ => g.random.pick(&divisors),
    }
}

fn transposed_convolution(g: &mut Grower, name: &str, spatial: usize) -> Choice {
    one(
        g,
        &Want::f32(spatial + 1..=spatial + 2),
        |g, dims| {
            let groups = groups(g, dims[dims.len() - spatial - 1] as i64);
            let out = groups * g.random.pick(&[1, 2, 3, 8]);
            Some(fields(&[
                Some(format!("out: {out}")),
                Some(format!("kernel_size: {}", per_axis(g, spatial, &[1, 2, 3, 4]))),
                g.random.chance(60).then(|| format!("stride: {}", per_axis(g, spatial, &[1, 2, 3]))),
                g.random.chance(50).then(|| format!("padding: {}", padding(g, spatial, 2))),
                g.random.chance(30).then(|| format!("output_padding: {}", per_axis(g, spatial, &[0, 1, 2]))),
                g.random.chance(25).then(|| format!("dilation: {}", per_axis(g, spatial, &[1, 2, 3]))),
                (groups > 1).then(|| format!("groups: {groups}")),
                sometimes(g, 30, "bias: false"),
            ]))
        },
        name,
    )
}

fn pool(g: &mut Grower, name: &str, spatial: usize) -> Choice {
    let average = name.starts_with("Avg");
    one(
        g,
        &Want::f32(spatial + 1..=spatial + 2),
        |g, _| {
            Some(fields(&[
                Some(format!("kernel_size: {}", per_axis(g, spatial, &[1, 2, 2, 3, 3, 4]))),
                g.random.chance(60).then(|| format!("stride: {}", per_axis(g, spatial, &[1, 2, 3]))),
                g.random.chance(50).then(|| format!("padding: {}", padding(g, spatial, 2))),
                sometimes(g, 30, "ceil_mode: true"),
                (!average && g.random.chance(25)).then(|| format!("dilation: {}", per_axis(g, spatial, &[1, 2]))),
                (average && g.random.chance(40)).then(|| "count_include_pad: false".to_string()),
                (average && g.random.chance(15)).then(|| format!("divisor_override: {}", g.random.between(1, 7))),
            ]))
        },
        name,
    )
}

fn adaptive_pool(g: &mut Grower, name: &str, spatial: usize) -> Choice {
    one(
        g,
        &Want::f32(spatial + 1..=spatial + 2),
        |g, _| {
            if g.random.chance(50) {
                return Some(format!("output_size: {}", g.random.between(1, 5)));
            }
            let list: Vec<String> = (0..spatial)
                .map(|_| if g.random.chance(20) { "None".to_string() } else { g.random.between(1, 7).to_string() })
                .collect();
            Some(format!("output_size: [{}]", list.join(", ")))
        },
        name,
    )
}

fn batch_norm(g: &mut Grower) -> String {
    fields(&[
        sometimes(g, 30, "eps: 0.125"),
        sometimes(g, 25, "affine: false"),
        sometimes(g, 20, "track_running_stats: false"),
    ])
}

fn instance_norm(g: &mut Grower) -> String {
    fields(&[
        sometimes(g, 60, "eps: 0.125"),
        sometimes(g, 50, "affine: true"),
        sometimes(g, 30, "track_running_stats: true"),
    ])
}

fn group_norm(g: &mut Grower, dims: &[usize]) -> Option<String> {
    let divisors: Vec<usize> = (1..=dims[1]).filter(|n| dims[1].is_multiple_of(*n)).collect();
    Some(fields(&[
        Some(format!("num_groups: {}", g.random.pick(&divisors))),
        sometimes(g, 60, "eps: 0.125"),
        sometimes(g, 30, "affine: false"),
    ]))
}

fn layer_norm(g: &mut Grower, dims: &[usize]) -> Option<String> {
    let n = 1 + g.random.below(dims.len());
    Some(fields(&[
        Some(format!("normalized_shape: {:?}", &dims[dims.len() - n..])),
        sometimes(g, 60, "eps: 0.125"),
        match g.random.below(4) {
            0 => Some("elementwise_affine: false".to_string()),
            1 => Some("bias: false".to_string()),
            _ => None,
        },
    ]))
}

fn local_response_norm(g: &mut Grower) -> String {
    fields(&[
        Some(format!("size: {}", g.random.between(1, 6))),
        sometimes(g, 40, "alpha: 0.5"),
        sometimes(g, 40, "beta: 0.5"),
        sometimes(g, 40, "k: 2.0"),
    ])
}

fn dense(g: &mut Grower) -> String {
    let out = g.random.pick(&[1, 2, 5, 7, 8, 10, 15, 16, 17, 33]);
    fields(&[Some(format!("out: {out}")), sometimes(g, 25, "bias: false")])
}

fn matmul(g: &mut Grower) -> Choice {
    let a = g.operand(&Want::f32(1..=4));
    let dims = g.dims(a);
    let inner = *dims.last()?;
    let fits = |other: &[usize]| match other {
        [] => false,
        [n] => *n == inner,
        _ => other[other.len() - 2] == inner,
    };
    if g.random.chance(50)
        && let Some(b) = g.find(|known| known.dtype == DType::F32 && fits(&known.dims))
    {
        return Some(("MatMul".to_string(), vec![a, b]));
    }
    let columns = g.random.pick(&[1, 3, 7, 8, 9, 16, 17]);
    let shape = match g.random.below(6) {
        0 => vec![inner],
        1 | 2 if dims.len() > 2 => {
            let mut shape = dims[..dims.len() - 2].to_vec();
            if g.random.chance(40) {
                let axis = g.random.below(shape.len());
                shape[axis] = 1;
            }
            shape.extend([inner, columns]);
            shape
        }
        3 => vec![2, inner, columns],
        _ => vec![inner, columns],
    };
    let b = g.source_for(&Want::f32(0..=4), shape);
    Some(("MatMul".to_string(), vec![a, b]))
}

fn prelu(g: &mut Grower, dims: &[usize]) -> Option<String> {
    let channels = dims.get(1).copied().unwrap_or(1);
    Some(if g.random.chance(60) { format!("num_parameters: {channels}") } else { String::new() })
}

fn some_axes(g: &mut Grower, dims: &[usize]) -> Option<String> {
    match g.random.below(4) {
        0 => None,
        1 | 2 => Some(format!("dim: {}", axis(g, dims)?)),
        _ => {
            let mut axes: Vec<usize> = (0..dims.len()).collect();
            g.random.shuffle(&mut axes);
            axes.truncate(1 + g.random.below(dims.len()));
            Some(format!("dim: {axes:?}"))
        }
    }
}

fn reduction(g: &mut Grower, dims: &[usize]) -> Option<String> {
    Some(fields(&[some_axes(g, dims), sometimes(g, 40, "keepdim: true")]))
}

fn variance(g: &mut Grower, dims: &[usize]) -> Option<String> {
    Some(fields(&[some_axes(g, dims), sometimes(g, 50, "correction: 0"), sometimes(g, 40, "keepdim: true")]))
}

fn norm(g: &mut Grower, dims: &[usize]) -> Option<String> {
    let p = g.random.pick(&["1", "2", "3", "inf", "-inf", "0"]);
    Some(fields(&[sometimes(g, 70, format!("p: {p}")), some_axes(g, dims), sometimes(g, 40, "keepdim: true")]))
}

fn arg_reduction(g: &mut Grower, dims: &[usize]) -> Option<String> {
    let dim = axis(g, dims)?;
    Some(fields(&[sometimes(g, 75, format!("dim: {dim}")), sometimes(g, 40, "keepdim: true")]))
}

fn view(g: &mut Grower, kind: &str, dims: &[usize]) -> Option<String> {
    let rank = dims.len();
    let any_axis = axis(g, dims)?;
    let at = any_axis.rem_euclid(rank as i64) as usize;
    Some(match kind {
        "Reshape" => format!("shape: [{}]", factors(g, dims.iter().product()).join(", ")),
        "Flatten" => {
            let start = g.random.below(rank);
            let end = start + g.random.below(rank - start);
            format!("start_dim: {start}, end_dim: {end}")
        }
        "Unflatten" => format!("dim: {any_axis}, sizes: [{}]", factors(g, dims[at]).join(", ")),
        "Squeeze" => fields(&[sometimes(g, 50, format!("dim: {any_axis}"))]),
        "Unsqueeze" => format!("dim: {}", g.random.between(-(rank as i64) - 1, rank as i64)),
        "Transpose" => format!("dim0: {any_axis}, dim1: {}", axis(g, dims)?),
        "Permute" => {
            let mut order: Vec<usize> = (0..rank).collect();
            g.random.shuffle(&mut order);
            format!("dims: {order:?}")
        }
        "Slice" => {
            let length = dims[at] as i64;
            let (start, end) = (g.random.between(-length, length - 1), g.random.between(-length, length + 2));
            fields(&[
                Some(format!("dim: {any_axis}")),
                sometimes(g, 80, format!("start: {start}")),
                sometimes(g, 60, format!("end: {end}")),
                g.random.chance(40).then(|| format!("step: {}", g.random.between(1, 3))),
            ])
        }
        "Select" => {
            let length = dims[at] as i64;
            format!("dim: {any_axis}, index: {}", g.random.between(-length, length - 1))
        }
        "Split" => {
            let length = dims[at];
            match g.random.below(2) {
                0 => format!("split_size: {}, dim: {any_axis}", length.div_ceil(1 + g.random.below(4))),
                _ => {
                    let first = 1 + g.random.below(length);
                    let second = length - first;
                    let sizes = if second == 0 { vec![first] } else { vec![first, second] };
                    format!("split_size: {sizes:?}, dim: {any_axis}")
                }
            }
        }
        "Expand" => {
            let mut shape: Vec<String> =
                dims.iter()
                    .map(|&n| {
                        if n == 1 && g.random.chance(70) { g.random.pick(&[2, 3, 8]).to_string() } else { "-1".into() }
                    })
                    .collect();
            if rank < 4 && g.random.chance(40) {
                shape.insert(0, g.random.pick(&[1, 2, 3]).to_string());
            }
            format!("shape: [{}]", shape.join(", "))
        }
        "Tile" => {
            let n = rank + usize::from(rank < 4 && g.random.chance(30));
            let repeats: Vec<usize> = (0..n).map(|_| g.random.pick(&[1, 1, 2, 3])).collect();
            format!("repeats: {repeats:?}")
        }
        "Pad" => {
            let mode = g.random.pick(&["constant", "constant", "reflect", "replicate", "circular"]);
            let axes = 1 + g.random.below(rank.min(3));
            let pairs: Vec<String> = (0..axes)
                .map(|_| format!("({}, {})", g.random.pick(&[0, 1, 2, -1]), g.random.pick(&[0, 1, 3, -1])))
                .collect();
            let value = (mode == "constant" && g.random.chance(40)).then(|| "value: 1.0".to_string());
            let mode = (mode != "constant").then(|| format!("mode: {mode}"));
            fields(&[Some(format!("padding: [{}]", pairs.join(", "))), mode, value])
        }
        _ => unreachable!("a view"),
    })
}

/// A product as one to four factors, one of which may be left to the layer.
fn factors(g: &mut Grower, n: usize) -> Vec<String> {
    let mut left = n;
    let mut list = Vec::new();
    for _ in 0..g.random.below(4) {
        let divisors: Vec<usize> = (1..=left.min(40)).filter(|k| left.is_multiple_of(*k)).collect();
        let factor = g.random.pick(&divisors);
        list.push(factor.to_string());
        left /= factor;
    }
    list.push(if g.random.chance(40) { "-1".to_string() } else { left.to_string() });
    g.random.shuffle(&mut list);
    list
}

fn pixels(g: &mut Grower, kind: &str) -> Choice {
    let factor = g.random.pick(&[2usize, 2, 3]);
    let fits = |dims: &[usize]| match dims {
        [.., c, h, w] if kind == "PixelShuffle" => c % (factor * factor) == 0 && h * w > 0,
        [.., h, w] => dims.len() > 2 && h % factor == 0 && w % factor == 0,
        _ => false,
    };
    let x = match g.find(|known| known.dims.len() <= 4 && fits(&known.dims)) {
        Some(x) => x,
        None => {
            let small: Vec<usize> = (0..4).map(|_| 1 + g.random.below(4)).collect();
            let shape = match kind {
                "PixelShuffle" => vec![small[0], small[1] * factor * factor, small[2], small[3]],
                _ => vec![small[0], small[1], small[2] * factor, small[3] * factor],
            };
            g.source_for(&Want::f32(4..=4), shape)
        }
    };
    let field = if kind == "PixelShuffle" { "upscale_factor" } else { "downscale_factor" };
    Some((format!("{kind}({field}: {factor})"), vec![x]))
}

fn upsample(g: &mut Grower, dims: &[usize]) -> Option<String> {
    let axes = dims.len() - 2;
    let size = match g.random.below(2) {
        0 => format!("size: {}", per_axis(g, axes, &[1, 2, 3, 5, 7, 9])),
        _ => format!("scale_factor: {}", g.random.pick(&["2", "1.5", "0.5", "3", "1.7", "0.6"])),
    };
    let mode = g.random.pick(&["nearest", "nearest_exact", "linear"]);
    let corners = (mode == "linear" && g.random.chance(40)).then(|| "align_corners: true".to_string());
    Some(fields(&[Some(size), Some(format!("mode: {mode}")), corners]))
}

fn cast(g: &mut Grower) -> Choice {
    let from = g.random.pick(&[DType::F32, DType::F32, DType::I64, DType::I32, DType::U8, DType::U32, DType::Bool]);
    let to = g.random.pick(&["f32", "f32", "i64", "i32", "u8", "u32", "bool"]);
    let x = g.operand(&Want::f32(0..=4).of(from).exact());
    Some((format!("Cast(to: {to})"), vec![x]))
}

fn joined(g: &mut Grower, kind: &str) -> Choice {
    let want = any(g, 1..=4, true);
    let x = g.operand(&want);
    let dims = g.dims(x);
    let dim = axis(g, &dims)?;
    let at = dim.rem_euclid(dims.len() as i64) as usize;
    let mut from = vec![x];
    for _ in 0..1 + g.random.below(3) {
        let fits = |other: &[usize]| {
            other.len() == dims.len()
                && other.iter().zip(&dims).enumerate().all(|(i, (a, b))| a == b || i == at && kind == "Concat")
        };
        let dtype = want.dtype;
        let next = match g.find(|known| known.dtype == dtype && fits(&known.dims)) {
            Some(value) if g.random.chance(70) => value,
            _ => {
                let mut shape = dims.clone();
                if kind == "Concat" {
                    shape[at] = 1 + g.random.below(9);
                }
                g.source_for(&want, shape)
            }
        };
        from.push(next);
    }
    g.random.shuffle(&mut from);
    Some((format!("{kind}(dim: {dim})"), from))
}

/// Indices below `n` with these axes, computed ones among them.
fn indices(g: &mut Grower, n: usize, dims: Vec<usize>) -> Value {
    g.source(DType::I64, dims, Values::new(0.0, n as f64, 1.0))
}

fn known_indices(g: &mut Grower, n: usize, fits: impl Fn(&[usize]) -> bool) -> Option<Value> {
    let want = Want { dtype: DType::I64, rank: 0..=4, low: 0.0, high: n as f64 - 1.0, exact: false, off_zero: 0.0 };
    g.find(|known| want.fits_value(known) && fits(&known.dims))
}

fn gather(g: &mut Grower) -> Choice {
    let want = any(g, 1..=3, true);
    let x = g.operand(&want);
    let dims = g.dims(x);
    let dim = axis(g, &dims)?;
    let at = dim.rem_euclid(dims.len() as i64) as usize;
    let fits = |other: &[usize]| {
        other.len() == dims.len() && other.iter().zip(&dims).enumerate().all(|(i, (a, b))| a <= b || i == at)
    };
    let index = match known_indices(g, dims[at], fits) {
        Some(index) if g.random.chance(70) => index,
        _ => {
            let shape = dims.iter().map(|&n| 1 + g.random.below(n)).collect();
            indices(g, dims[at], shape)
        }
    };
    Some((format!("Gather(dim: {dim})"), vec![x, index]))
}

fn index_select(g: &mut Grower) -> Choice {
    let want = any(g, 1..=4, true);
    let x = g.operand(&want);
    let dims = g.dims(x);
    let dim = axis(g, &dims)?;
    let length = dims[dim.rem_euclid(dims.len() as i64) as usize];
    let index = match known_indices(g, length, |other| other.len() == 1) {
        Some(index) if g.random.chance(70) => index,
        _ => {
            let n = 1 + g.random.below(9);
            indices(g, length, vec![n])
        }
    };
    Some((format!("IndexSelect(dim: {dim})"), vec![x, index]))
}

fn embedding(g: &mut Grower) -> Choice {
    let n = 1 + g.random.below(20);
    let index = match known_indices(g, n, |_| true) {
        Some(index) if g.random.chance(60) => index,
        _ => {
            let rank = g.random.below(3);
            let shape = g.some_dims(rank);
            indices(g, n, shape)
        }
    };
    let width = g.random.pick(&[1, 3, 7, 8, 16, 17]);
    Some((format!("Embedding(num_embeddings: {n}, embedding_dim: {width})"), vec![index]))
}

fn pointwise_loss(g: &mut Grower, kind: &str) -> Choice {
    let want = if kind == "BCELoss" { Want::f32(0..=3).within(0.02, 0.98) } else { Want::f32(0..=3) };
    let x = g.operand(&want);
    let dims = g.dims(x);
    let log_target = kind == "KLDivLoss" && g.random.chance(40);
    let target = match kind {
        "BCELoss" | "BCEWithLogitsLoss" => Want::f32(0..=3).within(0.0, 1.0),
        "KLDivLoss" if !log_target => Want::f32(0..=3).within(0.0, 1.0),
        _ => Want::f32(0..=3).within(-8.0, 8.0),
    };
    let same = dims.clone();
    let t = match g.find(|known| target.fits_value(known) && known.dims == same && known.value != x) {
        Some(t) if g.random.chance(60) => t,
        _ => g.source_for(&target, dims),
    };
    let reductions: &[&str] =
        if kind == "KLDivLoss" { &["mean", "sum", "none", "batchmean"] } else { &["mean", "sum", "none"] };
    let reduction = g.random.pick(reductions);
    let own = match kind {
        "HuberLoss" => Some("delta: 0.5".to_string()),
        "SmoothL1Loss" => Some(format!("beta: {}", g.random.pick(&["0.5", "0", "2"]))),
        "KLDivLoss" => log_target.then(|| "log_target: true".to_string()),
        _ => None,
    };
    Some((format!("{kind}({})", fields(&[sometimes(g, 70, format!("reduction: \"{reduction}\"")), own])), vec![x, t]))
}

fn class_loss(g: &mut Grower, kind: &str) -> Choice {
    let x = g.operand(&Want::f32(1..=4));
    let mut dims = g.dims(x);
    let classes = dims.remove(usize::from(dims.len() > 1));
    let labels = match known_indices(g, classes, |other| other == dims) {
        Some(labels) if g.random.chance(50) => labels,
        _ => indices(g, classes, dims),
    };
    let mut from = vec![x, labels];
    if g.random.chance(40) {
        let weights = Want::f32(1..=1).within(0.5, 2.0);
        from.push(g.source_for(&weights, vec![classes]));
    }
    let reduction = g.random.pick(&["mean", "sum", "none"]);
    let ignored = g.random.below(classes);
    let attributes = [
        sometimes(g, 60, format!("reduction: \"{reduction}\"")),
        sometimes(g, 30, format!("ignore_index: {ignored}")),
        (kind == "CrossEntropyLoss" && g.random.chance(35)).then(|| "label_smoothing: 0.25".to_string()),
    ];
    Some((format!("{kind}({})", fields(&attributes)), from))
}
