//! Where random bytes come from: the system in production, a seed in tests.

use std::sync::{Arc, Mutex, PoisonError};

use aws_lc_rs::digest::{self, SHA256};
use aws_lc_rs::rand;

/// The only source of randomness; cloning shares it.
#[derive(Clone)]
pub struct Entropy(Source);

#[derive(Clone)]
enum Source {
    System,
    Seeded(Arc<Mutex<(u64, u64)>>),
}

impl std::fmt::Debug for Entropy {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self.0 {
            Source::System => "Entropy(system)",
            Source::Seeded(_) => "Entropy(seeded)",
        })
    }
}

/// The system refused to give random bytes; nothing can be issued until it does.
#[derive(Debug, thiserror::Error)]
#[error("the system gave no random bytes")]
pub struct EntropyError;

impl Entropy {
    /// The operating system's generator, through aws-lc.
    pub fn system() -> Self {
        Self(Source::System)
    }

    /// A repeatable stream for tests: never for anything that guards something.
    pub fn seeded(seed: u64) -> Self {
        Self(Source::Seeded(Arc::new(Mutex::new((seed, 0)))))
    }

    /// `N` random bytes.
    pub fn bytes<const N: usize>(&self) -> Result<[u8; N], EntropyError> {
        let mut out = [0; N];
        match &self.0 {
            #[expect(clippy::disallowed_methods, reason = "this is the one place that asks the system")]
            Source::System => rand::fill(&mut out).map_err(|_| EntropyError)?,
            Source::Seeded(state) => {
                let mut state = state.lock().unwrap_or_else(PoisonError::into_inner);
                for chunk in out.chunks_mut(digest::SHA256_OUTPUT_LEN) {
                    let mut input = [0; 16];
                    let (seed, counter) = input.split_at_mut(8);
                    seed.copy_from_slice(&state.0.to_be_bytes());
                    counter.copy_from_slice(&state.1.to_be_bytes());
                    state.1 += 1;
                    let block = digest::digest(&SHA256, &input);
                    for (to, from) in chunk.iter_mut().zip(block.as_ref()) {
                        *to = *from;
                    }
                }
            }
        }
        Ok(out)
    }
}
