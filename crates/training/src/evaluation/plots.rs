//! Plots of an evaluation as SVG.

use plotters::coord::Shift;
use plotters::coord::ranged1d::{KeyPointHint, NoDefaultFormatting, ValueFormatter};
use plotters::coord::types::RangedCoordf64;
use plotters::prelude::*;

use super::{ModelEvaluation, Scores, Strengths};

const SIZE: (u32, u32) = (720, 540);

const TITLE: (&str, u32) = ("sans-serif", 24);
const LABEL: (&str, u32) = ("sans-serif", 18);

/// Distinct on light and dark backgrounds, and for readers with colour blindness.
const COLOURS: [RGBColor; 6] = [
    RGBColor(0, 114, 178),
    RGBColor(213, 94, 0),
    RGBColor(0, 158, 115),
    RGBColor(170, 68, 153),
    RGBColor(140, 110, 0),
    RGBColor(90, 90, 90),
];

/// Error rates at the marks of an axis of normal deviates.
const DET_RATES: [f64; 9] = [0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.4];

/// Points of a line.
const DET_POINTS: usize = 200;

const BIN: f64 = 0.25;

/// Why a plot cannot be drawn.
#[derive(Debug, thiserror::Error)]
#[error("the plot cannot be drawn: {0}")]
pub struct PlotError(#[from] DrawingAreaErrorKind<std::io::Error>);

type Canvas<'a> = DrawingArea<SVGBackend<'a>, Shift>;

/// Draws the plots, each with the name of its file. The result is empty if no strangers were
/// compared.
///
/// Each line is a data set, over all of its protocols with unchanged probes.
///
/// # Errors
/// If a plot cannot be drawn.
pub fn draw(evaluations: &[ModelEvaluation]) -> Result<Vec<(&'static str, String)>, PlotError> {
    let mut sets: Vec<(String, Strengths)> = Vec::new();
    let trials = evaluations.iter().flat_map(|evaluation| &evaluation.trials);
    for trial in trials.filter(|trial| trial.is_as_recorded() && trial.enrolled == trial.probed) {
        let found = &trial.measured.strengths;
        match sets.iter_mut().find(|(name, _)| *name == trial.data_set) {
            Some((_, strengths)) => strengths.add(found),
            None => sets.push((trial.data_set.clone(), found.clone())),
        }
    }
    if sets.is_empty() {
        return Ok(Vec::new());
    }
    let mut all = Strengths::default();
    sets.iter().for_each(|(_, strengths)| all.add(strengths));
    Ok(vec![
        ("det.svg", drawn(|canvas| det(canvas, &sets))?),
        ("scores.svg", drawn(|canvas| scores(canvas, &all))?),
    ])
}

fn drawn(draw: impl FnOnce(&Canvas) -> Result<(), PlotError>) -> Result<String, PlotError> {
    let mut svg = String::new();
    let canvas = SVGBackend::with_string(&mut svg, SIZE).into_drawing_area();
    canvas.fill(&WHITE)?;
    draw(&canvas)?;
    canvas.present()?;
    drop(canvas);
    Ok(svg)
}

/// Draws the detection error trade-off, with a line for each data set.
fn det(canvas: &Canvas, sets: &[(String, Strengths)]) -> Result<(), PlotError> {
    let (least, most) = (deviate(DET_RATES[0]), deviate(DET_RATES[DET_RATES.len() - 1]));
    let axis = || Marked {
        axis: (least..most).into(),
        marks: DET_RATES.map(|rate| (deviate(rate), (rate * 100.0).to_string())).to_vec(),
    };
    let mut chart = builder(canvas, "Detection error trade-off of strangers, 10 s")
        .build_cartesian_2d(axis(), axis())?;
    chart
        .configure_mesh()
        .light_line_style(TRANSPARENT)
        .label_style(LABEL)
        .axis_desc_style(LABEL)
        .x_desc("false match rate, %")
        .y_desc("false non-match rate, %")
        .draw()?;
    for ((name, row), colour) in sets.iter().zip(COLOURS) {
        let fewest = 1.0 / row.impostors.as_slice().len() as f64;
        let points = (0..=DET_POINTS)
            .map(|point| least + (most - least) * point as f64 / DET_POINTS as f64)
            .filter_map(|fmr_at| {
                let fmr = normal_share(fmr_at);
                let threshold = row.impostors.threshold_at(fmr);
                let fnmr = f64::from(1.0 - row.genuine.share_from(threshold));
                // The line ends where the measurements do.
                (fmr >= fewest && fnmr > 0.0).then(|| (fmr_at, deviate(fnmr)))
            })
            .filter(|(_, fnmr_at)| (least..=most).contains(fnmr_at));
        let style = colour.stroke_width(2);
        chart
            .draw_series(LineSeries::new(points, style))?
            .label(name)
            .legend(move |(x, y)| PathElement::new([(x, y), (x + 18, y)], style));
    }
    legend(&mut chart, SeriesLabelPosition::UpperRight)
}

/// Draws histograms of genuine and impostor strengths.
fn scores(canvas: &Canvas, strengths: &Strengths) -> Result<(), PlotError> {
    let bars = [&strengths.genuine, &strengths.impostors].map(histogram);
    let ends = || bars.iter().flatten().map(|(from, _)| *from);
    let (first, last) = (ends().fold(0.0, f64::min), ends().fold(1.0, f64::max));
    let highest = bars.iter().flatten().map(|(_, share)| *share).fold(0.0, f64::max);
    let mut chart = builder(canvas, "Strengths of strangers, probes of 10 s")
        .build_cartesian_2d(first..last + BIN, 0.0..highest * 110.0)?;
    chart
        .configure_mesh()
        .light_line_style(TRANSPARENT)
        .label_style(LABEL)
        .axis_desc_style(LABEL)
        .x_desc("strength, in standard deviations above strangers")
        .y_desc("share of comparisons, %")
        .draw()?;
    let names = ["genuine", "impostors"];
    for ((bars, name), colour) in bars.into_iter().zip(names).zip(COLOURS) {
        let style = colour.mix(0.55).filled();
        let bars = bars
            .into_iter()
            .map(|(from, share)| Rectangle::new([(from, 0.0), (from + BIN, share * 100.0)], style));
        chart
            .draw_series(bars)?
            .label(name)
            .legend(move |(x, y)| Rectangle::new([(x, y - 5), (x + 18, y + 5)], style));
    }
    legend(&mut chart, SeriesLabelPosition::UpperRight)
}

fn builder<'a, 'b>(canvas: &'a Canvas<'b>, title: &str) -> ChartBuilder<'a, 'b, SVGBackend<'b>> {
    let mut builder = ChartBuilder::on(canvas);
    builder.caption(title, TITLE).margin(12).x_label_area_size(52).y_label_area_size(64);
    builder
}

/// Draws the legend.
fn legend<'a, X: Ranged<ValueType = f64>, Y: Ranged<ValueType = f64>>(
    chart: &mut ChartContext<'a, SVGBackend<'a>, Cartesian2d<X, Y>>,
    position: SeriesLabelPosition,
) -> Result<(), PlotError> {
    let mut labels = chart.configure_series_labels();
    labels.position(position).label_font(LABEL);
    labels.background_style(WHITE).border_style(BLACK).draw()?;
    Ok(())
}

/// An axis with labels at these values only.
struct Marked {
    axis: RangedCoordf64,
    marks: Vec<(f64, String)>,
}

impl Ranged for Marked {
    type FormatOption = NoDefaultFormatting;
    type ValueType = f64;

    fn map(&self, value: &f64, limit: (i32, i32)) -> i32 {
        self.axis.map(value, limit)
    }

    fn key_points<Hint: KeyPointHint>(&self, _: Hint) -> Vec<f64> {
        self.marks.iter().map(|(at, _)| *at).collect()
    }

    fn range(&self) -> std::ops::Range<f64> {
        self.axis.range()
    }
}

impl ValueFormatter<f64> for Marked {
    fn format_ext(&self, value: &f64) -> String {
        let mark = self.marks.iter().find(|(at, _)| at == value);
        mark.map_or_else(String::new, |(_, label)| label.clone())
    }
}

/// The lower end and the share of each bin that is not empty.
fn histogram(scores: &Scores) -> Vec<(f64, f64)> {
    let bin = |score: &f32| (f64::from(*score) / BIN).floor();
    let all = scores.as_slice();
    let bins = all.chunk_by(|a, b| bin(a) == bin(b));
    bins.map(|run| (bin(&run[0]) * BIN, run.len() as f64 / all.len() as f64)).collect()
}

/// The share of a normal distribution below a deviate, by the series of its integral.
fn normal_share(deviate: f64) -> f64 {
    let (mut term, mut sum) = (deviate, deviate);
    for odd in (3..200).step_by(2) {
        term *= deviate * deviate / f64::from(odd);
        sum += term;
    }
    let density = (-0.5 * deviate * deviate).exp() / std::f64::consts::TAU.sqrt();
    0.5 + density * sum
}

/// The deviate below which a share of a normal distribution lies, between -5 and 5.
fn deviate(share: f64) -> f64 {
    let (mut low, mut high) = (-5.0, 5.0);
    for _ in 0..60 {
        let middle = f64::midpoint(low, high);
        if normal_share(middle) < share { low = middle } else { high = middle }
    }
    low
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn deviates_are_those_of_the_normal_distribution() {
        for (share, expected) in [(0.5, 0.0), (0.975, 1.959_964), (0.001, -3.090_232)] {
            assert!((deviate(share) - expected).abs() < 1e-5, "{share}: {}", deviate(share));
        }
    }

    #[test]
    fn a_histogram_has_all_scores() {
        let bins = histogram(&Scores::new(vec![0.501, 0.519, -0.01, 1.0]));
        let expected = [(-0.25, 0.25), (0.5, 0.5), (1.0, 0.25)];
        assert_eq!(bins.len(), expected.len());
        for ((from, share), (expected_from, expected_share)) in bins.iter().zip(expected) {
            assert!((from - expected_from).abs() < 1e-9 && *share == expected_share, "{bins:?}");
        }
    }
}
