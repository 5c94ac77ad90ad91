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

/// Figures of which the direct run of the same repeat is taken off: what the proxy *adds*.
const ADDED: [&str; 3] =
    ["added p50 at 1,000/s, µs", "added p99 at 1,000/s, µs", "added time to first token p50, µs"];

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
        out.push_str("\nMedian (least to most). Of what is added, the direct column tells the whole and the others what they add to it.\n");
        out
    }

    /// What was measured in each repeat, less the direct run's where it is about what is added.
    fn values(&self, figure: &'static str, kind: Kind) -> Option<Vec<f64>> {
        let values = self.figures.get(&(figure, kind))?;
        let direct = self.figures.get(&(figure, Kind::Direct));
        match direct.filter(|_| kind != Kind::Direct && ADDED.contains(&figure)) {
            Some(direct) => Some(values.iter().zip(direct).map(|(value, direct)| value - direct).collect()),
            None => Some(values.clone()),
        }
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
        Some(median(Kind::Penstock)? / median(Kind::Nginx)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_added_is_told_without_the_direct_run_of_the_same_repeat() {
        let mut report = Report::default();
        for (kind, values) in
            [(Kind::Direct, [100.0, 300.0]), (Kind::Nginx, [150.0, 350.0]), (Kind::Penstock, [200.0, 400.0])]
        {
            values.into_iter().for_each(|value| report.add(kind, ADDED[0], value));
        }
        let table = report.markdown();
        assert!(
            table
                .contains("| 300.0 (100.0 to 300.0) | 50.0 (50.0 to 50.0) | 100.0 (100.0 to 100.0) | 2.00 |"),
            "{table}"
        );
    }
}
