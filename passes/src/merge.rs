//! Joining two kernels by substitution: a consumer into the stores of its producer, or a producer into the loads of its
//! consumer.

use fusewright_ir::kernel::{
    Affine, Axis, BufferId, Combine, Index, Kernel, Scalar, ScalarDag, ScalarId, Space, Store,
};
use fusewright_ir::plan::access::with_scalars;
use rustc_hash::FxHashMap;
use smallvec::SmallVec;

/// The kernel that computes both, where `consumer` reads `through`, and whatever else the producer writes, only at the
/// point it writes. `keep` says of each value that is read so whether others need it as well.
///
/// # Errors
/// Why they cannot be joined.
pub fn into_stores(
    producer: &Kernel,
    consumer: &Kernel,
    through: BufferId,
    keep: impl Fn(BufferId) -> bool,
) -> Result<Kernel, &'static str> {
    if !consumer.folds.is_empty() {
        return Err("the consumer reduces");
    }
    if consumer.stores.iter().any(|store| !store.inner.is_empty() || store.combine != Combine::Set) {
        return Err("the consumer stores over inner axes or adds to memory");
    }
    let mut stores = producer.stores.iter().filter(|store| store.buffer == through);
    let (Some(store), None) = (stores.next(), stores.next()) else {
        return into_pieces(producer, consumer, through, keep(through));
    };
    if store.combine != Combine::Set {
        return Err("the producer adds to memory");
    }
    let Some(forms) = store.at.iter().map(plain_affine).collect::<Option<Vec<&Affine>>>() else {
        return Err("the producer scatters");
    };
    let space = producer.space(&store.inner);
    let whole = |form: &Affine, n: usize| form.dividend_range(&space) == (0, n as i64 - 1);
    if forms.len() != consumer.outer.len() || !forms.iter().zip(&consumer.outer).all(|(form, &n)| whole(form, n)) {
        return Err("the consumer runs over another space than the value");
    }
    // What the consumer finds in the stores of the producer.
    let mut known: SmallVec<[(BufferId, ScalarId); 2]> = SmallVec::new();
    for id in consumer.live() {
        let Scalar::Load { buffer, at, .. } = consumer.body.get(id) else { continue };
        let mut stores = producer.stores.iter().filter(|store| store.buffer == *buffer);
        let (Some(other), second) = (stores.next(), stores.next()) else { continue };
        let together = (&other.inner, &other.at, other.combine) == (&store.inner, &store.at, Combine::Set);
        if second.is_some() || !together || !is_identity(at, &consumer.outer) {
            return Err("the consumer reads the value at other points than it writes");
        }
        known.push((*buffer, other.value));
    }

    let mut joined = producer.clone();
    let place = |affine: &Affine| affine.substitute(|axis| forms[axis.0 as usize].clone());
    let value_of = |buffer: BufferId| known.iter().find(|(other, _)| *other == buffer).map(|(_, value)| *value);
    let renamed = transplant(&mut joined.body, consumer, &place, |scalar| match scalar {
        Scalar::Load { buffer, .. } => value_of(*buffer),
        _ => None,
    });
    joined.stores.retain(|store| value_of(store.buffer).is_none() || keep(store.buffer));
    for other in &consumer.stores {
        joined.stores.push(Store {
            inner: store.inner.clone(),
            buffer: other.buffer,
            at: other.at.iter().map(|index| index.map(place, |id| renamed[&id])).collect(),
            value: renamed[&other.value],
            combine: Combine::Set,
        });
    }
    Ok(compacted(&joined))
}

/// As [`into_stores`], where the producer folds nothing and writes the value piece by piece: the consumer becomes a store
/// beside, or in the place of, each of them.
fn into_pieces(producer: &Kernel, consumer: &Kernel, through: BufferId, keep: bool) -> Result<Kernel, &'static str> {
    let pieces: Vec<&Store> = producer.stores.iter().filter(|store| store.buffer == through).collect();
    let plain = |store: &&Store| {
        store.inner.is_empty() && store.combine == Combine::Set && store.at.iter().all(|at| plain_affine(at).is_some())
    };
    if !producer.folds.is_empty() || !pieces.iter().all(plain) {
        return Err("the producer writes the value in several parts");
    }
    // The pieces together are the space of the consumer.
    let range = |dim: usize| {
        let ranges =
            pieces.iter().filter_map(|store| Some(plain_affine(&store.at[dim])?.dividend_range(&producer.outer)));
        ranges.reduce(|a, b| (a.0.min(b.0), a.1.max(b.1)))
    };
    let rank = pieces[0].at.len();
    let whole = |dim: usize| range(dim) == Some((0, consumer.outer[dim] as i64 - 1));
    if rank != consumer.outer.len() || !(0..rank).all(whole) {
        return Err("the consumer runs over another space than the value");
    }
    let written = producer.writes();
    for id in consumer.live() {
        let Scalar::Load { buffer, at, .. } = consumer.body.get(id) else { continue };
        if written.contains(buffer) && (*buffer != through || !is_identity(at, &consumer.outer)) {
            return Err("the consumer reads the value at other points than it writes");
        }
    }
    let mut joined = producer.clone();
    for piece in pieces {
        let forms: Vec<&Affine> = piece.at.iter().filter_map(plain_affine).collect();
        let place = |affine: &Affine| affine.substitute(|axis| forms[axis.0 as usize].clone());
        let renamed = transplant(&mut joined.body, consumer, &place, |scalar| match scalar {
            Scalar::Load { buffer, .. } if *buffer == through => Some(piece.value),
            _ => None,
        });
        for store in &consumer.stores {
            let at = store.at.iter().map(|index| index.map(place, |id| renamed[&id])).collect();
            joined.stores.push(Store { at, value: renamed[&store.value], ..store.clone() });
        }
    }
    joined.stores.retain(|store| store.buffer != through || keep);
    Ok(compacted(&joined))
}

/// The kernel that computes what `consumer` does without reading `through`: each such load becomes the formula of
/// `producer`.
///
/// # Errors
/// Why they cannot be joined.
pub fn into_loads(producer: &Kernel, consumer: &Kernel, through: BufferId) -> Result<Kernel, &'static str> {
    let [store] = producer.stores.as_slice() else {
        return Err("the producer writes several values");
    };
    if !producer.folds.is_empty() || !store.inner.is_empty() || store.combine != Combine::Set {
        return Err("the producer reduces");
    }
    let consumer = split_axes(store, &producer.outer, consumer, through)?;

    let mut body = ScalarDag::default();
    let mut renamed: FxHashMap<ScalarId, ScalarId> = FxHashMap::default();
    for id in consumer.live() {
        let scalar = consumer.body.get(id);
        let new = match scalar {
            Scalar::Load { buffer, at, outside } if *buffer == through => {
                let spaces = spaces_of(&consumer, id);
                if outside.is_some() && !proven_inside(&spaces, at, &producer.outer, store) {
                    return Err("the consumer reads beyond the edges of the value");
                }
                let at: Vec<Index> = at.iter().map(|index| index.map(Affine::clone, |id| renamed[&id])).collect();
                let points = solve(store, &producer.outer, &at, &spaces)?;
                inline(&mut body, producer, store.value, &points)?
            }
            _ => body.intern(scalar.map(|id| renamed[&id], Affine::clone), consumer.body.dtype(id)),
        };
        renamed.insert(id, new);
    }
    let mut joined = Kernel { body, ..consumer.without_scalars() };
    for fold in &mut joined.folds {
        fold.value = renamed[&fold.value];
    }
    for store in &mut joined.stores {
        store.value = renamed[&store.value];
        store.at = store.at.iter().map(|index| index.map(Affine::clone, |id| renamed[&id])).collect();
    }
    Ok(joined)
}

/// Whether `at` reads at the very point of a space of `extents`.
pub fn is_identity(at: &[Index], extents: &[usize]) -> bool {
    at.len() == extents.len()
        && at.iter().zip(extents).enumerate().all(|(i, (index, &n))| match index.as_axis() {
            Some(axis) if axis == Axis(i as u32) => true,
            _ => n == 1 && index.within(extents, 1),
        })
}

/// The same kernel with scalars that nothing needs left out.
pub fn compacted(kernel: &Kernel) -> Kernel {
    with_scalars(kernel, |_, scalar| scalar)
}

fn plain_affine(index: &Index) -> Option<&Affine> {
    index.as_affine().filter(|affine| affine.divisor == 1)
}

/// Copies the scalars that `from` needs into `body`, with affine forms rewritten; `replace` may answer with a scalar
/// that is in `body` already.
fn transplant(
    body: &mut ScalarDag,
    from: &Kernel,
    place: &impl Fn(&Affine) -> Affine,
    replace: impl Fn(&Scalar) -> Option<ScalarId>,
) -> FxHashMap<ScalarId, ScalarId> {
    let mut renamed = FxHashMap::default();
    for id in from.live() {
        let scalar = from.body.get(id);
        let new = match replace(scalar) {
            Some(known) => known,
            None => body.intern(scalar.map(|id| renamed[&id], place), from.body.dtype(id)),
        };
        renamed.insert(id, new);
    }
    renamed
}

/// The spaces over which `id` is computed: those of the folds and stores that need it.
fn spaces_of(consumer: &Kernel, id: ScalarId) -> Vec<Space> {
    let spaces = consumer.folds.iter().map(|fold| (&fold.inner, fold.value));
    let spaces = spaces.chain(consumer.stores.iter().map(|store| (&store.inner, store.value)));
    let needing = spaces.filter(|(_, root)| consumer.body.reachable([*root]).contains(&id));
    needing.map(|(inner, _)| consumer.space(inner)).collect()
}

/// Whether an access is inside what `store` writes over all of `spaces`.
fn proven_inside(spaces: &[Space], at: &[Index], outer: &[usize], store: &Store) -> bool {
    let length = |index: &Index| index.as_affine().map_or(0, |affine| affine.dividend_range(outer).1 as usize + 1);
    spaces.iter().all(|extents| at.iter().zip(&store.at).all(|(index, written)| index.within(extents, length(written))))
}

/// One digit of a mixed-radix index: `axis * weight`, with `0 <= axis < extent`.
#[derive(Clone, Copy)]
struct Digit {
    axis: Axis,
    weight: i64,
    extent: usize,
}

/// The digits of an index that joins several axes in row-major order, the most significant first.
fn digits(affine: &Affine, extents: &[usize]) -> Option<SmallVec<[Digit; 4]>> {
    if affine.offset != 0 || affine.divisor != 1 {
        return None;
    }
    let digit = |&(axis, weight): &(Axis, i64)| Digit { axis, weight, extent: extents[axis.0 as usize] };
    let mut digits: SmallVec<[Digit; 4]> = affine.terms.iter().map(digit).collect();
    digits.sort_by_key(|digit| std::cmp::Reverse(digit.weight));
    let mut expected = 1;
    for digit in digits.iter().rev() {
        if digit.weight != expected {
            return None;
        }
        expected *= digit.extent as i64;
    }
    Some(digits)
}

/// Cuts axes of the consumer so that each axis the producer joins into one is an axis of its own: a dense layer behind
/// a flatten then reduces over (channel, y, x).
fn split_axes(store: &Store, extents: &Space, consumer: &Kernel, through: BufferId) -> Result<Kernel, &'static str> {
    let mut consumer = consumer.clone();
    for dim in 0..store.at.len() {
        let Some(digits) = plain_affine(&store.at[dim]).and_then(|affine| digits(affine, extents)) else {
            continue;
        };
        if digits.len() < 2 {
            continue;
        }
        loop {
            let single = consumer.live().into_iter().find_map(|id| match consumer.body.get(id) {
                Scalar::Load { buffer, at, .. } if *buffer == through => at[dim].as_axis(),
                _ => None,
            });
            let Some(axis) = single else { break };
            consumer = split(&consumer, axis, &digits).ok_or("an axis cannot be split")?;
        }
    }
    Ok(consumer)
}

/// The kernel with `axis` replaced by one axis for each digit.
fn split(kernel: &Kernel, axis: Axis, digits: &[Digit]) -> Option<Kernel> {
    let length: usize = digits.iter().map(|digit| digit.extent).product();
    let n_outer = kernel.outer.len();
    let at = axis.0 as usize;
    let added = digits.len() as u32 - 1;
    let mut result = kernel.clone();
    let cut = |space: &mut Space, i: usize| {
        let fits = space[i] == length;
        space.remove(i);
        for (j, digit) in digits.iter().enumerate() {
            space.insert(i + j, digit.extent);
        }
        fits
    };
    if at < n_outer {
        cut(&mut result.outer, at).then_some(())?;
    } else {
        let inner = at - n_outer;
        let folds = result.folds.iter_mut().map(|fold| &mut fold.inner);
        for space in folds.chain(result.stores.iter_mut().map(|store| &mut store.inner)) {
            if space.len() > inner {
                cut(space, inner).then_some(())?;
            }
        }
    }
    let place = |affine: &Affine| {
        affine.substitute(|other| match other.0.cmp(&axis.0) {
            std::cmp::Ordering::Less => other.into(),
            std::cmp::Ordering::Greater => Axis(other.0 + added).into(),
            std::cmp::Ordering::Equal => {
                Affine::new(digits.iter().enumerate().map(|(j, digit)| (Axis(axis.0 + j as u32), digit.weight)), 0)
            }
        })
    };
    result.body = ScalarDag::default();
    let renamed = transplant(&mut result.body, kernel, &place, |_| None);
    for fold in &mut result.folds {
        fold.value = renamed[&fold.value];
    }
    for store in &mut result.stores {
        store.value = renamed[&store.value];
        store.at = store.at.iter().map(|index| index.map(place, |id| renamed[&id])).collect();
    }
    Some(result)
}

/// For each outer axis of the producer, the index at which it stores to `at`, which is computed over `spaces`.
fn solve(store: &Store, extents: &Space, at: &[Index], spaces: &[Space]) -> Result<Vec<Option<Index>>, &'static str> {
    let mut points: Vec<Option<Index>> = extents.iter().map(|&n| (n == 1).then(|| Index::from(0))).collect();
    for (target, index) in store.at.iter().zip(at) {
        let target = plain_affine(target).ok_or("the producer scatters")?;
        if let Some(axis) = target.as_axis() {
            points[axis.0 as usize] = Some(index.clone());
            continue;
        }
        if target.terms.is_empty() {
            continue;
        }
        let digits = digits(target, extents).ok_or("the producer writes a part of the value")?;
        let index = plain_affine(index).ok_or("the consumer reads through a table")?;
        // Every term of the index belongs to the one digit whose weight divides it, and must stay within it.
        let mut rest = index.clone();
        for digit in &digits {
            let (own, others): (Vec<_>, Vec<_>) = rest.terms.iter().partition(|(_, k)| k % digit.weight == 0);
            if own.iter().any(|(_, k)| *k <= 0) || rest.offset != 0 {
                return Err("the consumer reads across the axes that the producer joins");
            }
            let form = Affine::new(own.into_iter().map(|(axis, k)| (axis, k / digit.weight)), 0);
            // A window, or an axis longer than the digit, carries into the next one.
            if !spaces.iter().all(|space| form.within(space, digit.extent)) {
                return Err("the consumer reads across the axes that the producer joins");
            }
            points[digit.axis.0 as usize] = Some(form.into());
            rest = Affine::new(others, 0);
        }
    }
    Ok(points)
}

/// The formula of the producer at the given point.
fn inline(
    body: &mut ScalarDag,
    producer: &Kernel,
    value: ScalarId,
    points: &[Option<Index>],
) -> Result<ScalarId, &'static str> {
    let form = |axis: Axis| points[axis.0 as usize].clone();
    let affine = |affine: &Affine| -> Option<Affine> {
        let fits =
            affine.terms.iter().all(|(axis, _)| matches!(form(*axis), Some(Index::Affine(form)) if form.divisor == 1));
        fits.then(|| {
            affine.substitute(|axis| match form(axis) {
                Some(Index::Affine(form)) => form,
                _ => unreachable!("checked above"),
            })
        })
    };
    let mut renamed: FxHashMap<ScalarId, ScalarId> = FxHashMap::default();
    for id in producer.body.reachable([value]) {
        let scalar = producer.body.get(id);
        let new = match scalar {
            Scalar::Load { buffer, at, outside } => {
                let mut new_at: Vec<Index> = Vec::new();
                for index in at {
                    let whole = index.as_axis().and_then(form);
                    new_at.push(match (whole, index) {
                        (Some(index), _) => index,
                        (None, Index::Affine(inner)) => Index::Affine(affine(inner).ok_or("indices do not compose")?),
                        (None, Index::Table { table, at }) => {
                            let at = affine(at).ok_or("indices do not compose")?;
                            Index::Table { table: table.clone(), at }
                        }
                        (None, Index::Computed(id)) => Index::Computed(renamed[id]),
                    });
                }
                Scalar::Load { buffer: *buffer, at: new_at, outside: *outside }
            }
            Scalar::Position(inner) => Scalar::Position(affine(inner).ok_or("indices do not compose")?),
            other => other.map(|id| renamed[&id], Affine::clone),
        };
        renamed.insert(id, body.intern(new, producer.body.dtype(id)));
    }
    Ok(renamed[&value])
}
