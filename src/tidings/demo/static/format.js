// Numbers as people read them.

const SIZES = ["B", "KiB", "MiB", "GiB", "TiB"];
const RATES = ["B/s", "kB/s", "MB/s", "GB/s"];

/** [“3.4”, “GiB”] */
export function sizeParts(count) {
  return scaled(count, 1024, SIZES);
}

/** “3.4 GiB” */
export function bytes(count) {
  return sizeParts(count).join("\u00a0");
}

/** [“1.2”, “MB/s”] */
export function rateParts(bytesPerSecond) {
  return scaled(bytesPerSecond, 1000, RATES);
}

/** “1.2 MB/s” */
export function rate(bytesPerSecond) {
  return rateParts(bytesPerSecond).join("\u00a0");
}

export function percent(value) {
  return `${Math.round(value)}\u00a0%`;
}

/** “3 days”, “2 hours”, “5 minutes” */
export function duration(seconds) {
  const [count, unit] =
    seconds >= 172_800 ? [seconds / 86_400, "day"] : seconds >= 5400 ? [seconds / 3600, "hour"] : [seconds / 60, "minute"];
  const whole = Math.max(1, Math.floor(count));
  return `${whole} ${unit}${whole === 1 ? "" : "s"}`;
}

export function plural(count, one, many) {
  return `${count.toLocaleString("en")} ${count === 1 ? one : many}`;
}

/** “14:03:22”, here */
export function clock(milliseconds) {
  return new Date(milliseconds).toLocaleTimeString("en-GB");
}

/** “1.1 s”, “3 minutes” */
export function pause(milliseconds) {
  return milliseconds < 90_000 ? `${(milliseconds / 1000).toFixed(1)}\u00a0s` : duration(milliseconds / 1000);
}

export function number(value) {
  return value.toLocaleString("en");
}

function scaled(value, base, units) {
  let power = 0;
  while (value >= base && power < units.length - 1) {
    value /= base;
    power += 1;
  }
  return [value >= 100 || power === 0 ? Math.round(value).toString() : value.toFixed(1), units[power]];
}
