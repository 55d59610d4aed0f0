// The curves of one run as stacked panels that share their steps. Knows plotly.js, and neither the server nor the page's controls.
// `rows` of points: [step, train loss, learning rate, gradient norm, reviews per second, memory, mean loss around it];
// of evaluations: [step, loss, accuracy].
const PANELS = [
  { title: "Loss (nats)", height: 230 },
  { title: "Validation accuracy", height: 140, axis: { range: [0, 1], tickformat: ".0%", nticks: 4 } },
  { title: "Learning rate", height: 76, more: true, axis: { tickformat: "~g", nticks: 4 } },
  { title: "Gradient norm", height: 76, more: true, axis: { nticks: 4 } },
  { title: "Reviews per second", height: 76, more: true, axis: { nticks: 4 } },
  { title: "Memory of the run (GiB)", height: 76, more: true, axis: { nticks: 4 } },
];
const GAP = 42, HEAD = 28, FOOT = 44;  // pixels between panels, above the first, below the last
const LEFT = 50;
const NAMES = { majority: "majority", "tfidf-logistic-regression": "word counts (TF-IDF)" };
const GIB = 2 ** 30;

function liveFigure(graph, color) {
  let run = "", points = [], evaluations = [], levels = { chance: { labels: 5, loss: Math.log(5), accuracy: 0.2 }, baselines: {} };
  let options = { log: false, smoothing: 2, more: false };
  const axisOf = (panel) => panel ? `yaxis${panel + 1}` : "yaxis";

  // Each logged loss is a mean over the steps since the one before it, and weighs by them; older ones fade over `span` steps.
  // Where the server has thinned the curve to extremes, the mean around them is what is smoothed.
  function smooth(span) {
    let sum = 0, weight = 0, last = 0;
    return points.map(([step, loss, , , , , level]) => {
      const passed = step - last, kept = Math.exp(-passed / span), value = level ?? loss;
      last = step;
      if (value != null) { sum = kept * sum + (1 - kept) * value; weight = kept * weight + 1 - kept; }
      return weight ? sum / weight : null;
    });
  }

  function traces(total) {
    const accent = color("--accent"), second = color("--second"), ink = color("--body-text-color-subdued");
    const line = (panel, name, x, y, style, form) => ({
      type: "scatter", mode: "lines", x, y, name, yaxis: panel ? `y${panel + 1}` : "y",
      hovertemplate: `%{y:${form}}`, ...style,
    });
    const column = (rows, n) => rows.map((row) => row[n]);
    const steps = column(points, 0), judged = column(evaluations, 0), span = options.smoothing / 100 * total;
    const marked = (symbol) => ({ mode: "lines+markers", line: { color: second, width: 2 }, marker: { size: judged.length > 60 ? 4 : 7, symbol } });
    const thin = { line: { color: ink, width: 1.5 } };
    return [
      line(0, "train loss", steps, column(points, 1), { line: { color: accent, width: span ? 1 : 2 }, opacity: span ? 0.4 : 1 }, ".3f"),
      line(0, "smoothed", steps, span ? smooth(span) : [], { line: { color: accent, width: 2.5 }, visible: span > 0 }, ".3f"),
      line(0, "validation loss", judged, column(evaluations, 1), marked("circle"), ".3f"),
      line(1, "validation accuracy", judged, column(evaluations, 2), marked("square"), ".1%"),
      line(2, "learning rate", steps, column(points, 2), thin, ".2e"),
      line(3, "gradient norm", steps, column(points, 3), thin, ".3g"),
      line(4, "reviews per second", steps, column(points, 4), thin, ".1f"),
      line(5, "memory (GiB)", steps, points.map((row) => row[5] / GIB), thin, ".2f"),
    ].filter((trace) => options.more || trace.yaxis === "y" || trace.yaxis === "y2");
  }

  // What guessing and counting words reach: a dotted line each, one line for those that lie together.
  function levelLines() {
    const { chance, baselines } = levels, ink = color("--body-text-color-subdued");
    const named = Object.entries(baselines).filter(([name]) => name in NAMES).map(([name, value]) => [value, NAMES[name]]);
    const together = [];
    for (const [value, name] of [[chance.accuracy, "guessing"], ...named].sort(([a], [b]) => a - b)) {
      const below = together.at(-1);
      if (below && value - below.value < 0.02) below.names.push(name);
      else together.push({ value, names: [name] });
    }
    // The curves begin at what guessing reaches, and come to what word counts reach: each is named where the curve is not.
    const mark = (yref, y, text, side) => ({
      type: "line", xref: "paper", x0: 0, x1: 1, yref, y0: y, y1: y, layer: "below", line: { color: ink, width: 1, dash: "dot" },
      label: { text, textposition: side, yanchor: "bottom", font: { size: 11, color: ink } },
    });
    return [
      mark("y", chance.loss, `guessing: ln ${chance.labels} = ${chance.loss.toFixed(3)}`, "end"),
      ...together.map(({ value, names }) =>
        mark("y2", value, `${names.join(", ")}: ${(100 * value).toFixed(0)} %`, names.includes("guessing") ? "end" : "start")),
    ];
  }

  function layout() {
    const ink = color("--body-text-color-subdued"), grid = color("--border-color-primary");
    const shown = PANELS.map((panel, n) => ({ ...panel, n })).filter((panel) => options.more || !panel.more);
    const inside = shown.reduce((sum, panel) => sum + panel.height + GAP, -GAP);
    const axis = { gridcolor: grid, zerolinecolor: grid, linecolor: grid, zeroline: false };
    const made = {
      uirevision: run, height: inside + HEAD + FOOT, margin: { l: LEFT, r: 10, t: HEAD, b: FOOT }, hovermode: "x unified", hoversubplots: "axis",
      paper_bgcolor: "transparent", plot_bgcolor: "transparent", font: { color: ink, family: "system-ui, sans-serif", size: 12 },
      hoverlabel: { bgcolor: color("--background-fill-primary"), bordercolor: grid, font: { color: color("--body-text-color") } },
      showlegend: false, modebar: { bgcolor: "transparent", color: ink, activecolor: color("--accent") },
      xaxis: { ...axis, title: { text: "step", standoff: 6 }, rangemode: "tozero", anchor: shown.at(-1).n ? `y${shown.at(-1).n + 1}` : "y",
        showspikes: true, spikemode: "across", spikethickness: 1, spikedash: "solid", spikecolor: grid },
      shapes: levelLines(), annotations: [],
    };
    let top = inside;
    for (const panel of shown) {
      const type = panel.n === 0 && options.log ? "log" : "linear";
      made[axisOf(panel.n)] = { ...axis, type, domain: [(top - panel.height) / inside, top / inside], rangemode: "tozero", ...panel.axis,
        ...(type === "log" && { dtick: "D1", tickformat: "~g" }) };
      made.annotations.push({ text: `<b>${panel.title}</b>`, xref: "paper", x: 0, xanchor: "left", yref: "paper", y: top / inside, yanchor: "bottom",
        xshift: -LEFT, yshift: 4, showarrow: false, font: { color: color("--body-text-color"), size: 12 } });
      top -= panel.height + GAP;
    }
    return made;
  }

  return {
    begin(name) { run = name; points = []; evaluations = []; },
    goBack(step) {
      points = points.filter(([at]) => at <= step);
      evaluations = evaluations.filter(([at]) => at <= step);
    },
    extend(news) {
      points.push(...news.points);
      evaluations.push(...news.evaluations);
      levels = { chance: news.chance, baselines: news.baselines };
    },
    choose(chosen) { options = chosen; },
    // All of it each time; an axis that was zoomed, by hand or by script, stays as it is as long as it is of the same run and kind.
    draw(total) {
      const made = layout(), before = graph.layout;
      for (const name of before?.uirevision === run ? Object.keys(made).filter((name) => /^[xy]axis/.test(name)) : []) {
        const old = before[name];
        const same = (old?.type ?? "linear") === (made[name].type ?? "linear");
        // Both: a range without the word would not be known as a zoom when it is drawn next.
        if (same && old?.autorange === false) Object.assign(made[name], { range: old.range, autorange: false });
      }
      return Plotly.react(graph, traces(total || points.at(-1)?.[0] || 1), made,
        { responsive: true, displaylogo: false, modeBarButtons: [["toImage", "zoomIn2d", "zoomOut2d", "resetScale2d"]] });
    },
  };
}
