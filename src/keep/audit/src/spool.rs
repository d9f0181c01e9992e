//! What is printed waits here until the log is proved: in a file without a name, so that it may be of any size.

use std::fs::{File, OpenOptions};
use std::io::{self, BufWriter, Seek as _, Write};
use std::os::unix::fs::OpenOptionsExt as _;

/// Rows that nobody may see yet.
#[derive(Debug)]
pub(crate) struct Spool(BufWriter<File>);

impl Spool {
    pub(crate) fn new() -> io::Result<Self> {
        let dir = std::env::temp_dir();
        for number in 0..1000_u32 {
            let path = dir.join(format!("citykeep-audit-{}-{number}", std::process::id()));
            let mut options = OpenOptions::new();
            let options = options.read(true).write(true).create_new(true).mode(0o600);
            match options.open(&path) {
                Ok(file) => {
                    std::fs::remove_file(&path)?;
                    return Ok(Self(BufWriter::new(file)));
                }
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                Err(error) => return Err(error),
            }
        }
        Err(io::Error::other("the directory for temporary files is full of ours"))
    }

    /// Another row.
    pub(crate) fn line(&mut self, line: &str) -> io::Result<()> {
        writeln!(self.0, "{line}")
    }

    /// The log is proved: everything goes out, and the spool is empty again.
    pub(crate) fn release(&mut self, out: &mut impl Write) -> io::Result<()> {
        self.0.flush()?;
        let file = self.0.get_mut();
        file.rewind()?;
        io::copy(file, out)?;
        out.flush()?;
        file.set_len(0)?;
        file.rewind()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_come_out_in_order_and_once() {
        let mut spool = Spool::new().unwrap();
        let mut out = Vec::new();
        spool.line("a").unwrap();
        spool.line("b").unwrap();
        spool.release(&mut out).unwrap();
        spool.line("c").unwrap();
        spool.release(&mut out).unwrap();
        spool.release(&mut out).unwrap();
        assert_eq!(out, b"a\nb\nc\n");
    }
}
