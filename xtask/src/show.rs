//! What a person sees: numbered steps, what each proves, how long it took.

use std::io::{IsTerminal, Write};
use std::time::Instant;

use serde_json::{Map, Value};

/// Prints steps and keeps their times.
pub(crate) struct Show {
    color: bool,
    number: usize,
    of: usize,
    started: Instant,
    seconds: Map<String, Value>,
}

impl Show {
    /// A run of so many steps.
    pub(crate) fn new(of: usize) -> Self {
        let color = std::io::stdout().is_terminal();
        Self { color, number: 0, of, started: Instant::now(), seconds: Map::new() }
    }

    fn paint(&self, code: &str, text: &str) -> String {
        if self.color { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_owned() }
    }

    /// Runs one step: its name, what it proves, and what came of it as one line. An error names the step.
    pub(crate) fn step<T>(
        &mut self,
        key: &str,
        name: &str,
        proves: &str,
        work: impl FnOnce() -> anyhow::Result<(T, String)>,
    ) -> anyhow::Result<T> {
        self.number += 1;
        let place = self.paint("2", &format!("[{}/{}]", self.number, self.of));
        println!("{place} {}", self.paint("1", name));
        println!("      {}", self.paint("2", proves));
        let _ = std::io::stdout().flush();
        let started = Instant::now();
        let result = work();
        let seconds = started.elapsed().as_secs_f64();
        match result {
            Ok((value, line)) => {
                let mark = self.paint("32", "✓");
                println!("    {mark} {line} {}", self.paint("2", &format!("({seconds:.2} s)")));
                self.seconds.insert(key.to_owned(), seconds_value(seconds));
                Ok(value)
            }
            Err(error) => {
                println!("    {} {}", self.paint("31", "✗"), self.paint("31", &format!("{error:#}")));
                let place = format!("step {} of {} ({name})", self.number, self.of);
                Err(error.context(place))
            }
        }
    }

    /// Seconds of each step and of all.
    pub(crate) fn seconds(&self) -> Value {
        let mut seconds = self.seconds.clone();
        seconds.insert("total".to_owned(), seconds_value(self.started.elapsed().as_secs_f64()));
        Value::Object(seconds)
    }

    /// A heading.
    pub(crate) fn title(&self, text: &str) {
        println!("\n{}\n", self.paint("1;36", text));
    }
}

/// Seconds with three decimals.
fn seconds_value(seconds: f64) -> Value {
    let rounded = (seconds * 1000.0).round() / 1000.0;
    serde_json::Number::from_f64(rounded).map_or(Value::Null, Value::Number)
}
