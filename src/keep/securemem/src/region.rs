//! One mapping: guard page, usable bytes, guard page.

use std::ffi::c_void;
use std::fmt;
use std::io;
use std::os::fd::{FromRawFd as _, OwnedFd, RawFd};
use std::ptr::{self, NonNull};

use rustix::mm::{self, Advice, MapFlags, MprotectFlags, ProtFlags};
use zeroize::Zeroize as _;

use crate::MemoryError;
use crate::process::memlock_limit;

/// What kind of memory a region is.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum MemoryMode {
    /// Pages outside the kernel's own map: unreadable for debuggers, dumps and `/proc/PID/mem`, root included.
    MemfdSecret,
    /// Anonymous pages, locked and left out of dumps. Root can read them.
    Mlock,
}

impl MemoryMode {
    /// The name as it stands in status and logs.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::MemfdSecret => "memfd_secret",
            Self::Mlock => "mlock",
        }
    }
}

impl fmt::Display for MemoryMode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Which mode to try.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum Preference {
    /// `memfd_secret`, or `mlock` where the kernel does not offer it.
    Auto,
    /// `mlock` always.
    Mlock,
}

/// Owns a mapping of `len` usable bytes at `base`, with an inaccessible page before and after.
pub(crate) struct Region {
    base: NonNull<u8>,
    len: usize,
    page: usize,
    mode: MemoryMode,
}

// SAFETY: the region is memory that belongs to no thread; `Region` itself hands out references only through the
// unsafe `bytes`, whose caller answers for their exclusiveness.
// JUSTIFICATION: raw pointers take both traits away, and an arena is shared by all workers.
unsafe impl Send for Region {}
// SAFETY: as above; every safe method takes `&self` and only reads plain fields.
// JUSTIFICATION: as above.
unsafe impl Sync for Region {}

impl Region {
    pub(crate) fn reserve(bytes: usize, preference: Preference) -> Result<Self, MemoryError> {
        let page = rustix::param::page_size();
        let len = bytes
            .checked_next_multiple_of(page)
            .filter(|len| (1..usize::MAX / 4).contains(len))
            .ok_or(MemoryError::Size { bytes })?;
        let whole = len + 2 * page;
        let (start, mode) = match preference {
            Preference::Auto => map_secret(whole).map(|start| (start, MemoryMode::MemfdSecret)).ok(),
            Preference::Mlock => None,
        }
        .map_or_else(|| map_plain(whole).map(|start| (start, MemoryMode::Mlock)), Ok)
        .map_err(|source| MemoryError::Map { bytes, source })?;
        let base = NonNull::new(start.cast::<u8>().wrapping_add(page))
            .ok_or_else(|| MemoryError::Map { bytes, source: io::ErrorKind::AddrNotAvailable.into() })?;
        // From here on a failure drops the region, which unmaps it.
        let region = Self { base, len, page, mode };
        region.protect().map_err(|source| MemoryError::Map { bytes, source })?;
        region.lock().map_err(|source| MemoryError::Lock { bytes, limit: memlock_limit(), source })?;
        // SAFETY: nobody else knows this region yet.
        // JUSTIFICATION: the first write to each page makes it present; `MADV_POPULATE` refuses memfd_secret.
        unsafe { region.bytes(0, len) }.zeroize();
        Ok(region)
    }

    pub(crate) const fn mode(&self) -> MemoryMode {
        self.mode
    }

    pub(crate) const fn len(&self) -> usize {
        self.len
    }

    pub(crate) const fn base(&self) -> *mut u8 {
        self.base.as_ptr()
    }

    /// # Safety
    ///
    /// `offset + len` lies within the region, and no other reference reaches these bytes while this one lives.
    #[expect(clippy::mut_from_ref, reason = "that the bytes are not shared is the caller's promise")]
    pub(crate) unsafe fn bytes(&self, offset: usize, len: usize) -> &mut [u8] {
        debug_assert!(offset.checked_add(len).is_some_and(|end| end <= self.len));
        // SAFETY: `base` starts `self.len` mapped, readable and writable, initialised bytes, which stay mapped for as
        // long as `self` is borrowed; range and exclusiveness are the caller's promise.
        // JUSTIFICATION: no safe type stands for memory that a system call returned.
        unsafe { std::slice::from_raw_parts_mut(self.base.as_ptr().add(offset), len) }
    }

    /// # Safety
    ///
    /// `offset + len` lies within the region, and no exclusive reference reaches these bytes while this one lives.
    pub(crate) unsafe fn shared(&self, offset: usize, len: usize) -> &[u8] {
        debug_assert!(offset.checked_add(len).is_some_and(|end| end <= self.len));
        // SAFETY: as in `bytes`; that nobody writes is the caller's promise.
        // JUSTIFICATION: as in `bytes`; two readers of one secret must not hold two exclusive references.
        unsafe { std::slice::from_raw_parts(self.base.as_ptr().add(offset), len) }
    }

    fn start(&self) -> *mut c_void {
        self.base.as_ptr().wrapping_sub(self.page).cast()
    }

    const fn whole(&self) -> usize {
        self.len + 2 * self.page
    }

    fn protect(&self) -> io::Result<()> {
        let behind = self.base.as_ptr().wrapping_add(self.len).cast();
        // SAFETY: both ranges are whole pages of this mapping that nothing refers to; the advice changes only what
        // dumps and forked children see.
        // JUSTIFICATION: guard pages and advice are system calls on raw addresses.
        unsafe {
            mm::mprotect(self.start(), self.page, MprotectFlags::empty())?;
            mm::mprotect(behind, self.page, MprotectFlags::empty())?;
            mm::madvise(self.start(), self.whole(), Advice::LinuxDontDump)?;
            mm::madvise(self.start(), self.whole(), Advice::LinuxDontFork)?;
        }
        Ok(())
    }

    fn lock(&self) -> io::Result<()> {
        match self.mode {
            // Locked by its nature, and counted against the limit when it was mapped.
            MemoryMode::MemfdSecret => Ok(()),
            MemoryMode::Mlock => {
                // SAFETY: the range is the usable part of this mapping; locking does not change its contents.
                // JUSTIFICATION: a system call on a raw address.
                unsafe { mm::mlock(self.base.as_ptr().cast(), self.len) }?;
                Ok(())
            }
        }
    }
}

impl Drop for Region {
    fn drop(&mut self) {
        // SAFETY: whoever drops the region holds the last handle, so that no reference into it is left; the unmapped
        // range is exactly what `reserve` mapped.
        // JUSTIFICATION: a mapping is given back by address. A failure leaves wiped memory behind, nothing to report.
        unsafe {
            self.bytes(0, self.len).zeroize();
            let _ = mm::munmap(self.start(), self.whole());
        }
    }
}

/// The guard pages are part of the file, so that no address of ours is ever mapped over.
fn map_secret(whole: usize) -> io::Result<*mut c_void> {
    // SAFETY: `memfd_secret` takes one flag word and no pointer.
    // JUSTIFICATION: neither the standard library nor rustix wraps this call.
    let fd = unsafe { libc::syscall(libc::SYS_memfd_secret, libc::O_CLOEXEC) };
    let fd = RawFd::try_from(fd).ok().filter(|fd| *fd >= 0).ok_or_else(io::Error::last_os_error)?;
    // SAFETY: the call has just returned this open descriptor, and nobody else has it.
    // JUSTIFICATION: ownership of a raw descriptor can only be asserted.
    let fd = unsafe { OwnedFd::from_raw_fd(fd) };
    rustix::fs::ftruncate(&fd, whole as u64)?;
    // SAFETY: a null hint lets the kernel choose, so that no existing mapping is touched; the file has this length and
    // the mapping keeps it alive after the descriptor is closed. Nobody else has the file, so it never shrinks.
    // JUSTIFICATION: mapping memory.
    unsafe { mm::mmap(ptr::null_mut(), whole, ProtFlags::READ | ProtFlags::WRITE, MapFlags::SHARED, &fd, 0) }
        .map_err(Into::into)
}

fn map_plain(whole: usize) -> io::Result<*mut c_void> {
    // SAFETY: a null hint lets the kernel choose, so that no existing mapping is touched.
    // JUSTIFICATION: mapping memory; guard pages need whole pages of our own.
    unsafe {
        mm::mmap_anonymous(ptr::null_mut(), whole, ProtFlags::READ | ProtFlags::WRITE, MapFlags::PRIVATE)
    }
    .map_err(Into::into)
}
