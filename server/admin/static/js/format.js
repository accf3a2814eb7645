// Numbers and times as people read them.

const grouped = new Intl.NumberFormat("en", { maximumFractionDigits: 0 });
const tenths = new Intl.NumberFormat("en", { maximumFractionDigits: 1 });

/** 1234567 -> "1,234,567" */
export const whole = (value) => grouped.format(value ?? 0);

/** A short number for axes: 1.2k, 3M. */
export function short(value) {
  const size = Math.abs(value);
  if (size >= 1e6) return `${tenths.format(value / 1e6)}M`;
  if (size >= 1e4) return `${tenths.format(value / 1e3)}k`;
  return size >= 10 || Number.isInteger(value) ? grouped.format(value) : tenths.format(value);
}

/** Seconds as "0.42 s", "35 s", "4 min", "3 h 20 min", "2 d 4 h". */
export function duration(seconds) {
  if (seconds < 10) return `${seconds.toFixed(seconds < 1 ? 2 : 1)} s`;
  if (seconds < 120) return `${Math.round(seconds)} s`;
  const minutes = Math.floor(seconds / 60);
  if (minutes < 120) return `${minutes} min`;
  const hours = Math.floor(minutes / 60);
  return hours < 48 ? `${hours} h ${minutes % 60} min` : `${Math.floor(hours / 24)} d ${hours % 24} h`;
}

/** Milliseconds with a sensible number of digits. */
export const millis = (ms) => (ms >= 1000 ? `${(ms / 1000).toFixed(1)} s` : `${ms.toFixed(ms < 10 ? 1 : 0)} ms`);

/** A match clock: 754000 -> "12:34". */
export function clock(ms) {
  const seconds = Math.floor(ms / 1000);
  return `${Math.floor(seconds / 60)}:${String(seconds % 60).padStart(2, "0")}`;
}

/** Bytes as MiB. */
export const mebibytes = (bytes) => (bytes > 0 ? `${whole(bytes / 1048576)} MiB` : "–");

/** A part of an address as text: percent-encoded or not, and a plus is a plus. */
export function decoded(text) {
  try {
    return decodeURIComponent(text);
  } catch {
    return text;
  }
}

/** Wall time of day. */
export const timeOfDay = (ms) => new Date(ms).toLocaleTimeString("en-GB");

export const percent = (part, all) => (all > 0 ? `${((100 * part) / all).toFixed(1)}%` : "–");
