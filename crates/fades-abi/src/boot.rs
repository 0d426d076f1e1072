//! What the host tells a function at its start.
//!
//! The entry point of an image is an `extern "sysv64" fn(boot: *const BootInfo) -> !`;
//! the boot info lies in pages that the function can only read. Nothing about
//! a host is compiled into an image: every address that a function may use
//! comes from here, and the way out is the gate, whose entry is
//! [`BootInfo::gate`] (as the vDSO of an operating system is found).

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// [`BootInfo::magic`]: `FADESBT1`.
pub const BOOT_MAGIC: u64 = u64::from_le_bytes(*b"FADESBT1");

/// A span of the function's address space.
#[repr(C)]
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, Default, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
pub struct Region {
    /// Address of the first byte.
    pub address: u64,
    /// Length, bytes; 0 when the region is absent.
    pub length: u64,
}

impl Region {
    /// The address one past the last byte.
    #[must_use]
    pub const fn end(&self) -> u64 {
        self.address + self.length
    }
}

/// [`BootInfo::simd`]: the widest vectors that the host has tested to work.
/// Levels are ordered: each includes the ones below it.
pub mod simd {
    /// SSE2 only, which every x86-64 has.
    pub const SSE2: u32 = 0;
    /// AVX, AVX2 and FMA.
    pub const AVX2: u32 = 1;
    /// AVX-512 F, BW, DQ and VL.
    pub const AVX512: u32 = 2;
}

/// [`BootInfo::transport`]: what lies behind the gate. For reports only; a
/// function never needs to know.
pub mod transport {
    /// A store to a guest-physical address without memory (KVM).
    pub const MMIO: u32 = 1;
    /// System calls of a process under seccomp.
    pub const SYSCALL: u32 = 2;
}

/// The boot info. 192 bytes, at the start of a read-only page.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct BootInfo {
    /// [`BOOT_MAGIC`].
    pub magic: u64,
    /// [`crate::ABI_MAJOR`] of the host.
    pub abi_major: u16,
    /// [`crate::ABI_MINOR`] of the host.
    pub abi_minor: u16,
    /// Size of this structure, bytes; a later minor version may append fields.
    pub size: u32,
    /// Address of the gate's entry, an `extern "sysv64" fn()`.
    pub gate: u64,
    /// Address of the [`crate::gate::Mailbox`], readable and writable.
    pub mailbox: u64,
    /// Memory for the allocator, zeroed, readable and writable.
    pub heap: Region,
    /// The stack; the entry point starts at its end.
    pub stack: Region,
    /// The output window, readable and writable; its length is the limit.
    pub output: Region,
    /// Addresses in which batches appear, read-only while one is there.
    pub input: Region,
    /// The parameters, a CBOR map from text to values, read-only.
    pub params: Region,
    /// The [`Context`] and what it points to, read-only.
    pub context: Region,
    /// The state that a `restore` event hands back, read-only; absent at the
    /// first start.
    pub state: Region,
    /// One of [`simd`].
    pub simd: u32,
    /// One of [`transport`].
    pub transport: u32,
    /// Memory limit that the run was given, bytes: heap, stack, data and
    /// zero-initialised data together.
    pub memory_limit: u64,
    /// Number of DTOs of the task; events name them by index.
    pub dtos: u32,
    /// Zero.
    pub reserved: u32,
    /// Zero, so that a later minor version has room.
    pub spare: [u64; 3],
}

/// The calendar of the task's zone, at the start of [`BootInfo::context`].
///
/// It is followed by `offsets` times [`ZoneOffset`], then the zone's name,
/// then for each DTO a [`DtoName`]-sized entry; texts lie behind.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct Context {
    /// Number of [`ZoneOffset`] entries that follow; at least 1, sorted.
    pub offsets: u32,
    /// Number of [`DtoName`] entries that follow the offsets.
    pub dtos: u32,
    /// The zone's IANA name.
    pub zone: Text,
}

/// A text inside [`BootInfo::context`].
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct Text {
    /// Offset from the start of the context, bytes.
    pub offset: u32,
    /// Length, bytes of UTF-8.
    pub length: u32,
}

/// From `from` on (until the next entry), local time is UTC plus `seconds`.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct ZoneOffset {
    /// Nanoseconds since 1970-01-01T00:00Z; the first entry is `i64::MIN`.
    pub from: i64,
    /// Seconds east of UTC.
    pub seconds: i32,
    /// Zero.
    pub reserved: u32,
}

/// Name of a DTO, by index.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct DtoName {
    /// The name that the task gave it.
    pub name: Text,
}

const _: () = {
    use core::mem::offset_of;
    assert!(size_of::<Region>() == 16);
    assert!(size_of::<BootInfo>() == 192);
    assert!(offset_of!(BootInfo, gate) == 16);
    assert!(offset_of!(BootInfo, mailbox) == 24);
    assert!(offset_of!(BootInfo, heap) == 32);
    assert!(offset_of!(BootInfo, stack) == 48);
    assert!(offset_of!(BootInfo, output) == 64);
    assert!(offset_of!(BootInfo, input) == 80);
    assert!(offset_of!(BootInfo, params) == 96);
    assert!(offset_of!(BootInfo, context) == 112);
    assert!(offset_of!(BootInfo, state) == 128);
    assert!(offset_of!(BootInfo, simd) == 144);
    assert!(offset_of!(BootInfo, memory_limit) == 152);
    assert!(offset_of!(BootInfo, dtos) == 160);
    assert!(offset_of!(BootInfo, spare) == 168);
    assert!(size_of::<Context>() == 16);
    assert!(size_of::<ZoneOffset>() == 16);
    assert!(size_of::<DtoName>() == 8);
};
