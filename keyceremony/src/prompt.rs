//! What is said to the people in the room, and what they answer. Reader and writer are parameters, so that a test scripts
//! the answers and looks at every question.

use std::io::{BufRead, Write};

use crate::failure::{Failure, OrFail};

/// An answer that is neither yes nor no is asked for again this often.
const ATTEMPTS: usize = 3;

/// Asks and tells.
#[derive(Debug)]
pub(crate) struct Prompter<R, W> {
    reader: R,
    writer: W,
    /// The answer does not appear by itself, since nobody types it.
    echo: bool,
}

impl<R: BufRead, W: Write> Prompter<R, W> {
    pub(crate) fn new(reader: R, writer: W, echo: bool) -> Self {
        Self { reader, writer, echo }
    }

    /// Says a line.
    pub(crate) fn say(&mut self, line: &str) -> Result<(), Failure> {
        writeln!(self.writer, "{line}").or_fail("无法输出。", "the line cannot be written")
    }

    /// Asks one question that is answered by yes or no; no answer is no answer, and nothing is done.
    pub(crate) fn confirm(&mut self, zh: &str, en: &str) -> Result<bool, Failure> {
        for _ in 0..ATTEMPTS {
            write!(self.writer, "{zh} / {en} [是 yes / 否 no] ")
                .and_then(|()| self.writer.flush())
                .or_fail("无法输出。", "the question cannot be written")?;
            let mut answer = String::new();
            let read =
                self.reader.read_line(&mut answer).or_fail("无法读取回答。", "the answer cannot be read")?;
            if read == 0 {
                break;
            }
            let answer = answer.trim().to_lowercase();
            if self.echo {
                self.say(&answer)?;
            }
            match answer.as_str() {
                "yes" | "y" | "是" => return Ok(true),
                "no" | "n" | "否" => return Ok(false),
                _ => self.say("请回答“是”或“否”。 Please answer yes or no.")?,
            }
        }
        Err(Failure::new(
            "没有得到回答,未做任何操作;请在终端上重新执行。",
            "there was no answer, so nothing was done; run the command again at a terminal",
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ask(answers: &str) -> (Result<bool, Failure>, String) {
        let mut shown = Vec::new();
        let answer =
            Prompter::new(answers.as_bytes(), &mut shown, false).confirm("批准吗?", "Do you approve?");
        (answer, String::from_utf8(shown).unwrap())
    }

    #[test]
    fn every_question_is_asked_once_per_answer() {
        let question = "批准吗? / Do you approve? [是 yes / 否 no] ";
        assert_eq!(ask("yes\n"), (Ok(true), question.to_owned()));
        assert_eq!(ask("否\n"), (Ok(false), question.to_owned()));
        let (answer, shown) = ask("perhaps\n是\n");
        assert_eq!(answer, Ok(true));
        assert_eq!(shown.matches(question).count(), 2);
        assert!(shown.contains("Please answer yes or no"));
    }

    #[test]
    fn silence_approves_nothing() {
        for silent in ["", "x\n", "x\nx\nx\nyes\n"] {
            assert!(ask(silent).0.is_err(), "{silent:?}");
        }
    }

    #[test]
    fn an_answer_that_nobody_types_is_shown() {
        let mut shown = Vec::new();
        Prompter::new(b"yes\n".as_slice(), &mut shown, true).confirm("?", "?").unwrap();
        assert!(String::from_utf8(shown).unwrap().ends_with("yes\n"));
    }
}
