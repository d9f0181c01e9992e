#![doc = include_str!("../README.md")]
#![forbid(unsafe_code)]

use std::fs;
use std::path::{Path, PathBuf};

use clap::{Args, Command};
use clap_complete::Shell;
use clap_mangen::Man;

/// The hidden verb's arguments.
#[derive(Args, Debug)]
#[non_exhaustive]
pub struct Pages {
    /// Directory for the pages and completions; it is made if it is not there.
    #[arg(long, value_name = "DIR")]
    pub out: PathBuf,
}

impl Pages {
    /// Writes man pages in this section of the manual, and completions.
    pub fn write(&self, command: Command, section: &str) -> std::io::Result<()> {
        fs::create_dir_all(&self.out)?;
        let name = command.get_name().to_owned();
        for shell in [Shell::Bash, Shell::Zsh, Shell::Fish] {
            clap_complete::generate_to(shell, &mut command.clone(), &name, &self.out)?;
        }
        let mut command = command.disable_help_subcommand(true);
        command.build();
        page(&command, section, &self.out)
    }
}

fn page(command: &Command, section: &str, out: &Path) -> std::io::Result<()> {
    for verb in command.get_subcommands().filter(|verb| !verb.is_hide_set()) {
        page(verb, section, out)?;
    }
    Man::new(command.clone()).section(section).generate_to(out).map(|_| ())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_verb_that_is_shown_has_a_page_and_is_completed() {
        let verb = Command::new("go").about("Goes").subcommand(Command::new("far"));
        let hidden = Command::new("pages").hide(true);
        let command = Command::new("tool").version("1").about("A tool").subcommand(verb).subcommand(hidden);
        let dir = tempfile::tempdir().unwrap();
        let out = dir.path().join("new");
        Pages { out: out.clone() }.write(command, "8").unwrap();
        let mut names: Vec<String> = fs::read_dir(&out)
            .unwrap()
            .map(|file| file.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        assert_eq!(names, ["_tool", "tool-go-far.8", "tool-go.8", "tool.8", "tool.bash", "tool.fish"]);
        let page = fs::read_to_string(out.join("tool-go.8")).unwrap();
        assert!(page.contains(".TH tool-go 8") && page.contains("Goes"), "{page}");
        assert!(fs::read_to_string(out.join("tool.bash")).unwrap().contains("far"));
    }
}
