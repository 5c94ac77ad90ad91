//! Medians, spreads and ratios as a Markdown table.

use std::collections::BTreeMap;
use std::fmt::Write;

use crate::load::quantile;
use crate::target::Kind;

/// Every figure of every target, in the order in which figures were first seen.
#[derive(Debug, Default)]
pub(crate) struct Report {
    order: Vec<&'static str>,
    figures: BTreeMap<(&'static str, Kind), Vec<f64>>,
}

/// Figures of which the direct run is taken off before the ratio: what the proxy *adds*.
const ADDED: [&str; 3] = ["p50 at 1,000/s, µs", "p99 at 1,000/s, µs", "time to first token p50, µs"];

impl Report {
    pub(crate) fn add(&mut self, kind: Kind, figure: &'static str, value: f64) {
        if !self.order.contains(&figure) {
            self.order.push(figure);
        }
        self.figures.entry((figure, kind)).or_default().push(value);
    }

    /// The table: median and (min to max) per target, and Penstock's ratio to nginx.
    pub(crate) fn markdown(&self) -> String {
        let mut out = String::from(
            "| figure | direct | nginx | penstock | penstock / nginx |\n|---|---|---|---|---|\n",
        );
        for figure in &self.order {
            let cell = |kind| self.cell(figure, kind);
            let ratio = self.ratio(figure).map_or_else(|| "—".to_owned(), |ratio| format!("{ratio:.2}"));
            // Writing into a String cannot fail.
            let _ = writeln!(
                out,
                "| {figure} | {} | {} | {} | {ratio} |",
                cell(Kind::Direct),
                cell(Kind::Nginx),
                cell(Kind::Penstock)
            );
        }
        out.push_str("\nMedian (least to most). For latencies the ratio is of what each adds to the direct run's median.\n");
        out
    }

    fn values(&self, figure: &'static str, kind: Kind) -> Option<Vec<f64>> {
        self.figures.get(&(figure, kind)).cloned()
    }

    fn cell(&self, figure: &'static str, kind: Kind) -> String {
        let Some(mut values) = self.values(figure, kind) else { return "—".to_owned() };
        let median = quantile(&mut values, 0.5);
        let (least, most) =
            (values.first().copied().unwrap_or(median), values.last().copied().unwrap_or(median));
        format!("{median:.1} ({least:.1} to {most:.1})")
    }

    fn ratio(&self, figure: &'static str) -> Option<f64> {
        let median = |kind| self.values(figure, kind).map(|mut values| quantile(&mut values, 0.5));
        let base = if ADDED.contains(&figure) { median(Kind::Direct)? } else { 0.0 };
        Some((median(Kind::Penstock)? - base) / (median(Kind::Nginx)? - base))
    }
}
