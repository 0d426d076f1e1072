//! Code that is assembled into the tender and copied to where it runs.

/// Makes a function that gives the bytes between two symbols of a
/// `global_asm!` beside it, which must bound constants.
macro_rules! assembled {
    ($(#[$about:meta])* $visible:vis fn $name:ident = $start:ident .. $end:ident) => {
        $(#[$about])*
        $visible fn $name() -> &'static [u8] {
            unsafe extern "C" {
                static $start: u8;
                static $end: u8;
            }
            let (start, end) = (&raw const $start, &raw const $end);
            // SAFETY: both symbols bound the constants that are assembled beside
            // this.
            unsafe { std::slice::from_raw_parts(start, end.addr() - start.addr()) }
        }
    };
}
pub(crate) use assembled;
