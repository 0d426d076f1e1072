//! Names for instruction addresses, from the symbols that travel beside an
//! image.

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
    fn an_address_is_named_by_the_function_around_it() {
        let symbols = Symbols::parse("401010 20 sum::<f64>\n0x401000 10 _start\nrubbish\n");
        assert_eq!(symbols.name(0x40_1000).unwrap(), "_start+0x0");
        assert_eq!(symbols.name(0x40_1015).unwrap(), "sum::<f64>+0x5");
        assert_eq!(symbols.name(0x40_0fff), None);
        assert_eq!(symbols.name(0x40_1030), None);
        assert_eq!(Symbols::default().name(1), None);
    }
}
