//! Kind `mock` in the configuration: a script is its own settings.

use std::sync::Arc;

use penstock_config::{Problem, Registry};
use penstock_provider::Provider;

use crate::MockProvider;
use crate::script::Script;

/// What may stand beside `kind: mock`: the members of a script.
pub type Settings = Script;

impl penstock_config::Settings for Script {
    const KIND: &'static str = "mock";
}

/// Adds the kind `mock`; it needs nothing from the house, whatever `N` is.
pub fn register<N: 'static>(registry: &mut Registry<dyn Provider, N>) {
    registry.register::<Settings>(|settings, _needs| {
        settings.check().map_err(|error| vec![Problem::error(error.directive.clone(), error.say)])?;
        Ok(Arc::new(MockProvider::new(settings)) as Arc<dyn Provider>)
    });
}
