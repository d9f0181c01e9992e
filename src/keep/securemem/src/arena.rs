use std::cell::Cell;
use std::convert::Infallible;
use std::fmt;
use std::hint::black_box;
use std::marker::PhantomData;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard};

use zeroize::Zeroize as _;

use crate::free_list::FreeList;
use crate::region::Region;
use crate::{AllocError, MemoryError, MemoryMode, Preference};

/// Slots start at multiples of this many bytes and occupy whole ones.
const UNIT: usize = 32;

/// A reserved region of secret memory and its free list. Clones are handles to the same region.
#[derive(Clone)]
pub struct Arena {
    inner: Arc<Inner>,
}

struct Inner {
    region: Region,
    /// Free units hold zeros only: a slot is wiped before it comes back.
    free: Mutex<FreeList>,
}

impl Arena {
    /// Reserves `bytes`, rounded up to pages: mapped, present and locked when this returns.
    pub fn reserve(bytes: usize, preference: Preference) -> Result<Self, MemoryError> {
        let region = Region::reserve(bytes, preference)?;
        let free = Mutex::new(FreeList::new(region.len() / UNIT));
        Ok(Self { inner: Arc::new(Inner { region, free }) })
    }

    /// Takes a slot of `len` bytes, all zero, and fills it in place. If `fill` fails, the slot is wiped and freed.
    pub fn alloc<E>(
        &self,
        len: usize,
        fill: impl FnOnce(&mut [u8]) -> Result<(), E>,
    ) -> Result<Secret, AllocError<E>> {
        // An empty secret takes a unit too, so that every secret has a place of its own.
        let start = self.inner.free().take(units(len)).ok_or(AllocError::Full)?;
        // Built before the fill: an error or a panic in there drops it, which wipes and frees.
        let mut secret = Secret { inner: Arc::clone(&self.inner), start, len };
        secret.with_mut(fill).map_err(AllocError::Fill)?;
        Ok(secret)
    }

    /// Takes a slot of `len` zero bytes.
    pub fn zeroed(&self, len: usize) -> Result<Secret, AllocError<Infallible>> {
        self.alloc(len, |_| Ok(()))
    }

    /// Wipes the whole region, live slots included: their owners read zeros from now on.
    ///
    /// Waits until no closure reads or writes a secret of this process, and holds new ones back until it is done.
    ///
    /// # Panics
    ///
    /// If called from inside such a closure, which it would have to wait for.
    pub fn zeroise(&self) {
        assert_eq!(DEPTH.get(), 0, "zeroise inside a closure that uses a secret");
        let _all = GATE.write().unwrap_or_else(PoisonError::into_inner);
        // SAFETY: the range is the whole region. References into it exist only inside `Secret`'s methods, which hold
        // the gate shared; here it is held exclusively.
        // JUSTIFICATION: owners hold their slots as `Secret`, so no safe path reaches all of them.
        unsafe { self.inner.region.bytes(0, self.inner.region.len()) }.zeroize();
    }

    /// What kind of memory this is.
    pub fn mode(&self) -> MemoryMode {
        self.inner.region.mode()
    }

    /// Bytes that slots can occupy.
    pub fn capacity(&self) -> usize {
        self.inner.region.len() / UNIT * UNIT
    }

    /// Bytes that live slots occupy; a slot takes a multiple of 32.
    pub fn in_use(&self) -> usize {
        self.capacity() - self.inner.free().free_units() * UNIT
    }
}

impl fmt::Debug for Arena {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Arena")
            .field("mode", &self.mode())
            .field("capacity", &self.capacity())
            .field("in_use", &self.in_use())
            .finish_non_exhaustive()
    }
}

impl Inner {
    fn free(&self) -> MutexGuard<'_, FreeList> {
        // The list is whole between any two of its calls, and none of them runs foreign code.
        self.free.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Bytes in an arena. No way leads out but a closure: no `Clone`, no `PartialEq`, no contents in `Debug`.
///
/// ```compile_fail
/// # use securemem::{Arena, Preference};
/// let secret = Arena::reserve(4096, Preference::Auto).unwrap().zeroed(16).unwrap();
/// let copy = secret.clone();
/// ```
pub struct Secret {
    inner: Arc<Inner>,
    start: usize,
    len: usize,
}

impl Secret {
    /// Lends the bytes for writing.
    pub fn with_mut<R>(&mut self, f: impl FnOnce(&mut [u8]) -> R) -> R {
        let _pass = Pass::enter();
        // SAFETY: the free list gave these units to this secret alone, so they lie within the region and no other
        // secret overlaps them; `&mut self` keeps other users of this one out, the pass keeps `zeroise` out.
        // JUSTIFICATION: slots of one shared region cannot be borrowed apart in safe code.
        f(unsafe { self.inner.region.bytes(self.start * UNIT, self.len) })
    }

    /// Lends the bytes for reading.
    pub fn with<R>(&self, f: impl FnOnce(&[u8]) -> R) -> R {
        let _pass = Pass::enter();
        // SAFETY: as in `with_mut`; `&self` allows other readers only.
        // JUSTIFICATION: as in `with_mut`.
        f(unsafe { self.inner.region.shared(self.start * UNIT, self.len) })
    }

    /// Length in bytes.
    pub const fn len(&self) -> usize {
        self.len
    }

    /// Whether the length is zero.
    pub const fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Compares in a time that depends on the lengths alone. Secrets of different length differ.
    pub fn ct_eq(&self, other: &Self) -> bool {
        if self.len != other.len {
            return false;
        }
        let difference = self.with(|a| {
            // The barrier keeps the compiler from proving that it may stop at the first difference.
            other.with(|b| a.iter().zip(b).fold(0, |sum, (a, b)| black_box(sum | (a ^ b))))
        });
        difference == 0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Secret").field("len", &self.len).finish_non_exhaustive()
    }
}

impl Drop for Secret {
    fn drop(&mut self) {
        self.with_mut(<[u8]>::zeroize);
        self.inner.free().give(self.start, units(self.len));
    }
}

fn units(len: usize) -> usize {
    len.div_ceil(UNIT).max(1)
}

/// Held shared by everyone who uses secret bytes, exclusively by `zeroise`. One for all arenas: `DEPTH` can then say
/// for the whole process whether this thread is inside.
static GATE: RwLock<()> = RwLock::new(());

thread_local! {
    static DEPTH: Cell<usize> = const { Cell::new(0) };
}

/// A closure is running. Only the outermost on a thread takes the gate: a second shared lock would wait for a
/// `zeroise` that itself waits for the first.
struct Pass {
    _outermost: Option<RwLockReadGuard<'static, ()>>,
    // `DEPTH` belongs to this thread.
    _not_send: PhantomData<*const ()>,
}

impl Pass {
    fn enter() -> Self {
        let depth = DEPTH.get();
        let outermost = (depth == 0).then(|| GATE.read().unwrap_or_else(PoisonError::into_inner));
        DEPTH.set(depth + 1);
        Self { _outermost: outermost, _not_send: PhantomData }
    }
}

impl Drop for Pass {
    fn drop(&mut self) {
        DEPTH.set(DEPTH.get() - 1);
    }
}
