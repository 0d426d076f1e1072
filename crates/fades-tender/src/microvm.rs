//! A microVM under KVM with one virtual processor and no devices.
//!
//! The function runs in ring 3; ring 0 holds a few bytes of the host's code
//! that report exceptions ([`code`]). What the function may only read is
//! protected twice: by page tables that it cannot reach ([`paging`]), and by a
//! read-only slot of memory. The only way out is a store to an address without
//! memory behind it, the doorbell. Start reading at [`Microvm::build`].

use std::os::fd::OwnedFd;

use fades_abi::boot::simd;
use kvm_bindings::{KVM_MEM_READONLY, kvm_sregs};
use kvm_ioctls::{Cap, Kvm, VcpuExit, VcpuFd, VmFd};

use crate::address::{GuestAddr, LARGE_PAGE, Offset, PAGE};
use crate::fault::Raw;
use crate::image::Access;
use crate::layout::{ALARM, DOORBELL, GATE, INPUT, INPUT_MAX, Layout, Part};
use crate::machine::{BATCH_IS_GONE, Turn};
use crate::memory::{GuestMemory, Mapping, OutOfBounds};
use crate::watch::Clocked;

mod code;
mod cpu;
mod paging;
mod slot;

use code::Frame;
pub(crate) use cpu::Vectors;
use paging::{PageTables, PagingError, Physical, Rights};

/// Physical address of the input window.
const INPUT_PHYSICAL: Physical = Physical(0x4_0000_0000);
/// Physical address of the doorbell; nothing is there.
const DOORBELL_PHYSICAL: Physical = Physical(0xf_0000_0000);
/// Physical address of the alarm; nothing is there.
const ALARM_PHYSICAL: Physical = Physical(0xf_1000_0000);

const READ_ONLY_SLOT: u32 = 0;
const WRITABLE_SLOT: u32 = 1;
const INPUT_SLOT: u32 = 2;

/// The smallest input window, bytes: large enough that runs on little data need
/// one slot of memory once, small enough that the kernel's tables for it cost
/// little.
const WINDOW_MIN: u64 = 16 << 20;

/// Why a microVM could not be built or go on.
#[derive(Debug, thiserror::Error)]
pub(crate) enum MicrovmError {
    #[error(
        "/dev/kvm cannot be opened ({0}): give the node's user access to it (usually: add it to the group kvm), or load the module kvm_intel or kvm_amd"
    )]
    Open(#[source] kvm_ioctls::Error),
    #[error("this KVM has API version {0}, 12 is needed")]
    Api(i32),
    #[error("this KVM cannot protect memory from its guest (no read-only memory)")]
    NoReadOnlyMemory,
    #[error("KVM refused to {what}: {source}")]
    Kvm {
        what: &'static str,
        source: kvm_ioctls::Error,
    },
    #[error("the microVM's memory could not be had: {0}")]
    Memory(#[from] std::io::Error),
    #[error("the microVM's page tables: {0}")]
    Paging(#[from] PagingError),
    #[error(transparent)]
    Bounds(#[from] OutOfBounds),
    #[error("a batch of {0} bytes is larger than the input window, or not whole pages of 2 MiB")]
    Batch(u64),
    #[error("the microVM stopped at the test of its gate: {0}")]
    GateTest(String),
}

fn refused(what: &'static str) -> impl FnOnce(kvm_ioctls::Error) -> MicrovmError {
    move |source| MicrovmError::Kvm { what, source }
}

/// A microVM with a function in it.
#[derive(Debug)]
pub(crate) struct Microvm {
    layout: Layout,
    // The order of these fields is the order in which they go: the processor
    // and the machine before the memory that they use.
    vcpu: VcpuFd,
    vm: VmFd,
    window: Option<Mapping>,
    memory: GuestMemory,
    tables: PageTables,
    sregs: kvm_sregs,
    simd: u32,
    vectors: Vectors,
    /// Length of the batch in the window, bytes.
    input: u64,
}

impl Microvm {
    /// Builds a microVM around `memory`, into which the image has been copied.
    ///
    /// `simd` is the highest level of vectors to try.
    pub(crate) fn build(
        kvm: &Kvm,
        layout: &Layout,
        memory: GuestMemory,
        simd: u32,
    ) -> Result<Self, MicrovmError> {
        let vm = kvm
            .create_vm()
            .map_err(refused("create a virtual machine"))?;
        let tables = install(layout, &memory)?;
        slot::set(
            &vm,
            READ_ONLY_SLOT,
            KVM_MEM_READONLY,
            0,
            layout.writable.0,
            memory.address(),
        )?;
        let (start, length) = (layout.writable.0, layout.total - layout.writable.0);
        slot::set(
            &vm,
            WRITABLE_SLOT,
            0,
            start,
            length,
            memory.address() + start,
        )?;
        let vcpu = vm
            .create_vcpu(0)
            .map_err(refused("create a virtual processor"))?;
        let (sregs, vectors) =
            cpu::set_up(kvm, &vcpu, tables.root()).map_err(refused("set up the processor"))?;
        let mut built = Self {
            layout: layout.clone(),
            vcpu,
            vm,
            window: None,
            memory,
            tables,
            sregs,
            simd: simd::SSE2,
            vectors,
            input: 0,
        };
        built.simd = built.try_vectors(simd)?;
        Ok(built)
    }

    /// Opens `/dev/kvm` and checks that it can do what is needed.
    pub(crate) fn open() -> Result<Kvm, MicrovmError> {
        let kvm = Kvm::new().map_err(MicrovmError::Open)?;
        match kvm.get_api_version() {
            12 => {}
            other => return Err(MicrovmError::Api(other)),
        }
        if kvm.check_extension(Cap::ReadonlyMem) {
            Ok(kvm)
        } else {
            Err(MicrovmError::NoReadOnlyMemory)
        }
    }

    /// Puts the processor at the start of the function.
    pub(crate) fn enter_at(&mut self, entry: GuestAddr) -> Result<(), MicrovmError> {
        let stack = self.layout.span(Part::Stack).end();
        let boot = self.layout.span(Part::Boot).start;
        let regs = cpu::regs(entry, stack, boot);
        self.vcpu.set_regs(&regs).map_err(refused("set registers"))
    }

    pub(crate) const fn memory(&self) -> &GuestMemory {
        &self.memory
    }

    pub(crate) const fn simd(&self) -> u32 {
        self.simd
    }

    pub(crate) const fn vectors(&self) -> Vectors {
        self.vectors
    }

    pub(crate) fn clocked(&mut self) -> Clocked {
        let stop = &raw mut self.vcpu.get_kvm_run().immediate_exit;
        Clocked::this_thread(Some(stop))
    }

    /// Runs until the function stops.
    pub(crate) fn run(&mut self) -> Result<Turn, MicrovmError> {
        let exit = match self.vcpu.run() {
            Ok(exit) => exit,
            Err(e) => return interrupted(e),
        };
        match exit {
            VcpuExit::MmioWrite(address, data) => {
                let (address, length) = (address, data.len());
                self.stored(Physical(address), length)
            }
            VcpuExit::MmioRead(address, _) => {
                let address = self.address_of(Physical(address));
                self.access("read of memory that is not there", address)
            }
            VcpuExit::Shutdown => Ok(Turn::Fault(Raw {
                vector: None,
                what: "triple fault".to_owned(),
                address: None,
                rip: None,
            })),
            VcpuExit::InternalError => self.access("instruction that cannot be virtualised", None),
            VcpuExit::FailEntry(reason, _) => Ok(Turn::Gone(format!(
                "the processor refused to run the microVM (reason {reason:#x})"
            ))),
            other => {
                let what = format!("{other:?}");
                self.access(&format!("unexpected exit {what}"), None)
            }
        }
    }

    /// The function, or the monitor, stored to where nothing can be stored.
    fn stored(&self, address: Physical, length: usize) -> Result<Turn, MicrovmError> {
        if address == ALARM_PHYSICAL {
            return self.alarmed();
        }
        if address == DOORBELL_PHYSICAL && length == 4 {
            return Ok(Turn::Gate);
        }
        if address.0 == DOORBELL_PHYSICAL.0 + code::SYSCALL_BELL {
            return self.access("system call", None);
        }
        let address = self.address_of(address);
        self.access("write to read-only memory", address)
    }

    /// A fault that the host sees rather than the monitor.
    fn access(&self, what: &str, address: Option<GuestAddr>) -> Result<Turn, MicrovmError> {
        let rip = self.vcpu.get_regs().map_err(refused("read registers"))?.rip;
        Ok(Turn::Fault(Raw {
            vector: None,
            what: what.to_owned(),
            address,
            rip: Some(rip),
        }))
    }

    /// Reads the frame that the monitor left.
    fn alarmed(&self) -> Result<Turn, MicrovmError> {
        let stack = self.layout.span(Part::MonitorStack);
        let at = Offset(stack.offset.0 + stack.length - size_of::<Frame>() as u64);
        let frame: Frame = self.memory.take(at)?;
        let sregs = self
            .vcpu
            .get_sregs()
            .map_err(refused("read special registers"))?;
        let raw = Raw::exception(frame.vector as u8, frame.error, frame.rip, sregs.cr2);
        Ok(Turn::Fault(raw))
    }

    /// Where the function sees a physical address.
    fn address_of(&self, physical: Physical) -> Option<GuestAddr> {
        let from = |start: Physical, seen: GuestAddr, length: u64| {
            let inside = (start.0..start.0 + length).contains(&physical.0);
            inside.then(|| GuestAddr(seen.0 + (physical.0 - start.0)))
        };
        from(INPUT_PHYSICAL, INPUT, INPUT_MAX)
            .or_else(|| from(DOORBELL_PHYSICAL, DOORBELL, PAGE))
            .or_else(|| self.layout.address_of(Offset(physical.0)))
    }

    /// Shows the function a batch, for reading only.
    pub(crate) fn attach(&mut self, batch: OwnedFd, length: u64) -> Result<(), MicrovmError> {
        if length == 0 || length > INPUT_MAX || !length.is_multiple_of(LARGE_PAGE) {
            return Err(MicrovmError::Batch(length));
        }
        if self.window.as_ref().is_none_or(|w| w.length() < length) {
            self.widen(length.next_power_of_two().max(WINDOW_MIN))?;
        }
        if let Some(window) = &self.window {
            window.map_file(batch, length)?;
        }
        self.tables.map(
            &self.memory,
            INPUT,
            INPUT_PHYSICAL,
            length,
            Rights::UserRead,
        )?;
        self.input = length;
        Ok(())
    }

    /// Replaces the window by a larger one.
    fn widen(&mut self, length: u64) -> Result<(), MicrovmError> {
        if let Some(old) = self.window.take() {
            slot::set(&self.vm, INPUT_SLOT, 0, INPUT_PHYSICAL.0, 0, old.address())?;
        }
        let window = Mapping::reserve(length)?;
        let host = window.address();
        slot::set(
            &self.vm,
            INPUT_SLOT,
            KVM_MEM_READONLY,
            INPUT_PHYSICAL.0,
            length,
            host,
        )?;
        self.window = Some(window);
        Ok(())
    }

    /// Takes the batch away. The page tables first: what the processor has
    /// cached of them goes when the mapping below is replaced.
    pub(crate) fn detach(&mut self) -> Result<(), MicrovmError> {
        if let Some(window) = self.window.as_ref().filter(|_| self.input > 0) {
            self.tables.unmap_large(&self.memory, INPUT, self.input)?;
            window.clear(self.input)?;
        }
        self.input = 0;
        Ok(())
    }

    /// Executes instructions of the wanted level, and of lower ones when they do
    /// not work; the highest that does.
    fn try_vectors(&mut self, wanted: u32) -> Result<u32, MicrovmError> {
        let levels = [
            (simd::AVX512, code::gate::AVX512),
            (simd::AVX2, code::gate::AVX2),
        ];
        for (level, at) in levels.into_iter().filter(|(level, _)| *level <= wanted) {
            if self.try_code(GuestAddr(GATE.0 + at))? {
                return Ok(level);
            }
        }
        Ok(simd::SSE2)
    }

    /// Whether the host's code at `start` gets as far as the gate.
    fn try_code(&mut self, start: GuestAddr) -> Result<bool, MicrovmError> {
        self.enter_at(start)?;
        let works = match self.run()? {
            Turn::Gate => true,
            Turn::Fault(_) => false,
            other => return Err(MicrovmError::GateTest(format!("{other:?}"))),
        };
        self.finish_exit();
        let back = self.vcpu.set_sregs(&self.sregs);
        back.map_err(refused("set special registers"))?;
        Ok(works)
    }

    /// Lets KVM finish the store at which the processor stopped, without running
    /// on: it would otherwise change registers that are set afterwards.
    fn finish_exit(&mut self) {
        self.vcpu.set_kvm_immediate_exit(1);
        // It always comes back at once, with EINTR.
        let _ = self.vcpu.run();
        self.vcpu.set_kvm_immediate_exit(0);
    }
}

/// What an error of `KVM_RUN` means.
fn interrupted(error: kvm_ioctls::Error) -> Result<Turn, MicrovmError> {
    match error.errno() {
        libc::EINTR | libc::EAGAIN => Ok(Turn::Interrupted),
        libc::EFAULT | libc::EHWPOISON => Ok(Turn::Gone(BATCH_IS_GONE.to_owned())),
        _ => Err(MicrovmError::Kvm {
            what: "run the function",
            source: error,
        }),
    }
}

/// Writes gate, monitor and page tables into the function's memory.
fn install(layout: &Layout, memory: &GuestMemory) -> Result<PageTables, MicrovmError> {
    memory.copy_in(layout.span(Part::Gate).offset, code::gate())?;
    memory.copy_in(layout.span(Part::Monitor).offset, &code::monitor())?;
    let mut tables = PageTables::new(layout.tables, layout.tables_length);
    for span in &layout.spans {
        let rights = match (span.is_monitors(), span.access) {
            (true, Access::Write) => Rights::MonitorWrite,
            (true, Access::Read | Access::Execute) => Rights::MonitorExecute,
            (false, Access::Read) => Rights::UserRead,
            (false, Access::Write) => Rights::UserWrite,
            (false, Access::Execute) => Rights::UserExecute,
        };
        tables.map(
            memory,
            span.start,
            Physical(span.offset.0),
            span.length,
            rights,
        )?;
    }
    tables.map(memory, DOORBELL, DOORBELL_PHYSICAL, PAGE, Rights::UserWrite)?;
    tables.map(memory, ALARM, ALARM_PHYSICAL, PAGE, Rights::MonitorWrite)?;
    Ok(tables)
}

#[cfg(test)]
mod tests;

const _: () = {
    // Physical addresses of shared memory are its offsets, which end below the
    // input: 8 GiB of memory and what lies before the heap.
    assert!(INPUT_PHYSICAL.0 >= 12 << 30);
    assert!(INPUT_PHYSICAL.0 + INPUT_MAX <= DOORBELL_PHYSICAL.0);
    // The narrowest processors have 36 bits of physical addresses.
    assert!(ALARM_PHYSICAL.0 < 1 << 36);
};
