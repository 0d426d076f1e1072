//! From an image and its limits to a machine with the function in it.

use std::fs::File;
use std::io::{self, Read};
use std::os::fd::OwnedFd;

use fades_abi::boot::transport;
use fades_task::limits::Isolation;
use fades_task::message::{Refused, Start};

use crate::address::{LARGE_PAGE, Offset};
use crate::boot::{BootError, Given};
use crate::confine;
use crate::image::{FILE_MAX, Image, ImageError};
use crate::layout::{Layout, LayoutError, Part};
use crate::machine::{Machine, MachineError};
use crate::memory::{GuestMemory, OutOfBounds};
use crate::microvm::Microvm;
use crate::process::{self, Process};

/// Why a function could not be loaded.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LoadError {
    #[error("the image cannot be read: {0}")]
    Read(#[source] io::Error),
    #[error(transparent)]
    Image(#[from] ImageError),
    #[error(transparent)]
    Layout(#[from] LayoutError),
    #[error(transparent)]
    Boot(#[from] BootError),
    #[error("the function's memory could not be had: {0}")]
    Memory(#[source] io::Error),
    #[error(transparent)]
    Bounds(#[from] OutOfBounds),
    #[error(transparent)]
    Confine(#[from] confine::ConfineError),
    #[error("the watch over the function could not be started: {0}")]
    Guard(#[source] io::Error),
    #[error(transparent)]
    Machine(#[from] MachineError),
}

impl From<LoadError> for Refused {
    fn from(error: LoadError) -> Self {
        let reason = error.to_string();
        match error {
            LoadError::Read(_) | LoadError::Image(_) => Self::Image { reason },
            LoadError::Layout(_) | LoadError::Boot(_) => Self::Limits { reason },
            LoadError::Memory(_)
            | LoadError::Bounds(_)
            | LoadError::Confine(_)
            | LoadError::Guard(_)
            | LoadError::Machine(_) => Self::Isolation { reason },
        }
    }
}

/// A function that has not run yet.
pub(crate) struct Loaded {
    pub(crate) layout: Layout,
    pub(crate) machine: Machine,
}

/// Loads the image in `file` for a run.
pub(crate) fn load(file: &mut File, start: &Start, params: Vec<u8>) -> Result<Loaded, LoadError> {
    let mut bytes = Vec::new();
    let most = FILE_MAX + 1;
    file.take(most)
        .read_to_end(&mut bytes)
        .map_err(LoadError::Read)?;
    let image = Image::parse(&bytes)?;
    load_image(&image, &bytes, start, params)
}

/// Loads an image that has been checked, from the bytes that it refers to.
pub(crate) fn load_image(
    image: &Image,
    file: &[u8],
    start: &Start,
    params: Vec<u8>,
) -> Result<Loaded, LoadError> {
    let layout = Layout::plan(image, &start.limits)?;
    let loading = Loading {
        file,
        image,
        layout: &layout,
        start,
        params,
    };
    let machine = match start.isolation {
        Isolation::Microvm => loading.microvm()?,
        Isolation::Process => loading.process()?,
    };
    Ok(Loaded { layout, machine })
}

struct Loading<'a> {
    file: &'a [u8],
    image: &'a Image,
    layout: &'a Layout,
    start: &'a Start,
    params: Vec<u8>,
}

impl Loading<'_> {
    fn microvm(self) -> Result<Machine, LoadError> {
        let kvm = Microvm::open().map_err(MachineError::from)?;
        let memory = GuestMemory::anonymous(self.layout.total).map_err(LoadError::Memory)?;
        // The first part of the heap is for functions that need little.
        let heap = self.layout.span(Part::Heap);
        memory.prefer_large_pages(Offset(heap.offset.0 + LARGE_PAGE));
        self.copy_image(&memory)?;
        let built = Microvm::build(&kvm, self.layout, memory, self.start.simd);
        let mut microvm = built.map_err(MachineError::from)?;
        let entry = self.image.entry;
        // What works is known only now that it has been tried.
        self.tell(microvm.memory(), microvm.simd(), transport::MMIO)?;
        microvm.enter_at(entry).map_err(MachineError::from)?;
        Ok(Machine::Microvm(Box::new(microvm)))
    }

    fn process(self) -> Result<Machine, LoadError> {
        let memory = GuestMemory::shared(self.layout.total).map_err(LoadError::Memory)?;
        self.copy_image(&memory)?;
        let landlock: Option<OwnedFd> = confine::landlock_domain()?;
        let simd = self.start.simd.min(process::offered());
        let (layout, entry) = (self.layout, self.image.entry);
        self.tell(&memory, simd, transport::SYSCALL)?;
        let process = Process::build(layout, memory, entry, simd, landlock);
        Ok(Machine::Process(Box::new(
            process.map_err(MachineError::from)?,
        )))
    }

    fn copy_image(&self, memory: &GuestMemory) -> Result<(), OutOfBounds> {
        for segment in &self.image.segments {
            let span = self.layout.spans.iter().find(|s| s.start == segment.start);
            if let Some(span) = span {
                let at = Offset(span.offset.0 + segment.lead);
                memory.copy_in(at, &self.file[segment.file.clone()])?;
            }
        }
        Ok(())
    }

    fn tell(self, memory: &GuestMemory, simd: u32, transport: u32) -> Result<(), LoadError> {
        let given = Given::compose(self.layout, self.start, self.params, simd, transport)?;
        let at = |part| self.layout.span(part).offset;
        memory.put(at(Part::Boot), &given.boot)?;
        memory.copy_in(at(Part::Params), &given.params)?;
        memory.copy_in(at(Part::Context), &given.context)?;
        Ok(())
    }
}
