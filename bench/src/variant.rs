//! What is measured beside what: the gateway beside nginx and a direct run, and ways to run the gateway beside each other.

use clap::Args;

/// What stands before the upstream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Direct,
    Nginx,
    Penstock,
}

/// A target: what it is, and how it is set up.
#[derive(Debug)]
pub(crate) struct Variant {
    /// The head of its column.
    pub(crate) name: &'static str,
    pub(crate) kind: Kind,
    /// Which lines of `penstock.yaml` hold for it.
    pub(crate) marks: &'static [&'static str],
    /// Whether every request has an `Idempotency-Key` of its own.
    pub(crate) keyed: bool,
}

const fn plain(name: &'static str, kind: Kind) -> Variant {
    Variant { name, kind, marks: &[], keyed: false }
}

const fn penstock(name: &'static str, marks: &'static [&'static str]) -> Variant {
    Variant { name, kind: Kind::Penstock, marks, keyed: false }
}

/// The gateway as `penstock.yaml` has it.
pub(crate) static PENSTOCK: Variant = plain("penstock", Kind::Penstock);

/// The three whose ratio is the figure to look at.
pub(crate) static BESIDE_NGINX: [Variant; 3] =
    [plain("direct", Kind::Direct), plain("nginx", Kind::Nginx), plain("penstock", Kind::Penstock)];

static CANDIDATES: [Variant; 3] = [
    penstock("one candidate", &[]),
    penstock("a fall-back beside it", &["fallback"]),
    penstock("two deployments", &["deployments"]),
];

static SHARED: [Variant; 3] = [
    penstock("memory", &["every"]),
    penstock("Redis", &["every", "redis"]),
    penstock("Redis and PostgreSQL", &["every", "postgres"]),
];

static LIMITS: [Variant; 3] = [
    penstock("no limit", &["unlimited"]),
    penstock("limits of the key", &[]),
    penstock("limits and budgets at four levels", &["every"]),
];

static KEYED: [Variant; 2] = [
    penstock("without a key", &[]),
    Variant { name: "with a key each", kind: Kind::Penstock, marks: &[], keyed: true },
];

/// Ways to run the gateway that are measured beside each other instead of beside nginx.
#[derive(Debug, Clone, Copy, Default, Args)]
#[group(multiple = false)]
pub(crate) struct Beside {
    /// One candidate beside a fall-back and beside two deployments.
    #[arg(long)]
    candidates: bool,
    /// Memory beside Redis and beside Redis with PostgreSQL, under limits and budgets at four levels (needs both installed).
    #[arg(long)]
    shared: bool,
    /// No limit beside those of a key and beside limits and budgets of key, team, model and organisation.
    #[arg(long)]
    limits: bool,
    /// Requests without beside requests with an Idempotency-Key.
    #[arg(long)]
    idempotency: bool,
}

impl Beside {
    /// The variants that are asked for; the first is what the others are compared with.
    pub(crate) fn variants(self) -> Option<&'static [Variant]> {
        let all: [(bool, &'static [Variant]); 4] = [
            (self.candidates, &CANDIDATES),
            (self.shared, &SHARED),
            (self.limits, &LIMITS),
            (self.idempotency, &KEYED),
        ];
        all.into_iter().find_map(|(asked, variants)| asked.then_some(variants))
    }
}

/// The lines of a configuration that hold under these marks: one that ends in `# with: A B` holds under any of them, one that
/// ends in `# without: A B` under none.
pub(crate) fn select(template: &str, marks: &[&str]) -> String {
    let any = |words: &str| words.split_ascii_whitespace().any(|word| marks.contains(&word));
    let holds = |line: &&str| match (line.rsplit_once("# with: "), line.rsplit_once("# without: ")) {
        (Some((_, words)), _) => any(words),
        (_, Some((_, words))) => !any(words),
        _ => true,
    };
    template.lines().filter(holds).flat_map(|line| [line, "\n"]).collect()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    const TEMPLATE: &str = include_str!("../penstock.yaml");

    #[test]
    fn a_line_holds_under_its_marks() {
        let text = "a\nb # with: x y\nc # without: x\n";
        assert_eq!(select(text, &[]), "a\nc # without: x\n");
        assert_eq!(select(text, &["y"]), "a\nb # with: x y\nc # without: x\n");
        assert_eq!(select(text, &["x"]), "a\nb # with: x y\n");
    }

    #[test]
    fn every_variant_has_one_model_and_one_key_and_differs_from_the_others() {
        let beside = Beside { candidates: true, ..Beside::default() };
        assert_eq!(beside.variants().map(<[_]>::len), Some(3));
        for variants in [&CANDIDATES[..], &SHARED, &LIMITS] {
            let texts: BTreeSet<_> = variants.iter().map(|variant| select(TEMPLATE, variant.marks)).collect();
            assert_eq!(texts.len(), variants.len(), "variants that are the same");
            for text in texts {
                for once in ["  bench: {", "- {name: bench,"] {
                    assert_eq!(text.matches(once).count(), 1, "{once} in {text}");
                }
                assert!(text.matches("\nstores:").count() <= 1, "{text}");
            }
        }
    }
}
