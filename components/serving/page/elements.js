// Elements by one call, and numbers for reading.

export function element(name, {text, ...attributes} = {}, ...children) {
  const made = document.createElement(name);
  for (const [attribute, value] of Object.entries(attributes)) made.setAttribute(attribute, value);
  if (text !== undefined) made.textContent = text;
  made.append(...children.filter(Boolean));
  return made;
}

export function number(value) {
  return value === null || value === undefined ? "–" : Number(value).toFixed(2);
}

export function percent(share) {
  return `${Math.round(100 * share)} %`;
}

export function seconds(value) {
  const minutes = Math.floor(value / 60);
  return minutes ? `${minutes}:${String(Math.floor(value % 60)).padStart(2, "0")}` : `${value.toFixed(1)} s`;
}
