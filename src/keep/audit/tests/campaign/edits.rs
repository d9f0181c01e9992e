//! What can be done to a log, and where it must then be found.

use translog::audit::Finding;
use translog::tile::{LEVELS_MAX, TILE_WIDTH, Tile, encode_bundle, encode_hashes, hashes_at, subtree_root};
use translog::tree::{Hash, leaf_hash};

use crate::base::{Base, Files};
use crate::random::Random;

/// Every kind that [`make`] makes of a made log.
pub(crate) const KINDS: &[&str] = &[
    "bit",
    "cut",
    "longer",
    "removed",
    "stray",
    "swapped files",
    "entries swapped",
    "entry twice",
    "entry left out",
    "entries and hashes swapped",
    "entry and hash",
    "line removed",
    "line added",
    "older checkpoint",
    "older edge",
    "mixed head",
    "fork's entries",
    "fork under its head",
    "fork under our head",
];

pub(crate) struct Edit {
    pub(crate) kind: &'static str,
    pub(crate) files: Files,
    /// Files where it may be found.
    pub(crate) at: Vec<String>,
    /// The entry that must be named, where one can be.
    pub(crate) index: Option<u64>,
}

impl Edit {
    pub(crate) fn is_there(&self, found: &Finding) -> bool {
        self.at.contains(&found.file)
            && self.index.is_none_or(|index| found.index == Some(index))
            && !found.unreadable
    }
}

pub(crate) fn make(base: &Base, random: &mut Random) -> Option<Edit> {
    let kind = *random.one(KINDS);
    let made = match kind {
        "bit" | "cut" | "longer" | "removed" => file(base, random, kind),
        "stray" => Some(stray(base, random)),
        "swapped files" => swapped_files(base, random),
        "entries swapped"
        | "entry twice"
        | "entry left out"
        | "entries and hashes swapped"
        | "entry and hash" => entries(base, random, kind),
        "line removed" | "line added" => Some(line(base, random, kind)),
        "older checkpoint" | "older edge" | "mixed head" => head(base, random, kind),
        _ => fork(base, random, kind),
    };
    made.map(|(files, at, index)| Edit { kind, files, at, index })
}

type Made = (Files, Vec<String>, Option<u64>);

fn bundle(base: &Base, index: u64) -> Tile {
    Tile::bundle(index / TILE_WIDTH, base.size).unwrap()
}

fn leaf_tile(base: &Base, index: u64) -> Tile {
    Tile::of_tree(0, index / TILE_WIDTH, base.size).unwrap()
}

/// The entry that a byte of a file belongs to.
fn entry_at(base: &Base, name: &str, at: usize) -> Option<u64> {
    let tile = Tile::parse(name)?;
    let first = tile.index * TILE_WIDTH;
    match tile.level {
        Some(0) => Some(first + at as u64 / 32),
        Some(_) => None,
        None => {
            let bytes = base.files.get(name);
            let (mut start, mut index) = (0, first);
            while start < bytes.len() {
                start += 2 + usize::from(u16::from_be_bytes([bytes[start], bytes[start + 1]]));
                if at < start {
                    return Some(index);
                }
                index += 1;
            }
            None
        }
    }
}

fn file(base: &Base, random: &mut Random, kind: &str) -> Option<Made> {
    let name = random.one(&base.files.names()).clone();
    let mut files = base.files.clone();
    let mut bytes = base.files.get(&name).to_vec();
    let is_bundle = Tile::parse(&name).is_some_and(|tile| tile.level.is_none());
    let index = match kind {
        "bit" => {
            let at = random.below(bytes.len());
            bytes[at] ^= 1 << random.below(8);
            entry_at(base, &name, at)
        }
        "cut" => {
            let at = random.below(bytes.len());
            bytes.truncate(at);
            entry_at(base, &name, at).filter(|_| is_bundle)
        }
        "longer" => {
            let more = 1 + random.below(64);
            bytes.extend((0..more).map(|_| random.next().to_be_bytes()[0]));
            None
        }
        _ => {
            // Whether there is a vkey in the directory is the operator's choice.
            files.0.remove(&name).filter(|_| name != "vkey")?;
            let first = Tile::parse(&name).filter(|tile| tile.level.is_none_or(|level| level == 0));
            return Some((files, vec![name], first.map(|tile| tile.index * TILE_WIDTH)));
        }
    };
    files.put(&name, bytes);
    Some((files, vec![name], index))
}

fn stray(base: &Base, random: &mut Random) -> Made {
    let names = base.files.names();
    let name = match random.below(4) {
        0 => format!("{}{}", random.one(&names), random.one(&["~", ".bak", "/x", "/../x"])),
        1 => format!("tile/{}/{:03}.p/{}", random.below(3), random.below(4), 1 + random.below(255)),
        2 => format!("tile/entries/{:03}", random.below(1000)),
        _ => (*random.one(&[
            "Checkpoint",
            "checkpoint.old",
            ".tmp",
            "tile/entries",
            "x",
            "tile/8/000",
            "tile/0/0",
        ]))
        .to_owned(),
    };
    let mut files = base.files.clone();
    let bytes = base.files.get(random.one::<String>(&names)).to_vec();
    if names.contains(&name) {
        files.put("stray", bytes);
        return (files, vec!["stray".to_owned()], None);
    }
    files.put(&name, bytes);
    (files, vec![name], None)
}

fn swapped_files(base: &Base, random: &mut Random) -> Option<Made> {
    let names = base.files.names();
    let (one, other) = (random.one(&names).clone(), random.one(&names).clone());
    let mut files = base.files.clone();
    if random.below(2) == 0 {
        // Only one of them has the other's content.
        files.put(&one, base.files.get(&other).to_vec());
        return (one != other).then(|| (files, vec![one], None));
    }
    files.put(&one, base.files.get(&other).to_vec());
    files.put(&other, base.files.get(&one).to_vec());
    (one != other).then(|| (files, vec![one, other], None))
}

/// Entries and leaf hashes of one log, to be written back.
struct Leaves {
    entries: Vec<Vec<u8>>,
    hashes: Vec<Hash>,
}

impl Leaves {
    fn read(base: &Base, files: &Files) -> Self {
        let mut entries = Vec::new();
        for index in (0..base.size).step_by(256) {
            let bytes = files.get(&bundle(base, index).to_string());
            let width = bundle(base, index).width;
            entries
                .extend(translog::tile::decode_bundle(bytes, width).unwrap().into_iter().map(<[u8]>::to_vec));
        }
        let hashes = entries.iter().map(|entry| leaf_hash(entry)).collect();
        Self { entries, hashes }
    }

    /// Writes the files that hold leaf `index`.
    fn write(&self, base: &Base, files: &mut Files, index: u64) {
        let first = usize::try_from(index / 256 * 256).unwrap();
        let end = self.entries.len().min(first + 256);
        files.put(&bundle(base, index).to_string(), encode_bundle(&self.entries[first..end]).unwrap());
        let end = self.hashes.len().min(first + 256);
        files.put(&leaf_tile(base, index).to_string(), encode_hashes(&self.hashes[first..end]));
    }
}

fn entries(base: &Base, random: &mut Random, kind: &str) -> Option<Made> {
    let mut leaves = Leaves::read(base, &base.files);
    let size = leaves.entries.len();
    let (one, other) = (random.below(size), random.below(size));
    let (a, b) = (one.min(other), one.max(other));
    let mut files = base.files.clone();
    match kind {
        "entries swapped" => leaves.entries.swap(a, b),
        "entry twice" => leaves.entries[a] = leaves.entries[b].clone(),
        "entry left out" => drop(leaves.entries.remove(a)),
        "entries and hashes swapped" => {
            leaves.entries.swap(a, b);
            leaves.hashes.swap(a, b);
        }
        _ => {
            // Another entry of the log with its right hash in this place.
            leaves.entries[a] = leaves.entries[b].clone();
            leaves.hashes[a] = leaves.hashes[b];
        }
    }
    if a == b && kind != "entry left out" {
        return None;
    }
    for index in [a as u64, b as u64] {
        leaves.write(base, &mut files, index);
    }
    let at = vec![bundle(base, a as u64).to_string(), leaf_tile(base, a as u64).to_string()];
    Some((files, at, Some(a as u64)))
}

fn checkpoint(files: &Files) -> String {
    String::from_utf8(files.get("checkpoint").to_vec()).unwrap()
}

fn line(base: &Base, random: &mut Random, kind: &str) -> Made {
    let note = checkpoint(&base.files);
    let (text, lines) = note.split_once("\n\n").unwrap();
    let mut lines: Vec<String> = lines.lines().map(str::to_owned).collect();
    if kind == "line removed" {
        lines.remove(random.below(lines.len()));
    } else {
        let mut line = random.one(&lines).clone();
        match random.below(3) {
            // Twice.
            0 => {}
            // By a name that nobody knows.
            1 => line = line.replacen("— ", "— x", 1),
            // Of an older head.
            _ if base.is_made() => {
                let older = checkpoint(random.one(&base.older));
                let lines: Vec<&str> = older.split_once("\n\n").unwrap().1.lines().collect();
                line = (*random.one(&lines)).to_owned();
            }
            _ => line.push('A'),
        }
        lines.insert(random.below(lines.len() + 1), line);
    }
    let mut files = base.files.clone();
    let end = if lines.is_empty() { "" } else { "\n" };
    files.put("checkpoint", format!("{text}\n\n{}{end}", lines.join("\n")).into_bytes());
    (files, vec!["checkpoint".to_owned()], None)
}

/// The newest partial files: what a head brings and takes along.
fn edge(files: &Files) -> Vec<String> {
    files.names().into_iter().filter(|name| name.contains(".p/")).collect()
}

fn head(base: &Base, random: &mut Random, kind: &str) -> Option<Made> {
    if !base.is_made() {
        return None;
    }
    let older = random.one(&base.older);
    let mut files = base.files.clone();
    if kind == "mixed head" {
        let (ours, theirs) = (checkpoint(&base.files), checkpoint(older));
        let (text, lines) = (ours.split_once("\n\n").unwrap(), theirs.split_once("\n\n").unwrap());
        let (text, lines) = if random.below(2) == 0 { (text.0, lines.1) } else { (lines.0, text.1) };
        files.put("checkpoint", format!("{text}\n\n{lines}").into_bytes());
        return Some((files, vec!["checkpoint".to_owned()], None));
    }
    files.put("checkpoint", older.get("checkpoint").to_vec());
    let mut at: Vec<String> = edge(older);
    if kind == "older edge" {
        for name in edge(&base.files) {
            files.0.remove(&name);
        }
        for name in edge(older) {
            files.put(&name, older.get(&name).to_vec());
        }
        at.clear();
        // If no file is too many, this is the log as it was: only who knows the newer head could tell.
        if files.names().iter().all(|name| older.0.contains_key(name)) {
            return None;
        }
    }
    // Its partial files are missing, or ours are too many.
    let ours = base.files.names().into_iter().filter(|name| !older.0.contains_key(name));
    at.extend(ours);
    at.push("checkpoint".to_owned());
    Some((files, at, None))
}

/// Every level above the leaves as the leaves make it.
fn upper_tiles(base: &Base, files: &mut Files, hashes: &[Hash]) {
    let mut row = hashes.to_vec();
    for level in 1..LEVELS_MAX {
        row = row.chunks_exact(256).filter_map(subtree_root).collect();
        for number in 0..hashes_at(level, base.size).div_ceil(TILE_WIDTH) {
            let tile = Tile::of_tree(level, number, base.size).unwrap();
            let first = usize::try_from(number * TILE_WIDTH).unwrap();
            let end = row.len().min(first + 256);
            files.put(&tile.to_string(), encode_hashes(&row[first..end]));
        }
    }
}

/// The same key signed another history. The witnesses have not.
fn fork(base: &Base, random: &mut Random, kind: &str) -> Option<Made> {
    if !base.is_made() {
        return None;
    }
    let (parts, theirs) = random.one(&base.forks);
    let mut files = theirs.clone();
    match kind {
        "fork under its head" => return Some((files, vec!["checkpoint".to_owned()], None)),
        "fork under our head" => files.put("checkpoint", base.files.get("checkpoint").to_vec()),
        _ => {
            // One entry of theirs, and the tree made to fit it.
            let mut leaves = Leaves::read(base, &base.files);
            let other = Leaves::read(base, theirs);
            let at =
                usize::try_from(*parts).unwrap() + random.below(usize::try_from(base.size - parts).unwrap());
            leaves.entries[at].clone_from(&other.entries[at]);
            leaves.hashes[at] = other.hashes[at];
            files = base.files.clone();
            leaves.write(base, &mut files, at as u64);
            upper_tiles(base, &mut files, &leaves.hashes);
            let index = at as u64;
            let at = [bundle(base, index).to_string(), "checkpoint".to_owned()];
            return Some((files, at.to_vec(), None));
        }
    }
    let later = (*parts..base.size).map(|index| bundle(base, index).to_string());
    let mut at: Vec<String> = later.collect();
    at.dedup();
    at.push("checkpoint".to_owned());
    Some((files, at, None))
}
