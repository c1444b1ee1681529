//! What a run found: figures of two servers side by side, their ratio pair by pair, and the targets they are held to.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::{SystemTime, UNIX_EPOCH};

use serde::Serialize;

use crate::scenario::Bench;
use crate::table::{Table, number};

/// One question and its figures.
#[derive(Debug, Serialize)]
pub struct Comparison {
    /// What is asked, such as `token`.
    pub scenario: &'static str,
    /// What is measured.
    pub subject: String,
    /// What it is measured against; may be empty.
    pub reference: String,
    /// The figures, in the order they are printed.
    pub figures: Vec<Figure>,
}

/// One quantity on both sides; the samples with the same place belong to one pair.
#[derive(Debug, Serialize)]
pub struct Figure {
    /// What is measured.
    pub name: &'static str,
    /// Its unit, `""` for plain numbers, `"bytes"` is printed as MiB.
    pub unit: &'static str,
    /// The subject's samples.
    pub subject: Vec<f64>,
    /// The reference's samples; empty when there is nothing to compare with.
    pub reference: Vec<f64>,
    /// What the median is held to.
    pub target: Option<Target>,
}

/// A target for a figure's median.
#[derive(Clone, Copy, Debug, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Target {
    /// Subject / reference must not fall below this.
    RatioAtLeast(f64),
    /// The subject's own figure must not exceed this, in the figure's unit.
    AtMost(f64),
}

/// The least, the middle and the greatest of some samples.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Spread {
    /// The least.
    pub min: f64,
    /// The middle one, or the mean of the two in the middle.
    pub median: f64,
    /// The greatest.
    pub max: f64,
}

impl Spread {
    /// The spread of the samples; `None` when there are none.
    pub fn of(samples: impl IntoIterator<Item = f64>) -> Option<Self> {
        let mut sorted: Vec<f64> = samples.into_iter().collect();
        sorted.sort_by(f64::total_cmp);
        let middle = sorted.len() / 2;
        let upper = *sorted.get(middle)?;
        let lower = match sorted.len() % 2 {
            0 => *sorted.get(middle.checked_sub(1)?)?,
            _ => upper,
        };
        Some(Self { min: *sorted.first()?, median: f64::midpoint(lower, upper), max: *sorted.last()? })
    }

    fn print(self, unit: &str) -> String {
        let scale = if unit == "bytes" { 1024.0 * 1024.0 } else { 1.0 };
        let [min, median, max] = [self.min, self.median, self.max].map(|value| number(value / scale));
        if min == max { median } else { format!("{min} / {median} / {max}") }
    }
}

impl Figure {
    /// A figure without a target.
    pub fn new(name: &'static str, unit: &'static str, subject: Vec<f64>, reference: Vec<f64>) -> Self {
        Self { name, unit, subject, reference, target: None }
    }

    /// Subject / reference, pair by pair.
    pub fn ratios(&self) -> impl Iterator<Item = f64> {
        self.subject.iter().zip(&self.reference).map(|(subject, reference)| subject / reference)
    }

    fn verdict(&self) -> String {
        let Some(target) = self.target else {
            return String::new();
        };
        let (wanted, met) = match target {
            Target::RatioAtLeast(least) => (
                format!("ratio ≥ {}", number(least)),
                Spread::of(self.ratios()).is_some_and(|ratio| ratio.median >= least),
            ),
            Target::AtMost(most) => {
                let limit = Spread { min: most, median: most, max: most };
                (
                    format!("≤ {} {}", limit.print(self.unit), printed_unit(self.unit)),
                    Spread::of(self.subject.iter().copied()).is_some_and(|own| own.median <= most),
                )
            }
        };
        format!("{wanted}: {}", if met { "met" } else { "MISSED" })
    }
}

fn printed_unit(unit: &str) -> &str {
    if unit == "bytes" { "MiB" } else { unit }
}

impl Comparison {
    /// The table for people; where samples differ, a cell is `min / median / max`.
    pub fn print(&self) -> String {
        let mut table = Table::new(["", &self.subject, &self.reference, "ratio", "target"]);
        for figure in &self.figures {
            let cell = |samples: &[f64]| {
                Spread::of(samples.iter().copied()).map_or_else(String::new, |spread| spread.print(figure.unit))
            };
            let name = match printed_unit(figure.unit) {
                "" => figure.name.to_owned(),
                unit => format!("{}, {unit}", figure.name),
            };
            table.row([
                name,
                cell(&figure.subject),
                cell(&figure.reference),
                Spread::of(figure.ratios()).map_or_else(String::new, |ratio| ratio.print("")),
                figure.verdict(),
            ]);
        }
        let against = if self.reference.is_empty() { "" } else { " against " };
        format!("{}: {}{against}{}\n{table}", self.scenario, self.subject, self.reference)
    }
}

/// Everything a run found, with what is needed to judge it.
#[derive(Debug, Serialize)]
struct Run<'run> {
    environment: Environment,
    bench: &'run Bench,
    comparisons: Vec<Summarised<'run>>,
}

#[derive(Debug, Serialize)]
struct Summarised<'run> {
    #[serde(flatten)]
    raw: &'run Comparison,
    ratios: Vec<NamedRatio>,
}

#[derive(Debug, Serialize)]
struct NamedRatio {
    name: &'static str,
    ratio: Spread,
}

/// Where and when the run took place.
#[derive(Debug, Serialize)]
struct Environment {
    unix_seconds: u64,
    commit: Option<String>,
    cpu: Option<String>,
    kernel: Option<String>,
    /// 1, 5 and 15 minutes, at the end of the run: what else the machine was doing.
    load_average: Option<String>,
}

/// Writes the raw figures and their ratios as JSON.
pub fn write_json(path: &Path, bench: &Bench, comparisons: &[Comparison]) -> anyhow::Result<()> {
    let run =
        Run { environment: Environment::read(), bench, comparisons: comparisons.iter().map(Summarised::of).collect() };
    let mut text = serde_json::to_string_pretty(&run)?;
    text.push('\n');
    fs::write(path, text)?;
    Ok(())
}

impl<'run> Summarised<'run> {
    fn of(raw: &'run Comparison) -> Self {
        let ratios = raw
            .figures
            .iter()
            .filter_map(|figure| Some(NamedRatio { name: figure.name, ratio: Spread::of(figure.ratios())? }));
        Self { raw, ratios: ratios.collect() }
    }
}

impl Environment {
    fn read() -> Self {
        let first_line = |path| {
            let text = fs::read_to_string(path).ok()?;
            Some(text.trim().to_owned())
        };
        let cpu = fs::read_to_string("/proc/cpuinfo").ok().and_then(|text| {
            let line = text.lines().find(|line| line.starts_with("model name"))?;
            Some(line.split_once(':')?.1.trim().to_owned())
        });
        Self {
            unix_seconds: SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs()),
            commit: commit(),
            cpu,
            kernel: first_line("/proc/sys/kernel/osrelease"),
            load_average: first_line("/proc/loadavg"),
        }
    }
}

/// The commit the work tree stands on; `None` outside a git repository.
fn commit() -> Option<String> {
    let output = Command::new("git").args(["rev-parse", "--short", "HEAD"]).output().ok()?;
    let name = String::from_utf8(output.stdout).ok()?.trim().to_owned();
    (output.status.success() && !name.is_empty()).then_some(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_spread_has_the_middle_of_odd_and_even_samples() {
        let spread = |min, median, max| Some(Spread { min, median, max });
        assert_eq!(Spread::of([3.0, 1.0, 2.0]), spread(1.0, 2.0, 3.0));
        assert_eq!(Spread::of([4.0, 1.0, 2.0, 3.0]), spread(1.0, 2.5, 4.0));
        assert_eq!(Spread::of([]), None);
    }

    #[test]
    fn ratios_are_taken_pair_by_pair_and_held_to_the_target() {
        let mut figure = Figure::new("work", "", vec![80.0, 90.0, 70.0], vec![100.0, 90.0, 100.0]);
        assert_eq!(figure.ratios().collect::<Vec<_>>(), [0.8, 1.0, 0.7]);
        figure.target = Some(Target::RatioAtLeast(0.8));
        assert_eq!(figure.verdict(), "ratio ≥ 0.800: met");
        figure.target = Some(Target::RatioAtLeast(0.81));
        assert_eq!(figure.verdict(), "ratio ≥ 0.810: MISSED");
        let memory = Figure {
            target: Some(Target::AtMost(25.0 * 1024.0 * 1024.0)),
            ..Figure::new("idle", "bytes", vec![1e6], vec![])
        };
        assert_eq!(memory.verdict(), "≤ 25.0 MiB: met");
    }
}
