// The page: files in, verdicts out. No library; everything that comes from a file or a server is set as text.
import {element, number, percent} from "./elements.js";
import {record, rows, forget, toCsv} from "./history.js";
import {showVerdict} from "./verdict.js";

const AT_ONCE = 2;
const place = (id) => document.getElementById(id);
const waiting = [];
const answered = [];
let running = 0;
let largest = Infinity;
let key = sessionStorage.getItem("ai-vs-real-key") || "";

function headers() {
  return key ? {"X-API-Key": key} : {};
}

async function showModel() {
  try {
    const response = await fetch("/api/model", {headers: headers()});
    const model = await response.json();
    if (response.status === 401) return askForKey();
    if (!response.ok) throw new Error(model.error);
    const version = model.version ? `version ${model.version}` : `digest ${model.digest.slice(0, 12)}`;
    place("model").textContent = `Answered by ${model.name}, ${version}${model.note ? ". " + model.note : ""}`;
    largest = model.largest_bytes;
    place("limits").hidden = !model.limits.length;
    place("limits-list").replaceChildren(...model.limits.map((text) => element("li", {text})));
  } catch (error) {
    place("model").textContent = `The detector does not answer: ${error.message}`;
    setTimeout(showModel, 5000);
  }
}

function askForKey() {
  place("model").textContent = "This service asks for an API key.";
  const input = element("input", {type: "password", id: "key", autocomplete: "off", required: ""});
  const form = element("form", {class: "row"},
    element("label", {for: "key", class: "grow"}, element("span", {text: "API key", class: "small quiet"}), input),
    element("button", {type: "submit", text: "Use key"}));
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    key = input.value;
    sessionStorage.setItem("ai-vs-real-key", key);
    form.remove();
    showModel();
  });
  place("key-form-place").replaceChildren(form);
}

function add(subject) {
  const item = place("result").content.cloneNode(true).firstElementChild;
  item.querySelector(".name").textContent = subject.name;
  const state = item.querySelector(".state");
  state.textContent = "Waiting";
  place("list").prepend(item);
  place("results-head").hidden = false;
  waiting.push({...subject, item, state, bar: item.querySelector("progress")});
  next();
}

function next() {
  while (running < AT_ONCE && waiting.length) {
    running += 1;
    examine(waiting.shift()).finally(() => {
      running -= 1;
      summarise();
      next();
    });
  }
  summarise();
}

function summarise() {
  const counts = {};
  for (const {verdict} of answered) counts[verdict] = (counts[verdict] || 0) + 1;
  const parts = Object.entries(counts).map(([name, count]) => `${count} ${name}`);
  const left = waiting.length + running;
  if (left) parts.push(`${left} being examined`);
  place("summary").textContent = parts.join(", ");
}

// XMLHttpRequest, since fetch reports no progress of an upload.
function send(subject) {
  const request = new XMLHttpRequest();
  return new Promise((resolve, reject) => {
    request.open("POST", subject.file ? "/api/verdicts" : "/api/links");
    for (const [name, value] of Object.entries(headers())) request.setRequestHeader(name, value);
    request.responseType = "json";
    request.upload.addEventListener("progress", (event) => {
      if (!event.lengthComputable) return;
      subject.bar.value = event.loaded / event.total;
      subject.state.textContent = `Uploading, ${percent(event.loaded / event.total)}`;
    });
    request.upload.addEventListener("load", () => {
      subject.bar.removeAttribute("value");
      subject.state.textContent = "Examining";
    });
    request.addEventListener("load", () => resolve(request));
    request.addEventListener("error", () => reject(new Error("the service cannot be reached")));
    if (subject.file) {
      const form = new FormData();
      form.append("explain", "true");
      form.append("file", subject.file, "media");
      request.send(form);
    } else {
      request.setRequestHeader("Content-Type", "application/json");
      request.send(JSON.stringify({link: subject.link, explain: true}));
    }
  });
}

async function examine(subject) {
  const badge = subject.item.querySelector(".badge");
  try {
    if (subject.file && subject.file.size > largest) {
      throw new Error(`the file is larger than ${Math.round(largest / 2 ** 20)} MB`);
    }
    let request = await send(subject);
    while (request.status === 429) {
      const wait = Number(request.getResponseHeader("Retry-After")) || 2;
      subject.state.textContent = `The service is busy; trying again in ${wait} s`;
      await new Promise((resolve) => setTimeout(resolve, 1000 * wait));
      request = await send(subject);
    }
    if (request.status === 401) askForKey();
    if (request.status !== 200) throw new Error(request.response?.error || `the service answers ${request.status}`);
    const verdict = request.response;
    badge.textContent = verdict.verdict;
    badge.classList.add(verdict.verdict);
    subject.state.textContent = verdict.reason || "";
    subject.state.hidden = !verdict.reason;
    showVerdict(subject, verdict, headers);
    const row = {
      at: new Date().toISOString(), name: subject.name, verdict: verdict.verdict,
      probability: verdict.probability, version: verdict.receipt?.version || "", reason: verdict.reason,
    };
    answered.push(row);
    record(row);
    showHistory();
  } catch (error) {
    badge.textContent = "not examined";
    badge.classList.add("failed");
    subject.state.textContent = error.message;
    answered.push({at: new Date().toISOString(), name: subject.name, verdict: "not examined", probability: null,
      version: "", reason: error.message});
  }
  subject.bar.remove();
}

function showHistory() {
  const kept = rows();
  place("history").hidden = !kept.length;
  place("history-rows").replaceChildren(...kept.map((row) => element("tr", {},
    element("td", {text: new Date(row.at).toLocaleString()}), element("td", {text: row.name}),
    element("td", {text: row.verdict, class: row.verdict}),
    element("td", {text: number(row.probability), class: "number"}), element("td", {text: row.version || "–"}))));
}

function addFiles(files) {
  for (const file of files) add({name: file.name || "pasted picture", file});
}

place("files").addEventListener("change", (event) => {
  addFiles(event.target.files);
  event.target.value = "";
});
place("link-form").addEventListener("submit", (event) => {
  event.preventDefault();
  const link = place("link").value.trim();
  add({name: link, link});
  place("link").value = "";
});
const drop = place("drop");
for (const name of ["dragenter", "dragover"]) {
  window.addEventListener(name, (event) => {
    event.preventDefault();
    drop.classList.add("over");
  });
}
window.addEventListener("dragleave", (event) => {
  if (!event.relatedTarget) drop.classList.remove("over");
});
window.addEventListener("drop", (event) => {
  event.preventDefault();
  drop.classList.remove("over");
  addFiles(event.dataTransfer.files);
});
window.addEventListener("paste", (event) => {
  const files = [...event.clipboardData.files];
  if (files.length) addFiles(files);
});
place("clear").addEventListener("click", () => {
  waiting.length = 0;
  answered.length = 0;
  place("list").replaceChildren();
  place("results-head").hidden = true;
  summarise();
});
place("export").addEventListener("click", () => {
  const address = URL.createObjectURL(new Blob([toCsv(answered)], {type: "text/csv"}));
  const link = element("a", {href: address, download: "verdicts.csv"});
  link.click();
  setTimeout(() => URL.revokeObjectURL(address), 1000);
});
place("forget").addEventListener("click", () => {
  forget();
  showHistory();
});
showModel();
showHistory();
