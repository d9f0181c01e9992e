//! The disk of the log: room, and how long it takes to make something durable.

use std::fs::File;
use std::io::Write as _;
use std::path::Path;
use std::time::{Duration, Instant};

use rustix::fs::{Mode, OFlags, open, statvfs};

use super::finding::Finding;
use super::house::House;

const ROOM: &str = "disk-room";
const SYNC: &str = "disk-sync";

/// Below this keyd may stop in the middle of a day.
const ROOM_MIN: u64 = 256 << 20;
/// Below this somebody should look.
const ROOM_LOW: u64 = 2 << 30;
const FILES_MIN: u64 = 1000;

const SYNCS: u32 = 32;
/// Every answer of the service waits for one sync.
const SLOW: Duration = Duration::from_millis(50);

pub(super) fn check(house: &House) -> Vec<Finding> {
    let mut findings = Vec::new();
    // One line where both are on one disk.
    let mut seen = None;
    for dir in [&house.state_dir, &house.log_dir].into_iter().flatten() {
        let disk = std::os::unix::fs::MetadataExt::dev;
        let of = std::fs::metadata(dir).ok().map(|meta| disk(&meta));
        if of.is_none() || of != seen {
            findings.push(room(dir));
        }
        seen = of.or(seen);
    }
    if let Some(dir) = &house.state_dir {
        findings.push(sync(dir));
    }
    findings
}

fn room(dir: &Path) -> Finding {
    const CHECK: &str = ROOM;
    let name = dir.display();
    let Ok(disk) = statvfs(dir) else {
        return Finding::unchecked(
            CHECK,
            format!("{name} 不可读"),
            format!("{name} cannot be looked at from here"),
        );
    };
    // Some file systems have no fixed number of files and say 0.
    let files = if disk.f_files == 0 { u64::MAX } else { disk.f_favail };
    judge_room(dir, disk.f_bavail.saturating_mul(disk.f_frsize), files)
}

/// `free` bytes and `files` more files.
fn judge_room(dir: &Path, free: u64, files: u64) -> Finding {
    const CHECK: &str = ROOM;
    let name = dir.display();
    let size = format!("{} MiB", free >> 20);
    let next = [
        format!("扩大 {name} 所在的磁盘;日志不可删除"),
        format!("enlarge the disk of {name}; nothing of a log may be removed to make room"),
    ];
    if free < ROOM_MIN || files < FILES_MIN {
        return Finding::bad(
            CHECK,
            [
                format!("{name} 空间将尽:{size}"),
                format!("{name} is nearly full: {size} and {files} files are left"),
            ],
            next,
        );
    }
    if free < ROOM_LOW {
        return Finding::warn(
            CHECK,
            [format!("{name} 只剩 {size}"), format!("{size} are left for {name}")],
            next,
        );
    }
    Finding::good(CHECK, format!("{name} 剩余 {size}"), format!("{size} are free for {name}"))
}

/// Writes to a file without a name on the disk of the write-ahead log, and times fdatasync.
fn sync(dir: &Path) -> Finding {
    const CHECK: &str = SYNC;
    let name = dir.display();
    match measure(dir) {
        Ok(times) => judge_sync(dir, times),
        Err(error) => Finding::unchecked(
            CHECK,
            format!("无法在 {name} 测量({error})"),
            format!("cannot be measured in {name} ({error}); run doctor as root or as keyd's user"),
        ),
    }
}

fn judge_sync(dir: &Path, mut times: Vec<Duration>) -> Finding {
    const CHECK: &str = SYNC;
    let name = dir.display();
    times.sort_unstable();
    let median = times.get(times.len() / 2).copied().unwrap_or_default();
    let longest = times.last().copied().unwrap_or_default();
    let text =
        format!("median {:.1} ms, max {:.1} ms", median.as_secs_f64() * 1e3, longest.as_secs_f64() * 1e3);
    if median > SLOW {
        return Finding::warn(
            CHECK,
            [
                format!("{name} 落盘慢:{text}"),
                format!("fdatasync in {name} is slow: {text}; every answer waits for one"),
            ],
            [
                "把 state_dir 放到快速磁盘(带掉电保护的 SSD)",
                "put state_dir on a fast disk (an SSD that keeps its promises at a power cut)",
            ],
        );
    }
    Finding::good(CHECK, format!("{name} 落盘延迟 {text}"), format!("fdatasync in {name}: {text}"))
}

fn measure(dir: &Path) -> std::io::Result<Vec<Duration>> {
    let flags = OFlags::TMPFILE | OFlags::WRONLY | OFlags::CLOEXEC;
    let mut file = File::from(open(dir, flags, Mode::RUSR | Mode::WUSR)?);
    let mut times = Vec::new();
    for _ in 0..SYNCS {
        file.write_all(&[0; 4096])?;
        let started = Instant::now();
        file.sync_data()?;
        times.push(started.elapsed());
    }
    Ok(times)
}

#[cfg(test)]
mod tests {
    use super::super::finding::State;
    use super::*;

    #[test]
    fn a_disk_is_measured_and_nothing_stays() {
        let dir = tempfile::tempdir().unwrap();
        let found = sync(dir.path());
        assert!(found.text().contains("median") && found.state != State::Unchecked, "{}", found.text());
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
        assert_eq!(sync(Path::new("/nowhere")).state, State::Unchecked);
        assert_eq!(room(Path::new("/nowhere")).state, State::Unchecked);
    }

    #[test]
    fn disks_that_are_full_or_slow() {
        let room = |free, files| judge_room(Path::new("/log"), free, files).state;
        assert_eq!(room(ROOM_LOW, FILES_MIN), State::Good);
        assert_eq!(room(ROOM_LOW - 1, FILES_MIN), State::Warn);
        assert_eq!(room(ROOM_MIN - 1, FILES_MIN), State::Bad);
        assert_eq!(room(ROOM_LOW, FILES_MIN - 1), State::Bad);
        let times = |slow: usize| {
            let time = |at| if at < slow { SLOW + SLOW } else { Duration::from_micros(80) };
            judge_sync(Path::new("/state"), (0..32).map(time).collect()).state
        };
        assert_eq!(times(3), State::Good);
        assert_eq!(times(30), State::Warn);
    }
}
