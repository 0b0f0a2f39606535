//! Plots of cost against size, both axes logarithmic, with the exponent of a fitted power law.

use std::fmt::Write as _;
use std::path::Path;

use super::series::{Metric, Results};
use super::variant::Variant;
use crate::process::{Job, Result};

/// Every tool has a colour and a mark, so that nothing hangs on the colour alone.
const LOOKS: [(Variant, &str, &str); 4] = [
    (Variant::PostlinkFull, "#0b6e4f", "●"),
    (Variant::PostlinkHot, "#3fa7d6", "▲"),
    (Variant::BoltLite, "#d1495b", "■"),
    (Variant::BoltAll, "#7b2d26", "◆"),
];

const WIDTH: f64 = 720.0;
const HEIGHT: f64 = 440.0;
const LEFT: f64 = 84.0;
const RIGHT: f64 = 230.0;
const TOP: f64 = 40.0;
const BOTTOM: f64 = 50.0;

/// Points of one tool: x and y above zero.
struct Curve {
    name: &'static str,
    colour: &'static str,
    mark: &'static str,
    points: Vec<(f64, f64)>,
}

/// Writes `time.svg` and `memory.svg`, and PNG where a converter is installed.
pub(super) fn write(folder: &Path, all: &[(String, Results)]) -> Result<()> {
    for (file, title, unit, metric, scale) in [
        (
            "time",
            "cpu time of the tool against size of .text",
            "s",
            Metric::Cpu,
            1.0,
        ),
        (
            "memory",
            "peak memory of the tool against size of .text",
            "MB",
            Metric::Peak,
            1.0 / 1024.0,
        ),
    ] {
        let svg = draw(title, unit, &curves(all, metric, scale));
        let path = folder.join(format!("{file}.svg"));
        std::fs::write(&path, svg).map_err(|error| format!("{}: {error}", path.display()))?;
        // Optional: the table and the SVG hold the same figures.
        let png = Job::new("rsvg-convert")
            .arg(&path)
            .arg("-o")
            .arg(path.with_extension("png"))
            .run();
        if !png.is_ok_and(|done| done.status == 0) {
            eprintln!("no rsvg-convert: {file}.png is not written");
        }
    }
    Ok(())
}

fn curves(all: &[(String, Results)], metric: Metric, scale: f64) -> Vec<Curve> {
    let curve = |(variant, colour, mark): (Variant, &'static str, &'static str)| {
        let point = |(_, results): &(String, Results)| {
            let x = results.get(Variant::Original, Metric::Text)? / 1e6;
            let y = results.get(variant, metric)? * scale;
            (x > 0.0 && y > 0.0).then_some((x, y))
        };
        Curve {
            name: variant.name(),
            colour,
            mark,
            points: all.iter().filter_map(point).collect(),
        }
    };
    LOOKS.into_iter().map(curve).collect()
}

/// Least squares of log y over log x: the exponent and the factor, of two or more different sizes.
fn fit(points: &[(f64, f64)]) -> Option<(f64, f64)> {
    let n = points.len() as f64;
    let logs: Vec<(f64, f64)> = points.iter().map(|(x, y)| (x.ln(), y.ln())).collect();
    let (mean_x, mean_y) = (
        logs.iter().map(|p| p.0).sum::<f64>() / n,
        logs.iter().map(|p| p.1).sum::<f64>() / n,
    );
    let variance: f64 = logs.iter().map(|(x, _)| (x - mean_x).powi(2)).sum();
    if points.len() < 2 || variance < 1e-9 {
        return None;
    }
    let exponent = logs
        .iter()
        .map(|(x, y)| (x - mean_x) * (y - mean_y))
        .sum::<f64>()
        / variance;
    Some((exponent, (mean_y - exponent * mean_x).exp()))
}

fn draw(title: &str, unit: &str, curves: &[Curve]) -> String {
    let all = || curves.iter().flat_map(|curve| curve.points.iter().copied());
    // Whole powers of ten around all points.
    let decades = |values: &dyn Fn() -> Vec<f64>| {
        let values = values();
        let low = values.iter().copied().fold(f64::INFINITY, f64::min);
        let high = values.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        if low.is_finite() {
            (
                low.log10().floor(),
                high.log10().ceil().max(low.log10().floor() + 1.0),
            )
        } else {
            (0.0, 1.0)
        }
    };
    let (x0, x1) = decades(&|| all().map(|point| point.0).collect());
    let (y0, y1) = decades(&|| all().map(|point| point.1).collect());
    let px = |x: f64| LEFT + (x.log10() - x0) / (x1 - x0) * (WIDTH - LEFT - RIGHT);
    let py = |y: f64| HEIGHT - BOTTOM - (y.log10() - y0) / (y1 - y0) * (HEIGHT - TOP - BOTTOM);

    let mut out = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{WIDTH}\" height=\"{HEIGHT}\" font-family=\"sans-serif\" \
         font-size=\"12\">\n<rect width=\"100%\" height=\"100%\" fill=\"white\"/>\n<text x=\"{LEFT}\" y=\"22\" \
         font-size=\"14\">{title}</text>\n"
    );
    let right = WIDTH - RIGHT;
    let base = HEIGHT - BOTTOM;
    for decade in x0 as i32..=x1 as i32 {
        let (value, x) = (10f64.powi(decade), px(10f64.powi(decade)));
        let _ = writeln!(out, "<path d=\"M{x:.1} {TOP}V{base}\" stroke=\"#ddd\"/>");
        let _ = writeln!(
            out,
            "<text x=\"{x:.1}\" y=\"{}\" text-anchor=\"middle\">{value} MB</text>",
            base + 18.0
        );
    }
    for decade in y0 as i32..=y1 as i32 {
        let (value, y) = (10f64.powi(decade), py(10f64.powi(decade)));
        let _ = writeln!(out, "<path d=\"M{LEFT} {y:.1}H{right}\" stroke=\"#ddd\"/>");
        let _ = writeln!(
            out,
            "<text x=\"{}\" y=\"{:.1}\" text-anchor=\"end\">{value} {unit}</text>",
            LEFT - 6.0,
            y + 4.0
        );
    }
    for (index, curve) in curves.iter().enumerate() {
        let Curve {
            name,
            colour,
            mark,
            points,
        } = curve;
        for (x, y) in points {
            let (x, y) = (px(*x), py(*y) + 4.0);
            let _ = writeln!(
                out,
                "<text x=\"{x:.1}\" y=\"{y:.1}\" fill=\"{colour}\" text-anchor=\"middle\">{mark}</text>"
            );
        }
        let law = fit(points);
        if let (Some((exponent, factor)), Some(first), Some(last)) =
            (law, points.first(), points.last())
        {
            let at = |x: f64| (px(x), py(factor * x.powf(exponent)));
            let ((xa, ya), (xb, yb)) = (at(first.0), at(last.0));
            let _ = writeln!(
                out,
                "<path d=\"M{xa:.1} {ya:.1}L{xb:.1} {yb:.1}\" stroke=\"{colour}\" stroke-width=\"1\"/>"
            );
        }
        let said = law.map_or_else(String::new, |(exponent, _)| {
            format!(", exponent {exponent:.2}")
        });
        let y = TOP + 20.0 * (index as f64 + 1.0);
        let _ = writeln!(
            out,
            "<text x=\"{}\" y=\"{y}\" fill=\"{colour}\">{mark} {name}{said}</text>",
            right + 12.0
        );
    }
    out.push_str("</svg>\n");
    out
}

#[cfg(test)]
mod tests {
    use super::fit;

    #[test]
    fn a_power_law_is_found() {
        let points: Vec<(f64, f64)> = [1.0f64, 3.0, 10.0, 80.0]
            .iter()
            .map(|x| (*x, 2.0 * x.powf(1.5)))
            .collect();
        let (exponent, factor) = fit(&points).unwrap();
        assert!(
            (exponent - 1.5).abs() < 1e-9 && (factor - 2.0).abs() < 1e-9,
            "{exponent} {factor}"
        );
        assert_eq!(fit(&points[..1]), None);
    }
}
