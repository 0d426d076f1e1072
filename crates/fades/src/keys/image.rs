//! Image files: what they say of themselves, and their symbols beside them.

use std::path::{Path, PathBuf};

use fades_abi::note::FLAG_CHECKPOINTS;
use fades_build::{Built, image_from_elf};
use fades_task::identity::Name;
use fades_trust::function::{Architecture, FunctionStatement, ImageFormat, image_digest};

use crate::problem::{Attempt, Problem};
use crate::session::now;

/// Largest file that is read as an image, bytes.
const IMAGE_MAX: u64 = 32 << 20;

/// An image that can be signed.
#[derive(Debug)]
pub(crate) struct ImageFile {
    /// The bytes that are run.
    pub(crate) bytes: Vec<u8>,
    /// Lines of `address size name`, when there are any.
    pub(crate) symbols: Option<String>,
    /// What is signed.
    pub(crate) statement: FunctionStatement,
    /// Least memory with which it works, bytes, when its author says so.
    pub(crate) memory: Option<u64>,
    /// Its stack, bytes.
    pub(crate) stack: u64,
    /// It can be stopped and gone on with.
    pub(crate) checkpoints: bool,
}

/// Whether a file is a program and not a text.
pub(crate) fn is_elf(path: &Path) -> bool {
    use std::io::Read;
    let mut magic = [0; 4];
    let read = std::fs::File::open(path).and_then(|mut f| f.read_exact(&mut magic));
    read.is_ok() && magic == *b"\x7fELF"
}

/// Reads an image and its symbols; `name` replaces the one in its note.
pub(crate) fn read(path: &Path, name: Option<&Name>) -> Result<ImageFile, Problem> {
    let cannot = || format!("cannot use {} as an image", path.display());
    let length = std::fs::metadata(path).or_problem(cannot)?.len();
    if length > IMAGE_MAX {
        let reason = format!("it has {length} bytes, an image has at most {IMAGE_MAX}");
        return Err(Problem::new(cannot()).reason(reason));
    }
    let file = std::fs::read(path).or_problem(cannot)?;
    let built = image_from_elf(&file)
        .or_problem(cannot)
        .map_err(|p| p.remedy("make images with: fades build"))?;
    let name = match name {
        Some(name) => name.clone(),
        None => built.name.parse().or_problem(cannot)?,
    };
    let statement = FunctionStatement {
        name,
        digest: image_digest(&built.image),
        size: built.image.len() as u64,
        abi_major: built.note.abi_major.get(),
        abi_minor: built.note.abi_minor.get(),
        architecture: Architecture::X86_64,
        format: ImageFormat::FadesElf,
        created: Some(now()),
    };
    Ok(ImageFile {
        memory: Some(built.note.memory_min.get()).filter(|m| *m > 0),
        stack: built.note.stack.get(),
        checkpoints: built.note.flags.get() & FLAG_CHECKPOINTS != 0,
        symbols: symbols(path, &built)?,
        bytes: built.image,
        statement,
    })
}

/// The symbols in the file, or in the one beside it that names this image.
fn symbols(path: &Path, built: &Built) -> Result<Option<String>, Problem> {
    if !built.symbols.is_empty() {
        return Ok(Some(lines(&built.symbol_file())));
    }
    let beside = path.with_extension("sym");
    if !beside.is_file() {
        return Ok(None);
    }
    let text = std::fs::read_to_string(&beside)
        .or_problem(|| format!("cannot read {}", beside.display()))?;
    let fits = text.lines().next() == Some(&format!("sha256:{}", built.sha256));
    Ok(fits.then(|| lines(&text)))
}

/// Without the first line, which names the image.
fn lines(text: &str) -> String {
    text.split_once('\n')
        .map_or("", |(_, rest)| rest)
        .to_owned()
}

/// The file of an image's envelope.
pub(crate) fn envelope_path(path: &Path) -> PathBuf {
    path.with_extension("dsse")
}
