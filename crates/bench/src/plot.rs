//! Pictures of how figures grow, one file for each thing that is varied.

use std::fs;
use std::path::Path;

use anyhow::{Result, anyhow, ensure};
use plotters::coord::Shift;
use plotters::prelude::*;

use crate::outcome::{Outcome, Report};
use crate::scaling::{Axis, Backlog, axes};

/// A line, and a word for it.
struct Line {
    name: String,
    /// Places between 0 and the number of steps less one, and figures.
    points: Vec<(f64, f64)>,
    color: RGBColor,
}

/// A picture before it is drawn.
struct Picture {
    title: String,
    across: String,
    up: String,
    /// Where the axis has words, and which.
    steps: Vec<(f64, String)>,
    lines: Vec<Line>,
}

/// Draws what was varied in `report`; the names of the pictures, with their titles.
pub(crate) fn of_scaling(report: &Report, dir: &Path) -> Result<Vec<(String, String)>> {
    let mut drawn = Vec::new();
    for axis in axes() {
        let picture = of_axis(&axis, report)?;
        draw(&picture, &dir.join(format!("{}.svg", axis.name)))?;
        drawn.push((format!("{}.svg", axis.name), format!("{}, by {}", picture.title, axis.unit)));
    }
    Ok(drawn)
}

/// Draws what became of an application while its log filled.
pub(crate) fn of_backlog(found: &Backlog, dir: &Path) -> Result<(String, String)> {
    let end = found.moments.last().map_or(1.0, |moment| moment.seconds);
    let most = found.moments.iter().map(|moment| moment.iops).fold(1.0, f64::max);
    let iops = found.moments.iter().map(|moment| (moment.seconds, moment.iops)).collect();
    let fill = found.moments.iter();
    let fill = fill.map(|moment| (moment.seconds, moment.fill_percent / 100.0 * most)).collect();
    let whole = |second: u32| (f64::from(second), second.to_string());
    let picture = Picture {
        title: found.name.clone(),
        across: "seconds".into(),
        up: "writes a second".into(),
        steps: (0..=end as u32).step_by((end / 10.0).ceil().max(1.0) as usize).map(whole).collect(),
        lines: vec![
            Line { name: "engine".into(), points: iops, color: BLUE },
            Line {
                name: format!("how full the log is (all of it: {})", thousands(most)),
                points: fill,
                color: GREY,
            },
        ],
    };
    draw(&picture, &dir.join("backlog.svg"))?;
    Ok(("backlog.svg".into(), format!("{}, from an empty log to a full one", found.name)))
}

fn of_axis(axis: &Axis, report: &Report) -> Result<Picture> {
    let mut lines = Vec::new();
    let mut raw = Vec::new();
    for ((name, steps), color) in axis.lines.iter().zip([BLUE, RED]) {
        let found = steps.iter().map(|(_, case)| {
            let found = report.outcomes.iter().find(|outcome| outcome.case == *case);
            found.ok_or_else(|| anyhow!("{case}: the report lacks it; measure `scaling` again"))
        });
        let found = found.collect::<Result<Vec<&Outcome>>>()?;
        let figures =
            found.iter().map(|it| (axis.of.of(it, &it.engine()), axis.of.of(it, &it.raw())));
        let (engine, alone): (Vec<f64>, Vec<f64>) = figures.unzip();
        lines.push(Line { name: format!("engine, {name}"), points: placed(&engine), color });
        raw = alone;
    }
    lines.push(Line { name: "raw disk".into(), points: placed(&raw), color: GREY });
    let steps = axis.lines.first().map(|(_, steps)| steps.as_slice()).unwrap_or_default();
    let words = steps.iter().enumerate().map(|(at, (word, _))| (at as f64, word.clone()));
    Ok(Picture {
        title: axis.title.to_owned(),
        across: axis.unit.to_owned(),
        up: axis.of.unit().to_owned(),
        steps: words.collect(),
        lines,
    })
}

fn placed(figures: &[f64]) -> Vec<(f64, f64)> {
    figures.iter().enumerate().map(|(at, figure)| (at as f64, *figure)).collect()
}

fn draw(picture: &Picture, to: &Path) -> Result<()> {
    let mut svg = String::new();
    {
        let area = SVGBackend::with_string(&mut svg, SIZE).into_drawing_area();
        draw_on(&area, picture).map_err(|error| anyhow!("{}: {error}", picture.title))?;
        area.present()?;
    }
    svg.push('\n');
    ensure!(svg.starts_with("<svg"), "{}: expected a picture, drew {svg}", picture.title);
    Ok(fs::write(to, svg)?)
}

type Canvas<'a> = DrawingArea<SVGBackend<'a>, Shift>;
type Drawn<'a> = Result<(), DrawingAreaErrorKind<<SVGBackend<'a> as DrawingBackend>::ErrorType>>;

fn draw_on<'a>(area: &Canvas<'a>, picture: &Picture) -> Drawn<'a> {
    area.fill(&WHITE)?;
    let last = picture.steps.last().map_or(1.0, |(at, _)| at.max(1.0));
    let points = picture.lines.iter().flat_map(|line| &line.points);
    let (right, top) =
        points.fold((last, 0.0_f64), |(x, y), point| (x.max(point.0), y.max(point.1)));
    // With room for the words that say which line is which.
    let top = top * 1.35;
    let mut chart = ChartBuilder::on(area)
        .caption(&picture.title, (FONT, 17))
        .margin(14)
        .x_label_area_size(44)
        .y_label_area_size(72)
        .build_cartesian_2d(0.0..right, 0.0..top)?;
    let word = |at: &f64| {
        let step = picture.steps.iter().find(|(step, _)| (step - at).abs() < 1e-6);
        step.map(|(_, word)| word.clone()).unwrap_or_default()
    };
    chart
        .configure_mesh()
        .x_labels(picture.steps.len())
        .light_line_style(TRANSPARENT)
        .bold_line_style(GREY.mix(0.25))
        .x_desc(&picture.across)
        .y_desc(&picture.up)
        .x_label_formatter(&word)
        .y_label_formatter(&|figure| thousands(*figure))
        .label_style((FONT, 13))
        .draw()?;
    for line in &picture.lines {
        let color = line.color;
        chart
            .draw_series(LineSeries::new(line.points.iter().copied(), color.stroke_width(2)))?
            .label(&line.name)
            .legend(move |(x, y)| PathElement::new([(x, y), (x + 18, y)], color.stroke_width(2)));
    }
    chart
        .configure_series_labels()
        .position(SeriesLabelPosition::UpperLeft)
        .background_style(WHITE.mix(0.8))
        .label_font((FONT, 13))
        .draw()
}

fn thousands(figure: f64) -> String {
    if figure >= 10_000.0 { format!("{:.0}k", figure / 1000.0) } else { format!("{figure:.0}") }
}

const SIZE: (u32, u32) = (720, 400);
const FONT: &str = "sans-serif";
const GREY: RGBColor = RGBColor(120, 120, 120);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::{Busy, Host};
    use crate::outcome::{Round, Slice};
    use crate::scaling::{Moment, cases};

    fn report() -> Report {
        let slice = |completed| Slice { seconds: 1.0, completed, ..Slice::default() };
        let outcome = |(at, case): (usize, crate::case::Case)| Outcome {
            name: case.to_string(),
            case,
            rounds: vec![Round {
                raw: slice(1000),
                engine: slice(1000 + 100 * at as u64),
                raw_again: slice(1000),
            }],
            busy: Busy::default(),
        };
        Report {
            command: String::new(),
            taken: String::new(),
            host: Host::probe(),
            outcomes: cases().into_iter().enumerate().map(outcome).collect(),
        }
    }

    #[test]
    fn every_axis_has_a_picture_with_its_words_and_lines() {
        let dir = tempfile::tempdir().unwrap();
        for (file, title) in of_scaling(&report(), dir.path()).unwrap() {
            let svg = fs::read_to_string(dir.path().join(&file)).unwrap();
            assert!(svg.matches("<polyline").count() >= 2, "{file}: {title}");
            assert!(svg.contains("raw disk") && svg.contains("engine, burst"), "{file}");
        }
    }

    #[test]
    fn a_report_that_lacks_a_step_is_not_drawn() {
        let mut report = report();
        report.outcomes.pop();
        let dir = tempfile::tempdir().unwrap();
        let error = of_scaling(&report, dir.path()).unwrap_err().to_string();
        assert!(error.contains("the report lacks it"), "{error}");
    }

    #[test]
    fn a_log_that_fills_has_a_picture() {
        let moment = |at: u32| Moment {
            seconds: f64::from(at) / 10.0,
            fill_percent: f64::from(at.min(100)),
            iops: f64::from(200 - at),
        };
        let found = Backlog {
            command: String::new(),
            taken: String::new(),
            name: "4k".into(),
            moments: (0..120).map(moment).collect(),
        };
        let dir = tempfile::tempdir().unwrap();
        of_backlog(&found, dir.path()).unwrap();
        let svg = fs::read_to_string(dir.path().join("backlog.svg")).unwrap();
        assert!(svg.contains("how full the log is"));
    }
}
