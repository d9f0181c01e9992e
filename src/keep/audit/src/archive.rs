//! The export file: a plain ustar archive of a published log, so that any tar reads it in fifty years (SPEC.md §Export).

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read as _, Seek as _, SeekFrom, Write};
use std::os::unix::fs::FileExt as _;
use std::path::Path;

use translog::audit::Source;
use translog::tile::Tile;

const BLOCK: usize = 512;
const NAME: std::ops::Range<usize> = 0..100;
const SIZE: std::ops::Range<usize> = 124..136;
const CHECKSUM: std::ops::Range<usize> = 148..156;

/// No file of a published log is longer: a bundle of 256 entries of 65,535 bytes.
const FILE_MAX: u64 = 256 * 65_537;

/// A file's place in the archive.
type Place = (u64, u64);

/// An export file as a source.
#[derive(Debug)]
pub(crate) struct Archive {
    file: File,
    /// Most files by far are tiles, and a tile is small in memory.
    tiles: BTreeMap<Tile, Place>,
    others: BTreeMap<String, Place>,
}

impl Archive {
    /// Reads the table of contents.
    pub(crate) fn open(path: &Path) -> io::Result<Self> {
        let mut archive = Self { file: File::open(path)?, tiles: BTreeMap::new(), others: BTreeMap::new() };
        let size = archive.file.metadata()?.len();
        let mut at = 0;
        while let Some((name, length)) = header(&mut archive.file, at)? {
            let start = at + BLOCK as u64;
            at = start + length.next_multiple_of(BLOCK as u64);
            if at > size {
                return Err(broken(format!("{name} is cut short: copy the file again")));
            }
            let twice = match Tile::parse(&name) {
                Some(tile) => archive.tiles.insert(tile, (start, length)),
                None => archive.others.insert(name.clone(), (start, length)),
            };
            if twice.is_some() {
                return Err(broken(format!("{name} is in it twice")));
            }
        }
        // Two empty blocks end an archive, and nothing follows them.
        if size != at + 2 * BLOCK as u64 || !is_empty(&mut archive.file, at, size)? {
            return Err(broken("it does not end as an export does: bytes are missing or follow".to_owned()));
        }
        Ok(archive)
    }
}

impl Source for Archive {
    fn read(&self, name: &str) -> io::Result<Option<Vec<u8>>> {
        let place = match Tile::parse(name) {
            Some(tile) => self.tiles.get(&tile),
            None => self.others.get(name),
        };
        let Some((start, length)) = place else {
            return Ok(None);
        };
        let length = usize::try_from(*length).map_err(io::Error::other)?;
        let mut bytes = vec![0; length.next_multiple_of(BLOCK)];
        self.file.read_exact_at(&mut bytes, *start)?;
        // The file's last block is filled with zeros, and with nothing else.
        if bytes.split_off(length).iter().any(|byte| *byte != 0) {
            return Err(broken(format!("bytes follow {name}: copy the file again")));
        }
        Ok(Some(bytes))
    }

    fn names(&self) -> io::Result<Option<Vec<String>>> {
        let tiles = self.tiles.keys().map(Tile::to_string);
        Ok(Some(self.others.keys().cloned().chain(tiles).collect()))
    }

    fn is_live(&self) -> bool {
        false
    }
}

fn broken(why: String) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, why)
}

/// Name and length of the file whose header is at `at`; `None` for the empty block that ends the archive.
fn header(file: &mut File, at: u64) -> io::Result<Option<(String, u64)>> {
    let mut block = [0; BLOCK];
    file.seek(SeekFrom::Start(at))?;
    file.read_exact(&mut block)?;
    if block == [0; BLOCK] {
        return Ok(None);
    }
    let bad = || broken("it is not an export file of citykeep audit".to_owned());
    let text = |range| block.get::<std::ops::Range<usize>>(range).unwrap_or_default();
    let name = text(NAME).split(|byte| *byte == 0).next().unwrap_or_default();
    let name = str::from_utf8(name).map_err(|_| bad())?;
    let digits = str::from_utf8(text(SIZE)).map_err(|_| bad())?;
    let length = u64::from_str_radix(digits.trim_end_matches('\0'), 8).map_err(|_| bad())?;
    // One spelling: what we would write is what stands there, so that no byte of a header is left out.
    if length > FILE_MAX || entry_header(name, length).as_ref() != Some(&block) {
        return Err(bad());
    }
    Ok(Some((name.to_owned(), length)))
}

fn is_empty(file: &mut File, from: u64, to: u64) -> io::Result<bool> {
    let mut rest = Vec::new();
    file.seek(SeekFrom::Start(from))?;
    file.take(to - from).read_to_end(&mut rest)?;
    Ok(rest.iter().all(|byte| *byte == 0))
}

/// The ustar header of a plain file: mode 0644, owner 0, time 0.
fn entry_header(name: &str, length: u64) -> Option<[u8; BLOCK]> {
    let mut block = [0; BLOCK];
    let mut put = |at: usize, bytes: &[u8]| {
        let place = block.get_mut(at..at + bytes.len())?;
        place.copy_from_slice(bytes);
        Some(())
    };
    put(NAME.start, name.as_bytes()).filter(|()| (1..=100).contains(&name.len()))?;
    put(100, b"0000644\x000000000\x000000000\0")?;
    put(SIZE.start, format!("{length:011o}\0").as_bytes())?;
    put(136, b"00000000000\0")?;
    put(CHECKSUM.start, b"        ")?;
    put(156, b"0")?;
    put(257, b"ustar\x0000")?;
    let sum: u32 = block.iter().map(|byte| u32::from(*byte)).sum();
    block.get_mut(CHECKSUM)?.copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    Some(block)
}

/// Writes one file into an archive.
pub(crate) fn add(out: &mut impl Write, name: &str, bytes: &[u8]) -> io::Result<()> {
    let header = entry_header(name, bytes.len() as u64);
    out.write_all(&header.ok_or_else(|| broken(format!("{name} is too long a name")))?)?;
    out.write_all(bytes)?;
    let filling = bytes.len().next_multiple_of(BLOCK) - bytes.len();
    out.write_all([0; BLOCK].get(..filling).unwrap_or_default())
}

/// Ends an archive.
pub(crate) fn end(out: &mut impl Write) -> io::Result<()> {
    out.write_all(&[0; 2 * BLOCK])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn archive(files: &[(&str, &[u8])]) -> Vec<u8> {
        let mut bytes = Vec::new();
        for (name, content) in files {
            add(&mut bytes, name, content).unwrap();
        }
        end(&mut bytes).unwrap();
        bytes
    }

    fn open(bytes: &[u8]) -> io::Result<Archive> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x.tar");
        std::fs::write(&path, bytes).unwrap();
        Archive::open(&path)
    }

    #[test]
    fn what_goes_in_comes_out_and_tar_agrees() {
        let long = vec![7; 1025];
        let files: [(&str, &[u8]); 4] = [
            ("checkpoint", b"note"),
            ("vkey", b""),
            ("tile/0/000", &long),
            ("tile/entries/000.p/3", &[1; 512]),
        ];
        let bytes = archive(&files);
        let opened = open(&bytes).unwrap();
        for (name, content) in files {
            assert_eq!(opened.read(name).unwrap().as_deref(), Some(content), "{name}");
        }
        assert_eq!(opened.read("tile/0/001").unwrap(), None);
        assert_eq!(opened.names().unwrap().unwrap().len(), 4);
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("x.tar"), &bytes).unwrap();
        let tar = std::process::Command::new("tar").args(["-xf", "x.tar"]).current_dir(dir.path()).status();
        assert!(tar.unwrap().success());
        assert_eq!(std::fs::read(dir.path().join("tile/0/000")).unwrap(), long);
    }

    #[test]
    fn every_byte_outside_the_files_counts() {
        let bytes = archive(&[("checkpoint", &[1; 512]), ("tile/0/000", &[2; 512])]);
        open(&bytes).unwrap();
        let content = |at: usize| (512..1024).contains(&at) || (1536..2048).contains(&at);
        for at in (0..bytes.len()).filter(|at| !content(*at)) {
            let mut bad = bytes.clone();
            bad[at] ^= 1;
            assert!(open(&bad).is_err(), "byte {at}");
        }
        for length in [0, 511, 512, 1024, bytes.len() - 512, bytes.len() - 1] {
            assert!(open(&bytes[..length]).is_err(), "{length}");
        }
        let mut filled = archive(&[("checkpoint", &[1; 500])]);
        filled[1020] = 1;
        assert!(open(&filled).unwrap().read("checkpoint").is_err());
        assert!(open(&[bytes.as_slice(), &[0]].concat()).is_err());
        assert!(open(&archive(&[("checkpoint", b"a"), ("checkpoint", b"a")])).is_err());
    }
}
