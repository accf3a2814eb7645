// Words that the pages about matches share.

export const winner = (name) => (name.startsWith("team:") ? `team ${name.slice(5)}` : name);
export const teamClass = (team) => (team === null || team === undefined ? "" : `team-${team % 8}`);
export const modeOn = (row, { foreign }) => `${row.mode}${row.map_name ? ` on ${foreign(row.map_name)}` : ""}`;

/** A match clock: 754000 -> "12:34", past an hour "1:02:03", past a day "2 d 04:05:06". */
export function matchClock(ms) {
  const seconds = Math.max(0, Math.floor(ms / 1000));
  const two = (value) => String(value).padStart(2, "0");
  const [days, hours, minutes] = [Math.floor(seconds / 86400), Math.floor(seconds / 3600) % 24, Math.floor(seconds / 60) % 60];
  const rest = `${two(minutes)}:${two(seconds % 60)}`;
  if (days) return `${days} d ${two(hours)}:${rest}`;
  return hours ? `${hours}:${rest}` : `${minutes}:${two(seconds % 60)}`;
}

/** The same to be spoken: "2 hours 5 minutes 3 seconds". */
export function spokenClock(ms) {
  const seconds = Math.max(0, Math.floor(ms / 1000));
  const parts = [[Math.floor(seconds / 86400), "day"], [Math.floor(seconds / 3600) % 24, "hour"], [Math.floor(seconds / 60) % 60, "minute"], [seconds % 60, "second"]];
  const told = parts.filter(([count]) => count).map(([count, noun]) => `${count} ${noun}${count === 1 ? "" : "s"}`);
  return told.length ? told.join(" ") : "0 seconds";
}
