//! Where everything lies in a function's address space: one plan for every
//! isolation.
//!
//! Addresses are fixed per kind of memory and far apart, so that what runs
//! past the end of one region meets unmapped space and never the next region.
//! All memory that host and function share is one span on the host's side, in
//! which each region has an [`Offset`]. Its zones lie where they lie for every
//! function, so that a shell can be made before it is known for which:
//!
//! ```text
//!              │ zone      holds                                       from run to run
//! read-only    │ run       boot info, parameters, context, state       written anew
//!              │ constant  gate, monitor, text, constants              ┐ the template
//! writable ..  │ initial   page tables, data                           ┘
//!              │ work      mailbox, monitor's stack, stack, output     empty
//! n × 2 MiB .. │ heap                                                  empty
//! ```
//! There are two sizes of zones ([`zones`]). This module only
//! computes; it maps nothing.

use std::ops::Range;

use fades_abi::GUARD_MIN;
use fades_abi::boot::Region;
use fades_task::limits::Limits;
use fades_task::quantity::Size;
use fades_task::shell::{Class, Needs};
use serde::{Deserialize, Serialize};

use crate::address::{GuestAddr, LARGE_PAGE, Offset, PAGE};
use crate::image::{Access, Image};

mod place;
pub(crate) mod tables;
mod zones;

pub(crate) use zones::Zones;
use zones::{BULK, COMMON};

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
/// The heap ends with a large page. Its first part, of up to this length, is
/// mapped in small ones: a function that needs little shall take little. Bytes.
pub(crate) const HEAP_SMALL: u64 = 2 * LARGE_PAGE;
/// The least that is mapped in small pages, bytes.
const SMALL_MIN: u64 = 128 << 10;
/// From this length on, a heap is cut so that no more than [`SMALL_MIN`] is
/// mapped in small pages: it loses less than a thirtieth, and a function that
/// needs much meets hundreds of page faults less. Bytes.
const HEAP_LONG: u64 = 64 << 20;
/// Bytes of data that a function is expected to write.
const DATA_SOON: u64 = 4 * PAGE;
/// A heap below this is of no use to any function, bytes.
const HEAP_MIN: u64 = 64 << 10;

/// What a region is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
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
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
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

    /// It holds the host's code.
    pub(crate) const fn is_hosts(&self) -> bool {
        matches!(self.part, Part::Gate) || self.is_monitors()
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
    #[error("zone and DTO names take {0} bytes, a function can be given {CONTEXT_MAX}")]
    Context(u64),
    #[error("the image's regions do not fit the largest zones")]
    Room,
}

/// The plan of one function's address space.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Layout {
    /// All regions, by ascending address.
    pub(crate) spans: Vec<Span>,
    /// It needs the larger zones.
    pub(crate) bulk: bool,
}

impl Layout {
    /// Plans the address space of `image` within `limits`, with room for
    /// `context` bytes of names.
    pub(crate) fn plan(image: &Image, limits: &Limits, context: Size) -> Result<Self, LayoutError> {
        if let Some((field, asked, most)) = limits.exceeds(&Limits::MAX) {
            return Err(LayoutError::TooLarge { field, asked, most });
        }
        if limits.output.0 == 0 || limits.time.0 == 0 {
            return Err(LayoutError::Nothing);
        }
        if context.0 > CONTEXT_MAX {
            return Err(LayoutError::Context(context.0));
        }
        let heap = heap_length(image, limits)?;
        let output = limits.output.0.next_multiple_of(PAGE);
        let planned = [false, true].into_iter().find_map(|bulk| {
            let mut plan = Plan::new(bulk);
            plan.put_all(image, (context.0.next_multiple_of(PAGE), output, heap));
            let (layout, fits) = plan.finished();
            fits.then_some(layout)
        });
        planned.ok_or(LayoutError::Room)
    }

    /// The regions that every function has, and nothing of a function.
    pub(crate) fn without_image(bulk: bool) -> Self {
        let mut plan = Plan::new(bulk);
        plan.put_hosts();
        plan.finished().0
    }

    /// What a shell needs to run this.
    pub(crate) fn needs(&self) -> Needs {
        Needs {
            bulk: self.bulk,
            heap: Size(self.span(Part::Heap).end().0 - HEAP.0),
        }
    }

    /// Initialised data, as far as a function is expected to write it.
    pub(crate) fn data(&self) -> impl Iterator<Item = Range<u64>> {
        let data = self.spans.iter().filter(|s| s.part == Part::Data);
        data.map(|s| s.offset.0..s.offset.0 + s.length.min(DATA_SOON))
    }

    /// Where on the host's side large pages are wanted: under KVM the first touch
    /// of a page costs far more than in a process. Not at the heap's ends, which
    /// functions touch that need little.
    pub(crate) fn large_pages(&self) -> Range<u64> {
        let start = self.zones().heap() + HEAP_SMALL;
        let heap = self.span(Part::Heap);
        start..start.max(heap.offset.0 + heap.length - LARGE_PAGE)
    }

    /// The zones in which it lies.
    pub(crate) const fn zones(&self) -> Zones {
        Zones::of(self.bulk)
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
        Some(heap) if heap >= HEAP_LONG => {
            let whole = heap - SMALL_MIN;
            Ok(whole - whole % LARGE_PAGE + SMALL_MIN)
        }
        Some(heap) if heap >= HEAP_MIN => Ok(heap),
        _ => Err(LayoutError::Memory {
            limit,
            data,
            stack,
            needed: Size(fixed + HEAP_MIN),
        }),
    }
}

/// How much of a heap is mapped in small pages.
const fn small_part(heap: u64) -> u64 {
    let odd = heap % LARGE_PAGE;
    if heap < LARGE_PAGE || odd >= SMALL_MIN {
        odd
    } else {
        odd + LARGE_PAGE
    }
}

/// Regions being put into zones.
struct Plan {
    bulk: bool,
    spans: Vec<Span>,
    /// What is left of the zones run, constant, initial, work.
    free: [Range<u64>; 4],
    /// Nothing has run over so far.
    fits: bool,
}

/// The zones that a region can lie in.
#[derive(Debug, Clone, Copy)]
enum Zone {
    Run,
    Constant,
    Initial,
    Work,
}

impl Plan {
    const fn new(bulk: bool) -> Self {
        let zones = Zones::of(bulk);
        let (run, template) = (zones.run, zones.template());
        Self {
            bulk,
            spans: Vec::new(),
            free: [
                0..run,
                run..zones.writable(),
                zones.writable() + tables::count(bulk) * PAGE..template.end,
                template.end..zones.heap(),
            ],
            fits: true,
        }
    }

    fn put_all(&mut self, image: &Image, (context, output, heap): (u64, u64, u64)) {
        use Access::{Execute, Read, Write};
        let params = (fades_abi::PARAMS_MAX as u64).next_multiple_of(PAGE);
        self.put(Zone::Run, Part::Boot, BOOT, PAGE, Read);
        self.put(Zone::Run, Part::Params, PARAMS, params, Read);
        self.put(Zone::Run, Part::Context, CONTEXT, context, Read);
        self.put(Zone::Run, Part::State, STATE, output, Read);
        self.put_hosts();
        for segment in &image.segments {
            let (zone, part) = match segment.access {
                Read => (Zone::Constant, Part::Constants),
                Execute => (Zone::Constant, Part::Text),
                Write => (Zone::Initial, Part::Data),
            };
            self.put(zone, part, segment.start, segment.length, segment.access);
            let end = segment.start.0 + segment.length;
            self.fits &= self.bulk || end <= tables::COMMON_IMAGE_END;
        }
        self.fits &= self.bulk || image.about.stack <= tables::COMMON_STACK;
        let stack = GuestAddr(STACK_END.0 - image.about.stack);
        self.put(Zone::Work, Part::Mailbox, MAILBOX, PAGE, Write);
        self.put(Zone::Work, Part::Stack, stack, image.about.stack, Write);
        self.put(Zone::Work, Part::Output, OUTPUT, output, Write);
        let lead = HEAP_SMALL - small_part(heap);
        self.spans.push(Span {
            part: Part::Heap,
            start: GuestAddr(HEAP.0 + lead),
            length: heap,
            offset: Offset(Zones::of(self.bulk).heap() + lead),
            access: Write,
        });
    }

    /// The host's own code, and the stack of its monitor.
    fn put_hosts(&mut self) {
        use Access::{Execute, Write};
        self.put(Zone::Constant, Part::Gate, GATE, GATE_LENGTH, Execute);
        let (monitor, stack) = (Part::Monitor, Part::MonitorStack);
        self.put(Zone::Constant, monitor, MONITOR, MONITOR_LENGTH, Execute);
        self.put(Zone::Work, stack, MONITOR_STACK, PAGE, Write);
    }

    fn put(&mut self, zone: Zone, part: Part, start: GuestAddr, length: u64, access: Access) {
        let offset = self.take(zone, length);
        self.spans.push(Span {
            part,
            start,
            length,
            offset,
            access,
        });
    }

    fn take(&mut self, zone: Zone, length: u64) -> Offset {
        let free = &mut self.free[zone as usize];
        let offset = free.start;
        free.start = free.start.saturating_add(length);
        self.fits &= free.start <= free.end;
        Offset(offset)
    }

    /// The layout, and whether everything fits its zone.
    fn finished(mut self) -> (Layout, bool) {
        self.spans.sort_by_key(|s| s.start);
        let layout = Layout {
            spans: self.spans,
            bulk: self.bulk,
        };
        (layout, self.fits)
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
        (HEAP.0, HEAP.0 + Limits::MAX.memory.0 + HEAP_SMALL),
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
    assert!(COMMON.heap().is_multiple_of(LARGE_PAGE) && BULK.heap().is_multiple_of(LARGE_PAGE));
    assert!(Class::WINDOW_MAX.0 == INPUT_MAX);
};

#[cfg(test)]
mod tests;
