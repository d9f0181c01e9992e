//! The hash tiles of one signed tree, from a source that is not trusted: every hash was followed up to the root before it
//! is used. One tile a level is in memory, whatever the size.

use anyhow::{Context as _, Result, bail};
use translog::note::Checkpoint;
use translog::tile::{LEVELS_MAX, TILE_WIDTH, Tile, decode_hashes, hashes_at, subtree_root};
use translog::tree::{Hash, empty_root, node_hash};

use crate::source::Source;

pub(super) struct Tree<'a> {
    source: &'a mut Source,
    size: u64,
    /// Per level the last, partial tile; empty where the last tile is full.
    edges: Vec<Vec<Hash>>,
    /// Per level the full tile that was read last.
    recent: Vec<(u64, Vec<Hash>)>,
    /// Full tiles that were read, for the copy.
    pub(super) fetched: Vec<(Tile, Vec<Hash>)>,
}

impl<'a> Tree<'a> {
    /// Reads the right edge, which leads to the root by itself.
    pub(super) async fn open(source: &'a mut Source, head: &Checkpoint) -> Result<Self> {
        let recent = vec![(u64::MAX, Vec::new()); usize::from(LEVELS_MAX)];
        let mut tree = Self { source, size: head.size, edges: Vec::new(), recent, fetched: Vec::new() };
        for level in 0..LEVELS_MAX {
            let hashes = hashes_at(level, head.size);
            let edge = match Tile::of_tree(level, hashes / TILE_WIDTH, head.size) {
                Some(tile) => tree.tile(tile).await?,
                None => Vec::new(),
            };
            tree.edges.push(edge);
        }
        if root(tree.edges.iter().map(Vec::as_slice)) != head.root {
            bail!(
                "the published tiles do not lead to the signed root: the source was changed / 日志文件与签名不符"
            );
        }
        Ok(tree)
    }

    /// A file that must be there.
    pub(super) async fn get(&mut self, path: &str) -> Result<Vec<u8>> {
        let missing = || format!("{path} is not there; the log may have grown meanwhile");
        self.source.get(path).await?.with_context(missing)
    }

    async fn tile(&mut self, tile: Tile) -> Result<Vec<Hash>> {
        let bytes = self.get(&tile.to_string()).await?;
        decode_hashes(&bytes, tile.width)
            .with_context(|| format!("{tile} has not as many hashes as it should"))
    }

    /// The partial tile of a level.
    pub(super) fn edge(&self, level: u8) -> &[Hash] {
        self.edges.get(usize::from(level)).map_or(&[], Vec::as_slice)
    }

    /// The hash `index` of a tile level: the root over its 256^level leaves.
    pub(super) async fn hash(&mut self, level: u8, index: u64) -> Result<Hash> {
        let mut below = Vec::new();
        let (mut at, mut number) = (level, index);
        let mut hash = loop {
            if let Some(hash) = self.at_hand(at, number) {
                break hash;
            }
            if at >= LEVELS_MAX {
                bail!("the signed tree has no hash {index} of level {level}");
            }
            below.push((at, number));
            (at, number) = (at + 1, number / TILE_WIDTH);
        };
        while let Some((level, number)) = below.pop() {
            let index = number / TILE_WIDTH;
            let tile = Tile { level: Some(level), index, width: TILE_WIDTH };
            let hashes = self.tile(tile).await?;
            if subtree_root(&hashes) != Some(hash) {
                bail!("{tile} is not under the signed root: the source was changed / 日志文件与签名不符");
            }
            self.fetched.push((tile, hashes.clone()));
            if let Some(recent) = self.recent.get_mut(usize::from(level)) {
                *recent = (index, hashes);
            }
            hash = self.at_hand(level, number).context("a full tile has every hash")?;
        }
        Ok(hash)
    }

    fn at_hand(&self, level: u8, number: u64) -> Option<Hash> {
        let (index, place) = (number / TILE_WIDTH, usize::try_from(number % TILE_WIDTH).ok()?);
        let row = if index == hashes_at(level, self.size) / TILE_WIDTH {
            self.edge(level)
        } else {
            let (recent, hashes) = self.recent.get(usize::from(level))?;
            if *recent == index { hashes.as_slice() } else { &[] }
        };
        row.get(place).copied()
    }

    /// Root over the first `size` leaves of this tree.
    pub(super) async fn prefix_root(&mut self, size: u64) -> Result<Hash> {
        let mut rows = Vec::new();
        for level in 0..LEVELS_MAX {
            let end = hashes_at(level, size);
            let mut row = Vec::new();
            for number in end - end % TILE_WIDTH..end {
                row.push(self.hash(level, number).await?);
            }
            rows.push(row);
        }
        Ok(root(rows.iter().map(Vec::as_slice)))
    }
}

/// Root of a tree, from the partial tiles of its right edge, lowest level first: a row of w hashes is one complete subtree for
/// each set bit of w, the largest first.
fn root<'a>(rows: impl DoubleEndedIterator<Item = &'a [Hash]>) -> Hash {
    let mut peaks = Vec::new();
    for mut row in rows.rev() {
        for bit in (0..8).rev() {
            if row.len() >> bit & 1 == 1
                && let Some((subtree, rest)) = row.split_at_checked(1 << bit)
            {
                peaks.extend(subtree_root(subtree));
                row = rest;
            }
        }
    }
    let join = |right, left| node_hash(&left, &right);
    peaks.into_iter().rev().reduce(join).unwrap_or_else(empty_root)
}
