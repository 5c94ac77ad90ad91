//! All models by name.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::SystemTime;

use crate::model::within;
use crate::{
    Ask, Candidate, Deployment, Fleet, Model, Plan, PriceList, Prices, Pricing, RelayRule, Unroutable,
};

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
            for deployment in &mut model.deployments {
                // Looked up once where the name is known; a name that is passed on is looked up when it comes.
                if let (Pricing::Listed(kind), Some(upstream)) = (&deployment.pricing, &deployment.upstream) {
                    let listed = catalogue.list.find(kind, upstream);
                    deployment.pricing =
                        listed.map_or(Pricing::Unknown, |prices| Pricing::Own(Arc::clone(prices)));
                }
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

    /// The plan for a relayed path; its objects stand where a model's name would. Nobody knows what it costs.
    pub fn relay(&self, fleet: &Fleet, path: &str, family: &str) -> Option<Plan> {
        let rule = self.relay.as_ref().filter(|rule| rule.covers(path))?;
        let target = fleet.target(&rule.provider, 0, &family.into());
        Some(Plan::new(vec![Candidate { serves: None, target, prices: None }]))
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

    /// The plan for a request.
    ///
    /// # Errors
    /// Why there is nobody to ask.
    pub fn plan(&self, fleet: &Fleet, ask: Ask<'_>) -> Result<Plan, Unroutable> {
        let mut candidates = Vec::new();
        let mut outside = false;
        let fallbacks = ask.model.fallbacks.iter().filter_map(|name| self.exact.get(name));
        for model in std::iter::once(ask.model).chain(fallbacks) {
            for deployment in &model.deployments {
                let allowed = ask.bounds.is_none_or(|bounds| bounds.allow(deployment))
                    && ask.residency.is_none_or(|regions| within(deployment.region.as_deref(), regions));
                if !allowed {
                    outside = true;
                    continue;
                }
                let upstream = deployment.upstream.as_ref().unwrap_or(ask.asked);
                for credential in 0..deployment.credentials {
                    let target = fleet.target(&deployment.provider, credential, upstream);
                    let prices = self.prices(&deployment.pricing, upstream);
                    candidates.push(Candidate { serves: Some(Arc::clone(model)), target, prices });
                }
            }
        }
        match candidates.is_empty() {
            false => Ok(Plan::new(candidates)),
            true if outside => Err(Unroutable::Bounds),
            true => Err(Unroutable::Nothing),
        }
    }

    /// What a provider's model costs when it serves this model of the catalogue, or takes over for it.
    pub fn prices_of(&self, name: &str, provider: &str, upstream: &str) -> Option<Arc<Prices>> {
        let model = self.find(name)?;
        let fallbacks = model.fallbacks.iter().filter_map(|name| self.exact.get(name));
        let deployments = std::iter::once(model).chain(fallbacks).flat_map(|model| &model.deployments);
        let serves = |deployment: &&Deployment| {
            *deployment.provider == *provider
                && deployment.upstream.as_deref().is_none_or(|name| name == upstream)
        };
        deployments.filter(serves).find_map(|deployment| self.prices(&deployment.pricing, upstream))
    }

    fn prices(&self, pricing: &Pricing, upstream: &str) -> Option<Arc<Prices>> {
        match pricing {
            Pricing::Own(prices) => Some(Arc::clone(prices)),
            Pricing::Listed(kind) => self.list.find(kind, upstream).cloned(),
            Pricing::Unknown => None,
        }
    }

    /// The models that can be listed: all but patterns, sorted by name.
    pub fn listed(&self) -> Vec<&Arc<Model>> {
        let mut models: Vec<_> = self.exact.values().collect();
        models.sort_by(|a, b| a.name.cmp(&b.name));
        models
    }

    /// The models with a deployment without a known price at a moment, sorted by name. Patterns are left out: their price is known by the
    /// name that is asked.
    pub fn unpriced(&self, when: SystemTime) -> Vec<&Arc<Model>> {
        let mut models = self.listed();
        let unknown = |deployment: &Deployment| match &deployment.pricing {
            Pricing::Own(prices) => prices.at(when).is_none(),
            Pricing::Listed(_) => false,
            Pricing::Unknown => true,
        };
        models.retain(|model| model.deployments.iter().any(unknown));
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
    use std::time::Instant;

    use super::*;

    fn model(name: &str, provider: &str, upstream: Option<&str>) -> Model {
        Model::single(name, provider, upstream.map(Into::into))
    }

    fn priced(model: Model, pricing: Pricing) -> Model {
        let deployments = model.deployments.iter().cloned();
        let deployments = deployments.map(|deployment| Deployment { pricing: pricing.clone(), ..deployment });
        Model { deployments: deployments.collect(), ..model }
    }

    fn first(catalogue: &Catalogue, asked: &str) -> Option<Candidate> {
        let (model, asked) = (catalogue.find(asked)?, Arc::from(asked));
        let ask = Ask {
            model,
            asked: &asked,
            input: 0,
            output: None,
            bounds: None,
            residency: None,
            prefix: None,
            now: Instant::now(),
        };
        let pick = catalogue.plan(&Fleet::default(), ask).ok()?.next(None, Instant::now())?;
        Some(pick.candidate)
    }

    fn goes_to(catalogue: &Catalogue, asked: &str) -> Option<(String, String)> {
        let target = first(catalogue, asked)?.target;
        Some((target.provider.to_string(), target.model.to_string()))
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
            priced(model("large", "openai", Some("gpt-5")), listed()),
            priced(model("odd", "openai", Some("gpt-nobody")), listed()),
            priced(model("home", "local", Some("x")), own),
            model("bare", "p", Some("gpt-5")),
            priced(model("*", "openai", None), listed()),
        ]);
        let priced = |asked: &str| first(&catalogue, asked).unwrap().prices.is_some();
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
