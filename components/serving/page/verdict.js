// One verdict in full: the media with its heat map or timeline, the probability, and the evidence beside it.
import {element, number, seconds} from "./elements.js";

export function showVerdict(subject, verdict, headers) {
  const body = subject.item.querySelector(".body");
  const media = showMedia(subject, verdict);
  body.querySelector(".media").append(...media.parts);
  body.querySelector(".facts").append(...[
    showScale(verdict), showFamiliarity(verdict), showTimeline(verdict, media.video), showDeliveries(verdict),
  ].filter(Boolean));
  body.querySelector(".more").append(...[
    showProvenance(verdict), showNearest(verdict), showReceipt(verdict), showLimits(verdict),
    subject.file ? showClaim(subject, verdict, headers) : null,
  ].filter(Boolean));
  body.hidden = false;
}

function showMedia(subject, verdict) {
  if (!subject.file && !verdict.heat_map) return {parts: []};
  const parts = [];
  let video = null;
  const address = subject.file ? URL.createObjectURL(subject.file) : null;
  const heat = verdict.heat_map ? element("img", {src: verdict.heat_map, alt: heatWords(verdict)}) : null;
  if (verdict.kind === "clip" && address) {
    video = element("video", {src: address, controls: "", muted: "", playsinline: "", preload: "metadata"});
    parts.push(video);
  } else if (address) {
    const picture = element("img", {src: address, alt: `The file ${subject.name}`});
    picture.addEventListener("error", () => picture.replaceWith(element("p", {
      class: "quiet small", text: "This browser cannot show the file."})));
    parts.push(picture);
  }
  if (heat && parts.length) {
    const figure = element("figure", {}, heat, element("figcaption", {class: "quiet small", text: heatWords(verdict)}));
    const button = element("button", {type: "button", class: "plain", "aria-expanded": "false", text: "Show the heat map"});
    figure.hidden = true;
    button.addEventListener("click", () => {
      figure.hidden = !figure.hidden;
      button.setAttribute("aria-expanded", String(!figure.hidden));
      button.textContent = figure.hidden ? "Show the heat map" : "Hide the heat map";
    });
    parts.push(element("div", {class: "row"}, button), figure);
  } else if (heat) {
    parts.push(heat);
  }
  return {parts, video};
}

function heatWords(verdict) {
  const where = verdict.heat_map_time_s === null || verdict.heat_map_time_s === undefined
    ? "" : ` in the frame at ${seconds(verdict.heat_map_time_s)}`;
  return `Heat map: the parts${where} that push the answer towards fake (orange) or real (green)`;
}

function showScale(verdict) {
  const dot = element("span", {class: `dot ${verdict.verdict}`});
  dot.style.left = `${100 * verdict.probability}%`;
  const between = element("span", {class: "between"});
  between.style.left = `${100 * verdict.band.low}%`;
  between.style.width = `${100 * Math.max(0, verdict.band.high - verdict.band.low)}%`;
  const middle = element("span", {class: "middle", text: number(verdict.probability)});
  middle.style.left = `clamp(14px, ${100 * verdict.probability}%, calc(100% - 14px))`;
  const scale = element("div", {class: "scale", "aria-hidden": "true"}, between, dot, middle,
    element("span", {class: "end", text: "real"}), element("span", {class: "end right", text: "AI-generated"}));
  const low = number(verdict.band.low), high = number(verdict.band.high);
  return element("div", {}, element("h4", {text: `Probability that it is AI-generated: ${number(verdict.probability)}`}), scale,
    element("p", {class: "quiet small", text: `Below ${low} the answer is real, from ${high} on it is fake; in between it is unsure.`}));
}

function showFamiliarity({familiarity}) {
  if (!familiarity) return null;
  const nearest = familiarity.nearest ? ` It resembles “${familiarity.nearest}” most.` : "";
  const text = familiarity.familiar
    ? `The file resembles the media that the detector was trained on.${nearest}`
    : `The file is unlike the media that the detector was trained on, so it is not judged.${nearest}`;
  return element("div", {}, element("h4", {text: `Familiarity: ${number(familiarity.score)}`}),
    element("p", {class: "small", text: `${text} Files below ${number(familiarity.threshold)} are not judged.`}));
}

function showTimeline({timeline, segments, band}, video) {
  if (!timeline.length) return null;
  const buttons = timeline.map(({time_s: time, probability}) => {
    const kind = probability >= band.high ? "fake" : probability < band.low ? "real" : "unsure";
    const bar = element("span", {});
    bar.style.height = `${Math.max(4, 100 * probability)}%`;
    const button = element("button", {type: "button", class: kind, title: `${seconds(time)}: ${number(probability)}`,
      "aria-label": `Go to ${seconds(time)}, probability of fake ${number(probability)}`}, bar);
    button.addEventListener("click", () => {
      if (!video) return;
      video.currentTime = time;
      video.play().catch(() => {});
    });
    return button;
  });
  video?.addEventListener("timeupdate", () => {
    let current = 0;
    timeline.forEach(({time_s: time}, place) => {
      if (time <= video.currentTime + 0.05) current = place;
    });
    buttons.forEach((button, place) => button.setAttribute("aria-current", String(place === current)));
  });
  const parts = segments.map(({start_s: start, end_s: end, probability}) => element("li", {
    text: `${seconds(start)} to ${seconds(end)}: ${number(probability)}`}));
  return element("div", {}, element("h4", {text: "Timeline: probability of fake by second"}),
    element("div", {class: "timeline", role: "group", "aria-label": "Timeline of the video"}, ...buttons),
    parts.length ? element("p", {class: "small", text: "Suspicious segments:"}) : null,
    parts.length ? element("ul", {class: "small"}, ...parts) : null);
}

function showDeliveries({deliveries, verdict}) {
  if (!deliveries.length) return null;
  const rows = deliveries.map((delivery) => element("tr", {}, element("td", {text: delivery.words}),
    element("td", {text: delivery.verdict, class: delivery.verdict}),
    element("td", {text: number(delivery.probability), class: "number"})));
  return element("div", {}, element("h4", {text: "Delivery test"}),
    element("p", {class: "small quiet", text: "The same file after steps that media take on their way. An answer that changes is not trusted."}),
    table(["The file, once more", "Verdict", "Probability of fake"], rows));
}

function showProvenance({provenance}) {
  const metadata = provenance?.metadata || [];
  const c2pa = provenance?.c2pa;
  if (!metadata.length && !c2pa) {
    return section("Provenance", element("p", {class: "small", text:
      "The file carries no statement about its origin. Most files do not: this says nothing about the answer."}));
  }
  const rows = metadata.map((entry) => element("tr", {}, element("td", {text: entry.where}), element("td", {text: entry.field}),
    element("td", {text: entry.value}), element("td", {text: {ai: "AI-generated", camera: "a camera"}[entry.suggests] || "–"})));
  return section("Provenance", element("p", {class: "small quiet", text:
    "What the file says about itself. Anybody can write or remove it, so it does not change the probability."}),
    c2pa ? element("dl", {}, ...facts(c2pa)) : null,
    rows.length ? table(["Where", "Field", "Value", "Suggests"], rows) : null);
}

function showNearest({nearest}) {
  if (!nearest?.length) return null;
  const rows = nearest.map((entry) => element("tr", {}, element("td", {text: entry.path}), element("td", {text: entry.label}),
    element("td", {text: entry.source}), element("td", {text: String(entry.distance), class: "number"})));
  return section("Nearest training media", element("p", {class: "small quiet", text:
    "By perceptual hash, of 64 bits. A distance up to about 6 means that this file, or a copy of it, was in training."}),
    table(["File", "Label", "Source", "Bits that differ"], rows));
}

function showReceipt({receipt}) {
  return receipt && Object.keys(receipt).length ? section("Receipt", element("dl", {}, ...facts(receipt))) : null;
}

function showLimits({limits}) {
  return limits?.length ? section("Limits for this kind of file", element("ul", {class: "small"},
    ...limits.map((text) => element("li", {text})))) : null;
}

function showClaim(subject, verdict, headers) {
  const said = element("p", {role: "status", class: "small"});
  const note = element("input", {type: "text", maxlength: "500", placeholder: "How do you know? (optional)", "aria-label": "How do you know?"});
  const buttons = ["real", "fake"].map((claim) => {
    const button = element("button", {type: "button", class: "plain", text: claim === "real" ? "It is real" : "It is AI-generated"});
    button.addEventListener("click", async () => {
      buttons.forEach((other) => { other.disabled = true; });
      const form = new FormData();
      form.append("file", subject.file, "media");
      form.append("claim", claim);
      form.append("note", note.value);
      form.append("verdict", JSON.stringify({...verdict, heat_map: null, timeline: []}));
      try {
        const response = await fetch("/api/reviews", {method: "POST", body: form, headers: headers()});
        const answer = await response.json();
        if (!response.ok) throw new Error(answer.error);
        said.textContent = `Kept for review under ${answer.id}. Thank you.`;
      } catch (error) {
        said.textContent = `Not kept: ${error.message}`;
        buttons.forEach((other) => { other.disabled = false; });
      }
    });
    return button;
  });
  return element("fieldset", {}, element("legend", {text: "Is this wrong?"}),
    element("p", {class: "small quiet", text: "The file and your claim are then kept for somebody to review."}),
    element("div", {class: "row"}, element("div", {class: "grow"}, note), ...buttons), said);
}

function section(title, ...parts) {
  return element("details", {}, element("summary", {}, element("h4", {text: title})), ...parts);
}

function table(heads, rows) {
  return element("div", {class: "scroll", tabindex: "0", role: "region", "aria-label": heads.join(", ")}, element("table", {},
    element("thead", {}, element("tr", {}, ...heads.map((text) => element("th", {scope: "col", text})))),
    element("tbody", {}, ...rows)));
}

function facts(values) {
  return Object.entries(values).filter(([, value]) => value !== "" && value !== null).flatMap(([name, value]) => [
    element("dt", {text: name.replaceAll("_", " ")}),
    element("dd", {text: typeof value === "object" ? JSON.stringify(value) : String(value)}),
  ]);
}
