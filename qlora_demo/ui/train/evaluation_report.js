// Draws a run's confusion matrix and lists reviews. The value of the component is a run's id.
// Labels and reviews go in as textContent only: they are data, never markup. The one piece of HTML, the curve, is numbers.
const $ = (selector) => element.querySelector(selector);
const panel = $(".judged"), choice = $(".judged-split"), matrix = $("#train-confusion"), cell = $("#train-cell");
const mistakes = $("#train-mistakes"), belief = $("#train-reliability");
let run = "", key = "", found = null, epoch = 0;

const share = (value) => `${(100 * value).toFixed(0)} %`;
const sum = (counts) => counts.reduce((all, count) => all + count, 0);

function make(tag, text = "", attributes = {}) {
  const made = document.createElement(tag);
  made.textContent = text;
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  return made;
}

// Right answers have one hue, wrong ones another, deeper the more stars they are off; which of the two, and how deep.
function shade(label, guess) {
  const most = found.labels.length - 1, off = Math.abs(label - guess);
  if (!off) return ["right", 30];
  return ["wrong", found.ordinal && most > 1 ? 12 + (33 * (off - 1)) / (most - 1) : 25];
}

function shaded(made, label, guess) {
  const [kind, depth] = shade(label, guess);
  made.classList.add(`judged-${kind}`);
  made.style.setProperty("--depth", `${depth.toFixed(0)}%`);
  return made;
}

function drawMatrix(counts) {
  const labels = found.labels, table = make("table", "", { class: "judged-matrix" }), head = make("tr");
  table.append(make("caption", "A row: the reviews of one label. Its columns: what they were called."));
  head.append(make("td"), ...labels.map((label) => make("th", label, { scope: "col" })));
  table.append(head);
  counts.forEach((row, label) => {
    const line = make("tr"), all = sum(row);
    line.append(make("th", labels[label], { scope: "row" }));
    row.forEach((count, guess) => {
      const reviews = all === 1 ? "review" : "reviews", verb = count === 1 ? "was" : "were";
      const button = make("button", count, {
        type: "button", class: "judged-cell", "aria-pressed": "false",
        "aria-label": `${count} of ${all} ${reviews} of ${labels[label]} ${verb} called ${labels[guess]}`,
      });
      button.append(make("i", "", { style: `width:${(100 * count / Math.max(all, 1)).toFixed(1)}%` }));
      button.title = button.getAttribute("aria-label");
      if (count) shaded(button, label, guess);
      button.disabled = !found.listed;
      button.onclick = () => {
        for (const other of table.querySelectorAll("button")) other.setAttribute("aria-pressed", String(other === button));
        list(cell, { label, guess }, button.title);
      };
      const place = make("td");
      place.append(button);
      line.append(place);
    });
    table.append(line);
  });
  const scroll = make("div", "", { class: "scroll" });
  scroll.append(table);
  matrix.replaceChildren(scroll, legend());
}

function legend() {
  const made = make("p", "", { class: "legend" }), most = found.labels.length - 1;
  const entry = (guess, text) => {
    const words = make("span");
    words.append(shaded(make("i"), 0, guess), text);
    made.append(words);
  };
  entry(0, "right");
  if (!found.ordinal) entry(1, "wrong");
  else for (let off = 1; off <= most; off += most > 5 ? most - 1 : 1) entry(off, off === 1 ? "1 star off" : `${off} stars off`);
  made.append(make("span", found.listed ? "A click on a cell lists its reviews." : "This run kept no reviews to list."));
  return made;
}

// Fills `place` with reviews, a page at a time.
async function list(place, query, title) {
  const mine = epoch, items = make("ol", "", { class: "judged-reviews", tabindex: "0", "aria-label": title });
  const status = make("p", title, { class: "judged-title", role: "status" });
  const more = make("button", "", { type: "button", class: "judged-more", hidden: "" });
  place.replaceChildren(status, items, more);
  const page = async () => {
    more.disabled = true;
    try {
      const news = await server.reviews({ run, key, split: choice.value, after: items.children.length, ...query });
      if (mine !== epoch || !status.isConnected) return;
      if (news.error) { status.textContent = news.error; return; }
      items.append(...news.reviews.map(review));
      const left = news.total - items.children.length;
      items.hidden = !items.children.length;
      if (!news.total && !("label" in query)) status.textContent = "There are none: every review was called what it is.";
      more.hidden = left <= 0 || !news.reviews.length;
      more.textContent = `Show more (${left} left)`;
    } catch (error) {
      status.textContent = "The app does not answer; choose again.";
    }
    more.disabled = false;
  };
  more.onclick = page;
  await page();
}

function review({ text, label, guess, probabilities }) {
  const made = make("li"), bars = make("span", "", { class: "judged-bars", "aria-hidden": "true" });
  bars.append(...probabilities.map((chance, i) => {
    const bar = make("i", "", { class: i === label ? "judged-true" : "" });
    bar.style.height = `${(100 * chance).toFixed(0)}%`;
    return bar;
  }));
  const order = probabilities.map((chance, i) => i).sort((a, b) => (b === guess) - (a === guess) || probabilities[b] - probabilities[a]);
  const words = order.slice(0, 2).map((i) => `${found.labels[i]} ${share(probabilities[i])}`).join(", ");
  const facts = make("div", "", { class: "judged-facts" });
  facts.append(bars, make("span", `${label === guess ? "Rightly" : `${found.labels[label]}, but`} called ${words}`));
  // A review decides the direction of its own lines and of nothing else.
  made.append(make("p", text, { class: "judged-text", dir: "auto" }), facts);
  return made;
}

function show() {
  epoch += 1;
  const counts = found.splits[choice.value];
  if (counts.length) drawMatrix(counts);
  else matrix.replaceChildren(make("p", `${found.labels.length} labels are too many for a matrix that could be read.`, { class: "quiet" }));
  cell.replaceChildren();
  if (found.listed) list(mistakes, {}, found.ordinal ? "Off by the most stars, the surest first" : "The surest first");
  else mistakes.replaceChildren(make("p", "This run kept no reviews to list.", { class: "quiet" }));
}

// With its key a run of an uploaded file lists its reviews; the keys come a moment after the page.
const keyOf = (id) => window.qloraKeys?.[id] ?? "";
window.addEventListener("qlora-keys", () => { if (run && element.isConnected && keyOf(run) !== key) attach(); });

async function attach() {
  run = props.value || "";
  key = keyOf(run);
  const mine = ++epoch;
  panel.hidden = true;
  if (!run) return;
  try {
    const news = await server.overview({ run, key });
    if (mine !== epoch || news.error || !Object.keys(news.splits).length) return;
    found = news;
  } catch (error) {
    return;
  }
  choice.replaceChildren(...Object.entries(found.splits).map(([split]) => make("option", `${split} reviews`, { value: split })));
  belief.innerHTML = found.reliability;
  panel.hidden = false;
  show();
}

choice.onchange = show;
watch("value", attach);
attach();
