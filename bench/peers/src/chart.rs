//! Bar charts as SVG: groups of bars, and a line at the reference.

use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};

const COLOURS: [RGBColor; 6] = [
    RGBColor(0x2b, 0x6c, 0xb0),
    RGBColor(0x2f, 0x85, 0x5a),
    RGBColor(0xb7, 0x79, 0x1f),
    RGBColor(0x9b, 0x2c, 0x2c),
    RGBColor(0x6b, 0x46, 0xc1),
    RGBColor(0x4a, 0x55, 0x68),
];
const BAR_PIXELS: usize = 20;
/// The gap on both sides of a group, as a number of bars.
const GAP: f64 = 0.6;

/// A bar chart.
pub(crate) struct Chart {
    pub(crate) title: String,
    /// The meaning of each colour.
    pub(crate) series: Vec<String>,
    /// Names, each with a value for each of the series that has one.
    pub(crate) groups: Vec<(String, Vec<Option<f64>>)>,
    /// A dashed line at this value.
    pub(crate) line: Option<f64>,
}

impl Chart {
    /// Returns the text of an SVG file.
    pub(crate) fn svg(&self) -> Result<String, String> {
        let mut svg = String::new();
        self.draw(&mut svg).map_err(|e| format!("{}: {e}", self.title))?;
        Ok(svg)
    }

    fn draw(&self, svg: &mut String) -> Result<(), Box<dyn std::error::Error>> {
        // The x axis counts bars: those of a group, and the gaps beside it.
        let group = self.series.len() as f64 + 2.0 * GAP;
        let length = group * self.groups.len().max(1) as f64;
        let values = self.groups.iter().flat_map(|(_, values)| values.iter().flatten());
        // Room for the legend above the bars.
        let top = values.copied().fold(self.line.unwrap_or(1.0), f64::max) * 1.3;
        let width = (length * BAR_PIXELS as f64) as usize + 90;
        let root = SVGBackend::with_string(svg, (width.max(480) as u32, 400)).into_drawing_area();
        root.fill(&WHITE)?;
        let mut chart = ChartBuilder::on(&root)
            .caption(&self.title, ("sans-serif", 17))
            .margin(12)
            .x_label_area_size(80)
            .y_label_area_size(44)
            .build_cartesian_2d(0.0..length, 0.0..top)?;
        chart.configure_mesh().disable_x_mesh().x_labels(0).light_line_style(WHITE).draw()?;
        let text = |size: u32| ("sans-serif", size).into_font();
        let vertical = text(14).transform(FontTransform::Rotate270).color(&BLACK);
        let vertical = vertical.pos(Pos::new(HPos::Right, VPos::Center));
        let above = text(10).color(&BLACK).pos(Pos::new(HPos::Center, VPos::Bottom));
        for (at, name) in self.series.iter().enumerate() {
            let colour = COLOURS[at % COLOURS.len()];
            let bars: Vec<(f64, f64)> = (self.groups.iter().enumerate())
                .filter_map(|(n, (_, values))| {
                    Some((n as f64 * group + GAP + at as f64, (*values.get(at)?)?))
                })
                .collect();
            let bar =
                |(x, y): &(f64, f64)| Rectangle::new([(x + 0.05, 0.0), (x + 0.95, *y)], colour.filled());
            chart
                .draw_series(bars.iter().map(bar))?
                .label(name)
                .legend(move |(x, y)| Rectangle::new([(x, y - 5), (x + 10, y + 5)], colour.filled()));
            let number = |(x, y): &(f64, f64)| Text::new(short(*y), (x + 0.5, *y), above.clone());
            chart.draw_series(bars.iter().map(number))?;
        }
        let names = self.groups.iter().enumerate().map(|(n, (name, _))| {
            let middle = (n as f64 + 0.5) * group;
            EmptyElement::at((middle, 0.0)) + Text::new(name.clone(), (0, 6), vertical.clone())
        });
        chart.draw_series(names)?;
        if let Some(value) = self.line {
            chart.draw_series(DashedLineSeries::new([(0.0, value), (length, value)], 5, 3, BLACK.into()))?;
        }
        chart
            .configure_series_labels()
            .position(SeriesLabelPosition::UpperRight)
            .label_font(("sans-serif", 14))
            .background_style(WHITE.mix(0.8))
            .draw()?;
        root.present()?;
        Ok(())
    }
}

fn short(value: f64) -> String {
    match value {
        v if v >= 100.0 => format!("{v:.0}"),
        v if v >= 10.0 => format!("{v:.1}"),
        v => format!("{v:.2}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bars_are_as_high_as_their_values() {
        let chart = Chart {
            title: "a < b".to_owned(),
            series: vec!["one".to_owned(), "two".to_owned()],
            groups: vec![
                ("g".to_owned(), vec![Some(0.5), Some(1.0)]),
                ("h".to_owned(), vec![None, Some(0.25)]),
            ],
            line: Some(1.0),
        };
        let svg = chart.svg().expect("it can be drawn");
        assert!(svg.contains("a &lt; b") && svg.contains("0.25"), "{svg}");
        let of_colour = |colour: &str| -> Vec<f64> {
            let bars = svg.lines().filter(|line| line.contains("<rect") && line.contains(colour));
            let height = |line: &str| line.split("height=\"").nth(1)?.split('"').next()?.parse().ok();
            bars.filter_map(height).filter(|height| *height > 10.0).collect()
        };
        let (one, two) = (of_colour("#2B6CB0"), of_colour("#2F855A"));
        assert_eq!((one.len(), two.len()), (1, 2), "{svg}");
        assert!((two[0] / one[0] - 2.0).abs() < 0.05, "{one:?} {two:?}");
        assert!((two[0] / two[1] - 4.0).abs() < 0.1, "{two:?}");
    }
}
