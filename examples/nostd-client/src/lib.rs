//! Publishes one message at QoS 1, without std, an operating system or a heap that somebody else provides.
#![no_std]

extern crate alloc;

mod client;
mod memory;

use core::panic::PanicInfo;
use core::slice;

use client::{Device, Failure};

/// The device's side of the connection, as C sees it.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct CDevice {
    read: extern "C" fn(*mut u8, usize) -> isize,
    write: extern "C" fn(*const u8, usize) -> isize,
    millis: extern "C" fn() -> u64,
}

impl Device for CDevice {
    fn read(&mut self, bytes: &mut [u8]) -> Option<usize> {
        usize::try_from((self.read)(bytes.as_mut_ptr(), bytes.len())).ok()
    }

    fn write(&mut self, bytes: &[u8]) -> bool {
        (self.write)(bytes.as_ptr(), bytes.len()) >= 0
    }

    fn millis(&self) -> u64 {
        (self.millis)()
    }
}

/// Connects, publishes the payload at QoS 1, waits for its PUBACK, disconnects. 0 if the broker has it.
///
/// # Safety
/// `device` points to a device, and `payload` to `len` bytes; both stay as they are during the call.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn paloma_publish(
    device: *const CDevice,
    payload: *const u8,
    len: usize,
) -> i32 {
    if device.is_null() || payload.is_null() {
        return Failure::Argument as i32;
    }
    // SAFETY: neither is null, and the caller promises the rest.
    let (mut device, payload) = unsafe { (*device, slice::from_raw_parts(payload, len)) };
    match client::publish(&mut device, payload) {
        Ok(()) => 0,
        Err(failure) => failure as i32,
    }
}

/// A device has nobody to tell; its watchdog starts it anew.
#[panic_handler]
fn panic(_: &PanicInfo<'_>) -> ! {
    loop {
        core::hint::spin_loop();
    }
}
