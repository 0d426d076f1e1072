use std::convert::Infallible;
use std::io::{BufReader, Read};

use proptest::prelude::{any, prop, prop_assert_eq, proptest};

use super::{MsgpackError, Row, answer, readings};

/// Gives bytes in pieces of `n`.
struct Drip<'a>(&'a [u8], usize);

impl Read for Drip<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let n = self.1.min(buffer.len()).min(self.0.len());
        buffer[..n].copy_from_slice(&self.0[..n]);
        self.0 = &self.0[n..];
        Ok(n)
    }
}

fn rows(bytes: &[u8], n: u32, drip: usize) -> Result<Vec<Row>, MsgpackError<Infallible>> {
    let mut rows = Vec::new();
    let mut reader = BufReader::with_capacity(32, Drip(bytes, drip));
    readings(&mut reader, n, |row| {
        rows.push(row);
        Ok(())
    })?;
    Ok(rows)
}

#[test]
fn values_of_every_form_are_read_however_they_come() {
    let cases: [(&[u8], Option<f64>); 9] = [
        (b"\xc0", None),
        (b"\xc3", Some(1.0)),
        (b"\x07", Some(7.0)),
        (b"\xff", Some(-1.0)),
        (b"\xcc\xff", Some(255.0)),
        (b"\xd1\xff\x00", Some(-256.0)),
        (
            b"\xcf\xff\xff\xff\xff\xff\xff\xff\xff",
            Some(u64::MAX as f64),
        ),
        (b"\xca\x3f\x80\x00\x00", Some(1.0)),
        (b"\xcb\x40\x00\x00\x00\x00\x00\x00\x00", Some(2.0)),
    ];
    let times: [(&[u8], i64); 4] = [
        (b"\x05", 5),
        (b"\xd2\xff\xff\xff\xfe", -2),
        (b"\xd3\x00\x00\x00\x01\x00\x00\x00\x00", 1 << 32),
        (
            b"\xc7\x0c\x05\x00\x00\x00\x00\x00\x00\x00\x01\x00\x00\x07\xd0",
            1_000_002_000,
        ),
    ];
    for (value_bytes, value) in cases {
        for (time_bytes, time) in times {
            let row = [&[0x92], time_bytes, value_bytes].concat();
            for drip in [1, 7, 1000] {
                let read = rows(&row.repeat(5), 5, drip).unwrap();
                assert_eq!(read.len(), 5);
                for row in read {
                    assert_eq!((row.time, row.value), (time, value));
                }
            }
        }
    }
    let text = rows(b"\x92\x05\xa3abc", 1, 100).unwrap();
    assert!(text[0].value.unwrap().is_nan());
    for bad in [
        &b"\x91\x05"[..],
        b"\x92\xa1x\x05",
        b"\x92\x05\x92\x01\x01",
        b"\x92\x05",
        b"\x92\x05\xdb\xff\xff\xff\xff",
    ] {
        assert!(rows(bad, 1, 100).is_err(), "{bad:?}");
    }
}

proptest! {
    #[test]
    fn rows_come_out_as_they_went_in(written in prop::collection::vec((any::<i64>(), any::<f64>()), 0..50), drip in 1_usize..100) {
        let mut bytes = Vec::new();
        for (time, value) in &written {
            rmp::encode::write_array_len(&mut bytes, 2).unwrap();
            rmp::encode::write_sint(&mut bytes, *time).unwrap();
            rmp::encode::write_f64(&mut bytes, *value).unwrap();
        }
        let written: Vec<_> = written.into_iter().map(|(t, v)| (t, Some(v.to_bits()))).collect();
        // The largest numbers are written without sign.
        let read = rows(&bytes, written.len() as u32, drip).unwrap();
        let read: Vec<_> = read.iter().map(|r| (r.time, r.value.map(f64::to_bits))).collect();
        prop_assert_eq!(read, written);
    }

    #[test]
    fn no_bytes_do_harm(
        bytes in prop::collection::vec(any::<u8>(), 0..200),
        at in 0_usize..200,
    ) {
        let good: &[u8] = b"\x81\xa7results\x91\x83\xacstatement_id\x00\xa6series\x91\x84\xa4name\xa2pm\
            \xa4tags\x81\xa5board\xa1a\xa7columns\x92\xa4time\xa5value\xa6values\x92\x92\x05\x06\x92\x07\x08\
            \xa7partial\xc3";
        let at = at.min(good.len());
        for bytes in [bytes.clone(), [&good[..at], &bytes].concat()] {
            let mut n = 0;
            let _ = answer::<_, Infallible>(&mut &*bytes, |_, reader, rows| {
                readings(reader, rows, |_| {
                    n += 1;
                    Ok(())
                })
            });
            assert!(n <= bytes.len());
        }
    }
}
