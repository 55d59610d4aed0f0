// Repeats each problem of the list beside the field that it is about, until that field is changed.
// A field in a part that is just being unfolded is there a moment later, so it is looked for a few times.
const clear = (field) => {
  field.querySelectorAll(".field-problem").forEach((old) => old.remove());
  field.querySelectorAll("[aria-invalid]").forEach((input) => input.removeAttribute("aria-invalid"));
};

function place(items, tries) {
  const missing = items.filter((item) => {
    const field = document.getElementById(`train-${item.dataset.field.replaceAll("_", "-")}`);
    if (!field) return true;
    const told = document.createElement("p");
    told.className = "problem field-problem";
    told.textContent = item.textContent;
    field.append(told);
    field.querySelector("input, textarea")?.setAttribute("aria-invalid", "true");
    field.addEventListener("input", () => clear(field), { once: true });
    return false;
  });
  if (missing.length && tries) setTimeout(() => place(missing, tries - 1), 100);
}

function tell() {
  document.querySelectorAll(".field-problem").forEach((told) => clear(told.parentElement));
  place([...element.querySelectorAll("li[data-field]")], 20);
}

watch("value", () => setTimeout(tell));
