//! Finds instructions whose results differ from run to run or from host to
//! host. Not every host can take them away from a function.

use std::fmt;

use iced_x86::{Code, Decoder, DecoderOptions, Mnemonic};

use crate::symbols::Symbol;

/// An instruction that makes an answer depend on more than its inputs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Irreproducible {
    /// The function that contains it.
    pub function: String,
    /// Where it lies.
    pub address: u64,
    /// The instruction.
    pub instruction: &'static str,
    /// What it reads.
    pub reads: &'static str,
}

impl fmt::Display for Irreproducible {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            function,
            address,
            instruction,
            reads,
        } = self;
        write!(
            f,
            "{function} at {address:#x} uses {instruction}, which reads {reads}: \
             two runs on the same data may answer differently"
        )
    }
}

/// Looks through all functions of the text. Data between functions is not
/// looked at, and within a function compilers put none.
pub(crate) fn irreproducible(symbols: &[Symbol], texts: &[(u64, &[u8])]) -> Vec<Irreproducible> {
    let mut found = Vec::new();
    for symbol in symbols {
        let Some(code) = code(symbol, texts) else {
            continue;
        };
        let mut decoder = Decoder::with_ip(64, code, symbol.address, DecoderOptions::NONE);
        while decoder.can_decode() {
            let instruction = decoder.decode();
            if instruction.code() == Code::INVALID {
                continue;
            }
            if let Some((name, reads)) = suspect(instruction.mnemonic()) {
                found.push(Irreproducible {
                    function: symbol.name.clone(),
                    address: instruction.ip(),
                    instruction: name,
                    reads,
                });
            }
        }
    }
    found
}

fn code<'t>(symbol: &Symbol, texts: &[(u64, &'t [u8])]) -> Option<&'t [u8]> {
    texts.iter().find_map(|&(start, bytes)| {
        let from = usize::try_from(symbol.address.checked_sub(start)?).ok()?;
        let size = usize::try_from(symbol.size).ok()?;
        bytes.get(from..from.checked_add(size)?)
    })
}

const fn suspect(mnemonic: Mnemonic) -> Option<(&'static str, &'static str)> {
    Some(match mnemonic {
        Mnemonic::Rdtsc => ("rdtsc", "the time"),
        Mnemonic::Rdtscp => ("rdtscp", "the time and the processor's number"),
        Mnemonic::Rdrand => ("rdrand", "random numbers"),
        Mnemonic::Rdseed => ("rdseed", "random numbers"),
        Mnemonic::Rdpid => ("rdpid", "the processor's number"),
        Mnemonic::Cpuid => ("cpuid", "the kind of processor"),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn symbol(address: u64, size: u64) -> Symbol {
        Symbol {
            address,
            size,
            name: "f".into(),
        }
    }

    #[test]
    fn each_instruction_is_found_with_its_address() {
        let text = [
            0x90, // nop
            0x0f, 0x31, // rdtsc
            0x0f, 0x01, 0xf9, // rdtscp
            0x48, 0x0f, 0xc7, 0xf0, // rdrand rax
            0x48, 0x0f, 0xc7, 0xf8, // rdseed rax
            0xf3, 0x0f, 0xc7, 0xf8, // rdpid rax
            0x0f, 0xa2, // cpuid
        ];
        let found = irreproducible(&[symbol(0x1000, 20)], &[(0x1000, &text)]);
        let found: Vec<_> = found.iter().map(|i| (i.address, i.instruction)).collect();
        let expected = [
            (0x1001, "rdtsc"),
            (0x1003, "rdtscp"),
            (0x1006, "rdrand"),
            (0x100a, "rdseed"),
            (0x100e, "rdpid"),
            (0x1012, "cpuid"),
        ];
        assert_eq!(found, expected);
    }

    #[test]
    fn the_same_bytes_within_a_constant_are_none() {
        // mov eax, 0xa20f310f
        let text = [0xb8, 0x0f, 0x31, 0x0f, 0xa2, 0xc3];
        assert_eq!(irreproducible(&[symbol(0, 6)], &[(0, &text)]), []);
    }
}
