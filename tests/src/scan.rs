//! Reads another process's memory, as root could.

use std::fs::{self, File};
use std::os::unix::fs::FileExt;

/// A place where a pattern was found.
#[derive(Debug)]
pub struct Hit {
    /// Which pattern.
    pub pattern: String,
    /// The mapping, as /proc/PID/maps names it.
    pub mapping: String,
}

/// What a scan saw.
#[derive(Debug, Default)]
pub struct Scan {
    /// Hits.
    pub hits: Vec<Hit>,
    /// Bytes that could be read.
    pub read: u64,
    /// Mappings that could not be read.
    pub closed: u64,
}

/// Looks for patterns in every readable page of a process.
pub fn scan(pid: u32, patterns: &[(String, Vec<u8>)]) -> Scan {
    let maps = fs::read_to_string(format!("/proc/{pid}/maps")).unwrap();
    let memory = File::open(format!("/proc/{pid}/mem")).unwrap();
    let mut scan = Scan::default();
    for line in maps.lines() {
        let (range, rest) = line.split_once(' ').unwrap();
        if !rest.starts_with('r')
            || line.ends_with("[vvar]")
            || line.contains("[vsyscall]")
            || line.contains("vvar_vclock")
        {
            continue;
        }
        let (start, end) = range.split_once('-').unwrap();
        let (start, end) = (u64::from_str_radix(start, 16).unwrap(), u64::from_str_radix(end, 16).unwrap());
        let mut bytes = vec![0; usize::try_from(end - start).unwrap()];
        if memory.read_exact_at(&mut bytes, start).is_err() {
            scan.closed += 1;
            continue;
        }
        scan.read += end - start;
        for (name, pattern) in patterns {
            if bytes.windows(pattern.len()).any(|window| window == pattern.as_slice()) {
                scan.hits.push(Hit { pattern: name.clone(), mapping: line.to_owned() });
            }
        }
    }
    scan
}

/// A key in the forms in which a program might leave it: raw, each half, words reversed, hex of either case.
pub fn forms(name: &str, key: &[u8; 16]) -> Vec<(String, Vec<u8>)> {
    let upper = wire::purse::to_hex(key);
    let lower = upper.to_lowercase();
    let reversed =
        |width: usize| -> Vec<u8> { key.chunks(width).flat_map(|word| word.iter().rev().copied()).collect() };
    vec![
        (format!("{name} raw"), key.to_vec()),
        (format!("{name} left half"), key[..8].to_vec()),
        (format!("{name} right half"), key[8..].to_vec()),
        (format!("{name} words reversed"), reversed(4)),
        (format!("{name} long words reversed"), reversed(8)),
        (format!("{name} hex"), lower.into_bytes()),
        (format!("{name} HEX"), upper.into_bytes()),
    ]
}
