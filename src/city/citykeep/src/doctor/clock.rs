//! Whether the clock can be believed.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use translog::entry::Entry;
use translog::tile::{TILE_WIDTH, Tile, decode_bundle};
use wire::cbor::Cbor as _;

use super::finding::Finding;
use super::house::House;

/// Clocks of two machines may differ by this much, in seconds.
pub(super) const SKEW: u64 = 60;

/// Whether something sets the clock.
pub(super) fn synchronised() -> Finding {
    let show = ["show", "--property=NTPSynchronized", "--value"];
    let asked = Command::new("timedatectl").args(show).stdin(Stdio::null()).output();
    let said = asked.ok().filter(|output| output.status.success()).map(|output| output.stdout);
    judge_sync(&String::from_utf8_lossy(&said.unwrap_or_default()))
}

fn judge_sync(said: &str) -> Finding {
    const CHECK: &str = "clock-sync";
    match said.trim() {
        "yes" => Finding::good(CHECK, "时钟已同步", "the clock is synchronised"),
        "no" => Finding::warn(
            CHECK,
            ["时钟未同步", "nothing synchronises the clock"],
            [
                "启用 systemd-timesyncd 或 chrony",
                "turn on systemd-timesyncd or chrony; licences, certificates and revocation lists end by this clock",
            ],
        ),
        _ => Finding::unchecked(
            CHECK,
            "timedatectl 不可用",
            "timedatectl does not answer here, so nobody says whether the clock is synchronised",
        ),
    }
}

/// The clock against the newest entry of the published log.
pub(super) fn against_log(house: &House, now: u64) -> Option<Finding> {
    const CHECK: &str = "clock";
    let dir = house.log_dir.as_ref()?;
    let Some(newest) = newest(dir) else {
        let dir = dir.display();
        return Some(Finding::unchecked(
            CHECK,
            format!("{dir} 中没有可读的日志"),
            format!("{dir} holds no log that can be read from here"),
        ));
    };
    if newest > now + SKEW {
        let behind = newest - now;
        return Some(Finding::bad(
            CHECK,
            [
                format!("时钟比最新的日志条目早 {behind} 秒"),
                format!("the clock is {behind} s behind the newest entry of the log: it was set back"),
            ],
            [
                "校准时钟,并查明是谁改动了它",
                "set it right, and find out who set it; until then no licence and no daily value moves on",
            ],
        ));
    }
    Some(Finding::good(
        CHECK,
        "时钟不早于日志的最新条目",
        "the clock is not behind the newest entry of the log",
    ))
}

/// When the newest published entry was made, in seconds since 1970.
fn newest(dir: &Path) -> Option<u64> {
    let note = fs::read_to_string(dir.join("checkpoint")).ok()?;
    let size: u64 = note.lines().nth(1)?.parse().ok()?;
    let tile = Tile::bundle(size.checked_sub(1)? / TILE_WIDTH, size)?;
    let bytes = fs::read(dir.join(tile.to_string())).ok()?;
    let entries = decode_bundle(&bytes, tile.width)?;
    Some(Entry::from_cbor(entries.last()?).ok()?.wall_ns / 1_000_000_000)
}

#[cfg(test)]
mod tests {
    use super::super::finding::State;
    use super::*;

    #[test]
    fn what_timedatectl_says() {
        for (said, state) in
            [("yes\n", State::Good), ("no\n", State::Warn), ("", State::Unchecked), ("n/a", State::Unchecked)]
        {
            assert_eq!(judge_sync(said).state, state, "{said:?}");
        }
    }
}
