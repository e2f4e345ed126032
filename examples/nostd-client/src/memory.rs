//! An allocator over static memory, for one thread: it hands out what comes next, and begins anew when all was given back.

use core::alloc::{GlobalAlloc, Layout};
use core::cell::UnsafeCell;
use core::ptr;
use core::sync::atomic::{AtomicUsize, Ordering};

/// All the memory there is, in bytes.
const BYTES: usize = 16 * 1024;

#[global_allocator]
static MEMORY: Memory = Memory {
    bytes: UnsafeCell::new([0; BYTES]),
    next: AtomicUsize::new(0),
    live: AtomicUsize::new(0),
};

#[repr(align(16))]
struct Memory {
    bytes: UnsafeCell<[u8; BYTES]>,
    /// Where free memory begins.
    next: AtomicUsize,
    /// How many allocations were not given back.
    live: AtomicUsize,
}

// SAFETY: the device runs one thread and no interrupt handler allocates, so nothing is ever accessed twice at a time.
unsafe impl Sync for Memory {}

// SAFETY: every block lies within `bytes`, is aligned, and is not handed out again before it or all blocks are given back.
unsafe impl GlobalAlloc for Memory {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let base = self.bytes.get().cast::<u8>();
        let begin = self.next.load(Ordering::Relaxed);
        let begin = (base as usize + begin).next_multiple_of(layout.align()) - base as usize;
        let Some(end) = begin.checked_add(layout.size()).filter(|end| *end <= BYTES) else {
            return ptr::null_mut();
        };
        self.next.store(end, Ordering::Relaxed);
        self.live
            .store(self.live.load(Ordering::Relaxed) + 1, Ordering::Relaxed);
        // SAFETY: `begin` is at most `end`, which lies within the array.
        unsafe { base.add(begin) }
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        let begin = block as usize - self.bytes.get() as usize;
        let live = self.live.load(Ordering::Relaxed) - 1;
        self.live.store(live, Ordering::Relaxed);
        if live == 0 {
            self.next.store(0, Ordering::Relaxed);
        } else if begin + layout.size() == self.next.load(Ordering::Relaxed) {
            self.next.store(begin, Ordering::Relaxed);
        }
    }
}
