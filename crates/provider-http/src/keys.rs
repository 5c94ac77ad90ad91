//! A vendor's credentials: which header they stand in, and which one a call uses.
//!
//! What it promises: a key is read here and put into a header value that never prints; two keys of a vendor differ; a call
//! gets the very key that it names, or none of them.
//!
//! What it refuses to know: which key is worth using now.

use http::header::{self, HeaderName, HeaderValue};
use penstock_config::{Problem, SecretText};
use penstock_domain::{Code, Error};

use crate::presets::{Auth, Key, Preset};
use crate::settings::secret_header;

/// Most keys of one vendor.
const MOST: usize = 64;

/// The keys of a vendor, as header values; none for a server that wants none.
pub(crate) struct Keys {
    name: HeaderName,
    values: Vec<HeaderValue>,
    /// One or more were configured, whatever became of them.
    any: bool,
}

impl Keys {
    /// Reads `api_key` or `api_keys`; what is wrong with them goes to `problems`.
    pub(crate) fn read(
        one: Option<&SecretText>,
        many: Option<&[SecretText]>,
        preset: &Preset,
        problems: &mut Vec<Problem>,
    ) -> Self {
        let mut keys =
            Self { name: header(preset), values: Vec::new(), any: one.is_some() || many.is_some() };
        match (one, many) {
            (Some(key), None) => keys.add(key, "api_key", preset, problems),
            (None, Some(many)) => {
                if many.is_empty() || many.len() > MOST {
                    let say = format!("expected 1 to {MOST} keys, found {}", many.len());
                    problems.push(Problem::error("api_keys", say));
                }
                for (at, key) in many.iter().take(MOST).enumerate() {
                    keys.add(key, &format!("api_keys[{at}]"), preset, problems);
                }
            }
            (Some(_), Some(_)) => problems.push(
                Problem::error("api_keys", "`api_key` and `api_keys` exclude each other")
                    .with_hint("write all keys under `api_keys`"),
            ),
            (None, None) => {
                if let Key::Required(variable) = preset.key {
                    problems.push(
                        Problem::error("api_key", format!("a provider of kind {} needs a key", preset.kind))
                            .with_hint(format!(
                                "set the environment variable {variable} and write `api_key: ${{{variable}}}`"
                            )),
                    );
                }
            }
        }
        keys
    }

    fn add(&mut self, key: &SecretText, path: &str, preset: &Preset, problems: &mut Vec<Problem>) {
        // A key in a file usually ends with a line break.
        let key = key.expose().trim();
        let text = match preset.auth {
            Auth::Bearer => format!("Bearer {key}"),
            Auth::Header(_) => key.to_owned(),
        };
        match secret_header(&text) {
            Some(value) if !key.is_empty() && !key.contains(char::is_whitespace) => {
                if self.values.contains(&value) {
                    problems.push(
                        Problem::error(path, "this key stands in the list already")
                            .with_hint("remove it: one key is one credential, with one limit"),
                    );
                }
                self.values.push(value);
            }
            _ => problems.push(
                Problem::error(path, "expected a key of visible characters without spaces")
                    .with_hint("check the variable or file that the key comes from: it may be empty or hold more than the key"),
            ),
        }
    }

    /// Whether any key is sent.
    pub(crate) fn any(&self) -> bool {
        self.any
    }

    /// How many credentials the vendor has; having none counts as one.
    pub(crate) fn count(&self) -> u32 {
        // At most MOST.
        u32::try_from(self.values.len()).unwrap_or(u32::MAX).max(1)
    }

    /// Whether this is the header that keys stand in.
    pub(crate) fn is(&self, name: &HeaderName) -> bool {
        !self.values.is_empty() && self.name == *name
    }

    /// The header of a credential; `None` for a server that wants none.
    ///
    /// # Errors
    /// `internal_error` for a credential that the vendor does not have.
    pub(crate) fn header(&self, credential: u32) -> Result<Option<(HeaderName, HeaderValue)>, Error> {
        match self.values.get(credential as usize) {
            Some(value) => Ok(Some((self.name.clone(), value.clone()))),
            None if self.values.is_empty() && credential == 0 => Ok(None),
            None => Err(Error::new(
                Code::InternalError,
                "a call names a credential that its provider does not have",
            )),
        }
    }
}

/// The header that a vendor wants its keys in.
pub(crate) fn header(preset: &Preset) -> HeaderName {
    match preset.auth {
        Auth::Bearer => header::AUTHORIZATION,
        Auth::Header(name) => HeaderName::from_static(name),
    }
}
