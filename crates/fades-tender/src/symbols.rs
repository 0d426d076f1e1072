//! Names for instruction addresses, from the symbols that travel beside an
//! image.

/// Beginnings of names that are not the author's.
const LIBRARIES: [&str; 6] = [
    "alloc::",
    "core::",
    "fades_sdk::",
    "talc::",
    "__rust",
    "rust_",
];

/// The functions of an image, by ascending address.
#[derive(Debug, Clone, Default)]
pub(crate) struct Symbols {
    sorted: Vec<Symbol>,
}

#[derive(Debug, Clone)]
struct Symbol {
    address: u64,
    size: u64,
    name: String,
}

impl Symbols {
    /// Reads lines of `address size name`, numbers in hexadecimal. Lines that
    /// are none are skipped: symbols only make reports nicer.
    pub(crate) fn parse(text: &str) -> Self {
        let mut sorted: Vec<_> = text.lines().filter_map(symbol).collect();
        sorted.sort_by_key(|s| s.address);
        Self { sorted }
    }

    /// The first of `addresses`, innermost first, that lies in code of the
    /// function's author and not in a library that every function links.
    pub(crate) fn of_the_author(&self, addresses: impl Iterator<Item = u64>) -> Option<String> {
        let named = addresses.filter_map(|address| self.name(address));
        let mut own = named.filter(|name| {
            let path = name.trim_start_matches(['<', '&']);
            let library = LIBRARIES.iter().any(|library| path.starts_with(library));
            // Nothing returns to the start of a function.
            !library && !name.ends_with("+0x0")
        });
        own.next()
    }

    /// The function around `address`, and how far into it, as `name+0x10`.
    pub(crate) fn name(&self, address: u64) -> Option<String> {
        let after = self.sorted.partition_point(|s| s.address <= address);
        let symbol = self.sorted.get(after.checked_sub(1)?)?;
        let into = address - symbol.address;
        (into < symbol.size.max(1)).then(|| format!("{}+{into:#x}", symbol.name))
    }
}

fn symbol(line: &str) -> Option<Symbol> {
    let mut fields = line.splitn(3, ' ');
    let mut number = || {
        let field = fields.next()?;
        u64::from_str_radix(field.trim_start_matches("0x"), 16).ok()
    };
    let (address, size) = (number()?, number()?);
    let name = crate::journal::harmless(fields.next()?.trim().as_bytes());
    Some(Symbol {
        address,
        size,
        name,
    })
}

#[cfg(test)]
mod tests {
    use super::Symbols;

    #[test]
    fn libraries_are_passed_over_for_the_author_s_own_code() {
        let symbols = Symbols::parse(
            "1000 10 <alloc::raw_vec::RawVec<T>>::grow_one\n2000 10 overheat::Overheat::keep\n\
             3000 10 fades_sdk::serve\n4000 10 main\n",
        );
        let place = symbols.of_the_author([0x1001, 0x4000, 0x5000, 0x2004, 0x3004].into_iter());
        assert_eq!(place.unwrap(), "overheat::Overheat::keep+0x4");
        assert_eq!(symbols.of_the_author([0x1001, 0x3000].into_iter()), None);
    }

    #[test]
    fn an_address_is_named_by_the_function_around_it() {
        let symbols = Symbols::parse("401010 20 sum::<f64>\n0x401000 10 _start\nrubbish\n");
        assert_eq!(symbols.name(0x40_1000).unwrap(), "_start+0x0");
        assert_eq!(symbols.name(0x40_1015).unwrap(), "sum::<f64>+0x5");
        assert_eq!(symbols.name(0x40_0fff), None);
        assert_eq!(symbols.name(0x40_1030), None);
        assert_eq!(Symbols::default().name(1), None);
    }
}
