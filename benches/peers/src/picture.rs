//! Horizontal bars as SVG, grouped by size. Each group has a scale of its own, since an object of
//! 64 KiB takes a hundred times as long as one of 256 bytes.

use std::fmt::Write as _;

use crate::results::{Results, short};

/// Horizontal places, in pixels of the picture.
const WIDTH: usize = 760;
const NAME_END: usize = 220;
const BAR_START: usize = 230;
const BAR_LENGTH: f64 = 430.0;

/// Vertical distances.
const TOP: usize = 74;
const BAR_STEP: usize = 22;
const BAR_HEIGHT: usize = 16;
const GROUP_GAP: usize = 40;

const OURS: &str = "#1f5fa8";
const THEIRS: &str = "#9aa5b1";
const BOUND: &str = "#d8dde3";

/// A bar: an operation of a contender, and the name that stands beside it.
pub struct Bar<'a> {
    pub name: &'a str,
    pub operation: &'a str,
    pub contender: &'a str,
}

/// Draws the bars of each size that was measured; `None` if none of the sizes was.
pub fn draw(title: &str, sizes: &[String], bars: &[Bar], results: &Results) -> Option<String> {
    let mut body = String::new();
    let mut y = TOP;
    for size in sizes {
        let values: Vec<_> = bars
            .iter()
            .filter_map(|bar| Some((bar, results.median(size, bar.operation, bar.contender)?)))
            .collect();
        if values.is_empty() {
            continue;
        }
        let longest = values.iter().map(|value| value.1).fold(0.0, f64::max);
        text(&mut body, [16, y], "start", "font-weight=\"bold\"", size);
        y += 10;
        for (bar, value) in values {
            let colour = match bar.contender {
                name if name.starts_with("Sealstone") => OURS,
                "BLAKE2b alone" => BOUND,
                _ => THEIRS,
            };
            let length = (BAR_LENGTH * value / longest).max(1.0);
            let baseline = y + BAR_HEIGHT - 4;
            text(&mut body, [NAME_END, baseline], "end", "", bar.name);
            writeln!(
                body,
                "<rect x=\"{BAR_START}\" y=\"{y}\" width=\"{length:.1}\" \
                 height=\"{BAR_HEIGHT}\" rx=\"2\" fill=\"{colour}\"/>"
            )
            .expect("a String takes everything");
            writeln!(
                body,
                "<text x=\"{:.1}\" y=\"{baseline}\" fill=\"#222\">{}</text>",
                230.0 + length + 6.0,
                short(value)
            )
            .expect("a String takes everything");
            y += BAR_STEP;
        }
        y += GROUP_GAP - 10;
    }
    if body.is_empty() {
        return None;
    }
    let height = y - GROUP_GAP / 2;
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height}\" \
         font-family=\"sans-serif\" font-size=\"13\">\n\
         <rect width=\"100%\" height=\"100%\" fill=\"white\"/>\n"
    );
    text(
        &mut svg,
        [16, 28],
        "start",
        "font-size=\"16\" font-weight=\"bold\"",
        title,
    );
    let note =
        "microseconds for an object, medians; shorter is better; each size has its own scale";
    text(&mut svg, [16, 46], "start", "font-size=\"12\"", note);
    svg += &body;
    svg += "</svg>\n";
    Some(svg)
}

/// Adds a text whose baseline starts or ends at `[x, y]`.
fn text(svg: &mut String, [x, y]: [usize; 2], anchor: &str, style: &str, content: &str) {
    let style = if style.is_empty() {
        String::new()
    } else {
        format!(" {style}")
    };
    writeln!(
        svg,
        "<text x=\"{x}\" y=\"{y}\" text-anchor=\"{anchor}\"{style} fill=\"#222\">{content}</text>"
    )
    .expect("a String takes everything");
}
