//! The text format 0.0.4 of Prometheus.

use std::fmt::{Display, Write as _};

use super::families::Family;

/// A page that is being written.
#[derive(Debug, Default)]
pub(super) struct Page(String);

impl Page {
    /// Begins a metric: its samples come next.
    pub(super) fn family<'a>(&'a mut self, family: &'a Family) -> Samples<'a> {
        let Family { name, kind, help, .. } = family;
        // Writing into a String does not fail.
        let _ = writeln!(self.0, "# HELP {name} {help}\n# TYPE {name} {kind}");
        Samples { page: self, family }
    }

    pub(super) fn into_text(self) -> String {
        self.0
    }
}

/// The samples of one metric.
#[derive(Debug)]
pub(super) struct Samples<'a> {
    page: &'a mut Page,
    family: &'a Family,
}

impl Samples<'_> {
    /// One value; `labels` in the family's order.
    pub(super) fn put(&mut self, labels: &[&str], value: impl Display) -> &mut Self {
        let pairs = self.family.labels.iter().copied().zip(labels.iter().copied());
        self.write("", pairs, value);
        self
    }

    /// A histogram's values: counts up to each end, of all, and the sum.
    pub(super) fn histogram(&mut self, upto: impl Iterator<Item = (f64, u64)>, count: u64, sum: f64) {
        for (end, below) in upto {
            self.write("_bucket", [("le", end.to_string().as_str())].into_iter(), below);
        }
        self.write("_bucket", [("le", "+Inf")].into_iter(), count);
        self.write("_sum", std::iter::empty(), sum);
        self.write("_count", std::iter::empty(), count);
    }

    fn write<'l>(
        &mut self,
        ending: &str,
        labels: impl Iterator<Item = (&'l str, &'l str)>,
        value: impl Display,
    ) {
        let labels: Vec<String> =
            labels.map(|(label, value)| format!("{label}=\"{}\"", escaped(value))).collect();
        let labels = if labels.is_empty() { String::new() } else { format!("{{{}}}", labels.join(",")) };
        let _ = writeln!(self.page.0, "{}{ending}{labels} {value}", self.family.name);
    }
}

fn escaped(value: &str) -> String {
    value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_format_is_prometheus() {
        let family = Family { name: "x", kind: "gauge", labels: &["a", "b"], help: "Some help" };
        let plain = Family { name: "y", kind: "histogram", labels: &[], help: "More" };
        let mut page = Page::default();
        page.family(&family).put(&["1", "q\"\\\n"], 5).put(&["2", ""], 0.5);
        page.family(&plain).histogram([(0.1, 1), (3.0, 2)].into_iter(), 4, 7.25);
        assert_eq!(
            page.into_text(),
            "# HELP x Some help\n# TYPE x gauge\nx{a=\"1\",b=\"q\\\"\\\\\\n\"} 5\nx{a=\"2\",b=\"\"} 0.5\n\
             # HELP y More\n# TYPE y histogram\ny_bucket{le=\"0.1\"} 1\ny_bucket{le=\"3\"} 2\ny_bucket{le=\"+Inf\"} 4\n\
             y_sum 7.25\ny_count 4\n"
        );
    }
}
