//! The machine under the two processes: random numbers, memory, processor, swap, core files.

use std::fs;

use wire::api::StatusBody;

use super::finding::Finding;
use super::house::House;
use super::processes;

const CORES: &str = "core-files";
const LOCKED: &str = "locked-memory";

/// What the module locks, with room (systemd/citykeep-hsm.service).
const LOCKED_MIN: u64 = 8 << 20;

/// The kernel says 256 once its generator is seeded; old kernels count.
const ENTROPY_MIN: u32 = 128;

pub(super) fn check(house: &House, status: Option<&StatusBody>) -> Vec<Finding> {
    vec![
        entropy(&fs::read_to_string("/proc/sys/kernel/random/entropy_avail").unwrap_or_default()),
        locked_memory(house),
        secret_memory(status),
        processor(&fs::read_to_string("/proc/cpuinfo").unwrap_or_default(), status),
        swap(&fs::read_to_string("/proc/swaps").unwrap_or_default()),
        core_files(house),
    ]
}

fn entropy(text: &str) -> Finding {
    const CHECK: &str = "entropy";
    match text.trim().parse::<u32>() {
        Ok(bits) if bits >= ENTROPY_MIN => Finding::good(
            CHECK,
            format!("内核随机数已就绪({bits} 位)"),
            format!("the kernel's random numbers are ready ({bits} bits)"),
        ),
        Ok(bits) => Finding::bad(
            CHECK,
            [
                format!("内核随机数未就绪({bits} 位)"),
                format!("the kernel's random numbers are not ready ({bits} bits)"),
            ],
            [
                "启用硬件随机数(虚拟机:virtio-rng),稍后重试",
                "give the machine a hardware source (a virtual one: virtio-rng) and wait before any ceremony",
            ],
        ),
        Err(_) => Finding::unchecked(
            CHECK,
            "/proc 中没有随机数状态",
            "/proc says nothing of the kernel's random numbers",
        ),
    }
}

/// The limit that the running module has.
fn locked_memory(house: &House) -> Finding {
    let Some(module) = processes::module(house) else {
        return Finding::unchecked(
            LOCKED,
            "密码模块没有运行",
            "the module does not run, so it has no limit yet",
        );
    };
    locked(module.limits().as_deref())
}

fn locked(limits: Option<&str>) -> Finding {
    const CHECK: &str = LOCKED;
    let limit = limits.and_then(|limits| limit(limits, "Max locked memory"));
    match limit {
        Some(bytes) if bytes >= LOCKED_MIN => {
            let size = if bytes == u64::MAX { "∞".to_owned() } else { format!("{} MiB", bytes >> 20) };
            Finding::good(
                CHECK,
                format!("密码模块可锁定内存 {size}"),
                format!("the module may lock {size} of memory; it needs 8"),
            )
        }
        Some(bytes) => Finding::bad(
            CHECK,
            [
                format!("密码模块只可锁定 {} KiB 内存", bytes >> 10),
                format!("the module may lock only {} KiB of memory", bytes >> 10),
            ],
            [
                "在单元中设置 LimitMEMLOCK=8M,或 ulimit -l 8192",
                "set LimitMEMLOCK=8M in the unit, or ulimit -l 8192",
            ],
        ),
        None => {
            Finding::unchecked(CHECK, "读取该进程的限制需要 root", "the process's limits take root to read")
        }
    }
}

/// A soft limit of `/proc/PID/limits` in bytes; no limit is `u64::MAX`.
pub(super) fn limit(limits: &str, name: &str) -> Option<u64> {
    let row = limits.lines().find_map(|line| line.strip_prefix(name))?;
    match row.split_whitespace().next()? {
        "unlimited" => Some(u64::MAX),
        bytes => bytes.parse().ok(),
    }
}

/// What the module has, if it says; else what this kernel would give it.
fn secret_memory(status: Option<&StatusBody>) -> Finding {
    const CHECK: &str = "secret-memory";
    let fallback = |why: [&str; 2]| {
        Finding::warn(
            CHECK,
            why,
            [
                "换用 Linux 6.5 以上内核,或加启动参数 secretmem.enable=1",
                "boot Linux 6.5 or newer, or with secretmem.enable=1; keys are locked either way, and unreadable for root's tools only so",
            ],
        )
    };
    match status.map(|status| status.memory.as_str()) {
        Some("memfd_secret") => {
            Finding::good(CHECK, "密钥在 memfd_secret 中", "the module's keys are in memfd_secret")
        }
        Some(_) => fallback(["密钥内存为 mlock", "the module's keys are in locked, not in secret memory"]),
        None => {
            let release = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
            let words = fs::read_to_string("/proc/cmdline").unwrap_or_default();
            match offers_secret_memory(&release, &words) {
                Some(true) => Finding::good(
                    CHECK,
                    "内核提供 memfd_secret",
                    "this kernel offers memfd_secret; what the module uses is in its status",
                ),
                Some(false) => fallback(["内核不提供 memfd_secret", "this kernel offers no memfd_secret"]),
                None => Finding::unchecked(CHECK, "内核版本未知", "the kernel's version is unknown"),
            }
        }
    }
}

/// Linux has it since 5.14, and turned on since 6.5.
fn offers_secret_memory(release: &str, words: &str) -> Option<bool> {
    let mut numbers = release.split(['.', '-']).map(|part| part.trim().parse::<u32>());
    let version = (numbers.next()?.ok()?, numbers.next()?.ok()?);
    let said = words.split_whitespace().rev().find_map(|word| word.strip_prefix("secretmem.enable="));
    let on = match said {
        Some(value) => matches!(value, "1" | "y" | "Y" | "on" | "true"),
        None => version >= (6, 5),
    };
    Some(on && version >= (5, 14))
}

/// What the ciphers can use. Which backend the module took, the module says.
fn processor(cpuinfo: &str, status: Option<&StatusBody>) -> Finding {
    const CHECK: &str = "processor";
    let flags: Vec<&str> = cpuinfo
        .lines()
        .find_map(|line| line.strip_prefix("flags").or_else(|| line.strip_prefix("Features")))
        .map_or_else(Vec::new, |line| line.split_whitespace().collect());
    if flags.is_empty() {
        return Finding::unchecked(CHECK, "/proc/cpuinfo 没有特性列表", "/proc/cpuinfo lists no features");
    }
    let wanted = ["aes", "avx2", "avx512f", "avx512bw", "avx512vbmi", "gfni", "vaes"];
    let (have, lack): (Vec<&str>, Vec<&str>) = wanted.iter().partition(|name| flags.contains(name));
    let backend = status.map_or_else(
        || "what the module uses is in its status".to_owned(),
        |status| format!("the module uses {}", status.backend),
    );
    let list = |names: &[&str]| if names.is_empty() { "–".to_owned() } else { names.join(" ") };
    Finding::good(
        CHECK,
        format!("有 {},无 {}", list(&have), list(&lack)),
        format!("has {}, lacks {}; {backend}", list(&have), list(&lack)),
    )
}

fn swap(swaps: &str) -> Finding {
    const CHECK: &str = "swap";
    let places: Vec<&str> = swaps.lines().skip(1).filter_map(|line| line.split_whitespace().next()).collect();
    if places.is_empty() {
        return Finding::good(CHECK, "没有交换区", "no swap");
    }
    Finding::warn(
        CHECK,
        [format!("有交换区 {}", places.join(" ")), format!("there is swap: {}", places.join(" "))],
        [
            "关闭或加密交换区(密钥内存已锁定,不会换出)",
            "turn it off or encrypt it; keys are locked and never swapped, but TLS keys and requests of keyd may be (the units say \
             MemorySwapMax=0)",
        ],
    )
}

/// A core file would hold memory. The module is never dumped; keyd has its limit.
fn core_files(house: &House) -> Finding {
    const CHECK: &str = CORES;
    let kernel = fs::read_to_string("/proc/sys/fs/suid_dumpable").unwrap_or_default();
    if kernel.trim() == "1" {
        return Finding::bad(
            CHECK,
            ["fs.suid_dumpable=1", "fs.suid_dumpable=1: processes that changed their user are dumped too"],
            ["执行 sysctl fs.suid_dumpable=0", "run sysctl fs.suid_dumpable=0, and find out who set it"],
        );
    }
    let (Some(module), Some(daemon)) = (processes::module(house), processes::daemon(house)) else {
        return Finding::unchecked(
            CHECK,
            "看不到两个进程",
            "the two processes are not both seen to run here",
        );
    };
    cores(&[module, daemon].map(|process| (process.name, process.limits())))
}

fn cores(running: &[(&str, Option<String>)]) -> Finding {
    const CHECK: &str = CORES;
    for (name, limits) in running {
        match limits.as_deref().and_then(|limits| limit(limits, "Max core file size")) {
            Some(0) => {}
            Some(_) => {
                return Finding::warn(
                    CHECK,
                    [format!("{name} 的核心转储未禁用"), format!("{name} has a core file limit above 0")],
                    [
                        "在单元中设置 LimitCORE=0,或 ulimit -c 0",
                        "set LimitCORE=0 in the unit, or ulimit -c 0; the module also forbids it by itself",
                    ],
                );
            }
            None => {
                return Finding::unchecked(
                    CHECK,
                    "读取进程限制需要 root",
                    "the processes' limits take root to read",
                );
            }
        }
    }
    Finding::good(CHECK, "核心转储已禁用", "no core files")
}

#[cfg(test)]
mod tests {
    use super::super::finding::State;
    use super::*;

    #[test]
    fn kernels_and_their_words() {
        for (release, words, offers) in [
            ("6.5.0-1-amd64", "quiet", Some(true)),
            ("6.1.0-18-amd64", "", Some(false)),
            ("6.1.0-18-amd64", "ro secretmem.enable=1", Some(true)),
            ("6.8.0", "secretmem.enable=1 secretmem.enable=0", Some(false)),
            ("5.10.0", "secretmem.enable=1", Some(false)),
            ("what", "", None),
        ] {
            assert_eq!(offers_secret_memory(release, words), offers, "{release} {words}");
        }
    }

    #[test]
    fn limits_are_read() {
        let text = "Limit   Soft Limit  Hard Limit  Units\nMax core file size        0                    unlimited bytes\n\
                    Max locked memory         8388608              8388608              bytes\n";
        assert_eq!(limit(text, "Max locked memory"), Some(8 << 20));
        assert_eq!(limit(text, "Max core file size"), Some(0));
        assert_eq!(limit("Max core file size unlimited unlimited", "Max core file size"), Some(u64::MAX));
        assert_eq!(limit(text, "Max nothing"), None);
    }

    #[test]
    fn a_machine_that_is_not_ready() {
        assert_eq!(entropy("12\n").state, State::Bad);
        assert_eq!(entropy("256\n").state, State::Good);
        assert_eq!(entropy("").state, State::Unchecked);
        let swaps = "Filename Type Size Used Priority\n";
        assert_eq!(swap(swaps).state, State::Good);
        assert_eq!(swap(&format!("{swaps}/dev/sda2 partition 1 0 -2\n")).state, State::Warn);
        let cpu = processor("flags\t\t: fpu aes avx2 avx512f\n", None);
        assert!(cpu.text().contains("has aes avx2 avx512f, lacks avx512bw"), "{}", cpu.text());
        assert_eq!(processor("", None).state, State::Unchecked);
    }

    #[test]
    fn what_the_processes_may_lock_and_leave_behind() {
        let limits = |core: &str, lock: &str| {
            Some(format!("Max core file size {core} {core} bytes\nMax locked memory {lock} {lock} bytes\n"))
        };
        let state = |lock: &str| locked(limits("0", lock).as_deref()).state;
        assert_eq!(state("8388608"), State::Good);
        assert_eq!(state("unlimited"), State::Good);
        assert_eq!(state("65536"), State::Bad);
        assert_eq!(locked(None).state, State::Unchecked);
        let state = |core: &str| {
            cores(&[("citykeep-hsm", limits("0", "0")), ("citykeep-keyd", limits(core, "0"))]).state
        };
        assert_eq!(state("0"), State::Good);
        assert_eq!(state("unlimited"), State::Warn);
        assert_eq!(cores(&[("citykeep-hsm", None)]).state, State::Unchecked);
    }
}
