//! Five-field cron expressions.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// A cron expression of five fields (minute, hour, day of the month, month, day of the week), or a macro such as `@daily`.
///
/// A field is `*`, a number, a name (`JAN`, `MON`), a range `1-5`, a step over `*` or a range (`*/15`, `8-18/2`), or a list of these.
/// Sunday is 0 and 7. As in Vixie's cron, if neither day field begins with `*`, a day matches that matches one of them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Cron {
    text: String,
    minutes: Numbers,
    hours: Numbers,
    days: Numbers,
    months: Numbers,
    weekdays: Numbers,
    /// Whether a day matches that matches one of the two day fields.
    either_day: bool,
}

/// A set of numbers from 0 to 63: bit n is set if n is in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Numbers(u64);

/// A day of the calendar.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Day {
    /// 1 to 12.
    pub month: u8,
    /// 1 to 31.
    pub day: u8,
    /// 0 for Sunday to 6 for Saturday.
    pub weekday: u8,
}

/// A field of an expression.
struct Field {
    name: &'static str,
    least: u8,
    most: u8,
    /// Names of the numbers from `least`.
    names: &'static [&'static str],
}

const FIELDS: [Field; 5] = [
    Field { name: "minute", least: 0, most: 59, names: &[] },
    Field { name: "hour", least: 0, most: 23, names: &[] },
    Field { name: "day of the month", least: 1, most: 31, names: &[] },
    Field { name: "month", least: 1, most: 12, names: &MONTHS },
    Field { name: "day of the week", least: 0, most: 7, names: &WEEKDAYS },
];
const MONTHS: [&str; 12] =
    ["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"];
const WEEKDAYS: [&str; 7] = ["sun", "mon", "tue", "wed", "thu", "fri", "sat"];
const MACROS: [(&str, &str); 7] = [
    ("@yearly", "0 0 1 1 *"),
    ("@annually", "0 0 1 1 *"),
    ("@monthly", "0 0 1 * *"),
    ("@weekly", "0 0 * * 0"),
    ("@daily", "0 0 * * *"),
    ("@midnight", "0 0 * * *"),
    ("@hourly", "0 * * * *"),
];
/// The longest months, with a leap year's February.
const MONTH_DAYS: [u8; 12] = [31, 29, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31];

impl Cron {
    /// Whether it fires on this day.
    pub fn fires_on(&self, Day { month, day, weekday }: Day) -> bool {
        let (of_month, of_week) = (self.days.has(day), self.weekdays.has(weekday));
        self.months.has(month) && if self.either_day { of_month || of_week } else { of_month && of_week }
    }

    /// The hours and minutes at which it fires on such a day, in order.
    pub fn times(&self) -> impl Iterator<Item = (u8, u8)> + '_ {
        self.hours.iter().flat_map(|hour| self.minutes.iter().map(move |minute| (hour, minute)))
    }

    /// The expression in the words of EventBridge Scheduler, `cron(...)`; otherwise the reason why it has no words for it.
    pub fn for_aws(&self) -> Result<String, String> {
        let every_day = self.days == Numbers::from(1..=31);
        let every_weekday = self.weekdays == Numbers::from(0..=6);
        let (days, weekdays) = match (every_day, every_weekday) {
            // One of the two matches every day.
            (true, _) | (_, true) if self.either_day => ("*".to_owned(), "?".to_owned()),
            (_, true) => (self.days.for_aws(FIELDS[2].least..=FIELDS[2].most, 0), "?".to_owned()),
            // Sunday is 1 there.
            (true, false) => ("?".to_owned(), self.weekdays.for_aws(0..=6, 1)),
            (false, false) => {
                return Err(format!(
                    "cron = {:?}: EventBridge Scheduler cannot combine a day of the month with a day of the week; write two schedules, or * in one of the two fields",
                    self.text
                ));
            }
        };
        let [minutes, hours] = [(self.minutes, &FIELDS[0]), (self.hours, &FIELDS[1])]
            .map(|(numbers, field)| numbers.for_aws(field.least..=field.most, 0));
        let months = self.months.for_aws(1..=12, 0);
        Ok(format!("cron({minutes} {hours} {days} {months} {weekdays} *)"))
    }

    /// Whether there is any day on which it fires.
    fn ever_fires(&self) -> bool {
        let weekly = self.either_day && self.weekdays.0 != 0;
        weekly || self.months.iter().any(|month| self.days.least() <= MONTH_DAYS[usize::from(month) - 1])
    }
}

impl Numbers {
    fn has(self, number: u8) -> bool {
        self.0 & (1 << number) != 0
    }

    fn iter(self) -> impl Iterator<Item = u8> {
        (0..64).filter(move |number| self.has(*number))
    }

    fn least(self) -> u8 {
        u8::try_from(self.0.trailing_zeros()).expect("at most 64")
    }

    /// A field of an AWS expression: numbers and ranges, `*` for all. `plus` is added to each number.
    fn for_aws(self, all: std::ops::RangeInclusive<u8>, plus: u8) -> String {
        if self == Self::from(all) {
            return "*".to_owned();
        }
        let mut parts: Vec<(u8, u8)> = Vec::new();
        for number in self.iter() {
            match parts.last_mut() {
                Some((_, last)) if *last + 1 == number => *last = number,
                _ => parts.push((number, number)),
            }
        }
        let part = |(first, last): (u8, u8)| {
            let (first, last) = (first + plus, last + plus);
            if first == last { first.to_string() } else { format!("{first}-{last}") }
        };
        parts.into_iter().map(part).collect::<Vec<_>>().join(",")
    }
}

impl From<std::ops::RangeInclusive<u8>> for Numbers {
    fn from(range: std::ops::RangeInclusive<u8>) -> Self {
        Self(range.fold(0, |set, number| set | 1 << number))
    }
}

impl Field {
    fn parse(&self, text: &str) -> Result<Numbers, String> {
        let mut set = 0;
        for part in text.split(',') {
            set |= self.part(part).map_err(|problem| format!("{} {text:?}: {problem}", self.name))?.0;
        }
        Ok(Numbers(set))
    }

    fn part(&self, part: &str) -> Result<Numbers, String> {
        let (range, step) = match part.split_once('/') {
            Some((range, step)) => {
                let step: u8 = step.parse().ok().filter(|step| *step > 0).ok_or_else(|| {
                    format!("{step:?} is no step; write a number from 1, such as */{}", self.least.max(5))
                })?;
                (range, Some(step))
            }
            None => (part, None),
        };
        let (first, last) = match range.split_once('-') {
            _ if range == "*" => (self.least, self.most),
            Some((first, last)) => (self.number(first)?, self.number(last)?),
            None if step.is_some() => {
                return Err(format!("a step needs * or a range before it, such as {range}-{}/2", self.most));
            }
            None => {
                let number = self.number(range)?;
                (number, number)
            }
        };
        if first > last {
            return Err(format!("the range {range} ends before it begins"));
        }
        Ok(Numbers((first..=last).step_by(step.unwrap_or(1).into()).fold(0, |set, number| set | 1 << number)))
    }

    fn number(&self, text: &str) -> Result<u8, String> {
        let name = self.names.iter().position(|name| name.eq_ignore_ascii_case(text));
        if let Some(index) = name.and_then(|index| u8::try_from(index).ok()) {
            return Ok(self.least + index);
        }
        let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        let number = text.parse().ok().filter(|number| digits && (self.least..=self.most).contains(number));
        number.ok_or_else(|| {
            let names = if self.names.is_empty() { "" } else { ", or its English name in three letters" };
            format!("{text:?} is not a number from {} to {}{names}", self.least, self.most)
        })
    }
}

impl FromStr for Cron {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let error = |problem: String| format!("cron = {text:?}: {problem}");
        let text_of_fields = match MACROS.iter().find(|(name, _)| name.eq_ignore_ascii_case(text.trim())) {
            Some((_, fields)) => fields,
            None if text.trim_start().starts_with('@') => {
                let names = MACROS.map(|(name, _)| name).join(", ");
                return Err(error(format!("the macros are {names}")));
            }
            None => text,
        };
        let fields: Vec<&str> = text_of_fields.split_ascii_whitespace().collect();
        let &[minutes, hours, days, months, weekdays] = &fields[..] else {
            let count = fields.len();
            return Err(error(format!(
                "expected 5 fields (minute, hour, day of the month, month, day of the week), found {count}; \"0 7 * * *\" is every day at 07:00"
            )));
        };
        let parse = |index: usize, text| FIELDS[index].parse(text).map_err(error);
        let mut cron = Self {
            text: text.to_owned(),
            minutes: parse(0, minutes)?,
            hours: parse(1, hours)?,
            days: parse(2, days)?,
            months: parse(3, months)?,
            weekdays: parse(4, weekdays)?,
            either_day: !days.starts_with('*') && !weekdays.starts_with('*'),
        };
        // Sunday has two numbers.
        if cron.weekdays.has(7) {
            cron.weekdays = Numbers(cron.weekdays.0 & 0x7f | 1);
        }
        if !cron.ever_fires() {
            return Err(error(format!("it never fires: no month in {months:?} has the day {days:?}")));
        }
        Ok(cron)
    }
}

impl TryFrom<String> for Cron {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl From<Cron> for String {
    fn from(cron: Cron) -> Self {
        cron.text
    }
}

impl fmt::Display for Cron {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn aws(text: &str, expected: &str) {
        let cron: Cron = text.parse().expect("valid");
        assert_eq!(cron.for_aws().unwrap_or_else(|e| e), expected);
    }

    #[test]
    fn expressions_in_the_words_of_aws() {
        aws("0 7 * * *", "cron(0 7 * * ? *)");
        aws("*/15 * * * *", "cron(0,15,30,45 * * * ? *)");
        aws("0 9 * * MON-FRI", "cron(0 9 ? * 2-6 *)");
        aws("0 9 * * 0", "cron(0 9 ? * 1 *)");
        aws("0 9 * * 7", "cron(0 9 ? * 1 *)");
        aws("0 9 * * 5-7", "cron(0 9 ? * 1,6-7 *)");
        aws("30 8-18/2 1,15 jan,jul *", "cron(30 8,10,12,14,16,18 1,15 1,7 ? *)");
        aws("@weekly", "cron(0 0 ? * 1 *)");
        aws("0 0 1-31 * 1-7", "cron(0 0 * * ? *)");
        aws("0 0 1-31 * MON-FRI", "cron(0 0 * * ? *)");
        aws("0 0 13 * 0-6", "cron(0 0 * * ? *)");
        aws("0 0 * * MON-FRI", "cron(0 0 ? * 2-6 *)");
        aws("0 0 */1 * MON-FRI", "cron(0 0 ? * 2-6 *)");
        // An odd day that is a Monday, and a 13th or a Friday.
        for combined in ["0 0 */2 * 1", "0 0 13 * 5"] {
            let said = combined.parse::<Cron>().expect("valid").for_aws().expect_err("cannot be said");
            assert!(said.contains("cannot combine a day of the month with a day of the week"), "{said}");
        }
    }

    #[test]
    fn every_expression_fits() {
        // The longest text: no two neighbours, and so no ranges.
        let odd =
            "1-59/2 1-23/2 1-31/2 1-11/2 *".parse::<Cron>().expect("valid").for_aws().expect("can be said");
        assert!(odd.len() <= 256, "{odd}");
    }

    #[track_caller]
    fn refused(text: &str, expected: &str) {
        assert_eq!(text.parse::<Cron>().expect_err("refused"), format!("cron = {text:?}: {expected}"));
    }

    #[test]
    fn what_is_no_expression() {
        refused("60 * * * *", "minute \"60\": \"60\" is not a number from 0 to 59");
        refused("* * 0 * *", "day of the month \"0\": \"0\" is not a number from 1 to 31");
        refused(
            "0 7 * * MO",
            "day of the week \"MO\": \"MO\" is not a number from 0 to 7, or its English name in three letters",
        );
        refused("5/10 * * * *", "minute \"5/10\": a step needs * or a range before it, such as 5-59/2");
        refused("*/0 * * * *", "minute \"*/0\": \"0\" is no step; write a number from 1, such as */5");
        refused("0 18-8 * * *", "hour \"18-8\": the range 18-8 ends before it begins");
        refused("0 0 30 2 *", "it never fires: no month in \"2\" has the day \"30\"");
        refused(
            "0 7 * * * *",
            "expected 5 fields (minute, hour, day of the month, month, day of the week), found 6; \"0 7 * * *\" is every day at 07:00",
        );
        refused(
            "@reboot",
            "the macros are @yearly, @annually, @monthly, @weekly, @daily, @midnight, @hourly",
        );
        refused("0 +7 * * *", "hour \"+7\": \"+7\" is not a number from 0 to 23");
    }

    #[test]
    fn a_day_that_matches_one_of_two_fields() {
        let friday_13 = Day { month: 3, day: 13, weekday: 5 };
        let monday_13 = Day { weekday: 1, ..friday_13 };
        let friday_14 = Day { day: 14, ..friday_13 };
        let fires = |text: &str| {
            let cron: Cron = text.parse().expect("valid");
            [friday_13, monday_13, friday_14].map(|day| cron.fires_on(day))
        };
        assert_eq!(fires("0 0 13 * FRI"), [true, true, true]);
        assert_eq!(fires("0 0 */1 * FRI"), [true, false, true]);
        assert_eq!(fires("0 0 13 * *"), [true, true, false]);
        assert_eq!(fires("0 0 13 4 FRI"), [false, false, false]);
    }
}
