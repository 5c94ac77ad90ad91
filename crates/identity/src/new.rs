//! The wish for a new key, and its check: every flaw at once.

use std::sync::Arc;
use std::time::SystemTime;

use penstock_config::{Budget, IpRange, Limits};
use penstock_domain::Priority;

use crate::{KeyId, ModelAllow, Owner, OwnerKind, ScopeSet, check_name, check_team};

/// The most addresses and ranges that one key holds.
const MAX_RANGES: usize = 64;

/// One thing wrong with a wish.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Flaw {
    /// The member at fault.
    pub member: String,
    /// What is wrong and how to mend it: lower case, no final stop.
    pub say: String,
}

/// The wish for a new key, as people and programs write it.
#[derive(Debug, Clone, Default)]
pub struct KeyRequest {
    /// Its name.
    pub name: String,
    /// The team it belongs to.
    pub team: Option<String>,
    /// Who answers for it, by name.
    pub owner: Option<String>,
    /// What kind of owner that is, `user` or `service`; `user` when left out.
    pub kind: Option<String>,
    /// What it may do; at least one scope.
    pub scopes: Vec<String>,
    /// The models it may name; `None` is every model.
    pub models: Option<Vec<String>>,
    /// How much it may ask for.
    pub limits: Limits,
    /// What it may spend.
    pub budget: Option<Budget>,
    /// The addresses that it may be sent from; empty is everywhere.
    pub allow_ips: Vec<IpRange>,
    /// How urgent its requests are: `interactive`, `standard` or `batch`; as its team's are when left out.
    pub priority: Option<String>,
    /// When it stops working.
    pub expires: Option<SystemTime>,
    /// Who makes it; `None` is the command line.
    pub created_by: Option<KeyId>,
}

/// A checked wish. Made only by [`KeyRequest::check`].
#[derive(Debug, Clone)]
pub struct NewKey {
    pub(crate) name: Arc<str>,
    pub(crate) team: Option<Arc<str>>,
    pub(crate) owner: Option<Owner>,
    pub(crate) scopes: ScopeSet,
    pub(crate) models: ModelAllow,
    pub(crate) limits: Limits,
    pub(crate) budget: Option<Budget>,
    pub(crate) allow_ips: Arc<[IpRange]>,
    pub(crate) priority: Option<Priority>,
    pub(crate) expires: Option<SystemTime>,
    pub(crate) created_by: Option<KeyId>,
}

impl NewKey {
    /// What the key shall be allowed to do.
    pub fn scopes(&self) -> &ScopeSet {
        &self.scopes
    }
}

impl KeyRequest {
    /// Checks the wish; all flaws come back at once.
    pub fn check(self, now: SystemTime) -> Result<NewKey, Vec<Flaw>> {
        let mut flaws = Vec::new();
        let mut note = |member: &str, says: Vec<String>| {
            flaws.extend(says.into_iter().map(|say| Flaw { member: member.to_owned(), say }));
        };
        note("name", check_name(&self.name).into_iter().collect());
        note("team", self.team.as_deref().and_then(check_team).into_iter().collect());
        let owner = match (self.owner.as_deref(), self.kind.as_deref().map(OwnerKind::parse)) {
            (_, Some(None)) => Err(("kind", "expected user or service".to_owned())),
            (None, Some(Some(_))) => Err(("kind", "goes with owner alone".to_owned())),
            (None, None) => Ok(None),
            (Some(name), kind) => {
                let kind = kind.flatten().unwrap_or(OwnerKind::User);
                Owner::new(kind, name).map(Some).map_err(|say| ("owner", say))
            }
        };
        let owner = owner.unwrap_or_else(|(member, say)| {
            note(member, vec![say]);
            None
        });
        if self.scopes.is_empty() {
            note(
                "scopes",
                vec!["name at least one scope, for example chat:*: a key without one may do nothing".into()],
            );
        }
        let scopes = ScopeSet::parse(&self.scopes).unwrap_or_else(|says| {
            note("scopes", says);
            ScopeSet::default()
        });
        let models = self.models.map_or(Ok(ModelAllow::ALL), ModelAllow::parse).unwrap_or_else(|says| {
            note("models", says);
            ModelAllow::default()
        });
        for member in self.limits.zeros() {
            let say = "a limit of 0 allows nothing: use 1 or more, leave it out, or revoke the key";
            note(&format!("limits.{member}"), vec![say.to_owned()]);
        }
        if self.allow_ips.len() > MAX_RANGES {
            note("allow_ips", vec![format!("a key holds at most {MAX_RANGES} addresses and ranges")]);
        }
        let priority = self.priority.as_deref().map(Priority::parse);
        if priority == Some(None) {
            note("priority", vec!["expected interactive, standard or batch".into()]);
        }
        if self.expires.is_some_and(|end| end <= now) {
            note("expires", vec!["the expiry must be in the future".into()]);
        }
        if !flaws.is_empty() {
            return Err(flaws);
        }
        Ok(NewKey {
            name: self.name.into(),
            team: self.team.map(Arc::from),
            owner,
            scopes,
            models,
            limits: self.limits,
            budget: self.budget,
            allow_ips: self.allow_ips.into(),
            priority: priority.flatten(),
            expires: self.expires,
            created_by: self.created_by,
        })
    }
}
