//! Bars, as SVG that reads on light and dark pages.

use std::fmt::Write as _;

use crate::samples::digits;

/// Horizontal bars; shorter is better. The bars of wasq stand out.
pub(crate) struct Plot {
    /// The name of its file, without the extension.
    pub(crate) name: &'static str,
    pub(crate) title: &'static str,
    pub(crate) unit: &'static str,
    /// Labels and figures, as the table has them.
    pub(crate) bars: Vec<(String, f64)>,
}

const WIDTH: f64 = 760.0;
/// Where the bars begin: labels stand to the left.
const LEFT: f64 = 300.0;
/// Space for the figure behind the longest bar.
const RIGHT: f64 = 90.0;
const TOP: f64 = 34.0;
const ROW: f64 = 26.0;

impl Plot {
    /// The picture.
    pub(crate) fn svg(&self) -> String {
        let most = self.bars.iter().map(|(_, figure)| *figure).fold(f64::MIN_POSITIVE, f64::max);
        let height = TOP + ROW * self.bars.len() as f64 + 6.0;
        let mut svg = format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height}\" font-family=\"sans-serif\" font-size=\"13\">\n\
             <rect width=\"{WIDTH}\" height=\"{height}\" fill=\"#fff\"/>\n\
             <text x=\"8\" y=\"20\" font-weight=\"bold\">{} ({})</text>\n",
            escape(self.title),
            escape(self.unit)
        );
        for (i, (label, figure)) in self.bars.iter().enumerate() {
            let top = TOP + ROW * i as f64;
            let length = ((WIDTH - LEFT - RIGHT) * figure / most).max(1.0);
            let colour = if label.starts_with("wasq") { "#c2410c" } else { "#94a3b8" };
            let base = top + 15.0;
            let _ = writeln!(
                svg,
                "<text x=\"{:.0}\" y=\"{base:.0}\" text-anchor=\"end\">{}</text>\
                 <rect x=\"{LEFT}\" y=\"{top:.0}\" width=\"{length:.1}\" height=\"20\" fill=\"{colour}\"/>\
                 <text x=\"{:.1}\" y=\"{base:.0}\">{}</text>",
                LEFT - 8.0,
                escape(label),
                LEFT + length + 6.0,
                digits(*figure)
            );
        }
        svg.push_str("</svg>\n");
        svg
    }
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}
