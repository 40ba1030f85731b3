//! The simulation as a picture: machines, backlog and wait over time, and cost against wait for each policy.

use std::fmt::Display;

use plotters::coord::Shift;
use plotters::prelude::*;

use crate::bound::Point;
use crate::outcome::Outcome;

const SIZE: (u32, u32) = (1400, 1260);
/// One colour for each kind of policy.
const COLOURS: [RGBColor; 4] = [
    RGBColor(0x1b, 0x6c, 0xa8),
    RGBColor(0xd9, 0x7b, 0x29),
    RGBColor(0x4c, 0x9f, 0x5e),
    RGBColor(0x8a, 0x5a, 0xa8),
];
const INK: RGBColor = RGBColor(0x22, 0x30, 0x3c);
const FAINT: RGBColor = RGBColor(0xdf, 0xe5, 0xea);
/// Points of a line over time: each is the highest of those that it stands for.
const POINTS: usize = 700;

/// What one policy came to.
#[derive(Clone, Copy, Debug)]
pub struct Line<'a> {
    /// Its name and parameter, for example `queue_length:2`.
    pub name: &'a str,
    /// Everything that happened.
    pub outcome: &'a Outcome,
    /// Cost over work and 95th percentile of the wait.
    pub point: Point,
}

impl Line<'_> {
    /// The policy without its parameter.
    fn kind(&self) -> &str {
        self.name.split(':').next().unwrap_or(self.name)
    }
}

/// The picture could not be drawn.
#[derive(Debug, thiserror::Error)]
#[error("the picture can't be drawn: {0}")]
pub struct Error(String);

fn failed(error: impl Display) -> Error {
    Error(error.to_string())
}

type Area<'a> = DrawingArea<SVGBackend<'a>, Shift>;

/// Draws it, as scalable vector graphics. `bound`: what a policy could cost at best, where that is known.
pub fn draw(title: &str, lines: &[Line], bound: &[Point]) -> Result<String, Error> {
    let mut svg = String::new();
    {
        let root = SVGBackend::with_string(&mut svg, SIZE).into_drawing_area();
        root.fill(&WHITE).map_err(failed)?;
        let root = root.margin(10, 10, 14, 24);
        let root = root.titled(title, ("sans-serif", 24).into_font().color(&INK)).map_err(failed)?;
        let (over_time, against) = root.split_vertically(720);
        let shown = shown(lines);
        let panels = over_time.split_evenly((3, 1));
        panel(&panels[0], "machines (booting included)", &shown, |sample| {
            f64::from(sample.active + sample.coming)
        })?;
        panel(&panels[1], "tasks that wait", &shown, |sample| f64::from(sample.waiting))?;
        panel(&panels[2], "wait of the oldest, s", &shown, |sample| sample.oldest)?;
        scatter(&against, lines, bound)?;
        root.present().map_err(failed)?;
    }
    Ok(svg)
}

fn kinds<'a>(lines: &[Line<'a>]) -> Vec<&'a str> {
    let mut kinds: Vec<&str> = Vec::new();
    for line in lines {
        let kind = line.name.split(':').next().unwrap_or(line.name);
        if !kinds.contains(&kind) {
            kinds.push(kind);
        }
    }
    kinds
}

/// Of each kind the one whose wait is nearest to a minute: more lines over time can't be told apart.
fn shown<'a>(lines: &[Line<'a>]) -> Vec<(usize, Line<'a>)> {
    let near = |line: &&Line| ((line.point.wait_p95_s - 60.0).abs() * 1000.0) as u64;
    let of = |(at, kind): (usize, &str)| {
        lines.iter().filter(|line| line.kind() == kind).min_by_key(near).map(|line| (at, *line))
    };
    kinds(lines).into_iter().enumerate().filter_map(of).collect()
}

fn panel(
    area: &Area,
    name: &str,
    lines: &[(usize, Line)],
    value: impl Fn(&crate::outcome::Sample) -> f64,
) -> Result<(), Error> {
    let mut series = Vec::new();
    for (colour, line) in lines {
        let samples = &line.outcome.samples;
        let step = samples.len().div_ceil(POINTS).max(1);
        let highest = |chunk: &[crate::outcome::Sample]| {
            let most = chunk.iter().map(&value).fold(0.0, f64::max);
            (chunk.first().map_or(0.0, |sample| sample.at / 86_400.0), most)
        };
        series.push((*colour, line.name, samples.chunks(step).map(highest).collect::<Vec<_>>()));
    }
    let points = || series.iter().flat_map(|(_, _, points)| points);
    let right = points().map(|point| point.0).fold(0.01, f64::max);
    let top = points().map(|point| point.1).fold(1.0, f64::max) * 1.05;
    let mut chart = ChartBuilder::on(area)
        .caption(name, ("sans-serif", 15).into_font().color(&INK))
        .margin(4)
        .x_label_area_size(24)
        .y_label_area_size(56)
        .build_cartesian_2d(0.0..right, 0.0..top)
        .map_err(failed)?;
    chart
        .configure_mesh()
        .light_line_style(WHITE)
        .bold_line_style(FAINT)
        .axis_style(INK)
        .x_labels(11)
        .y_labels(5)
        .x_label_formatter(&|day| format!("day {day:.1}"))
        .y_label_formatter(&|value| format!("{value:.0}"))
        .draw()
        .map_err(failed)?;
    for (colour, name, points) in series {
        let colour = COLOURS[colour % COLOURS.len()];
        chart
            .draw_series(LineSeries::new(points, colour.stroke_width(1)))
            .map_err(failed)?
            .label(name)
            .legend(move |(x, y)| PathElement::new([(x, y), (x + 18, y)], colour.stroke_width(2)));
    }
    legend(&mut chart)
}

type Chart<'a, 'b> = ChartContext<
    'a,
    SVGBackend<'b>,
    Cartesian2d<plotters::coord::types::RangedCoordf64, plotters::coord::types::RangedCoordf64>,
>;

fn legend<'a, 'b: 'a>(chart: &mut Chart<'a, 'b>) -> Result<(), Error> {
    chart
        .configure_series_labels()
        .position(SeriesLabelPosition::UpperRight)
        .background_style(WHITE.mix(0.85))
        .border_style(FAINT)
        .draw()
        .map_err(failed)
}

fn scatter(area: &Area, lines: &[Line], bound: &[Point]) -> Result<(), Error> {
    let points = || lines.iter().map(|line| &line.point);
    let right = points().map(|point| point.wait_p95_s).fold(10.0, f64::max) * 1.05;
    let bound: Vec<&Point> = bound.iter().filter(|point| point.wait_p95_s <= right).collect();
    let costs = || {
        points().chain(bound.iter().copied()).map(|point| point.cost_per_work).filter(|cost| cost.is_finite())
    };
    let (bottom, top) = (costs().fold(f64::INFINITY, f64::min).min(1.0), costs().fold(1.1, f64::max) * 1.02);
    let mut chart = ChartBuilder::on(area)
        .caption(
            "cost over work against the 95th percentile of the wait",
            ("sans-serif", 15).into_font().color(&INK),
        )
        .margin(4)
        .x_label_area_size(40)
        .y_label_area_size(56)
        .build_cartesian_2d(0.0..right, bottom..top)
        .map_err(failed)?;
    chart
        .configure_mesh()
        .light_line_style(WHITE)
        .bold_line_style(FAINT)
        .axis_style(INK)
        .x_desc("95th percentile of the wait, s")
        .x_labels(14)
        .x_label_formatter(&|wait| format!("{wait:.0}"))
        .y_label_formatter(&|cost| format!("{cost:.2}"))
        .draw()
        .map_err(failed)?;
    for (at, kind) in kinds(lines).into_iter().enumerate() {
        let colour = COLOURS[at % COLOURS.len()];
        let mut own: Vec<(f64, f64)> = lines
            .iter()
            .filter(|line| line.kind() == kind)
            .map(|line| (line.point.wait_p95_s, line.point.cost_per_work))
            .collect();
        own.sort_by(|a, b| a.0.total_cmp(&b.0));
        chart
            .draw_series(LineSeries::new(own.clone(), colour.stroke_width(2)))
            .map_err(failed)?
            .label(kind)
            .legend(move |(x, y)| PathElement::new([(x, y), (x + 18, y)], colour.stroke_width(2)));
        chart
            .draw_series(own.into_iter().map(|point| Circle::new(point, 4, colour.filled())))
            .map_err(failed)?;
    }
    if !bound.is_empty() {
        let points = bound.iter().map(|point| (point.wait_p95_s, point.cost_per_work));
        chart
            .draw_series(LineSeries::new(points, INK.stroke_width(1)))
            .map_err(failed)?
            .label("who knows what comes")
            .legend(|(x, y)| PathElement::new([(x, y), (x + 18, y)], INK.stroke_width(1)));
    }
    legend(&mut chart)
}
