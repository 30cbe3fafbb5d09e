//! One line a figure, in the shape of all measuring commands, and whether it meets its gates.

use serde::Serialize;
use serde_json::{Map, Value};

use crate::failure::{Failure, Result};
use crate::say::say;

/// One measured figure.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Line {
    /// One per size, as `memory_1m`.
    pub(super) name: String,
    /// The figure, a median of `runs`.
    pub(super) value: f64,
    /// What it counts.
    pub(super) unit: &'static str,
    /// The other side's figure, a median of as many runs, interleaved with them.
    #[serde(skip_serializing_if = "Option::is_none")]
    baseline: Option<f64>,
    /// What the other side is.
    #[serde(skip_serializing_if = "Option::is_none")]
    baseline_name: Option<&'static str>,
    /// Value over baseline.
    #[serde(skip_serializing_if = "Option::is_none")]
    ratio: Option<f64>,
    runs: usize,
    /// More figures of the same runs.
    #[serde(flatten)]
    more: Map<String, Value>,
    /// Which gates are missed, in words; empty where all are met.
    missed: Vec<String>,
}

impl Line {
    /// A figure.
    pub(super) fn new(name: impl Into<String>, unit: &'static str, values: &[f64]) -> Self {
        Self {
            name: name.into(),
            value: rounded(median(values)),
            unit,
            baseline: None,
            baseline_name: None,
            ratio: None,
            runs: values.len(),
            more: Map::new(),
            missed: Vec::new(),
        }
    }

    /// Beside another side's figures.
    pub(super) fn against(mut self, name: &'static str, values: &[f64]) -> Self {
        let baseline = median(values);
        self.baseline = Some(rounded(baseline));
        self.baseline_name = Some(name);
        self.ratio = Some(rounded(self.value / baseline));
        self
    }

    /// One more figure.
    pub(super) fn with(mut self, name: &str, value: f64) -> Self {
        self.more.insert(name.to_owned(), rounded(value).into());
        self
    }

    /// One more count.
    pub(super) fn count(mut self, name: &str, count: u64) -> Self {
        self.more.insert(name.to_owned(), count.into());
        self
    }

    /// Something to know about it.
    pub(super) fn note(mut self, name: &str, text: &str) -> Self {
        self.more.insert(name.to_owned(), text.into());
        self
    }

    /// Holds a figure of this line (`value`, `ratio`, or one more) to its least.
    pub(super) fn at_least(mut self, name: &str, least: f64) -> Self {
        let value = self.figure(name);
        if value.is_none_or(|value| value < least) {
            self.missed.push(format!("{name} {} is below {least}", text(value)));
        }
        self
    }

    /// Holds a figure of this line to its most.
    pub(super) fn at_most(mut self, name: &str, most: f64) -> Self {
        let value = self.figure(name);
        if value.is_none_or(|value| value > most) {
            self.missed.push(format!("{name} {} is above {most}", text(value)));
        }
        self
    }

    /// A figure of this line, by its name.
    pub(super) fn figure(&self, name: &str) -> Option<f64> {
        match name {
            "value" => Some(self.value),
            "ratio" => self.ratio,
            name => self.more.get(name).and_then(Value::as_f64),
        }
        .filter(|value| value.is_finite())
    }

    /// It in words, on one line.
    pub(super) fn for_people(&self) -> String {
        let mut text = format!("{}: {} {}", self.name, self.value, self.unit);
        if let (Some(baseline), Some(name), Some(ratio)) =
            (self.baseline, self.baseline_name, self.ratio)
        {
            text.push_str(&format!(", {ratio} of {name} ({baseline})"));
        }
        for (name, value) in &self.more {
            text.push_str(&format!(", {name} {value}"));
        }
        match self.missed.as_slice() {
            [] => text.push_str(": met"),
            missed => text.push_str(&format!(": MISSED {}", missed.join("; "))),
        }
        text
    }
}

fn text(value: Option<f64>) -> String {
    value.map_or_else(|| "(none)".to_owned(), |value| value.to_string())
}

/// Prints the lines and judges them.
///
/// # Errors
/// [`Failure::Missed`] if a line missed a gate, unless gates do not count here.
pub(super) fn close(lines: &[Line], json: bool, gates_count: bool) -> Result<()> {
    for line in lines {
        if json {
            say(serde_json::to_string(line).unwrap_or_default());
        } else {
            say(line.for_people());
        }
    }
    let missed: Vec<String> = lines
        .iter()
        .filter(|line| !line.missed.is_empty())
        .map(|line| format!("{}: {}", line.name, line.missed.join("; ")))
        .collect();
    if missed.is_empty() || !gates_count {
        return Ok(());
    }
    Err(Failure::Missed(missed.join("; ")))
}

/// The middle of the figures, by size; zero of none.
pub(super) fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let middle = sorted.len() / 2;
    let at = |index: usize| sorted.get(index).copied().unwrap_or(0.0);
    if sorted.len().is_multiple_of(2) {
        f64::midpoint(at(middle.saturating_sub(1)), at(middle))
    } else {
        at(middle)
    }
}

/// To four digits that mean something.
fn rounded(value: f64) -> f64 {
    if value == 0.0 || !value.is_finite() {
        return value;
    }
    let digits = (3.0 - value.abs().log10().floor()).clamp(0.0, 12.0);
    let scale = 10_f64.powf(digits);
    (value * scale).round() / scale
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_median_is_the_middle() {
        assert_eq!(median(&[3.0, 1.0, 2.0, 9.0, 4.0]), 3.0);
        assert_eq!(median(&[4.0, 2.0]), 3.0);
        assert_eq!(median(&[]), 0.0);
    }

    #[test]
    fn digits_that_mean_nothing_are_left_out() {
        assert_eq!(rounded(0.612_345), 0.6123);
        assert_eq!(rounded(123_456.7), 123_457.0);
        assert_eq!(rounded(0.0), 0.0);
    }

    #[test]
    fn a_gate_holds_and_a_missing_figure_meets_none() {
        let line = Line::new("x", "orders/s", &[50.0]).against("y", &[100.0]).with("p99_ms", 4.0);
        assert_eq!(line.ratio, Some(0.5));
        let met = line.clone().at_least("ratio", 0.5).at_most("p99_ms", 4.0);
        assert!(met.missed.is_empty());
        close(&[met], true, true).unwrap();
        let missed = line.clone().at_least("ratio", 0.6).at_most("p99_ms", 3.0);
        assert_eq!(missed.missed.len(), 2);
        assert!(matches!(
            close(std::slice::from_ref(&missed), true, true),
            Err(Failure::Missed(_))
        ));
        close(&[missed], true, false).unwrap();
        assert_eq!(line.at_most("cpu_ratio", 1.0).missed.len(), 1);
    }
}
