// Keeps one plotly.js graph alive and asks the server for what is new. The value of the component is a run's id.
// Text goes in as textContent only: a run's words are data, never markup.
const $ = (selector) => element.querySelector(selector);
const graph = $("#train-figure .graph"), badge = $("#train-status"), phase = $(".live-phase"), notices = $(".notices");
const meter = $(".meter"), bar = $(".meter > div");
let run = "", after = 0, timer = null, epoch = 0, lastEvaluated = -1;

const fact = (name, text) => { $(`[data-fact="${name}"]`).textContent = text; };
const size = (bytes) => bytes >= 2 ** 30 ? `${(bytes / 2 ** 30).toFixed(2)} GiB` : `${(bytes / 2 ** 20).toFixed(0)} MiB`;
const color = (name) => getComputedStyle(element).getPropertyValue(name).trim();

function theme() {
  const ink = color("--body-text-color-subdued"), grid = color("--border-color-primary");
  const axis = { gridcolor: grid, zerolinecolor: grid, linecolor: grid };
  return { ink, axis };
}

function layout(chance) {
  const { ink, axis } = theme();
  const level = (y, ref, text) => [
    { type: "line", xref: "paper", x0: 0, x1: 1, yref: ref, y0: y, y1: y, line: { color: ink, width: 1, dash: "dot" } },
    { xref: "paper", x: 1, xanchor: "right", yref: ref, y, yanchor: "bottom", showarrow: false, text, font: { size: 11 } },
  ];
  const guesses = [
    level(chance.loss, "y", `guessing: ln ${chance.labels} = ${chance.loss.toFixed(3)}`),
    level(chance.accuracy, "y2", `guessing: ${(100 * chance.accuracy).toFixed(0)} %`),
  ];
  return {
    uirevision: run, height: 460, margin: { l: 70, r: 12, t: 8, b: 40 }, hovermode: "x unified",
    paper_bgcolor: "transparent", plot_bgcolor: "transparent", font: { color: ink, family: "system-ui, sans-serif", size: 12 },
    hoverlabel: { bgcolor: color("--background-fill-primary"), font: { color: color("--body-text-color") } },
    legend: { orientation: "h", x: 0, y: 1.02, yanchor: "bottom" },
    xaxis: { ...axis, title: { text: "step" }, rangemode: "tozero", anchor: "y3" },
    yaxis: { ...axis, title: { text: "loss (nats)", standoff: 8 }, domain: [0.5, 1], rangemode: "tozero" },
    yaxis2: { ...axis, title: { text: "accuracy", standoff: 8 }, domain: [0.22, 0.44], range: [0, 1], tickformat: ".0%", nticks: 3 },
    yaxis3: { ...axis, title: { text: "rate", standoff: 8 }, domain: [0, 0.16], rangemode: "tozero", tickformat: ".0e", nticks: 3 },
    shapes: guesses.map(([line]) => line), annotations: guesses.map(([, text]) => text),
  };
}

function draw(chance) {
  lastEvaluated = -1;
  const trace = (name, style) => ({ x: [], y: [], name, type: "scatter", ...style });
  const accent = color("--accent"), second = color("--second");
  return Plotly.react(graph, [
    trace("train loss", { mode: "lines", line: { color: accent, width: 2 } }),
    trace("validation loss", { mode: "lines+markers", line: { color: second, width: 2, dash: "dash" }, marker: { size: 8 } }),
    trace("validation accuracy", { mode: "lines+markers", yaxis: "y2", line: { color: second, width: 2 }, marker: { size: 7, symbol: "square" } }),
    trace("learning rate", { mode: "lines", yaxis: "y3", line: { color: color("--body-text-color-subdued"), width: 1.5 } }),
  ], layout(chance), { responsive: true, displaylogo: false, modeBarButtonsToRemove: ["select2d", "lasso2d"] });
}

function extend(news) {
  // The last evaluation is of the checkpoint that is kept; its step may have been evaluated before.
  const judged = news.evaluations.filter(([step]) => step > lastEvaluated && (lastEvaluated = step, true));
  const columns = [
    news.points.map(([step, loss]) => [step, loss]), judged.map(([step, loss]) => [step, loss]),
    judged.map(([step, , right]) => [step, right]), news.points.map(([step, , rate]) => [step, rate]),
  ];
  const used = columns.map((rows, i) => [rows, i]).filter(([rows]) => rows.length);
  if (!used.length) return;
  Plotly.extendTraces(graph, { x: used.map(([rows]) => rows.map((row) => row[0])), y: used.map(([rows]) => rows.map((row) => row[1])) },
    used.map(([, i]) => i));
}

// A resumed run goes on from its checkpoint: what was drawn of later steps comes again.
function goBack(step) {
  const kept = graph.data.map(({ x, y }) => x.map((at, i) => [at, y[i]]).filter(([at]) => at <= step));
  lastEvaluated = Math.min(lastEvaluated, step);
  return Plotly.restyle(graph, { x: kept.map((rows) => rows.map(([at]) => at)), y: kept.map((rows) => rows.map(([, value]) => value)) });
}

function tell(news) {
  badge.textContent = news.state;
  badge.dataset.state = news.state;
  if (news.position) phase.textContent = news.position === 1 ? "next in the waiting line" : `number ${news.position} in the waiting line`;
  else if (news.phase) phase.textContent = news.phase.detail ? `${news.phase.name}: ${news.phase.detail}` : news.phase.name;
  if (news.final) phase.textContent = news.problem || `run ${news.run}`;
  const share = news.state === "done" ? 1 : news.steps_total ? news.steps_done / news.steps_total : news.phase?.progress ?? 0;
  bar.style.width = `${(100 * share).toFixed(1)}%`;
  meter.setAttribute("aria-valuenow", (100 * share).toFixed(0));
  if (news.steps_total) fact("step", `${news.steps_done} of ${news.steps_total}`);
  if (news.final) fact("left", "–");
  else if (news.phase) fact("left", news.left ?? "–");
  if (news.points.length) fact("loss", news.points.at(-1)[1].toFixed(3));
  if (news.evaluations.length) fact("accuracy", `${(100 * news.evaluations.at(-1)[2]).toFixed(1)} %`);
  if (news.rate != null) fact("rate", news.rate.toFixed(0));
  if (news.memory) fact("memory", size(news.memory));
  for (const text of news.notices) {
    const item = document.createElement("li");
    item.textContent = text;
    notices.append(item);
  }
}

async function poll(mine) {
  // A newer run has taken the figure, or the page has left it.
  if (mine !== epoch || !element.isConnected) return;
  let wait = 1000;
  if (!document.hidden) {
    try {
      const news = await server.since({ run, after });
      if (mine !== epoch) return;
      if (news.error) { badge.textContent = "gone"; badge.dataset.state = "failed"; phase.textContent = news.error; return; }
      if (news.chance) await draw(news.chance);
      if (news.back_to != null) await goBack(news.back_to);
      after = news.after;
      tell(news);
      extend(news);
      if (news.more) wait = 0;
      else if (news.final) { trigger("settled"); return; }
    } catch (error) {
      phase.textContent = "The app does not answer; trying again.";
      wait = 3000;
    }
  }
  timer = setTimeout(() => poll(mine), wait);
}

function attach() {
  clearTimeout(timer);
  run = props.value || "";
  after = 0;
  epoch += 1;
  notices.replaceChildren();
  for (const name of ["step", "left", "loss", "accuracy", "rate", "memory"]) fact(name, "–");
  if (run) poll(epoch);
  else draw({ labels: 5, loss: Math.log(5), accuracy: 0.2 });
}

// Light and dark: the graph takes its ink from the page's own colours.
new MutationObserver(() => {
  if (!graph.layout) return;
  const { ink, axis } = theme();
  Plotly.relayout(graph, { "font.color": ink, ...Object.fromEntries(["xaxis", "yaxis", "yaxis2", "yaxis3"].flatMap((name) =>
    Object.entries(axis).map(([key, value]) => [`${name}.${key}`, value]))) });
}).observe(document.body, { attributes: true, attributeFilter: ["class"] });
watch("value", attach);
attach();
