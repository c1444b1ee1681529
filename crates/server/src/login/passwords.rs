//! Passwords are hashed with Argon2id, keyed by the server, and a few at a time: each takes 19 MiB, so whoever sends many
//! must not be able to take all memory. Beyond the few some wait, and beyond those nobody is kept waiting. What the few have
//! used is kept for those after them.
//!
//! Whoever there is or is not, a password that is presented is hashed once.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use argon2::password_hash::phc::{Output, ParamsString, PasswordHash, Salt};
use argon2::password_hash::{self, CustomizedPasswordHasher, PasswordVerifier as _};
use argon2::{Algorithm, Argon2, Block, Params, Version};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use keyward_model::entropy::{Entropy, EntropyError};
use keyward_model::password::Password;
use keyward_model::secret::Secret;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// So many may wait for their turn.
const WAITING: usize = 64;
const SALT: usize = 16;

/// Hashes passwords.
pub struct Passwords {
    hasher: Arc<Hasher>,
    /// Whose turn it is.
    turns: Arc<Semaphore>,
    /// Who may wait for one.
    room: Arc<Semaphore>,
    entropy: Entropy,
}

struct Hasher {
    pepper: Secret,
    params: Params,
    /// Compared with where there is no password: nobody knows one that fits.
    nobody: String,
    computed: AtomicU64,
    memory: Mutex<Vec<Vec<Block>>>,
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub(crate) enum HashingError {
    /// As many are waiting as may.
    #[error("too many passwords are waiting to be hashed")]
    Busy,
    /// No salt.
    #[error(transparent)]
    Entropy(#[from] EntropyError),
    /// The library refused, or the work was stopped in the middle.
    #[error("a password could not be hashed: {0}")]
    Failed(String),
}

/// What is to be said of a presented password.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// It is not the one.
    Wrong,
    /// It is.
    Right,
    /// It is, but its hash was made with other parameters than today's; this is today's.
    Outdated(String),
}

impl Passwords {
    /// With the parameters of today.
    pub(crate) fn new(pepper: Secret, entropy: Entropy) -> Result<Self, EntropyError> {
        Self::with_params(pepper, entropy, Params::DEFAULT)
    }

    fn with_params(pepper: Secret, entropy: Entropy, params: Params) -> Result<Self, EntropyError> {
        let at_once = std::thread::available_parallelism().map_or(2, usize::from);
        // No password has this hash, and none was hashed for it: starting a server takes no time for it.
        let (salt, hash) = (entropy.bytes::<SALT>()?, entropy.bytes::<{ Params::DEFAULT_OUTPUT_LEN }>()?);
        let [salt, hash] = [salt.as_slice(), hash.as_slice()].map(|bytes| STANDARD_NO_PAD.encode(bytes));
        let costs = format!("m={},t={},p={}", params.m_cost(), params.t_cost(), params.p_cost());
        let nobody = format!("$argon2id$v=19${costs}${salt}${hash}");
        let hasher = Hasher { pepper, params, nobody, computed: AtomicU64::new(0), memory: Mutex::default() };
        Ok(Self {
            hasher: Arc::new(hasher),
            turns: Arc::new(Semaphore::new(at_once)),
            room: Arc::new(Semaphore::new(at_once + WAITING)),
            entropy,
        })
    }

    /// How many hashes were computed since the start.
    pub fn computed(&self) -> u64 {
        self.hasher.computed.load(Ordering::Relaxed)
    }

    /// Takes every place that is free, until what it gives is dropped: so it is when very many passwords come at once.
    pub fn occupy(&self) -> Option<OwnedSemaphorePermit> {
        let places = u32::try_from(self.room.available_permits()).ok()?;
        Arc::clone(&self.room).try_acquire_many_owned(places).ok()
    }

    /// The hash of a password that somebody chose.
    pub(crate) async fn hash(&self, password: Password) -> Result<String, HashingError> {
        let salt = self.entropy.bytes::<SALT>()?;
        self.in_turn(move |hasher| hasher.hash(&password, &salt)).await
    }

    /// Whether this is the password with this hash; the same work if there is none.
    pub(crate) async fn verify(&self, password: Password, stored: Option<&str>) -> Result<Verdict, HashingError> {
        let Some(stored) = stored else {
            let nobody = self.hasher.nobody.clone();
            self.in_turn(move |hasher| hasher.verify(&password, &nobody)).await?;
            return Ok(Verdict::Wrong);
        };
        let (stored, salt) = (stored.to_owned(), self.entropy.bytes::<SALT>()?);
        self.in_turn(move |hasher| {
            if !hasher.verify(&password, &stored)? {
                return Ok(Verdict::Wrong);
            }
            if hasher.is_of_today(&stored) {
                Ok(Verdict::Right)
            } else {
                hasher.hash(&password, &salt).map(Verdict::Outdated)
            }
        })
        .await
    }

    async fn in_turn<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Hasher) -> Result<T, HashingError> + Send + 'static,
    ) -> Result<T, HashingError> {
        let place = Arc::clone(&self.room).try_acquire_owned().map_err(|_| HashingError::Busy)?;
        let turn = Arc::clone(&self.turns).acquire_owned().await.map_err(|_| HashingError::Busy)?;
        let hasher = Arc::clone(&self.hasher);
        let done = tokio::task::spawn_blocking(move || {
            // They go with the work, not with the request: whoever hangs up in the middle has not freed the memory yet.
            let _held = (place, turn);
            work(&hasher)
        })
        .await;
        done.map_err(|error| HashingError::Failed(error.to_string()))?
    }
}

impl Hasher {
    fn hash(&self, password: &Password, salt: &[u8]) -> Result<String, HashingError> {
        let hashed = self.hash_password_with_params(password.expose(), salt, self.params.clone()).map_err(failed)?;
        Ok(hashed.to_string())
    }

    fn verify(&self, password: &Password, stored: &str) -> Result<bool, HashingError> {
        let stored = PasswordHash::new(stored).map_err(failed)?;
        match self.verify_password(password.expose(), &stored) {
            Ok(()) => Ok(true),
            Err(password_hash::Error::PasswordInvalid) => Ok(false),
            Err(error) => Err(failed(error)),
        }
    }

    /// As much as was used at once.
    fn memory(&self) -> MutexGuard<'_, Vec<Vec<Block>>> {
        self.memory.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn is_of_today(&self, stored: &str) -> bool {
        PasswordHash::new(stored).ok().and_then(|stored| Params::try_from(&stored).ok()).is_some_and(|params| {
            (params.m_cost(), params.t_cost(), params.p_cost())
                == (self.params.m_cost(), self.params.t_cost(), self.params.p_cost())
        })
    }
}

/// As the library hashes, in memory that is kept for the next turn. The system's allocator keeps what is freed in pieces of
/// this size too, and goes on taking more: it was seen to hold eleven where two were used at once.
impl CustomizedPasswordHasher<PasswordHash> for Hasher {
    type Params = Params;

    fn hash_password_customized(
        &self,
        password: &[u8],
        salt: &[u8],
        algorithm: Option<&str>,
        version: Option<u32>,
        params: Params,
    ) -> password_hash::Result<PasswordHash> {
        self.computed.fetch_add(1, Ordering::Relaxed);
        let algorithm = algorithm.map(Algorithm::try_from).transpose()?.unwrap_or(Algorithm::Argon2id);
        let version = version.map(Version::try_from).transpose()?.unwrap_or(Version::V0x13);
        let mut blocks = self.memory().pop().unwrap_or_default();
        let more = params.block_count().saturating_sub(blocks.len());
        blocks.try_reserve_exact(more).map_err(|_| argon2::Error::OutOfMemory)?;
        blocks.resize(params.block_count(), Block::default());
        let argon2 = Argon2::new_with_secret(self.pepper.expose(), algorithm, version, params.clone())?;
        let mut hash = vec![0; params.output_len().unwrap_or(Params::DEFAULT_OUTPUT_LEN)];
        let done = argon2.hash_password_into_with_memory(password, salt, &mut hash, blocks.as_mut_slice());
        // What was needed once for a hash of other parameters is not kept.
        let usual = self.params.block_count();
        blocks.truncate(usual);
        blocks.shrink_to(usual);
        self.memory().push(blocks);
        done?;
        Ok(PasswordHash {
            algorithm: algorithm.ident(),
            version: Some(version.into()),
            params: ParamsString::try_from(&params)?,
            salt: Some(Salt::new(salt)?),
            hash: Some(Output::new(&hash)?),
        })
    }
}

fn failed(error: impl std::fmt::Display) -> HashingError {
    HashingError::Failed(error.to_string())
}

#[cfg(test)]
mod tests {
    use argon2::password_hash::PasswordHasher as _;

    use super::*;

    fn passwords(pepper: u8, m_cost: u32) -> Passwords {
        let params = Params::new(m_cost, 1, 1, None).unwrap();
        Passwords::with_params(Secret::new([pepper; 32]), Entropy::seeded(1), params).unwrap()
    }

    fn typed(text: &str) -> Password {
        Password::presented(text)
    }

    #[tokio::test]
    async fn only_the_same_password_under_the_same_key_is_right() {
        let passwords_here = passwords(1, 64);
        let hash = passwords_here.hash(typed("correct horse")).await.unwrap();
        assert!(hash.starts_with("$argon2id$v=19$m=64,t=1,p=1$"), "{hash}");
        assert_eq!(passwords_here.verify(typed("correct horse"), Some(&hash)).await.unwrap(), Verdict::Right);
        assert_eq!(passwords_here.verify(typed("correct house"), Some(&hash)).await.unwrap(), Verdict::Wrong);
        let elsewhere = passwords(2, 64);
        assert_eq!(elsewhere.verify(typed("correct horse"), Some(&hash)).await.unwrap(), Verdict::Wrong);
    }

    #[tokio::test]
    async fn a_hash_of_other_parameters_is_right_and_made_anew() {
        let hash = passwords(1, 64).hash(typed("correct horse")).await.unwrap();
        let today = passwords(1, 128);
        let Verdict::Outdated(anew) = today.verify(typed("correct horse"), Some(&hash)).await.unwrap() else {
            panic!("it was made with less memory")
        };
        assert_eq!(today.verify(typed("correct horse"), Some(&anew)).await.unwrap(), Verdict::Right);
        assert_eq!(today.verify(typed("wrong"), Some(&hash)).await.unwrap(), Verdict::Wrong);
    }

    #[test]
    fn it_hashes_as_the_library_does_whatever_was_in_the_memory_before() {
        let hasher = passwords(1, 64).hasher;
        for (salt, (m_cost, text)) in (1_u8..).zip([(128, "a"), (64, "b"), (256, "c"), (128, "a"), (64, "a")]) {
            let (salt, params) = ([salt; SALT], Params::new(m_cost, 2, 1, None).unwrap());
            let ours = hasher.hash_password_with_params(text.as_bytes(), &salt, params.clone()).unwrap();
            let library = Argon2::new_with_secret(&[1; 32], Algorithm::Argon2id, Version::V0x13, params).unwrap();
            let theirs: PasswordHash = library.hash_password_with_salt(text.as_bytes(), &salt).unwrap();
            assert_eq!(ours.to_string(), theirs.to_string());
            assert!(hasher.verify(&typed(text), &theirs.to_string()).unwrap());
            let kept: Vec<usize> = hasher.memory().iter().map(Vec::len).collect();
            assert_eq!(
                kept,
                [64],
                "one after the other, in the same memory, and no more of it than hashes of today need"
            );
        }
    }

    #[tokio::test]
    async fn nobody_costs_as_much_as_somebody() {
        let passwords = passwords(1, 64);
        let hash = passwords.hash(typed("correct horse")).await.unwrap();
        let before = passwords.computed();
        passwords.verify(typed("x"), Some(&hash)).await.unwrap();
        assert_eq!(passwords.computed(), before + 1);
        assert_eq!(passwords.verify(typed("x"), None).await.unwrap(), Verdict::Wrong);
        assert_eq!(passwords.computed(), before + 2);
    }

    #[tokio::test]
    async fn beyond_those_who_may_wait_nobody_does() {
        let passwords = passwords(1, 64);
        let held = passwords.occupy().unwrap();
        assert!(matches!(passwords.verify(typed("x"), None).await, Err(HashingError::Busy)));
        drop(held);
        assert_eq!(passwords.verify(typed("x"), None).await.unwrap(), Verdict::Wrong);
    }
}
