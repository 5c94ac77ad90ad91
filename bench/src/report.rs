//! Medians, spreads and ratios as a Markdown table.

use std::collections::BTreeMap;
use std::fmt::Write;

use crate::load::quantile;
use crate::variant::Variant;

/// Every figure of every target, in the order in which figures were first seen.
#[derive(Debug)]
pub(crate) struct Report {
    columns: Vec<&'static str>,
    /// The column that those behind it are divided by.
    against: usize,
    order: Vec<&'static str>,
    figures: BTreeMap<(&'static str, &'static str), Vec<f64>>,
}

/// Figures of which the first column's of the same repeat is taken off: what the others *add*.
pub(crate) const ADDED: [&str; 3] =
    ["added p50 at 1,000/s, µs", "added p99 at 1,000/s, µs", "added time to first token p50, µs"];

impl Report {
    /// A report of these targets, in which those behind one of them are compared with it.
    pub(crate) fn new(variants: &[Variant], against: usize) -> Self {
        let columns = variants.iter().map(|variant| variant.name).collect();
        Self { columns, against, order: Vec::new(), figures: BTreeMap::new() }
    }

    pub(crate) fn add(&mut self, variant: &Variant, figure: &'static str, value: f64) {
        if !self.order.contains(&figure) {
            self.order.push(figure);
        }
        self.figures.entry((figure, variant.name)).or_default().push(value);
    }

    /// The table: median and (least to most) of each target, then the ratios.
    pub(crate) fn markdown(&self) -> String {
        let base = self.columns[self.against];
        let compared = &self.columns[self.against + 1..];
        let names = self.columns.iter().map(|&name| name.to_owned());
        let heads: Vec<String> =
            names.chain(compared.iter().map(|name| format!("{name} / {base}"))).collect();
        let mut out = format!("| figure | {} |\n|---|{}\n", heads.join(" | "), "---|".repeat(heads.len()));
        for figure in &self.order {
            let cells = self.columns.iter().map(|name| spread(self.values(figure, name), 1));
            let ratios = compared.iter().map(|name| spread(self.ratios(figure, name, base), 2));
            let cells: Vec<String> = cells.chain(ratios).collect();
            // Writing into a String cannot fail.
            let _ = writeln!(out, "| {figure} | {} |", cells.join(" | "));
        }
        let first = self.columns[0];
        let _ = writeln!(
            out,
            "\nMedian (least to most); ratios are those of measurements that follow each other. Of what is added, the column \
             \"{first}\" tells the whole and the others what they add to it."
        );
        out
    }

    /// What was measured each time, less the first column's where it is about what is added.
    fn values(&self, figure: &'static str, name: &'static str) -> Option<Vec<f64>> {
        let values = self.figures.get(&(figure, name))?;
        let first = self.columns[0];
        match self.figures.get(&(figure, first)).filter(|_| name != first && ADDED.contains(&figure)) {
            Some(whole) => Some(values.iter().zip(whole).map(|(value, whole)| value - whole).collect()),
            None => Some(values.clone()),
        }
    }

    /// Each measurement divided by that of the base beside it; none where what is added would be divided by a whole.
    fn ratios(&self, figure: &'static str, name: &'static str, base: &'static str) -> Option<Vec<f64>> {
        if self.against == 0 && ADDED.contains(&figure) {
            return None;
        }
        let (values, base) = (self.values(figure, name)?, self.values(figure, base)?);
        Some(values.iter().zip(base).map(|(value, base)| value / base).collect())
    }
}

fn spread(values: Option<Vec<f64>>, places: usize) -> String {
    let Some(mut values) = values else { return "—".to_owned() };
    let median = quantile(&mut values, 0.5);
    let (least, most) = (values.first().copied().unwrap_or(median), values.last().copied().unwrap_or(median));
    format!("{median:.places$} ({least:.places$} to {most:.places$})")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::variant::BESIDE_NGINX;

    fn report(against: usize, figure: &'static str) -> String {
        let mut report = Report::new(&BESIDE_NGINX, against);
        for (variant, values) in BESIDE_NGINX.iter().zip([[100.0, 300.0], [150.0, 350.0], [200.0, 450.0]]) {
            values.into_iter().for_each(|value| report.add(variant, figure, value));
        }
        report.markdown()
    }

    #[test]
    fn what_is_added_is_told_without_the_direct_run_of_the_same_repeat() {
        let table = report(1, ADDED[0]);
        let cells =
            "| 300.0 (100.0 to 300.0) | 50.0 (50.0 to 50.0) | 150.0 (100.0 to 150.0) | 3.00 (2.00 to 3.00) |";
        assert!(table.contains(cells), "{table}");
        assert!(table.contains("| penstock / nginx |"), "{table}");
    }

    #[test]
    fn variants_are_divided_by_the_first_of_the_same_turn() {
        let table = report(0, "CPU");
        assert!(table.contains("| nginx / direct | penstock / direct |"), "{table}");
        assert!(table.contains("| 1.50 (1.17 to 1.50) | 2.00 (1.50 to 2.00) |"), "{table}");
        assert!(report(0, ADDED[0]).contains("| — | — |"));
    }
}
