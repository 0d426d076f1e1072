//! What happens when a function panics: message and place go to the host.

use core::fmt::Write as _;
use core::panic::PanicInfo;

use super::gate;
use crate::log::Line;

#[panic_handler]
fn panicked(info: &PanicInfo<'_>) -> ! {
    let mut line = Line::new();
    if let Some(place) = info.location() {
        line.place(place);
    }
    // A line takes what fits and never fails.
    let _ = write!(line, "{}", info.message());
    gate::panic(line.text())
}

/// Ends the function where nothing can be told to the host any more.
#[expect(unsafe_code, reason = "an instruction that always faults")]
pub(super) fn trap() -> ! {
    // SAFETY: `ud2` raises an invalid-opcode fault and does nothing else.
    unsafe { core::arch::asm!("ud2", options(noreturn, nomem, nostack)) }
}
