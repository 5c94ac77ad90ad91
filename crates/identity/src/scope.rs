//! Scopes: `family:action[:name]`, `*` for a whole segment.
//!
//! A granted `chat:invoke` covers every object, `chat:invoke:large` only that one, `chat:*` every action of the family,
//! `*:read` the action in every family, and `*` everything, the admin API included.
//! A family or an action that no route knows is refused when a key is made, because a misspelt grant would silently
//! grant nothing.

use std::fmt;
use std::sync::Arc;

/// Every family and its actions.
pub const KNOWN_SCOPES: &[(&str, &[&str])] = &[
    // Whoever may ask and read may go on; `read` and `delete` are for what was stored of answers.
    ("chat", &["invoke", "read", "delete"]),
    ("embeddings", &["invoke"]),
    ("models", &["read"]),
    ("vector_stores", &["read", "write"]),
    ("datasets", &["read", "write"]),
    ("jobs", &["read", "write"]),
    ("agents", &["run"]),
    ("tools", &["call"]),
    ("mcp", &["call"]),
    ("relay", &["invoke"]),
    ("admin", &["keys", "read", "content"]),
];

/// The most scopes that one key holds.
const MAX_SCOPES: usize = 64;
/// The longest single scope, in bytes.
const MAX_SCOPE_BYTES: usize = 256;

/// What a route needs of its caller.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Scope {
    family: &'static str,
    action: &'static str,
}

impl Scope {
    /// Names a scope of [`KNOWN_SCOPES`]. Meant for constants: there an unknown scope does not compile, so that no
    /// route can ask for something that no key can be granted.
    ///
    /// # Panics
    /// When the scope is not in the table and the call is not evaluated by the compiler.
    pub const fn new(family: &'static str, action: &'static str) -> Self {
        assert!(known(family, action), "this scope is not in KNOWN_SCOPES: add its family and action there");
        Self { family, action }
    }

    /// The first segment.
    pub const fn family(self) -> &'static str {
        self.family
    }

    /// The second segment.
    pub const fn action(self) -> &'static str {
        self.action
    }
}

impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.family, self.action)
    }
}

const fn same(a: &str, b: &str) -> bool {
    let (a, b) = (a.as_bytes(), b.as_bytes());
    if a.len() != b.len() {
        return false;
    }
    let mut i = 0;
    while i < a.len() {
        if a[i] != b[i] {
            return false;
        }
        i += 1;
    }
    true
}

const fn known(family: &str, action: &str) -> bool {
    let mut f = 0;
    while f < KNOWN_SCOPES.len() {
        let (name, actions) = KNOWN_SCOPES[f];
        if same(name, family) {
            let mut a = 0;
            while a < actions.len() {
                if same(actions[a], action) {
                    return true;
                }
                a += 1;
            }
        }
        f += 1;
    }
    false
}

/// One granted scope; `None` stands for `*`.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Grant {
    family: Option<Box<str>>,
    action: Option<Box<str>>,
    name: Option<Box<str>>,
}

impl Grant {
    fn covers_route(&self, scope: Scope) -> bool {
        self.family.as_deref().is_none_or(|f| f == scope.family)
            && self.action.as_deref().is_none_or(|a| a == scope.action)
    }
}

impl fmt::Display for Grant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let star = |part: &Option<Box<str>>| part.as_deref().unwrap_or("*").to_owned();
        match (&self.family, &self.action, &self.name) {
            (None, None, None) => f.write_str("*"),
            (family, action, None) => write!(f, "{}:{}", star(family), star(action)),
            (family, action, Some(name)) => write!(f, "{}:{}:{name}", star(family), star(action)),
        }
    }
}

/// What a key was granted. Empty means nothing at all.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ScopeSet(Arc<[Grant]>);

impl ScopeSet {
    /// Reads scopes as people write them; all problems come back at once, one sentence each.
    pub fn parse<S: AsRef<str>>(scopes: impl IntoIterator<Item = S>) -> Result<Self, Vec<String>> {
        let mut grants: Vec<Grant> = Vec::new();
        let mut problems = Vec::new();
        for (count, text) in scopes.into_iter().enumerate() {
            if count == MAX_SCOPES {
                problems.push(format!("a key holds at most {MAX_SCOPES} scopes"));
                break;
            }
            match parse_grant(text.as_ref()) {
                Ok(grant) if grants.contains(&grant) => {}
                Ok(grant) => grants.push(grant),
                Err(problem) => problems.push(problem),
            }
        }
        if problems.is_empty() { Ok(Self(grants.into())) } else { Err(problems) }
    }

    /// Whether this scope is granted for the object; without an object, whether it is granted for *every* object.
    pub fn allows(&self, scope: Scope, object: Option<&str>) -> bool {
        self.0.iter().any(|grant| {
            grant.covers_route(scope)
                && match (&grant.name, object) {
                    (None, _) => true,
                    (Some(name), Some(object)) => **name == *object,
                    (Some(_), None) => false,
                }
        })
    }

    /// Whether this scope is granted for at least one object: the gate before a body is read. Whoever learns the object
    /// must then ask [`allows`](Self::allows).
    pub fn reaches(&self, scope: Scope) -> bool {
        self.0.iter().any(|grant| grant.covers_route(scope))
    }

    /// The first admin scope that `granted` reaches and this set does not hold whole. Whoever hands out or rotates keys
    /// must hold what they hand out, or every key maker were an administrator of everything.
    pub fn admin_beyond(&self, granted: &ScopeSet) -> Option<Scope> {
        let admin = KNOWN_SCOPES.iter().filter(|(family, _)| *family == "admin");
        let mut scopes =
            admin.flat_map(|(family, actions)| actions.iter().map(|action| Scope { family, action }));
        scopes.find(|scope| granted.reaches(*scope) && !self.allows(*scope, None))
    }

    /// The scopes as text, in the order given.
    pub fn to_vec(&self) -> Vec<String> {
        self.0.iter().map(ToString::to_string).collect()
    }

    /// Whether nothing is granted.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

fn parse_grant(text: &str) -> Result<Grant, String> {
    let shown: String = text.chars().take(64).filter(|c| !c.is_control()).collect();
    if text.len() > MAX_SCOPE_BYTES {
        return Err(format!("scope `{shown}…` is longer than {MAX_SCOPE_BYTES} bytes"));
    }
    if text == "*" {
        return Ok(Grant { family: None, action: None, name: None });
    }
    let mut parts = text.splitn(3, ':');
    let (family, action, name) = (parts.next().unwrap_or_default(), parts.next(), parts.next());
    let Some(action) = action.filter(|action| !action.is_empty()).filter(|_| !family.is_empty()) else {
        return Err(format!("scope `{shown}` is not of the form family:action[:name], for example chat:*"));
    };
    check_known(family, action, &shown)?;
    let name = match name {
        None | Some("*") => None,
        Some(name)
            if name.is_empty()
                || name.contains('*')
                || name.chars().any(|c| c.is_control() || c.is_whitespace()) =>
        {
            return Err(format!(
                "the name in scope `{shown}` must be one whole name or `*`; for patterns use the key's models list"
            ));
        }
        Some(name) => Some(name.into()),
    };
    let part = |text: &str| (text != "*").then(|| text.into());
    Ok(Grant { family: part(family), action: part(action), name })
}

fn check_known(family: &str, action: &str, shown: &str) -> Result<(), String> {
    let families = KNOWN_SCOPES.iter().filter(|(name, _)| family == "*" || *name == family);
    let mut actions = families.clone().flat_map(|(_, actions)| actions.iter().copied());
    if families.clone().next().is_none() {
        let near = nearest(family, KNOWN_SCOPES.iter().map(|(name, _)| *name));
        return Err(format!("scope `{shown}` names an unknown family; {near}"));
    }
    if action != "*" && !actions.any(|known| known == action) {
        let near = nearest(action, families.flat_map(|(_, actions)| actions.iter().copied()));
        return Err(format!("scope `{shown}` names an unknown action; {near}"));
    }
    Ok(())
}

fn nearest(found: &str, known: impl Iterator<Item = &'static str> + Clone) -> String {
    let best = known.clone().max_by(|a, b| strsim::jaro(found, a).total_cmp(&strsim::jaro(found, b)));
    match best {
        Some(best) if strsim::jaro(found, best) > 0.7 => format!("did you mean `{best}`?"),
        _ => format!("known are {}", known.collect::<Vec<_>>().join(", ")),
    }
}

#[cfg(test)]
mod tests;
