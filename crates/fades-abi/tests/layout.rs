//! The golden file of the contract: every offset, size and number on which an
//! image and a host must agree. A difference is a new version of the contract.

use std::fmt::Write as _;
use std::mem::{offset_of, size_of};

use fades_abi::batch::{self, Column, Header, Series};
use fades_abi::boot::{self, BootInfo, Context, DtoName, Region, ZoneOffset};
use fades_abi::gate::{self, Event, Mailbox, event, op};
use fades_abi::note::{self, ElfNote, ImageNote};

macro_rules! layout {
    ($out:ident, $type:ident { $($field:ident),* $(,)? }) => {
        writeln!($out, "{} {}", stringify!($type), size_of::<$type>()).unwrap();
        $(writeln!($out, "  {:4} {}", offset_of!($type, $field), stringify!($field)).unwrap();)*
    };
}

macro_rules! numbers {
    ($out:ident, $($path:path),* $(,)?) => {
        $(writeln!($out, "{} = {:?}", stringify!($path).replace(' ', ""), $path).unwrap();)*
    };
}

fn contract() -> String {
    let mut out = String::new();
    numbers!(
        out,
        fades_abi::ABI_MAJOR,
        fades_abi::ABI_MINOR,
        fades_abi::PARAMS_MAX
    );
    numbers!(out, fades_abi::GUARD_MIN, fades_abi::INPUT_PAGE);
    numbers!(
        out,
        note::NOTE_NAME,
        note::NOTE_TYPE,
        note::NOTE_SECTION,
        note::FORMAT_FADES_ELF
    );
    numbers!(
        out,
        note::FLAG_CHECKPOINTS,
        note::STACK_DEFAULT,
        boot::BOOT_MAGIC
    );
    numbers!(out, boot::simd::SSE2, boot::simd::AVX2, boot::simd::AVX512);
    numbers!(
        out,
        boot::transport::MMIO,
        boot::transport::SYSCALL,
        gate::TEXT_MAX
    );
    numbers!(
        out,
        op::NEXT,
        op::LOG,
        op::ANSWER,
        op::STATE,
        op::DONE,
        op::ABORT,
        op::PANIC
    );
    numbers!(out, op::OUT_OF_MEMORY, op::OUTPUT_FULL);
    numbers!(
        out,
        event::BATCH,
        event::END,
        event::WINDOW_END,
        event::SAVE,
        event::RESTORE
    );
    numbers!(
        out,
        event::FINISH,
        batch::BATCH_MAGIC,
        batch::BATCH_MAJOR,
        batch::BATCH_MINOR
    );
    numbers!(
        out,
        batch::COLUMN_ALIGN,
        batch::column::TIME,
        batch::column::VALUE
    );
    numbers!(
        out,
        batch::column::MARK,
        batch::kind::I64,
        batch::kind::F64,
        batch::kind::U8
    );
    numbers!(
        out,
        batch::mark::OUTSIDE,
        batch::order::NONE,
        batch::order::SERIES
    );
    numbers!(out, batch::order::TIME, batch::SERIES_COMPLETE);
    layout!(
        out,
        ImageNote {
            abi_major,
            abi_minor,
            format,
            stack,
            memory_min,
            flags,
            name
        }
    );
    writeln!(out, "ElfNote {}", size_of::<ElfNote>()).unwrap();
    layout!(out, Region { address, length });
    layout!(
        out,
        BootInfo {
            magic,
            abi_major,
            abi_minor,
            size,
            gate,
            mailbox,
            heap,
            stack,
            output,
            input,
            params,
            context,
            state,
            simd,
            transport,
            memory_limit,
            dtos,
            reserved,
            spare,
        }
    );
    layout!(
        out,
        Context {
            offsets,
            dtos,
            zone
        }
    );
    layout!(out, ZoneOffset { from, seconds });
    layout!(out, DtoName { name });
    layout!(
        out,
        Mailbox {
            op,
            args,
            event,
            heap_peak,
            spare
        }
    );
    layout!(
        out,
        Event {
            kind,
            dto,
            address,
            length,
            id,
            from,
            to
        }
    );
    layout!(
        out,
        Header {
            magic,
            major,
            minor,
            header_length,
            used,
            rows,
            dto,
            sequence,
            order,
            columns,
            series_offset,
            series,
            strings_offset,
            strings_length,
        }
    );
    layout!(
        out,
        Column {
            id,
            kind,
            offset,
            length
        }
    );
    layout!(
        out,
        Series {
            id,
            flags,
            first_row,
            rows,
            device,
            kind,
            unit,
            location
        }
    );
    out
}

#[test]
fn the_contract_is_the_one_of_the_golden_file() {
    let golden = include_str!("layout.txt");
    let now = contract();
    assert!(
        now == golden,
        "the contract changed: raise its version, then replace tests/layout.txt by\n{now}"
    );
}
