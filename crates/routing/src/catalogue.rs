//! All models by name.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::SystemTime;

use penstock_domain::{Money, Tariff, Usage};

use crate::draft::Draft;
use crate::lanes::{Lane, Lanes};
use crate::model::within;
use crate::{
    Ask, Bounds, Candidate, Deployment, Fleet, Model, Plan, PriceList, Prices, Pricing, RelayRule, Unroutable,
};

/// All models, by name.
#[derive(Debug, Default)]
pub struct Catalogue {
    exact: HashMap<Arc<str>, Arc<Model>>,
    // Longest prefix first, so that the most exact pattern wins whatever the order in the file.
    patterns: Vec<(Box<str>, Arc<Model>)>,
    list: PriceList,
    relay: Option<RelayRule>,
    // By the model's own name, patterns with their `*`.
    lanes: HashMap<Arc<str>, Lanes>,
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
        let patterns = catalogue.patterns.iter().map(|(_, model)| model);
        let lanes = catalogue.exact.values().chain(patterns);
        catalogue.lanes =
            lanes.map(|model| (Arc::clone(&model.name), Lanes::of(model, &catalogue.exact))).collect();
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
    ///
    /// # Errors
    /// Why there is nobody to ask: what the caller may not leave holds here as for every other request.
    pub fn relay(
        &self,
        fleet: &Fleet,
        (path, family): (&str, &str),
        bounds: Option<&Bounds>,
    ) -> Result<Plan, Unroutable> {
        let rule = self.relay.as_ref().filter(|rule| rule.covers(path)).ok_or(Unroutable::Nothing)?;
        if bounds.is_some_and(|bounds| !bounds.allow(&rule.place)) {
            return Err(Unroutable::Bounds);
        }
        let target = fleet.target(&rule.place.provider, 0, &family.into());
        Ok(Plan::only(Candidate { serves: None, target, prices: None }))
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
        let lanes = self.lanes.get(&ask.model.name).ok_or(Unroutable::Nothing)?;
        let budgets = lanes.budgets(&ask.model.name, fleet);
        let mut draft = Draft::new(&ask, Arc::clone(budgets), fleet.random(), lanes.lanes.len());
        for lane in &lanes.lanes {
            let deployment = lane.deployment();
            // Nothing below ever sees what is outside: no failover, hedge or probe can go there.
            let allowed = ask.bounds.is_none_or(|bounds| bounds.allow(deployment))
                && ask.residency.is_none_or(|regions| within(deployment.region.as_deref(), regions));
            if !allowed {
                draft.outside(deployment, ask.asked);
                continue;
            }
            let upstream = deployment.upstream.as_ref().unwrap_or(ask.asked);
            let prices = self.prices(&deployment.pricing, upstream);
            lane.targets(fleet, ask.asked, |target| draft.add(lane, target, prices.clone()));
        }
        draft.finish()
    }

    /// What a provider's model costs when it serves this model of the catalogue, or takes over for it.
    pub fn prices_of(&self, name: &str, provider: &str, upstream: &str) -> Option<Arc<Prices>> {
        let model = self.find(name)?;
        let deployments = self.lanes.get(&model.name)?.lanes.iter().map(Lane::deployment);
        let serves = |deployment: &&Deployment| {
            *deployment.provider == *provider
                && deployment.upstream.as_deref().is_none_or(|name| name == upstream)
        };
        deployments.filter(serves).find_map(|deployment| self.prices(&deployment.pricing, upstream))
    }

    /// The dearest tariff of all that a request for this model may be billed at, its fall-backs' too, for so many tokens.
    /// `None` when one of them is not known.
    pub fn dearest(
        &self,
        model: &Model,
        asked: &Arc<str>,
        when: SystemTime,
        usage: &Usage,
    ) -> Option<Tariff> {
        let fallbacks = model.fallbacks.iter().filter_map(|name| self.exact.get(name)).map(AsRef::as_ref);
        let mut dearest: Option<(Money, Tariff)> = None;
        for deployment in std::iter::once(model).chain(fallbacks).flat_map(|model| &model.deployments) {
            let upstream = deployment.upstream.as_ref().unwrap_or(asked);
            let tariff = *self.prices(&deployment.pricing, upstream)?.at(when)?;
            let cost = tariff.cost(usage).known()?;
            if dearest.is_none_or(|(most, _)| cost > most) {
                dearest = Some((cost, tariff));
            }
        }
        dearest.map(|(_, tariff)| tariff)
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
