//! Units on a serial bus (a pseudo terminal) that answer wrongly.

use std::io::{Read, Write};

use tokio_serial::{SerialPort, SerialStream};

use super::{ONE, asked, now, start};

/// CRC of Modbus RTU: polynomial 0xA001, from 0xFFFF.
fn crc(bytes: &[u8]) -> [u8; 2] {
    let mut crc = 0xffff_u16;
    for byte in bytes {
        crc ^= u16::from(*byte);
        for _ in 0..8 {
            crc = if crc & 1 == 1 {
                crc >> 1 ^ 0xa001
            } else {
                crc >> 1
            };
        }
    }
    crc.to_le_bytes()
}

fn framed(bytes: &[u8]) -> Vec<u8> {
    [bytes, &crc(bytes)].concat()
}

/// A bus on which unit 2 answers as `fault` says, and the others well. The path of
/// its terminal; the file keeps it alive.
fn bus(fault: fn(&[u8]) -> Vec<u8>) -> (String, std::fs::File) {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let entered = runtime.enter();
    let (mut device, end) = SerialStream::pair().unwrap();
    drop(entered);
    let path = end.name().unwrap();
    let kept = std::fs::File::open(&path).unwrap();
    drop(end);
    std::thread::spawn(move || {
        let _runtime = runtime;
        let (mut request, mut have) = ([0; 8], 0);
        loop {
            match device.read(&mut request[have..]) {
                Ok(n) => have += n,
                Err(e) if e.kind() == std::io::ErrorKind::WouldBlock => {
                    std::thread::sleep(std::time::Duration::from_millis(1));
                }
                Err(_) => return,
            }
            if have < request.len() {
                continue;
            }
            have = 0;
            let good = framed(&[request[0], 3, 2, 0, 215]);
            let answer = if request[0] == 2 { fault(&good) } else { good };
            let _ = device.write_all(&answer);
        }
    });
    (path, kept)
}

#[test]
fn garbage_on_a_serial_bus_costs_the_unit_that_sent_it_and_no_other() {
    type Fault = fn(&[u8]) -> Vec<u8>;
    let faults: [(&str, Fault); 8] = [
        ("nothing but noise", |_| vec![0xA5; 40]),
        ("zeros", |_| vec![0; 300]),
        ("a wrong sum", |good| {
            let mut bad = good.to_vec();
            bad[5] ^= 1;
            bad
        }),
        ("a turned bit", |good| {
            let mut bad = good.to_vec();
            bad[4] ^= 0x10;
            bad
        }),
        ("half of it", |good| good[..4].to_vec()),
        ("another unit's", |_| framed(&[3, 3, 2, 0, 99])),
        ("another function's", |_| framed(&[2, 4, 2, 0, 99])),
        ("too much", |_| framed(&[2, 3, 4, 0, 99, 0, 99])),
    ];
    for (words, fault) in faults {
        let (path, _kept) = bus(fault);
        let options = format!("serial = \"{path}\"\nbaud = 115200\ntimeout = \"150ms\"");
        let broker = start(&options, &[1, 2, 3], ONE);
        let (coverage, totals) = asked(&broker, now(), "20s");
        let found = (coverage.answered, coverage.failed);
        assert_eq!(found, (2, 1), "{words}: {coverage:?}");
        assert_eq!(coverage.absent[0].device, "meter-2", "{words}");
        for unit in ["meter-1", "meter-3"] {
            assert_eq!(totals.of(unit, "t").values, [21.5], "{words}");
        }
    }
}

#[test]
fn noise_before_a_request_is_no_answer_to_it() {
    // An answer and then the half of another one, which comes too late for anybody.
    let (path, _kept) = bus(|good| [good, &framed(&[3, 3, 2, 0, 99])].concat());
    let options = format!("serial = \"{path}\"\nbaud = 115200\ntimeout = \"300ms\"");
    let broker = start(&options, &[2, 3], ONE);
    let (coverage, totals) = asked(&broker, now(), "20s");
    assert_eq!(coverage.answered, 2, "{coverage:?}");
    assert_eq!(totals.of("meter-3", "t").values, [21.5]);
}
