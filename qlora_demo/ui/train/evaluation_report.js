// Shows a run's confusion matrix and curve, which the server draws, and lists reviews. The value of the component is a run's id.
// Reviews go in as textContent only: they are data, never markup.
const $ = (selector) => element.querySelector(selector);
const panel = $(".judged"), choice = $(".judged-split"), matrix = $("#train-confusion"), cell = $("#train-cell");
const mistakes = $("#train-mistakes"), belief = $("#train-reliability");
let run = "", key = "", found = null, epoch = 0;

const share = (value) => `${(100 * value).toFixed(0)} %`;

function make(tag, text = "", attributes = {}) {
  const made = document.createElement(tag);
  made.textContent = text;
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  return made;
}

// A click on a cell of the matrix lists its reviews.
matrix.addEventListener("click", (event) => {
  const chosen = event.target.closest("button[data-label]");
  if (!chosen || chosen.disabled) return;
  for (const other of matrix.querySelectorAll("button")) other.setAttribute("aria-pressed", String(other === chosen));
  list(cell, { label: Number(chosen.dataset.label), guess: Number(chosen.dataset.guess) }, chosen.title);
});

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
      if (!news.total && !("label" in query)) status.textContent = "There are none: every prediction is correct.";
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
  const words = order.slice(0, 2).map((i) => `${found.labels[i]} (${share(probabilities[i])})`).join(", ");
  const facts = make("div", "", { class: "judged-facts" });
  facts.append(bars, make("span", `${label === guess ? "Correct: " : `Actual ${found.labels[label]}, predicted `}${words}`));
  // A review decides the direction of its own lines and of nothing else.
  made.append(make("p", text, { class: "judged-text", dir: "auto" }), facts);
  return made;
}

function show() {
  epoch += 1;
  matrix.innerHTML = found.splits[choice.value];
  cell.replaceChildren();
  if (found.listed) list(mistakes, {}, found.ordinal ? "Off by the most stars, the most confident first" : "The most confident first");
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
