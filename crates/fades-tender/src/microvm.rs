//! A microVM under KVM with one virtual processor and no devices.
//!
//! The function runs in ring 3; ring 0 holds a few bytes of the host's code
//! that report exceptions ([`code`]). What the function may only read is
//! protected twice: by page tables that it cannot reach ([`paging`]), and by a
//! read-only slot of memory. The only way out is a store to an address without
//! memory behind it, the doorbell.
//!
//! A microVM is made once, empty and with all its slots ([`Microvm::make`]), and
//! then runs one function after the other: [`Microvm::load`] maps a template,
//! [`Microvm::reset`] takes away everything that a function left. Neither
//! touches a slot, because that is slow on a busy host.

use std::ops::Range;
use std::os::fd::OwnedFd;

use fades_abi::boot::simd;
use fades_task::shell::Class;
use kvm_bindings::{KVM_MEM_READONLY, kvm_sregs, kvm_xsave};
use kvm_ioctls::{Cap, Kvm, SyncReg, VcpuExit, VcpuFd, VmFd};

use crate::address::{GuestAddr, LARGE_PAGE, Offset, PAGE};
use crate::fault::Raw;
use crate::image::Access;
use crate::layout::{ALARM, DOORBELL, GATE, INPUT, INPUT_MAX, Layout, Part, Zones};
use crate::machine::{BATCH_IS_GONE, Turn};
use crate::memory::{GuestMemory, Mapping, OutOfBounds};
use crate::template::{Template, TemplateError};
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
    #[error(transparent)]
    Template(#[from] Box<TemplateError>),
    #[error("the template is for another kind of shell")]
    Unfit,
    #[error("the microVM stopped at the test of its gate: {0}")]
    GateTest(String),
}

fn refused(what: &'static str) -> impl FnOnce(kvm_ioctls::Error) -> MicrovmError {
    move |source| MicrovmError::Kvm { what, source }
}

/// A microVM, with or without a function in it.
#[derive(Debug)]
pub(crate) struct Microvm {
    class: Class,
    /// Of the function that is loaded; at first that of the self-test.
    layout: Layout,
    // The order of these fields is the order in which they go: the processor
    // and the machine before the memory that they use.
    vcpu: VcpuFd,
    _vm: VmFd,
    window: Mapping,
    memory: GuestMemory,
    tables: PageTables,
    /// State of a processor that has not run yet.
    sregs: kvm_sregs,
    xsave: Box<kvm_xsave>,
    /// KVM takes registers from the page that it shares with this process.
    shares_registers: bool,
    simd: u32,
    vectors: Vectors,
    /// Where large pages were asked for.
    large_pages: Range<u64>,
    /// Number of the template that is mapped.
    template: Option<u64>,
    /// Length of the batch in the window, bytes.
    input: u64,
}

impl Microvm {
    /// Makes an empty microVM.
    ///
    /// `simd` is the highest level of vectors to try.
    pub(crate) fn make(kvm: &Kvm, class: Class, simd: u32) -> Result<Self, MicrovmError> {
        let zones = Zones::of(class.bulk);
        let memory = GuestMemory::anonymous(zones.end(class))?;
        let window = Mapping::reserve(class.window.0)?;
        let vm = kvm
            .create_vm()
            .map_err(refused("create a virtual machine"))?;
        set_slots(&vm, (zones, class), &memory, &window)?;
        let vcpu = vm
            .create_vcpu(0)
            .map_err(refused("create a virtual processor"))?;
        let layout = Layout::without_image(class.bulk);
        install(&layout, &memory)?;
        let tables = PageTables::at(zones.tables(), class.bulk);
        let (sregs, vectors) =
            cpu::set_up(kvm, &vcpu, tables.root()).map_err(refused("set up the processor"))?;
        let xsave = cpu::vectors(&vcpu).map_err(refused("read vector registers"))?;
        let mut made = Self {
            class,
            layout,
            vcpu,
            _vm: vm,
            window,
            memory,
            tables,
            sregs,
            xsave,
            shares_registers: shares_registers(kvm),
            simd: simd::SSE2,
            vectors,
            large_pages: 0..0,
            template: None,
            input: 0,
        };
        made.simd = made.try_vectors(simd)?;
        made.reset()?;
        Ok(made)
    }

    /// Puts a function into the clean microVM, before its first instruction.
    /// What it is to be told about its run is written by the caller.
    ///
    /// `number` is the template's: the same one need not be mapped again.
    pub(crate) fn load(&mut self, number: u64, template: &Template) -> Result<(), MicrovmError> {
        let layout = &template.sheet.layout;
        let needs = layout.needs();
        if needs.bulk != self.class.bulk || needs.heap > self.class.heap {
            return Err(MicrovmError::Unfit);
        }
        if self.template != Some(number) {
            self.template = None;
            self.memory
                .put_template(template, layout.zones().template())?;
            let large = layout.large_pages();
            if large != self.large_pages {
                self.memory.advise(self.large_pages.clone(), false);
                self.memory.advise(large.clone(), true);
                self.large_pages = large;
            }
            self.layout = layout.clone();
            self.template = Some(number);
        }
        // A page that turns from the template's into the function's own while KVM
        // maps it is mapped twice.
        for span in layout.data() {
            self.memory.populate(span);
        }
        self.enter_at(template.sheet.entry)
    }

    /// Takes away everything that a function left: its batch, its memory, its
    /// page tables and its vector registers. All other registers are set when the
    /// next function is loaded.
    pub(crate) fn reset(&mut self) -> Result<(), MicrovmError> {
        self.detach()?;
        self.memory.forget()?;
        cpu::set_vectors(&self.vcpu, &self.xsave).map_err(refused("set vector registers"))
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

    /// Puts the processor at the start of a function, with all its special
    /// registers as they were in the beginning. A store at which the processor
    /// stopped before is over by then: KVM has only its bookkeeping left to do.
    fn enter_at(&mut self, entry: GuestAddr) -> Result<(), MicrovmError> {
        let stack = self.layout.span(Part::Stack).end();
        let boot = self.layout.span(Part::Boot).start;
        let regs = cpu::regs(entry, stack, boot);
        if self.shares_registers {
            // Taken over when the processor runs next, without a call for each.
            let shared = self.vcpu.sync_regs_mut();
            (shared.regs, shared.sregs) = (regs, self.sregs);
            self.vcpu.set_sync_dirty_reg(SyncReg::Register);
            self.vcpu.set_sync_dirty_reg(SyncReg::SystemRegister);
            return Ok(());
        }
        let set = self.vcpu.set_sregs(&self.sregs);
        set.map_err(refused("set special registers"))?;
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
        if length == 0 || length > self.class.window.0 || !length.is_multiple_of(LARGE_PAGE) {
            return Err(MicrovmError::Batch(length));
        }
        self.window.map_file(batch, length)?;
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

    /// Takes the batch away. The page tables first: what the processor has
    /// cached of them goes when the mapping below is replaced.
    pub(crate) fn detach(&mut self) -> Result<(), MicrovmError> {
        if self.input > 0 {
            self.tables.unmap_large(&self.memory, INPUT, self.input)?;
            self.window.clear(self.input)?;
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
        Ok(works)
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

/// Whether registers can be handed over without a call for each.
fn shares_registers(kvm: &Kvm) -> bool {
    let wanted = SyncReg::Register as i32 | SyncReg::SystemRegister as i32;
    kvm.check_extension_int(Cap::SyncRegs) & wanted == wanted
}

/// Shows the machine its memory and its input window.
fn set_slots(
    vm: &VmFd,
    (zones, class): (Zones, Class),
    memory: &GuestMemory,
    window: &Mapping,
) -> Result<(), MicrovmError> {
    let (writable, end) = (zones.writable(), zones.end(class));
    let host = memory.address();
    slot::set(vm, READ_ONLY_SLOT, KVM_MEM_READONLY, 0, writable, host)?;
    slot::set(
        vm,
        WRITABLE_SLOT,
        0,
        writable,
        end - writable,
        host + writable,
    )?;
    let (start, length) = (INPUT_PHYSICAL.0, window.length());
    slot::set(
        vm,
        INPUT_SLOT,
        KVM_MEM_READONLY,
        start,
        length,
        window.address(),
    )
}

/// Writes gate, monitor and page tables into a function's memory.
pub(crate) fn install(layout: &Layout, memory: &GuestMemory) -> Result<(), MicrovmError> {
    memory.copy_in(layout.span(Part::Gate).offset, code::gate())?;
    memory.copy_in(layout.span(Part::Monitor).offset, &code::monitor())?;
    let tables = PageTables::at(layout.zones().tables(), layout.bulk);
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
    Ok(())
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
