//! What a function finds when it starts: boot info, parameters, context.

use fades_abi::boot::{BOOT_MAGIC, BootInfo, Context, DtoName, Region, Text, ZoneOffset};
use fades_abi::{ABI_MAJOR, ABI_MINOR, PARAMS_MAX};
use fades_task::limits::Limits;
use fades_task::message::Start;
use zerocopy::IntoBytes;

use crate::address::Offset;
use crate::layout::{GATE, INPUT, INPUT_MAX, Layout, Part};
use crate::memory::{GuestMemory, OutOfBounds};

/// Why a function cannot be told what it should know.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum BootError {
    #[error("the parameters take {0} bytes, a function can be given {PARAMS_MAX}")]
    Params(usize),
    #[error("zone and DTO names take {0} bytes, the template has room for {1}")]
    Context(usize, u64),
    #[error("the zone's offsets do not begin at the beginning of time and ascend")]
    Offsets,
}

/// What describes the run to the function.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Given {
    boot: BootInfo,
    params: Vec<u8>,
    context: Vec<u8>,
    /// Where the host keeps parameters and context.
    at: [Offset; 2],
}

/// Where in the page of the boot info short parameters and contexts lie: each
/// page that a function touches costs time, under KVM above all.
const SHORT: u64 = 512;

/// Parameters and context begin at multiples of this.
const ALIGN: u64 = 64;

impl Given {
    /// Composes what a function in `layout` is told about its run.
    pub(crate) fn compose(
        layout: &Layout,
        start: &Start,
        params: Vec<u8>,
        simd: u32,
        transport: u32,
    ) -> Result<Self, BootError> {
        if params.len() > PARAMS_MAX {
            return Err(BootError::Params(params.len()));
        }
        let context = context(start, layout.span(Part::Context).length)?;
        let within = |part, length: usize| Region {
            length: length as u64,
            ..layout.region(part)
        };
        let places = places(layout, params.len() as u64, context.len() as u64);
        let Limits { memory, output, .. } = start.limits;
        let boot = BootInfo {
            magic: BOOT_MAGIC,
            abi_major: ABI_MAJOR,
            abi_minor: ABI_MINOR,
            size: size_of::<BootInfo>() as u32,
            gate: GATE.0,
            mailbox: layout.region(Part::Mailbox).address,
            heap: layout.region(Part::Heap),
            stack: layout.region(Part::Stack),
            output: within(Part::Output, output.0 as usize),
            input: Region {
                address: INPUT.0,
                length: INPUT_MAX,
            },
            params: places[0].0,
            context: places[1].0,
            state: Region::default(),
            simd,
            transport,
            memory_limit: memory.0,
            dtos: start.dtos.len() as u32,
            reserved: 0,
            spare: [0; 3],
        };
        Ok(Self {
            boot,
            params,
            context,
            at: places.map(|p| p.1),
        })
    }

    /// Writes it into the function's memory.
    pub(crate) fn write(&self, layout: &Layout, memory: &GuestMemory) -> Result<(), OutOfBounds> {
        memory.put(layout.span(Part::Boot).offset, &self.boot)?;
        memory.copy_in(self.at[0], &self.params)?;
        memory.copy_in(self.at[1], &self.context)
    }
}

/// Where the function sees parameters and context of these lengths, and where
/// the host keeps them: behind the boot info while they fit, otherwise in their
/// own regions.
fn places(layout: &Layout, params: u64, context: u64) -> [(Region, Offset); 2] {
    let boot = layout.span(Part::Boot);
    let second = SHORT + params.next_multiple_of(ALIGN);
    if second + context <= boot.length {
        return [(SHORT, params), (second, context)].map(|(at, length)| {
            let region = Region {
                address: boot.start.0 + at,
                length,
            };
            (region, Offset(boot.offset.0 + at))
        });
    }
    [(Part::Params, params), (Part::Context, context)].map(|(part, length)| {
        let region = Region {
            length,
            ..layout.region(part)
        };
        (region, layout.span(part).offset)
    })
}

const _: () = assert!(size_of::<BootInfo>() as u64 <= SHORT && SHORT.is_multiple_of(ALIGN));

/// Zone and DTO names in the layout of the contract.
fn context(start: &Start, room: u64) -> Result<Vec<u8>, BootError> {
    let begins = start.offsets.first().is_some_and(|o| o.0 == i64::MIN);
    if !begins || !start.offsets.is_sorted_by(|a, b| a.0 < b.0) {
        return Err(BootError::Offsets);
    }
    let tables = size_of::<Context>()
        + start.offsets.len() * size_of::<ZoneOffset>()
        + start.dtos.len() * size_of::<DtoName>();
    let mut texts: Vec<u8> = Vec::new();
    let mut text = |t: &str| {
        let offset = (tables + texts.len()) as u32;
        texts.extend(t.as_bytes());
        Text {
            offset,
            length: t.len() as u32,
        }
    };
    let zone = text(&start.zone);
    let names = start.dtos.iter().map(|d| DtoName {
        name: text(d.as_str()),
    });
    let names: Vec<DtoName> = names.collect();
    let offsets = start.offsets.iter().map(|&(from, seconds)| ZoneOffset {
        from,
        seconds,
        reserved: 0,
    });
    let head = Context {
        offsets: start.offsets.len() as u32,
        dtos: start.dtos.len() as u32,
        zone,
    };
    let mut bytes = head.as_bytes().to_vec();
    bytes.extend(offsets.collect::<Vec<_>>().as_bytes());
    bytes.extend(names.as_bytes());
    bytes.extend(texts);
    if bytes.len() as u64 > room {
        return Err(BootError::Context(bytes.len(), room));
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::image::Image;
    use crate::image::tests::sample;
    use fades_task::quantity::Size;
    use zerocopy::FromBytes;

    fn start() -> Start {
        Start {
            template: 1,
            simd: 0,
            limits: Limits::default(),
            resident: None,
            zone: "Europe/London".to_owned(),
            offsets: vec![(i64::MIN, 0), (5, 3600)],
            dtos: vec!["pm".parse().unwrap(), "air".parse().unwrap()],
        }
    }

    fn compose(start: &Start, params: Vec<u8>) -> Result<Given, BootError> {
        let image = Image::parse(&sample()).unwrap();
        let layout = Layout::plan(&image, &start.limits, Size(64 << 10)).unwrap();
        Given::compose(&layout, start, params, 1, 2)
    }

    #[test]
    fn zone_and_names_can_be_read_back_by_the_layout_of_the_contract() {
        let given = compose(&start(), vec![0xa0]).unwrap();
        let bytes = given.context.as_slice();
        assert_eq!(given.boot.context.length, bytes.len() as u64);
        let (head, rest) = Context::read_from_prefix(bytes).unwrap();
        let text = |t: Text| {
            let start = t.offset as usize;
            std::str::from_utf8(&bytes[start..start + t.length as usize]).unwrap()
        };
        assert_eq!(text(head.zone), "Europe/London");
        let (offsets, rest) = <[ZoneOffset]>::ref_from_prefix_with_elems(rest, 2).unwrap();
        assert_eq!((offsets[1].from, offsets[1].seconds), (5, 3600));
        let (names, _) = <[DtoName]>::ref_from_prefix_with_elems(rest, 2).unwrap();
        assert_eq!((text(names[0].name), text(names[1].name)), ("pm", "air"));
    }

    #[test]
    fn what_is_short_lies_beside_the_boot_info_and_what_is_long_does_not() {
        let image = Image::parse(&sample()).unwrap();
        let layout = Layout::plan(&image, &Limits::default(), Size(64 << 10)).unwrap();
        let page = layout.span(Part::Boot);
        for length in [0, 100, 3000, 3300, 3500, PARAMS_MAX] {
            let bytes: Vec<u8> = (0..length).map(|n| n as u8).collect();
            let given = compose(&start(), bytes.clone()).unwrap();
            let BootInfo {
                params, context, ..
            } = given.boot;
            let beside = page.contains(crate::address::GuestAddr(context.address));
            assert_eq!(beside, length <= 3300, "{length}");
            let memory = GuestMemory::anonymous(layout.zones().heap()).unwrap();
            given.write(&layout, &memory).unwrap();
            for (region, expected) in [(params, &bytes), (context, &given.context)] {
                let address = crate::address::GuestAddr(region.address);
                let at = layout.offset_of(address, region.length).unwrap();
                let mut found = vec![0; region.length as usize];
                memory.copy_out(at, &mut found).unwrap();
                assert!(found == *expected, "{length}");
            }
        }
    }

    /// The room that a template is asked for is never too small, and in steps
    /// only because of them larger than needed.
    #[test]
    fn the_room_for_a_context_is_foretold() {
        for offsets in (4060..4110).chain([1, 2, 10_000]) {
            for dtos in [0, 1, 7, 64] {
                let mut start = start();
                start.offsets = (0..offsets).map(|n| (n, 0)).collect();
                start.offsets[0].0 = i64::MIN;
                let name = |n| format!("dto-{n}").parse().unwrap();
                start.dtos = (0..dtos).map(name).collect();
                let room = start.context_bytes().0;
                let bytes = context(&start, room).unwrap().len() as u64;
                let spare = Start::CONTEXT_STEP + 64 + 8 * dtos as u64;
                assert!(bytes <= room && room < bytes + spare, "{offsets} {dtos}");
            }
        }
    }

    #[test]
    fn what_does_not_fit_is_refused() {
        let params = vec![0; PARAMS_MAX + 1];
        assert_eq!(
            compose(&start(), params),
            Err(BootError::Params(PARAMS_MAX + 1))
        );
        let mut unsorted = start();
        unsorted.offsets = vec![(i64::MIN, 0), (i64::MIN, 1)];
        assert_eq!(compose(&unsorted, vec![]), Err(BootError::Offsets));
        unsorted.offsets.clear();
        assert_eq!(compose(&unsorted, vec![]), Err(BootError::Offsets));
        let mut long = start();
        long.zone = "x".repeat(64 << 10);
        assert!(matches!(
            compose(&long, vec![]),
            Err(BootError::Context(_, 0x1_0000))
        ));
        assert_eq!(long.context_bytes(), Size(128 << 10));
    }
}
