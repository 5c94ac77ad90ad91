//! Figures with their targets, as a table and as JSON.

use serde_json::{Value, json};

/// All figures of a run.
#[derive(Debug, Default)]
pub(crate) struct Figures(Vec<Figure>);

#[derive(Debug)]
struct Figure {
    row: u32,
    name: String,
    value: f64,
    unit: &'static str,
    target: Option<Target>,
    trials: u64,
}

/// What a figure should be.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Target {
    /// At least this.
    Least(f64),
    /// At most this.
    Most(f64),
}

impl Target {
    fn met(self, value: f64) -> bool {
        match self {
            Self::Least(bound) => value >= bound,
            Self::Most(bound) => value <= bound,
        }
    }

    fn say(self) -> String {
        match self {
            Self::Least(bound) => format!("≥ {bound}"),
            Self::Most(bound) => format!("≤ {bound}"),
        }
    }
}

impl Figures {
    /// Adds a figure: its row in the list of promises and the trials behind it, its name and unit, its value and target.
    pub(crate) fn add(
        &mut self,
        (row, trials): (u32, u64),
        (name, unit): (&str, &'static str),
        value: f64,
        target: Option<Target>,
    ) {
        crate::note(&format!("row {row}: {name}: {value:.4} {unit} ({trials} trials)"));
        self.0.push(Figure { row, name: name.to_owned(), value, unit, target, trials });
    }

    /// A Markdown table by row.
    pub(crate) fn markdown(&self) -> String {
        let mut text =
            String::from("| row | figure | measured | target | met | trials |\n|---|---|---|---|---|---|\n");
        let mut all: Vec<&Figure> = self.0.iter().collect();
        all.sort_by_key(|figure| figure.row);
        for figure in all {
            let met = figure.target.map_or("", |target| if target.met(figure.value) { "yes" } else { "NO" });
            let target = figure
                .target
                .map_or_else(|| "—".to_owned(), |target| format!("{} {}", target.say(), figure.unit));
            let value = figure.value;
            let shown = if value == value.trunc() { format!("{value}") } else { format!("{value:.4}") };
            text.push_str(&format!(
                "| {} | {} | {shown} {} | {target} | {met} | {} |\n",
                figure.row, figure.name, figure.unit, figure.trials
            ));
        }
        text
    }

    /// The same as a JSON list.
    pub(crate) fn json(&self) -> String {
        let all: Vec<Value> = self
            .0
            .iter()
            .map(|figure| {
                json!({
                    "row": figure.row, "figure": figure.name, "value": figure.value, "unit": figure.unit,
                    "target": figure.target.map(Target::say), "met": figure.target.map(|target| target.met(figure.value)),
                    "trials": figure.trials,
                })
            })
            .collect();
        format!("{:#}\n", Value::from(all))
    }
}
