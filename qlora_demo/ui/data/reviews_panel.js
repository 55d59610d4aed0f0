// A press on a review of the list chooses it. The value of the component is the list as HTML, made by review_views.py.
element.addEventListener("click", (event) => {
  const button = event.target.closest("button[data-row]");
  if (!button) return;
  for (const other of element.querySelectorAll("button[data-row]")) other.setAttribute("aria-pressed", String(other === button));
  // On a phone it is drawn below the list, out of sight.
  if (innerWidth <= 720) document.getElementById("data-seen")?.scrollIntoView({ block: "center" });
  trigger("select", { split: button.dataset.split, row: Number(button.dataset.row) });
});
