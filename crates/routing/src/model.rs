//! Models as clients know them, and the places that serve them.

use std::sync::Arc;

use crate::Prices;

/// One model as clients know it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Model {
    /// The name that clients ask for. A trailing `*` stands for any ending.
    pub name: Arc<str>,
    /// The places that serve it alike; at least one.
    pub deployments: Vec<Deployment>,
    /// Names of the models that take over, in order, when none of its own deployments can.
    pub fallbacks: Vec<Arc<str>>,
    /// The most tokens that an answer may have.
    pub max_output_tokens: Option<u32>,
    /// What a request asks for that names no bound.
    pub default_output_tokens: Option<u32>,
    /// What happens when a deployment fails or is slow.
    pub policy: Policy,
}

impl Model {
    /// A model that one provider serves, without prices or bounds.
    pub fn single(
        name: impl Into<Arc<str>>,
        provider: impl Into<Arc<str>>,
        upstream: Option<Arc<str>>,
    ) -> Self {
        Self {
            name: name.into(),
            deployments: vec![Deployment::new(provider, upstream)],
            fallbacks: Vec::new(),
            max_output_tokens: None,
            default_output_tokens: None,
            policy: Policy::default(),
        }
    }
}

/// What happens when a deployment fails or is slow.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Policy {
    /// A broken text stream may be continued by another candidate.
    pub resume: bool,
    /// A second candidate may be asked when the first is unusually slow to begin.
    pub hedge: bool,
    /// What a content filter withheld is asked of the next candidate.
    pub past_content_filter: bool,
    /// Requests with the same beginning prefer the same target.
    pub affinity: bool,
}

/// One place that serves a model.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Deployment {
    /// The provider that serves it.
    pub provider: Arc<str>,
    /// How many credentials the provider has, at least 1: each is a target of its own.
    pub credentials: u32,
    /// The model as the provider names it; `None` passes the asked name on.
    pub upstream: Option<Arc<str>>,
    /// Its share of the traffic beside its equals, before speed and load are looked at; at least 1.
    pub weight: u32,
    /// What its tokens cost.
    pub pricing: Pricing,
    /// Where it computes; `None` is nowhere that a residency rule allows.
    pub region: Option<Arc<str>>,
    /// Whether the operator runs it.
    pub internal: bool,
    /// Provisioned tokens per minute, used up before deployments without any.
    pub provisioned: Option<u64>,
    /// How many tokens prompt and answer may have together.
    pub context_window: Option<u32>,
}

impl Deployment {
    /// A deployment of which nothing else is known.
    pub fn new(provider: impl Into<Arc<str>>, upstream: Option<Arc<str>>) -> Self {
        Self {
            provider: provider.into(),
            credentials: 1,
            upstream,
            weight: 1,
            pricing: Pricing::default(),
            region: None,
            internal: false,
            provisioned: None,
            context_window: None,
        }
    }
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

/// What a caller's requests may not leave.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Bounds {
    /// Regions that are allowed; empty is everywhere.
    pub regions: Box<[Arc<str>]>,
    /// Only what the operator runs.
    pub internal_only: bool,
}

impl Bounds {
    /// Whether a deployment is inside.
    pub fn allow(&self, deployment: &Deployment) -> bool {
        (deployment.internal || !self.internal_only)
            && (self.regions.is_empty() || within(deployment.region.as_deref(), &self.regions))
    }
}

/// Whether a region is one of the allowed ones, or a part of one: `eu` covers `eu-central-1`.
pub(crate) fn within(region: Option<&str>, allowed: &[Arc<str>]) -> bool {
    region.is_some_and(|region| {
        allowed.iter().any(|allowed| {
            region.strip_prefix(&**allowed).is_some_and(|rest| rest.is_empty() || rest.starts_with('-'))
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_region_is_inside_itself_and_inside_what_it_is_a_part_of() {
        let eu: [Arc<str>; 1] = ["eu".into()];
        for (region, inside) in [
            (Some("eu"), true),
            (Some("eu-central-1"), true),
            (Some("europe"), false),
            (Some("us"), false),
            (None, false),
        ] {
            assert_eq!(within(region, &eu), inside, "{region:?}");
        }
    }

    #[test]
    fn who_trusts_only_the_operator_goes_to_nobody_else() {
        let bounds = Bounds { regions: Box::default(), internal_only: true };
        let outside = Deployment::new("openai", None);
        assert!(!bounds.allow(&outside));
        assert!(bounds.allow(&Deployment { internal: true, ..outside }));
    }
}
