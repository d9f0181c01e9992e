//! Arenas and secrets: walls, wiping, bookkeeping.

#![allow(unsafe_code, reason = "the tests do what a faulty or hostile program would")]
#![allow(clippy::tests_outside_test_module, reason = "a test program is a test module")]
#![allow(clippy::unwrap_used, clippy::panic, reason = "in a test, that is the report")]

mod support;

use std::borrow::Borrow;
use std::fmt::{Display, LowerHex};
use std::hash::Hash;
use std::ops::Deref;
use std::os::unix::process::ExitStatusExt as _;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use securemem::{AllocError, Arena, MemoryError, MemoryMode, Preference, Secret};
use support::{Dice, case, child, flags_of, leave, mapping_of, peek};

const PAGE: usize = 4096;
const BOTH: [Preference; 2] = [Preference::Auto, Preference::Mlock];
const PATTERN: [u8; 32] = *b"a pattern that is nowhere else!!";

/// Compiles only if the type lacks the trait: with it, the method would be ambiguous.
macro_rules! lacks {
    ($type:ty: $($bound:path),+ $(,)?) => {$(
        const _: fn() = || {
            trait Ambiguous<A> {
                fn method() {}
            }
            struct Marker;
            impl<T: ?Sized> Ambiguous<()> for T {}
            impl<T: ?Sized + $bound> Ambiguous<Marker> for T {}
            let _ = <$type as Ambiguous<_>>::method;
        };
    )+};
}

lacks!(Secret: Clone, Copy, PartialEq, Eq, PartialOrd, Hash, Default, Display, LowerHex, ToString);
lacks!(Secret: AsRef<[u8]>, AsMut<[u8]>, Borrow<[u8]>, Deref, IntoIterator, Into<Vec<u8>>);

/// Shared across workers, both of them.
const _: fn() = || {
    fn shared<T: Send + Sync + 'static>() {}
    shared::<Arena>();
    shared::<Secret>();
};

fn arena(preference: Preference) -> Arena {
    Arena::reserve(2 * PAGE, preference).unwrap()
}

fn planted(arena: &Arena) -> Secret {
    let fill = |slot: &mut [u8]| {
        slot.copy_from_slice(&PATTERN);
        Ok::<(), ()>(())
    };
    arena.alloc(PATTERN.len(), fill).unwrap()
}

fn address(secret: &Secret) -> usize {
    secret.with(|bytes| bytes.as_ptr().addr())
}

#[test]
fn modes_are_what_was_asked_for() {
    let (auto, plain) = (arena(Preference::Auto), arena(Preference::Mlock));
    assert_eq!(plain.mode(), MemoryMode::Mlock);
    assert_eq!(plain.mode().to_string(), "mlock");
    let at = mapping_of(address(&planted(&auto)));
    match auto.mode() {
        MemoryMode::MemfdSecret => assert!(at.contains("secretmem"), "{at}"),
        MemoryMode::Mlock => println!("SKIPPED in part: this kernel offers no memfd_secret"),
    }
    for arena in [auto, plain] {
        let flags = flags_of(address(&planted(&arena)));
        // Locked, not in dumps, not in children.
        for flag in ["lo", "dd", "dc"] {
            assert!(flags.iter().any(|f| f == flag), "{flag} is missing: {flags:?}");
        }
    }
}

#[test]
fn a_debugger_reads_locked_memory_but_not_secret_memory() {
    for preference in BOTH {
        let arena = arena(preference);
        let secret = planted(&arena);
        let seen = peek(address(&secret), PATTERN.len());
        match arena.mode() {
            MemoryMode::MemfdSecret => assert!(seen.is_err(), "the walls are down"),
            // The red control: the reader does find what can be found.
            MemoryMode::Mlock => assert_eq!(seen.unwrap(), PATTERN),
        }
    }
}

#[test]
fn one_byte_over_either_edge_kills() {
    if let Some(case) = case() {
        let (preference, edge) = case.split_once(' ').unwrap();
        let arena = arena(if preference == "Auto" { Preference::Auto } else { Preference::Mlock });
        let mut all = arena.zeroed(arena.capacity()).unwrap();
        let first = all.with_mut(<[u8]>::as_mut_ptr);
        let target = match edge {
            "first" => first,
            "last" => first.wrapping_add(arena.capacity() - 1),
            "before" => first.wrapping_sub(1),
            _ => first.wrapping_add(arena.capacity()),
        };
        // SAFETY: none for "before" and "behind", which is the point; the others lie within the slot.
        // JUSTIFICATION: safe code does not overflow.
        unsafe { target.write_volatile(1) };
        leave();
    }
    for preference in BOTH {
        for (edge, dies) in [("first", false), ("last", false), ("before", true), ("behind", true)] {
            let status = child("one_byte_over_either_edge_kills", &format!("{preference:?} {edge}")).status;
            assert_eq!(status.signal(), dies.then_some(libc::SIGSEGV), "{preference:?} {edge}: {status}");
        }
    }
}

#[test]
fn a_forked_child_has_no_such_memory() {
    for preference in BOTH {
        let secret = planted(&arena(preference));
        let target = secret.with(<[u8]>::as_ptr);
        // SAFETY: the child only reads one byte, where nothing is mapped any more, and leaves with async-signal-safe
        // calls; the parent waits for exactly that child.
        // JUSTIFICATION: the standard library forks only to execute.
        let status = unsafe {
            let pid = libc::fork();
            if pid == 0 {
                libc::signal(libc::SIGSEGV, libc::SIG_DFL);
                libc::_exit(i32::from(target.read_volatile()));
            }
            let mut status = 0;
            assert_eq!(libc::waitpid(pid, &raw mut status, 0), pid);
            status
        };
        assert!(libc::WIFSIGNALED(status) && libc::WTERMSIG(status) == libc::SIGSEGV, "{status}");
    }
}

#[test]
fn drop_wipes() {
    for preference in BOTH {
        let arena = arena(preference);
        let secret = planted(&arena);
        let at = address(&secret);
        drop(secret);
        if arena.mode() == MemoryMode::Mlock {
            assert_eq!(peek(at, PATTERN.len()).unwrap(), [0; 32]);
        }
        let again =
            arena.alloc(PATTERN.len(), |slot| (*slot == [0; 32]).then_some(()).ok_or("not zero")).unwrap();
        assert_eq!(address(&again), at, "first fit gives the same slot");
    }
}

#[test]
fn a_failed_or_panicking_fill_leaves_nothing() {
    let arena = arena(Preference::Mlock);
    let mut at = 0;
    let failed = arena.alloc(32, |slot| {
        at = slot.as_ptr().addr();
        slot.copy_from_slice(&PATTERN);
        Err("no")
    });
    assert_eq!(failed.map(|_| ()), Err(AllocError::Fill("no")));
    assert_eq!((peek(at, 32).unwrap(), arena.in_use()), (vec![0; 32], 0));

    let panicked = catch_unwind(AssertUnwindSafe(|| {
        let _ = arena.alloc(32, |slot| -> Result<(), ()> {
            slot.copy_from_slice(&PATTERN);
            panic!("on purpose")
        });
    }));
    assert!(panicked.is_err());
    assert_eq!((peek(at, 32).unwrap(), arena.in_use()), (vec![0; 32], 0));
    // The panic left the gate in order.
    arena.zeroise();
}

#[test]
fn full_then_freed_then_usable() {
    let arena = arena(Preference::Auto);
    let mut secrets = Vec::new();
    let refused = loop {
        match arena.zeroed(33) {
            Ok(secret) => secrets.push(secret),
            Err(error) => break error,
        }
    };
    assert_eq!(refused, AllocError::Full);
    assert_eq!((secrets.len(), arena.in_use()), (arena.capacity() / 64, arena.capacity()));
    secrets.remove(5);
    assert!(arena.zeroed(65).is_err());
    secrets.push(arena.zeroed(64).unwrap());
    drop(secrets);
    assert_eq!(arena.in_use(), 0);
    assert!(arena.zeroed(arena.capacity()).is_ok());
    assert_eq!(arena.zeroed(arena.capacity() + 1).unwrap_err(), AllocError::Full);
    assert!(arena.zeroed(0).unwrap().is_empty());
    assert!(matches!(Arena::reserve(0, Preference::Auto), Err(MemoryError::Size { bytes: 0 })));
    assert!(matches!(Arena::reserve(usize::MAX, Preference::Auto), Err(MemoryError::Size { .. })));
}

#[test]
fn random_life_never_overlaps() {
    let arena = Arena::reserve(16 * PAGE, Preference::Auto).unwrap();
    let mut dice = Dice(0x5eed);
    let mut live: Vec<(Secret, u8)> = Vec::new();
    let mut refused = 0;
    for round in 0..20_000_usize {
        if dice.below(100) < 55 {
            let tag = u8::try_from(1 + round % 255).unwrap();
            let filled = arena.alloc(dice.below(700), |slot| {
                assert!(slot.iter().all(|byte| *byte == 0), "a used slot was handed out");
                slot.fill(tag);
                Ok::<(), ()>(())
            });
            filled.map_or_else(|_| refused += 1, |secret| live.push((secret, tag)));
        } else if !live.is_empty() {
            let (secret, tag) = live.swap_remove(dice.below(live.len()));
            assert!(
                secret.with(|bytes| bytes.iter().all(|byte| *byte == tag)),
                "someone wrote into a live slot"
            );
        }
        let expected: usize = live.iter().map(|(secret, _)| secret.len().div_ceil(32).max(1) * 32).sum();
        assert_eq!(arena.in_use(), expected);
    }
    assert!(refused > 0, "the loop must reach the full arena");
    for (secret, tag) in &live {
        assert!(secret.with(|bytes| bytes.iter().all(|byte| byte == tag)));
    }
    drop(live);
    assert!(arena.zeroed(arena.capacity()).is_ok(), "everything merges again");
}

#[test]
fn debug_shows_lengths_only() {
    let arena = arena(Preference::Auto);
    let secret = planted(&arena);
    let shown = format!("{secret:?} {secret:#?} {arena:?} {arena:#?}");
    assert!(shown.starts_with("Secret { len: 32, .. }"), "{shown}");
    // As text, as hex, as a list of numbers.
    for trace in ["pattern", "61207061", "97, 32, 112"] {
        assert!(!shown.contains(trace), "{shown}");
    }
}

#[test]
fn equality_is_by_content() {
    let arena = arena(Preference::Auto);
    let (one, mut two) = (planted(&arena), planted(&arena));
    assert!(one.ct_eq(&two) && one.ct_eq(&one));
    for i in 0..32 {
        two.with_mut(|bytes| bytes[i] ^= 0x80);
        assert!(!one.ct_eq(&two), "byte {i}");
        two.with_mut(|bytes| bytes[i] ^= 0x80);
    }
    let start = arena.alloc(31, |slot| {
        slot.copy_from_slice(&PATTERN[..31]);
        Ok::<(), ()>(())
    });
    let start = start.unwrap();
    assert!(!one.ct_eq(&start) && !start.ct_eq(&one), "a beginning is not the whole");
}

#[test]
fn zeroise_wipes_live_slots() {
    for preference in BOTH {
        let arena = arena(preference);
        let secret = planted(&arena);
        arena.zeroise();
        assert!(secret.with(|bytes| bytes.iter().all(|byte| *byte == 0)));
        assert_eq!(secret.len(), 32);
    }
    let arena = arena(Preference::Auto);
    let inside = catch_unwind(AssertUnwindSafe(|| planted(&arena).with(|_| arena.zeroise())));
    assert!(inside.is_err(), "it would wait for itself");
}

/// Readers nest while `zeroise` waits at the gate: it must neither starve nor lock them out of their inner closures.
#[test]
fn zeroise_gets_through_busy_nesting_readers() {
    let arena = arena(Preference::Auto);
    let (one, two) = (planted(&arena), planted(&arena));
    let stop = AtomicBool::new(false);
    thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                while !stop.load(Ordering::Relaxed) {
                    let inner = one.with(|outer| {
                        let own = planted(&arena);
                        two.with(|inner| (outer[0], inner[0], own.with(|own| own[0])))
                    });
                    assert!(matches!(inner, (0 | b'a', 0 | b'a', b'a')));
                }
            });
        }
        for _ in 0..200 {
            let asked = Instant::now();
            arena.zeroise();
            assert!(asked.elapsed() < Duration::from_secs(5));
        }
        stop.store(true, Ordering::Relaxed);
    });
    assert!(one.with(|bytes| bytes.iter().all(|byte| *byte == 0)));
}

#[test]
fn dropped_region_is_unmapped_and_handles_keep_it() {
    let arena = arena(Preference::Mlock);
    let secret = planted(&arena);
    drop(arena);
    assert!(secret.with(|bytes| bytes == PATTERN), "a secret keeps its region");
}
