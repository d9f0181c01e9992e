//! Quotas: items per second, per client and operation, with one second's worth in hand.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::client_id::ClientId;
use crate::policy::Operation;

const BURST: Duration = Duration::from_secs(1);
/// Buckets kept before full ones, which say nothing, are dropped. Clients are bounded by the CA anyway.
const BUCKETS_MAX: usize = 10_000;

/// All buckets. Each is the moment at which it is full again.
#[derive(Debug, Default)]
pub struct Quotas(Mutex<HashMap<(ClientId, Operation), Instant>>);

impl Quotas {
    /// Takes `items` at once, or says how long to wait. More than a second's worth is let through when the bucket is
    /// full; it is paid for afterwards.
    pub fn take(
        &self,
        client: &ClientId,
        operation: Operation,
        rate: Option<u64>,
        items: u64,
    ) -> Result<(), Duration> {
        let Some(rate) = rate else { return Ok(()) };
        self.with(client, operation, |full_at, now| {
            let debt = full_at.saturating_duration_since(now);
            let cost = cost(items, rate);
            if debt.is_zero() || debt + cost <= BURST {
                *full_at = now + debt + cost;
                Ok(())
            } else {
                Err((debt + cost.min(BURST)).saturating_sub(BURST))
            }
        })
    }

    /// Takes `items` and says how long to pause before the next; for streams, which are slowed down, not refused.
    pub fn pace(&self, client: &ClientId, operation: Operation, rate: Option<u64>, items: u64) -> Duration {
        let Some(rate) = rate else { return Duration::ZERO };
        self.with(client, operation, |full_at, now| {
            let debt = full_at.saturating_duration_since(now) + cost(items, rate);
            *full_at = now + debt;
            debt.saturating_sub(BURST)
        })
    }

    fn with<T>(
        &self,
        client: &ClientId,
        operation: Operation,
        change: impl FnOnce(&mut Instant, Instant) -> T,
    ) -> T {
        let now = Instant::now();
        let mut buckets = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if buckets.len() > BUCKETS_MAX {
            buckets.retain(|_, full_at| *full_at > now);
        }
        change(buckets.entry((client.clone(), operation)).or_insert(now), now)
    }
}

fn cost(items: u64, rate: u64) -> Duration {
    let nanos = u128::from(items) * 1_000_000_000 / u128::from(rate.max(1));
    Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::client_id::TrustDomain;

    fn client(name: &str) -> ClientId {
        let domain = TrustDomain::parse("weihai.example").unwrap();
        ClientId::parse(&format!("spiffe://weihai.example/clearing/{name}"), &domain).unwrap()
    }

    #[test]
    fn one_second_in_hand_then_the_rate() {
        let (quotas, one, two) = (Quotas::default(), client("one"), client("two"));
        let take = |client, items| quotas.take(client, Operation::MacsVerify, Some(100), items);
        assert_eq!(take(&one, 60), Ok(()));
        assert_eq!(take(&one, 30), Ok(()));
        let wait = take(&one, 60).unwrap_err();
        assert!(wait > Duration::from_millis(400) && wait <= Duration::from_millis(500), "{wait:?}");
        assert_eq!(take(&two, 60), Ok(()), "another client has his own");
        assert_eq!(quotas.take(&one, Operation::StatusRead, Some(100), 60), Ok(()), "another operation too");
        assert_eq!(quotas.take(&one, Operation::MacsVerify, None, u64::MAX), Ok(()), "no quota, no limit");
    }

    #[test]
    fn more_than_a_second_is_paid_afterwards() {
        let (quotas, one) = (Quotas::default(), client("one"));
        let take = |items| quotas.take(&one, Operation::MacsVerify, Some(100), items);
        assert_eq!(take(500), Ok(()));
        assert!(take(1).unwrap_err() > Duration::from_secs(3));
    }

    #[test]
    fn streams_are_slowed_down() {
        let (quotas, one) = (Quotas::default(), client("one"));
        let pace = |items| quotas.pace(&one, Operation::SettlementVerify, Some(1000), items);
        assert_eq!(pace(1000), Duration::ZERO);
        let pause = pace(500);
        assert!(pause > Duration::from_millis(400) && pause <= Duration::from_millis(500), "{pause:?}");
    }
}
