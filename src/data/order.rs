//! The order in which a training sees its examples.

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};

/// The shuffled examples of an epoch, batch by batch. The order follows from the seed and the number of the epoch alone
/// (Fisher and Yates over ChaCha8), on every machine, so that a training can go on at any batch of any epoch.
#[derive(Clone, Debug)]
pub struct Order {
    seed: u64,
    batch: usize,
    /// The epoch that `examples` are of.
    epoch: Option<u64>,
    examples: Vec<usize>,
}

impl Order {
    /// The order of `examples` examples in batches of `batch`.
    ///
    /// # Panics
    /// If `batch` is 0.
    pub fn new(examples: usize, batch: usize, seed: u64) -> Order {
        assert!(batch > 0, "a batch has examples");
        Order { seed, batch, epoch: None, examples: (0..examples).collect() }
    }

    /// The number of examples.
    pub fn examples(&self) -> usize {
        self.examples.len()
    }

    /// The batches of an epoch; the last may be smaller than the others.
    pub fn batches(&self) -> usize {
        self.examples.len().div_ceil(self.batch)
    }

    /// The examples of a batch of an epoch, both counted from 0. Allocates nothing.
    ///
    /// ```
    /// use fusewright::data::Order;
    ///
    /// let mut order = Order::new(10, 4, 7);
    /// let sizes: Vec<usize> = (0..order.batches()).map(|batch| order.batch(0, batch).len()).collect();
    /// assert_eq!(sizes, [4, 4, 2]);
    /// let last = order.batch(3, 2).to_vec();
    /// assert_eq!(Order::new(10, 4, 7).batch(3, 2), last);
    /// ```
    ///
    /// # Panics
    /// If an epoch has fewer batches.
    pub fn batch(&mut self, epoch: u64, batch: usize) -> &[usize] {
        assert!(batch < self.batches(), "an epoch has {} batches", self.batches());
        if self.epoch != Some(epoch) {
            self.shuffle(epoch);
        }
        let begin = batch * self.batch;
        &self.examples[begin..(begin + self.batch).min(self.examples.len())]
    }

    fn shuffle(&mut self, epoch: u64) {
        // From the beginning, so that the epochs before do not matter.
        self.examples.iter_mut().enumerate().for_each(|(place, example)| *example = place);
        let mut random = ChaCha8Rng::seed_from_u64(self.seed);
        random.set_stream(epoch);
        for last in (1..self.examples.len()).rev() {
            let other = below(&mut random, last as u64 + 1) as usize;
            self.examples.swap(last, other);
        }
        self.epoch = Some(epoch);
    }
}

/// A number of `0..n`, each as likely as the others (Lemire, "Fast random integer generation in an interval", 2019).
fn below(random: &mut ChaCha8Rng, n: u64) -> u64 {
    loop {
        let product = u128::from(random.next_u64()) * u128::from(n);
        let (high, low) = ((product >> 64) as u64, product as u64);
        // The first 2^64 mod n of the low parts are one too many for some results.
        if low >= n || low >= n.wrapping_neg() % n {
            return high;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn epoch(order: &mut Order, epoch: u64) -> Vec<usize> {
        (0..order.batches()).flat_map(|batch| order.batch(epoch, batch).to_vec()).collect()
    }

    #[test]
    fn every_epoch_has_every_example_once() {
        for (examples, batch) in [(1, 1), (1, 64), (10, 4), (64, 64), (1000, 7)] {
            let mut order = Order::new(examples, batch, 3);
            for number in [0, 1, u64::MAX] {
                let mut all = epoch(&mut order, number);
                all.sort_unstable();
                assert_eq!(all, (0..examples).collect::<Vec<_>>());
            }
        }
        assert_eq!(Order::new(0, 4, 0).batches(), 0);
    }

    #[test]
    fn the_order_is_that_of_the_seed_and_the_epoch() {
        let mut order = Order::new(100, 8, 5);
        let (first, second) = (epoch(&mut order, 0), epoch(&mut order, 1));
        assert_ne!(first, second);
        assert_eq!(epoch(&mut order, 0), first, "whatever came before");
        assert_ne!(epoch(&mut Order::new(100, 8, 6), 0), first);
        // Written down, so that a training of today goes on tomorrow and elsewhere.
        assert_eq!(epoch(&mut Order::new(8, 8, 1), 2), [6, 0, 1, 3, 5, 2, 4, 7]);
    }

    #[test]
    fn every_place_is_as_likely() {
        let mut counts = [[0; 5]; 5];
        let mut order = Order::new(5, 5, 11);
        for number in 0..5000 {
            for (place, &example) in order.batch(number, 0).iter().enumerate() {
                counts[place][example] += 1;
            }
        }
        // Of 5,000 draws with probability 1/5 the deviation is 28; this is more than five of them.
        assert!(counts.iter().flatten().all(|&count| (850..1150).contains(&count)), "{counts:?}");
    }
}
