//! The connection to a bus: one request, one answer.

use std::io;
use std::pin::Pin;
use std::task::{Context as Waker, Poll, ready};
use std::time::Duration;

use fades_task::dial::DialFailure;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_modbus::client::{Client, Context, rtu, tcp};
use tokio_modbus::slave::SlaveContext;
use tokio_modbus::{Error, ExceptionCode, ProtocolError, Request, Response, Slave};
use tokio_serial::{ClearBuffer, DataBits, SerialPort, SerialStream, StopBits};

use super::line::{Line, Serial};
use super::plan::Block;
use crate::config::{Parity, Table};
use crate::dial::{Dial, as_io};

/// A connection that is open.
pub(super) struct Port {
    context: Context,
    /// How long a serial bus is silent between two frames.
    silence: Duration,
    serial: bool,
    /// Whether it gave an answer already: then a break may only mean that nobody
    /// had asked for long.
    pub(super) used: bool,
}

/// Why the bus cannot be reached.
#[derive(Debug, thiserror::Error)]
pub(super) enum PortError {
    /// The address does not answer.
    #[error("no connection within {0:?}: is the device on, and the address right?")]
    Slow(Duration),
    /// The address refuses, or has no name.
    #[error("no connection: {0}")]
    Connect(io::Error),
    /// The serial port cannot be used.
    #[error(
        "the serial port cannot be opened: {0}; may this user open it, and nobody else has it?"
    )]
    Serial(tokio_serial::Error),
}

/// Why a read gave nothing.
#[derive(Debug, thiserror::Error)]
pub(super) enum ReadError {
    /// The unit answered that it cannot.
    #[error("the unit answers: {0}")]
    Exception(ExceptionCode),
    /// No answer in time.
    #[error("no answer within {0:?}")]
    Silent(Duration),
    /// An answer that is none, or not of this unit.
    #[error("{0}")]
    Garbled(String),
    /// Less than what was asked for.
    #[error("a short answer: {found} of {wanted} values")]
    Short { found: usize, wanted: u16 },
    /// The connection broke.
    #[error("the connection broke before the answer was complete")]
    Broken,
}

impl Port {
    /// Connects.
    pub(super) async fn open(
        line: &Line,
        within: Duration,
        dial: &Dial,
    ) -> Result<Self, PortError> {
        match line {
            Line::Tcp { host, port } => {
                let stream = connect(host, *port, within, dial).await?;
                // Requests are small and wait for nothing.
                stream.set_nodelay(true).map_err(PortError::Connect)?;
                Ok(Self {
                    context: tcp::attach(stream),
                    silence: Duration::ZERO,
                    serial: false,
                    used: false,
                })
            }
            Line::Serial(serial) => Ok(Self {
                context: rtu::attach(Wire::open(serial).map_err(PortError::Serial)?),
                silence: serial.silence(),
                serial: true,
                used: false,
            }),
        }
    }

    /// Reads a block of a unit: its words, or its bits as words.
    pub(super) async fn read(
        &mut self,
        unit: u8,
        block: &Block,
        within: Duration,
    ) -> Result<Vec<u16>, ReadError> {
        let (address, count) = (block.address, block.count);
        let request = match block.table {
            Table::Coil => Request::ReadCoils(address, count),
            Table::Discrete => Request::ReadDiscreteInputs(address, count),
            Table::Holding => Request::ReadHoldingRegisters(address, count),
            Table::Input => Request::ReadInputRegisters(address, count),
        };
        if !self.silence.is_zero() {
            tokio::time::sleep(self.silence).await;
        }
        self.context.set_slave(Slave(unit));
        let answer = timeout(within, self.context.call(request)).await;
        let answer = answer.map_err(|_| ReadError::Silent(within))?;
        let answer = answer.map_err(failure)?.map_err(ReadError::Exception);
        self.used = true;
        words(answer?, count)
    }

    /// Whether it can be used after such a failure. Over TCP a late answer would
    /// be taken for the next one; a serial line forgets what nobody waits for.
    pub(super) const fn outlives(&self, e: &ReadError) -> bool {
        match e {
            ReadError::Exception(_) => true,
            ReadError::Silent(_) | ReadError::Short { .. } => self.serial,
            ReadError::Garbled(_) | ReadError::Broken => false,
        }
    }
}

async fn connect(
    host: &str,
    port: u16,
    within: Duration,
    dial: &Dial,
) -> Result<TcpStream, PortError> {
    if let Some(asked) = dial.asked() {
        return asked
            .connect(host, port, within)
            .await
            .map_err(|e| match e {
                DialFailure::TimedOut => PortError::Slow(within),
                e => PortError::Connect(as_io(e)),
            });
    }
    let stream = timeout(within, TcpStream::connect((host, port))).await;
    let stream = stream.map_err(|_| PortError::Slow(within))?;
    stream.map_err(PortError::Connect)
}

/// The content of an answer; longer than asked for is none either, but for bits,
/// which come in whole bytes.
fn words(answer: Response, wanted: u16) -> Result<Vec<u16>, ReadError> {
    let words = match answer {
        Response::ReadCoils(bits) | Response::ReadDiscreteInputs(bits) => {
            let bits = bits.into_iter().take(wanted.into());
            bits.map(u16::from).collect()
        }
        Response::ReadHoldingRegisters(words) | Response::ReadInputRegisters(words) => words,
        _ => {
            return Err(ReadError::Garbled(
                "an answer to another question".to_owned(),
            ));
        }
    };
    match words.len() {
        found if found < wanted.into() => Err(ReadError::Short { found, wanted }),
        found if found > wanted.into() => Err(ReadError::Garbled(format!(
            "a long answer: {found} values instead of {wanted}"
        ))),
        _ => Ok(words),
    }
}

fn failure(e: Error) -> ReadError {
    match e {
        Error::Protocol(ProtocolError::HeaderMismatch { .. }) => {
            ReadError::Garbled("an answer of another unit, or to another question".to_owned())
        }
        Error::Protocol(ProtocolError::FunctionCodeMismatch { .. }) => {
            ReadError::Garbled("an answer to another function".to_owned())
        }
        Error::Transport(e) if e.kind() == io::ErrorKind::InvalidData => {
            ReadError::Garbled(format!("no Modbus answer: {e}"))
        }
        Error::Transport(_) => ReadError::Broken,
    }
}

impl Serial {
    /// 3.5 characters of 11 bits each, and 1.75 ms from 19200 baud on, as the
    /// standard wants.
    fn silence(&self) -> Duration {
        if self.baud > 19_200 {
            return Duration::from_micros(1750);
        }
        Duration::from_secs_f64(3.5 * 11.0 / f64::from(self.baud))
    }
}

/// A serial line on which whatever came before a request is no answer to it.
#[derive(Debug)]
struct Wire(SerialStream);

impl Wire {
    fn open(serial: &Serial) -> tokio_serial::Result<Self> {
        let parity = match serial.parity {
            Parity::None => tokio_serial::Parity::None,
            Parity::Even => tokio_serial::Parity::Even,
            Parity::Odd => tokio_serial::Parity::Odd,
        };
        let stop = if serial.two_stop_bits {
            StopBits::Two
        } else {
            StopBits::One
        };
        let builder = tokio_serial::new(&serial.path, serial.baud)
            .data_bits(DataBits::Eight)
            .parity(parity)
            .stop_bits(stop);
        SerialStream::open(&builder).map(Self)
    }
}

impl AsyncRead for Wire {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Waker<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_read(cx, buf)
    }
}

impl AsyncWrite for Wire {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Waker<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.0.clear(ClearBuffer::Input)?;
        Pin::new(&mut self.0).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Waker<'_>) -> Poll<io::Result<()>> {
        ready!(Pin::new(&mut self.0).poll_flush(cx))?;
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Waker<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use proptest::prelude::*;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio_modbus::client::{rtu, tcp};
    use tokio_serial::{SerialPort, SerialStream};

    use super::{Port, ReadError, Wire};
    use crate::config::Table;
    use crate::modbus::plan::Block;

    /// What comes of an answer; `head` puts the request's own header before it.
    fn answered(
        table: Table,
        serial: bool,
        head: bool,
        answer: &[u8],
    ) -> Result<Vec<u16>, ReadError> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .build();
        runtime.unwrap().block_on(async {
            let (ours, mut theirs) = tokio::io::duplex(1 << 16);
            let context = if serial {
                rtu::attach(ours)
            } else {
                tcp::attach(ours)
            };
            let mut port = Port {
                context,
                silence: Duration::ZERO,
                serial,
                used: false,
            };
            let block = Block {
                table,
                address: 3,
                count: 2,
                registers: vec![0],
            };
            let device = async {
                let mut request = [0; 12];
                let length = if serial { 8 } else { 12 };
                theirs.read_exact(&mut request[..length]).await.unwrap();
                if head {
                    let length = u16::try_from(answer.len() + 1).unwrap().to_be_bytes();
                    request[4..6].copy_from_slice(&length);
                    theirs.write_all(&request[..7]).await.unwrap();
                }
                // It may have given up already.
                let _ = theirs.write_all(answer).await;
                let _ = theirs.shutdown().await;
            };
            tokio::join!(port.read(7, &block, Duration::from_secs(5)), device).0
        })
    }

    #[test]
    fn an_answer_has_as_much_as_was_asked_for() {
        let words = |bytes: &[u8]| answered(Table::Holding, false, true, bytes);
        assert_eq!(words(&[3, 4, 0, 1, 2, 3]).unwrap(), [1, 0x203]);
        let short = words(&[3, 2, 0, 1]);
        assert!(
            matches!(
                short,
                Err(ReadError::Short {
                    found: 1,
                    wanted: 2
                })
            ),
            "{short:?}"
        );
        let long = words(&[3, 6, 0, 1, 0, 1, 0, 1]);
        assert!(matches!(long, Err(ReadError::Garbled(_))), "{long:?}");
        let other = words(&[4, 4, 0, 1, 0, 1]);
        assert!(matches!(other, Err(ReadError::Garbled(_))), "{other:?}");
        assert!(matches!(words(&[0x83, 2]), Err(ReadError::Exception(_))));
        let bits = |bytes: &[u8]| answered(Table::Coil, false, true, bytes);
        assert_eq!(bits(&[1, 1, 0b1110]).unwrap(), [0, 1]);
        assert!(matches!(
            bits(&[1, 0]),
            Err(ReadError::Short { found: 0, .. })
        ));
        let cut = answered(Table::Holding, false, false, &[0, 0, 0]);
        assert!(matches!(cut, Err(ReadError::Broken)), "{cut:?}");
    }

    /// With the CRC of Modbus RTU: polynomial 0xA001, from 0xFFFF.
    fn framed(bytes: &[u8]) -> Vec<u8> {
        let crc = bytes.iter().fold(0xffff_u16, |crc, byte| {
            (0..8).fold(crc ^ u16::from(*byte), |crc, _| {
                crc >> 1 ^ if crc & 1 == 1 { 0xa001 } else { 0 }
            })
        });
        [bytes, &crc.to_le_bytes()].concat()
    }

    #[tokio::test]
    async fn an_answer_that_came_too_late_is_no_answer_to_the_next_request() {
        let (ours, mut theirs) = SerialStream::pair().unwrap();
        // As good as the one that is expected.
        let late = framed(&[7, 3, 4, 0, 98, 0, 99]);
        theirs.write_all(&late).await.unwrap();
        let whole = u32::try_from(late.len()).unwrap();
        while ours.bytes_to_read().unwrap() < whole {
            tokio::task::yield_now().await;
        }
        let mut port = Port {
            context: rtu::attach(Wire(ours)),
            silence: Duration::ZERO,
            serial: true,
            used: true,
        };
        let block = Block {
            table: Table::Holding,
            address: 3,
            count: 2,
            registers: vec![0],
        };
        let device = async {
            theirs.read_exact(&mut [0; 8]).await.unwrap();
            let answer = framed(&[7, 3, 4, 0, 1, 2, 3]);
            theirs.write_all(&answer).await.unwrap();
        };
        let asked = port.read(7, &block, Duration::from_secs(30));
        let (answer, ()) = tokio::join!(asked, device);
        assert_eq!(answer.unwrap(), [1, 0x203]);
    }

    proptest! {
        /// Whatever a device says, it is an answer or an error.
        #[test]
        fn any_answer_is_borne(bytes: Vec<u8>, serial: bool, head: bool, code in 0..6_u8, bits: bool) {
            let mut bytes = bytes;
            if code > 0 && !bytes.is_empty() {
                let at = usize::from(serial).min(bytes.len() - 1);
                bytes[at] = code;
            }
            let table = if bits { Table::Discrete } else { Table::Input };
            if let Ok(words) = answered(table, serial, head && !serial, &bytes) {
                prop_assert_eq!(words.len(), 2);
            }
        }
    }
}
