//! Bars as SVG: groups of them, a line where the reference stands, names below.
//!
//! It writes text and knows nothing of what is drawn.

use std::fmt::Write as _;

const COLOURS: [&str; 6] = ["#2b6cb0", "#2f855a", "#b7791f", "#9b2c2c", "#6b46c1", "#4a5568"];
const BAR: f64 = 18.0;
const BETWEEN_GROUPS: f64 = 22.0;
const LEFT: f64 = 56.0;
const TOP: f64 = 56.0;
const HEIGHT: f64 = 240.0;
const BELOW: f64 = 84.0;

/// A chart of bars.
pub(super) struct Chart {
    pub(super) title: String,
    /// What each colour stands for.
    pub(super) series: Vec<String>,
    /// A name, and a value for each of the series, where it has one.
    pub(super) groups: Vec<(String, Vec<Option<f64>>)>,
    /// A line across, at this value.
    pub(super) line: Option<f64>,
}

impl Chart {
    /// The chart as the text of an SVG file.
    pub(super) fn svg(&self) -> String {
        let values = self.groups.iter().flat_map(|(_, values)| values.iter().flatten());
        let most = values.copied().fold(self.line.unwrap_or(0.0), f64::max);
        let step = step(most);
        let top = (most / step).ceil().max(1.0) * step;
        let group_width = |values: &[Option<f64>]| BAR * values.len() as f64 + BETWEEN_GROUPS;
        let width = LEFT + 24.0 + self.groups.iter().map(|(_, values)| group_width(values)).sum::<f64>();
        let width = width.max(LEFT + 150.0 * self.series.len() as f64);
        let y = |value: f64| TOP + HEIGHT * (1.0 - value / top);
        let mut svg = format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{width:.0}\" height=\"{:.0}\" \
             font-family=\"sans-serif\" font-size=\"11\">\n\
             <rect width=\"100%\" height=\"100%\" fill=\"#ffffff\"/>\n\
             <text x=\"{LEFT}\" y=\"20\" font-size=\"14\">{}</text>\n",
            TOP + HEIGHT + BELOW,
            escaped(&self.title)
        );
        for (at, name) in self.series.iter().enumerate() {
            let x = LEFT + 150.0 * at as f64;
            let colour = COLOURS[at % COLOURS.len()];
            let _ = writeln!(
                svg,
                "<rect x=\"{x}\" y=\"30\" width=\"10\" height=\"10\" fill=\"{colour}\"/>\
                 <text x=\"{}\" y=\"39\">{}</text>",
                x + 14.0,
                escaped(name)
            );
        }
        for mark in 0..=(top / step).round() as usize {
            let (value, right) = (mark as f64 * step, width - 12.0);
            let _ = writeln!(
                svg,
                "<line x1=\"{LEFT}\" y1=\"{0:.1}\" x2=\"{right:.0}\" y2=\"{0:.1}\" stroke=\"#e2e8f0\"/>\
                 <text x=\"{1}\" y=\"{2:.1}\" text-anchor=\"end\">{3}</text>",
                y(value),
                LEFT - 6.0,
                y(value) + 4.0,
                short(value)
            );
        }
        let mut x = LEFT + BETWEEN_GROUPS / 2.0;
        for (name, values) in &self.groups {
            self.group(&mut svg, (x, name, values), &y);
            x += group_width(values);
        }
        if let Some(value) = self.line {
            let _ = writeln!(
                svg,
                "<line x1=\"{LEFT}\" y1=\"{0:.1}\" x2=\"{1:.0}\" y2=\"{0:.1}\" stroke=\"#1a202c\" \
                 stroke-dasharray=\"5 3\"/>",
                y(value),
                width - 12.0
            );
        }
        svg.push_str("</svg>\n");
        svg
    }

    fn group(&self, svg: &mut String, group: (f64, &str, &[Option<f64>]), y: &dyn Fn(f64) -> f64) {
        let (x, name, values) = group;
        for (at, value) in values.iter().enumerate() {
            let Some(value) = value else { continue };
            let left = x + BAR * at as f64;
            let _ = writeln!(
                svg,
                "<rect x=\"{left:.1}\" y=\"{0:.1}\" width=\"{1}\" height=\"{2:.1}\" fill=\"{3}\">\
                 <title>{4}, {5}: {6}</title></rect>\
                 <text x=\"{7:.1}\" y=\"{8:.1}\" font-size=\"8\" text-anchor=\"middle\">{6}</text>",
                y(*value),
                BAR - 2.0,
                (TOP + HEIGHT - y(*value)).max(0.0),
                COLOURS[at % COLOURS.len()],
                escaped(name),
                escaped(self.series.get(at).map_or("", String::as_str)),
                short(*value),
                left + BAR / 2.0 - 1.0,
                y(*value) - 3.0,
            );
        }
        let middle = x + BAR * values.len() as f64 / 2.0;
        let foot = TOP + HEIGHT + 12.0;
        let _ = writeln!(
            svg,
            "<text x=\"{middle:.1}\" y=\"{foot}\" text-anchor=\"end\" \
             transform=\"rotate(-40 {middle:.1} {foot})\">{}</text>",
            escaped(name)
        );
    }
}

/// A round distance of marks, of which between four and ten fit.
fn step(most: f64) -> f64 {
    let power = 10f64.powf((most.max(1e-9) / 4.0).log10().floor());
    let fits = [5.0, 2.0, 1.0].into_iter().find(|factor| most / (factor * power) >= 4.0);
    fits.unwrap_or(1.0) * power
}

fn short(value: f64) -> String {
    match value {
        v if v >= 100.0 => format!("{v:.0}"),
        v if v >= 10.0 => format!("{v:.1}"),
        v => format!("{v:.2}"),
    }
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bar_is_as_high_as_its_value() {
        let chart = Chart {
            title: "a < b".to_owned(),
            series: vec!["one".to_owned(), "two".to_owned()],
            groups: vec![
                ("g".to_owned(), vec![Some(0.5), Some(1.0)]),
                ("h".to_owned(), vec![None, Some(0.25)]),
            ],
            line: Some(1.0),
        };
        let svg = chart.svg();
        assert!(svg.contains("a &lt; b"));
        let heights: Vec<f64> = svg
            .lines()
            .filter(|line| line.contains("<title>"))
            .filter_map(|line| line.split("height=\"").nth(1)?.split('"').next()?.parse().ok())
            .collect();
        assert_eq!(heights.len(), 3);
        assert!((heights[1] / heights[0] - 2.0).abs() < 0.01, "{heights:?}");
        assert!((heights[1] / heights[2] - 4.0).abs() < 0.01, "{heights:?}");
        assert_eq!(svg.matches("<svg").count(), svg.matches("</svg>").count());
        assert!(svg.contains("stroke-dasharray"));
    }

    #[test]
    fn marks_are_round_and_few() {
        for most in [0.3, 1.0, 1.7, 8.0, 95.0, 12_345.0] {
            let count = most / step(most);
            assert!((4.0..=10.0).contains(&count), "{most}: {count}");
        }
    }
}
