//! The contract that an author implements, and the macro that makes an image
//! of it.

use alloc::string::String;
use alloc::vec::Vec;
use core::fmt::{self, Write as _};
use core::panic::Location;

use crate::Batch;
use crate::log::Line;
use crate::output::Output;
use crate::params::Params;

/// A function: made from its parameters, fed with batches, asked for an answer.
///
/// Events arrive in the order of the data: any number of [`batch`] for each
/// DTO, then [`end`] for it, at last [`finish`]. A function that runs on windows
/// gets [`window_end`] after the batches of each; a batch never straddles one.
///
/// [`batch`]: Self::batch
/// [`end`]: Self::end
/// [`finish`]: Self::finish
/// [`window_end`]: Self::window_end
pub trait Function: Sized {
    /// Makes the function. Parameters that were never asked for are refused
    /// afterwards, so that a misspelt one does not pass unnoticed.
    ///
    /// # Errors
    /// When the parameters make no sense.
    fn new(params: &Params) -> Result<Self, Abort>;

    /// Takes the rows of one batch. They are gone when this returns.
    ///
    /// # Errors
    /// When the function cannot answer.
    fn batch(&mut self, batch: &Batch<'_>, output: &mut Output) -> Result<(), Abort>;

    /// DTO number `dto` has no more batches.
    ///
    /// # Errors
    /// When the function cannot answer.
    fn end(&mut self, dto: u32) -> Result<(), Abort> {
        let _ = dto;
        Ok(())
    }

    /// Window `id` is complete: times from `from` up to but without `to`, ns
    /// since 1970 UTC. What `output` holds afterwards is the window's answer.
    ///
    /// # Errors
    /// When the function cannot answer.
    fn window_end(
        &mut self,
        id: u64,
        from: i64,
        to: i64,
        output: &mut Output,
    ) -> Result<(), Abort> {
        let _ = (id, from, to, output);
        Ok(())
    }

    /// A checkpoint from which [`restore`](Self::restore) continues. Say
    /// `checkpoints` in [`function!`](crate::function!) when you implement it.
    ///
    /// # Errors
    /// By default: the function keeps no checkpoints.
    fn save(&mut self) -> Result<Vec<u8>, Abort> {
        Err(Abort::new(format_args!(
            "this function keeps no checkpoints"
        )))
    }

    /// Continues from a checkpoint that an earlier life made.
    ///
    /// # Errors
    /// By default: the function keeps no checkpoints.
    fn restore(&mut self, checkpoint: &[u8]) -> Result<(), Abort> {
        let _ = checkpoint;
        Err(Abort::new(format_args!(
            "this function keeps no checkpoints"
        )))
    }

    /// All data has been seen. What `output` holds afterwards is the answer.
    ///
    /// # Errors
    /// When the function cannot answer.
    fn finish(&mut self, output: &mut Output) -> Result<(), Abort>;
}

/// Why a function gave up, with the place in its source. Made by
/// [`abort!`](crate::abort!).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Abort {
    text: String,
}

impl Abort {
    /// Gives up for the reason `why`; the place is the caller's.
    #[must_use]
    #[track_caller]
    pub fn new(why: fmt::Arguments<'_>) -> Self {
        Self::written(format_args!("{}: {why}", Place(Location::caller())))
    }

    /// Gives up for a reason that lies outside of the function's source, such
    /// as its parameters.
    #[must_use]
    pub(crate) fn plain(why: fmt::Arguments<'_>) -> Self {
        Self::written(why)
    }

    fn written(text: fmt::Arguments<'_>) -> Self {
        // Through a line, as all that is told to the host: a second way to
        // format would be dead weight in every image.
        let mut line = Line::new();
        let _ = line.write_fmt(text);
        Self {
            text: line.text().into(),
        }
    }

    /// The place and the reason.
    #[must_use]
    pub fn text(&self) -> &str {
        &self.text
    }
}

impl fmt::Display for Abort {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl core::error::Error for Abort {}

/// `file:line:column`.
///
/// Here and elsewhere in the SDK numbers are formatted as `usize` and texts
/// without padding, because each further kind of formatting adds to the size of
/// every image.
pub(crate) struct Place<'a>(pub(crate) &'a Location<'a>);

impl fmt::Display for Place<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(at) = self;
        f.write_str(at.file())?;
        write!(f, ":{}:{}", at.line() as usize, at.column() as usize)
    }
}

/// A text that is formatted as it is, without padding.
pub(crate) struct Bare<'a>(pub(crate) &'a str);

impl fmt::Display for Bare<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }
}

/// Leaves the surrounding function with an [`Abort`] that has this text.
#[macro_export]
macro_rules! abort {
    ($($why:tt)+) => {
        return ::core::result::Result::Err($crate::function::Abort::new(::core::format_args!($($why)+)).into())
    };
}

/// Makes an image of a type that implements [`Function`]: its entry point and
/// its note.
///
/// Options follow the type: `name = "…"` (default: the package's name),
/// `stack = BYTES` (a multiple of 4096), `memory = BYTES` (the least limit with
/// which the function works), `checkpoints` (it implements `save` and
/// `restore`), in this order.
#[cfg(not(any(test, feature = "testing")))]
#[macro_export]
macro_rules! function {
    (
        $function:ty
        $(, name = $name:expr)?
        $(, stack = $stack:expr)?
        $(, memory = $memory:expr)?
        $(, checkpoints $($checkpoints:lifetime)?)?
        $(,)?
    ) => {
        const _: () = {
            const NAME: &str = $crate::function!(@or [$($name)?] [::core::env!("CARGO_PKG_NAME")]);
            const STACK: u64 = $crate::function!(@or [$($stack)?] [$crate::abi::note::STACK_DEFAULT]);
            const MEMORY: u64 = $crate::function!(@or [$($memory)?] [0]);
            const FLAGS: u32 = 0 $(+ $crate::abi::note::FLAG_CHECKPOINTS $($checkpoints)?)?;

            #[used]
            #[unsafe(link_section = ".note.fades")]
            static NOTE: $crate::abi::note::ElfNote = $crate::abi::note::ElfNote::new(
                $crate::abi::note::ImageNote::new(NAME, STACK, MEMORY, FLAGS),
            );

            #[unsafe(no_mangle)]
            #[unsafe(naked)]
            unsafe extern "sysv64" fn _start(boot: *const $crate::abi::boot::BootInfo) -> ! {
                ::core::arch::naked_asm!(
                    "xor ebp, ebp",
                    "and rsp, -16",
                    "call {run}",
                    "ud2",
                    run = sym $crate::run::<$function>,
                )
            }
        };
    };
    (@or [] [$default:expr]) => { $default };
    (@or [$given:expr] [$default:expr]) => { $given };
}

/// In a build for tests nothing of an image is made; the type is checked, and
/// a program that is linked besides the tests is one of the host's, which runs
/// the function on batch files and says how long it takes.
#[cfg(any(test, feature = "testing"))]
#[macro_export]
macro_rules! function {
    ($function:ty $(, $($options:tt)*)?) => {
        const _: fn() = || {
            fn is_a_function<F: $crate::function::Function>() {}
            is_a_function::<$function>();
        };

        #[cfg(not(test))]
        #[unsafe(no_mangle)]
        extern "C" fn main() -> i32 {
            $crate::testing::natively::<$function>(::core::env!("CARGO_PKG_NAME"))
        }
    };
}
