//! The targets behind all models, and what was learnt of each.

use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::Target;
use crate::account::Account;
use crate::budget::Budgets;
use crate::random::{Random, STEP, mix};

/// So many targets are remembered. Only names that are passed on to vendors can make more, and clients choose those.
const TARGETS: usize = 4096;
/// So many are forgotten together, so that the search for the oldest is rare.
const FORGOTTEN: usize = TARGETS / 8;

/// What the admin API and metrics tell of a target.
#[derive(Debug, Clone, PartialEq)]
pub struct TargetReport {
    /// The provider's name.
    pub provider: Arc<str>,
    /// Which of the provider's credentials, from 0.
    pub credential: u32,
    /// The model as that provider names it.
    pub model: Arc<str>,
    /// `healthy`, `ejected`, `returning`, `cooling` or `retired`.
    pub state: &'static str,
    /// How long it stays cooling, retired or ejected before it is tried again.
    pub wait: Option<Duration>,
    /// The share of attempts that failed lately, 0 to 1.
    pub error_rate: f64,
    /// How far the evidence of a fault has come, 0 to 1, where it is ejected.
    pub suspicion: f64,
    /// Attempts under way.
    pub in_flight: u32,
    /// The most attempts that it is given at once, where it was learnt.
    pub limit: Option<u32>,
    /// The median time to the first token.
    pub ttft_p50: Option<Duration>,
    /// The time to the first token that 5 of 100 exceed.
    pub ttft_p95: Option<Duration>,
    /// How often it was ejected.
    pub ejections: u64,
    /// The part of its usual traffic that it is given now, 0 to 1.
    pub share: f64,
}

type Name = (Arc<str>, u32, Arc<str>);
type Accounts = HashMap<(Arc<str>, u32), Arc<Account>>;

/// Every target that was ever planned for, shared by all snapshots: a reload forgets nothing.
#[derive(Debug)]
pub struct Fleet {
    targets: Mutex<HashMap<Name, Arc<Target>>>,
    accounts: Mutex<Accounts>,
    budgets: Mutex<HashMap<Arc<str>, Arc<Budgets>>>,
    chance: AtomicU64,
}

impl Default for Fleet {
    fn default() -> Self {
        Self::seeded(RandomState::new().hash_one(0_u64))
    }
}

impl Fleet {
    /// A fleet whose chances follow from a seed, for tests and simulations.
    pub fn seeded(seed: u64) -> Self {
        Self {
            targets: Mutex::default(),
            accounts: Mutex::default(),
            budgets: Mutex::default(),
            chance: AtomicU64::new(seed),
        }
    }

    /// Forgets what kept a provider's targets away: for a reload that changed the provider.
    pub fn reinstate(&self, provider: &str) {
        let accounts = self.accounts.lock().unwrap_or_else(PoisonError::into_inner);
        accounts.iter().filter(|((of, _), _)| **of == *provider).for_each(|(_, account)| account.reinstate());
        drop(accounts);
        let targets = self.targets.lock().unwrap_or_else(PoisonError::into_inner);
        targets.values().filter(|target| *target.provider == *provider).for_each(|target| target.reinstate());
    }

    /// The target of this name, made when it is not known yet.
    pub fn target(&self, provider: &Arc<str>, credential: u32, model: &Arc<str>) -> Arc<Target> {
        let mut targets = self.targets.lock().unwrap_or_else(PoisonError::into_inner);
        let name = (Arc::clone(provider), credential, Arc::clone(model));
        if let Some(target) = targets.get(&name) {
            return Arc::clone(target);
        }
        if targets.len() >= TARGETS {
            forget_idle(&mut targets);
        }
        let account = self.account(provider, credential);
        let target = Arc::new(Target::new(name.clone(), digest(&name), account, self.random()));
        // When all are in use, this one is known to nobody else: better than to grow without end.
        if targets.len() < TARGETS {
            targets.insert(name, Arc::clone(&target));
        }
        target
    }

    /// Every target with its state, sorted.
    pub fn report(&self, now: Instant) -> Vec<TargetReport> {
        let all: Vec<Arc<Target>> = {
            let targets = self.targets.lock().unwrap_or_else(PoisonError::into_inner);
            targets.values().cloned().collect()
        };
        let mut all: Vec<_> = all.iter().map(|target| target.report(now)).collect();
        all.sort_by(|a, b| (&a.provider, a.credential, &a.model).cmp(&(&b.provider, b.credential, &b.model)));
        all
    }

    /// What the requests of a model of the catalogue may spend.
    pub(crate) fn budgets(&self, model: &Arc<str>) -> Arc<Budgets> {
        let mut budgets = self.budgets.lock().unwrap_or_else(PoisonError::into_inner);
        if budgets.len() >= TARGETS {
            budgets.retain(|_, budgets| Arc::strong_count(budgets) > 1);
        }
        Arc::clone(budgets.entry(Arc::clone(model)).or_default())
    }

    /// A stream of chance of its own.
    pub(crate) fn random(&self) -> Random {
        Random::new(mix(self.chance.fetch_add(STEP, Ordering::Relaxed)))
    }

    fn account(&self, provider: &Arc<str>, credential: u32) -> Arc<Account> {
        let mut accounts = self.accounts.lock().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(accounts.entry((Arc::clone(provider), credential)).or_default())
    }
}

/// Forgets those that nobody holds, the longest unused first.
fn forget_idle(targets: &mut HashMap<Name, Arc<Target>>) {
    let idle = targets.iter().filter(|(_, target)| Arc::strong_count(target) == 1);
    let mut idle: Vec<_> = idle.map(|(name, target)| (target.state().used, name.clone())).collect();
    idle.sort_by_key(|(used, _)| *used);
    for (_, name) in idle.into_iter().take(FORGOTTEN) {
        targets.remove(&name);
    }
}

/// A digest that is the same in every process, so that several gateways agree where a prompt is at home (FNV-1a).
fn digest((provider, credential, model): &Name) -> u64 {
    let bytes = provider.bytes().chain([0]).chain(credential.to_le_bytes()).chain(model.bytes());
    mix(bytes
        .fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_clients_make_up_push_out_each_other_and_nothing_that_is_in_use() {
        let fleet = Fleet::seeded(1);
        let provider: Arc<str> = "p".into();
        let kept = fleet.target(&provider, 0, &"kept".into());
        for n in 0..3 * TARGETS {
            fleet.target(&provider, 0, &format!("made-up-{n}").into());
        }
        assert!(fleet.targets.lock().unwrap().len() <= TARGETS);
        assert!(Arc::ptr_eq(&kept, &fleet.target(&provider, 0, &"kept".into())));
    }

    #[test]
    fn many_threads_leave_nothing_behind() {
        let catalogue = crate::Catalogue::new([crate::Model {
            deployments: ["a", "b", "c"].map(|name| crate::Deployment::new(name, Some("m".into()))).into(),
            ..crate::Model::single("m", "a", None)
        }]);
        let (fleet, asked, now) = (Fleet::seeded(1), Arc::from("m"), Instant::now());
        std::thread::scope(|scope| {
            for thread in 0..4 {
                let (fleet, asked, catalogue) = (&fleet, &asked, &catalogue);
                scope.spawn(move || {
                    for n in 0..2_000 {
                        let model = catalogue.find("m").unwrap();
                        let ask = crate::Ask {
                            model,
                            asked,
                            input: 10,
                            output: None,
                            bounds: None,
                            residency: None,
                            prefix: None,
                            now,
                        };
                        let mut plan = catalogue.plan(fleet, ask).unwrap();
                        let mut after = None;
                        while let Some(mut pick) = plan.next(after.as_ref(), now) {
                            match (n + thread) % 4 {
                                0 => drop(pick),
                                1 => {
                                    let cut = penstock_domain::Error::new(
                                        penstock_domain::Code::UpstreamError,
                                        "x",
                                    );
                                    pick.flight.failed(&cut, now);
                                    after = Some(cut);
                                    continue;
                                }
                                _ => {
                                    pick.flight.first_content(now);
                                    pick.flight.complete(20, now);
                                }
                            }
                            break;
                        }
                    }
                });
            }
        });
        let reports = fleet.report(now);
        assert_eq!(reports.len(), 3);
        assert!(reports.iter().all(|report| report.in_flight == 0), "{reports:?}");
        assert!(fleet.targets.lock().unwrap().values().all(|target| target.state().tokens == 0));
    }

    #[test]
    fn all_in_use_is_no_reason_to_grow() {
        let fleet = Fleet::seeded(1);
        let provider: Arc<str> = "p".into();
        let held: Vec<_> =
            (0..TARGETS + 10).map(|n| fleet.target(&provider, 0, &format!("{n}").into())).collect();
        assert_eq!(fleet.targets.lock().unwrap().len(), TARGETS);
        assert_eq!(held.len(), TARGETS + 10);
    }
}
