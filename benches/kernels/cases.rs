//! What is measured: small networks that become one kernel, or one between copies of images to the order that it wants and
//! back, whose time then counts.

/// A network and what bounds it.
pub struct Case {
    pub name: &'static str,
    /// In RON: its input `x`, and its layers and parameters.
    pub shape: &'static str,
    pub rest: &'static str,
    /// Whether sums are computed as they are written; else convolutions may be transformed.
    pub exact: bool,
    pub work: Work,
}

/// What bounds a kernel, and how much of that it does.
#[derive(Clone, Copy)]
pub enum Work {
    /// Additions and multiplications, those of padding included. They are those of the sums as they are written: a
    /// transformed convolution needs fewer, and so may come to more than the peak.
    Operations(u64),
    /// Bytes that come from memory.
    Reads(u64),
    /// Bytes that come from memory or go there.
    Copies(u64),
}

/// Of a convolution that gives `out` channels of `size` * `size`, each a sum of so many channels under a square window.
const fn convolution(size: u64, out: u64, channels: u64, window: u64) -> Work {
    Work::Operations(2 * size * size * out * channels * window * window)
}

/// Of the product of two square matrices.
const fn product(size: u64) -> Work {
    Work::Operations(2 * size * size * size)
}

const MIB: u64 = 1 << 20;

/// What lies in memory is larger than a cache: 64 MiB in, and as much out, or 128 MiB of weights.
pub const CASES: &[Case] = &[
    Case {
        name: "direct 3x3, 64 channels of 56x56, ReLU",
        shape: "[1, 64, 56, 56]",
        rest: "layers: [Conv2d(out: 64, kernel_size: 3, padding: 1), Relu]",
        exact: true,
        work: convolution(56, 64, 64, 3),
    },
    Case {
        name: "transformed 3x3, 64 channels of 56x56, ReLU",
        shape: "[1, 64, 56, 56]",
        rest: "layers: [Conv2d(out: 64, kernel_size: 3, padding: 1), Relu]",
        exact: false,
        work: convolution(56, 64, 64, 3),
    },
    Case {
        name: "direct 5x5, 32 channels of 56x56, ReLU",
        shape: "[1, 32, 56, 56]",
        rest: "layers: [Conv2d(out: 32, kernel_size: 5, padding: 2), Relu]",
        exact: true,
        work: convolution(56, 32, 32, 5),
    },
    Case {
        name: "transformed 5x5, 32 channels of 56x56, ReLU",
        shape: "[1, 32, 56, 56]",
        rest: "layers: [Conv2d(out: 32, kernel_size: 5, padding: 2), Relu]",
        exact: false,
        work: convolution(56, 32, 32, 5),
    },
    Case {
        name: "1x1, 256 to 64 channels of 56x56, ReLU",
        shape: "[1, 256, 56, 56]",
        rest: "layers: [Conv2d(out: 64, kernel_size: 1), Relu]",
        exact: true,
        work: convolution(56, 64, 256, 1),
    },
    Case {
        name: "direct 7x7 stride 2, 3 to 64 channels of 224x224, ReLU",
        shape: "[1, 3, 224, 224]",
        rest: "layers: [Conv2d(out: 64, kernel_size: 7, stride: 2, padding: 3), Relu]",
        exact: true,
        work: convolution(112, 64, 3, 7),
    },
    Case {
        name: "transformed 7x7 stride 2, 3 to 64 channels of 224x224, ReLU",
        shape: "[1, 3, 224, 224]",
        rest: "layers: [Conv2d(out: 64, kernel_size: 7, stride: 2, padding: 3), Relu]",
        exact: false,
        work: convolution(112, 64, 3, 7),
    },
    Case {
        name: "depthwise 3x3, 128 channels of 56x56, ReLU",
        shape: "[1, 128, 56, 56]",
        rest: "layers: [Conv2d(out: 128, kernel_size: 3, padding: 1, groups: 128), Relu]",
        exact: true,
        work: convolution(56, 128, 1, 3),
    },
    Case {
        name: "dense 512 to 512, batch 512, ReLU",
        shape: "[512, 512]",
        rest: "layers: [Dense(out: 512), Relu]",
        exact: true,
        work: product(512),
    },
    Case {
        name: "dense 1024 to 1024, batch 1024, ReLU",
        shape: "[1024, 1024]",
        rest: "layers: [Dense(out: 1024), Relu]",
        exact: true,
        work: product(1024),
    },
    Case {
        name: "dense 8192 to 4096, batch 1",
        shape: "[1, 8192]",
        rest: "layers: [Dense(out: 4096)]",
        exact: true,
        work: Work::Reads(128 * MIB),
    },
    Case {
        name: "bias, GELU, 16384x1024",
        shape: "[16384, 1024]",
        rest: "parameters: {\"b\": (shape: [1024], init: Normal(std: 0.1))}, layers: [Add(from: [\"x\", \"b\"]), Gelu]",
        exact: true,
        work: Work::Copies(128 * MIB),
    },
    Case {
        name: "softmax, 16384x1024",
        shape: "[16384, 1024]",
        rest: "layers: [Softmax(dim: 1)]",
        exact: true,
        work: Work::Copies(128 * MIB),
    },
    Case {
        name: "layer norm, 16384x1024",
        shape: "[16384, 1024]",
        rest: "layers: [LayerNorm(normalized_shape: [1024])]",
        exact: true,
        work: Work::Copies(128 * MIB),
    },
    Case {
        name: "max pooling 2x2, 64 channels of 512x512",
        shape: "[1, 64, 512, 512]",
        rest: "layers: [MaxPool2d(kernel_size: 2)]",
        exact: true,
        work: Work::Copies((64 + 16) * MIB),
    },
    Case {
        name: "eight elementwise steps, 16M",
        shape: "[16777216]",
        rest: "layers: [Add(value: 0.5), Mul(value: 1.5), Max(value: -1.0), Min(value: 1.0), Add(value: 0.25),
                 Mul(value: 0.75), Max(value: -0.5), Min(value: 0.5)]",
        exact: true,
        work: Work::Copies(128 * MIB),
    },
];
