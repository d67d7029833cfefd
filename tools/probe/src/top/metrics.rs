//! The text format of Prometheus.

/// The values of all metrics at one time.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Sample {
    lines: Vec<Line>,
}

#[derive(Debug, Clone, PartialEq)]
struct Line {
    name: String,
    /// The text between the braces.
    labels: String,
    value: f64,
}

impl Sample {
    /// Parses lines `name{label="value"} number`. Comments and lines of another form are ignored.
    pub(super) fn parse(text: &str) -> Sample {
        let line = |line: &str| {
            let (series, value) = line.rsplit_once(' ').filter(|_| !line.starts_with('#'))?;
            let (name, labels) = series.split_once('{').unwrap_or((series, ""));
            Some(Line {
                name: name.to_owned(),
                labels: labels.trim_end_matches('}').to_owned(),
                value: value.parse().ok()?,
            })
        };
        Sample { lines: text.lines().filter_map(line).collect() }
    }

    /// Returns the sum of all values of a metric. `None` if it has none.
    pub(super) fn get(&self, name: &str) -> Option<f64> {
        self.series(name).map(|line| line.value).reduce(|sum, value| sum + value)
    }

    /// Returns the sums of the values of a metric for each value of a label, the largest first.
    pub(super) fn by_label(&self, name: &str, label: &str) -> Vec<(String, f64)> {
        let mut sums: Vec<(String, f64)> = Vec::new();
        for line in self.series(name) {
            let Some(value) = line.label(label) else { continue };
            match sums.iter_mut().find(|(present, _)| present == value) {
                Some((_, sum)) => *sum += line.value,
                None => sums.push((value.to_owned(), line.value)),
            }
        }
        sums.sort_by(|(_, a), (_, b)| b.total_cmp(a));
        sums
    }

    /// Returns a label of the first line of a metric.
    pub(super) fn label(&self, name: &str, label: &str) -> Option<&str> {
        self.series(name).next()?.label(label)
    }

    fn series(&self, name: &str) -> impl Iterator<Item = &Line> {
        self.lines.iter().filter(move |line| line.name == name)
    }
}

impl Line {
    fn label(&self, name: &str) -> Option<&str> {
        // The values of Postern's labels have neither commas nor quotation marks.
        self.labels.split(',').find_map(|pair| {
            let (present, value) = pair.split_once('=')?;
            (present == name).then(|| value.trim_matches('"'))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_parsed() {
        let sample = Sample::parse(
            "# HELP a b\n# TYPE a gauge\na 1\nb_total{code=\"1000\",initiator=\"client\"} 2\n\
             b_total{code=\"1001\",initiator=\"server\"} 5\nb_total{code=\"1000\",initiator=\"server\"} 4\nc\n# \
                            EOF\n",
        );
        assert_eq!((sample.get("a"), sample.get("b_total"), sample.get("c")), (Some(1.0), Some(11.0), None));
        assert_eq!(sample.by_label("b_total", "code"), [("1000".to_owned(), 6.0), ("1001".to_owned(), 5.0)]);
        assert_eq!(sample.label("b_total", "initiator"), Some("client"));
    }
}
