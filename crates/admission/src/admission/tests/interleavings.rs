//! No interleaving of reserve, top-up, settle, refund and cancel loses or invents a token: a model that only adds and
//! subtracts runs beside the accounts.

use proptest::prelude::*;

use super::*;

#[derive(Debug, Clone)]
enum Step {
    Reserve {
        team: bool,
        input: u64,
        output: u64,
        free: bool,
    },
    TopUp {
        which: usize,
        more: u64,
    },
    Settle {
        which: usize,
        input: u64,
        output: u64,
    },
    /// Refused, failed, cancelled: the permit drops.
    Drop {
        which: usize,
    },
    Wait {
        seconds: u64,
    },
    /// Another snapshot, with other limits.
    Reload {
        tokens: u64,
    },
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (any::<bool>(), 0u64..500, 0u64..500, any::<bool>())
            .prop_map(|(team, input, output, free)| Step::Reserve { team, input, output, free }),
        2 => (0usize..8, 0u64..500).prop_map(|(which, more)| Step::TopUp { which, more }),
        3 => (0usize..8, 0u64..700, 0u64..700)
            .prop_map(|(which, input, output)| Step::Settle { which, input, output }),
        1 => (0usize..8).prop_map(|which| Step::Drop { which }),
        1 => (0u64..100_000).prop_map(|seconds| Step::Wait { seconds }),
        1 => (1u64..5_000).prop_map(|tokens| Step::Reload { tokens }),
    ]
}

/// What the accounts should say.
#[derive(Debug, Default)]
struct Sum {
    in_flight: u32,
    spent: u64,
}

/// The accounts, and what they should say.
struct Run {
    bench: Bench,
    own: Allowance,
    open: Vec<(Permit, bool)>,
    after: Duration,
    key: Sum,
    team: Sum,
}

impl Run {
    fn reserve(&mut self, with: bool, input: u64, output: Output) {
        let team = Arc::clone(&self.bench.team);
        let claim = Claim { team: with.then_some(&team), ..self.bench.claim(self.own, input, output) };
        let now = self.bench.now(self.after);
        if let Ok(permit) = self.bench.admission.reserve(&self.bench.rules, claim, now, || input).1 {
            self.key.in_flight += 1;
            self.team.in_flight += u32::from(with);
            self.open.push((permit, with));
        }
    }

    fn end(&mut self, which: usize, used: Option<(u64, u64)>) {
        if which >= self.open.len() {
            return;
        }
        let (permit, with) = self.open.swap_remove(which);
        self.key.in_flight -= 1;
        self.team.in_flight -= u32::from(with);
        let Some((input, output)) = used else { return drop(permit) };
        self.bench.settle(permit, (input, output), self.after);
        self.key.spent += input + output;
        self.team.spent += u64::from(with) * (input + output);
    }

    fn step(&mut self, step: Step) {
        match step {
            Step::Reserve { team, input, output, free } => {
                let free = free.then_some(Output::Free { cold: output, choices: 1 });
                self.reserve(team, input, free.unwrap_or(Output::Bound(output)));
            }
            Step::TopUp { which, more } => {
                let now = self.bench.now(self.after);
                if let Some((permit, _)) = self.open.get_mut(which) {
                    // Refused or not, the sums have to stay right.
                    let _ = permit.top_up(more, now);
                }
            }
            Step::Settle { which, input, output } => self.end(which, Some((input, output))),
            Step::Drop { which } => self.end(which, None),
            Step::Wait { seconds } => self.after += Duration::from_secs(seconds),
            Step::Reload { tokens } => {
                self.own.limits.tokens_per_minute = Some(tokens);
                let limits = Limits { output_tokens_per_hour: Some(tokens), ..Limits::default() };
                let allowance = Allowance { limits, budget: budget(tokens * 3, Per::Month) };
                self.bench.rules =
                    Rules { teams: [("support".into(), allowance)].into(), ..Rules::default() };
            }
        }
    }

    fn check(&self) -> Result<(), TestCaseError> {
        let sum = |open: &mut dyn Iterator<Item = &(Permit, bool)>| {
            open.map(|(permit, _)| permit.held()).fold(Need::default(), Need::plus)
        };
        let held = sum(&mut self.open.iter());
        let held_by_team = sum(&mut self.open.iter().filter(|(_, with)| *with));
        for one in self.bench.admission.standings(&self.bench.rules, self.bench.now(self.after)) {
            let (sum, held) = match one.level {
                Level::Key | Level::Organisation | Level::Model | Level::Provider => (&self.key, held),
                Level::Team => (&self.team, held_by_team),
            };
            prop_assert_eq!(one.in_flight, sum.in_flight, "{:?}", one.level);
            prop_assert_eq!(one.spent.lifetime, sum.spent, "{:?}", one.level);
            prop_assert_eq!(one.held, held, "{:?}", one.level);
        }
        Ok(())
    }
}

proptest! {
    #[test]
    fn nothing_is_lost_and_nothing_invented(steps in proptest::collection::vec(step(), 1..120)) {
        let own = Allowance { budget: budget(5_000, Per::Lifetime), ..Allowance::default() };
        let (key, team) = (Sum::default(), Sum::default());
        let mut run = Run { bench: Bench::new(), own, open: Vec::new(), after: Duration::ZERO, key, team };
        for step in steps {
            run.step(step);
            run.check()?;
        }
        while !run.open.is_empty() {
            run.end(0, None);
        }
        run.check()?;
    }
}
