//! From the entry point of the image to the event loop.
#![expect(
    unsafe_code,
    reason = "turns the addresses in the boot info into memory"
)]

use core::{ptr, slice};

use fades_abi::ABI_MAJOR;
use fades_abi::boot::{BOOT_MAGIC, BootInfo, Region};
use fades_abi::gate::Event;

use super::{callers, gate, heap, panic};
use crate::function::Function;
use crate::output::Written;
use crate::params::Params;
use crate::reduce;
use crate::serve::{Host, Stop, serve};

/// The whole life of an image, called by its entry point.
///
/// # Safety
/// `boot` must be what the entry point was called with, and this must be the
/// only call.
pub unsafe extern "sysv64" fn run<F: Function>(boot: *const BootInfo) -> ! {
    // SAFETY: the contract says that the host passes readable boot info.
    let boot = unsafe { boot.read() };
    if boot.magic != BOOT_MAGIC || boot.abi_major != ABI_MAJOR {
        // Without the right contract there is no gate to say so through.
        panic::trap();
    }
    // SAFETY: this is the host's boot info.
    unsafe { gate::install(&boot) };
    // SAFETY: the contract says that the heap is zeroed and nobody else's.
    unsafe { heap::install(boot.heap) };
    callers::install(boot.stack);
    reduce::set_level(boot.simd);
    match live::<F>(&boot) {
        Ok(()) => gate::done(),
        Err(Stop::Abort(abort)) => gate::abort(abort.text()),
        Err(Stop::OutputFull(full)) => gate::output_full(full.needed),
    }
}

fn live<F: Function>(boot: &BootInfo) -> Result<(), Stop> {
    // SAFETY: the contract says that the parameters stay as they are.
    let given = unsafe { bytes(boot.params) };
    // SAFETY: the contract says that the context stays as it is.
    let context = unsafe { bytes(boot.context) };
    let params = Params::new(given, context);
    // SAFETY: the contract says that the output window is writable and nobody
    // else's; it is made into a slice here only.
    let window = unsafe {
        slice::from_raw_parts_mut(
            ptr::with_exposed_provenance_mut(boot.output.address as usize),
            boot.output.length as usize,
        )
    };
    serve::<F>(&mut Gate, &params, window)
}

/// Memory that the host lets the function read.
///
/// # Safety
/// The host must keep it readable and unchanged for `'a`.
unsafe fn bytes<'a>(region: Region) -> &'a [u8] {
    if region.length == 0 {
        return &[];
    }
    let start = ptr::with_exposed_provenance(region.address as usize);
    // SAFETY: the caller's.
    unsafe { slice::from_raw_parts(start, region.length as usize) }
}

struct Gate;

impl Host for Gate {
    fn next(&mut self) -> Event {
        gate::next()
    }

    fn data(&self, event: &Event) -> &[u8] {
        let region = Region {
            address: event.address,
            length: event.length,
        };
        // SAFETY: the contract says that the data stays until the next event is
        // asked for, which takes this gate mutably.
        unsafe { bytes(region) }
    }

    fn answer(&mut self, _: &[u8], written: Written) {
        gate::answer(written.values, written.readings, written.readings_length);
    }

    fn state(&mut self, _: &[u8], length: usize) {
        gate::state(length);
    }
}
