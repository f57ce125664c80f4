//! The figures of one measurement, and how they are shown.

use serde::{Deserialize, Serialize};

/// Figures of one kind. The code that shows them names their unit.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Samples(Vec<f64>);

impl Samples {
    pub(crate) fn new(mut figures: Vec<f64>) -> Self {
        figures.sort_by(f64::total_cmp);
        Self(figures)
    }

    /// The middle one; of an even number, the upper of the two.
    pub(crate) fn median(&self) -> f64 {
        self.at(0.5)
    }

    /// The figure below which this part of the figures lies, from 0 to 1.
    pub(crate) fn at(&self, part: f64) -> f64 {
        let last = self.0.len().saturating_sub(1);
        self.0.get(((self.0.len() as f64 * part) as usize).min(last)).copied().unwrap_or(f64::NAN)
    }

    /// `12.3 (11.9 - 14.0)`: the median, and the range of the middle eight tenths.
    pub(crate) fn show(&self) -> String {
        format!("{} ({} - {})", digits(self.median()), digits(self.at(0.1)), digits(self.at(0.9)))
    }
}

/// Shows three significant digits, or all digits before the decimal point.
pub(crate) fn digits(figure: f64) -> String {
    match figure.abs() {
        size if size >= 1000.0 => {
            let whole = format!("{figure:.0}");
            let mut text = String::new();
            for (i, digit) in whole.chars().enumerate() {
                if i > 0
                    && (whole.len() - i).is_multiple_of(3)
                    && digit.is_ascii_digit()
                    && !text.ends_with('-')
                {
                    text.push(',');
                }
                text.push(digit);
            }
            text
        }
        size if size >= 100.0 => format!("{figure:.0}"),
        size if size >= 10.0 => format!("{figure:.1}"),
        _ => format!("{figure:.2}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_are_shown_with_what_matters() {
        let shown = [0.5, 9.876, 98.76, 987.6, 9876.5, 1_234_567.0, -12_345.0].map(digits);
        assert_eq!(shown, ["0.50", "9.88", "98.8", "988", "9,876", "1,234,567", "-12,345"]);
        let samples = Samples::new(vec![5.0, 1.0, 3.0, 2.0, 4.0]);
        assert_eq!((samples.median(), samples.at(0.0), samples.at(1.0)), (3.0, 1.0, 5.0));
    }
}
