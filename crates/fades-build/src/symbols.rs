//! Names of addresses, for reports of crashes. They travel beside an image, not
//! in it.

use std::fmt;

use object::elf::{FileHeader64, STT_FUNC, STT_NOTYPE, STT_OBJECT};
use object::read::elf::{FileHeader as _, Sym as _};
use object::{LittleEndian, elf};

/// How names begin that the linker script gives to places.
const MARKS: &[u8] = b"__fades_";

/// What lies at some addresses.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Symbol {
    /// Address of the first byte.
    pub address: u64,
    /// Number of bytes; 0 when it is not known.
    pub size: u64,
    /// Its name in the source, without a hash.
    pub name: String,
}

/// `address size name`, numbers in hexadecimal.
impl fmt::Display for Symbol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:x} {:x} {}", self.address, self.size, self.name)
    }
}

/// The symbols of a program, by address.
pub(crate) fn of(elf: &[u8]) -> Result<Vec<Symbol>, object::read::Error> {
    let header = FileHeader64::<LittleEndian>::parse(elf)?;
    let sections = header.sections(LittleEndian, elf)?;
    let table = sections.symbols(LittleEndian, elf, elf::SHT_SYMTAB)?;
    let mut symbols = Vec::new();
    for symbol in table.iter() {
        let defined = !symbol.is_undefined(LittleEndian);
        let kind = symbol.st_type();
        let name = symbol.name(LittleEndian, table.strings())?;
        let named = matches!(kind, STT_FUNC | STT_OBJECT | STT_NOTYPE)
            && !name.is_empty()
            && !name.starts_with(MARKS);
        if defined && named {
            symbols.push(Symbol {
                address: symbol.st_value(LittleEndian),
                size: symbol.st_size(LittleEndian),
                name: readable(name),
            });
        }
    }
    symbols.sort();
    symbols.dedup();
    Ok(symbols)
}

fn readable(name: &[u8]) -> String {
    let name = String::from_utf8_lossy(name);
    // The alternate form leaves out the hash.
    format!("{:#}", rustc_demangle::demangle(&name))
}
