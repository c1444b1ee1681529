//! Random walks: whoever takes one rolls these dice, and names the seed when it fails.

use keyward_model::entropy::Entropy;

/// The seed of a walk that everybody takes; `KEYWARD_TEST_SEED` says another. A failure shows it.
pub(crate) fn seed(usual: u64) -> u64 {
    told(said().unwrap_or(usual))
}

/// A seed that nobody has walked by; `KEYWARD_TEST_SEED` takes the same walk again. A failure shows it.
pub(crate) fn fresh_seed() -> u64 {
    let fresh = || u64::from_le_bytes(Entropy::system().bytes().unwrap());
    told(said().unwrap_or_else(fresh))
}

fn said() -> Option<u64> {
    std::env::var("KEYWARD_TEST_SEED").ok().map(|seed| seed.parse().unwrap())
}

#[expect(clippy::print_stdout, reason = "a failure shows it, however the walk failed")]
fn told(seed: u64) -> u64 {
    println!("KEYWARD_TEST_SEED={seed}");
    seed
}

/// SplitMix64: the same walk for the same seed, everywhere.
pub(crate) struct Dice(pub(crate) u64);

impl Dice {
    pub(crate) fn roll(&mut self, below: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        usize::try_from((z ^ (z >> 31)) >> 33).unwrap() % below
    }

    pub(crate) fn one_of<T: Copy>(&mut self, list: &[T]) -> T {
        list[self.roll(list.len())]
    }
}
