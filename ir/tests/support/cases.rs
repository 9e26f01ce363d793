//! Every operation with the types of its inputs: one line a case.

use crate::support::read;
use fusewright_ir::ops::Op;
use fusewright_ir::tensor::{Array, DType, TensorType};
use std::collections::BTreeMap;
use std::ops::Range;

/// All cases. A layer is written as in a model file; `values` gives an operand (inputs first, then parameters) a range
/// other than its type's usual one.
pub fn cases() -> Vec<Case> {
    vec![
        case("Abs", f32(&[17])),
        case("Acos", f32(&[17])).values(0, -0.9..0.9),
        case("Acosh", f32(&[17])).values(0, 1.1..9.0),
        case("AdaptiveAvgPool1d(output_size: 4)", f32(&[2, 3, 10])),
        case("AdaptiveAvgPool1d(output_size: [7])", f32(&[3, 5])),
        case("AdaptiveAvgPool2d(output_size: 1)", f32(&[2, 3, 7, 8])),
        case("AdaptiveAvgPool2d(output_size: [2, 3])", f32(&[2, 3, 8, 9])),
        case("AdaptiveAvgPool2d(output_size: [None, 5])", f32(&[3, 7, 8])),
        case("AdaptiveAvgPool2d(output_size: 7)", f32(&[1, 2, 3, 17])),
        case("AdaptiveAvgPool3d(output_size: [2, None, 3])", f32(&[1, 2, 5, 4, 7])),
        case("AdaptiveMaxPool1d(output_size: 3)", f32(&[2, 7])),
        case("AdaptiveMaxPool2d(output_size: [3, 4])", f32(&[2, 3, 7, 8])),
        case("AdaptiveMaxPool2d(output_size: [1, None])", u8(&[2, 3, 5, 6])),
        case("AdaptiveMaxPool3d(output_size: 2)", i64(&[1, 2, 3, 4, 5])),
        case("AdaptiveMaxPool3d(output_size: [2, 1, 3])", f32(&[1, 2, 3, 4, 5])),
        case("Add", [f32(&[2, 3, 5]), f32(&[3, 1])]),
        case("Add", [i64(&[7]), i64(&[7])]),
        case("Amax(dim: 0)", f32(&[5, 3])),
        case("Amax(dim: [0, 2], keepdim: true)", i64(&[3, 4, 5])),
        case("Amin", f32(&[5, 3])),
        case("And", [boolean(&[9]), boolean(&[9])]),
        case("ArgMax", f32(&[3, 5])),
        case("ArgMax(dim: 1, keepdim: true)", f32(&[3, 17, 2])),
        case("ArgMin(dim: -1)", i64(&[3, 17])),
        case("Asin", f32(&[17])).values(0, -0.9..0.9),
        case("Asinh", f32(&[17])),
        case("Atan", f32(&[17])),
        case("Atan2", [f32(&[33]), f32(&[33])]),
        case("Atanh", f32(&[17])).values(0, -0.9..0.9),
        case("AvgPool1d(kernel_size: 3)", f32(&[2, 2, 11])),
        case("AvgPool1d(kernel_size: 4, stride: 3, padding: [(2, 1)], ceil_mode: true)", f32(&[2, 11])),
        case("AvgPool2d(kernel_size: 2)", f32(&[2, 3, 8, 7])),
        case("AvgPool2d(kernel_size: 3, stride: 2, padding: 1, ceil_mode: true)", f32(&[2, 3, 8, 9])),
        case(
            "AvgPool2d(kernel_size: 3, stride: 2, padding: 1, ceil_mode: true, count_include_pad: false)",
            f32(&[2, 8, 9]),
        ),
        case(
            "AvgPool2d(kernel_size: [3, 2], stride: [1, 3], padding: [(1, 0), (0, 1)], count_include_pad: false)",
            f32(&[1, 2, 7, 8]),
        ),
        case("AvgPool2d(kernel_size: 3, padding: 1, divisor_override: 5)", f32(&[1, 2, 7, 8])),
        case("AvgPool2d(kernel_size: 3, stride: 1, padding: \"same\", count_include_pad: false)", f32(&[1, 2, 5, 4])),
        case("AvgPool3d(kernel_size: 2, ceil_mode: true)", f32(&[1, 2, 3, 4, 5])),
        case("AvgPool3d(kernel_size: [2, 3, 2], stride: 2, padding: 1, count_include_pad: false)", f32(&[2, 4, 5, 6])),
        case("BCELoss", [f32(&[4, 3]), f32(&[4, 3])]).values(0, 0.05..0.95).values(1, 0.0..1.0),
        case("BCEWithLogitsLoss", [f32(&[4, 3]), f32(&[4, 3])]).values(0, -50.0..50.0).values(1, 0.0..1.0),
        case("BatchNorm1d", f32(&[3, 5])).values(4, 0.0..4.0),
        case("BatchNorm1d(track_running_stats: false)", f32(&[4, 3, 5])),
        case("BatchNorm2d", f32(&[2, 3, 5, 7])).values(4, 0.0..4.0),
        case("BatchNorm2d(affine: false, eps: 0.125)", f32(&[2, 3, 5, 7])).values(2, 0.0..4.0),
        case("BatchNorm2d(affine: false, track_running_stats: false)", f32(&[2, 3, 5, 7])),
        case("BatchNorm3d(momentum: 0.5)", f32(&[1, 2, 3, 4, 5])).values(4, 0.0..4.0),
        case("Cast(to: bool)", f32(&[9])).values(0, -0.04..0.04),
        case("Cast(to: f32)", u8(&[9])),
        case("Cast(to: f32)", f32(&[9])),
        case("Cast(to: i32)", f32(&[9])).values(0, -9.0..9.0),
        case("Cast(to: u8)", i64(&[9])).values(0, -500.0..500.0),
        case("Ceil", f32(&[33])),
        case("Celu(alpha: 0.5)", f32(&[33])),
        case("Clip(min: -0.5)", f32(&[33])),
        case("Clip(min: 1, max: -1)", f32(&[33])),
        case("Concat", f32(&[2, 3])),
        case("Concat(dim: -2)", [f32(&[2, 1, 3]), f32(&[2, 4, 3]), f32(&[2, 2, 3])]),
        case("Conv1d(out: 3, kernel_size: 3, stride: 2)", f32(&[2, 2, 11])),
        case("Conv2d(out: 4, kernel_size: 3, padding: 1)", f32(&[2, 3, 7, 8])),
        case("Conv2d(out: 4, kernel_size: 3, groups: 2, dilation: 2, bias: false)", f32(&[2, 4, 9, 6])),
        case("Conv2d(out: 2, kernel_size: [2, 3], padding: [(1, 0), (0, 2)], flip_kernel: true)", f32(&[3, 6, 5])),
        case(
            "Conv2d(out: 6, kernel_size: [3, 2], stride: [2, 3], dilation: [1, 2], padding: [(2, 0), (1, 3)], groups: 3)",
            f32(&[2, 6, 8, 9]),
        ),
        case("Conv3d(out: 2, kernel_size: 2, padding: \"same\")", f32(&[1, 2, 3, 4, 5])),
        case("ConvTranspose1d(out: 3, kernel_size: 4, stride: 2, padding: 1)", f32(&[2, 2, 7])),
        case("ConvTranspose1d(out: 2, kernel_size: 3, stride: 3, output_padding: 2, dilation: 2)", f32(&[3, 5])),
        case("ConvTranspose1d(out: 2, kernel_size: 9, stride: 7, padding: 1)", f32(&[1, 2, 4])),
        case("ConvTranspose2d(out: 3, kernel_size: 4, padding: [(1, 0), (0, 0)])", f32(&[2, 3, 1, 1])),
        case("ConvTranspose2d(out: 4, kernel_size: 2, stride: 2)", f32(&[2, 3, 4, 5])),
        case("ConvTranspose2d(out: 4, kernel_size: 3, padding: 1, groups: 2, bias: false)", f32(&[2, 6, 5, 4])),
        case(
            "ConvTranspose2d(out: 2, kernel_size: [3, 2], stride: [2, 3], padding: [(2, 0), (0, 1)], output_padding: [1, 2])",
            f32(&[2, 3, 4]),
        ),
        case(
            "ConvTranspose2d(out: 6, kernel_size: 3, stride: 2, dilation: [3, 1], groups: 3, output_padding: [2, 1])",
            f32(&[1, 3, 3, 4]),
        ),
        case(
            "ConvTranspose2d(out: 4, kernel_size: [3, 2], stride: 2, groups: 2, flip_kernel: true)",
            f32(&[2, 2, 3, 4]),
        ),
        case("ConvTranspose3d(out: 2, kernel_size: 2, stride: [1, 2, 2], padding: 1)", f32(&[1, 3, 3, 4, 3])),
        case("Cos", f32(&[17])),
        case("Cosh", f32(&[17])),
        case("CrossEntropyLoss", [f32(&[4, 5]), i64(&[4])]).values(0, -80.0..80.0).values(1, 0.0..5.0),
        case("CrossEntropyLoss", [f32(&[5]), i64(&[])]).values(1, 0.0..5.0),
        case("CrossEntropyLoss(ignore_index: 2, reduction: \"none\")", [f32(&[4, 5, 3]), i64(&[4, 3])])
            .values(1, 0.0..5.0),
        case("CrossEntropyLoss(label_smoothing: 0.1, reduction: \"sum\")", [f32(&[4, 5]), i64(&[4])])
            .values(1, 0.0..5.0),
        case("CrossEntropyLoss(label_smoothing: 0.1, ignore_index: 0)", [f32(&[9, 5, 2]), i64(&[9, 2]), f32(&[5])])
            .values(1, 0.0..5.0)
            .values(2, 0.5..2.0),
        case("CrossEntropyLoss(label_smoothing: 0.25)", [f32(&[4, 5, 2]), f32(&[4, 5, 2]), f32(&[5])])
            .values(1, 0.0..1.0)
            .values(2, 0.5..2.0),
        case("CrossEntropyLoss(reduction: \"none\")", [f32(&[5]), f32(&[5])]),
        case("Dense(out: 5)", f32(&[3, 17])),
        case("Dense(out: 5, bias: false)", f32(&[4])),
        case("Div", [f32(&[33]), f32(&[33])]),
        case("Dropout", f32(&[2, 3])),
        case("Elu(alpha: 2)", f32(&[33])),
        case("Embedding(num_embeddings: 10, embedding_dim: 4)", i64(&[2, 3])).values(0, 0.0..10.0),
        case("Equal", [i64(&[65]), i64(&[65])]),
        case("Erf", f32(&[33])),
        case("Exp", f32(&[17])),
        case("Expand(shape: [4, -1, 3])", f32(&[2, 1])),
        case("Expand(shape: [-1, 3, -1])", i64(&[2, 1, 4])),
        case("Expm1", f32(&[33])),
        case("Flatten", f32(&[2, 3, 4, 5])),
        case("Flatten(start_dim: 0, end_dim: 1)", i64(&[2, 3, 4])),
        case("Floor", f32(&[33])),
        case("Gather(dim: 1)", [f32(&[3, 5, 2]), i64(&[2, 7, 2])]).values(1, 0.0..5.0),
        case("Gelu", f32(&[33])),
        case("GeluTanh", f32(&[33])).values(0, -9.0..9.0),
        case("GlobalAvgPool", f32(&[2, 3, 5, 7])),
        case("GlobalMaxPool", f32(&[2, 3, 9])),
        case("Glu", f32(&[3, 10])),
        case("Glu(dim: 1)", f32(&[2, 4, 3])),
        case("Greater", [f32(&[65]), f32(&[65])]),
        case("GreaterEqual", [f32(&[65]), f32(&[65])]),
        case("GroupNorm(num_groups: 2)", f32(&[2, 6, 3, 5])),
        case("GroupNorm(num_groups: 3, eps: 0.25, affine: false)", f32(&[2, 3, 7])),
        case("GroupNorm(num_groups: 1)", f32(&[3, 8])),
        case("Hardsigmoid", f32(&[33])).values(0, -5.0..5.0),
        case("Hardswish", f32(&[33])).values(0, -5.0..5.0),
        case("Hardtanh(max_val: 0.5)", f32(&[33])),
        case("HuberLoss(delta: 0.5)", [f32(&[4, 3]), f32(&[4, 3])]),
        case("Identity", u8(&[9])),
        case("Identity", f32(&[9])),
        case("IndexSelect(dim: -1)", [f32(&[3, 5]), i64(&[7])]).values(1, 0.0..5.0),
        case("InstanceNorm1d", f32(&[3, 9])),
        case("InstanceNorm2d(affine: true)", f32(&[2, 3, 5, 4])),
        case("InstanceNorm2d(track_running_stats: true)", f32(&[3, 5, 4])).values(2, 0.0..4.0),
        case("InstanceNorm3d(affine: true, track_running_stats: true, eps: 0.5)", f32(&[2, 3, 2, 3, 2]))
            .values(4, 0.0..4.0),
        case("KLDivLoss(reduction: \"batchmean\")", [f32(&[4, 3]), f32(&[4, 3])]).values(1, 0.0..1.0),
        case("KLDivLoss(log_target: true)", [f32(&[4, 3]), f32(&[4, 3])]),
        case("L1Loss", [f32(&[4, 3]), f32(&[4, 3])]),
        case("LayerNorm(normalized_shape: 17)", f32(&[2, 3, 17])),
        case("LayerNorm(normalized_shape: [3, 5], bias: false)", f32(&[2, 3, 5])),
        case("LayerNorm(normalized_shape: [8], elementwise_affine: false, eps: 0.125)", f32(&[8])),
        case("LeakyRelu(negative_slope: 0.2)", f32(&[33])),
        case("Less", [f32(&[4, 65]), f32(&[65])]),
        case("LessEqual", [f32(&[65]), f32(&[65])]),
        case("LocalResponseNorm(size: 5)", f32(&[2, 7, 3, 2])),
        case("LocalResponseNorm(size: 4, alpha: 0.5, beta: 0.5, k: 2.0)", f32(&[2, 3, 5])),
        case("LocalResponseNorm(size: 1000000, alpha: 100.0)", f32(&[1, 3, 2, 2])),
        case("Log", f32(&[17])).values(0, 0.1..9.0),
        case("Log10", f32(&[17])).values(0, 0.1..9.0),
        case("Log1p", f32(&[17])).values(0, -0.5..9.0),
        case("Log2", f32(&[17])).values(0, 0.1..9.0),
        case("LogAddExp", [f32(&[33]), f32(&[33])]).values(0, -50.0..50.0),
        case("LogSigmoid", f32(&[33])).values(0, -200.0..200.0),
        case("LogSoftmax(dim: 1)", f32(&[3, 5, 2])),
        case("LogSumExp(dim: [0, 1])", f32(&[3, 5, 2])).values(0, -100.0..100.0),
        case("MSELoss", [f32(&[4, 3]), f32(&[4, 3])]),
        case("MSELoss(reduction: \"none\")", [f32(&[4, 3]), f32(&[4, 3])]),
        case("MatMul", [f32(&[3, 4]), f32(&[4, 5])]),
        case("MatMul", [f32(&[4]), f32(&[4])]),
        case("MatMul", [f32(&[4]), f32(&[2, 4, 5])]),
        case("MatMul", [f32(&[2, 3, 4]), f32(&[4])]),
        case("MatMul", [f32(&[2, 1, 3, 4]), f32(&[7, 4, 5])]),
        case("Max", [f32(&[33]), f32(&[33])]),
        case("MaxPool1d(kernel_size: 3)", f32(&[2, 10])),
        case("MaxPool2d(kernel_size: 5, stride: 1, padding: 2)", f32(&[1, 2, 7, 6])),
        case("MaxPool2d(kernel_size: [7, 5], stride: [1, 2], padding: [(2, 3), (1, 2)])", f32(&[1, 2, 9, 8])),
        case("MaxPool2d(kernel_size: 3, stride: 2, padding: 1, ceil_mode: true)", f32(&[2, 3, 8, 9])),
        case("MaxPool2d(kernel_size: [2, 3])", f32(&[2, 3, 4, 9])),
        case("MaxPool3d(kernel_size: 2, dilation: 2)", f32(&[1, 2, 4, 5, 6])),
        case("Mean(dim: [-1, -2])", f32(&[2, 3, 4, 5])),
        case("Min", [f32(&[33]), f32(&[1])]),
        case("Mish", f32(&[33])).values(0, -50.0..50.0),
        case("Mul", [f32(&[33]), f32(&[33])]),
        case("NLLLoss", [f32(&[4, 5]), i64(&[4])]).values(1, 0.0..5.0),
        case("NLLLoss(ignore_index: 1)", [f32(&[9, 5, 2]), i64(&[9, 2]), f32(&[5])])
            .values(1, 0.0..5.0)
            .values(2, 0.5..2.0),
        case("NLLLoss(reduction: \"none\")", [f32(&[4, 5, 2, 2]), i64(&[4, 2, 2])]).values(1, 0.0..5.0),
        case("NLLLoss(reduction: \"sum\")", [f32(&[5]), i64(&[])]).values(1, 0.0..5.0),
        case("Neg", f32(&[8])),
        case("Norm", f32(&[3, 17])),
        case("Norm(p: 1, dim: 0)", f32(&[3, 17])),
        case("Norm(p: inf, dim: [1], keepdim: true)", f32(&[3, 17])),
        case("Norm(p: -inf, dim: -1)", f32(&[3, 17])),
        case("Norm(p: 0)", f32(&[257])),
        case("Norm(p: 3)", f32(&[3, 17])),
        case("Not", boolean(&[9])),
        case("NotEqual", [f32(&[65]), f32(&[65])]),
        case("Or", [boolean(&[9]), boolean(&[9])]),
        case("PRelu", f32(&[9])),
        case("PRelu(num_parameters: 3)", f32(&[2, 3, 5])),
        case("Pad(padding: [(1, 2), (0, 3)], value: 1.5)", f32(&[2, 3, 4])),
        case("Pad(padding: [(-1, 2), (3, -2)])", i64(&[2, 3, 4])),
        case("Pad(padding: [(1, 2), (3, 0)], mode: reflect)", f32(&[2, 3, 4])),
        case("Pad(padding: [(-1, 2), (0, -1)], mode: reflect)", f32(&[2, 4, 4])),
        case("Pad(padding: [(5, 7)], mode: replicate)", u8(&[2, 3])),
        case("Pad(padding: [(2, 3), (4, 1)], mode: circular)", f32(&[3, 4])),
        case("Pad(padding: [(1, 1)], value: 1.0)", boolean(&[3, 4])),
        case("Permute(dims: [2, 0, -2])", f32(&[2, 3, 4])),
        case("PixelShuffle(upscale_factor: 2)", f32(&[2, 8, 3, 5])),
        case("PixelShuffle(upscale_factor: 3)", u8(&[9, 2, 3])),
        case("PixelUnshuffle(downscale_factor: 2)", f32(&[2, 3, 4, 6])),
        case("PixelUnshuffle(downscale_factor: 3)", i64(&[2, 1, 3, 6])),
        case("Pow", [f32(&[33]), f32(&[33])]).values(0, 0.1..4.0),
        case("Prod(dim: 1)", f32(&[3, 4])),
        case("Prod", i64(&[5])),
        case("Reciprocal", f32(&[33])).values(0, 0.1..4.0),
        case("Relu", f32(&[2, 33])),
        case("Relu6", f32(&[33])).values(0, -9.0..9.0),
        case("Reshape(shape: [4, -1])", f32(&[2, 3, 4])),
        case("Reshape(shape: [4, 6])", f32(&[6, 4])),
        case("Round", f32(&[65])).values(0, -5.0..5.0),
        case("Rsqrt", f32(&[33])).values(0, 0.1..4.0),
        case("Select(dim: 1, index: -2)", f32(&[2, 5, 3])),
        case("Selu", f32(&[33])),
        case("Sigmoid", f32(&[33])),
        case("Sign", f32(&[65])),
        case("Sign", i64(&[17])),
        case("Silu", f32(&[33])),
        case("Sin", f32(&[17])),
        case("Sinh", f32(&[17])),
        case("Slice(dim: 1, start: 1, end: -1, step: 3)", f32(&[2, 9, 3])),
        case("Slice(start: -3)", i64(&[7])),
        case("SmoothL1Loss(beta: 0.5)", [f32(&[4, 3]), f32(&[4, 3])]),
        case("SmoothL1Loss(beta: 0, reduction: \"sum\")", [f32(&[4, 3]), f32(&[4, 3])]),
        case("Softmax(dim: -1)", f32(&[3, 17])),
        case("Softmax(dim: 1)", f32(&[3, 5, 2])).values(0, -100.0..100.0),
        case("Softplus", f32(&[33])).values(0, -30.0..30.0),
        case("Softplus(beta: 2, threshold: 5)", f32(&[33])).values(0, -9.0..9.0),
        case("Softsign", f32(&[33])),
        case("Split(split_size: 3, dim: -1)", f32(&[2, 8])),
        case("Split(split_size: [1, 4, 2])", i64(&[7, 2])),
        case("Sqrt", f32(&[17])).values(0, 0.0..9.0),
        case("Square", f32(&[33])),
        case("Square", u8(&[33])),
        case("Squeeze", f32(&[1, 3, 1, 2])),
        case("Squeeze(dim: [0, 1])", f32(&[1, 3, 1, 2])),
        case("Stack(dim: 1)", [f32(&[2, 3]), f32(&[2, 3]), f32(&[2, 3])]),
        case("Sub", [f32(&[4, 1]), f32(&[5])]),
        case("Sum", f32(&[3, 5])),
        case("Sum(dim: 1, keepdim: true)", boolean(&[3, 5])),
        case("Tan", f32(&[17])).values(0, -1.0..1.0),
        case("Tanh", f32(&[33])),
        case("Tile(repeats: [2, 1, 3])", f32(&[2, 5])),
        case("Tile(repeats: [2])", i64(&[3, 4])),
        case("Transpose(dim0: -1, dim1: 0)", f32(&[2, 3, 4])),
        case("Trunc", f32(&[33])),
        case("Unflatten(dim: 1, sizes: [2, -1])", f32(&[2, 6, 2])),
        case("Unsqueeze(dim: 1)", f32(&[2, 3])),
        case("Upsample(scale_factor: 2)", f32(&[2, 3, 4, 5])),
        case("Upsample(size: [7, 3], mode: nearest_exact)", f32(&[2, 3, 4, 5])),
        case("Upsample(size: 17)", i64(&[2, 3, 7])),
        case("Upsample(scale_factor: [1.7, 0.6])", f32(&[1, 2, 7, 9])),
        case("Upsample(scale_factor: 2, mode: bilinear)", f32(&[2, 3, 4, 5])),
        case("Upsample(size: [9, 16], mode: bilinear)", f32(&[1, 2, 3, 4])),
        case("Upsample(size: [8, 1], mode: bilinear)", f32(&[1, 2, 2, 1])),
        case("Upsample(size: [7, 3], mode: linear)", f32(&[2, 2, 4, 5])),
        case("Upsample(size: [9, 1], mode: bilinear, align_corners: true)", f32(&[2, 2, 4, 5])),
        case("Upsample(size: [4, 9], mode: bilinear)", f32(&[1, 2, 4, 1])),
        case("Upsample(scale_factor: 2.3, mode: linear)", f32(&[1, 2, 9])),
        case("Upsample(scale_factor: 0.4, mode: linear, align_corners: true)", f32(&[1, 2, 15])),
        case("Upsample(size: [5, 2, 4], mode: trilinear)", f32(&[1, 2, 3, 4, 3])),
        case("Var", f32(&[3, 17])),
        case("Var(dim: [0, 2], correction: 0, keepdim: true)", f32(&[3, 4, 5])),
        case("Where", [boolean(&[4, 9]), f32(&[9]), f32(&[4, 1])]),
        case("WhereFinite", [f32(&[]), f32(&[4, 9]), f32(&[9])]),
        case("Xor", [boolean(&[9]), boolean(&[9])]),
    ]
}

/// One operation on inputs of given types.
pub struct Case {
    pub layer: &'static str,
    pub op: Op,
    pub inputs: Vec<TensorType>,
    pub ranges: BTreeMap<usize, Range<f64>>,
}

/// A layer as a model file writes it, without `name` and `from`, and the types of its inputs.
fn case(layer: &'static str, inputs: impl Into<Inputs>) -> Case {
    Case { layer, op: read(layer), inputs: inputs.into().0, ranges: BTreeMap::new() }
}

/// One type, or a list.
pub struct Inputs(Vec<TensorType>);

impl From<TensorType> for Inputs {
    fn from(ty: TensorType) -> Inputs {
        Inputs(vec![ty])
    }
}

impl<const N: usize> From<[TensorType; N]> for Inputs {
    fn from(types: [TensorType; N]) -> Inputs {
        Inputs(types.into())
    }
}

fn f32(dims: &[usize]) -> TensorType {
    TensorType::f32(dims.iter().copied())
}

fn i64(dims: &[usize]) -> TensorType {
    TensorType::new(DType::I64, dims.iter().copied())
}

fn u8(dims: &[usize]) -> TensorType {
    TensorType::new(DType::U8, dims.iter().copied())
}

fn boolean(dims: &[usize]) -> TensorType {
    TensorType::new(DType::Bool, dims.iter().copied())
}

impl Case {
    /// Values of operand `operand` are drawn from `range`.
    fn values(mut self, operand: usize, range: Range<f64>) -> Case {
        self.ranges.insert(operand, range);
        self
    }
}

/// Numbers that are the same in every run (SplitMix64; Steele, Lea and Flood 2014).
pub struct Random(pub u64);

impl Random {
    pub fn below(&mut self, n: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % n
    }

    /// Multiples of 1/64, with many ties, or any f32.
    pub fn array(&mut self, ty: &TensorType, range: Option<&Range<f64>>, short: bool) -> Array {
        let usual = match ty.dtype {
            DType::Bool => 0.0..2.0,
            DType::U8 | DType::U32 => 0.0..256.0,
            DType::I64 | DType::I32 => -9.0..10.0,
            DType::F32 | DType::F64 => -2.0..2.0,
        };
        let Range { start, end } = range.cloned().unwrap_or(usual);
        let step = match ty.dtype {
            DType::F32 | DType::F64 if short => 1.0 / 64.0,
            DType::F32 | DType::F64 => 1e-9,
            _ => 1.0,
        };
        let steps = ((end - start) / step).ceil() as u64;
        let first = (start / step).ceil() * step;
        Array::from_fn(&ty.dims().expect("cases are concrete"), |_| {
            let number = first + self.below(steps) as f64 * step;
            if ty.dtype.is_float() { f64::from(number as f32) } else { number }
        })
    }
}
