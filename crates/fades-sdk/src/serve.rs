//! The event loop: takes events from a host, hands them to a function and
//! gives its answers back. The same code serves the gate of an image and the
//! harness of a test.

use alloc::vec::Vec;
use core::mem::ManuallyDrop;

use fades_abi::gate::{Event, event};
use fades_abi::{ABI_MAJOR, ABI_MINOR};

use crate::Batch;
use crate::cbor::Full;
use crate::function::{Abort, Bare, Function};
use crate::output::{Output, Written};
use crate::params::Params;

/// Where events come from and answers go.
pub(crate) trait Host {
    /// The next event; the data of the last one is gone.
    fn next(&mut self) -> Event;

    /// The bytes that `event` names.
    fn data(&self, event: &Event) -> &[u8];

    /// Takes the answer that lies in `window`.
    fn answer(&mut self, window: &[u8], written: Written);

    /// Takes the checkpoint that lies at the start of `window`.
    fn state(&mut self, window: &[u8], length: usize);
}

/// Why a function ended without having answered all.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Stop {
    /// It gave up.
    Abort(Abort),
    /// Its answer does not fit the output window.
    OutputFull(Full),
}

impl From<Abort> for Stop {
    fn from(abort: Abort) -> Self {
        Self::Abort(abort)
    }
}

impl From<Full> for Stop {
    fn from(full: Full) -> Self {
        Self::OutputFull(full)
    }
}

/// The events of a function, behind one pointer: the loop below exists once, in
/// the SDK, which is built for size.
pub(crate) trait Events {
    fn batch(&mut self, batch: &Batch<'_>, output: &mut Output) -> Result<(), Abort>;
    fn end(&mut self, dto: u32) -> Result<(), Abort>;
    fn window_end(&mut self, id: u64, from: i64, to: i64, output: &mut Output)
    -> Result<(), Abort>;
    fn save(&mut self) -> Result<Vec<u8>, Abort>;
    fn restore(&mut self, checkpoint: &[u8]) -> Result<(), Abort>;
    fn finish(&mut self, output: &mut Output) -> Result<(), Abort>;
}

impl<F: Function> Events for F {
    fn batch(&mut self, batch: &Batch<'_>, output: &mut Output) -> Result<(), Abort> {
        Function::batch(self, batch, output)
    }

    fn end(&mut self, dto: u32) -> Result<(), Abort> {
        Function::end(self, dto)
    }

    fn window_end(
        &mut self,
        id: u64,
        from: i64,
        to: i64,
        output: &mut Output,
    ) -> Result<(), Abort> {
        Function::window_end(self, id, from, to, output)
    }

    fn save(&mut self) -> Result<Vec<u8>, Abort> {
        Function::save(self)
    }

    fn restore(&mut self, checkpoint: &[u8]) -> Result<(), Abort> {
        Function::restore(self, checkpoint)
    }

    fn finish(&mut self, output: &mut Output) -> Result<(), Abort> {
        Function::finish(self, output)
    }
}

/// Makes a function and serves it events until its last answer has been given.
pub(crate) fn serve<F: Function>(
    host: &mut dyn Host,
    params: &Params,
    window: &mut [u8],
) -> Result<(), Stop> {
    // Not dropped: a function ends with its address space.
    let mut function = ManuallyDrop::new(F::new(params)?);
    params.finish()?;
    serve_events(host, &mut *function, window)
}

fn serve_events(
    host: &mut dyn Host,
    function: &mut dyn Events,
    window: &mut [u8],
) -> Result<(), Stop> {
    let mut output = Output::default();
    loop {
        let event = host.next();
        match event.kind {
            event::BATCH => {
                let batch = open(host.data(&event), &event)?;
                function.batch(&batch, &mut output)?;
            }
            event::END => function.end(event.dto)?,
            event::WINDOW_END => {
                function.window_end(event.id, event.from, event.to, &mut output)?;
                if !output.is_empty() {
                    let written = output.write(window)?;
                    host.answer(window, written);
                }
            }
            event::SAVE => {
                let length = keep(&function.save()?, window)?;
                host.state(window, length);
            }
            event::RESTORE => function.restore(host.data(&event))?,
            event::FINISH => {
                function.finish(&mut output)?;
                let written = output.write(window)?;
                host.answer(window, written);
                return Ok(());
            }
            kind => return Err(unknown(kind).into()),
        }
    }
}

fn open<'b>(bytes: &'b [u8], event: &Event) -> Result<Batch<'b>, Abort> {
    let refused = |why: &dyn core::fmt::Display| {
        let dto = event.dto as usize;
        Abort::plain(format_args!("a batch of DTO {dto} is refused: {why}"))
    };
    let batch = Batch::open(bytes).map_err(|error| refused(&error))?;
    if batch.dto() == event.dto {
        Ok(batch)
    } else {
        Err(refused(&Bare("it names another DTO")))
    }
}

fn keep(checkpoint: &[u8], window: &mut [u8]) -> Result<usize, Full> {
    let needed = checkpoint.len();
    let room = window.get_mut(..needed).ok_or(Full { needed })?;
    room.copy_from_slice(checkpoint);
    Ok(needed)
}

fn unknown(kind: u32) -> Abort {
    let (kind, major, minor) = (kind as usize, ABI_MAJOR as usize, ABI_MINOR as usize);
    Abort::plain(format_args!(
        "event kind {kind} is unknown to version {major}.{minor} of the contract, \
         with which this function was built"
    ))
}

#[cfg(test)]
mod tests;
