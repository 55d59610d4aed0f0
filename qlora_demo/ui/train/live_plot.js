// Asks the server for what is new of a run and shows it; the value of the component is the run's id.
// Text goes in as textContent only: a run's words are data, never markup.
const $ = (selector) => element.querySelector(selector);
const badge = $("#train-status"), phase = $(".live-phase"), notices = $(".notices"), reading = $(".live-reading");
const meter = $(".meter"), bar = $(".meter > div");
const color = (name) => getComputedStyle(element).getPropertyValue(name).trim();
const figure = liveFigure($("#train-figure .graph"), color), pinned = pinnedReviews($("#train-pinned-figure"));
let run = "", key = "", after = 0, born = "", total = 0, timer = null, epoch = 0, active = false;

const fact = (name, text) => { $(`[data-fact="${name}"]`).textContent = text; };
const known = (value, form) => value == null ? "–" : form(value);
const percent = (share, digits = 0) => `${(100 * share).toFixed(digits)} %`;
const size = (bytes) => bytes >= 2 ** 30 ? `${(bytes / 2 ** 30).toFixed(2)} GiB` : `${(bytes / 2 ** 20).toFixed(0)} MiB`;
// Only what is new: the same words again would be read aloud again.
const say = (where, text) => { if (where.textContent !== text) where.textContent = text; };

// --- how one wants to see it, kept in this browser --------------------------------------------------------------------

const KEPT = "qlora-demo-live";
const controls = Object.fromEntries(["log", "smoothing", "more", "sound"].map((name) => [name, $(`[data-choice="${name}"]`)]));
const chosen = () => ({ log: controls.log.checked, smoothing: Number(controls.smoothing.value), more: controls.more.checked, sound: controls.sound.checked });

function choose() {
  const choices = chosen();
  figure.choose(choices);
  controls.smoothing.setAttribute("aria-valuetext", choices.smoothing ? `${choices.smoothing} % of the run` : "off");
  try { localStorage.setItem(KEPT, JSON.stringify(choices)); } catch { /* A browser that keeps nothing still shows it. */ }
}

function recall() {
  try {
    const kept = JSON.parse(localStorage.getItem(KEPT)) ?? {};
    for (const name of ["log", "more", "sound"]) controls[name].checked = kept[name] === true;
    if (Number.isFinite(kept.smoothing)) controls.smoothing.value = kept.smoothing;
  } catch { /* Nothing was kept, or it cannot be read. */ }
}

for (const name of ["log", "smoothing", "more"]) controls[name].addEventListener("input", () => { choose(); figure.draw(total); });
// Heard when it is switched on: one knows the sound, and the browser has been asked for it by a click.
controls.sound.addEventListener("input", () => { choose(); if (controls.sound.checked) beep(660); });

function beep(hertz) {
  const audio = new AudioContext(), tone = audio.createOscillator(), volume = audio.createGain();
  tone.frequency.value = hertz;
  volume.gain.value = 0.1;
  tone.connect(volume).connect(audio.destination);
  tone.onended = () => audio.close();
  tone.start();
  tone.stop(audio.currentTime + 0.35);
}

// --- the page's title: who works in another tab sees how far it is -----------------------------------------------------

const entitle = (mark) => { document.title = (mark ? `${mark} · ` : "") + document.title.replace(/^(\d+ %|✓ done|✗ \w+) · /, ""); };
const seen = () => { if (!active) entitle(""); };
window.addEventListener("focus", seen);
document.addEventListener("visibilitychange", () => { if (!document.hidden) seen(); });

// --- what a run tells ------------------------------------------------------------------------------------------------

function place(news) {
  const where = news.position === 1 ? "next in queue" : `number ${news.position} in the queue`;
  return news.wait ? `${where}, about ${news.wait}` : where;
}

function tell(news) {
  badge.textContent = news.state;
  badge.dataset.state = news.state;
  if (news.final) say(phase, news.problem || `run ${news.run}`);
  else if (news.position) say(phase, place(news));
  else if (news.phase) say(phase, news.phase.detail ? `${news.phase.name}: ${news.phase.detail}` : news.phase.name);
  say(reading, news.reading);
  const share = news.state === "done" ? 1 : news.steps_total ? news.steps_done / news.steps_total : news.phase?.progress ?? 0;
  bar.style.width = percent(share, 1).replace(" ", "");
  meter.setAttribute("aria-valuenow", (100 * share).toFixed(0));
  if (news.steps_total) fact("step", `${news.steps_done} of ${news.steps_total}`);
  fact("left", news.left ?? "–");
  fact("loss", known(news.loss, (loss) => loss.toFixed(3)));
  fact("accuracy", known(news.accuracy, (right) => percent(right, 1)));
  fact("rate", known(news.rate, (rate) => rate.toFixed(0)));
  fact("memory", known(news.memory, size));
  for (const name of ["use", "memory", "heat", "power"]) $(`[data-fact="gpu-${name}"]`).parentElement.hidden = !news.gpu;
  if (news.gpu) {
    fact("gpu-use", known(news.gpu.utilization, percent));
    fact("gpu-memory", known(news.gpu.memory_bytes, size));
    fact("gpu-heat", known(news.gpu.celsius, (degrees) => `${degrees.toFixed(0)} °C`));
    fact("gpu-power", known(news.gpu.watts, (watts) => `${watts.toFixed(0)} W`));
  }
  for (const [text] of news.notices) {
    const item = document.createElement("li");
    item.textContent = text;
    notices.append(item);
  }
  if (!news.final) { active = true; entitle(percent(share)); }
  else if (active) {
    active = false;
    entitle(news.state === "done" ? "✓ done" : `✗ ${news.state}`);
    if (controls.sound.checked) beep(news.state === "done" ? 880 : 330);
  }
}

async function show(news) {
  if (news.fresh) { figure.begin(run); pinned.clear(); notices.replaceChildren(); }
  if (news.back_to != null) { figure.goBack(news.back_to); pinned.goBack(news.back_to); }
  const levels = JSON.stringify([news.chance, news.baselines]);
  const moved = news.fresh || news.back_to != null || news.points.length || news.evaluations.length || levels !== show.levels;
  show.levels = levels;
  ({ after, born } = news);
  total = news.steps_total ?? 0;
  figure.extend(news);
  pinned.extend(news);
  if (moved) await figure.draw(total);
}

// The keys of this browser's runs come a moment after the page: with its key a run tells more.
const keyOf = (id) => window.qloraKeys?.[id] ?? "";
window.addEventListener("qlora-keys", () => {
  if (!run || !element.isConnected || keyOf(run) === key) return;
  clearTimeout(timer);
  epoch += 1;
  poll(epoch);
});

async function poll(mine) {
  // A newer run has taken the figure, or the page has left it.
  if (mine !== epoch || !element.isConnected) return;
  let wait = 3000;
  try {
    key = keyOf(run);
    const news = await server.since({ run, after, born, key });
    if (mine !== epoch) return;
    if (news.error) { badge.textContent = "gone"; badge.dataset.state = "failed"; say(phase, news.error); active = false; seen(); return; }
    await show(news);
    if (mine !== epoch) return;
    const watched = active;
    tell(news);
    // In a hidden tab only the title and the sound are waited for.
    wait = news.more || !document.hidden ? 1000 * news.again : 5000;
    // One that had ended when it was chosen is shown whole already: to say so now could come after the choice of another.
    if (news.final && !news.more) { if (watched) trigger("settled"); return; }
  } catch (error) {
    say(phase, "The app does not answer; trying again.");
  }
  timer = setTimeout(() => poll(mine), wait);
}

function attach() {
  clearTimeout(timer);
  run = props.value || "";
  after = total = 0;
  born = "";
  epoch += 1;
  active = false;
  seen();
  say(reading, "");
  notices.replaceChildren();
  for (const name of ["step", "left", "loss", "accuracy", "rate", "memory"]) fact(name, "–");
  figure.begin(run);
  pinned.clear();
  if (run) {
    poll(epoch);
    return;
  }
  badge.textContent = "no run yet";
  badge.dataset.state = "";
  say(phase, "Press Start training: the curves are drawn here as it learns.");
  figure.draw(0);
}

// Light and dark: the graph takes its ink from the page's own colours. A tab that is shown again may have another width.
new MutationObserver(() => figure.draw(total)).observe(document.body, { attributes: true, attributeFilter: ["class"] });
recall();
choose();
watch("value", attach);
attach();
