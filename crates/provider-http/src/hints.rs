//! What an asker wants of a vendor of its own dialect, as headers: the only ones of the asker's that reach anybody.

use http::header::{HeaderMap, HeaderName, HeaderValue};
use penstock_domain::Request;

use crate::presets::Preset;

/// Puts the asker's hints beside our own headers. What the operator set stays: a list of betas is made longer, a version is
/// kept; only a default of the preset gives way.
pub(crate) fn hint(preset: &Preset, request: &Request, headers: &mut HeaderMap) {
    for (name, value) in request.hints.iter() {
        let default = preset.headers.iter().find(|(known, _)| *known == name).map(|(_, value)| *value);
        let own = headers.get(name).and_then(|own| own.to_str().ok()).filter(|own| Some(*own) != default);
        let value = match own {
            None => HeaderValue::from_str(value),
            Some(own) if name.ends_with("-beta") => HeaderValue::from_str(&format!("{own},{value}")),
            Some(_) => continue,
        };
        if let Ok(value) = value {
            headers.insert(HeaderName::from_static(name), value);
        }
    }
}
