//! The chat template of the model file, rendered as Hugging Face's tokenizers do: Jinja with trimmed blocks, Python's string
//! methods, loop controls, `tojson` without HTML escapes, `raise_exception` and `strftime_now`. Fuel and recursion are
//! limited, because the template comes from a file that somebody downloaded.

use minijinja::syntax::SyntaxConfig;
use minijinja::value::{Kwargs, Serde, Value as Jinja};
use minijinja::{Environment, ErrorKind};
use serde_json::Value;

use crate::vocabulary::Vocabulary;

const FUEL: u64 = 20_000_000;
const DEPTH: usize = 64;
/// Used when a file has no template: ChatML, which most small models have seen.
const CHATML: &str = "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>\n' }}{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}";

/// A compiled template.
pub(crate) struct Template {
    environment: Environment<'static>,
    /// Whether the template has a place for tools.
    pub(crate) knows_tools: bool,
}

impl Template {
    /// Compiles the file's template, or the common one when the file has none.
    pub(crate) fn new(source: Option<String>) -> Result<Self, String> {
        let source = source.unwrap_or_else(|| CHATML.to_owned());
        let knows_tools = source.contains("tools");
        let mut environment = Environment::new();
        let syntax =
            SyntaxConfig::builder().trim_blocks(true).lstrip_blocks(true).keep_trailing_newline(true).build();
        environment.set_syntax(syntax.map_err(|error| error.to_string())?);
        environment.set_fuel(Some(FUEL));
        environment.set_recursion_limit(DEPTH);
        environment.set_auto_escape_callback(|_| minijinja::AutoEscape::None);
        environment.set_unknown_method_callback(minijinja_contrib::pycompat::unknown_method_callback);
        environment.add_filter("tojson", tojson);
        environment.add_function("raise_exception", |text: String| -> Result<String, minijinja::Error> {
            Err(minijinja::Error::new(ErrorKind::InvalidOperation, text))
        });
        environment.add_function("strftime_now", |format: String| {
            jiff::fmt::strtime::format(&format, &jiff::Timestamp::now().to_zoned(jiff::tz::TimeZone::UTC))
                .map_err(|error| minijinja::Error::new(ErrorKind::InvalidOperation, error.to_string()))
        });
        environment.add_template_owned("chat", source).map_err(|error| error.to_string())?;
        Ok(Self { environment, knows_tools })
    }

    /// Renders messages and tools, ending where the assistant begins to speak.
    pub(crate) fn render(
        &self,
        vocabulary: &Vocabulary,
        messages: &[Value],
        tools: &[Value],
    ) -> Result<String, String> {
        let template = self.environment.get_template("chat").map_err(|error| error.to_string())?;
        let tools = if tools.is_empty() { Jinja::from(()) } else { Jinja::from(Serde(tools)) };
        template
            .render(minijinja::context! {
                messages => Jinja::from(Serde(messages)),
                tools,
                add_generation_prompt => true,
                bos_token => vocabulary.bos_text.as_str(),
                eos_token => vocabulary.eos_text.as_str(),
            })
            .map_err(|error| error.detail().map_or_else(|| error.to_string(), str::to_owned))
    }
}

/// As Python's `json.dumps(value, ensure_ascii=False)`; templates must not see `<` as `\u003c`.
fn tojson(value: &Jinja, options: Kwargs) -> Result<Jinja, minijinja::Error> {
    let indent: Option<usize> = options.get("indent")?;
    // Python's other switches change nothing that a model would notice.
    for ignored in ["ensure_ascii", "sort_keys", "separators"] {
        let _: Option<Jinja> = options.get(ignored)?;
    }
    options.assert_all_used()?;
    let value = serde_json::to_value(value)
        .map_err(|error| minijinja::Error::new(ErrorKind::BadSerialization, error.to_string()))?;
    let text = match indent {
        Some(_) => serde_json::to_string_pretty(&value).unwrap_or_default(),
        None => spaced(&value),
    };
    Ok(Jinja::from_safe_string(text))
}

/// JSON with a space after commas and colons, as Python writes it.
fn spaced(value: &Value) -> String {
    match value {
        Value::Array(items) => format!("[{}]", items.iter().map(spaced).collect::<Vec<_>>().join(", ")),
        Value::Object(members) => {
            let members = members
                .iter()
                .map(|(key, value)| format!("{}: {}", Value::String(key.clone()), spaced(value)));
            format!("{{{}}}", members.collect::<Vec<_>>().join(", "))
        }
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use minijinja::context;
    use serde_json::json;

    use super::*;

    fn render(source: &str, messages: Value) -> Result<String, String> {
        let template = Template::new(Some(source.to_owned()))?;
        let template = template.environment.get_template("chat").map_err(|error| error.to_string())?;
        template
            .render(context! { messages => Jinja::from(Serde(messages)), tools => Jinja::from(Serde(json!([{"a": "<b>"}]))) })
            .map_err(|error| error.to_string())
    }

    #[test]
    fn python_habits_work() {
        let messages =
            json!([{"role": "user", "content": "  hi "}, {"role": "user", "content": "x</think>y"}]);
        let source = "{%- for m in messages -%}{% if loop.index0 == 1 %}{{ m.content.split('</think>')[-1].strip() }}{% break %}{% endif %}{{ m['content'].strip().startswith('h') }}{% endfor %}{{ tools[0] | tojson }}";
        assert_eq!(render(source, messages).unwrap(), "Truey{\"a\": \"<b>\"}".replace("True", &true_text()));
    }

    /// minijinja writes booleans as Jinja does from 3.0 on or as JSON does before; both read the same to a model.
    fn true_text() -> String {
        Environment::new().render_str("{{ true }}", ()).unwrap()
    }

    #[test]
    fn refusals_and_endless_templates_are_errors() {
        assert!(
            render("{{ raise_exception('no system role') }}", json!([]))
                .unwrap_err()
                .contains("no system role")
        );
        assert!(
            render(
                "{% for i in range(100000) %}{% for j in range(100000) %}{% endfor %}{% endfor %}",
                json!([])
            )
            .is_err()
        );
        assert!(render("{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}", json!([])).is_err());
    }
}
