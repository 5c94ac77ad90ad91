//! Where a request goes.
//!
//! What it is: the [`Catalogue`] of model names that clients ask for, and the [`Plan`] it gives for one of them: the
//! candidates in the order in which they are to be tried, each with what it costs.
//!
//! What it promises: decisions only, no IO, no clock. Names are looked up without allocation. A name that is not in the
//! catalogue goes nowhere.
//!
//! What it refuses to know: what a provider is, and whether a call went well.

mod prices;
mod relay;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::SystemTime;

pub use prices::{PriceList, Prices};
pub use relay::RelayRule;

/// One model as clients know it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Model {
    /// The name that clients ask for. A trailing `*` stands for any ending.
    pub name: Arc<str>,
    /// The provider that serves it.
    pub provider: Arc<str>,
    /// The model as the provider names it; `None` passes the asked name on.
    pub upstream: Option<Arc<str>>,
    /// The most tokens that a request may ask for, where the operator sets a bound.
    pub max_output_tokens: Option<u32>,
    /// What its tokens cost.
    pub pricing: Pricing,
}

/// Where a model's prices come from.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Pricing {
    /// These hold.
    Own(Arc<Prices>),
    /// The list prices of a vendor of this kind hold, where the model is listed.
    Listed(Arc<str>),
    /// Nobody said.
    #[default]
    Unknown,
}

/// One place that can answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Candidate {
    /// The provider's name.
    pub provider: Arc<str>,
    /// The model as that provider names it.
    pub model: Arc<str>,
    /// What it costs; `None` when nobody said.
    pub prices: Option<Arc<Prices>>,
}

/// The candidates for one request, in the order in which they are tried; never empty.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan {
    /// Who is tried.
    pub candidates: Vec<Candidate>,
}

/// All models, by name.
#[derive(Debug, Default)]
pub struct Catalogue {
    exact: HashMap<Arc<str>, Arc<Model>>,
    // Longest prefix first, so that the most exact pattern wins whatever the order in the file.
    patterns: Vec<(Box<str>, Arc<Model>)>,
    list: PriceList,
    relay: Option<RelayRule>,
}

impl Catalogue {
    /// Builds the catalogue; of two models with one name the later wins (the configuration refuses that before).
    pub fn new(models: impl IntoIterator<Item = Model>) -> Self {
        let mut catalogue = Self { list: PriceList::builtin(), ..Self::default() };
        for mut model in models {
            // Looked up once where the name is known; a name that is passed on is looked up when it comes.
            if let (Pricing::Listed(kind), Some(upstream)) = (&model.pricing, &model.upstream) {
                let listed = catalogue.list.find(kind, upstream);
                model.pricing = listed.map_or(Pricing::Unknown, |prices| Pricing::Own(Arc::clone(prices)));
            }
            let model = Arc::new(model);
            match model.name.strip_suffix('*') {
                Some(prefix) => catalogue.patterns.push((prefix.into(), Arc::clone(&model))),
                None => {
                    catalogue.exact.insert(Arc::clone(&model.name), model);
                }
            }
        }
        catalogue.patterns.sort_by_key(|(prefix, _)| std::cmp::Reverse(prefix.len()));
        catalogue
    }

    /// The same catalogue with a way out for requests that no route knows.
    #[must_use]
    pub fn with_relay(self, relay: Option<RelayRule>) -> Self {
        Self { relay, ..self }
    }

    /// Whether a path below the API's root is passed on.
    pub fn relays(&self, path: &str) -> bool {
        self.relay.as_ref().is_some_and(|rule| rule.covers(path))
    }

    /// The candidate for a relayed path; its objects stand where a model's name would. Nobody knows what it costs.
    pub fn relay(&self, path: &str, family: &str) -> Option<Candidate> {
        let rule = self.relay.as_ref().filter(|rule| rule.covers(path))?;
        Some(Candidate { provider: Arc::clone(&rule.provider), model: family.into(), prices: None })
    }

    /// Finds the model that an asked name means: the exact name first, then the longest pattern.
    pub fn find(&self, asked: &str) -> Option<&Arc<Model>> {
        self.exact.get(asked).or_else(|| {
            self.patterns
                .iter()
                .find(|(prefix, _)| asked.starts_with(prefix.as_ref()))
                .map(|(_, model)| model)
        })
    }

    /// The candidates for a model, given the name that was asked.
    pub fn plan(&self, model: &Model, asked: &Arc<str>) -> Plan {
        let upstream = model.upstream.as_ref().unwrap_or(asked);
        let prices = match &model.pricing {
            Pricing::Own(prices) => Some(Arc::clone(prices)),
            Pricing::Listed(kind) => self.list.find(kind, upstream).cloned(),
            Pricing::Unknown => None,
        };
        let first = Candidate { provider: Arc::clone(&model.provider), model: Arc::clone(upstream), prices };
        Plan { candidates: vec![first] }
    }

    /// The models that can be listed: all but patterns, sorted by name.
    pub fn listed(&self) -> Vec<&Arc<Model>> {
        let mut models: Vec<_> = self.exact.values().collect();
        models.sort_by(|a, b| a.name.cmp(&b.name));
        models
    }

    /// The models without a known price at a moment, sorted by name. Patterns are left out: their price is known by the
    /// name that is asked.
    pub fn unpriced(&self, when: SystemTime) -> Vec<&Arc<Model>> {
        let mut models = self.listed();
        models.retain(|model| match &model.pricing {
            Pricing::Own(prices) => prices.at(when).is_none(),
            Pricing::Listed(_) => false,
            Pricing::Unknown => true,
        });
        models
    }

    /// The listed name that is nearest to an asked one by shared beginning, for a hint in an error.
    pub fn nearest(&self, asked: &str) -> Option<&str> {
        let shared = |name: &str| {
            name.bytes().zip(asked.bytes()).take_while(|(a, b)| a.eq_ignore_ascii_case(b)).count()
        };
        self.exact
            .keys()
            .map(|name| (shared(name), name))
            .filter(|(n, _)| *n >= 2)
            .max()
            .map(|(_, name)| name.as_ref())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn model(name: &str, provider: &str, upstream: Option<&str>) -> Model {
        Model {
            name: name.into(),
            provider: provider.into(),
            upstream: upstream.map(Into::into),
            max_output_tokens: None,
            pricing: Pricing::default(),
        }
    }

    fn goes_to(catalogue: &Catalogue, asked: &str) -> Option<(String, String)> {
        let found = catalogue.find(asked)?;
        let plan = catalogue.plan(found, &asked.into());
        let first = &plan.candidates[0];
        Some((first.provider.to_string(), first.model.to_string()))
    }

    #[test]
    fn exact_names_win_over_patterns_and_long_patterns_over_short_ones() {
        let catalogue = Catalogue::new([
            model("*", "any", None),
            model("gpt-*", "openai", None),
            model("gpt-5", "azure", Some("prod-5")),
        ]);
        let to =
            |asked| goes_to(&catalogue, asked).map(|(provider, upstream)| format!("{provider}/{upstream}"));
        assert_eq!(to("gpt-5").as_deref(), Some("azure/prod-5"));
        assert_eq!(to("gpt-5-mini").as_deref(), Some("openai/gpt-5-mini"));
        assert_eq!(to("llama").as_deref(), Some("any/llama"));
    }

    #[test]
    fn list_prices_are_found_for_fixed_names_and_for_names_that_are_passed_on() {
        let listed = || Pricing::Listed("openai".into());
        let own = Pricing::Own(Arc::new(Prices::free()));
        let catalogue = Catalogue::new([
            Model { pricing: listed(), ..model("large", "openai", Some("gpt-5")) },
            Model { pricing: listed(), ..model("odd", "openai", Some("gpt-nobody")) },
            Model { pricing: own, ..model("home", "local", Some("x")) },
            model("bare", "p", Some("gpt-5")),
            Model { pricing: listed(), ..model("*", "openai", None) },
        ]);
        let priced = |asked: &str| {
            catalogue.plan(catalogue.find(asked).unwrap(), &asked.into()).candidates[0].prices.is_some()
        };
        assert_eq!(
            ["large", "odd", "home", "bare", "gpt-5-mini", "gpt-nobody"].map(priced),
            [true, false, true, false, true, false]
        );
        let names: Vec<_> =
            catalogue.unpriced(SystemTime::now()).iter().map(|model| model.name.to_string()).collect();
        assert_eq!(names, ["bare", "odd"]);
    }

    #[test]
    fn an_unknown_name_goes_nowhere_and_the_nearest_is_offered() {
        let catalogue =
            Catalogue::new([model("small", "local", None), model("large", "openai", Some("gpt-5"))]);
        assert_eq!(goes_to(&catalogue, "smal"), None);
        assert_eq!(catalogue.nearest("smal"), Some("small"));
        assert_eq!(catalogue.nearest("zzz"), None);
    }

    #[test]
    fn patterns_are_not_listed() {
        let catalogue =
            Catalogue::new([model("b", "p", None), model("a", "p", None), model("x*", "p", None)]);
        let names: Vec<_> = catalogue.listed().iter().map(|model| model.name.to_string()).collect();
        assert_eq!(names, ["a", "b"]);
    }
}
