//! Every vendor that is reached by HTTP.
//!
//! What it is: one connector and one table. A vendor that speaks OpenAI's or Anthropic's dialect is a row of
//! [`PRESETS`]; a vendor with an API of its own will be a folder here.
//!
//! What it promises: bodies and events of the asker's dialect travel as bytes; each phase of a call has its own bound; a
//! credential leaves for the origin of `base_url` alone; a stream that ends without [`penstock_domain::Delta::Failed`]
//! was complete; dropping an answer closes or resets what is behind it at once.
//!
//! What it refuses to know: which model a caller may use, which candidate comes next, HTTP towards clients.

mod address;
mod bedrock;
mod clock;
mod connector;
mod exchange;
mod faults;
mod hints;
mod keys;
mod names;
mod pool;
mod presets;
mod provider;
mod relay;
mod settings;
mod sigv4;
mod stream;
mod waits;

use std::sync::Arc;

use penstock_config::{Registry, schema_of};
use penstock_provider::Provider;

pub use bedrock::BedrockSettings;
pub use presets::{Auth, Key, Naming, PRESETS, Preset};
pub use provider::{MAX_BODY, Vendor};
pub use settings::{PhaseTimeouts, Settings};

/// Adds every preset and its aliases to the kinds of providers.
pub fn register<N: 'static>(registry: &mut Registry<dyn Provider, N>) {
    let schema = schema_of::<Settings>();
    for preset in PRESETS {
        registry.register_kind(preset.kind, schema.clone(), move |section, _| {
            let vendor = Vendor::build(preset, section.settings::<Settings>()?)?;
            Ok(Arc::new(vendor) as Arc<dyn Provider>)
        });
        for alias in preset.aliases {
            registry.alias(alias, preset.kind);
        }
    }
    let kind = bedrock::PRESET.kind;
    registry.register_kind(kind, schema_of::<BedrockSettings>(), |section, _| {
        let vendor = section.settings::<BedrockSettings>()?.build()?;
        Ok(Arc::new(vendor) as Arc<dyn Provider>)
    });
    for alias in bedrock::PRESET.aliases {
        registry.alias(alias, kind);
    }
}
