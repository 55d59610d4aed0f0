// The pinned reviews of one run: for each the shares of its labels over the steps, as bands that fill 100 %.
// `scorings`: [number of the review, step, expected rank from 1, probability of each label]. Text goes in as textContent only.
// Where label number n stands on the scale of stars, from 0 to 1; the style sheet has the colours.
const placeOf = (n, labels) => (labels > 1 ? n / (labels - 1) : 0).toFixed(3);

function pinnedReviews(container) {
  let reviews = [];
  const make = (name, className, ...inside) => {
    const made = document.createElement(name);
    made.className = className;
    made.append(...inside);
    return made;
  };
  const draw = (name, marks) => {
    const made = document.createElementNS("http://www.w3.org/2000/svg", name);
    for (const [key, value] of Object.entries(marks)) made.setAttribute(key, value);
    return made;
  };
  const percent = (share) => `${(100 * share).toFixed(0)}\u00a0%`;

  function add([, text, labels]) {
    if (!reviews.length) {
      const keys = labels.map((label, n) => {
        const swatch = make("i", "star-shade");
        swatch.style.setProperty("--at", placeOf(n, labels.length));
        return make("span", "", swatch, label);
      });
      container.append(make("h3", "", "Pinned reviews"), make("p", "legend", ...keys));
    }
    const drawing = draw("svg", { viewBox: "0 0 100 100", preserveAspectRatio: "none", role: "img", "aria-label": "Shares of the labels over the steps" });
    const quoted = make("q", "", text), said = make("strong", ""), before = make("small", ""), shares = make("p", "caption");
    quoted.title = text;
    container.append(make("figure", "live-review", make("figcaption", "", quoted, make("span", "live-verdict", said, before)), drawing, shares));
    const review = { labels, rows: [], drawing, said, before, shares };
    drawing.addEventListener("pointermove", (event) => {
      const box = drawing.getBoundingClientRect(), [first, last] = reach(review);
      const step = first + (event.clientX - box.left) / box.width * (last - first);
      tell(review, review.rows.reduce((best, row) => Math.abs(row[0] - step) < Math.abs(best[0] - step) ? row : best));
    });
    drawing.addEventListener("pointerleave", () => tell(review, review.rows.at(-1)));
    reviews.push(review);
  }

  const reach = ({ rows }) => [rows[0][0], rows.at(-1)[0]];

  // In words what the bands show at one step: the three largest shares.
  function tell(review, [step, , ...shares]) {
    const largest = shares.map((share, n) => [share, review.labels[n]]).sort(([a], [b]) => b - a).slice(0, 3);
    review.shares.textContent = `step ${step}: ${largest.map(([share, label]) => `${label} ${percent(share)}`).join(", ")}`;
    const [first, last] = reach(review), x = last > first ? (step - first) / (last - first) * 100 : 100;
    const line = review.drawing.querySelector("line");
    for (const end of ["x1", "x2"]) line?.setAttribute(end, x);
    line?.toggleAttribute("hidden", step === last);
  }

  function show(review) {
    const { rows, labels, drawing } = review, [first, last] = reach(review);
    const x = (step) => last > first ? ((step - first) / (last - first) * 100).toFixed(2) : 0;
    const drawn = last > first ? rows.map((row) => [x(row[0]), row]) : [[0, rows[0]], [100, rows[0]]];
    let floor = drawn.map(() => 0);
    const whole = drawn.map(([, [, , ...shares]]) => shares.reduce((sum, share) => sum + share));  // 1, but for their rounding
    const bands = labels.map((label, n) => {
      const roof = drawn.map(([, row], i) => floor[i] + 100 * row[2 + n] / whole[i]);
      const corner = (heights) => drawn.map(([at], i) => `${at},${(100 - heights[i]).toFixed(2)}`);
      const band = draw("polygon", { points: [...corner(floor), ...corner(roof).reverse()].join(" "), class: "star-shade", style: `--at:${placeOf(n, labels.length)}` });
      floor = roof;
      return band;
    });
    drawing.replaceChildren(...bands, draw("line", { y1: 0, y2: 100, x1: 100, x2: 100 }));
    // Labels that are numbers in order are stars; others have no expected value.
    const stars = labels.every((label) => /^\d/.test(label));
    const best = ([, , ...shares]) => shares.indexOf(Math.max(...shares));
    const verdict = (row) => stars ? `${row[1].toFixed(1)} stars` : labels[best(row)];
    review.said.textContent = verdict(rows.at(-1));
    review.before.textContent = last > first ? `${verdict(rows[0])} at step ${first}` : "";
    tell(review, rows.at(-1));
  }

  return {
    clear() { reviews = []; container.replaceChildren(); container.hidden = true; },
    goBack(step) { for (const review of reviews) review.rows = review.rows.filter(([at]) => at <= step); },
    extend({ pinned, scorings }) {
      for (const review of pinned) add(review);
      for (const [n, ...row] of scorings) reviews[n].rows.push(row);
      for (const n of new Set(scorings.map(([n]) => n))) show(reviews[n]);
      container.hidden = !reviews.length;
    },
  };
}
