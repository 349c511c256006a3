// What this browser was answered, kept in this browser alone; and rows as CSV.

const NAME = "ai-vs-real-history";
const MOST = 200;

export function rows() {
  try {
    const kept = JSON.parse(localStorage.getItem(NAME));
    return Array.isArray(kept) ? kept : [];
  } catch {
    return [];
  }
}

export function record(row) {
  try {
    localStorage.setItem(NAME, JSON.stringify([row, ...rows()].slice(0, MOST)));
  } catch {
    // A full or forbidden store loses the history and nothing else.
  }
}

export function forget() {
  localStorage.removeItem(NAME);
}

export function toCsv(answers) {
  const names = ["name", "verdict", "probability", "reason", "version", "at"];
  // A spreadsheet would run a cell that begins like a formula.
  const cell = (value) => {
    const text = String(value ?? "");
    return `"${(/^[=+\-@\t\r]/.test(text) ? "'" + text : text).replaceAll('"', '""')}"`;
  };
  return [names, ...answers.map((row) => names.map((name) => row[name]))]
    .map((values) => values.map(cell).join(",")).join("\r\n") + "\r\n";
}
