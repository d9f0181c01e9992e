//! Reads a unit file, as far as our own units go: settings, words, lists of system calls.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::package::said;

/// A unit's settings, in their order.
#[derive(Debug)]
pub(crate) struct Unit(Vec<(String, String)>);

impl Unit {
    pub(crate) fn read(path: &Path) -> Result<Self> {
        let text = fs::read_to_string(path).with_context(|| path.display().to_string())?;
        Ok(Self::parse(&text))
    }

    pub(crate) fn parse(text: &str) -> Self {
        let settings = text.lines().filter(|line| !line.starts_with(['#', ';', '[']));
        let pair = |line: &str| {
            line.split_once('=').map(|(key, value)| (key.trim().to_owned(), value.trim().to_owned()))
        };
        Self(settings.filter_map(pair).collect())
    }

    /// All values of a setting; an empty one forgets those before it.
    pub(crate) fn all<'a>(&'a self, key: &'a str) -> Vec<&'a str> {
        let values: Vec<&str> =
            self.0.iter().filter(|(known, _)| known == key).map(|(_, value)| value.as_str()).collect();
        let start = values.iter().rposition(|value| value.is_empty()).map_or(0, |at| at + 1);
        values.into_iter().skip(start).collect()
    }

    /// The last value of a setting.
    pub(crate) fn one<'a>(&'a self, key: &'a str) -> Result<&'a str> {
        self.all(key).last().copied().with_context(|| format!("{key}= is missing"))
    }

    /// The system calls that the unit lets through. What systemd adds to every list (`@default`) is in it.
    pub(crate) fn system_calls(&self) -> Result<BTreeSet<String>> {
        let mut allowed = group("@default")?;
        for line in self.all("SystemCallFilter") {
            let (deny, words) = line.strip_prefix('~').map_or((false, line), |words| (true, words));
            for word in words.split_whitespace() {
                let calls =
                    if word.starts_with('@') { group(word)? } else { BTreeSet::from([word.to_owned()]) };
                if deny {
                    allowed.retain(|call| !calls.contains(call));
                } else {
                    allowed.extend(calls);
                }
            }
        }
        Ok(allowed)
    }
}

/// The calls of a group, and of the groups in it.
fn group(name: &str) -> Result<BTreeSet<String>> {
    let mut command = Command::new("systemd-analyze");
    let text = said(command.args(["--no-pager", "syscall-filter", name]), "systemd-analyze syscall-filter")?;
    let mut calls = BTreeSet::new();
    let words = text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'));
    for word in words.filter(|word| *word != name) {
        if word.starts_with('@') {
            calls.extend(group(word)?);
        } else {
            calls.insert(word.to_owned());
        }
    }
    if calls.is_empty() {
        bail!("systemd-analyze knows no calls of {name}");
    }
    Ok(calls)
}

/// The calls of a program in the output of `strace -f`: all processes, from the moment at which it is executed.
pub(crate) fn called(trace: &str, program: &str) -> BTreeSet<String> {
    let start = format!("execve(\"{program}\"");
    let lines = trace.lines().skip_while(|line| !line.contains(&start));
    let name = |line: &str| {
        let call = line.split_once(' ')?.1.trim_start();
        let call = call.strip_prefix("<... ").unwrap_or(call);
        let end = call.find(|letter: char| !letter.is_ascii_alphanumeric() && letter != '_')?;
        let is_call =
            call.get(end..).is_some_and(|rest| rest.starts_with('(') || rest.starts_with(" resumed"));
        (is_call && end > 0).then(|| call.get(..end).unwrap_or_default().to_owned())
    };
    lines.filter_map(name).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_lists_and_calls() {
        let unit = Unit::parse("[Service]\n# A=no\nA=1\nA=2\nB=x\nB=\nB=y z\n");
        assert_eq!(unit.all("A"), ["1", "2"]);
        assert_eq!(unit.one("A").unwrap(), "2");
        assert_eq!(unit.all("B"), ["y z"]);
        assert!(unit.one("C").is_err());
    }

    #[test]
    fn what_strace_writes_is_read() {
        let trace = "7 execve(\"/usr/bin/env\", 0) = 0\n7 setuid(3) = 0\n7 execve(\"/usr/bin/x\", [\"x\"]) = 0\n\
                     8 futex(0x1, FUTEX_WAIT <unfinished ...>\n7 read(3, \"a(b\", 4) = 4\n8 <... accept4 resumed>) = 3\n\
                     7 --- SIGTERM {si_signo=SIGTERM} ---\n7 +++ exited with 0 +++\n";
        let calls = called(trace, "/usr/bin/x");
        assert_eq!(calls.into_iter().collect::<Vec<_>>(), ["accept4", "execve", "futex", "read"]);
    }
}
