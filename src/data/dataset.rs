//! Examples to train on: read once, kept as compact as they came, handed out in batches without an allocation.

use super::examples::Examples;
use super::folder;
use super::labels::{Faults, Naming};
use super::table::Table;
use super::{files, idx, npy};
use crate::ir::model::Image;
use crate::ir::recipe::Source;
use crate::ir::{DType, Data, Diagnostic, Diagnostics, Dim, Tensor, TensorType};
use std::path::Path;

pub use super::labels::Labels;

/// What a network wants of examples.
#[derive(Clone, Debug, PartialEq)]
pub struct Wanted {
    /// The type of its input; the first axis is the examples. Other symbols take the lengths that the examples have.
    pub input: TensorType,
    /// How pixels become the input.
    pub image: Option<Image>,
    /// The type of the target, the first axis the examples; `None` where the target is the input.
    pub target: Option<TensorType>,
    /// What the target may be, where it is class labels.
    pub labels: Option<Labels>,
    /// Whether the target is probabilities: without a bound, the loss would have none below.
    pub are_probabilities: bool,
}

/// The mean and the population standard deviation of a column, as the training file has them; 1 for a deviation of 0.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Scale {
    /// Subtracted.
    pub mean: f64,
    /// Divides.
    pub std: f64,
}

/// How the columns of a table were scaled: `(number - mean) / std`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Scaling {
    /// Of the input's columns.
    pub inputs: Vec<Scale>,
    /// Of the target's columns, in its own units; none where it is class labels.
    pub targets: Vec<Scale>,
}

/// Examples of a network's input and of its target.
#[derive(Clone, Debug)]
pub struct Dataset {
    len: usize,
    inputs: Examples,
    targets: Option<Examples>,
    scaling: Option<Scaling>,
    naming: Option<Naming>,
    /// The columns of the input, where it is a table.
    columns: Vec<String>,
}

/// Why examples cannot be had.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// The field of the source that is at fault; empty for the source itself.
    pub field: &'static str,
    /// What is wrong.
    pub faults: Diagnostics,
}

impl Refusal {
    fn of<F: Into<Diagnostics>>(field: &'static str) -> impl Fn(F) -> Refusal {
        move |faults| Refusal { field, faults: faults.into() }
    }
}

/// What a source holds, before it is held to what the network wants.
struct Raw {
    /// The first axis is the examples.
    inputs: Tensor,
    targets: Option<Tensor>,
    scaling: Option<Scaling>,
    naming: Option<Naming>,
    columns: Vec<String>,
}

impl Dataset {
    /// Reads the examples of a source, whose paths are relative to `folder` and stay in it. A test set is read like `like`,
    /// its training set: with its scaling, its columns and its numbers of classes.
    ///
    /// # Errors
    /// Where files cannot be read, hold no examples, do not fit each other or what is wanted.
    pub fn load(folder: &Path, source: &Source, wanted: &Wanted, like: Option<&Dataset>) -> Result<Dataset, Refusal> {
        let raw = match source {
            Source::Idx { images, labels } => {
                arrays(folder, wanted, idx::read, ["images", "labels"], [images, labels])?
            }
            Source::Npy { inputs, targets } => {
                arrays(folder, wanted, npy::read, ["inputs", "targets"], [inputs, targets])?
            }
            Source::Csv { file, .. } => {
                let path = files::inside(folder, file).map_err(Refusal::of("file"))?;
                let table = Table::read(&path).map_err(Refusal::of("file"))?;
                columns(&table, source, wanted, like)?
            }
            Source::Folder { images } => pictures(folder, images, wanted, like).map_err(Refusal::of("images"))?,
        };
        let (of_inputs, of_targets) = match source {
            Source::Idx { .. } => ("images", "labels"),
            Source::Npy { .. } | Source::Csv { .. } => ("inputs", "targets"),
            Source::Folder { .. } => ("images", "images"),
        };
        let len = raw.inputs.dims().first().copied().unwrap_or(0);
        if len == 0 || raw.inputs.data().is_empty() {
            let fault = Diagnostic::new("there are no examples").expected("an array whose first axis is the examples");
            return Err(Refusal::of(of_inputs)(fault.found(raw.inputs.tensor_type().to_string())));
        }
        let is_image = match source {
            Source::Idx { .. } | Source::Folder { .. } => true,
            Source::Npy { .. } => raw.inputs.dtype().is_integer(),
            Source::Csv { .. } => false,
        };
        let inputs = Examples::inputs(raw.inputs, wanted, is_image).map_err(Refusal::of(of_inputs))?;
        let targets = match (raw.targets, &wanted.target) {
            (Some(targets), Some(ty)) => {
                if targets.dims().first() != Some(&len) {
                    let fault = Diagnostic::new("the inputs and the targets are not of the same examples");
                    let expected = format!("a target for each of {len} examples");
                    return Err(Refusal::of(of_targets)(
                        fault.expected(expected).found(targets.tensor_type().to_string()),
                    ));
                }
                Some(Examples::targets(targets, ty, wanted).map_err(Refusal::of(of_targets))?)
            }
            _ => None,
        };
        let Raw { scaling, naming, columns, .. } = raw;
        Ok(Dataset { len, inputs, targets, scaling, naming, columns })
    }

    /// The number of examples, 1 or more.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Never: a set without examples is not read.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The shape of the input of one example.
    pub fn input_dims(&self) -> &[usize] {
        &self.inputs.dims
    }

    /// The type of the input of `n` examples.
    pub fn input_type(&self, n: usize) -> TensorType {
        self.inputs.ty(n)
    }

    /// The type of the target of `n` examples; `None` where the target is the input.
    pub fn target_type(&self, n: usize) -> Option<TensorType> {
        self.targets.as_ref().map(|targets| targets.ty(n))
    }

    /// How the columns of a table were scaled, where they were.
    pub fn scaling(&self) -> Option<&Scaling> {
        self.scaling.as_ref()
    }

    /// The names of the classes in the order of their labels, where the examples call them by name.
    pub fn classes(&self) -> Option<&[String]> {
        match &self.naming {
            Some(Naming::Names(names)) => Some(names),
            _ => None,
        }
    }

    /// Writes the examples of these numbers, one behind the other. Where the target is the input, `target` gets the same
    /// numbers. Allocates nothing.
    ///
    /// ```
    /// use fusewright::{Recipe, Tensor, data::Order};
    ///
    /// let recipe = Recipe::load("models/train_sine_1x100.ron")?;
    /// let (train, _) = recipe.data()?.expect("it names its data");
    /// let batch = recipe.definition().batch;
    /// let mut order = Order::new(train.len(), batch, recipe.definition().seed);
    /// let mut x = Tensor::from_vec(&[batch, 1], vec![0f32; batch]);
    /// let mut y = x.clone();
    /// train.fill(order.batch(0, 0), &mut x, &mut y); // the first batch of the first epoch
    /// assert!((y.as_slice::<f32>().unwrap()[0] - x.as_slice::<f32>().unwrap()[0].sin()).abs() < 1e-6);
    /// # Ok::<(), fusewright::Error>(())
    /// ```
    ///
    /// # Panics
    /// If there is no such example, or the tensors have not the types of [`Dataset::input_type`] and
    /// [`Dataset::target_type`] of so many examples.
    pub fn fill(&self, examples: &[usize], input: &mut Tensor, target: &mut Tensor) {
        self.fill_input(examples, input);
        self.targets.as_ref().unwrap_or(&self.inputs).fill(examples, target);
    }

    /// As [`Dataset::fill`], of the input alone.
    ///
    /// # Panics
    /// As [`Dataset::fill`].
    pub fn fill_input(&self, examples: &[usize], input: &mut Tensor) {
        self.inputs.fill(examples, input);
    }
}

/// Examples from a file of inputs and one of targets.
fn arrays(
    folder: &Path,
    wanted: &Wanted,
    read: fn(&Path) -> Result<Tensor, Diagnostic>,
    [of_inputs, of_targets]: [&'static str; 2],
    [inputs, targets]: [&str; 2],
) -> Result<Raw, Refusal> {
    let array = |path: &str| -> Result<Tensor, Diagnostic> {
        let array = read(&files::inside(folder, path)?)?;
        match array.dims().is_empty() {
            true => Err(Diagnostic::new(format!("`{path}` has no examples"))
                .expected("an array whose first axis is the examples")
                .found("a single number")),
            false => Ok(array),
        }
    };
    let inputs = array(inputs).map_err(Refusal::of(of_inputs))?;
    let targets = match wanted.target {
        Some(_) => Some(array(targets).map_err(Refusal::of(of_targets))?),
        None => None,
    };
    Ok(Raw { inputs, targets, scaling: None, naming: None, columns: Vec::new() })
}

/// Examples from the rows of a table.
fn columns(table: &Table, source: &Source, wanted: &Wanted, like: Option<&Dataset>) -> Result<Raw, Refusal> {
    let Source::Csv { inputs, targets, standardize, .. } = source else { unreachable!("tables are read of CSV") };
    let names = match (inputs.is_empty(), like) {
        (false, _) => inputs.clone(),
        (true, Some(like)) if !like.columns.is_empty() => like.columns.clone(),
        (true, _) => table.all_but(targets),
    };
    let like_scaling = like.and_then(|like| like.scaling.as_ref());
    let mut scaling = Scaling::default();
    let columns = table.columns(&names).map_err(Refusal::of("inputs"))?;
    let mut numbers = table.numbers(&columns).map_err(Refusal::of("inputs"))?;
    if *standardize {
        scaling.inputs = standardized(&mut numbers, columns.len(), like_scaling.map(|scaling| &scaling.inputs));
    }
    let to_f32 = |dims: &[usize], numbers: Vec<f64>| Tensor::new(dims, Data::from_f64(DType::F32, &numbers));
    let whole = !wanted.input.dtype.is_float() && numbers.iter().all(|number| number.fract() == 0.0);
    let dims = [table.len(), columns.len()];
    let inputs = match whole {
        true => Tensor::new(&dims, Data::from_f64(DType::I64, &numbers)),
        false => to_f32(&dims, numbers),
    };
    let columns = table.columns(targets).map_err(Refusal::of("targets"))?;
    let mut naming = None;
    let targets = match (&wanted.target, &wanted.labels) {
        (None, _) => None,
        (Some(_), None) => {
            let mut numbers = table.numbers(&columns).map_err(Refusal::of("targets"))?;
            if *standardize {
                scaling.targets =
                    standardized(&mut numbers, columns.len(), like_scaling.map(|scaling| &scaling.targets));
            }
            Some(to_f32(&[table.len(), columns.len()], numbers))
        }
        (Some(_), Some(labels)) => {
            let &[column] = columns.as_slice() else {
                let fault = Diagnostic::new("class labels are in one column").expected("the name of one column");
                return Err(Refusal::of("targets")(fault.found(format!("{} names", columns.len()))));
            };
            let texts = table.texts(column);
            let place = |row| table.place(row, column);
            labels.check_cells(texts.clone(), place).map_err(Refusal::of("targets"))?;
            let (labels, own) = named(texts, place, labels, like).map_err(Refusal::of("targets"))?;
            naming = Some(own);
            Some(Tensor::from_vec(&[labels.len()], labels))
        }
    };
    Ok(Raw { inputs, targets, scaling: standardize.then_some(scaling), naming, columns: names })
}

/// Scales `columns` columns, row by row, by their own mean and deviation or by those of `given`.
fn standardized(numbers: &mut [f64], columns: usize, given: Option<&Vec<Scale>>) -> Vec<Scale> {
    let rows = (numbers.len() / columns.max(1)) as f64;
    let own = |column: usize| {
        let of_column = || numbers.iter().skip(column).step_by(columns.max(1));
        let first = of_column().next().copied().unwrap_or_default();
        // Not by the deviation: the mean of equal numbers may round to another one.
        if of_column().all(|number| *number == first) {
            return Scale { mean: first, std: 1.0 };
        }
        let mean = of_column().sum::<f64>() / rows;
        let std = (of_column().map(|number| (number - mean).powi(2)).sum::<f64>() / rows).sqrt();
        Scale { mean, std: if std > 0.0 { std } else { 1.0 } }
    };
    let scales = match given.filter(|given| given.len() == columns) {
        Some(given) => given.clone(),
        None => (0..columns).map(own).collect(),
    };
    for row in numbers.chunks_mut(columns.max(1)) {
        row.iter_mut().zip(&scales).for_each(|(number, scale)| *number = (*number - scale.mean) / scale.std);
    }
    scales
}

/// The labels that texts are, and how they call the classes.
fn named<'t>(
    texts: impl Iterator<Item = &'t str> + Clone,
    place: impl Fn(usize) -> String,
    wanted: &Labels,
    like: Option<&Dataset>,
) -> Result<(Vec<i64>, Naming), Diagnostics> {
    let naming = match like.and_then(|like| like.naming.clone()) {
        Some(naming) => naming,
        None => Naming::of(texts.clone(), wanted)?,
    };
    let mut faults = Faults::default();
    let mut labels = Vec::new();
    for (row, text) in texts.enumerate() {
        match naming.label(text, || place(row)) {
            Ok(label) => labels.push(label),
            Err(fault) => faults.push(fault),
        }
    }
    faults.into_result()?;
    Ok((labels, naming))
}

/// Examples from pictures in folders of classes.
fn pictures(folder: &Path, images: &str, wanted: &Wanted, like: Option<&Dataset>) -> Result<Raw, Diagnostics> {
    let known: Vec<Option<usize>> = wanted.input.shape.iter().skip(1).map(Dim::known).collect();
    let &[Some(channels @ (1 | 3)), Some(height), Some(width)] = known.as_slice() else {
        let fault = Diagnostic::new("pictures do not fit the network's input").found(wanted.input.to_string());
        return Err(fault.expected("an input [N, 1, height, width] or [N, 3, height, width] of known size").into());
    };
    let all = folder::list(folder, images)?;
    let (mut targets, mut naming) = (None, None);
    if wanted.target.is_some() {
        let Some(labels) = &wanted.labels else {
            let fault = Diagnostic::new("folders of pictures have classes, not numbers");
            return Err(fault.expected("a loss of class labels").help("use `CrossEntropyLoss`").into());
        };
        let texts = all.iter().map(|picture| picture.class.as_str());
        let (numbers, own) = named(texts, |row| format!("`{}`", all[row].path), labels, like)?;
        targets = Some(Tensor::from_vec(&[numbers.len()], numbers));
        naming = Some(own);
    }
    let resize = wanted.image.as_ref().and_then(|rule| rule.resize);
    let bytes = folder::pixels(folder, &all, resize, [channels, height, width])?;
    let inputs = Tensor::from_vec(&[all.len(), channels, height, width], bytes);
    Ok(Raw { inputs, targets, scaling: None, naming, columns: Vec::new() })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A folder with a small set of each kind.
    struct Folder(tempfile::TempDir);

    impl Folder {
        fn new() -> Folder {
            let folder = Folder(tempfile::tempdir().unwrap());
            folder.write("images", [idx(8, &[3, 2, 2]), (0..12).map(|i| i * 20).collect()].concat());
            folder.write("labels", [idx(8, &[3]), vec![2, 0, 1]].concat());
            let x = (0..6).map(|i| i as f32 / 2.0).collect();
            npy::write(&folder.path("x.npy"), &Tensor::from_vec(&[3, 1, 2], x)).unwrap();
            npy::write(&folder.path("y.npy"), &Tensor::from_vec(&[3], vec![1i64, 0, 1])).unwrap();
            folder.write("t.csv", "a,b,y,kind\n1,10,5,pear\n3,10,7,apple\n5,10,9,pear\n");
            folder.write("u.csv", "y,kind,b,a\n7,apple,11,3\n");
            for (name, pixel) in [("p/dog/1.pgm", 5), ("p/cat/1.pgm", 6), ("p/cat/2.pgm", 7), ("q/dog/1.pgm", 8)] {
                std::fs::create_dir_all(folder.path(name).parent().unwrap()).unwrap();
                folder.write(name, [b"P5 1 1 255 ".as_slice(), &[pixel]].concat());
            }
            folder
        }

        fn path(&self, name: &str) -> std::path::PathBuf {
            self.0.path().join(name)
        }

        fn write(&self, name: &str, bytes: impl AsRef<[u8]>) {
            std::fs::write(self.path(name), bytes).unwrap();
        }

        fn load(&self, source: &Source, wanted: &Wanted) -> Result<Dataset, Refusal> {
            Dataset::load(self.0.path(), source, wanted, None)
        }

        /// The field at fault and the first fault.
        fn refused(&self, source: &Source, wanted: &Wanted) -> (&'static str, Diagnostic) {
            let Refusal { field, mut faults } = self.load(source, wanted).unwrap_err();
            (field, faults.0.remove(0))
        }
    }

    fn idx(kind: u8, dims: &[u32]) -> Vec<u8> {
        let lengths = dims.iter().flat_map(|n| n.to_be_bytes());
        [0, 0, kind, dims.len() as u8].into_iter().chain(lengths).collect()
    }

    fn digits() -> Source {
        Source::Idx { images: "images".to_string(), labels: "labels".to_string() }
    }

    fn arrays() -> Source {
        Source::Npy { inputs: "x.npy".to_string(), targets: "y.npy".to_string() }
    }

    fn csv(file: &str, targets: &[&str]) -> Source {
        let targets = targets.iter().map(ToString::to_string).collect();
        Source::Csv {
            file: file.to_string(),
            inputs: ["a", "b"].map(String::from).to_vec(),
            targets,
            standardize: true,
        }
    }

    fn pictures(images: &str) -> Source {
        Source::Folder { images: images.to_string() }
    }

    fn ty(dtype: DType, example: &[usize]) -> TensorType {
        let axes = example.iter().map(|&n| Dim::from(n));
        TensorType::new(dtype, [Dim::symbol("N")].into_iter().chain(axes))
    }

    fn classes(input: &[usize], classes: usize) -> Wanted {
        let labels = Labels { classes, ignore_index: -100, names: None };
        let target = Some(ty(DType::I64, &[]));
        Wanted { input: ty(DType::F32, input), image: None, target, labels: Some(labels), are_probabilities: false }
    }

    fn numbers(input: &[usize], target: &[usize]) -> Wanted {
        let target = Some(ty(DType::F32, target));
        Wanted { input: ty(DType::F32, input), image: None, target, labels: None, are_probabilities: false }
    }

    /// A batch of these examples.
    fn batch(data: &Dataset, examples: &[usize]) -> (Vec<f64>, Vec<f64>) {
        let tensor = |ty: TensorType| {
            let dims = ty.dims().unwrap();
            Tensor::new(&dims, Data::zeros(ty.dtype, dims.iter().product()))
        };
        let mut input = tensor(data.input_type(examples.len()));
        let mut target = tensor(data.target_type(examples.len()).unwrap_or(data.input_type(examples.len())));
        data.fill(examples, &mut input, &mut target);
        (input.data().to_f64(), target.data().to_f64())
    }

    #[test]
    fn pixels_become_what_the_input_says() {
        let folder = Folder::new();
        let mut wanted = classes(&[1, 2, 2], 3);
        wanted.image = Some(Image { scale: 1.0, mean: vec![20.0], std: vec![10.0], resize: None });
        let data = folder.load(&digits(), &wanted).unwrap();
        assert_eq!((data.len(), data.input_type(2).to_string().as_str()), (3, "f32[2, 1, 2, 2]"));
        assert_eq!(data.target_type(2).unwrap().to_string(), "i64[2]");
        assert_eq!(batch(&data, &[2, 0]), (vec![14.0, 16.0, 18.0, 20.0, -2.0, 0.0, 2.0, 4.0], vec![1.0, 2.0]));
        // The same pixels without the axis of channels, and flat.
        for shape in [&[2, 2][..], &[4]] {
            let data = folder.load(&digits(), &classes(shape, 3)).unwrap();
            assert_eq!(batch(&data, &[1]), (vec![80.0, 100.0, 120.0, 140.0], vec![0.0]), "{shape:?}");
        }
        let free = Wanted { input: TensorType::f32(["N", "C", "H", "W"].map(Dim::symbol)), ..classes(&[], 3) };
        assert_eq!(folder.refused(&digits(), &free).0, "images", "images without channels have none to choose");
        let gray = TensorType::f32([Dim::symbol("N"), Dim::from(1usize), Dim::symbol("H"), Dim::symbol("W")]);
        let data = folder.load(&digits(), &Wanted { input: gray, ..classes(&[], 3) }).unwrap();
        assert_eq!(data.input_type(1).to_string(), "f32[1, 1, 2, 2]");
    }

    #[test]
    fn channels_have_their_own_means() {
        let folder = Folder::new();
        folder.write("images", [idx(8, &[1, 3, 1, 2]), vec![1, 2, 3, 4, 5, 6]].concat());
        folder.write("labels", [idx(8, &[1]), vec![0]].concat());
        let mut wanted = classes(&[3, 1, 2], 3);
        wanted.image = Some(Image { scale: 2.0, mean: vec![1.0, 2.0, 3.0], std: Vec::new(), resize: None });
        let data = folder.load(&digits(), &wanted).unwrap();
        assert_eq!(batch(&data, &[0]).0, [1.0, 3.0, 4.0, 6.0, 7.0, 9.0]);
        wanted.image = Some(Image { scale: 2.0, mean: vec![1.0, 2.0], std: Vec::new(), resize: None });
        assert!(folder.refused(&digits(), &wanted).1.title.contains("`mean`"));
    }

    #[test]
    fn arrays_are_the_input_as_they_are() {
        let folder = Folder::new();
        let data = folder.load(&arrays(), &classes(&[1, 2], 2)).unwrap();
        assert_eq!(batch(&data, &[2, 1]), (vec![2.0, 2.5, 1.0, 1.5], vec![1.0, 0.0]));
        // Numbers as targets: an axis of length 1 more.
        let data = folder.load(&arrays(), &numbers(&[2], &[1])).unwrap();
        assert_eq!(
            (data.input_type(1).to_string(), data.target_type(1).unwrap().to_string()),
            ("f32[1, 2]".into(), "f32[1, 1]".into())
        );
        assert_eq!(batch(&data, &[0]), (vec![0.0, 0.5], vec![1.0]));
        // Without a target, which then is the input.
        let data = folder.load(&arrays(), &Wanted { target: None, ..numbers(&[1, 2], &[]) }).unwrap();
        assert_eq!((data.target_type(1), batch(&data, &[1])), (None, (vec![1.0, 1.5], vec![1.0, 1.5])));
    }

    #[test]
    fn pixels_of_other_types_become_what_the_input_says() {
        let folder = Folder::new();
        let mut wanted = classes(&[1, 1, 2], 2);
        wanted.image = Some(Image { scale: 1.0, mean: vec![1.0], std: vec![2.0], resize: None });
        folder.write("labels", [idx(8, &[1]), vec![0]].concat());
        for (kind, elements) in [(0x0c, [3i32, 5].map(i32::to_be_bytes)), (0x0d, [3f32, 5.0].map(f32::to_be_bytes))] {
            folder.write("images", [idx(kind, &[1, 1, 2]), elements.concat()].concat());
            assert_eq!(batch(&folder.load(&digits(), &wanted).unwrap(), &[0]).0, [1.0, 2.0]);
        }
        // Whole numbers of NumPy are pixels, others are ready.
        npy::write(&folder.path("y.npy"), &Tensor::from_vec(&[1], vec![0i64])).unwrap();
        for (x, want) in [
            (Tensor::from_vec(&[1, 1, 2], vec![3i64, 5]), [1.0, 2.0]),
            (Tensor::from_vec(&[1, 1, 2], vec![3u8, 5]), [1.0, 2.0]),
            (Tensor::from_vec(&[1, 1, 2], vec![3f32, 5.0]), [3.0, 5.0]),
        ] {
            npy::write(&folder.path("x.npy"), &x).unwrap();
            assert_eq!(batch(&folder.load(&arrays(), &wanted).unwrap(), &[0]).0, want);
        }
    }

    #[test]
    fn constant_columns_are_only_moved() {
        let folder = Folder::new();
        // The sum of three times 0.1 is not 0.3.
        folder.write("c.csv", "a,b,y\n0.1,1,2\n0.1,2,2\n0.1,3,2\n");
        folder.write("d.csv", "a,b,y\n0.3,2,5\n");
        let train = folder.load(&csv("c.csv", &["y"]), &numbers(&[2], &[1])).unwrap();
        assert_eq!(train.scaling().unwrap().inputs[0], Scale { mean: 0.1, std: 1.0 });
        let test = csv("d.csv", &["y"]);
        let test = Dataset::load(folder.0.path(), &test, &numbers(&[2], &[1]), Some(&train)).unwrap();
        assert_eq!(batch(&test, &[0]), (vec![f64::from(0.2f32), 0.0], vec![3.0]));
    }

    #[test]
    fn columns_are_scaled_by_the_training_file() {
        let folder = Folder::new();
        let train = folder.load(&csv("t.csv", &["y"]), &numbers(&[2], &[1])).unwrap();
        let scaling = train.scaling().unwrap();
        let deviation = (8f64 / 3.0).sqrt();
        let scale = |mean, std| Scale { mean, std };
        assert_eq!(scaling.inputs, [scale(3.0, deviation), scale(10.0, 1.0)], "a constant column is only moved");
        assert_eq!(scaling.targets, [scale(7.0, deviation)]);
        let low = f64::from((-2.0 / deviation) as f32);
        assert_eq!(batch(&train, &[0, 1]), (vec![low, 0.0, 0.0, 0.0], vec![low, 0.0]));
        let test = csv("u.csv", &["y"]);
        let test = Dataset::load(folder.0.path(), &test, &numbers(&[2], &[1]), Some(&train)).unwrap();
        assert_eq!(batch(&test, &[0]), (vec![0.0, 1.0], vec![0.0]));
        assert_eq!(test.scaling(), train.scaling());
    }

    #[test]
    fn columns_of_a_test_file_are_those_of_the_training_file() {
        let folder = Folder::new();
        let source = |file: &str, targets: &[&str]| {
            let targets = targets.iter().map(ToString::to_string).collect();
            Source::Csv { file: file.to_string(), inputs: Vec::new(), targets, standardize: false }
        };
        folder.write("v.csv", "a,b,y\n1,2,3\n");
        folder.write("w.csv", "y,b,a,more\n3,2,1,x\n");
        let train = folder.load(&source("v.csv", &["y"]), &numbers(&[2], &[1])).unwrap();
        let test =
            Dataset::load(folder.0.path(), &source("w.csv", &["y"]), &numbers(&[2], &[1]), Some(&train)).unwrap();
        assert_eq!((batch(&train, &[0]), train.scaling()), (batch(&test, &[0]), None));
    }

    #[test]
    fn classes_are_called_by_name() {
        let folder = Folder::new();
        let wanted = classes(&[2], 2);
        let train = folder.load(&csv("t.csv", &["kind"]), &wanted).unwrap();
        assert_eq!((batch(&train, &[0, 1, 2]).1, train.scaling().unwrap().targets.len()), (vec![1.0, 0.0, 1.0], 0));
        assert_eq!(train.classes().unwrap(), ["apple", "pear"]);
        let test = Dataset::load(folder.0.path(), &csv("u.csv", &["kind"]), &wanted, Some(&train)).unwrap();
        assert_eq!(batch(&test, &[0]).1, [0.0]);
        let mut named = classes(&[2], 2);
        named.labels.as_mut().unwrap().names = Some(vec!["pear".to_string(), "apple".to_string()]);
        let train = folder.load(&csv("t.csv", &["kind"]), &named).unwrap();
        assert_eq!(batch(&train, &[0, 1, 2]).1, [0.0, 1.0, 0.0]);
        folder.write("t.csv", "a,b,kind\n1,2,1.0\n1,2,0.0\n1,2,10.0\n");
        let train = folder.load(&csv("t.csv", &["kind"]), &classes(&[2], 11)).unwrap();
        assert_eq!((batch(&train, &[0, 1, 2]).1, train.classes()), (vec![1.0, 0.0, 10.0], None));
        folder.write("t.csv", "a,b,kind,y\n1,2,0,1\n1,2,,1\n");
        let (field, fault) = folder.refused(&csv("t.csv", &["kind"]), &wanted);
        assert_eq!((field, fault.found.as_deref()), ("targets", Some("an empty cell")));
        let (field, fault) = folder.refused(&csv("t.csv", &["kind", "y"]), &wanted);
        assert_eq!((field, fault.found.as_deref()), ("targets", Some("2 names")));
    }

    #[test]
    fn folders_are_classes() {
        let folder = Folder::new();
        let wanted = classes(&[1, 1, 1], 2);
        let train = folder.load(&pictures("p"), &wanted).unwrap();
        assert_eq!(batch(&train, &[0, 1, 2]), (vec![6.0, 7.0, 5.0], vec![0.0, 0.0, 1.0]));
        let test = Dataset::load(folder.0.path(), &pictures("q"), &wanted, Some(&train)).unwrap();
        assert_eq!(batch(&test, &[0]), (vec![8.0], vec![1.0]));
        for (wanted, title) in [
            (classes(&[4], 2), "pictures do not fit the network's input"),
            (numbers(&[1, 1, 1], &[1]), "folders of pictures have classes, not numbers"),
            (classes(&[1, 1, 1], 1), "there are more classes than the network tells apart"),
        ] {
            assert_eq!(folder.refused(&pictures("p"), &wanted).1.title, title);
        }
    }

    #[test]
    fn what_does_not_fit_is_refused() {
        let folder = Folder::new();
        let wanted = classes(&[2, 2], 3);
        let (field, fault) = folder.refused(&digits(), &classes(&[3, 3], 3));
        assert_eq!(field, "images");
        assert_eq!(
            (fault.expected.as_deref(), fault.found.as_deref()),
            (Some("f32[N, 3, 3], the first axis the examples"), Some("u8[3, 2, 2]"))
        );
        let (field, fault) = folder.refused(&digits(), &classes(&[2, 2], 2));
        assert_eq!((field, fault.title.as_str()), ("labels", "example 0: the label is out of range"));
        assert_eq!(
            (fault.expected.as_deref(), fault.found.as_deref()),
            (Some("0 to 1: the network tells 2 classes apart"), Some("2"))
        );

        folder.write("labels", [idx(8, &[2]), vec![2, 0]].concat());
        let (field, fault) = folder.refused(&digits(), &wanted);
        assert_eq!((field, fault.expected.as_deref()), ("labels", Some("a target for each of 3 examples")));
        folder.write("labels", [idx(8, &[3, 1]), vec![2, 0, 1]].concat());
        assert!(folder.load(&digits(), &wanted).is_ok(), "an axis of length 1 more");
        folder.write("labels", [idx(0x0d, &[3]), vec![0; 12]].concat());
        assert_eq!(folder.refused(&digits(), &wanted).1.found.as_deref(), Some("f32[3]"));
        folder.write("labels", idx(8, &[]));
        assert_eq!(folder.refused(&digits(), &wanted).0, "labels");
        folder.write("images", idx(8, &[0, 2, 2]));
        folder.write("labels", idx(8, &[0]));
        assert_eq!(folder.refused(&digits(), &wanted).1.title, "there are no examples");
        folder.write("images", b"hello");
        assert!(folder.refused(&digits(), &wanted).1.title.contains("not a sound IDX file"));

        let nan = Tensor::from_vec(&[3, 2], vec![0.0, 1.0, 2.0, f32::NAN, 4.0, 5.0]);
        npy::write(&folder.path("x.npy"), &nan).unwrap();
        let (field, fault) = folder.refused(&arrays(), &classes(&[2], 2));
        assert_eq!(
            (field, fault.title.as_str(), fault.found.as_deref()),
            ("inputs", "example 1: an element does not fit", Some("NaN"))
        );
        npy::write(&folder.path("x.npy"), &Tensor::from_vec(&[1], vec![1e300f64])).unwrap();
        assert_eq!(folder.refused(&arrays(), &numbers(&[], &[])).1.expected.as_deref(), Some("a number of type f32"));
        npy::write(&folder.path("x.npy"), &Tensor::from_vec(&[], vec![1f32])).unwrap();
        assert_eq!(folder.refused(&arrays(), &numbers(&[], &[])).1.found.as_deref(), Some("a single number"));
        let absent =
            Source::Csv { file: "none.csv".to_string(), inputs: Vec::new(), targets: Vec::new(), standardize: false };
        assert_eq!(folder.refused(&absent, &numbers(&[2], &[1])).0, "file");
        let (field, fault) = folder.refused(&csv("t.csv", &["kind"]), &numbers(&[2], &[1]));
        assert_eq!(field, "targets");
        assert!(fault.title.ends_with("t.csv` line 2, column `kind`: a cell is not a number"), "{fault:?}");
    }

    #[test]
    fn probabilities_are_from_0_to_1() {
        let folder = Folder::new();
        folder.write("p.csv", "a,b,y\n1,2,0\n3,4,1\n5,6,0.25\n");
        folder.write("q.csv", "a,b,y\n1,2,0\n3,4,-1\n5,6,2\n");
        let wanted = Wanted { are_probabilities: true, ..numbers(&[2], &[1]) };
        let source = |file: &str| {
            let inputs = ["a", "b"].map(String::from).to_vec();
            Source::Csv { file: file.to_string(), inputs, targets: vec!["y".to_string()], standardize: false }
        };
        assert_eq!(batch(&folder.load(&source("p.csv"), &wanted).unwrap(), &[2]).1, [0.25]);
        let (field, fault) = folder.refused(&source("q.csv"), &wanted);
        assert_eq!((field, fault.title.as_str()), ("targets", "example 1: the target is no probability"));
    }

    #[test]
    fn ignored_labels_are_not_out_of_range() {
        let folder = Folder::new();
        npy::write(&folder.path("y.npy"), &Tensor::from_vec(&[3], vec![1i64, -100, 0])).unwrap();
        let data = folder.load(&arrays(), &classes(&[1, 2], 2)).unwrap();
        assert_eq!(batch(&data, &[1]).1, [-100.0]);
        npy::write(&folder.path("y.npy"), &Tensor::from_vec(&[3], vec![1i64, -1, 0])).unwrap();
        assert_eq!(folder.refused(&arrays(), &classes(&[1, 2], 2)).1.title, "example 1: the label is out of range");
    }
}
