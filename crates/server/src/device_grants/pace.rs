//! How fast devices poll. Kept in memory, on each node by itself: a poll that finds nothing writes nothing, and whoever polls
//! two nodes by turns is told `slow_down` a little later.

use keyward_model::device_grant::{DeviceGrant, LIFETIME};
use keyward_model::id::DeviceGrantId;
use keyward_model::time::Timestamp;
use moka::sync::Cache;

/// The most devices whose pace is remembered; of those beyond, the first poll is free once more.
const MOST: u64 = 100_000;

/// When each device came last.
pub(crate) struct Pace(Cache<DeviceGrantId, Timestamp>);

impl Default for Pace {
    fn default() -> Self {
        Self(Cache::builder().max_capacity(MOST).time_to_live(LIFETIME).build())
    }
}

impl Pace {
    /// Whether a poll that arrives now is too early after the one before. The first never is. One that is does not count
    /// as the one before: else whoever keeps its pace, and is early by a little, would be early for ever.
    pub(crate) fn is_early(&self, grant: &DeviceGrant, arrived_at: Timestamp) -> bool {
        let mut is_early = false;
        self.0.entry(grant.id).and_upsert_with(|entry| {
            let before = entry.map(|entry| entry.into_value());
            is_early = before.is_some_and(|before| grant.is_early(arrived_at.since(before)));
            before.filter(|before| is_early || *before > arrived_at).unwrap_or(arrived_at)
        });
        is_early
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use keyward_model::device_grant::GrantState;
    use keyward_model::id::ClientId;
    use keyward_model::rights::Rights;
    use proptest::prelude::*;
    use uuid::Uuid;

    use super::*;

    fn grant(interval: u64) -> DeviceGrant {
        let at = Timestamp::from_millis;
        DeviceGrant {
            id: DeviceGrantId::from_uuid(Uuid::from_u128(1)),
            client: ClientId::from_uuid(Uuid::from_u128(2)),
            rights: Rights::default(),
            label: String::new(),
            network: "192.0.2.7".parse().unwrap(),
            user_agent: String::new(),
            confirmation: false,
            interval: Duration::from_secs(interval),
            state: GrantState::Pending,
            created_at: at(0),
            expires_at: at(600_000),
            version: 1,
        }
    }

    fn polls(interval: u64, arrivals: &[i64]) -> Vec<bool> {
        let pace = Pace::default();
        arrivals.iter().map(|millis| pace.is_early(&grant(interval), Timestamp::from_millis(*millis))).collect()
    }

    #[test]
    fn the_first_poll_is_free_and_one_that_is_early_does_not_move_the_clock() {
        assert_eq!(polls(5, &[0, 3_750, 7_499, 7_500]), [false, false, true, false]);
        assert_eq!(polls(5, &[0, 1_000, 2_000, 3_000, 4_000]), [false, true, true, true, false]);
    }

    proptest! {
        // Clients whose clock runs wrong by a quarter are never told to slow down, and jitter stops nobody for good.
        #[test]
        fn clocks_that_run_fast_are_borne(rate in 0.75_f64..1.3, interval in 2_u64..10) {
            let step = (interval as f64 * 1000.0 * rate).ceil() as i64;
            let arrivals: Vec<i64> = (0..20).map(|n| n * step).collect();
            prop_assert!(polls(interval, &arrivals).iter().all(|early| !early));
        }

        #[test]
        fn jitter_makes_nobody_early_twice_in_a_row(jitter in prop::collection::vec(0_i64..600, 30)) {
            let arrivals: Vec<i64> = jitter.iter().zip(0..).map(|(late, n)| n * 2_000 + late).collect();
            let early = polls(2, &arrivals);
            prop_assert!(early.windows(2).all(|two| !(two[0] && two[1])), "{:?}", early);
        }
    }
}
