// Numbers as people read them.

const compact = new Intl.NumberFormat("en", { maximumSignificantDigits: 3 });
const integer = new Intl.NumberFormat("en", { maximumFractionDigits: 0 });
const UNITS = ["B", "kB", "MB", "GB", "TB"]; // decimal, as of disks and downloads

export const whole = (value) => integer.format(value);
export const number = (value) => (value < 1000 ? compact : integer).format(value);
export const count = (value, noun) => `${whole(value)} ${noun}${value === 1 ? "" : "s"}`;
export const seconds = (value) => (value < 1 ? `${whole(value * 1000)} ms` : `${number(value)} s`);
export const percent = (share) => `${Math.round(share * 100)} %`;
export const times = (ratio) => `${ratio < 10 ? ratio.toFixed(1) : whole(ratio)}×`;

export function bytes(value) {
  const power = Math.min(UNITS.length - 1, Math.floor(Math.log10(Math.max(1, value)) / 3));
  return `${number(value / 1000 ** power)} ${UNITS[power]}`;
}
