//! Where everything lies in a function's address space: one plan for every
//! isolation.
//!
//! Addresses are fixed per kind of memory and far apart, so that what runs
//! past the end of one region meets unmapped space and never the next region.
//! All memory that host and function share is one span on the host's side, in
//! which each region has an [`Offset`]; regions that the function can only read
//! come first, so that a microVM can protect them as a whole:
//!
//! ```text
//! offset 0              gate, monitor, boot info, parameters, context, state, text, constants
//! writable ..           data, mailbox, stack, output, monitor's stack, page tables
//! multiple of 2 MiB ..  heap
//! ```
//! This module only computes; it maps nothing.

use fades_abi::GUARD_MIN;
use fades_abi::boot::Region;
use fades_task::limits::Limits;
use fades_task::quantity::Size;

use crate::address::{GuestAddr, LARGE_PAGE, Offset, PAGE};
use crate::image::{Access, Image};

mod place;

/// The gate: the only code of the host that the function can call.
pub(crate) const GATE: GuestAddr = GuestAddr(0x5000_0000);
/// Code and descriptor tables of the ring-0 monitor of a microVM.
pub(crate) const MONITOR: GuestAddr = GuestAddr(0x6000_0000);
/// Stack on which a microVM's exceptions arrive.
pub(crate) const MONITOR_STACK: GuestAddr = GuestAddr(0x6100_0000);
/// A store here leaves a microVM: the gate was called.
pub(crate) const DOORBELL: GuestAddr = GuestAddr(0x7000_0000);
/// A store here leaves a microVM: an exception arrived.
pub(crate) const ALARM: GuestAddr = GuestAddr(0x7100_0000);
const BOOT: GuestAddr = GuestAddr(0x8000_0000);
/// What function and host write to each other.
pub(crate) const MAILBOX: GuestAddr = GuestAddr(0x8100_0000);
const PARAMS: GuestAddr = GuestAddr(0x8200_0000);
const CONTEXT: GuestAddr = GuestAddr(0x8300_0000);
const STATE: GuestAddr = GuestAddr(0x9000_0000);
const STACK_END: GuestAddr = GuestAddr(0xf000_0000);
const HEAP: GuestAddr = GuestAddr(0x2_0000_0000);
const OUTPUT: GuestAddr = GuestAddr(0x8_0000_0000);
/// Where batches appear.
pub(crate) const INPUT: GuestAddr = GuestAddr(0x10_0000_0000);
/// Longest batch, bytes.
pub(crate) const INPUT_MAX: u64 = 8 << 30;

/// Pages of the gate: code, and what the code needs.
const GATE_LENGTH: u64 = 2 * PAGE;
const MONITOR_LENGTH: u64 = 2 * PAGE;
/// Longest context, bytes.
pub(crate) const CONTEXT_MAX: u64 = 4 << 20;
/// A heap below this is of no use to any function, bytes.
const HEAP_MIN: u64 = 64 << 10;

/// What a region is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Part {
    Gate,
    Monitor,
    MonitorStack,
    Boot,
    Mailbox,
    Params,
    Context,
    State,
    Text,
    Constants,
    Data,
    Stack,
    Heap,
    Output,
}

/// A region: where the function sees it, and where the host keeps it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Span {
    /// What it is for.
    pub(crate) part: Part,
    /// Where the function sees it.
    pub(crate) start: GuestAddr,
    /// A multiple of the page size, bytes.
    pub(crate) length: u64,
    /// Where the host keeps it.
    pub(crate) offset: Offset,
    /// What the function may do there.
    pub(crate) access: Access,
}

impl Span {
    pub(crate) const fn end(&self) -> GuestAddr {
        GuestAddr(self.start.0 + self.length)
    }

    pub(crate) fn contains(&self, address: GuestAddr) -> bool {
        (self.start..self.end()).contains(&address)
    }

    /// Only a microVM has it, and there only the monitor sees it.
    pub(crate) const fn is_monitors(&self) -> bool {
        matches!(self.part, Part::Monitor | Part::MonitorStack)
    }
}

/// Why an image and limits do not go together.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum LayoutError {
    #[error("limits.{field} = \"{asked}\" is more than this host can enforce, at most \"{most}\"")]
    TooLarge {
        field: &'static str,
        asked: String,
        most: String,
    },
    #[error(
        "limits.memory = \"{limit}\" is too small: {data} bytes of data, {stack} bytes of stack and a heap need limits.memory = \"{needed}\""
    )]
    Memory {
        limit: Size,
        data: u64,
        stack: u64,
        needed: Size,
    },
    #[error(
        "limits.memory = \"{limit}\" is too small: the author of the function says that it needs \"{needed}\""
    )]
    MemoryMin { limit: Size, needed: Size },
    #[error("limits.output and limits.time must be more than nothing")]
    Nothing,
}

/// The plan of one function's address space.
#[derive(Debug, Clone)]
pub(crate) struct Layout {
    /// All regions, by ascending address.
    pub(crate) spans: Vec<Span>,
    /// Room for page tables, which the function does not see.
    pub(crate) tables: Offset,
    /// Length of that room, bytes.
    pub(crate) tables_length: u64,
    /// From here on the function (or the monitor) may write.
    pub(crate) writable: Offset,
    /// Length of all shared memory, bytes.
    pub(crate) total: u64,
}

impl Layout {
    /// Plans the address space of `image` within `limits`.
    pub(crate) fn plan(image: &Image, limits: &Limits) -> Result<Self, LayoutError> {
        if let Some((field, asked, most)) = limits.exceeds(&Limits::MAX) {
            return Err(LayoutError::TooLarge { field, asked, most });
        }
        if limits.output.0 == 0 || limits.time.0 == 0 {
            return Err(LayoutError::Nothing);
        }
        let heap = heap_length(image, limits)?;
        let output = limits.output.0.next_multiple_of(PAGE);
        let mut plan = Plan::default();
        plan.put(Part::Gate, GATE, GATE_LENGTH, Access::Execute);
        plan.put(Part::Monitor, MONITOR, MONITOR_LENGTH, Access::Execute);
        plan.put(Part::Boot, BOOT, PAGE, Access::Read);
        let params = (fades_abi::PARAMS_MAX as u64).next_multiple_of(PAGE);
        plan.put(Part::Params, PARAMS, params, Access::Read);
        plan.put(Part::Context, CONTEXT, CONTEXT_MAX, Access::Read);
        plan.put(Part::State, STATE, output, Access::Read);
        plan.put_segments(image, |access| access != Access::Write);
        let writable = plan.next;
        plan.put_segments(image, |access| access == Access::Write);
        plan.put(Part::Mailbox, MAILBOX, PAGE, Access::Write);
        let stack = GuestAddr(STACK_END.0 - image.about.stack);
        plan.put(Part::Stack, stack, image.about.stack, Access::Write);
        plan.put(Part::Output, OUTPUT, output, Access::Write);
        plan.put(Part::MonitorStack, MONITOR_STACK, PAGE, Access::Write);
        let tables = plan.next;
        let tables_length = plan.tables_needed(heap) * PAGE;
        plan.next = Offset((tables.0 + tables_length).next_multiple_of(LARGE_PAGE));
        plan.put(Part::Heap, HEAP, heap, Access::Write);
        plan.spans.sort_by_key(|s| s.start);
        Ok(Self {
            total: plan.next.0,
            spans: plan.spans,
            tables,
            tables_length,
            writable,
        })
    }

    /// The first region of a kind that every plan has.
    pub(crate) fn span(&self, part: Part) -> Span {
        let found = self.spans.iter().find(|s| s.part == part);
        // Text and data are the only kinds that an image may lack or repeat,
        // and nobody asks for those; an empty region is a harmless answer.
        found.copied().unwrap_or(Span {
            part,
            start: GuestAddr(0),
            length: 0,
            offset: Offset(0),
            access: Access::Read,
        })
    }

    /// The region of a kind, as the boot info says it.
    pub(crate) fn region(&self, part: Part) -> Region {
        let span = self.span(part);
        Region {
            address: span.start.0,
            length: span.length,
        }
    }

    /// Where the host keeps `length` bytes at `address`, when all of them lie
    /// in one region that the function can reach.
    pub(crate) fn offset_of(&self, address: GuestAddr, length: u64) -> Option<Offset> {
        let span = self
            .spans
            .iter()
            .find(|s| s.contains(address) && !s.is_monitors())?;
        let end = address.0.checked_add(length)?;
        (end <= span.end().0).then(|| Offset(span.offset.0 + (address.0 - span.start.0)))
    }

    /// The region that holds a byte of shared memory.
    pub(crate) fn address_of(&self, offset: Offset) -> Option<GuestAddr> {
        let holds = |s: &&Span| (s.offset.0..s.offset.0 + s.length).contains(&offset.0);
        let span = self.spans.iter().find(holds)?;
        Some(GuestAddr(span.start.0 + (offset.0 - span.offset.0)))
    }
}

/// What the limit leaves for the heap.
fn heap_length(image: &Image, limits: &Limits) -> Result<u64, LayoutError> {
    let limit = limits.memory;
    let data = image.segments.iter().filter(|s| s.access == Access::Write);
    let data: u64 = data.map(|s| s.length).sum();
    let stack = image.about.stack;
    if limit.0 < image.about.memory_min {
        return Err(LayoutError::MemoryMin {
            limit,
            needed: Size(image.about.memory_min),
        });
    }
    let fixed = data + stack;
    match (limit.0 - limit.0 % PAGE).checked_sub(fixed) {
        Some(heap) if heap >= HEAP_MIN => Ok(heap),
        _ => Err(LayoutError::Memory {
            limit,
            data,
            stack,
            needed: Size(fixed + HEAP_MIN),
        }),
    }
}

#[derive(Default)]
struct Plan {
    spans: Vec<Span>,
    next: Offset,
}

impl Plan {
    fn put(&mut self, part: Part, start: GuestAddr, length: u64, access: Access) {
        self.spans.push(Span {
            part,
            start,
            length,
            offset: self.next,
            access,
        });
        self.next.0 += length;
    }

    fn put_segments(&mut self, image: &Image, wanted: impl Fn(Access) -> bool) {
        for segment in image.segments.iter().filter(|s| wanted(s.access)) {
            let part = match segment.access {
                Access::Read => Part::Constants,
                Access::Execute => Part::Text,
                Access::Write => Part::Data,
            };
            self.put(part, segment.start, segment.length, segment.access);
        }
    }

    /// Pages of page tables that suffice for every region and the input
    /// window. More than needed costs nothing: untouched memory is not there.
    fn tables_needed(&self, heap: u64) -> u64 {
        let lengths = self.spans.iter().map(|s| s.length).chain([heap]);
        // A region may begin and end inside a table of each of three levels.
        let tables: u64 = lengths.map(|l| l / LARGE_PAGE + l / (1 << 30) + 6).sum();
        let input = INPUT_MAX / (1 << 30) + 2;
        let doorbells = 2 * 3;
        1 + tables + input + doorbells
    }
}

const _: () = {
    // Unmapped space between any two kinds of memory, whatever their length.
    let order = [
        (crate::image::ADDRESSES.start, crate::image::ADDRESSES.end),
        (GATE.0, GATE.0 + GATE_LENGTH),
        (MONITOR.0, MONITOR.0 + MONITOR_LENGTH),
        (MONITOR_STACK.0, MONITOR_STACK.0 + PAGE),
        (DOORBELL.0, DOORBELL.0 + PAGE),
        (ALARM.0, ALARM.0 + PAGE),
        (BOOT.0, BOOT.0 + PAGE),
        (MAILBOX.0, MAILBOX.0 + PAGE),
        (PARAMS.0, PARAMS.0 + fades_abi::PARAMS_MAX as u64),
        (CONTEXT.0, CONTEXT.0 + CONTEXT_MAX),
        (STATE.0, STATE.0 + Limits::MAX.output.0),
        (STACK_END.0 - crate::image::STACK_MAX, STACK_END.0),
        (HEAP.0, HEAP.0 + Limits::MAX.memory.0),
        (OUTPUT.0, OUTPUT.0 + Limits::MAX.output.0),
        (INPUT.0, INPUT.0 + INPUT_MAX),
    ];
    let mut i = 1;
    while i < order.len() {
        // More than the contract promises: a large stack frame may step over a
        // small guard.
        assert!(order[i].0 >= order[i - 1].1 + (1 << 20));
        i += 1;
    }
    assert!(GUARD_MIN <= 1 << 20);
};

#[cfg(test)]
mod tests;
