// Readings in batch layout, as a function answers with them (`fades-abi`).

const MAGIC = "FADESBAT";
const TIME = 1;
const VALUE = 2;

/** The series of a batch: `{ device, kind, unit, location, times, values }`,
    times in ms. */
export function decode(buffer) {
  const view = new DataView(buffer);
  const text = new TextDecoder();
  if (buffer.byteLength < 128 || text.decode(new Uint8Array(buffer, 0, 8)) !== MAGIC) throw new Error("these are no readings");
  if (view.getUint16(8, true) !== 1) throw new Error("readings of a layout that this page does not know");
  const long = (at) => Number(view.getBigUint64(at, true));
  const columns = new Map();
  for (let i = 0, at = view.getUint32(12, true); i < view.getUint32(44, true); i += 1, at += 32) {
    columns.set(view.getUint32(at, true), long(at + 8));
  }
  if (!columns.has(TIME) || !columns.has(VALUE)) throw new Error("readings without times or values");
  const strings = long(64);
  const word = (at) => text.decode(new Uint8Array(buffer, strings + view.getUint32(at, true), view.getUint32(at + 4, true)));
  const series = [];
  for (let i = 0, at = long(48); i < view.getUint32(56, true); i += 1, at += 64) {
    const first = long(at + 8);
    const rows = long(at + 16);
    const one = { device: word(at + 24), kind: word(at + 32), unit: word(at + 40), location: word(at + 48), times: [], values: [] };
    for (let row = first; row < first + rows; row += 1) {
      one.times.push(Number(view.getBigInt64(columns.get(TIME) + 8 * row, true) / 1000n) / 1000);
      one.values.push(view.getFloat64(columns.get(VALUE) + 8 * row, true));
    }
    series.push(one);
  }
  return series;
}
