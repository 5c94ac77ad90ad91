//! `${VAR}` and `file:PATH`.

use std::path::{Path, PathBuf};

use crate::Environment;

/// Text after its references were followed.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Expanded {
    /// The result. It may be a secret.
    pub(super) text: String,
    /// What may be shown in its place: the reference itself, defaults hidden.
    pub(super) shown: String,
    /// Whether anything was followed.
    pub(super) followed: bool,
    /// A variable that is set but empty, for the message about an empty value.
    pub(super) empty: Option<String>,
}

/// Why a reference could not be followed. Never holds a value.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Broken {
    pub(super) message: String,
    pub(super) hint: String,
}

/// Replaces `${VAR}` and `${VAR:-default}`; `$${` stands for `${`.
pub(super) fn expand(text: &str, env: &dyn Environment) -> Result<Expanded, Broken> {
    let mut out = Expanded { text: String::new(), shown: String::new(), followed: false, empty: None };
    let mut rest = text;
    while let Some(at) = rest.find("${") {
        let before = &rest[..at];
        if let Some(before) = before.strip_suffix('$') {
            for side in [&mut out.text, &mut out.shown] {
                side.push_str(before);
                side.push_str("${");
            }
            rest = &rest[at + 2..];
            continue;
        }
        out.text.push_str(before);
        out.shown.push_str(before);
        let inside = &rest[at + 2..];
        let Some(end) = inside.find('}') else {
            return Err(Broken {
                message: "`${` without a closing `}`".to_owned(),
                hint: "write ${NAME}, or $${ for these two characters".to_owned(),
            });
        };
        follow(&inside[..end], env, &mut out)?;
        rest = &inside[end + 1..];
    }
    out.text.push_str(rest);
    out.shown.push_str(rest);
    Ok(out)
}

/// Whether text is one reference to a variable, with nothing around it and no default.
pub(super) fn is_name(text: &str) -> bool {
    let name = text.strip_prefix("${").and_then(|rest| rest.strip_suffix('}'));
    name.is_some_and(|name| !name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_'))
}

fn follow(inside: &str, env: &dyn Environment, out: &mut Expanded) -> Result<(), Broken> {
    let (name, default) = match inside.split_once(":-") {
        Some((name, default)) => (name, Some(default)),
        None => (inside, None),
    };
    let word = |c: char| c.is_ascii_alphanumeric() || c == '_';
    if name.is_empty() || !name.chars().all(word) || name.starts_with(|c: char| c.is_ascii_digit()) {
        return Err(Broken {
            message: "`${…}` must hold the name of an environment variable".to_owned(),
            hint: "write ${NAME} or ${NAME:-default}; letters, digits and `_` only".to_owned(),
        });
    }
    out.followed = true;
    // As in a shell, `:-` also replaces an empty value.
    let value = env.var(name).filter(|value| default.is_none() || !value.is_empty());
    match (value, default) {
        (Some(value), _) => {
            if value.is_empty() {
                out.empty = Some(name.to_owned());
            }
            out.text.push_str(&value);
        }
        (None, Some(default)) => out.text.push_str(default),
        (None, None) => {
            return Err(Broken {
                message: format!("the environment variable `{name}` is not set"),
                hint: format!(
                    "set it before the start (`export {name}=…`), give a default with ${{{name}:-…}}, or remove this setting"
                ),
            });
        }
    }
    out.shown.push_str(&match default {
        Some(_) => format!("${{{name}:-…}}"),
        None => format!("${{{name}}}"),
    });
    Ok(())
}

/// A file that holds one secret: its path and its text without the line break at the end.
pub(super) fn read_secret(
    reference: &str,
    base: &Path,
    env: &dyn Environment,
) -> Result<(PathBuf, String), Broken> {
    let path = base.join(reference);
    match env.read(&path) {
        Ok(text) => {
            let text = text.trim_end_matches(['\n', '\r']).to_owned();
            Ok((path, text))
        }
        Err(error) => Err(Broken {
            message: format!("the file {} cannot be read: {error}", path.display()),
            hint: "relative paths start at the folder of the configuration file; the file holds the secret and nothing else"
                .to_owned(),
        }),
    }
}
