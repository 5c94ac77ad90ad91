//! Scopes: `family:action[:name]`, `*` for a whole segment.
//!
//! A granted `chat:invoke` covers every object, `chat:invoke:large` only that one, `chat:*` every action of the family,
//! `*:read` the action in every family, and `*` everything, the admin API included.
//! `role:NAME` stands for a set of scopes that we name and keep: [`Role`].
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
    ("admin", &["keys", "read", "operate", "content", "audit"]),
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

/// A set of scopes that has a name. What it covers may grow in later versions: a key that has the role then has that too.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Role {
    /// Looks at everything of administration but contents and the audit log.
    Viewer,
    /// Looks, lets providers back, and makes, rotates and revokes keys; it can hand out no administration that it does not have.
    Operator,
    /// Everything of administration.
    Admin,
    /// Looks, and reads the audit log; changes nothing.
    Auditor,
}

impl Role {
    /// All of them.
    pub const ALL: &'static [Role] = &[Role::Viewer, Role::Operator, Role::Admin, Role::Auditor];

    /// Its name.
    pub const fn name(self) -> &'static str {
        match self {
            Role::Viewer => "viewer",
            Role::Operator => "operator",
            Role::Admin => "admin",
            Role::Auditor => "auditor",
        }
    }

    /// Itself as a scope: `role:viewer`.
    pub const fn scope(self) -> &'static str {
        match self {
            Role::Viewer => "role:viewer",
            Role::Operator => "role:operator",
            Role::Admin => "role:admin",
            Role::Auditor => "role:auditor",
        }
    }

    /// What it may do.
    pub const fn scopes(self) -> &'static [&'static str] {
        match self {
            Role::Viewer => &["admin:read", "models:read"],
            Role::Operator => &["admin:read", "admin:keys", "admin:operate", "models:read"],
            Role::Admin => &["admin:*", "models:read"],
            Role::Auditor => &["admin:read", "admin:audit", "models:read"],
        }
    }

    /// Reads a name.
    ///
    /// # Errors
    /// A sentence with the names that there are.
    pub fn parse(name: &str) -> Result<Self, String> {
        Self::ALL.iter().find(|role| role.name() == name).copied().ok_or_else(|| {
            let shown: String = name.chars().take(64).filter(|c| !c.is_control()).collect();
            let near = nearest(name, Self::ALL.iter().map(|role| role.name()));
            format!("`{shown}` is no role; {near}")
        })
    }
}

/// One granted scope; `None` stands for `*`.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Grant {
    family: Option<Box<str>>,
    action: Option<Box<str>>,
    name: Option<Box<str>>,
    /// The role that it came with: people see that instead.
    role: Option<Role>,
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
            match parse_one(text.as_ref()) {
                Ok(more) => more.into_iter().for_each(|grant| add(&mut grants, grant)),
                Err(problem) => problems.push(problem),
            }
        }
        if problems.is_empty() { Ok(Self(grants.into())) } else { Err(problems) }
    }

    /// Reads scopes among which there may be words of other services: what is no scope of ours grants nothing. The first
    /// 64 of ours count.
    pub(crate) fn parse_known<'a>(words: impl IntoIterator<Item = &'a str>) -> Self {
        let ours = words.into_iter().filter_map(|word| parse_one(word).ok());
        let mut grants = Vec::new();
        ours.take(MAX_SCOPES).flatten().for_each(|grant| add(&mut grants, grant));
        Self(grants.into())
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
        let mut texts: Vec<String> = Vec::with_capacity(self.0.len());
        for grant in self.0.iter() {
            let text = grant.role.map_or_else(|| grant.to_string(), |role| role.scope().to_owned());
            // The scopes of a role stand together.
            if grant.role.is_none() || !texts.contains(&text) {
                texts.push(text);
            }
        }
        texts
    }

    /// Whether nothing is granted.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

fn add(grants: &mut Vec<Grant>, grant: Grant) {
    if !grants.contains(&grant) {
        grants.push(grant);
    }
}

/// One scope, or all those of a role.
fn parse_one(text: &str) -> Result<Vec<Grant>, String> {
    let Some(name) = text.strip_prefix("role:") else { return parse_grant(text).map(|grant| vec![grant]) };
    let role = Role::parse(name)?;
    let parse = |scope: &&str| parse_grant(scope).map(|grant| Grant { role: Some(role), ..grant });
    role.scopes().iter().map(parse).collect()
}

fn parse_grant(text: &str) -> Result<Grant, String> {
    let shown: String = text.chars().take(64).filter(|c| !c.is_control()).collect();
    if text.len() > MAX_SCOPE_BYTES {
        return Err(format!("scope `{shown}…` is longer than {MAX_SCOPE_BYTES} bytes"));
    }
    if text == "*" {
        return Ok(Grant { family: None, action: None, name: None, role: None });
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
    Ok(Grant { family: part(family), action: part(action), name, role: None })
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
