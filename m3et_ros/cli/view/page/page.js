// The page of `m3et view`. Text of the robot is only ever set as textContent.
'use strict';

const by = (id) => document.getElementById(id);
const store = { get: (k) => { try { return localStorage.getItem(k); } catch { return null; } }, set: (k, v) => { try { localStorage.setItem(k, v); } catch { /* private window */ } } };

function element(name, attributes = {}, ...children) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) {
    if (key === 'text') made.textContent = value;
    else if (key.startsWith('on')) made.addEventListener(key.slice(2), value);
    else made.setAttribute(key, value);
  }
  made.append(...children);
  return made;
}

function drawn(name, attributes, text = '') {
  const made = document.createElementNS('http://www.w3.org/2000/svg', name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  made.textContent = text;
  return made;
}

const percent = (share) => `${Math.round(100 * share)} %`;
const metres = (m) => `${m.toFixed(2)} m`;

// ---- connection ------------------------------------------------------------------------------------------------

const FIRST_WAIT = 400, LONGEST_WAIT = 8000;
let socket = null, wait = FIRST_WAIT, chosen = new URLSearchParams(location.search).get('robot') || '', refused = '';

if (new URLSearchParams(location.search).has('token')) history.replaceState(null, '', location.pathname);

function send(message) {
  if (socket && socket.readyState === WebSocket.OPEN) socket.send(JSON.stringify(message));
}

function wanted() {
  if (document.hidden) return [];
  return ['colour', 'depth', ...(overlayOn.checked ? ['mask'] : [])];
}

function show() { send({ type: 'show', robot: chosen, pictures: wanted() }); }

function connect() {
  let opened = false;
  socket = new WebSocket(`ws://${location.host}/ws`);
  socket.binaryType = 'arraybuffer';
  socket.onopen = () => { opened = true; refused = ''; show(); };
  socket.onmessage = (event) => {
    if (typeof event.data !== 'string') { picture(event.data); return; }
    const message = JSON.parse(event.data);
    if (message.type !== 'refused') { wait = FIRST_WAIT; }
    (receivers[message.type] || (() => {}))(message);
  };
  socket.onclose = async () => {
    for (const one of pending.values()) one.fail('The connection was lost before the answer came; ask again.');
    level('silent', 'Reconnecting');
    banner(refused || 'The connection to the server is lost. This page comes back by itself.', 'error');
    if (!opened && await turnedAway()) banner('The server does not know this page any more. Open the address that m3et view has printed, or load this page again.', 'error');
    setTimeout(connect, wait * (0.75 + Math.random() / 2));
    wait = Math.min(wait * 1.7, LONGEST_WAIT);
  };
}

async function turnedAway() {
  try { const answer = await fetch('/', { method: 'HEAD', cache: 'no-store' }); return answer.status === 401 || answer.status === 403; } catch { return false; }
}

document.addEventListener('visibilitychange', show);

// ---- banner, toast, theme --------------------------------------------------------------------------------------

function banner(text, kind = 'warn') {
  const shown = by('banner');
  if (shown.textContent !== text) shown.textContent = text;
  shown.dataset.level = kind;
  shown.hidden = !text;
}

let toastTimer = 0;
function toast(text) {
  by('toast').textContent = text;
  by('toast').hidden = false;
  clearTimeout(toastTimer);
  toastTimer = setTimeout(() => { by('toast').hidden = true; }, 9000);
}

function level(kind, words) { by('pill').dataset.level = kind; by('pill').textContent = words; }

const dark = () => (document.documentElement.dataset.theme || (matchMedia('(prefers-color-scheme: dark)').matches ? 'dark' : 'light')) === 'dark';
if (store.get('m3et-theme')) document.documentElement.dataset.theme = store.get('m3et-theme');
by('theme').onclick = () => {
  const next = dark() ? 'light' : 'dark';
  document.documentElement.dataset.theme = next;
  store.set('m3et-theme', next);
  drawTimeline();
};

// ---- pictures --------------------------------------------------------------------------------------------------

const overlayOn = by('overlay-on'), KEPT = 30, TOGETHER_S = 0.08, SLOW_S = 1.5;
const decoder = new TextDecoder();
const colours = [];
let held = null, maskEvery = 9, maskAt = 0, colourSize = [640, 480], classes = new Map(), ids = null, counted = new Map();
const shownAt = { colour: [], depth: [], mask: [] };

// Decodes the newest picture of a kind; those that come meanwhile replace each other.
const busy = {};
async function decode(kind, blob, use) {
  if (busy[kind]) { busy[kind].next = [blob, use]; return; }
  busy[kind] = { next: null };
  try {
    const bitmap = await createImageBitmap(blob, { colorSpaceConversion: 'none', premultiplyAlpha: 'none' });
    use(bitmap);
    bitmap.close();
  } catch { /* a damaged picture is followed by the next one */ }
  const { next } = busy[kind];
  busy[kind] = null;
  if (next) decode(kind, ...next);
}

function picture(buffer) {
  const length = new DataView(buffer).getUint32(0, true);
  const facts = JSON.parse(decoder.decode(new Uint8Array(buffer, 4, length)));
  const blob = new Blob([new Uint8Array(buffer, 4 + length)]);
  const now = performance.now();
  const times = shownAt[facts.kind];
  times.push(now);
  while (times.length && times[0] < now - 5000) times.shift();
  ({ colour, depth, mask })[facts.kind](facts, blob);
}

function paint(canvas, bitmap) {
  if (canvas.width !== bitmap.width || canvas.height !== bitmap.height) {
    canvas.width = bitmap.width; canvas.height = bitmap.height;
    canvas.parentElement.style.aspectRatio = `${bitmap.width} / ${bitmap.height}`;
  }
  canvas.getContext('2d').drawImage(bitmap, 0, 0);
}

function paintColour(entry) {
  if (held && entry !== held) return;
  decode('colour', entry.blob, (bitmap) => {
    paint(by('colour'), bitmap);
    by('colour').dataset.stamp = entry.stamp;
    by('colour-empty').hidden = true;
    colourSize = entry.size;
  });
}

// Classes come later than their picture. Where they come often enough, the picture waits for them, so that both fit.
function together() { return overlayOn.checked && maskEvery < SLOW_S && performance.now() - maskAt < 2500; }

function colour(facts, blob) {
  const entry = { stamp: facts.stamp, size: facts.size, blob };
  colours.push(entry);
  if (colours.length > KEPT) colours.shift();
  if (!together()) paintColour(entry);
}

function mask(facts, blob) {
  const now = performance.now();
  maskEvery = maskAt ? Math.min(2, 0.7 * maskEvery + 0.3 * (now - maskAt) / 1000) : 2;
  maskAt = now;
  let fits = null;
  for (const one of colours) if (Math.abs(one.stamp - facts.stamp) < TOGETHER_S && (!fits || Math.abs(one.stamp - facts.stamp) < Math.abs(fits.stamp - facts.stamp))) fits = one;
  if (together() && fits) paintColour(fits);
  decode('mask', blob, (bitmap) => { readMask(bitmap); });
}

const scratch = document.createElement('canvas').getContext('2d', { willReadFrequently: true });
function readMask(bitmap) {
  const { width, height } = bitmap;
  if (scratch.canvas.width !== width || scratch.canvas.height !== height) { scratch.canvas.width = width; scratch.canvas.height = height; }
  scratch.drawImage(bitmap, 0, 0);
  const pixels = scratch.getImageData(0, 0, width, height);
  const words = new Uint32Array(pixels.data.buffer);
  ids = { width, height, values: new Uint8Array(words.length) };
  const table = new Uint32Array(256), counts = new Uint32Array(256);
  for (const [id, one] of classes) table[id] = (255 << 24) | (one.colour[2] << 16) | (one.colour[1] << 8) | one.colour[0];
  for (let n = 0; n < words.length; n++) { const id = words[n] & 255; ids.values[n] = id; counts[id]++; words[n] = table[id]; }
  const overlay = by('overlay');
  if (overlay.width !== width || overlay.height !== height) { overlay.width = width; overlay.height = height; }
  overlay.getContext('2d').putImageData(pixels, 0, 0);
  legend(counts, words.length);
}

let legendAt = 0;
function legend(counts, total) {
  const now = performance.now();
  if (now - legendAt < 500) return;
  legendAt = now;
  const seen = [...classes.values()].filter((one) => counts[one.id] / total >= 0.005).sort((a, b) => counts[b.id] - counts[a.id]);
  const list = by('classes');
  const names = seen.map((one) => one.id).sort().join();
  if (list.dataset.names !== names) {
    list.dataset.names = names;
    list.replaceChildren(...seen.map((one) => {
      const swatch = element('i');
      swatch.style.background = `rgb(${one.colour.join(' ')})`;
      const item = element('li', { 'data-id': one.id }, swatch, element('span', { text: one.name }), element('small'));
      return item;
    }));
  }
  for (const item of list.children) item.lastChild.textContent = percent(counts[item.dataset.id] / total);
}

function depth(facts, blob) {
  decode('depth', blob, (bitmap) => {
    paint(by('depth'), bitmap);
    by('depth').dataset.stamp = facts.stamp;
    by('depth-empty').hidden = true;
    by('near').textContent = metres(facts.near);
    by('far').textContent = metres(facts.far);
    by('filled').textContent = facts.filled === undefined ? '' : `${percent(facts.filled)} filled, outlined in white`;
  });
  if (pointed) send({ type: 'point', u: pointed.u, v: pointed.v });
}

overlayOn.onchange = () => { by('overlay').style.display = overlayOn.checked ? '' : 'none'; by('opacity').disabled = !overlayOn.checked; show(); };
by('opacity').oninput = () => { by('overlay').style.opacity = by('opacity').value / 100; };

let pointed = null, pointedMetres = null;
function point(event) {
  const box = event.currentTarget.getBoundingClientRect();
  const u = (event.clientX - box.left) / box.width, v = (event.clientY - box.top) / box.height;
  if (u < 0 || v < 0 || u >= 1 || v >= 1) { unpoint(); return; }
  const first = !pointed;
  pointed = { u, v, stage: event.currentTarget };
  event.currentTarget.append(by('pointer'));
  if (first) send({ type: 'point', u, v });
  readPointer();
}
function unpoint() { pointed = null; pointedMetres = null; by('pointer').hidden = true; }
function readPointer() {
  if (!pointed) return;
  const words = [];
  if (ids && overlayOn.checked) {
    const id = ids.values[Math.floor(pointed.v * ids.height) * ids.width + Math.floor(pointed.u * ids.width)];
    words.push(classes.get(id)?.name || 'no class');
    for (const item of by('classes').children) item.classList.toggle('hot', Number(item.dataset.id) === id);
  }
  if (pointedMetres !== null) words.push(metres(pointedMetres));
  const chip = by('pointer'), stage = pointed.stage;
  chip.hidden = !words.length;
  chip.textContent = words.join(' · ');
  const x = pointed.u * stage.clientWidth, y = pointed.v * stage.clientHeight;
  const left = Math.min(x + 14, stage.clientWidth - chip.offsetWidth - 6), top = y > 44 ? y - 36 : y + 18;
  chip.style.translate = `${Math.max(4, left)}px ${top}px`;
}
for (const stage of [by('colour-stage'), by('depth-stage')]) {
  stage.addEventListener('pointermove', point);
  stage.addEventListener('pointerdown', point);
  stage.addEventListener('pointerleave', unpoint);
}

// ---- places of an answer ---------------------------------------------------------------------------------------

const HOLD_MS = 3500;
let placesTimer = 0;
// A place holds in the picture of its answer alone, so that picture is shown meanwhile.
function showPlaces(places, moment) {
  held = moment;
  paintColour(moment);
  by('overlay').style.visibility = 'hidden';
  by('moment').hidden = false;
  const svg = by('places'), [width, height] = moment.size;
  svg.setAttribute('viewBox', `0 0 ${width} ${height}`);
  const unit = width / 640, made = [];
  for (const place of places.slice(0, 3)) {
    const [u, v] = place.pixel, [x, y, w, h] = place.box;
    if (w > 0) made.push(drawn('rect', { class: 'box', x, y, width: w, height: h, rx: 4 * unit }));
    made.push(drawn('circle', { cx: u, cy: v, r: 15 * unit }), drawn('circle', { class: 'core', cx: u, cy: v, r: 3.5 * unit }));
    const words = place.distance_m === null ? place.label : `${place.label} · ${metres(place.distance_m)}`;
    const wide = (words.length * 7.8 + 16) * unit, right = u + 20 * unit, left = right + wide < width ? right : u - 20 * unit - wide;
    made.push(drawn('rect', { class: 'tag', x: left, y: v - 13 * unit, width: wide, height: 26 * unit, rx: 7 * unit }));
    const text = drawn('text', { x: left + 8 * unit, y: v + 5 * unit }, words);
    text.style.fontSize = `${14 * unit}px`;
    made.push(text);
  }
  svg.replaceChildren(...made);
  clearTimeout(placesTimer);
  placesTimer = setTimeout(live, HOLD_MS);
}
function live() {
  held = null;
  by('overlay').style.visibility = '';
  by('moment').hidden = true;
  by('places').replaceChildren();
}
function momentOf(stamp) {
  return colours.find((one) => Math.abs(one.stamp - stamp) < TOGETHER_S / 4) || colours.find((one) => Math.abs(one.stamp - stamp) < TOGETHER_S);
}

// ---- questions and answers -------------------------------------------------------------------------------------

const pending = new Map(), shown = new Map(), mine = new Set(), moments = new Map();
let asked = 0, examplesOf = '';

function ask(question, scope) {
  const words = question.trim();
  if (!words) return;
  const id = `q${Date.now().toString(36)}${asked++}`;
  const text = element('p', { class: 'a' });
  const stop = element('button', { type: 'button', text: 'Stop', onclick: () => send({ type: 'stop', id }) });
  const item = element('li', { class: 'pending mine' }, element('p', { class: 'q' }, element('span', { text: words }), element('time', { text: 'asking' })), text, element('div', { class: 'row' }, stop));
  const end = () => { pending.delete(id); item.remove(); };
  const fail = (sentence) => {
    pending.delete(id);
    item.className = 'unsure mine';
    stop.remove();
    item.querySelector('time').textContent = 'no answer';
    text.textContent = sentence;
    by('spoken').textContent = sentence;
  };
  pending.set(id, { text, fail, end, question: words });
  by('answers').prepend(item);
  if (!socket || socket.readyState !== WebSocket.OPEN) { fail('There is no connection to the server; ask when it is back.'); return; }
  send({ type: 'ask', id, question: words, scope });
}

const scope = () => document.querySelector('input[name="scope"]:checked').value;
function choose(question, about) {
  document.querySelector(`input[name="scope"][value="${about}"]`).checked = true;
  ask(question, about);
}
by('ask').onsubmit = (event) => {
  event.preventDefault();
  ask(by('question').value, scope());
  by('question').value = '';
  fit();
};
by('question').onkeydown = (event) => {
  if (event.key === 'Enter' && !event.shiftKey && !event.isComposing) { event.preventDefault(); by('ask').requestSubmit(); }
};
function fit() { const box = by('question'); box.style.height = 'auto'; box.style.height = `${box.scrollHeight + 2}px`; }
by('question').oninput = fit;

function ago(seconds) {
  if (seconds < 2) return 'now';
  if (seconds < 90) return `${Math.round(seconds)} s ago`;
  if (seconds < 5400) return `${Math.round(seconds / 60)} min ago`;
  return `${Math.round(seconds / 3600)} h ago`;
}

function answerItem(message) {
  const one = message.answer, item = element('li', { class: one.answerable ? '' : 'unsure' });
  item.dataset.id = message.id;
  item.dataset.at = message.at - (one.age_s || 0);
  if (mine.has(message.id)) item.classList.add('mine');
  item.append(element('p', { class: 'q' }, element('span', { text: one.question }), element('time')));
  item.append(element('p', { class: 'a', text: one.text }));
  if (one.answerable) {
    const fill = element('i');
    fill.style.width = percent(one.confidence).replace(' ', '');
    const notes = [`${percent(one.confidence)} sure`];
    if (one.scope === 'episode') notes.push(`from ${one.frames_used} frames`);
    if (message.times > 1) notes.push(`updated ${message.times} times`);
    item.append(element('div', { class: 'sure' }, element('span', { class: 'bar-sure', 'aria-hidden': 'true' }, fill), element('span', { text: notes.join(' · ') })));
  } else if (one.explanation) item.append(element('p', { class: 'why', text: one.explanation }));
  if (one.read_as && one.read_as !== one.question) item.append(element('p', { class: 'why', text: `Read as: ${one.read_as}` }));
  if (one.suggestions.length) {
    item.append(element('ul', { class: 'chips' }, ...one.suggestions.map((words) => element('li', {}, element('button', { type: 'button', text: words, onclick: () => choose(words, one.scope) })))));
  }
  const moment = moments.get(message.id);
  if (one.places.length && moment) {
    item.append(element('div', { class: 'row' }, element('button', { type: 'button', text: 'Show in the picture', onclick: () => showPlaces(one.places, moment) })));
  }
  return item;
}

function ageAnswers() {
  const now = Date.now() / 1000;
  for (const item of by('answers').children) if (item.dataset.at) item.querySelector('time').textContent = ago(now - item.dataset.at);
}
setInterval(ageAnswers, 1000);

// ---- actions ---------------------------------------------------------------------------------------------------

const WINDOW_MS = 60000, LIKELY = 0.3, samples = [];
const hues = [174, 28, 262, 336, 210, 90, 48, 300, 130, 0];
const hueOf = new Map();
function tint(label, alpha) {
  if (!hueOf.has(label)) hueOf.set(label, hues[hueOf.size % hues.length]);
  return `hsl(${hueOf.get(label)} ${dark() ? '48% 58%' : '52% 45%'} / ${alpha})`;
}

let timelineDue = false;
function drawTimeline() {
  if (timelineDue) return;
  timelineDue = true;
  requestAnimationFrame(() => { timelineDue = false; timeline(); });
}
function timeline() {
  const canvas = by('timeline'), ratio = devicePixelRatio || 1, width = canvas.clientWidth, height = canvas.clientHeight;
  if (canvas.width !== Math.round(width * ratio) || canvas.height !== Math.round(height * ratio)) { canvas.width = Math.round(width * ratio); canvas.height = Math.round(height * ratio); }
  const c = canvas.getContext('2d');
  c.setTransform(ratio, 0, 0, ratio, 0, 0);
  c.clearRect(0, 0, width, height);
  const style = getComputedStyle(document.documentElement), now = performance.now(), base = height - 18, x = (t) => width - (now - t) / WINDOW_MS * width;
  const quiet = dark() ? '#94a3a1' : '#5a6866', ink = dark() ? '#e7eceb' : '#17201f';
  c.font = `12px ${style.fontFamily}`;
  c.fillStyle = quiet;
  for (const s of [60, 45, 30, 15]) c.fillText(s === 60 ? '60 s ago' : `${s} s`, width - s * 1000 / WINDOW_MS * width + (s === 60 ? 0 : -10), height - 3);
  c.textAlign = 'right'; c.fillText('now', width, height - 3); c.textAlign = 'left';
  c.fillRect(0, base + .5, width, 1);
  const runs = [];
  for (let n = 0; n < samples.length; n++) {
    const one = samples[n], until = n + 1 < samples.length ? Math.min(samples[n + 1].t, one.t + 2000) : Math.min(now, one.t + 2000), left = x(one.t), right = x(until);
    const tall = Math.max(3, one.score * (base - 20));
    c.fillStyle = tint(one.label, 0.85);
    c.fillRect(left, base - tall, Math.max(1, right - left + .6), tall);
    const last = runs[runs.length - 1];
    if (last && last.label === one.label && left - last.right < 6) { last.right = right; last.tall = Math.max(last.tall, tall); } else runs.push({ label: one.label, left, right, tall });
  }
  c.fillStyle = ink;
  let written = 0;
  for (const run of runs) {
    const left = Math.max(0, run.left), wide = c.measureText(run.label).width;
    if (wide > run.right - left + 14 || left < written) continue;
    c.fillText(run.label, left, base - run.tall - 5);
    written = left + wide + 6;
  }
}
setInterval(() => { if (!document.hidden && samples.length) drawTimeline(); }, 500);
addEventListener('resize', drawTimeline);

// ---- health ----------------------------------------------------------------------------------------------------

const HISTORY = 120;
const number = (value) => { const n = Number.parseFloat(value); return Number.isFinite(n) ? n : null; };
const tiles = [
  { name: 'Frames in', unit: '/s', digits: 1, of: (v) => number(v.rate_in_hz) },
  { name: 'Frames out', unit: '/s', digits: 1, of: (v) => number(v.rate_out_hz) },
  { name: 'Age of a result', unit: 'ms', digits: 0, of: (v) => scaled(v['age_s/p50'], 1000) },
  { name: 'Inference', unit: 'ms', digits: 0, of: (v) => scaled(v['latency_s/p50'], 1000) },
  { name: 'Dropped', unit: '/s', digits: 1, of: (v, tile) => difference(tile, dropped(v)) },
  { name: 'This page', unit: 'pictures/s', digits: 1, of: () => (shownAt.colour.filter((t) => t > performance.now() - 5000).length) / 5 },
];
function scaled(value, factor) { const n = number(value); return n === null ? null : n * factor; }
function dropped(values) { let sum = 0; for (const [key, value] of Object.entries(values)) if (key.startsWith('dropped/')) sum += number(value) || 0; return sum; }
function difference(tile, total) { const before = tile.total; tile.total = total; return before === undefined || total < before ? 0 : total - before; }
for (const tile of tiles) {
  tile.history = [];
  tile.value = element('strong', { text: '–' });
  tile.line = drawn('path', {});
  const svg = drawn('svg', { viewBox: `0 0 ${HISTORY - 1} 24`, preserveAspectRatio: 'none', 'aria-hidden': 'true' });
  svg.append(tile.line);
  by('tiles').append(element('div', { class: 'tile' }, element('small', { text: tile.name }), tile.value, svg));
}
function spark(tile, value) {
  tile.history.push(value);
  if (tile.history.length > HISTORY) tile.history.shift();
  tile.value.replaceChildren(value === null ? '–' : value.toFixed(tile.digits), element('small', { text: ` ${tile.unit}` }));
  const most = Math.max(1e-9, ...tile.history.map((one) => one || 0)) * 1.1, start = HISTORY - tile.history.length;
  let path = '', pen = 'M';
  tile.history.forEach((one, n) => { if (one === null) { pen = 'M'; return; } path += `${pen}${start + n} ${(23 - 22 * one / most).toFixed(1)}`; pen = 'L'; });
  tile.line.setAttribute('d', path);
}

const WORDS = { ok: 'Running', warn: 'Attention', error: 'Fault', silent: 'Silent' };

function state(message) {
  robots(message.robots, message.robot);
  if (!message.robot) {
    banner('No robot is here yet. Start one with m3et robot, or m3et demo; this page finds it.');
    level('silent', 'No robot');
    return;
  }
  const gone = message.level === 'silent';
  level(message.level || 'silent', WORDS[message.level] || 'Silent');
  banner(gone ? `${message.sentence || ''} This page goes on when it is back.`.trim() : '');
  by('sentence').textContent = message.sentence || '';
  by('record').disabled = !(message.recordable_s > 0);
  by('record').dataset.seconds = message.recordable_s || 0;
  if (gone) return;
  const v = message.values || {};
  by('who').textContent = [v['answerer/model'] && `answers: ${v['answerer/model']}`, v.model_id, v.device].filter(Boolean).join(' · ');
  const causes = Object.entries(v).filter(([key, text]) => key.startsWith('causes/') && text !== message.sentence).map(([, text]) => text);
  by('causes').replaceChildren(...[...causes, ...Object.values(message.troubles || {})].map((text) => element('li', { text })));
  for (const tile of tiles) spark(tile, tile.of(v, tile));
  by('colour-rate').textContent = message.topics?.rgb || '';
  const page = { 'browsers on this server': message.browsers, 'pictures this browser was too slow for': message.skipped };
  for (const [reason, times] of Object.entries(message.refused || {})) page[`refused: ${reason}`] = times;
  for (const [input, topic] of Object.entries(message.topics || {})) page[`topic ${input}`] = topic;
  by('figures').replaceChildren(...Object.entries({ ...v, ...page }).flatMap(([key, value]) => [element('dt', { text: key }), element('dd', { text: value })]));
  examples(message.examples || []);
}

function robots(names, current) {
  const select = by('robot'), all = current && !names.includes(current) ? [current, ...names] : names;
  const listed = all.join('\n');
  if (select.dataset.listed !== listed) {
    select.dataset.listed = listed;
    select.replaceChildren(...(all.length ? all : ['no robot yet']).map((name) => element('option', { value: name, text: name })));
    select.disabled = !all.length;
  }
  if (current && document.activeElement !== select) { select.value = current; chosen = chosen || current; }
}
by('robot').onchange = () => {
  chosen = by('robot').value;
  colours.length = 0; samples.length = 0; ids = null; maskAt = 0; classes.clear();
  by('overlay').getContext('2d').clearRect(0, 0, by('overlay').width, by('overlay').height);
  by('answers').replaceChildren(); shown.clear(); moments.clear(); mine.clear(); live(); by('classes').replaceChildren(); delete by('classes').dataset.names;
  for (const name of ['colour-empty', 'depth-empty']) by(name).hidden = false;
  for (const tile of tiles) { tile.history.length = 0; delete tile.total; }
  for (const name of ['now', 'next']) { by(name).textContent = '–'; by(`${name}-score`).value = 0; }
  examplesOf = '';
  show();
};

function examples(list) {
  const text = JSON.stringify(list);
  if (text === examplesOf) return;
  examplesOf = text;
  by('examples').hidden = !list.length;
  by('example-list').replaceChildren(...list.map((one) => element('li', {}, element('button', { type: 'button', text: one.question, onclick: () => choose(one.question, one.scope) }))));
}

by('record').onclick = () => { by('record').disabled = true; send({ type: 'record' }); toast('Writing the last minute …'); };

// ---- messages of the server ------------------------------------------------------------------------------------

const receivers = {
  state,
  labels(message) { classes = new Map(message.classes.map((one) => [one.id, one])); },
  answer(message) {
    const places = message.answer.places, moment = places.length ? momentOf(message.answer.stamp_ns / 1e9) : null;
    if (moment) moments.set(message.id, moment);
    const fresh = answerItem(message), old = shown.get(message.id);
    shown.set(message.id, fresh);
    if (old && old.isConnected) old.replaceWith(fresh);
    else {
      const after = [...by('answers').children].find((item) => !item.classList.contains('pending'));
      if (after) after.before(fresh); else by('answers').append(fresh);
    }
    while (by('answers').children.length > 60) {
      const { id } = by('answers').lastChild.dataset;
      shown.delete(Number(id));
      moments.delete(Number(id));
      by('answers').lastChild.remove();
    }
    if (moment && message.times === 1) showPlaces(places, moment);
    ageAnswers();
  },
  part(message) { const one = pending.get(message.id); if (one) one.text.textContent = message.text; },
  reply(message) {
    const one = pending.get(message.id);
    mine.add(message.answer);
    const item = shown.get(message.answer);
    if (item) { item.classList.add('mine'); by('spoken').textContent = `${item.querySelector('.q span').textContent} ${item.querySelector('.a').textContent}`; }
    if (one) one.end();
  },
  unanswered(message) { pending.get(message.id)?.fail(message.sentence); },
  refused(message) {
    const one = pending.get(message.id);
    if (one) { one.fail(message.sentence); return; }
    if (message.reason === 'browsers') { refused = message.sentence; wait = LONGEST_WAIT; }
    toast(message.sentence);
  },
  recorded(message) { by('record').disabled = false; toast(`${Math.round(message.seconds)} s are recorded: ${message.path}`); },
  point(message) { pointedMetres = message.metres; readPointer(); },
  actions(message) {
    const [now] = message.now, [next] = message.next;
    for (const [name, one] of [['now', now], ['next', next]]) {
      by(name).textContent = one ? one.label : '–';
      by(name).classList.toggle('guess', !one || one.score < LIKELY);
      by(`${name}-score`).value = one ? one.score : 0;
    }
    by('next-when').textContent = message.horizon_s > 0 ? `Next, in about ${message.horizon_s.toFixed(0)} s` : 'Next';
    const t = performance.now();
    if (now) samples.push({ t, label: now.label, score: now.score });
    while (samples.length && samples[0].t < t - WINDOW_MS - 2000) samples.shift();
    drawTimeline();
  },
};

by('overlay').style.opacity = by('opacity').value / 100;
connect();
