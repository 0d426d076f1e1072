//! Writing what the trampoline needs into the gate.

use zerocopy::IntoBytes;

use super::code::{self, LAUNCH, Launch};
use super::{ProcessError, filter};
use crate::address::{GuestAddr, Offset, PAGE};
use crate::layout::{Layout, Part};
use crate::memory::GuestMemory;

/// One past the last address of a process.
const ADDRESSES_END: u64 = 0x7fff_ffff_f000;

/// Bytes that the kernel's description of a filter takes: a length and, at
/// offset 8, an address.
const FILTER_HEAD: u64 = 16;

/// Writes gate, trampoline and their data.
pub(super) fn write(
    layout: &Layout,
    memory: &GuestMemory,
    entry: GuestAddr,
    simd: u32,
) -> Result<(), ProcessError> {
    let gate = layout.span(Part::Gate);
    memory.copy_in(gate.offset, code::gate())?;
    let filter = filter::program()?;
    let ranges = gaps(layout);
    let head_at = LAUNCH.0 + size_of::<Launch>() as u64;
    let filter_at = head_at + FILTER_HEAD;
    let ranges_at = filter_at + filter.len() as u64 * 8;
    let launch = Launch {
        entry: entry.0,
        stack_end: layout.span(Part::Stack).end().0,
        boot: layout.span(Part::Boot).start.0,
        filter: head_at,
        ranges: ranges_at,
        ranges_count: ranges.len() as u64,
        simd: simd.into(),
    };
    let mut data = launch.as_bytes().to_vec();
    data.extend((filter.len() as u64).to_le_bytes());
    data.extend(filter_at.to_le_bytes());
    for instruction in &filter {
        data.extend(instruction.code.to_le_bytes());
        data.extend([instruction.jt, instruction.jf]);
        data.extend(instruction.k.to_le_bytes());
    }
    data.extend(ranges.as_bytes());
    if data.len() as u64 > PAGE {
        return Err(ProcessError::Room);
    }
    memory.copy_in(Offset(gate.offset.0 + (LAUNCH.0 - gate.start.0)), &data)?;
    Ok(())
}

/// All addresses that are none of the function's, as (start, length).
fn gaps(layout: &Layout) -> Vec<[u64; 2]> {
    let mut gaps = Vec::new();
    let mut next = 0;
    for span in layout.spans.iter().filter(|s| !s.is_monitors()) {
        if span.start.0 > next {
            gaps.push([next, span.start.0 - next]);
        }
        next = span.end().0;
    }
    gaps.push([next, ADDRESSES_END - next]);
    gaps
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::image::Image;
    use crate::image::tests::sample;
    use fades_task::limits::Limits;
    use fades_task::quantity::Size;

    #[test]
    fn gaps_and_regions_cover_every_address_once() {
        let image = Image::parse(&sample()).unwrap();
        let layout = Layout::plan(&image, &Limits::default(), Size(PAGE)).unwrap();
        let kept = layout.spans.iter().filter(|s| !s.is_monitors());
        let mut all: Vec<_> = kept.map(|s| (s.start.0, s.length)).collect();
        all.extend(gaps(&layout).iter().map(|g| (g[0], g[1])));
        all.sort_unstable();
        let end = all.iter().fold(0, |next, &(start, length)| {
            assert_eq!(start, next);
            start + length
        });
        assert_eq!(end, ADDRESSES_END);
    }
}
