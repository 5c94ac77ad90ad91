//! Which kinds of plug-in there are, and how each is made from its section.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use schemars::JsonSchema;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use crate::{Placement, Problem, Section};

/// The settings of one kind of plug-in. Derive `Deserialize` with `deny_unknown_fields` and `JsonSchema`, and put a doc
/// comment on every field: it becomes the help in editors and in the console.
pub trait Settings: DeserializeOwned + JsonSchema {
    /// What the operator writes after `kind:`.
    const KIND: &'static str;
    /// Other spellings of the kind.
    const ALIASES: &[&str] = &[];
}

/// What is known of a kind.
#[derive(Debug, Clone, PartialEq)]
pub struct Kind {
    /// JSON Schema of its settings, without the member `kind`. `None` when the kind is not in this build.
    pub schema: Option<Value>,
    /// For a kind that is not in this build: how to get it.
    pub absent: Option<String>,
    /// For another spelling: the kind that it stands for.
    pub alias_of: Option<String>,
}

/// The kinds of one family of plug-ins, by name.
pub type Kinds = BTreeMap<String, Kind>;

/// The kinds of all families, for checking a file and for the printed schema.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct KindSchemas {
    /// What may stand under `providers`.
    pub providers: Kinds,
}

type Build<P, N> = Box<dyn Fn(&Section, &N) -> Result<Arc<P>, Vec<Problem>> + Send + Sync>;

/// Kind → factory, for one port `P`; `N` is what factories of this port need besides their settings.
pub struct Registry<P: ?Sized, N> {
    kinds: Kinds,
    builds: BTreeMap<String, Build<P, N>>,
}

impl<P: ?Sized, N> Default for Registry<P, N> {
    fn default() -> Self {
        Self { kinds: Kinds::new(), builds: BTreeMap::new() }
    }
}

impl<P: ?Sized, N> fmt::Debug for Registry<P, N> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.kinds.keys()).finish()
    }
}

impl<P: ?Sized, N> Registry<P, N> {
    /// A registry without kinds.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds the kind of `S`. The factory reports problems with paths inside the section.
    pub fn register<S: Settings>(
        &mut self,
        build: impl Fn(S, &N) -> Result<Arc<P>, Vec<Problem>> + Send + Sync + 'static,
    ) -> &mut Self {
        self.register_kind(S::KIND, schema_of::<S>(), move |section, needs| {
            build(section.settings::<S>()?, needs)
        });
        for alias in S::ALIASES {
            self.alias(alias, S::KIND);
        }
        self
    }

    /// Adds a kind whose settings type is shared by many kinds (a table of presets). `schema` is [`schema_of`] that type.
    pub fn register_kind(
        &mut self,
        kind: &str,
        mut schema: Value,
        build: impl Fn(&Section, &N) -> Result<Arc<P>, Vec<Problem>> + Send + Sync + 'static,
    ) -> &mut Self {
        place(&mut schema);
        self.kinds.insert(kind.to_owned(), Kind { schema: Some(schema), absent: None, alias_of: None });
        self.builds.insert(kind.to_owned(), Box::new(build));
        self
    }

    /// Adds another spelling of a kind.
    pub fn alias(&mut self, alias: &str, kind: &str) -> &mut Self {
        let of = Kind { schema: None, absent: None, alias_of: Some(kind.to_owned()) };
        self.kinds.insert(alias.to_owned(), of);
        self
    }

    /// Adds a kind that this build leaves out; `hint` says how to get it.
    pub fn register_absent(&mut self, kind: &str, hint: &str) -> &mut Self {
        let absent = Kind { schema: None, absent: Some(hint.to_owned()), alias_of: None };
        self.kinds.insert(kind.to_owned(), absent);
        self
    }

    /// The kinds with their schemas.
    pub fn kinds(&self) -> &Kinds {
        &self.kinds
    }

    /// Makes the plug-in of a section.
    ///
    /// # Errors
    /// Every problem that the settings or the factory have, with path and line.
    pub fn build(&self, section: &Section, needs: &N) -> Result<Arc<P>, Vec<Problem>> {
        let kind = match self.kinds.get(&section.kind) {
            Some(Kind { alias_of: Some(kind), .. }) => kind,
            _ => &section.kind,
        };
        match self.builds.get(kind) {
            Some(build) => build(section, needs)
                .map_err(|problems| problems.into_iter().map(|p| section.locate(p)).collect()),
            None => Err(vec![section.locate(unknown_kind(kind, &self.kinds))]),
        }
    }
}

/// The members of [`Placement`].
pub(crate) const PLACEMENT: [&str; 7] =
    ["region", "trust", "provisioned", "max_concurrency", "limits", "budget", "queue"];

/// Adds the members of [`Placement`] that a kind does not define itself.
fn place(schema: &mut Value) {
    let mut common = schema_of::<Placement>();
    let definitions = common.get_mut("$defs").map(Value::take);
    let (Some(schema), Some(common)) =
        (schema.as_object_mut(), common.get_mut("properties").and_then(Value::as_object_mut))
    else {
        return;
    };
    if let Some(Value::Object(definitions)) = definitions {
        let own = schema.entry("$defs").or_insert_with(|| Value::Object(Map::new()));
        if let Some(own) = own.as_object_mut() {
            own.extend(definitions);
        }
    }
    let own = schema.entry("properties").or_insert_with(|| Value::Object(Map::new()));
    if let Some(own) = own.as_object_mut() {
        for (name, rule) in std::mem::take(common) {
            own.entry(name).or_insert(rule);
        }
    }
}

/// The JSON Schema of a settings type, as [`Registry::register_kind`] wants it.
pub fn schema_of<S: JsonSchema>() -> Value {
    schemars::generate::SchemaSettings::draft2020_12().into_generator().into_root_schema_for::<S>().to_value()
}

/// The problem of a kind that is not there.
pub(crate) fn unknown_kind(kind: &str, kinds: &Kinds) -> Problem {
    if let Some(Kind { absent: Some(hint), .. }) = kinds.get(kind) {
        return Problem::error("kind", format!("kind `{kind}` is not in this build")).with_hint(hint.clone());
    }
    let names: Vec<&str> = kinds.keys().map(String::as_str).collect();
    let problem = Problem::error("kind", format!("unknown kind `{kind}`"));
    match crate::load::nearest(kind, names.iter().copied()) {
        Some(near) => problem.with_hint(format!("did you mean `{near}`? known kinds: {}", names.join(", "))),
        None => problem.with_hint(format!("known kinds: {}", names.join(", "))),
    }
}
