//! What a measurement found: rows of figures, as a table or as JSON; and how durations are summed
//! up.

use std::fmt::Write as _;
use std::time::Duration;

use serde_json::json;

/// Figures in the order in which they are shown.
#[derive(Debug, Default)]
pub(crate) struct Report {
    rows: Vec<Row>,
}

#[derive(Debug)]
struct Row {
    figure: String,
    value: f64,
    unit: &'static str,
    detail: String,
}

impl Report {
    /// Adds a figure with what explains it.
    pub(crate) fn add(
        &mut self,
        figure: impl Into<String>,
        value: f64,
        unit: &'static str,
        detail: impl Into<String>,
    ) {
        self.rows.push(Row { figure: figure.into(), value, unit, detail: detail.into() });
    }

    /// Adds median, 99th percentile and extremes of durations, in milliseconds.
    pub(crate) fn add_durations(&mut self, figure: &str, durations: &[Duration]) {
        let spread = Spread::of(durations);
        let detail = format!(
            "p99 {}, min {}, max {}, n {}",
            shown(millis(spread.p99)),
            shown(millis(spread.min)),
            shown(millis(spread.max)),
            durations.len()
        );
        self.add(format!("{figure}, p50"), millis(spread.p50), "ms", detail);
        self.add(format!("{figure}, p99"), millis(spread.p99), "ms", "");
    }

    /// A Markdown table.
    pub(crate) fn table(&self) -> String {
        let mut text = "| figure | value | |\n| --- | --- | --- |".to_owned();
        for row in &self.rows {
            // Writing to memory cannot fail.
            let _ = write!(
                text,
                "\n| {} | {} {} | {} |",
                row.figure,
                shown(row.value),
                row.unit,
                row.detail
            );
        }
        text
    }

    /// The same as a list of objects.
    pub(crate) fn json(&self) -> String {
        let rows: Vec<_> = self
            .rows
            .iter()
            .map(|row| {
                json!({
                    "Figure": row.figure,
                    "Value": row.value,
                    "Unit": row.unit,
                    "Detail": row.detail,
                })
            })
            .collect();
        serde_json::Value::from(rows).to_string()
    }
}

/// Says how far a long measurement is, where somebody waits for it.
#[expect(clippy::print_stderr, reason = "progress goes to the user")]
pub(crate) fn progress(text: &str) {
    eprintln!("{text}");
}

/// Three significant digits are what repeated runs agree on.
fn shown(value: f64) -> String {
    match value.abs() {
        size if size >= 100.0 => format!("{value:.0}"),
        size if size >= 10.0 => format!("{value:.1}"),
        _ => format!("{value:.2}"),
    }
}

/// Milliseconds with their fraction.
pub(crate) fn millis(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1e3
}

/// The middle one; zero of none.
pub(crate) fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted.get(sorted.len() / 2).copied().unwrap_or(0.0)
}

/// Where durations lie.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Spread {
    pub(crate) min: Duration,
    pub(crate) p50: Duration,
    pub(crate) p99: Duration,
    pub(crate) max: Duration,
}

impl Spread {
    /// Percentiles by the nearest rank: one of the values, never between two.
    pub(crate) fn of(durations: &[Duration]) -> Self {
        let mut sorted = durations.to_vec();
        sorted.sort_unstable();
        let rank = |percent: usize| {
            let at = (sorted.len() * percent).div_ceil(100).saturating_sub(1);
            sorted.get(at).copied().unwrap_or_default()
        };
        Self { min: rank(0), p50: rank(50), p99: rank(99), max: rank(100) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_values_that_occurred() {
        let durations: Vec<Duration> = (1..=200).map(Duration::from_millis).collect();
        let ms = Duration::from_millis;
        let spread = Spread { min: ms(1), p50: ms(100), p99: ms(198), max: ms(200) };
        assert_eq!(Spread::of(&durations), spread);
        assert_eq!(Spread::of(&[ms(7)]), Spread { min: ms(7), p50: ms(7), p99: ms(7), max: ms(7) });
        assert_eq!(Spread::of(&[]), Spread::default());
    }

    #[test]
    fn a_report_shows_the_same_in_both_forms() {
        let mut report = Report::default();
        report.add("writes", 1234.5, "/s", "256 clients");
        assert!(
            report.table().ends_with("| writes | 1234 /s | 256 clients |"),
            "{}",
            report.table()
        );
        let json: serde_json::Value = serde_json::from_str(&report.json()).unwrap();
        assert_eq!(json[0]["Figure"], "writes");
        assert_eq!(json[0]["Unit"], "/s");
    }
}
