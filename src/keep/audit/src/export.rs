//! `audit export`

use std::fs::{File, OpenOptions};
use std::io::{self, BufWriter, Read as _};
use std::path::Path;

use serde_json::json;
use sha2::{Digest as _, Sha256};
use translog::audit::Source as _;
use translog::note::open_checkpoint;
use translog::policy::Policy;
use translog::tile::{LEVELS_MAX, TILE_WIDTH, Tile, hashes_at};
use wire::purse::to_hex;

use crate::archive::{self, Archive};
use crate::cli::Export;
use crate::failure::{Failure, Said, unwritten};
use crate::place::{self, Place};
use crate::verify;

const CHECKPOINT: &str = "checkpoint";

/// The writer publishes about once a second; a head whose partial tiles are gone already is left for the next one.
const TRIES: u32 = 5;

pub(crate) fn run(arguments: &Export) -> Result<Said, Failure> {
    let place = Place::of(&arguments.which)?;
    let policy = place::trusted(&arguments.which.trust.anchor)?;
    let out = &arguments.out;
    let mut options = OpenOptions::new();
    let file = options.write(true).create_new(true).open(out);
    let file = file.map_err(|error| match error.kind() {
        io::ErrorKind::AlreadyExists => {
            Failure::untried(format!("{}: is there already; an export overwrites nothing", out.display()))
        }
        _ => unwritten(out, &error),
    })?;
    let done = write(&place, &policy, file, out).and_then(|()| judge(arguments));
    if done.is_err() {
        // Half an export is none.
        let _ = std::fs::remove_file(out);
    }
    done
}

/// What is verified is the file that was written, not what it was written from.
fn judge(arguments: &Export) -> Result<Said, Failure> {
    let out = &arguments.out;
    let name = out.display().to_string();
    let archive = Archive::open(out).map_err(|error| unwritten(out, &error))?;
    let mut verifier = place::verifier(&arguments.which.trust)?;
    let mut meter = Metered(crate::Meter::new("entries"));
    let log = verifier.advance(&archive, &mut meter).map_err(|found| Failure::log(&name, &found))?;
    let digest = digest(out).map_err(|error| unwritten(out, &error))?;
    let mut lines = vec![format!("已导出 exported {name}, SHA-256 {}", to_hex(&digest))];
    lines.extend(verify::lines(&log));
    let mut object = verify::object(&log);
    if let Some(object) = object.as_object_mut() {
        object.insert("file".into(), json!(name));
        object.insert("sha256".into(), json!(to_hex(&digest)));
    }
    Ok(Said { lines, json: object })
}

struct Metered(crate::Meter);

impl translog::audit::Watch for Metered {
    fn progress(&mut self, done: u64, total: u64) {
        self.0.show(done, total);
    }
}

fn write(place: &Place, policy: &Policy, file: File, out: &Path) -> Result<(), Failure> {
    for _ in 0..TRIES {
        let note = must(place, CHECKPOINT)?;
        if let Some((size, vkey, edge)) = edge(place, policy, &note)? {
            let mut buffer = BufWriter::new(file);
            let written = fill(&mut buffer, place, &note, &vkey, size, &edge)?;
            let written = written.and_then(|()| buffer.into_inner().map_err(io::IntoInnerError::into_error));
            return written.and_then(|file| file.sync_all()).map_err(|error| unwritten(out, &error));
        }
    }
    Err(Failure::no_result(
        "log",
        format!("{}: grows faster than it can be read; export a copy of it", place.name),
    ))
}

type Edge = Vec<(Tile, Vec<u8>)>;

/// The checkpoint's partial tiles, read at once; `None` if a newer head took them away.
fn edge(place: &Place, policy: &Policy, note: &[u8]) -> Result<Option<(u64, String, Edge)>, Failure> {
    let text = str::from_utf8(note).unwrap_or_default();
    let opened = policy.logs().iter().find_map(|log| {
        let head = open_checkpoint(text, &log.key).ok()?;
        Some((head.size, format!("{}\n", log.key)))
    });
    let Some((size, vkey)) = opened else {
        let name = &place.name;
        return Err(Failure::no_result(
            "log",
            format!("{name}: its checkpoint is not signed by a log that is trusted"),
        ));
    };
    let mut edge = Vec::new();
    for tile in levels(size).filter(|tile| !tile.is_full()) {
        match read(place, &tile.to_string())? {
            Some(bytes) => edge.push((tile, bytes)),
            None => return Ok(None),
        }
    }
    Ok(Some((size, vkey, edge)))
}

/// The last file of each level, and of the bundles.
fn levels(size: u64) -> impl Iterator<Item = Tile> {
    let last = move |level| hashes_at(level, size).checked_sub(1).map(|last| last / TILE_WIDTH);
    let bundle = last(0).and_then(|last| Tile::bundle(last, size));
    let tiles = (0..LEVELS_MAX).filter_map(move |level| Tile::of_tree(level, last(level)?, size));
    bundle.into_iter().chain(tiles)
}

/// Everything under the head, in the order of its names: checkpoint, vkey, bundles, tiles level by level.
fn fill(
    out: &mut impl io::Write,
    place: &Place,
    note: &[u8],
    vkey: &str,
    size: u64,
    edge: &Edge,
) -> Result<io::Result<()>, Failure> {
    let mut written = archive::add(out, CHECKPOINT, note);
    written = written.and_then(|()| archive::add(out, "vkey", vkey.as_bytes()));
    let bundles = (0..size.div_ceil(TILE_WIDTH)).filter_map(|number| Tile::bundle(number, size));
    let tiles = (0..LEVELS_MAX).flat_map(|level| {
        let count = hashes_at(level, size).div_ceil(TILE_WIDTH);
        (0..count).filter_map(move |number| Tile::of_tree(level, number, size))
    });
    for tile in bundles.chain(tiles) {
        let name = tile.to_string();
        let known = edge.iter().find(|(known, _)| *known == tile);
        let bytes = match known {
            Some((_, bytes)) => bytes.clone(),
            None => must(place, &name)?,
        };
        written = written.and_then(|()| archive::add(out, &name, &bytes));
        if written.is_err() {
            break;
        }
    }
    Ok(written.and_then(|()| archive::end(out)).and_then(|()| out.flush()))
}

fn read(place: &Place, name: &str) -> Result<Option<Vec<u8>>, Failure> {
    place
        .read(name)
        .map_err(|error| Failure::no_result("unreadable", format!("{}: {name}: {error}", place.name)))
}

fn must(place: &Place, name: &str) -> Result<Vec<u8>, Failure> {
    read(place, name)?
        .ok_or_else(|| Failure::no_result("log", format!("{}: {name}: the file is missing", place.name)))
}

fn digest(path: &Path) -> io::Result<[u8; 32]> {
    let mut file = File::open(path)?;
    let (mut hash, mut buffer) = (Sha256::new(), vec![0; 1 << 20]);
    loop {
        match file.read(&mut buffer)? {
            0 => return Ok(hash.finalize().into()),
            read => hash.update(buffer.get(..read).unwrap_or_default()),
        }
    }
}
