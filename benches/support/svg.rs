//! Plots as SVG: bars, and small panels of lines over time. No fonts, scripts or colours that a dark page would swallow.

use std::fmt::Write as _;

const COLOURS: [&str; 4] = ["#d9822b", "#2b7bd9", "#4c9a4c", "#9a5fb5"];
const INK: &str = "#888888";

/// Lines over time, the first one below the others.
pub struct Panel {
    pub title: String,
    pub seconds: f64,
    pub lines: Vec<(String, Vec<f64>)>,
}

/// One bar a value, the longest as long as there is room.
pub fn bars(title: &str, values: &[(String, f64)]) -> String {
    const ROW: usize = 26;
    let height = 40 + ROW * values.len();
    let most = values.iter().map(|(_, value)| *value).fold(f64::MIN_POSITIVE, f64::max);
    let mut svg = open(640, height);
    text(&mut svg, 10.0, 20.0, title, "font-weight=\"bold\"");
    for (row, (name, value)) in values.iter().enumerate() {
        let top = (34 + ROW * row) as f64;
        let width = value / most * 400.0;
        text(&mut svg, 10.0, top + 13.0, name, "");
        let _ = writeln!(
            svg,
            "<rect x=\"130\" y=\"{top:.0}\" width=\"{width:.1}\" height=\"18\" fill=\"{}\"/>",
            COLOURS[1]
        );
        text(&mut svg, 138.0 + width, top + 13.0, &format!("{value:.1}"), "");
    }
    svg.push_str("</svg>\n");
    svg
}

/// Two panels a row, each with a scale of its own.
pub fn panels(heading: &str, panels: &[Panel]) -> String {
    const WIDE: usize = 430;
    const HIGH: usize = 190;
    let mut svg = open(2 * WIDE, 30 + HIGH * panels.len().div_ceil(2));
    text(&mut svg, 10.0, 18.0, heading, "font-weight=\"bold\"");
    for (number, panel) in panels.iter().enumerate() {
        let (left, top) = ((number % 2 * WIDE) as f64, (30 + number / 2 * HIGH) as f64);
        draw(&mut svg, panel, left + 40.0, top + 22.0, WIDE as f64 - 60.0, HIGH as f64 - 55.0);
        text(&mut svg, left + 40.0, top + 14.0, &panel.title, "");
    }
    svg.push_str("</svg>\n");
    svg
}

fn draw(svg: &mut String, panel: &Panel, left: f64, top: f64, width: f64, height: f64) {
    let all = || panel.lines.iter().flat_map(|(_, values)| values.iter().copied());
    let (low, high) = (all().fold(0.0, f64::min).floor(), all().fold(2.0, f64::max).ceil());
    let place = |value: f64| top + height * (1.0 - (value - low) / (high - low));
    for value in [low, 0.0, high] {
        let y = place(value);
        let _ = writeln!(
            svg,
            "<line x1=\"{left:.0}\" x2=\"{:.0}\" y1=\"{y:.1}\" y2=\"{y:.1}\" stroke=\"{INK}\" stroke-width=\"0.5\"/>",
            left + width
        );
        text(svg, left - 6.0, y + 4.0, &format!("{value:.0}"), "text-anchor=\"end\"");
    }
    text(svg, left + width, top + height + 16.0, &format!("{:.0} s", panel.seconds), "text-anchor=\"end\"");
    for (number, (name, values)) in panel.lines.iter().enumerate() {
        let colour = COLOURS[number % COLOURS.len()];
        let step = width / values.len().max(2) as f64;
        let points: Vec<String> = values
            .iter()
            .enumerate()
            .map(|(at, value)| format!("{:.1},{:.1}", left + at as f64 * step, place(*value)))
            .collect();
        let _ = writeln!(
            svg,
            "<polyline points=\"{}\" fill=\"none\" stroke=\"{colour}\" stroke-width=\"1.2\"/>",
            points.join(" ")
        );
        let fill = format!("fill-opacity=\"1\" style=\"fill:{colour}\"");
        text(svg, left + 4.0 + 90.0 * number as f64, top + height + 16.0, name, &fill);
    }
}

fn open(width: usize, height: usize) -> String {
    format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{width}\" height=\"{height}\" viewBox=\"0 0 {width} {height}\" font-family=\"sans-serif\" font-size=\"12\">\n"
    )
}

fn text(svg: &mut String, x: f64, y: f64, words: &str, more: &str) {
    let plain = words.replace('&', "&amp;").replace('<', "&lt;");
    let _ = writeln!(svg, "<text x=\"{x:.1}\" y=\"{y:.1}\" fill=\"{INK}\" {more}>{plain}</text>");
}
