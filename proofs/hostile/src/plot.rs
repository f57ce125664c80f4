//! The cost of compilations against the size of the components, as SVG: a line for each kind, and the limit.

use std::fmt::Write as _;

/// The cost of one compilation.
#[derive(Clone, Copy, Debug)]
pub struct Cost {
    /// The size of the component.
    pub bytes: f64,
    /// The time.
    pub seconds: f64,
    /// The most memory of the process that compiled it.
    pub mib: f64,
}

/// The limits, as lines across the picture.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// The longest time.
    pub seconds: f64,
    /// The most memory.
    pub mib: f64,
}

struct Panel {
    left: f64,
    title: &'static str,
    /// The powers of ten at the bottom and at the top.
    from: i32,
    to: i32,
    limit: f64,
}

const WIDTH: f64 = 760.0;
const HEIGHT: f64 = 320.0;
const TOP: f64 = 40.0;
const BOTTOM: f64 = 280.0;
const ACROSS: f64 = 300.0;
/// The sizes at the left and at the right: 100 B and 10 MB.
const BYTES: (f64, f64) = (2.0, 7.0);

/// Two panels beside each other, time and memory. Both axes of each are logarithmic.
pub fn plot(kinds: &[Vec<Cost>], limits: Limits) -> String {
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" font-family=\"sans-serif\" font-size=\"12\">\n\
         <rect width=\"{WIDTH}\" height=\"{HEIGHT}\" fill=\"#fff\"/>\n"
    );
    let time = Panel { left: 60.0, title: "Time (s)", from: -3, to: 3, limit: limits.seconds };
    let memory = Panel { left: 440.0, title: "Memory (MiB)", from: 0, to: 4, limit: limits.mib };
    time.draw(&mut svg, kinds, |cost| cost.seconds);
    memory.draw(&mut svg, kinds, |cost| cost.mib);
    svg.push_str("</svg>\n");
    svg
}

impl Panel {
    fn draw(&self, svg: &mut String, kinds: &[Vec<Cost>], figure: impl Fn(&Cost) -> f64) {
        let Self { left, title, from, to, limit } = self;
        let right = left + ACROSS;
        let _ = writeln!(svg, "<text x=\"{left}\" y=\"24\" font-weight=\"bold\">{title}</text>");
        for power in *from..=*to {
            let y = self.y(10_f64.powi(power));
            let label = 10_f64.powi(power);
            let _ = writeln!(
                svg,
                "<line x1=\"{left}\" y1=\"{y:.1}\" x2=\"{right}\" y2=\"{y:.1}\" stroke=\"#e2e8f0\"/>\
                 <text x=\"{:.0}\" y=\"{:.1}\" text-anchor=\"end\">{label}</text>",
                left - 6.0,
                y + 4.0
            );
        }
        for (bytes, label) in [(1e2, "100 B"), (1e4, "10 kB"), (1e6, "1 MB")] {
            let x = self.x(bytes);
            let _ = writeln!(
                svg,
                "<text x=\"{x:.1}\" y=\"{:.0}\" text-anchor=\"middle\">{label}</text>",
                BOTTOM + 20.0
            );
        }
        for costs in kinds {
            // The memory of a process that ends at once is not seen.
            let seen = costs.iter().filter(|cost| figure(cost) >= 10_f64.powi(*from));
            let points = seen.map(|cost| format!("{:.1},{:.1}", self.x(cost.bytes), self.y(figure(cost))));
            let points = points.collect::<Vec<_>>().join(" ");
            let _ = writeln!(
                svg,
                "<polyline points=\"{points}\" fill=\"none\" stroke=\"#64748b\" stroke-opacity=\"0.6\"/>"
            );
        }
        let y = self.y(*limit);
        let _ = writeln!(
            svg,
            "<line x1=\"{left}\" y1=\"{y:.1}\" x2=\"{right}\" y2=\"{y:.1}\" stroke=\"#c2410c\" stroke-width=\"2\"/>\
             <text x=\"{right}\" y=\"{:.1}\" text-anchor=\"end\" fill=\"#c2410c\">limit: {limit}</text>",
            y - 5.0
        );
    }

    fn x(&self, bytes: f64) -> f64 {
        let (from, to) = BYTES;
        self.left + ACROSS * (bytes.log10() - from) / (to - from)
    }

    fn y(&self, figure: f64) -> f64 {
        let (from, to) = (f64::from(self.from), f64::from(self.to));
        BOTTOM - (BOTTOM - TOP) * (figure.log10() - from) / (to - from)
    }
}
