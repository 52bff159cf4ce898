//! A plot of networks: what each costs against how often it is wrong.

use std::error::Error;

use plotters::prelude::*;

/// Draws a point for each `(cost, error in %, name)`, on logarithmic axes, as SVG.
pub fn scatter(
    title: &str,
    cost: &str,
    error: &str,
    points: &[(f32, f32, String)],
) -> Result<String, Box<dyn Error + Send + Sync>> {
    let extent = |value: fn(&(f32, f32, String)) -> f32| {
        let values = points.iter().map(value);
        (values.clone().fold(f32::INFINITY, f32::min), values.fold(0.0, f32::max))
    };
    let ((least, most), (best, worst)) = (extent(|point| point.0), extent(|point| point.1));
    // Zero has no place on a logarithmic axis.
    let best = best.max(0.05);
    let mut svg = String::new();
    let canvas = SVGBackend::with_string(&mut svg, (900, 560)).into_drawing_area();
    canvas.fill(&WHITE)?;
    let mut chart = ChartBuilder::on(&canvas)
        .caption(title, ("sans-serif", 24))
        .margin(12)
        .x_label_area_size(52)
        .y_label_area_size(64)
        .build_cartesian_2d(
            (least / 1.5..most * 20.0).log_scale(),
            (best / 1.5..worst * 1.5).log_scale(),
        )?;
    chart
        .configure_mesh()
        .light_line_style(TRANSPARENT)
        .label_style(("sans-serif", 18))
        .x_desc(cost)
        .x_label_formatter(&|value| format!("{value:.0}"))
        .y_desc(error)
        .draw()?;
    chart.draw_series(points.iter().map(|(cost, error, name)| {
        EmptyElement::at((*cost, error.max(best)))
            + Circle::new((0, 0), 4, RGBColor(0, 114, 178).filled())
            + Text::new(name.clone(), (8, -7), ("sans-serif", 15))
    }))?;
    canvas.present()?;
    drop(chart);
    drop(canvas);
    Ok(svg)
}
