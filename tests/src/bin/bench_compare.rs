//! Compares the figures of two versions' runs of the bench, for `scripts/bench --compare`.

use std::{
    collections::HashMap,
    fmt::Write as _,
    io::Write as _,
    path::{Path, PathBuf},
    process::ExitCode,
};

use anyhow::Context as _;
use clap::Parser;
use serde_json::{Value, json};

/// A median that has moved by less than this is not news.
const NEWS: f64 = 0.05;

/// Compare the figures of two versions, of several runs each
#[derive(Parser)]
struct Args {
    /// What the old version is called.
    #[arg(long, default_value = "old")]
    old_name: String,
    /// What the new version is called.
    #[arg(long, default_value = "new")]
    new_name: String,
    /// The old version's runs, as the bench's --json wrote them.
    #[arg(long, required = true, num_args = 1.., value_name = "FILE")]
    old: Vec<PathBuf>,
    /// The new version's runs.
    #[arg(long, required = true, num_args = 1.., value_name = "FILE")]
    new: Vec<PathBuf>,
    /// Also write the comparison as JSON.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
}

/// One figure's values in one version's runs.
#[derive(Clone, Debug, PartialEq)]
struct Figure {
    section: String,
    name: String,
    unit: String,
    values: Vec<f64>,
}

/// Both versions' values of one figure.
#[derive(Debug)]
struct Compared<'a> {
    figure: &'a Figure,
    old: Option<Spread>,
    new: Option<Spread>,
}

#[derive(Clone, Copy, Debug, PartialEq)]
struct Spread {
    median: f64,
    least: f64,
    most: f64,
}

/// What a difference amounts to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verdict {
    /// The medians are within 5 %, or the runs' ranges overlap by more than the medians differ.
    Same,
    Better,
    Worse,
    /// It has moved, and neither way is the better one.
    Other,
    /// One version has it.
    Alone,
}

fn main() -> ExitCode {
    match compare(&Args::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("bench: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn compare(args: &Args) -> anyhow::Result<()> {
    let (old, new) = (figures(&args.old)?, figures(&args.new)?);
    let compared = side_by_side(&old, &new);
    std::io::stdout().write_all(table(&compared, args).as_bytes())?;
    if let Some(file) = &args.json {
        let text = serde_json::to_string_pretty(&to_json(&compared, args))? + "\n";
        std::fs::write(file, text)
            .with_context(|| format!("{} cannot be written", file.display()))?;
    }
    Ok(())
}

/// The figures of several runs, in the order in which they were measured first.
fn figures(files: &[PathBuf]) -> anyhow::Result<Vec<Figure>> {
    let mut figures: Vec<Figure> = Vec::new();
    let mut places = HashMap::new();
    for file in files {
        for (section, name, unit, value) in read(file)? {
            let key = (section.clone(), name.clone());
            let place = *places.entry(key).or_insert_with(|| {
                figures.push(Figure { section, name, unit, values: Vec::new() });
                figures.len() - 1
            });
            figures[place].values.push(value);
        }
    }
    Ok(figures)
}

fn read(file: &Path) -> anyhow::Result<Vec<(String, String, String, f64)>> {
    let text = std::fs::read_to_string(file)
        .with_context(|| format!("{} cannot be read", file.display()))?;
    let json: Value = serde_json::from_str(&text)
        .with_context(|| format!("{} is not what the bench writes", file.display()))?;
    let figure = |figure: &Value| {
        let text = |name: &str| Some(figure[name].as_str()?.to_owned());
        Some((text("section")?, text("name")?, text("unit")?, figure["value"].as_f64()?))
    };
    let all = json["figures"].as_array().map(|all| all.iter().map(figure).collect());
    all.flatten().with_context(|| format!("{} has no figures", file.display()))
}

fn side_by_side<'a>(old: &'a [Figure], new: &'a [Figure]) -> Vec<Compared<'a>> {
    let is =
        |one: &Figure, other: &Figure| (&one.section, &one.name) == (&other.section, &other.name);
    let of = |all: &[Figure], wanted: &Figure| {
        all.iter().find(|figure| is(figure, wanted)).and_then(|figure| spread(&figure.values))
    };
    let gone = old.iter().filter(|figure| !new.iter().any(|other| is(figure, other)));
    let both = new.iter().chain(gone);
    both.map(|figure| Compared { figure, old: of(old, figure), new: of(new, figure) }).collect()
}

fn spread(values: &[f64]) -> Option<Spread> {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let (least, most) = (*sorted.first()?, *sorted.last()?);
    let (low, high) = (sorted[(sorted.len() - 1) / 2], sorted[sorted.len() / 2]);
    Some(Spread { median: f64::midpoint(low, high), least, most })
}

impl Compared<'_> {
    /// New to old, where both are there and the old is not zero.
    fn ratio(&self) -> Option<f64> {
        let (old, new) = self.old.zip(self.new)?;
        (old.median != 0.0).then(|| new.median / old.median)
    }

    fn verdict(&self) -> Verdict {
        let Some((old, new)) = self.old.zip(self.new) else { return Verdict::Alone };
        let moved = (new.median - old.median).abs();
        let overlap = old.most.min(new.most) - old.least.max(new.least);
        if moved <= NEWS * old.median.abs() || overlap > moved {
            return Verdict::Same;
        }
        match self.figure.unit.as_str() {
            unit if unit.ends_with("/s") => better(new.median > old.median),
            "ms" | "s" | "MB" => better(new.median < old.median),
            unit if unit.starts_with("bytes") || unit.starts_with("µs") => {
                better(new.median < old.median)
            }
            _ => Verdict::Other,
        }
    }
}

fn better(is: bool) -> Verdict {
    if is { Verdict::Better } else { Verdict::Worse }
}

impl Verdict {
    fn text(self) -> &'static str {
        match self {
            Self::Same => "",
            Self::Better => "better",
            Self::Worse => "WORSE",
            Self::Other => "changed",
            Self::Alone => "in one version only",
        }
    }
}

fn table(compared: &[Compared<'_>], args: &Args) -> String {
    let (old, new) = (&args.old_name, &args.new_name);
    let mut text =
        format!("old: {old}, {} runs\nnew: {new}, {} runs\n", args.old.len(), args.new.len());
    let _infallible = writeln!(
        text,
        "\n{:<14} {:<52} {:<16} {:>34} {:>34} {:>8}",
        "section", "figure", "unit", "old: median (range)", "new: median (range)", "new/old"
    );
    let mut section = None;
    for row in compared {
        let figure = row.figure;
        if section.replace(&figure.section).is_some_and(|last| *last != figure.section) {
            text.push('\n');
        }
        let ratio = row.ratio().map_or_else(|| "-".to_owned(), |ratio| format!("{ratio:.3}"));
        let line = format!(
            "{:<14} {:<52} {:<16} {:>34} {:>34} {ratio:>8}  {}",
            figure.section,
            figure.name,
            figure.unit,
            of_spread(row.old),
            of_spread(row.new),
            row.verdict().text(),
        );
        text.push_str(line.trim_end());
        text.push('\n');
    }
    let baseline = compared.iter().any(|row| row.figure.section == "baseline");
    if baseline {
        text.push_str(
            "\nThe baseline is the machine's own: by how far its ratio is from 1, and by how wide the \
             ranges are, the other figures may be off too.\n",
        );
    }
    text
}

fn of_spread(spread: Option<Spread>) -> String {
    let number = |value: f64| {
        let decimals = match value.abs() {
            1000.0.. => 0,
            1.0.. => 2,
            _ => 3,
        };
        format!("{value:.decimals$}")
    };
    spread.map_or_else(
        || "-".to_owned(),
        |Spread { median, least, most }| {
            format!("{} ({}–{})", number(median), number(least), number(most))
        },
    )
}

fn to_json(compared: &[Compared<'_>], args: &Args) -> Value {
    let spread = |spread: Option<Spread>| {
        spread.map(|Spread { median, least, most }| {
            json!({ "median": median, "least": least, "most": most })
        })
    };
    let row = |row: &Compared<'_>| {
        let Figure { section, name, unit, .. } = row.figure;
        let verdict = match row.verdict() {
            Verdict::Same => "same",
            Verdict::Better => "better",
            Verdict::Worse => "worse",
            Verdict::Other => "changed",
            Verdict::Alone => "in_one_version_only",
        };
        json!({
            "section": section, "name": name, "unit": unit,
            "old": spread(row.old), "new": spread(row.new), "ratio": row.ratio(), "verdict": verdict,
        })
    };
    let figures: Vec<Value> = compared.iter().map(row).collect();
    let (old, new) = (&args.old_name, &args.new_name);
    json!({
        "old": { "version": old, "runs": args.old.len() },
        "new": { "version": new, "runs": args.new.len() },
        "figures": figures,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn figure(unit: &str, values: &[f64]) -> Figure {
        let (section, name) = ("idle".to_owned(), "final".to_owned());
        Figure { section, name, unit: unit.to_owned(), values: values.to_vec() }
    }

    fn verdict(unit: &str, old: &[f64], new: &[f64]) -> Verdict {
        let (old, new) = ([figure(unit, old)], [figure(unit, new)]);
        side_by_side(&old, &new)[0].verdict()
    }

    #[test]
    fn the_median_is_the_middle_whatever_the_order() {
        let of = |values: &[f64]| spread(values).expect("values").median;
        assert_eq!(of(&[3.0, 1.0, 2.0]), 2.0);
        assert_eq!(of(&[4.0, 1.0, 2.0, 3.0]), 2.5);
        assert_eq!(spread(&[]), None);
    }

    #[test]
    fn which_way_is_better_depends_on_the_unit() {
        assert_eq!(verdict("records/s", &[100.0], &[120.0]), Verdict::Better);
        assert_eq!(verdict("records/s", &[100.0], &[80.0]), Verdict::Worse);
        assert_eq!(verdict("ms", &[100.0], &[80.0]), Verdict::Better);
        assert_eq!(verdict("bytes a record", &[100.0], &[120.0]), Verdict::Worse);
        assert_eq!(verdict("blocks", &[100.0], &[120.0]), Verdict::Other);
    }

    #[test]
    fn what_is_within_the_noise_is_no_difference() {
        assert_eq!(verdict("ms", &[100.0], &[104.0]), Verdict::Same, "less than 5 %");
        let (old, new) = ([80.0, 100.0, 130.0], [85.0, 110.0, 125.0]);
        assert_eq!(verdict("ms", &old, &new), Verdict::Same, "the ranges are of one kind");
        let (old, new) = ([98.0, 100.0, 103.0], [107.0, 110.0, 112.0]);
        assert_eq!(verdict("ms", &old, &new), Verdict::Worse);
    }

    #[test]
    fn a_figure_that_one_version_lacks_is_said() {
        let (old, new) = ([figure("ms", &[1.0])], []);
        let compared = side_by_side(&old, &new);
        assert_eq!(compared[0].verdict(), Verdict::Alone);
        assert_eq!(compared[0].ratio(), None);
    }
}
