//! Members that chats and responses of OpenAI share, and that no other vendor's dialect has in this form.

use penstock_domain::{Code, Error, Tier, Verbosity};

use crate::json::{self, Object, Path};
use crate::request::Lost;

/// Reads `verbosity` of the object at `path`.
pub(crate) fn verbosity(object: &Object<'_>, path: &Path<'_>) -> Result<Option<Verbosity>, Error> {
    let Some(raw) = object.get("verbosity") else { return Ok(None) };
    let path = path.member("verbosity");
    match json::cow(raw, &path)?.as_ref() {
        "low" => Ok(Some(Verbosity::Low)),
        "medium" => Ok(Some(Verbosity::Medium)),
        "high" => Ok(Some(Verbosity::High)),
        other => {
            let say = format!("must be `low`, `medium` or `high`, found `{}`", json::bounded(other, 32));
            Err(path.error(Code::InvalidValue, say))
        }
    }
}

/// Reads `service_tier`; one that came after this was written is named.
pub(crate) fn tier(object: &Object<'_>, lost: &mut Lost) -> Result<Option<Tier>, Error> {
    let Some(raw) = object.get("service_tier") else { return Ok(None) };
    let name = json::cow(raw, &Path::ROOT.member("service_tier"))?;
    let known = [Tier::Auto, Tier::Default, Tier::Flex, Tier::Priority, Tier::Scale];
    let tier = known.into_iter().find(|tier| tier.name() == name);
    lost.note(tier.is_none(), "service_tier");
    Ok(tier)
}

/// Reads `prompt_cache_key`.
pub(crate) fn cache_key(object: &Object<'_>) -> Result<Option<String>, Error> {
    let path = Path::ROOT.member("prompt_cache_key");
    object.get("prompt_cache_key").map(|raw| json::string(raw, &path)).transpose()
}
