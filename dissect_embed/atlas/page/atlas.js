// The atlas: a map, a unit, a table, all of one layer; the address names layer and unit.
"use strict";

const at = (id) => document.getElementById(id);
const dark = matchMedia("(prefers-color-scheme: dark)");
const layers = new Map(); // number -> what data/<number>.js told
const state = { layer: 0, unit: -1 };
let map = null;
let table = null;
let matches = null; // the filter of the units shown

const atlas = {
  receive(number, content) {
    layers.set(number, content);
  },
};

function load(number) {
  if (layers.has(number)) return Promise.resolve(layers.get(number));
  return new Promise((resolve, reject) => {
    const script = document.createElement("script");
    script.src = `data/${number}.js`;
    script.onload = () => resolve(layers.get(number));
    script.onerror = () => reject(new Error(`data/${number}.js is missing`));
    document.head.append(script);
  });
}

// Names come from data: they enter the page as text, never as HTML.
function make(tag, text = "", properties = {}) {
  const element = Object.assign(document.createElement(tag), properties);
  element.textContent = text;
  return element;
}

const name = (unit) => `${settings.layers[state.layer]}/${unit}`;
const link = (unit) => make("a", name(unit), { href: `#${encodeURI(name(unit))}` });
const picture = (unit, which = "") => `images/${state.layer}/${unit}${which}.jpg`;
const signed = (value) => (value < 0 ? "" : "+") + value.toFixed(3);
const concept = (unit) => unit.concept || "no concept";

function chartOptions() {
  const [text, line] = dark.matches ? ["#e8eaed", "#414955"] : ["#1d2127", "#cfd4db"];
  return {
    actions: false,
    renderer: "svg",
    theme: dark.matches ? "dark" : undefined,
    tooltip: { theme: dark.matches ? "dark" : "light" },
    config: {
      background: "transparent",
      view: { stroke: null },
      axis: { labelColor: text, titleColor: text, gridColor: line, domainColor: line, tickColor: line,
        labelFontSize: 12, titleFontSize: 12 },
      legend: { labelColor: text, labelFontSize: 12 },
      rule: { color: text },
    },
  };
}

async function draw(id, values, signals, height) {
  const spec = structuredClone(settings.charts[id]);
  spec.datasets = { values };
  if (height) spec.height = height;
  for (const param of spec.params ?? []) if (param.name in signals) param.value = signals[param.name];
  const { view } = await vegaEmbed(at(id), spec, chartOptions());
  // The element around it has the role and the words.
  at(id).querySelectorAll("svg, svg [role], svg [aria-label], svg [aria-roledescription]").forEach((e) => {
    for (const a of ["role", "aria-label", "aria-roledescription"]) e.removeAttribute(a);
    if (e.tagName === "svg") e.setAttribute("aria-hidden", "true");
  });
  return view;
}

// The open unit comes last, so that none covers it.
const points = (content) =>
  content.units.map((u) => ({
    unit: u.unit, name: name(u.unit), x: u.x, y: u.y, iou: u.iou, concept: concept(u),
    category: u.category || "none", found: matches(u),
  })).sort((a, b) => (a.unit === state.unit) - (b.unit === state.unit));

async function drawMap(content) {
  at("layer-name").textContent = content.layer;
  map = await draw("map", points(content), { opened: state.unit, detector: content.detector });
  map.addSignalListener("clicked", (_, value) => {
    const unit = value.unit?.[0];
    if (unit !== undefined) location.hash = name(unit);
  });
}

function drawTable(content) {
  const text = DataTable.render.text();
  table?.destroy();
  table = new DataTable(at("table"), {
    data: content.units,
    columns: [
      { title: "unit", data: "unit", render: (unit, type) => (type === "display" ? link(unit) : unit) },
      { title: "concept", data: "concept", render: text },
      { title: "category", data: "category", render: text },
      { title: "IoU", data: "iou", render: (v, type) => (type === "display" ? v.toFixed(4) : v) },
      { title: "q (chance)", data: "q", render: (v, type) => (type === "display" ? v?.toFixed(4) ?? "" : v ?? 2) },
      { title: "meanings", data: "beyond" },
      { title: "KL, nats", data: (u) => u.kl.at(-1), render: (v, type) => (type === "display" ? v.toFixed(4) : v) },
      { title: "nearest", data: (u) => u.near[0]?.[0] ?? -1,
        render: (v, type) => (type !== "display" ? v : v < 0 ? "" : link(v)) },
    ],
    order: [[3, "desc"]],
    pageLength: 10,
    layout: { topStart: "pageLength", topEnd: null },
    language: { emptyTable: "This layer has no unit.", zeroRecords: "No unit matches." },
  });
  table.search.fixed("filter", (_, unit) => matches(unit)).draw();
}

function buildFilter(content) {
  const words = at("search").value.trim().toLocaleLowerCase();
  const category = at("category").value;
  const least = Number(at("least").value) || 0;
  const number = words.startsWith(`${content.layer.toLocaleLowerCase()}/`)
    ? words.slice(content.layer.length + 1) : words;
  const rest = (u) => (!category || u.category === category) && u.iou >= least;
  const holds = (text) => text.toLocaleLowerCase().includes(words);
  const best = (u) => rest(u) && (String(u.unit) === number || holds(u.concept));
  const any = (u) => rest(u) && u.profile.some(([label]) => holds(label));
  const hasBest = !words || content.units.some(best);
  matches = hasBest ? best : any;
  const n = content.units.filter(matches).length;
  const units = n === 1 ? "1 unit" : `${n} units`;
  at("found").textContent = hasBest ? `${units} of ${content.units.length}`
    : n ? `best concept of none, among the ten best of ${units}` : "no unit of this layer";
}

function applyFilter() {
  const content = layers.get(state.layer);
  buildFilter(content);
  map?.data("values", points(content)).runAsync();
  table?.draw();
}

// What labels of other images give the unit, in words.
function beside(unit) {
  if (unit.p === null) return "; no test against chance";
  const concepts = unit.beyond === 1 ? "1 concept goes" : `${unit.beyond} concepts go`;
  return `; by chance p ${unit.p.toFixed(4)}, among all units of the layer q ${unit.q.toFixed(4)}. ` +
    `${unit.beyond ? concepts : "No concept goes"} beyond chance.`;
}

// What the network loses without the unit; nothing is told where that was not looked at.
function showLoss(unit) {
  const element = at("loses");
  element.hidden = unit.loses === undefined;
  if (element.hidden) return;
  if (!unit.loses) {
    element.replaceChildren("Without it no class loses beyond chance.");
    return;
  }
  const [label, drop, before, after, images, q] = unit.loses;
  element.replaceChildren("Without it ", make("bdi", label), ` −${drop.toFixed(1)} points: right before ` +
    `${before.toFixed(1)} %, after ${after.toFixed(1)} %, of ${images} images (q ${q.toPrecision(2)}).`);
}

// The formula of concepts that gains most; nothing is told where none was looked for.
function showFormula(unit) {
  const element = at("formula");
  element.hidden = !unit.formula;
  if (element.hidden) return;
  const [words, iou, gain, heldOut] = unit.formula;
  const signed = (value) => (value < 0 ? "−" : "+") + Math.abs(value).toFixed(4);
  element.replaceChildren("Best formula: ", make("bdi", words), `, IoU ${iou.toFixed(4)}, ` +
    `${signed(gain)} over any single concept` +
    `${heldOut === null ? "" : `; on images that it was not looked for on, ${signed(heldOut)}`}.`);
}

async function showUnit(content, focus) {
  const unit = content.units[state.unit];
  at("unit-body").hidden = !unit;
  at("unit-hint").hidden = Boolean(unit);
  at("unit-title").textContent = unit ? name(unit.unit) : "No unit chosen";
  document.title = `${unit ? name(unit.unit) : content.layer}: atlas of units`;
  map.signal("opened", state.unit).data("values", points(content)).runAsync();
  if (!unit) return;
  const best = at("best");
  best.replaceChildren();
  if (unit.concept) {
    best.append(make("bdi", unit.concept), " (", make("bdi", unit.category), `), IoU ${unit.iou.toFixed(4)}${beside(unit)}`);
  } else best.append("It overlaps no concept.");
  showFormula(unit);
  showLoss(unit);
  at("strip").hidden = !unit.pictures;
  if (unit.pictures) {
    const image = at("strip").querySelector("img");
    image.src = picture(unit.unit);
    image.alt = `Where unit ${name(unit.unit)} fires on ${unit.pictures.join(", ")}`;
  }
  const told = (values) => values.map(([label, , iou]) => `${label} ${iou.toFixed(3)}`).join(", ");
  at("profile").setAttribute("aria-label", `IoU with concepts: ${told(unit.profile) || "none"}`);
  at("near").replaceChildren(...unit.near.map(([other, cosine, overlap]) => {
    const item = make("li");
    if (settings.pictures) item.append(make("img", "", { src: picture(other), alt: "", loading: "lazy" }));
    item.append(link(other), " ", make("bdi", concept(content.units[other])),
      make("br"), `cosine ${cosine.toFixed(3)}, overlap ${overlap.toFixed(3)}`);
    return item;
  }));
  showBeside(content, unit);
  at("pairs").replaceChildren(...unit.pairs.map(([one, two, cosine, gain, start, overlap, added, drawn]) => {
    const item = make("li");
    item.append(link(one), " ", make("bdi", concept(content.units[one])), " + ", link(two), " ",
      make("bdi", concept(content.units[two])),
      `: cosine ${cosine.toFixed(3)}, ${signed(gain)} over the better (random vectors ${signed(start)}); ` +
      `masks together: overlap ${overlap.toFixed(3)}, ${signed(added)} over the better (drawn at random ${signed(drawn)})`);
    return item;
  }));
  if (!unit.pairs.length) at("pairs").append(make("li", "None: the layer has fewer than three units."));
  const last = unit.kl.at(-1);
  const below = content.units.filter((u) => u.kl.at(-1) < last).length;
  at("score").textContent = `${unit.kl[0].toFixed(4)} nats with random vectors, ${last.toFixed(4)} at the end; ` +
    `the mean of the layer ends at ${content.kl.at(-1).toFixed(4)}. ${below} of ${content.units.length} units end lower.`;
  at("curve").setAttribute("aria-label", at("score").textContent);
  if (focus) at("unit-title").focus();
  at("profile").hidden = !unit.profile.length;
  if (unit.profile.length) await draw("profile", unit.profile.map(([label, category, iou]) => (
    { concept: label, category, iou, colour: settings.colours[category] })), { chance: unit.chance }, 19 * unit.profile.length);
  await draw("curve", [["this unit", unit.kl], ["mean of the layer", content.kl]].flatMap(
    ([who, kl]) => kl.map((value, i) => ({ who, epoch: content.epochs[i], kl: value }))), {});
}

// On the same images as the unit's own: is the nearest nearer than any?
function showBeside(content, unit) {
  const [nearest, drawn] = [unit.near[0], unit.drawn];
  at("beside").hidden = !unit.pictures || !nearest;
  if (!at("beside").hidden) {
    const image = at("beside").querySelector("img");
    const caption = at("beside").querySelector("figcaption");
    image.src = picture(unit.unit, ".near");
    image.alt = `On the same images ${name(nearest[0])}` + (drawn ? ` and ${name(drawn[0])}` : "");
    caption.replaceChildren("On the same images, left: the nearest, ", link(nearest[0]));
    if (drawn) {
      caption.append("; right: one drawn at random, ", link(drawn[0]), ` (overlap ${drawn[1].toFixed(3)})`);
    }
    caption.append(".");
  }
  const mean = content.overlap;
  at("overlap").textContent = mean
    ? `With vectors of one half of the images, on the other half, mean of ${mean[0]} units: overlap with the ` +
      `nearest ${mean[1].toFixed(3)}, of any two ${mean[2].toFixed(3)}, with the best choice possible ${mean[3].toFixed(3)}.`
    : "";
}

// The address: #layer, or #layer/unit.
function readAddress() {
  const address = decodeURI(location.hash.slice(1));
  const cut = address.lastIndexOf("/");
  const [layer, unit] = cut < 0 ? [address, ""] : [address.slice(0, cut), address.slice(cut + 1)];
  return { layer: Math.max(0, address ? settings.layers.indexOf(layer) : settings.layers.length - 1),
    unit: /^\d+$/.test(unit) ? Number(unit) : -1 };
}

async function show(redraw) {
  document.documentElement.classList.toggle("dark", dark.matches); // for DataTables
  const wanted = readAddress();
  const content = await load(wanted.layer);
  const other = redraw || wanted.layer !== state.layer || !table;
  const moved = table && wanted.unit !== state.unit;
  Object.assign(state, wanted);
  document.querySelectorAll("nav a").forEach((a) => {
    if (Number(a.dataset.layer) === state.layer) a.setAttribute("aria-current", "page");
    else a.removeAttribute("aria-current");
  });
  if (other) {
    const concepts = [...new Set(content.units.map((u) => u.concept).filter(Boolean))].sort();
    at("concepts").replaceChildren(...concepts.map((c) => make("option", "", { value: c })));
    buildFilter(content);
    await drawMap(content);
    drawTable(content);
  }
  await showUnit(content, moved && wanted.unit >= 0);
  document.documentElement.dataset.ready = location.hash;
}

const complain = (error) => {
  at("found").textContent = `${error.message}; make the atlas anew`;
};
const update = (redraw) => show(redraw).catch(complain);
document.querySelector(".skip").addEventListener("click", (event) => {
  event.preventDefault();
  at("search").focus();
});
at("filter").addEventListener("input", applyFilter);
at("filter").addEventListener("submit", (event) => {
  event.preventDefault();
  const first = layers.get(state.layer).units.find(matches);
  if (first) location.hash = name(first.unit);
});
addEventListener("hashchange", () => update(false));
dark.addEventListener("change", () => update(true));
update(false);
