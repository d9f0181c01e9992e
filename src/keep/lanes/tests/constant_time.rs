//! No secret decides a branch or an address.
//!
//! Memcheck follows every bit of poisoned memory through the backends whose instructions it knows; where one decides a branch or
//! an address, it complains. It knows neither AVX-512 nor GFNI: of those kernels the machine code itself is read.
#![cfg(all(target_arch = "x86_64", target_os = "linux"))]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
#![expect(
    unsafe_code,
    reason = "memcheck is told what is secret by an instruction sequence that does nothing otherwise"
)]

#[path = "constant_time/disassembly.rs"]
mod disassembly;

#[cfg(test)]
mod tests {
    use std::process::{Command, Output};

    use lanes::{Backend, MacRule, Plan, ROW, Step};
    use sm4::cipher::{BlockCipherEncrypt, KeyInit};

    use super::disassembly::{functions, leaks};

    /// Set in the process that memcheck runs.
    const CHILD: &str = "CITYKEEP_POISONED";
    const MAKE_UNDEFINED: u64 = 0x4d43_0001;
    const MAKE_DEFINED: u64 = 0x4d43_0002;

    /// Asks memcheck to take memory for undefined or defined (valgrind/memcheck.h); anywhere else, nothing happens.
    fn mark(request: u64, bytes: &mut [u8]) {
        let arguments = [request, bytes.as_mut_ptr() as u64, bytes.len() as u64, 0, 0, 0];
        // SAFETY: the rotations add up to 128 bits and the exchange is of a register with itself. JUSTIFICATION: it is how
        // a program speaks to valgrind.
        unsafe {
            std::arch::asm!(
                "rol rdi, 3", "rol rdi, 13", "rol rdi, 61", "rol rdi, 51", "xchg rbx, rbx",
                in("rax") arguments.as_ptr(), inout("rdx") 0_u64 => _, inout("rdi") 0_u64 => _,
            );
        }
    }

    /// Bulk verdicts of a whole and a partial group and every single operation, on every backend, under a poisoned key.
    fn everything_under_a_secret_key() {
        let mut key = [0x3c; 16];
        mark(MAKE_UNDEFINED, &mut key);
        let rows: Vec<[u8; ROW]> =
            (0..600_usize).map(|i| std::array::from_fn(|j| (i * 7 + j).to_le_bytes()[0])).collect();
        let picks: Vec<u32> = (0..600).collect();
        for backend in Backend::available() {
            for rule in [MacRule::Sm4, MacRule::DesFolded] {
                for steps in [&[Step::PerLane][..], &[Step::PerLane, Step::Shared([9; 8])], &[]] {
                    let plan = Plan { rule, top: &key, steps, message_len: 22 };
                    let mut verdicts = [0_u64; 10];
                    backend.verify(&plan, &rows, &picks, &mut verdicts).unwrap();
                    verdicts.iter_mut().for_each(|word| {
                        let mut bytes = word.to_ne_bytes();
                        mark(MAKE_DEFINED, &mut bytes);
                        // A row that is right by chance would be one in 2³².
                        assert_eq!(bytes, [0; 8]);
                    });
                }
                let mut tag = backend.mac(rule, &key, b"a message of some length");
                mark(MAKE_DEFINED, &mut tag);
                std::hint::black_box(tag);
                let mut child = key;
                backend.diversify(rule.cipher(), &mut child, &[1, 2, 3, 4, 5, 6, 7, 8]);
            }
            let mut block = [7; 8];
            backend.tdes_encrypt(&key, &mut block);
            std::hint::black_box(backend.retail_mac(&key, b"another message"));
        }
    }

    /// What the RustCrypto crate does with a secret: a table.
    fn a_table_under_a_secret_key() {
        let mut key = [0x3c; 16];
        mark(MAKE_UNDEFINED, &mut key);
        let mut block = [0; 16].into();
        sm4::Sm4::new(&key.into()).encrypt_block(&mut block);
        std::hint::black_box(block);
    }

    /// Runs without memcheck as well, and shows then that the calls work at all.
    #[test]
    fn child() {
        match std::env::var(CHILD).as_deref() {
            Ok("table") => a_table_under_a_secret_key(),
            _ => everything_under_a_secret_key(),
        }
    }

    fn memcheck(what: &str) -> Output {
        Command::new("valgrind")
            .args(["--quiet", "--error-exitcode=99", "--track-origins=no"])
            .arg(std::env::current_exe().unwrap())
            .args(["tests::child", "--exact", "--test-threads=1"])
            .env(CHILD, what)
            .output()
            .expect("valgrind runs: install it (Debian: valgrind)")
    }

    #[test]
    fn memcheck_sees_no_secret_branch_or_address() {
        let Output { status, stderr, .. } = memcheck("backends");
        assert!(status.success(), "{}", String::from_utf8_lossy(&stderr));
    }

    /// The red control: the same machinery complains about a table.
    #[test]
    fn memcheck_sees_a_table() {
        let Output { status, stderr, .. } = memcheck("table");
        let stderr = String::from_utf8_lossy(&stderr);
        assert_eq!(status.code(), Some(99), "{stderr}");
        assert!(stderr.contains("uninitialised value"), "{stderr}");
    }

    #[test]
    fn kernels_move_no_lane_data_to_where_it_could_tell() {
        let dump = Command::new("objdump")
            .args(["-d", "--no-show-raw-insn", "-C"])
            .arg(std::env::current_exe().unwrap())
            .output()
            .expect("objdump runs: install it (Debian: binutils)");
        let dump = String::from_utf8(dump.stdout).unwrap();
        // What all lanes share comes by address as the second argument of `encrypt` (where the schedules are) and as the fourth of
        // a round of DES (which of the key's planes).
        let (second, fourth, none) =
            (["%rsi", "%esi", "%si", "%sil"], ["%rcx", "%ecx", "%cx", "%cl"], [""; 4]);
        for (kernel, tables) in [
            ("lanes::sm4::planes::avx512::encrypt", second),
            ("lanes::sm4::planes::avx512::schedule", none),
            ("lanes::sm4::planes::avx2_gfni::encrypt", second),
            ("lanes::sm4::planes::avx2_gfni::schedule", none),
            ("lanes::des::run::avx512::round_compiled", fourth),
        ] {
            let found = functions(&dump, kernel);
            assert!(!found.is_empty(), "{kernel} is not in the program under this name");
            for code in found {
                assert!(
                    code.iter().filter(|line| line.contains("mm")).count() > 100,
                    "{kernel} does nothing"
                );
                assert_eq!(leaks(&code, tables), Vec::<String>::new(), "{kernel}");
            }
        }
    }
}
