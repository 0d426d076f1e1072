//! Messages of CoAP (RFC 7252) with the options of block-wise transfer (RFC 7959)
//! and of observing (RFC 7641): bytes ⇄ values.

use coap_lite::{CoapOption, MessageClass, MessageType, Packet, RequestType};

/// What answers to a question have in common with it.
pub(super) type Token = [u8; 4];

/// Largest block that is asked for: 2^(4 + 6) = 1024 bytes.
const BLOCK: u8 = 6;

/// A part of a longer answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Block {
    pub(super) number: u32,
    pub(super) more: bool,
    /// The size is 2^(4 + exponent) bytes.
    pub(super) exponent: u8,
}

/// A question for a resource.
#[derive(Debug, Clone)]
pub(super) struct Question<'a> {
    pub(super) path: &'a str,
    pub(super) id: u16,
    pub(super) token: Token,
    /// Ask the device to tell changes.
    pub(super) observe: bool,
    pub(super) block: Option<Block>,
}

/// What came.
#[derive(Debug, PartialEq)]
pub(super) enum Incoming {
    /// The question with this id has come; its answer will.
    Acknowledged(u16),
    /// The device does not understand the message with this id.
    Reset(u16),
    Answer(Answer),
}

/// An answer.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Answer {
    pub(super) id: u16,
    pub(super) token: Vec<u8>,
    /// It wants to be acknowledged.
    pub(super) confirmable: bool,
    /// It acknowledges the question.
    pub(super) acknowledges: bool,
    /// Class and detail, as 0xcd for c.dd.
    pub(super) code: u8,
    pub(super) format: Option<u32>,
    pub(super) observe: Option<u32>,
    pub(super) block: Option<Block>,
    pub(super) etag: Vec<u8>,
    /// Seconds.
    pub(super) max_age: u32,
    pub(super) payload: Vec<u8>,
}

impl Block {
    pub(super) const fn size(self) -> usize {
        1 << (4 + self.exponent)
    }

    fn read(value: u32) -> Option<Self> {
        let exponent = (value & 7) as u8;
        (exponent < 7).then_some(Self {
            number: value >> 4,
            more: value & 8 != 0,
            exponent,
        })
    }

    fn value(self) -> u32 {
        self.number << 4 | u32::from(self.more) << 3 | u32::from(self.exponent)
    }
}

impl Question<'_> {
    /// The message; `None` when the path cannot be asked for.
    pub(super) fn bytes(&self) -> Option<Vec<u8>> {
        let mut packet = Packet::new();
        packet.header.set_type(MessageType::Confirmable);
        packet.header.code = MessageClass::Request(RequestType::Get);
        packet.header.message_id = self.id;
        packet.set_token(self.token.to_vec());
        if self.observe {
            packet.add_option(CoapOption::Observe, Vec::new());
        }
        for part in self.path.split('/').filter(|p| !p.is_empty()) {
            packet.add_option(CoapOption::UriPath, part.as_bytes().to_vec());
        }
        let first = Block {
            number: 0,
            more: false,
            exponent: BLOCK,
        };
        let block = self.block.unwrap_or(first).value();
        packet.add_option(CoapOption::Block2, shortest(block));
        packet.to_bytes().ok()
    }
}

/// A number without leading zeros.
fn shortest(value: u32) -> Vec<u8> {
    let bytes = value.to_be_bytes();
    let zeros = bytes.iter().take_while(|b| **b == 0).count();
    bytes[zeros..].to_vec()
}

/// Reads a datagram; `None` when it is no answer of any kind.
pub(super) fn read(datagram: &[u8]) -> Option<Incoming> {
    let packet = Packet::from_bytes(datagram).ok()?;
    if packet.header.get_version() != 1 {
        return None;
    }
    let id = packet.header.message_id;
    let kind = packet.header.get_type();
    match (kind, packet.header.code) {
        (MessageType::Acknowledgement, MessageClass::Empty) => {
            return Some(Incoming::Acknowledged(id));
        }
        (MessageType::Reset, _) => return Some(Incoming::Reset(id)),
        (_, MessageClass::Empty | MessageClass::Request(_)) => return None,
        (_, MessageClass::Response(_) | MessageClass::Reserved(_)) => {}
    }
    let block = number(&packet, CoapOption::Block2, 3)?.map(Block::read);
    let block = match block {
        Some(None) => return None,
        Some(block) => block,
        None => None,
    };
    let etag = packet.get_first_option(CoapOption::ETag);
    Some(Incoming::Answer(Answer {
        id,
        token: packet.get_token().to_vec(),
        confirmable: kind == MessageType::Confirmable,
        acknowledges: kind == MessageType::Acknowledgement,
        code: packet.header.code.into(),
        format: number(&packet, CoapOption::ContentFormat, 2)?,
        observe: number(&packet, CoapOption::Observe, 3)?,
        block,
        etag: etag.cloned().unwrap_or_default(),
        max_age: number(&packet, CoapOption::MaxAge, 4)?.unwrap_or(60),
        payload: packet.payload,
    }))
}

/// An option that is a number of at most `most` bytes; `None` when it is longer.
#[expect(clippy::option_option, reason = "absent and malformed differ")]
fn number(packet: &Packet, option: CoapOption, most: usize) -> Option<Option<u32>> {
    let Some(bytes) = packet.get_first_option(option) else {
        return Some(None);
    };
    let fits = bytes.len() <= most;
    fits.then(|| Some(bytes.iter().fold(0, |n, b| n << 8 | u32::from(*b))))
}

/// A message without content: an acknowledgement of `id`.
pub(super) fn acknowledgement(id: u16) -> [u8; 4] {
    let [high, low] = id.to_be_bytes();
    [0x60, 0, high, low]
}

/// A message without content: nobody here expects `id`.
pub(super) fn reset(id: u16) -> [u8; 4] {
    let [high, low] = id.to_be_bytes();
    [0x70, 0, high, low]
}

#[cfg(test)]
mod tests {
    use proptest::prelude::{any, prop, proptest};

    use super::{Block, Incoming, Question, acknowledgement, read, reset, shortest};

    #[test]
    fn a_question_is_what_the_standard_says() {
        let question = Question {
            path: "/a/bc",
            id: 0x1234,
            token: [1, 2, 3, 4],
            observe: true,
            block: None,
        };
        let bytes = question.bytes().unwrap();
        let expected = [
            0x44, 0x01, 0x12, 0x34, 1, 2, 3, 4,    // confirmable GET
            0x60, // Observe: register
            0x51, b'a', 0x02, b'b', b'c', // Uri-Path
            0xc1, 0x06, // Block2: 0, 1024 bytes
        ];
        assert_eq!(bytes, expected);
        let long = "x".repeat(2_000);
        let question = Question {
            path: &long,
            ..question
        };
        assert_eq!(question.bytes(), None);
    }

    #[test]
    fn answers_are_read() {
        let datagram = [
            0x62, 0x45, 0, 7, 9, 8, // acknowledges 7 with 2.05, token 9 8
            0x42, 0xaa, 0xbb, // ETag
            0x21, 5, // Observe 5
            0x61, 110, // Content-Format senml+json
            0x21, 30, // Max-Age
            0x91, 0x1e, // Block2: number 1, more, 1024
            0xff, b'x',
        ];
        let Some(Incoming::Answer(answer)) = read(&datagram) else {
            panic!()
        };
        assert_eq!((answer.id, answer.code, answer.max_age), (7, 0x45, 30));
        assert!(answer.acknowledges && !answer.confirmable);
        assert_eq!((answer.format, answer.observe), (Some(110), Some(5)));
        let block = Block {
            number: 1,
            more: true,
            exponent: 6,
        };
        assert_eq!((answer.block, block.size()), (Some(block), 1024));
        assert_eq!(
            (answer.etag, answer.payload),
            (vec![0xaa, 0xbb], b"x".to_vec())
        );
        assert_eq!(read(&acknowledgement(7)), Some(Incoming::Acknowledged(7)));
        assert_eq!(read(&reset(7)), Some(Incoming::Reset(7)));
        assert_eq!(read(b"\x40\x01\0\0"), None, "a question is none");
        assert_eq!(read(b"\x20\x45\0\0"), read(b""), "version 0");
        assert_eq!(
            read(b"\x40\x45\0\0\xd1\x0a\x07"),
            None,
            "a block of 2048 bytes"
        );
    }

    proptest! {
        #[test]
        fn whatever_comes_does_no_harm(bytes in prop::collection::vec(any::<u8>(), 0..64)) {
            let _ = read(&bytes);
        }

        #[test]
        fn blocks_survive(number in 0..1_u32 << 20, more: bool, exponent in 0..7_u8) {
            let block = Block { number, more, exponent };
            assert_eq!(Block::read(block.value()), Some(block));
            assert!(shortest(block.value()).len() <= 3);
        }
    }
}
