//! Curves over the same time, in panels below one another, in one SVG.

use std::path::Path;

use anyhow::{Result, anyhow};
use plotters::{coord::Shift, prelude::*};

use super::tables::number;

const WIDTH: u32 = 900;
const PANEL_HEIGHT: u32 = 190;
const TITLE_HEIGHT: u32 = 40;

/// One panel.
pub struct Panel {
    pub title: String,
    pub curves: Vec<Curve>,
    /// Whether its axis goes by powers of ten: for figures that are mostly small and now and then large.
    pub logarithmic: bool,
    /// Times that are shaded, from and to.
    pub shaded: Vec<(f64, f64)>,
}

/// One line, through points of seconds and figures.
pub struct Curve {
    pub name: &'static str,
    pub color: RGBColor,
    pub points: Vec<(f64, f64)>,
}

pub const BLUE: RGBColor = RGBColor(21, 101, 192);
pub const RED: RGBColor = RGBColor(198, 40, 40);
const SHADE: RGBColor = RGBColor(255, 236, 179);

/// Draws `panels` into a file.
pub fn draw(path: &Path, title: &str, panels: &[Panel]) -> Result<()> {
    let height = TITLE_HEIGHT + PANEL_HEIGHT * panels.len() as u32;
    let root = SVGBackend::new(path, (WIDTH, height)).into_drawing_area();
    root.fill(&WHITE).map_err(failed)?;
    let below = root.titled(title, ("sans-serif", 18)).map_err(failed)?;
    let points = || panels.iter().flat_map(|panel| &panel.curves).flat_map(|curve| &curve.points);
    let right = points().map(|point| point.0).fold(1e-9, f64::max);
    for (panel, area) in panels.iter().zip(below.split_evenly((panels.len(), 1))) {
        panel.draw(&area, right)?;
    }
    root.present().map_err(failed)
}

impl Panel {
    /// Where a figure lies on the axis.
    fn place(&self, figure: f64) -> f64 {
        if self.logarithmic { figure.max(1e-3).log10() } else { figure }
    }

    /// What is written at a place on the axis.
    fn label(&self, place: f64) -> String {
        number(if self.logarithmic { 10_f64.powf(place) } else { place })
    }

    fn reach(&self) -> (f64, f64) {
        let places = || self.curves.iter().flat_map(|curve| &curve.points).map(|point| self.place(point.1));
        let (least, most) = (places().fold(f64::MAX, f64::min), places().fold(f64::MIN, f64::max));
        if least > most {
            return (0.0, 1.0);
        }
        let bottom = if self.logarithmic { least.floor() } else { 0.0 };
        (bottom, bottom + (most - bottom).max(1e-6) * 1.1)
    }

    fn draw<B: DrawingBackend>(&self, area: &DrawingArea<B, Shift>, right: f64) -> Result<()>
    where
        B::ErrorType: 'static,
    {
        let (bottom, top) = self.reach();
        let mut chart = ChartBuilder::on(area)
            .margin(6)
            .caption(&self.title, ("sans-serif", 14))
            .x_label_area_size(22)
            .y_label_area_size(70)
            .build_cartesian_2d(0.0..right, bottom..top)
            .map_err(failed)?;
        let shades = self
            .shaded
            .iter()
            .map(|(from, to)| Rectangle::new([(*from, bottom), (*to, top)], SHADE.filled()));
        chart.draw_series(shades).map_err(failed)?;
        chart
            .configure_mesh()
            .y_labels(5)
            .y_label_formatter(&|place| self.label(*place))
            .light_line_style(TRANSPARENT)
            .draw()
            .map_err(failed)?;
        for curve in &self.curves {
            let points = curve.points.iter().map(|(at, figure)| (*at, self.place(*figure)));
            let color = curve.color;
            chart
                .draw_series(LineSeries::new(points, color.stroke_width(1)))
                .map_err(failed)?
                .label(curve.name)
                .legend(move |(x, y)| PathElement::new([(x, y), (x + 18, y)], color));
        }
        if self.curves.len() > 1 {
            let labels = &mut chart.configure_series_labels();
            labels.position(SeriesLabelPosition::UpperRight);
            labels.background_style(WHITE.mix(0.8)).border_style(BLACK).draw().map_err(failed)?;
        }
        Ok(())
    }
}

fn failed(error: impl std::fmt::Display) -> anyhow::Error {
    anyhow!("a plot cannot be drawn: {error}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_panel_is_drawn() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let curve = |name| Curve { name, color: RED, points: vec![(0.0, 0.5), (1.0, 20.0), (2.0, 0.7)] };
        let panel = |title: &str, logarithmic| Panel {
            title: title.into(),
            curves: vec![curve("p99.9"), curve("max")],
            logarithmic,
            shaded: vec![(0.5, 1.0)],
        };
        draw(file.path(), "all", &[panel("one", true), panel("two", false)]).unwrap();
        let text = std::fs::read_to_string(file.path()).unwrap();
        for part in ["all", "one", "two", "p99.9", "#FFECB3"] {
            assert!(text.contains(part), "{part} is missing");
        }
    }
}
